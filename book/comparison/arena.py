# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The arena: every attack against every defense
#
# All attackers of this book meet all of its defenses, on the same victims,
# with the same budget, judged by the same scores and billed by the same
# ledger.
# The survey had to leave this open: no code, and every paper with a measure
# of its own.
# This chapter takes each technique from its own chapter, lets all of them
# meet, and sums every defense up by the best attacker against it.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - run a grid of independent cells, on two processes here or on a cluster;
# - read the matrix of attacks and defenses, for images and for tables;
# - see what each defense costs its owner: accuracy, distance, false alarms,
#   time;
# - rank the defenses by the best attacker against them, with the ranks that
#   the seeds can tell apart and those that they cannot;
# - take the whole table with you.
#
# <!-- minutes -->
# The techniques are those of the attack and defense chapters; the symbols are
# in [the notation](../notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError:  # on Colab: leave its torch and numpy alone
    get_ipython().run_line_magic(
        "pip",
        "install -q --no-deps "
        "git+https://github.com/model-extraction-hands-on/book",
    )

# %%
import base64
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from mexutils import (
    Accounts,
    BudgetExceeded,
    Claims,
    ClientBlocked,
    PredictionAPI,
    datasets,
    load_chapter,
    metrics,
    plotting,
    training,
    victims,
)
from mexutils.clients import LabelAndConfidence
from mexutils.notebook import HTML, Markdown
from mexutils.runs import interval, paired_difference, proportion_interval
from mexutils.sweep import Cell, sweep

plotting.use_style()
claims = Claims()

# %% [markdown]
# Every technique comes from its own chapter.

# %%
STEALML = load_chapter("attacks/stealml")
BYLABEL = load_chapter("attacks/stealml_labels")
PATHS = load_chapter("attacks/stealml_trees")
KNOCKOFF = load_chapter("attacks/knockoff_nets")
PRADA = load_chapter("attacks/prada_attack")
CLASSIFIER = load_chapter("attacks/steal_classifier")
SIGMOID = load_chapter("defenses/deceptive_perturbations")
POISON = load_chapter("defenses/prediction_poisoning")
BDPL = load_chapter("defenses/bdpl")
DETECT = load_chapter("defenses/prada_detection")
WARN = load_chapter("defenses/extraction_warning")
SIBLINGS = load_chapter("defenses/forgotten_siblings")

# %% [markdown]
# The knobs of this chapter.
# `papermill -f larger.yml` replaces any of them: more seeds, budgets up to
# 60,000, a second victim, another machine's scheduler.

# %% tags=["parameters"]
seed = 0
n_seeds = 3
image_victims = ["mnist"]  # "fashion_mnist" needs its one download
image_budgets = [1000]
table_budget = 600  # softmax regressions
tree_budget = 10_000  # path finding needs thousands
tables = ["digits", "breast_cancer", "red_wine"]
scheduler = None  # "tcp://host:8786": a Dask cluster instead of two processes
workers = 2
price_per_1000 = 1.50

# %% [markdown]
# ## The question
#
# | | |
# |---|---|
# | **owner sees** | queries, the victim's own answers, and client names that mean nothing |
# | **owner wants** | a copy that is as poor as can be, while benign clients notice little |
# | **attacker has** | a pool of rows without labels; PRADA's attack also ten natural pictures of each class |
# | **attacker knows** | which defense there is and how it is set, not the owner's secret seeds |
# | **attacker pays** | for every row, from whatever account, up to one budget for all |
#
# Which defense leaves the best of these attackers least, and at what price to
# its owner?
#
# ## The rules
#
# All defenses protect the same victims.
# An *owner* is a victim with what its owner has to judge a defense by; the
# attacker gets none of it but the kind of rows that travel.


# %%
class Owner(NamedTuple):
    """A victim, and the rows that it is judged by.

    predict: rows (n, ...) to probabilities (n, c). model: what the owner has
    trained. mine: training rows. exam, truth: test rows and their classes.
    benign: rows that benign clients draw from. known: what an attacker has.
    """

    predict: Callable
    model: object
    mine: np.ndarray
    exam: np.ndarray
    truth: np.ndarray
    benign: np.ndarray
    known: "Known"


class Known(NamedTuple):
    """What an attacker has before it asks anything.

    pool: rows of the kind that travels, without labels. natural: ten
    pictures of each of the victim's classes; no row for tables. learner:
    rows and labels to a model of the victim's kind.
    """

    pool: np.ndarray
    natural: np.ndarray
    learner: Callable | None = None


# %%
def image_owner(seed, name="mnist", letters=4000):
    """The LeNet victim on MNIST or Fashion-MNIST; 1,000 pictures judge it.

    The attacker's pool are so many rendered letters.
    """
    make, data = {
        "mnist": (victims.mnist_lenet, datasets.mnist),
        "fashion_mnist": (victims.fashion_lenet, fashion_split),
    }[name]
    victim, data = make(), data()
    order = np.random.default_rng(seed).permutation(len(data.test.y))
    exam, benign = order[:1000], order[1000:]
    return Owner(
        victim.predict_proba,
        victim.model,
        data.train.x,
        data.test.x[exam],
        data.test.y[exam],
        data.test.x[benign],
        Known(
            datasets.letters(letters, seed).x,
            PRADA.balanced(data.train, seed),
        ),
    )


def fashion_split():
    """Fashion-MNIST as training and test part."""
    parts = datasets.fashion_mnist(train=True), datasets.fashion_mnist()
    return datasets.Split(*parts)


# %%
def table_owner(seed, name, kind):
    """A softmax regression or a tree on a table, split by the seed.

    kind: "softmax" or "tree". A third of the held-out rows is the attacker's
    pool; the others judge, and are what benign clients ask. Wines count as
    good or not.
    """
    mine, rest, _ = datasets.tabular(name, seed, test_size=0.5)
    good = (lambda y: y > 5) if name == "red_wine" else (lambda y: y)
    train, learner = {
        "softmax": (LogisticRegression(max_iter=1000).fit,)
        + (BYLABEL.linear_learner,),
        "tree": (tree_learner, tree_learner),
    }[kind]
    model = train(mine.x, good(mine.y).astype(int))
    answers = WARN.Source(model, mine.x) if kind == "tree" else model
    others = np.arange(len(rest.x)) % 3 > 0
    return Owner(
        answers.predict_proba,
        model,
        mine.x,
        rest.x[others],
        good(rest.y[others]).astype(int),
        rest.x[others],
        Known(rest.x[~others], rest.x[:0], learner),
    )


def tree_learner(x, labels):
    """A decision tree with four rows or more in a leaf."""
    return DecisionTreeClassifier(min_samples_leaf=4, random_state=0).fit(
        x, labels
    )


# %% [markdown]
# ### The defenses
#
# Each is a function of the owner and a seed, its secret, to settings of the
# API.
#
# A stronger perturbation protects better and costs more, so that two of them
# can only be compared **at equal utility**.
# The owner decides how far its answers may lie from the true ones on average,
# in L1, and each perturbation is made as strong as that allows, by bisection
# on rows of the owner's own.


# %%
def undefended(owner, seed):
    """Full probabilities for everyone."""
    return {}


def labels_only(owner, seed):
    """The label and nothing else."""
    return {"returns": "label"}


def rounding(owner, seed):
    """Probabilities of one decimal."""
    return {"decimals": 1}


# %%
DISTANCE = {"pictures": 0.8, "tables": 0.2}
"""Mean L1 that an owner lets its answers move, 0 to 2."""


def allowed(owner):
    """The distance that this owner lets its answers move."""
    return DISTANCE["pictures" if owner.exam.ndim == 4 else "tables"]


def at_distance(owner, make, strongest, rows=150, rounds=9):
    """The perturbation that moves the owner's answers as far as allowed.

    make: a strength from 0 to `strongest` to a defense; more strength means
    more distance. Where even the strongest stays nearer, it is taken.
    """
    rng = np.random.default_rng(0)
    x = owner.mine[rng.permutation(len(owner.mine))[:rows]]
    own, low, high = owner.predict(x), 0.0, strongest
    for _ in range(rounds):
        strength = (low + high) / 2
        far = np.abs(make(strength)(x, own) - own).sum(axis=1).mean()
        near = far < allowed(owner)
        low, high = (strength, high) if near else (low, strength)
    return {"defenses": [make(high)]}


# %%
def gaussian_noise(owner, seed):
    """Noise on the probabilities, the same whenever a row is repeated."""
    make = partial(SIGMOID.GaussianNoise, seed=seed)
    return at_distance(owner, make, strongest=1.0)


def reverse_sigmoid(owner, seed):
    """Deceptive Perturbations, with the guard that keeps the label."""
    make = partial(SIGMOID.ReverseSigmoid, gamma=0.4)
    return at_distance(owner, make, strongest=1.0)


# %%
def surrogate_for(owner, seed):
    """An untrained network of the owner's, for the poisoned gradients."""
    if owner.exam.ndim == 4:
        return POISON.random_surrogate(seed)
    d, c = owner.exam.shape[1], owner.predict(owner.exam[:1]).shape[1]
    return POISON.random_surrogate(seed, partial(dense_net, d, c))


def mad(owner, seed):
    """Prediction Poisoning, which moves every answer equally far."""
    secret = surrogate_for(owner, seed)
    return {"defenses": [POISON.MAD(secret, allowed(owner))]}


def mad_argmax(owner, seed):
    """Prediction Poisoning that changes no label."""
    make = partial(POISON.MAD, surrogate_for(owner, seed), keep_label=True)
    return at_distance(owner, make, strongest=2.0)


# %%
def boundary_layer(owner, seed):
    """BDPL with a keyed grid; gradient probes for pictures."""
    directions, delta = BDPL.axes, 0.05
    if owner.exam.ndim == 4:
        gradient = partial(BDPL.margin_gradient, owner.model)
        directions, delta = partial(BDPL.along_gradient, gradient), 0.3
    layer = BDPL.BDPL(
        owner.predict, delta, 0.5, key=seed, directions=directions
    )
    return {"defenses": [layer]}


def calibrated(owner, seed, streams=20):
    """PRADA's delta: the smallest W of benign streams, less a step of 0.02."""
    rng, lowest = np.random.default_rng(seed), 1.0
    for _ in range(streams):
        rows = benign_rows(owner.mine, 300, rng)
        labels = metrics.labels_of(owner.predict(rows))
        tests = DETECT.Stream().add(rows, labels)
        lowest = min([lowest, *(w for _, w in tests)])
    return lowest - 0.02


def prada(owner, seed):
    """PRADA's detector, its threshold chosen on the owner's own rows."""
    return {"monitors": [DETECT.Prada(calibrated(owner, seed))]}


# %%
def extraction_warning(owner, seed):
    """Extraction Warning, strategy A; for trees."""
    source = WARN.Source(owner.model, owner.mine)
    return {"monitors": [WARN.InformationMonitor(source, 0.9)]}


def forgotten_siblings(owner, seed):
    """Closeness to the boundary, threshold 0.3; for trees."""
    victim = SIBLINGS.LeafVictim(owner.model)
    margins = SIBLINGS.security_margins(victim, owner.mine)
    return {"monitors": [SIBLINGS.SiblingsMonitor(victim, margins, 0.3)]}


def sigmoid_and_prada(owner, seed):
    """Two in one: perturbed answers, watched queries."""
    return reverse_sigmoid(owner, seed) | prada(owner, seed)


def benign_rows(rows, n, rng):
    """What one benign client asks: n rows, or 2 in 3 where they are few."""
    return rows[rng.permutation(len(rows))[: min(n, 2 * len(rows) // 3)]]


# %% [markdown]
# ### The attacks
#
# Each is a function of a customer, the pool, a seed, a budget and the
# defenses that the owner has, mechanism and settings known, secret seeds not.
# It returns a copy: a function from rows to labels.
# A customer who is blocked learns from what was answered until then.
#
# The attackers differ in what they ask and in what they make of the answer.


# %%
class Hearing:
    """A customer who makes something of the answers before using them."""

    def __init__(self, customer, change):
        self.customer, self.change = customer, change

    def query(self, x):
        """`change(x, answers)` of the answers to the rows x."""
        return self.change(x, self.customer.query(x))


CLASSES = 10
"""As many as any victim of the arena has."""


class Averaging:
    """A customer who asks each row four times, slightly moved each time."""

    def __init__(self, customer, seed, times=4, size=0.02):
        self.customer, self.times, self.size = customer, times, size
        self.rng = np.random.default_rng(seed)

    def query(self, x):
        """The mean answers (n, c) to the rows x; `times` queries a row."""
        moved = [
            x + self.size * self.rng.normal(size=x.shape)
            for _ in range(self.times)
        ]
        heard = [
            metrics.as_probabilities(self.customer.query(rows), CLASSES)
            for rows in moved
        ]
        return np.mean(heard, axis=0)


# %%
class WithDummies:
    """A customer who hides each row among rows of a pool."""

    def __init__(self, customer, pool, seed, dummies=3):
        self.customer, self.pool, self.dummies = customer, pool, dummies
        self.rng = np.random.default_rng(seed)

    def query(self, x):
        """The answers to the rows x alone; all are billed."""
        shape = (len(x), self.dummies)
        others = self.pool[self.rng.integers(len(self.pool), size=shape)]
        mixed = np.concatenate([x[:, None], others], axis=1)
        heard = self.customer.query(mixed.reshape(-1, *x.shape[1:]))
        return heard[:: 1 + self.dummies]


def only_label(x, answers):
    """What an attacker keeps who mistrusts everything but the label."""
    return metrics.labels_of(answers)


# %%
def inverted(defenses, seed, x, answers):
    """The answers before the defense, as well as they can be told."""
    (defense,) = defenses
    if isinstance(defense, POISON.MAD):
        return POISON.recover(answers, defense.epsilon)
    rng = np.random.default_rng(seed)
    return SIGMOID.invert_by_table(answers, defense, rng, size=10_000)


def labels_by(model):
    """A torch model as a copy: rows to labels."""
    return lambda x: training.predict_proba(model, x).argmax(axis=1)


# %% [markdown]
# On pictures:


# %%
def knockoff(customer, known, seed, budget, defenses):
    """KnockoffNets, random policy."""
    return labels_by(KNOCKOFF.knockoff(customer, known.pool, budget, seed))


def knockoff_labels(customer, known, seed, budget, defenses):
    """KnockoffNets that keeps the label alone."""
    customer = Hearing(customer, only_label)
    return knockoff(customer, known, seed, budget, defenses)


def knockoff_averaged(customer, known, seed, budget, defenses):
    """KnockoffNets with a quarter of the pictures, each asked four times."""
    customer = Averaging(customer, seed)
    return knockoff(customer, known, seed, budget // 4, defenses)


def knockoff_inverted(customer, known, seed, budget, defenses):
    """KnockoffNets on answers that were computed back."""
    customer = Hearing(customer, partial(inverted, defenses, seed))
    return knockoff(customer, known, seed, budget, defenses)


# %%
def knockoff_adaptive(customer, known, seed, budget, defenses):
    """KnockoffNets with the adaptive policy over the letters."""
    pool, kind = datasets.letters(4 * budget, seed)
    groups = {
        letter: np.flatnonzero(kind == k)
        for k, letter in enumerate(datasets.LETTERS)
    }
    images, answers, _ = KNOCKOFF.adaptive_policy(
        customer, pool, groups, budget, seed
    )
    return labels_by(KNOCKOFF.train_substitute(images, answers, seed))


def noise_queries(customer, known, seed, budget, defenses):
    """KnockoffNets on uniform noise: the attacker who has nothing."""
    noise = datasets.noise(budget, known.pool.shape[1:], seed)
    known = Known(noise, known.natural)
    return knockoff(customer, known, seed, budget, defenses)


# %%
def prada_attack(customer, known, seed, budget, defenses):
    """PRADA's attack from ten natural pictures of each class."""
    model, _ = PRADA.prada_attack(customer, known.natural, budget, seed=seed)
    return labels_by(model)


def prada_with_dummies(customer, known, seed, budget, defenses):
    """PRADA's attack with three letters beside every query."""
    customer = WithDummies(customer, known.pool, seed)
    return prada_attack(customer, known, seed, budget // 4, defenses)


def learn_image(rows, answers, seed):
    """What a blocked attacker makes of the answers that it has."""
    return labels_by(KNOCKOFF.train_substitute(rows, answers, seed))


# %% [markdown]
# On tables:


# %%
def dense_net(d, c):
    """Two hidden layers of 64 units."""
    return nn.Sequential(
        *(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()),
        nn.Linear(64, c),
    )


def learn_table(rows, answers, seed):
    """A deep substitute from rows (n, d) and answers of any kind."""
    c = answers.shape[1] if answers.ndim == 2 else answers.max() + 1
    torch.manual_seed(seed)
    model = dense_net(rows.shape[1], max(2, c))
    rows = rows.astype(np.float32)
    model = training.fit(model, rows, answers, steps=200, lr=1e-2, seed=seed)
    return labels_by(model)


def own_rows(pool, n, seed):
    """n rows: half of them around those of a pool, half uniform."""
    rng = np.random.default_rng(seed)
    near = WARN.own_rows(pool, n - n // 2, rng)
    return np.vstack([near, rng.uniform(-1, 1, (n // 2, pool.shape[1]))])


# %%
def deep(customer, known, seed, budget, defenses):
    """A deep substitute from rows of the pool, moved, and uniform rows."""
    rows = own_rows(known.pool, budget, seed)
    return learn_table(rows, customer.query(rows), seed)


def deep_labels(customer, known, seed, budget, defenses):
    """The deep substitute that keeps the label alone."""
    customer = Hearing(customer, only_label)
    return deep(customer, known, seed, budget, defenses)


def deep_averaged(customer, known, seed, budget, defenses):
    """The deep substitute, a quarter of the rows, each asked four times."""
    customer = Averaging(customer, seed)
    return deep(customer, known, seed, budget // 4, defenses)


def deep_inverted(customer, known, seed, budget, defenses):
    """The deep substitute on answers that were computed back."""
    customer = Hearing(customer, partial(inverted, defenses, seed))
    return deep(customer, known, seed, budget, defenses)


# %%
def steal_classifier(customer, known, seed, budget, defenses):
    """StealClassifier: a network and a threshold, from labels alone."""
    customer = Hearing(customer, only_label)
    rows = own_rows(known.pool, budget, seed)
    deep_net = CLASSIFIER.DeepNet
    return CLASSIFIER.steal(customer, rows, budget, deep_net, seed).labels


def retraining(customer, known, seed, budget, defenses):
    """StealML's adaptive retraining of the victim's kind, from labels."""
    d = known.pool.shape[1]
    return BYLABEL.retrain_adaptive(
        customer, d, budget, known.learner, seed
    ).predict


# %%
def solving(customer, known, seed, budget, defenses):
    """StealML's equation solving; cross-entropy where answers are inexact.

    2 (d + 1) rows are solved and tried on twenty more. Where the copy does
    not answer these as the API did, all the budget is spent on a fit.
    """
    d, rng = known.pool.shape[1], np.random.default_rng(seed)
    rows = rng.uniform(-1, 1, (2 * (d + 1), d))
    tried, heard = rows[:20], customer.query(rows)
    if heard.min() > 0:
        theta = STEALML.solve_softmax(Replay(heard), rows)
        error = np.abs(STEALML.softmax_answers(theta, tried) - heard[:20])
        if error.max() < 1e-6:
            return lambda x: STEALML.softmax_answers(theta, x).argmax(axis=1)
    more = rng.uniform(-1, 1, (budget - len(rows), d))
    answers = np.vstack([heard, customer.query(more)])
    theta = STEALML.fit_softmax(np.vstack([rows, more]), answers)
    return lambda x: STEALML.softmax_answers(theta, x).argmax(axis=1)


class Replay:
    """Answers that were paid for already, as an API."""

    def __init__(self, answers):
        self.answers = answers

    def query(self, x):
        """The answers, whatever is asked."""
        return self.answers


# %%
def path_finding(customer, known, seed, budget, defenses):
    """StealML's path finding; the answer itself is the name of a leaf."""
    ends = np.ones(known.pool.shape[1])
    named = LabelAndConfidence(customer.query, CLASSES)
    boxes = PATHS.tree_bottom_up(named, -ends, ends, 0.01)
    return lambda x: np.maximum(0, PATHS.predict_boxes(boxes, x))


# %% [markdown]
# ### One meeting, one owner
#
# A cell is one attack on one defense with one seed.


# %%
def meet(owner, attack, defense, seed, budget, accounts=1):
    """The scores of one attack on one defended victim, as a dictionary.

    owner, attack, defense: functions as above. accounts: over how many the
    attack is split. The copy is compared with the undefended victim.
    """
    owner = owner(seed)
    settings = defense(owner, seed)
    api = PredictionAPI(
        owner.predict, budget=budget, on_alarm="block", **settings
    )
    names = [f"account {n}" for n in range(accounts)]
    together = 10 if "monitors" in settings else 500  # rows in one call
    customer, ended = Accounts(api, names, together), "finished"
    try:
        defenses = settings.get("defenses", ())
        copy = attack(customer, owner.known, seed, budget, defenses)
    except (ClientBlocked, BudgetExceeded) as end:
        ended, copy = type(end).__name__, stopped(owner, customer, seed)
    alarms = [alarm.query * accounts for alarm in api.alarms.values()]
    return {
        "ended": ended,
        "queries": api.ledger.queries,
        "queries to alarm": min(alarms, default=None),
        "dollars": api.ledger.cost,
        "L1 on attack queries": moved(owner, customer),
        **judged(copy(owner.exam), owner),
    }


# %%
def stopped(owner, customer, seed):
    """The copy of an attacker who was stopped half-way."""
    try:
        rows, answers = customer.transfer_set()
    except ValueError:  # not one answer
        return lambda x: np.zeros(len(x), int)
    learn = learn_image if rows.ndim == 4 else learn_table
    return learn(rows, answers, seed)


def judged(labels, owner):
    """Fidelity and accuracy of labels for the exam, in percent."""
    own = metrics.labels_of(owner.predict(owner.exam))
    return {
        "fidelity": 100 * metrics.fidelity(labels, own),
        "accuracy": 100 * metrics.accuracy(labels, owner.truth),
    }


def moved(owner, customer):
    """Mean L1 distance of the answers sent from the victim's, 0 to 2."""
    try:
        rows, answers = customer.transfer_set()
    except ValueError:
        return 0.0
    own = owner.predict(rows)
    answers = metrics.as_probabilities(answers, own.shape[1])
    return float(np.abs(own - answers).sum(axis=1).mean())


# %% [markdown]
# And a cell of the other kind is what a defense costs its owner: protected
# accuracy, distance of the answers, alarms on benign clients of up to 300
# queries, time.


# %%
def keep(owner, defense, seed, clients=20, each=300):
    """What one defense costs one owner, as a dictionary."""
    owner = owner(seed)
    settings, rng = defense(owner, seed), np.random.default_rng(seed)
    api = PredictionAPI(owner.predict, **settings)
    for n in range(clients if "monitors" in settings else 0):
        api.query(benign_rows(owner.benign, each, rng), f"client {n}")
    plain = PredictionAPI(owner.predict)
    answers, own = api.query(owner.exam, "judge"), plain.query(owner.exam)
    shares = metrics.as_probabilities(answers, own.shape[1])
    truth = metrics.accuracy(own, owner.truth)
    false = sum(name.startswith("client") for name in api.alarms)
    return {
        "accuracy": 100 * metrics.accuracy(answers, owner.truth),
        "lost": 100 * (truth - metrics.accuracy(answers, owner.truth)),
        "L1 on benign queries": float(np.abs(shares - own).sum(1).mean()),
        "false alarms": false,
        "clients": clients,
        "ms a query": milliseconds(api, owner) - milliseconds(plain, owner),
    }


def milliseconds(api, owner, rounds=3):
    """CPU time of one query in a call of 100, the best of three rounds."""
    rows, best = owner.benign[:100], np.inf
    for n in range(rounds):
        start = time.process_time()
        api.query(rows, f"clock {n}")
        best = min(best, time.process_time() - start)
    return 1000 * best / len(rows)


# %% [markdown]
# ### Who meets whom
#
# Not every attack can be tried on every defense.
# A pair that is left out has a reason, and the reason is shown.

# %%
KINDS = {
    "image": "pictures",
    "softmax": "softmax regressions",
    "tree": "decision trees",
}
"""The kinds of victims, in words."""

ACCOUNTS = 16
"""Over so many names the attacks marked "16 accounts" are split."""

IMAGE_ATTACKS = {
    "KnockoffNets": (knockoff, 1),
    "KnockoffNets, labels": (knockoff_labels, 1),
    "KnockoffNets, adaptive": (knockoff_adaptive, 1),
    "KnockoffNets, averaged": (knockoff_averaged, 1),
    "KnockoffNets, inverted": (knockoff_inverted, 1),
    "PRADA's attack": (prada_attack, 1),
    "PRADA's attack, dummies": (prada_with_dummies, 1),
    "PRADA's attack, 16 accounts": (prada_attack, ACCOUNTS),
    "noise queries": (noise_queries, 1),
}
TABLE_ATTACKS = {
    "equation solving": (solving, 1),
    "path finding": (path_finding, 1),
    "path finding, 16 accounts": (path_finding, ACCOUNTS),
    "adaptive retraining": (retraining, 1),
    "StealClassifier": (steal_classifier, 1),
    "deep substitute": (deep, 1),
    "deep substitute, labels": (deep_labels, 1),
    "deep substitute, averaged": (deep_averaged, 1),
    "deep substitute, inverted": (deep_inverted, 1),
    "deep substitute, 16 accounts": (deep, ACCOUNTS),
}

# %%
DEFENSES = {
    "none": undefended,
    "labels only": labels_only,
    "rounding": rounding,
    "Gaussian noise": gaussian_noise,
    "reverse sigmoid": reverse_sigmoid,
    "MAD": mad,
    "MAD-argmax": mad_argmax,
    "BDPL": boundary_layer,
    "PRADA": prada,
    "Extraction Warning": extraction_warning,
    "Forgotten Siblings": forgotten_siblings,
    "sigmoid + PRADA": sigmoid_and_prada,
}
FOR_TREES = "Extraction Warning", "Forgotten Siblings"
WATCHING = "PRADA", *FOR_TREES, "sigmoid + PRADA"
INVERTIBLE = "reverse sigmoid", "MAD", "sigmoid + PRADA"
LABELS = "labels only", "BDPL"
EXACT = "none", "labels only", "PRADA", *FOR_TREES


# %%
def not_this_victim(attack, defense, kind, name):
    """Reasons that lie in the victim, and whether each holds."""
    return {
        "the defense reads the leaves of a tree": (
            defense in FOR_TREES and kind != "tree"
        ),
        "a tree has no equations to solve": (
            attack == "equation solving" and kind == "tree"
        ),
        "StealClassifier tells two classes apart, not ten": (
            attack == "StealClassifier" and name == "digits"
        ),
        "the victim has no leaves": (
            attack.startswith("path") and kind != "tree"
        ),
    }


# %%
def not_these_answers(attack, defense):
    """Reasons that lie in what is answered, and whether each holds."""
    return {
        "equations need probabilities": (
            attack == "equation solving" and defense in LABELS
        ),
        "no perturbation that can be computed back": (
            attack.endswith("inverted") and defense not in INVERTIBLE
        ),
        "the answers are exact: nothing to average": (
            attack.endswith("averaged") and defense in EXACT
        ),
        "the answers are labels already": (
            attack.endswith("labels") and defense in LABELS
        ),
        "nobody watches": (
            attack.endswith(("dummies", "accounts"))
            and defense not in WATCHING
        ),
    }


def why_not(attack, defense, kind, name=""):
    """Why an attack does not meet a defense on a kind of victim, or "".

    name: of the victim's data.
    """
    checks = not_this_victim(attack, defense, kind, name)
    checks |= not_these_answers(attack, defense)
    return next((reason for reason, holds in checks.items() if holds), "")


# %%
def grid(arenas, seeds):
    """The cells of every arena: meetings, owner's costs, and who is absent.

    arenas: (kind, name, budget) to a function that makes the owner. Returns
    two dictionaries of cells, and one of reasons by kind, name, attack,
    defense.
    """
    meetings, costs, absent = {}, {}, {}
    for (kind, name, budget), owner in arenas.items():
        attacks = IMAGE_ATTACKS if kind == "image" else TABLE_ATTACKS
        for d, defense in DEFENSES.items():
            who = {"owner": owner, "defense": defense}
            for a, (attack, accounts) in attacks.items():
                if reason := why_not(a, d, kind, name):
                    absent[kind, name, a, d] = reason
                    continue
                how = {"attack": attack, "budget": budget}
                how |= {"accounts": accounts}
                for s in seeds:
                    cell = Cell(meet, who | how | {"seed": s})
                    meetings[kind, name, budget, a, d, s] = cell
            if kind == "tree" or d not in FOR_TREES:
                for s in seeds:
                    costs[kind, name, budget, d, s] = Cell(
                        keep, who | {"seed": s}
                    )
    return meetings, costs, absent


# %% [markdown]
# Where each chapter of the book comes in, and why two of them do not:
#
# <!-- techniques: arena attacks defenses comparison -->
#
# And the grid of all cells.

# %%
arenas = {
    ("image", name, budget): partial(
        image_owner, name=name, letters=max(4000, budget)
    )
    for name in image_victims
    for budget in image_budgets
} | {
    (kind, name, budget): partial(table_owner, name=name, kind=kind)
    for kind, budget in (("softmax", table_budget), ("tree", tree_budget))
    for name in tables
}
seeds = range(seed, seed + n_seeds)
meetings, costs, absent = grid(arenas, seeds)

# %% [markdown]
# ### The sweep
#
# The cells know nothing of each other, so a scheduler can give them to any
# process that is free: two here, or all of a cluster's
# {cite:p}`rocklin2015dask`.
# What is finished is kept under a key of its parameters and of the code that
# it ran, so that a run that was killed goes on where it stopped, and after a
# change in one technique only its cells run again.

# %%
outcomes = sweep(
    [*meetings.values(), *costs.values()],
    scheduler=scheduler,
    workers=workers,
    what="meetings",
)

# %% tags=["hide-input"]
failed = [o.error for o in outcomes if o.error]
for line in sorted(set(failed)):
    print(f"failed: {line}")
Markdown(
    f"{len(meetings):,} meetings and {len(costs):,} owner's cells, of which "
    f"{len(failed)} failed. {len(absent)} combinations of victim, attack and "
    f"defense are left out, for one of {len(set(absent.values()))} reasons."
)

# %%
columns = ["kind", "victim", "budget", "attack", "defense", "seed"]
rows = [
    dict(zip(columns, key, strict=True)) | (outcome.value or {})
    for key, outcome in zip(meetings, outcomes, strict=False)
]
met = pd.DataFrame(rows)
columns.remove("attack")
rows = [
    dict(zip(columns, key, strict=True)) | (outcome.value or {})
    for key, outcome in zip(costs, outcomes[len(meetings) :], strict=True)
]
cost = pd.DataFrame(rows)

# %% [markdown]
# ## The matrix
#
# Fidelity of the copy, in percent: how often it answers as the undefended
# victim does on rows of the judge.
# Dark is a good theft.
# StealClassifier's row leaves out the table of ten classes.
# A cell with a dot is one that the attacker did not finish in at least half of
# the runs, because every account was blocked.


# %%
def meeting(met, defense, attack):
    """The rows of one attack on one defense, by victim and seed."""
    part = met[(met.defense == defense) & (met.attack == attack)]
    return part.sort_values(["victim", "seed"])


def against(met, defense, attack):
    """Fidelity of one attack on one defense: one number a victim and seed."""
    return meeting(met, defense, attack).fidelity.to_numpy()


def best_attacks(met, defense):
    """Victim to the attack with the highest mean fidelity there."""
    part = met[met.defense == defense]
    means = part.groupby(["victim", "attack"]).fidelity.mean()
    return {v: one.idxmax()[1] for v, one in means.groupby(level=0)}


def best_meetings(met, defense):
    """The rows of each victim's best attack, by victim and seed."""
    return pd.concat(
        [
            meeting(met[met.victim == victim], defense, attack)
            for victim, attack in best_attacks(met, defense).items()
        ]
    )


def present(met):
    """The defenses that took part, in their order."""
    return [d for d in DEFENSES if d in set(met.defense)]


# %%
def matrix(met, attacks, value="fidelity"):
    """Means over victims and seeds: attacks by defenses; NaN where absent."""
    table = met.pivot_table(value, "attack", "defense")
    return table.reindex(index=list(attacks), columns=list(DEFENSES))


def heat(ax, met, attacks, least=0):
    """Draw the matrix of fidelity with its numbers."""
    table = matrix(met, attacks)
    blocked = matrix(met.assign(b=met.ended == "ClientBlocked"), attacks, "b")
    ax.imshow(table, cmap="cividis_r", vmin=least, vmax=100, aspect="auto")
    ax.set_xticks(range(len(table.columns)), table.columns, rotation=45)
    plt.setp(ax.get_xticklabels(), ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(table)), table.index)
    ax.grid(False)
    middle = (least + 100) / 2
    for (i, j), value in np.ndenumerate(table.to_numpy()):
        dot = "·" if blocked.iat[i, j] >= 0.5 else ""
        text = "–" if np.isnan(value) else f"{value:.0f}{dot}"
        ax.text(j, i, text, ha="center", va="center", fontsize=8,
                color="white" if value > middle else "black")  # fmt: skip


# %% tags=["hide-input"] mystnb={"figure": {"caption": "Pictures: fidelity of the copy in percent, attacks by defenses; means over seeds."}, "image": {"alt": "Heat map of attacks in rows by defenses in columns on the image victim, a number in every cell; dashes where the pair is left out, as for the defenses of trees."}}
image = met[(met.kind == "image") & (met.budget == max(image_budgets))]
softmax, trees = met[met.kind == "softmax"], met[met.kind == "tree"]
kinds = {"image": image, "softmax": softmax, "tree": trees}
fig, ax = plt.subplots(figsize=(8, 4.2))
heat(ax, image, IMAGE_ATTACKS)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Softmax regressions: fidelity of the copy in percent; means over tables and seeds."}, "image": {"alt": "Heat map of attacks in rows by defenses in columns on softmax regressions, a number in every cell; dashes where the pair is left out, as for path finding and the defenses of trees."}}
fig, ax = plt.subplots(figsize=(8, 4.2))
heat(ax, softmax, TABLE_ATTACKS, least=40)
plt.show()

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Decision trees: fidelity of the copy in percent; means over tables and seeds."}, "image": {"alt": "Heat map of attacks in rows by defenses in columns on decision trees, a number in every cell; dashes where the pair is left out, as for equation solving."}}
fig, ax = plt.subplots(figsize=(8, 4.2))
heat(ax, trees, TABLE_ATTACKS, least=40)
plt.show()


# %% tags=["hide-input"]
def mean_of(part, attack, defense):
    """Mean fidelity of one attack on one defense, as text."""
    return f"{against(part, defense, attack).mean():.0f} %"


def told(part, d):
    """How the readings of the answers do against one perturbation."""
    back = (
        f", and {mean_of(part, 'KnockoffNets, inverted', d)} after computing "
        "the answers back"
        if d in INVERTIBLE
        else ""
    )
    return (
        f"Behind {d} it is {mean_of(part, 'KnockoffNets', d)}, from labels "
        f"alone {mean_of(part, 'KnockoffNets, labels', d)}{back}."
    )


PERTURBATIONS = "Gaussian noise", "reverse sigmoid", "MAD", "MAD-argmax"
averaged = [
    against(image, d, "KnockoffNets, averaged").mean()
    - against(image, d, "KnockoffNets").mean()
    for d in PERTURBATIONS
]
Markdown(
    "**Pictures.** Undefended, KnockoffNets copies "
    f"{mean_of(image, 'KnockoffNets', 'none')} of the victim's answers. "
    + " ".join(told(image, d) for d in PERTURBATIONS[1:])
    + " Averaging over moved pictures, at a quarter of the pictures, changes "
    f"fidelity by {min(averaged):.0f} to {max(averaged):.0f} points against "
    "sending each once."
)

# %% tags=["hide-input"]
caught = image[(image.defense == "PRADA") & (image.ended == "ClientBlocked")]
first = caught[caught.attack == "PRADA's attack"]
Markdown(
    "**Watching.** PRADA blocks the attack of its own authors after "
    f"{first.queries.mean():.0f} queries on average, at "
    f"{first.fidelity.mean():.0f} % fidelity; unwatched it reaches "
    f"""{mean_of(image, "PRADA's attack", "none")} with the whole budget. """
    "Its natural pictures are asked first. On trees, "
    f"path finding reaches {mean_of(trees, 'path finding', 'none')} without "
    "a defense, "
    f"{mean_of(trees, 'path finding', 'Forgotten Siblings')} before "
    "Forgotten Siblings and "
    f"{mean_of(trees, 'path finding', 'Extraction Warning')} before "
    f"Extraction Warning stops it; from {ACCOUNTS} accounts "
    f"{mean_of(trees, 'path finding, 16 accounts', 'Forgotten Siblings')} and "
    f"{mean_of(trees, 'path finding, 16 accounts', 'Extraction Warning')}."
)

# %% [markdown]
# The dashes are the pairs that were left out.


# %% tags=["hide-input"]
def example_of(reason, absent):
    """The first of the meetings that are left out for a reason, in words."""
    kind, name, a, d = next(k for k, r in absent.items() if r == reason)
    return f"{a} on {d} ({name}, {kind})"


plotting.table(
    [
        {
            "reason": reason,
            "meetings left out": sum(r == reason for r in absent.values()),
            "for example": example_of(reason, absent),
        }
        for reason in sorted(set(absent.values()))
    ]
)

# %% [markdown]
# ## What a defense costs
#
# Every number is the owner's: how much accuracy the protected answers lose,
# how far they lie from the true ones (0 to 2), how many of the benign
# clients are accused, and how long a query takes on top.


# %%
def spread(values, digits=1):
    """Mean and 95 % interval as text; the number alone where all agree."""
    values = np.asarray(values, float)
    if np.ptp(values) == 0:
        return f"{values[0]:.{digits}f}"
    return f"{interval(values):.{digits}f}"


def owners_table(cost):
    """One row a defense: what it costs, over victims and seeds."""
    rows = []
    for d, part in cost.groupby("defense", sort=False):
        alarms = int(part["false alarms"].sum()), int(part["clients"].sum())
        rate = proportion_interval(*alarms)
        rows.append(
            {
                "defense": d,
                "accuracy lost (points)": spread(part["lost"]),
                "L1": spread(part["L1 on benign queries"], 2),
                "false alarms": f"{rate:.0%}" if d in WATCHING else "–",
                "ms a query": f"{max(0, part['ms a query'].median()):.2f}",
            }
        )
    return plotting.table(rows)


# %% tags=["hide-input"]
owners_table(cost[cost.kind == "image"])

# %% tags=["hide-input"]
owners_table(cost[cost.kind != "image"])

# %% [markdown]
# Milliseconds are processor time on the machine that built this page.
#
# ## The best attacker
#
# A defense is as good as its best attacker lets it be.
# An owner cannot choose who comes, so for each defense and each victim the
# attack with the highest mean fidelity counts, whatever the others do.


# %%
def ranks(met):
    """Defense to its (lowest, highest) possible rank, 1 the best.

    One defense is surely better than another where the 95 % interval of the
    difference of their best attackers, paired over victims and seeds, does
    not reach zero.
    """
    best = {d: best_meetings(met, d).fidelity.to_numpy() for d in present(met)}
    found = {}
    for d in best:
        gaps = [paired_difference(best[d], best[e]) for e in best if e != d]
        worse_than = sum(gap.low > 0 for gap in gaps)
        better_than = sum(gap.high < 0 for gap in gaps)
        found[d] = 1 + worse_than, len(best) - better_than
    return found


# %%
def named(attacks):
    """Attacks as text, each once, with the number of victims where above 1."""
    counts = pd.Series(list(attacks)).value_counts(sort=False)
    return "; ".join(f"{a} ({n})" if n > 1 else a for a, n in counts.items())


def ranking(met):
    """One row a defense: best attackers, their fidelity, possible ranks."""
    best = {d: best_meetings(met, d) for d in present(met)}
    means = {d: part.fidelity.mean() for d, part in best.items()}
    rows, possible = [], ranks(met)
    for d in sorted(means, key=means.get):
        low, high = possible[d]
        row = {
            "defense": d,
            "best attack": named(best_attacks(met, d).values()),
            "fidelity (%)": spread(best[d].fidelity),
            "rank": f"{low} to {high}" if low < high else f"{low}",
            "queries": f"{best[d].queries.mean():,.0f}",
            "cost ($)": f"{best[d].dollars.mean():.2f}",
        }
        rows.append(row)
    return plotting.table(rows)


# %% [markdown]
# Pictures:

# %% tags=["hide-input"]
ranking(image)

# %% [markdown]
# Softmax regressions:

# %% tags=["hide-input"]
ranking(softmax)

# %% [markdown]
# Decision trees:

# %% tags=["hide-input"]
ranking(trees)

# %% [markdown]
# A range of ranks says which orders the seeds allow; where two ranges
# overlap, this run does not decide.
# The attack was chosen on the same seeds on which it is judged, which
# flatters attackers a little, and the more, the more attacks a defense meets.


# %% tags=["hide-input"]
def decided(met):
    """How many pairs of defenses are ordered, and how many there are."""
    n = len(present(met))
    return sum(low - 1 for low, _ in ranks(met).values()), n * (n - 1) // 2


orders = {KINDS[kind]: decided(part) for kind, part in kinds.items()}
compared = sum(pairs for _, pairs in orders.values())
Markdown(
    "Pairs whose order this run decides: "
    + ", ".join(f"{n} of {pairs} ({k})" for k, (n, pairs) in orders.items())
    + f". That is {compared} comparisons in all, each at 95 %, so that "
    f"{compared / 20:.0f} or so would be decided by chance if all defenses "
    "were alike. Rows of one table share their victims, and other victims "
    "could order them differently."
)

# %% [markdown]
# ### What is a perturbation worth?
#
# Whoever sells nothing but labels leaves an attacker the labels.
# A perturbation has to be better than that, or the owner could save itself
# the trouble.
# So each one is compared with *labels only*, both against their best
# attackers, paired over victims and seeds: below zero it protects better.


# %%
def worth(met, defense):
    """Best fidelity behind a defense less that behind labels: interval."""
    pair = (best_meetings(met, d) for d in (defense, "labels only"))
    return paired_difference(*(p.fidelity.to_numpy() for p in pair))


against_labels = {
    (kind, d): worth(part, d)
    for kind, part in kinds.items()
    for d in PERTURBATIONS
}

# %% tags=["hide-input"]
plotting.table(
    [
        {"perturbation": d}
        | {
            f"{KINDS[kind]} (points)": f"{against_labels[kind, d]:+.1f}"
            for kind in kinds
        }
        for d in PERTURBATIONS
    ]
)

# %% tags=["hide-input"]
surely = {
    side: [
        f"{d} ({KINDS[kind]})"
        for (kind, d), gap in against_labels.items()
        if ok(gap)
    ]
    for side, ok in (
        ("better", lambda gap: gap.high < 0),
        ("worse", lambda gap: gap.low > 0),
    )
}
Markdown(
    "Surely better than labels only: "
    + (", ".join(surely["better"]) or "none")
    + ". Surely worse: "
    + (", ".join(surely["worse"]) or "none")
    + ". For the others this run leaves it open."
)

# %% [markdown]
# ### Utility against theft
#
# One point a defense: to the right the owner's answers stay what they were,
# at the bottom the best thief gets little.
# The line joins the defenses that no other beats in both.
# The numbers are those of the columns above.


# %%
def frontier(points):
    """The points that no other beats in both, from left to right."""
    return sorted(
        p
        for p in points
        if not any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in points)
    )


def side_by_side(places, step):
    """The same numbers, those closer than `step` set apart by it."""
    order, shown = np.argsort(places, kind="stable"), np.array(places, float)
    breaks = np.flatnonzero(np.diff(shown[order]) >= step) + 1
    for group in np.split(order, breaks):
        apart = np.arange(len(group)) - (len(group) - 1) / 2
        shown[group] = shown[group].mean() + step * apart
    return shown


# %%
def plane(ax, met, cost):
    """Draw what is kept against what the best attacker takes."""
    names = present(met)
    kept = [
        100 - 50 * cost[cost.defense == d]["L1 on benign queries"].mean()
        for d in names
    ]
    best = [interval(best_meetings(met, d).fidelity) for d in names]
    truly = [(x, end.mean) for x, end in zip(kept, best, strict=True)]
    shown = side_by_side(kept, 0.045 * np.ptp(kept))
    line = [shown[truly.index(point)] for point in frontier(truly)]
    ax.plot(line, [y for _, y in frontier(truly)], "-", marker="", c="0.4")
    for x, end, d in zip(shown, best, names, strict=True):
        ax.plot([x, x], [end.low, end.high], "-", marker="", color="0.8")
        ax.plot(x, end.mean, "o", ms=13, mfc="white", mec="C0")
        number = list(DEFENSES).index(d) + 1
        ax.text(x, end.mean, number, ha="center", va="center", fontsize=8)
    ax.margins(0.06, 0.1)


# %% tags=["hide-input"] mystnb={"figure": {"caption": "What benign clients keep of their answers (100 - 50 L1) against what the best attacker gets, with 95 % intervals over victims and seeds; points at one place stand side by side. The line joins the defenses that no other beats in both."}, "image": {"alt": "Three panels of numbered points, one for pictures, one for softmax regressions, one for trees: the share of the answer kept on the horizontal and the best attacker's fidelity on the vertical axis, a line that joins some of them, and a key of the numbers to the right."}}
fig, axes = plt.subplots(3, 1, figsize=(7.4, 9.2), layout="constrained")
for ax, (kind, part) in zip(axes, kinds.items(), strict=True):
    plane(ax, part, cost[cost.kind == kind])
    ax.set(title=KINDS[kind], ylabel="best fidelity (%)")
    ax.set_xlabel("answer kept (%)")
key = "\n".join(f"{n}  {d}" for n, d in enumerate(DEFENSES, 1))
axes[0].text(1.03, 1, key, transform=axes[0].transAxes, va="top", fontsize=9)
plt.show()

# %% [markdown]
# ## Take it with you
#
# The link below holds the full table as CSV, one row a meeting, with what the
# defense costs the owner beside it.


# %%
def download(table, name):
    """A link that saves a table as a CSV file; the page itself carries it."""
    text = base64.b64encode(table.to_csv(index=False).encode()).decode()
    return HTML(
        f'<a download="{name}" href="data:text/csv;base64,{text}">{name}</a> '
        f"({len(table):,} rows)"
    )


# %% tags=["hide-input"]
shared = ["kind", "victim", "budget", "defense", "seed"]
names = {"accuracy": "protected accuracy", "lost": "accuracy lost"}
owners = cost.rename(columns=names)
full = met.merge(owners, on=shared, how="left", validate="many_to_one")
download(full.round(4), "arena.csv")

# %% [markdown]
# ### A larger arena
#
# `make arena parameters=FILE.yml` runs this chapter with other knobs, on two
# processes or on the Dask scheduler that the file names.
# The file `benchmarks/arena_larger.yml` asks for five seeds, for budgets from
# 1,000 to 60,000 and for Fashion-MNIST as a second victim.
# Cells that were computed before are not computed again.
#
# ## How it breaks
#
# - **A matrix is not a proof.**
#   The best attacker here is the best of those that were tried; the next
#   idea may be better.
#   A new row can only add to what the best attacker gets.
# - **One distance.**
#   The perturbations were compared at one L1 distance; their own chapters
#   have larger ones, which cost what the distance says.
#   Labels alone, rounding and BDPL stand at the distance that they have.
# - **L1 is one measure of utility.**
#   Clients who only want the label lose nothing by a perturbation that keeps
#   it, and the planes above call it costly.
# - **Small victims, small budgets.**
#   What ten times the queries do to the orders above is for the larger arena
#   to tell; this page does not.
# - **Few seeds.**
#   Three differences make a wide interval, and so wide ranges of ranks.
#
# ## Paper and this run
#
# The survey compares no two defenses under the same attack, so nothing here
# has a published number beside it.
# What is claimed is what the chapters lead one to expect.


# %%
def gain(part, defense, attack, other):
    """Fidelity of one attack less that of another, paired: an interval."""
    return paired_difference(
        against(part, defense, attack), against(part, defense, other)
    )


def fall(part, attack, defense):
    """What a defense takes from one attack, paired over victims and seeds."""
    return paired_difference(
        against(part, "none", attack), against(part, defense, attack)
    )


# %% [markdown]
# The ranges are about the grid of this page; a larger one is claimed on the
# part that it shares with it.

# %%
least = met.groupby("kind").budget.transform("min")
usual = met[(met.budget == least) & (met.victim != "fashion_mnist")]
paid = cost[cost.victim != "fashion_mnist"]
seen = usual[usual.kind == "image"]

# %%
claims.add("cells that failed", len(failed), low=0, high=0)
empty = met.fidelity.isna().sum() - len(failed)
claims.add("cells without a value or a reason", empty, low=0, high=0)
for d in PERTURBATIONS:
    part = paid[paid.defense == d]
    for kind in kinds:
        far = part[part.kind == kind]["L1 on benign queries"].mean()
        meant = DISTANCE["pictures" if kind == "image" else "tables"]
        claims.add(
            f"{d}, {KINDS[kind]}: L1 on benign queries, off the allowed",
            abs(far - meant),
            high=0.06,
        )
claims.add(
    "accuracy lost to any defense, largest mean over victims (points)",
    paid.groupby(["kind", "defense"]).lost.mean().max(),
    high=3,
)

# %%
labels = fall(seen, "KnockoffNets, labels", "reverse sigmoid")
claims.add(
    "reverse sigmoid: fall of KnockoffNets with labels (points)",
    abs(labels.mean),
    high=0.5,
)
for d in ("reverse sigmoid", "MAD"):
    claims.add(
        f"{d}: fall of KnockoffNets (points)",
        fall(seen, "KnockoffNets", d).mean,
        low={"reverse sigmoid": 0.5, "MAD": 8}[d],
    )
    claims.add(
        f"{d}: answers computed back less naive (points)",
        gain(seen, d, "KnockoffNets, inverted", "KnockoffNets").mean,
        low={"reverse sigmoid": 2, "MAD": 8}[d],
    )
for kind in ("image", "softmax"):
    claims.add(
        f"{KINDS[kind]}: best behind a perturbation less labels only, least",
        min(worth(usual[usual.kind == kind], d).mean for d in PERTURBATIONS),
        low=-8,
    )
claims.add(
    "decision trees: best behind reverse sigmoid less labels only",
    worth(trees, "reverse sigmoid").mean,
    low=4,
)
claims.add(
    "decision trees: path finding, fall before Gaussian noise (points)",
    fall(trees, "path finding", "Gaussian noise").mean,
    low=30,
)

# %%
naive = seen[seen.attack == "PRADA's attack"]
naive = naive[naive.defense == "PRADA"]
claims.add(
    "PRADA: queries until PRADA's attack is seen, most",
    naive["queries to alarm"].max(),
    high=400,
)
claims.add(
    "PRADA: fidelity of its attack when it is blocked (%)",
    naive.fidelity.mean(),
    low=70,
)
found = met[(met.attack == "path finding") & (met.defense == "none")]
claims.add(
    "no defense: fidelity of path finding on trees, mean (%)",
    found.fidelity.mean(),
    low=85,
)
spared = seen[(seen.defense == "PRADA") & (seen.attack == "KnockoffNets")]
claims.add(
    "PRADA: alarms on KnockoffNets",
    spared["queries to alarm"].notna().sum(),
    low=0,
    high=0,
)

# %%
split = seen[seen.attack == "PRADA's attack, 16 accounts"]
claims.add(
    "PRADA: alarms on its attack from 16 accounts",
    split[split.defense == "PRADA"]["queries to alarm"].notna().sum(),
    low=0,
    high=0,
)
solved = met[(met.attack == "equation solving") & (met.defense == "none")]
claims.add(
    "no defense: fidelity of equation solving, least (%)",
    solved.fidelity.min(),
    low=100,
    high=100,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1
# :class: attention
# Which attack is the best against the most defenses on pictures?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
for kind, part in kinds.items():
    best = [a for d in present(part) for a in best_attacks(part, d).values()]
    print(kind, pd.Series(best).value_counts().to_string(), sep="\n")

# %% [markdown]
# :::{admonition} Exercise 2
# :class: attention
# A defense that the attacker does not know of is worth more than one that
# is known.
# How much of the reverse sigmoid's effect is left where the attacker inverts
# it with half the true strength?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
owner = image_owner(seed)
settings = reverse_sigmoid(owner, seed)
(truly,) = settings["defenses"]
rows = owner.known.pool[:600]
answers = PredictionAPI(owner.predict, **settings).query(rows)
for share in (1.0, 0.5, 0.0):
    guess = SIGMOID.ReverseSigmoid(share * truly.beta, truly.gamma)
    back = SIGMOID.invert_by_table(
        answers, guess, np.random.default_rng(seed), size=10_000
    )
    copy = learn_image(rows, back, seed)
    scores = judged(copy(owner.exam), owner)
    print(f"{share:.0%} of the strength: {scores['fidelity']:.1f} % fidelity")

# %% [markdown]
# ## Recap
#
# - A perturbation has to be held against selling labels alone, at the
#   distance that it costs, and against the best attacker; the table of worth
#   says for which of them this run decides.
# - Path finding tells leaves apart by exact answers: noise mixes them, and a
#   formula that maps equal answers to equal ones does not.
# - A monitor is made for one way of asking; the columns of the matrix show
#   what natural rows and many accounts get past it.
# - Accuracy, distance, false alarms and time are all part of the price; no
#   single number ranks defenses.
# - Where intervals overlap, the order is open, and a table that hides this
#   misleads.
#
# ## References
#
# - {cite:t}`gong2020survey` asks for such a comparison and says why it was
#   not possible.
# - {cite:t}`tang2024modelguard` compares perturbations under one bound of
#   utility, against attackers who recover.
# - {cite:t}`rocklin2015dask` introduced Dask, which runs the cells.
