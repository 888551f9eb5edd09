# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Auditing an endpoint
#
# An owner wants to know how much of a model its answers give away, and which
# of the book's defenses would help.
# This chapter turns the book on an endpoint: it looks at the answers, tries
# every attack that fits them within a budget, asks what a monitor would have
# seen, and replays the thefts through the gateway behind each defense.
# With no parameters it audits a wine model that it sells itself.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - read off the answers what they reveal;
# - let every attack of the book that fits spend its share of a budget;
# - replay what was stolen against monitors and defenses, without paying again;
# - audit a model of your own.
#
# <!-- minutes -->
# The attacks and defenses are those of the chapters before, chosen as in
# [the contestants](../comparison/contestants.ipynb).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import html
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression

from mexutils import (
    BudgetExceeded,
    Claims,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    plotting,
)
from mexutils.clients import LabelAndConfidence
from mexutils.notebook import Markdown
from mexutils.runs import proportion_interval
from mexutils.wire import RemoteAPI, RemoteError, serve
from mexutils.wire import target as wire

plotting.use_style()
claims = Claims()

STEALML = load_chapter("attacks/stealml")
PATHS = load_chapter("attacks/stealml_trees")
CLASSIFIER = load_chapter("attacks/steal_classifier")
EXACT = load_chapter("frontier/exact_copies")
DETECT = load_chapter("defenses/prada_detection")
CONTEST = load_chapter("comparison/contestants")

# %% [markdown]
# What is audited: a `url` with its `model`, or a function to `predict` with;
# with neither, the wine model.
# `key` names the environment variable that holds the key, so that no page
# ever shows it.

# %% tags=["parameters"]
seed = 0
url = ""  # of a server of the Open Inference Protocol
model = "model"  # its name there
key = ""  # environment variable that holds the key
output = ""  # to ask for by name, as predict_proba
predict = ""  # package.module:name or file.py:name, in place of a url
timeout = 30.0  # seconds that a server may take for a call of 100 rows
rows = ""  # CSV, Parquet or NPY: rows like those that customers send
labels = ""  # their true classes: a column, or an NPY file; may be left out
classes = ""  # names of the classes in the model's order: no,yes
budget = 1000  # rows that may be sent in all
price = 1.50  # dollars for 1,000 rows
owned = ""  # yes: the model is mine
folder = ""  # for the page, the table, and the answers that were paid for

# %% [markdown]
# ## At a glance
#
# One call audits what the parameters name, and ends in five lines.

# %%
chapter = load_chapter("practice/audit")
asked = {"url": url, "model": model, "key": key, "output": output}
asked |= {"predict": predict, "rows": rows, "labels": labels}
asked |= {"classes": classes, "budget": budget, "price": price}
asked |= {"owned": owned, "timeout": timeout, "seed": seed}
place = folder or tempfile.mkdtemp()
report = chapter.audit(**asked, folder=place)
chapter.listed(report.summary)

# %% [markdown]
# From a shell, in a checkout of the book, the same is
#
# ```bash
# make audit url=http://127.0.0.1:8080 model=cancer key=AUDIT_KEY \
#     rows=rows.csv labels=diagnosis budget=2000 owned=yes
# ```
#
# and leaves this page, filled in for that model, as `_build/audit.ipynb`, and
# beside it a folder with a short page, a table and the five lines.
#
# ## The question
#
# | | |
# |---|---|
# | **has** | an endpoint of its own, and rows as its customers send them |
# | **pays** | for every row that is sent, a budget at most |
# | **knows** | what any customer knows: the answers |
# | **wants** | to know what a thief would get, and what would help |
#
# An audit is a theft, so that it is for owners alone: without the word
# `owned` nothing is sent.
#
# ## The idea
#
# Of a budget of $B$ rows a quarter is put aside to judge by: rows of the
# reader's that no attack may ask.
# They are paid for as well, and their answers are also what is looked at
# first.
# What is left is split evenly over the attacks that fit:
#
# $$
# B = n_\text{judge} + n_\text{repeated} + \sum_{a \text{ fits}} B_a ,
# \qquad
# B_a = \frac{\text{what is left}}{\text{attacks still to come}} ,
# $$
#
# so that what one attack leaves over goes to those after it.
# Everything after that is free: monitors and defenses meet the answers that
# were kept.
#
# ## From scratch
#
# ### The endpoint
#
# By default the chapter sells a model itself: a softmax regression that tells
# the quality of red wine, 3 to 8, behind the gateway of `mexutils.wire`.


# %%
def wine_api(seed):
    """The wine model as it is sold, rows of customers, and their classes."""
    mine, rest, _ = datasets.tabular("red_wine", seed)
    victim = LogisticRegression(max_iter=1000).fit(mine.x, mine.y)
    api = PredictionAPI(victim.predict_proba, classes=victim.classes_)
    return api, rest.x, rest.y


# %% [markdown]
# A URL, or a function, an estimator or a torch module on an import path, may
# stand in its place.
# Whatever can be refused, a wrong key or an unreachable server, is refused
# here, before anything is paid.


# %%
@contextmanager
def connected(url, model, key, output, predict, timeout, seed):
    """The target, while it can be asked; errors come before any bill."""
    if predict:
        yield wire.imported(predict)
    elif url:
        yield wire.remote(url, model, wire.key_of(key), output, timeout)
    else:
        with serve(wine_api(seed)[0], {"k-audit": "audit"}) as found:
            here = wire.remote(found, "model", "k-audit", "")
            yield here._replace(who=f"wine, seed {seed}")


# %% [markdown]
# ### Rows
#
# A thief asks in the units of the rows that he has, and the attacks of the
# book ask in $[-1, 1]$.
# So the range of every column is read off the reader's rows; a column that
# holds whole numbers alone, as categories do, is only ever asked for whole
# numbers.


# %%
class Units:
    """Between the reader's rows (n, ...) and rows (n, d) in [-1, 1].

    whole: (d,) whether a column holds whole numbers alone.
    """

    def __init__(self, rows):
        flat = rows.reshape(len(rows), -1)
        self.shape, self.low = rows.shape[1:], flat.min(axis=0)
        self.span = np.ptp(flat, axis=0) + (np.ptp(flat, axis=0) == 0)
        self.whole = (flat % 1 == 0).all(axis=0)

    def into(self, rows):
        """Rows (n, d), the ends of every column at -1 and 1."""
        flat = rows.reshape(len(rows), -1)
        return 2 * (flat - self.low) / self.span - 1

    def back(self, x):
        """Rows as they are sent, (n, ...)."""
        flat = (x + 1) / 2 * self.span + self.low
        flat[:, self.whole] = flat[:, self.whole].round()
        return flat.reshape(-1, *self.shape)


# %% [markdown]
# ### Nothing is paid twice
#
# `Endpoint` of `mexutils.wire.target` sends no row beyond the budget, and
# writes down each answer under the digest of its row.
# Whoever asks the same row again, after an interruption too, gets the answer
# from the file.
# What is sent is entered before it goes out: a call of which nobody knows
# whether it was billed counts as billed.
# Eight rows of the wine model, asked twice:

# %%
api, wines, quality = wine_api(seed)
shop = wire.Endpoint(wire.Target(api.query, "wine"), ":memory:", budget=10)
for _ in range(2):
    shop.query(wines[:8])
    print(f"{shop.sent} rows sent, {api.ledger.queries} billed")

# %% [markdown]
# The folded cell holds the records that pass from step to step, each with the
# meaning of its fields.


# %% tags=["hide-input"]
class Facts(NamedTuple):
    """What the answers to the rows that judge reveal.

    kind: "probabilities", "top of the list" or "labels". decimals: None
    where the digits do not end. single: float32. steps: few answers come
    again and again. steady: a row gets the same answer twice. varied: not all
    answers are one.
    """

    kind: str
    classes: int
    decimals: int | None
    single: bool
    steps: bool
    steady: bool
    varied: bool
    bits: float


JUDGES, AGAIN, SMALLEST = 20, 5, 20
"""Rows to judge by at least, asked again, and of the smallest attack."""

CHANCE, BEARABLE = 1e-3, 0.05
"""How rarely a copy that is worth nothing may be called one; the share of the
labels that a defense may change to be named."""


@dataclass(frozen=True)
class Attack:
    """An attack of the book, as an audit tries it.

    chapter: where it comes from. run: thief, rows of the pool in [-1, 1], and
    seed, to a copy or None. least: d to the rows it needs. needs: names in
    `CONDITIONS`.
    """

    chapter: str
    run: Callable | None = None
    least: Callable = lambda d: SMALLEST
    needs: tuple = ("varied",)


class Judge(NamedTuple):
    """Rows (n, d) that no attack may ask, their answers, and what is true.

    own: shares (n, c) or places (n,). truth: places (n,) or None.
    """

    x: np.ndarray
    own: np.ndarray
    truth: np.ndarray | None = None


class Report(NamedTuple):
    """An audit: what it is about, what came of it, and five lines.

    thefts, seen, guards: lists of dictionaries. reasons, unreplayed: names to
    words. common: share of the commonest answer.
    """

    who: str
    facts: Facts
    judged: int
    common: float
    sent: int
    dollars: float
    thefts: list
    reasons: dict
    seen: list
    guards: list
    unreplayed: dict
    summary: tuple = ()

    @property
    def best(self):
        """The theft with the highest fidelity, the cheapest of equals."""
        cheap = sorted(self.thefts, key=itemgetter("queries"))
        return max(cheap, key=itemgetter("exact", "fidelity"), default=None)

    @property
    def gained(self):
        """Whether the best copy beats the commonest answer, chance apart."""
        if self.best is None:
            return False
        right = round(self.best["fidelity"] * self.judged)
        test = stats.binomtest(
            right, self.judged, self.common, alternative="greater"
        )
        return self.best["exact"] or test.pvalue < CHANCE


# %% [markdown]
# ### What the answers reveal
#
# From the rows that judge, and five of them that are asked again: are there
# probabilities, all of them, to how many decimals, in steps as those of a
# tree, and does a row get the same answer twice?
# The *bits* are what one answer can tell at most.


# %%
def inspect(answers, again, classes=0):
    """The `Facts` of shares (n, c) or places (n,).

    again: second answers to the first rows. classes: as far as known.
    """
    # The last bits, of float32 perhaps, differ with the rows beside a row.
    different = len(np.unique(np.round(answers, 9), axis=0))
    facts = {"steps": different <= len(answers) / 2, "varied": different > 1}
    facts["steady"] = np.allclose(answers[: len(again)], again, 0, 1e-6)
    if answers.ndim == 1:
        c = max(classes, int(answers.max()) + 1)
        return Facts("labels", c, None, False, bits=np.log2(c), **facts)
    single = np.array_equal(answers, answers.astype("f4"))
    ends = [k for k in range(13) if np.array_equal(answers, answers.round(k))]
    decimals, c = min(ends, default=None), answers.shape[1]
    cut = decimals is None and answers.sum(axis=1).min() < 1 - 1e-3
    kind = "top of the list" if cut else "probabilities"
    digit = np.log2(10) * decimals if ends else 24 if single else 53
    most = np.log2(different) if facts["steps"] else np.inf
    bits = float(min((c - 1) * digit, most))
    return Facts(kind, c, decimals, single, bits=bits, **facts)


# %% [markdown]
# ### Attacks that fit
#
# An attack of the book is a chapter, a run, the least rows that it needs, and
# *conditions*, each of which is a look at the facts and the words for where it
# fails.

# %% tags=["hide-input"]
CONDITIONS = {
    "varied": (
        lambda facts, units: facts.varied,
        "every row got the same answer",
    ),
    "whole answers": (
        lambda facts, units: facts.kind == "probabilities",
        "it reads all probabilities, and the answers hold less",
    ),
    "all digits": (
        lambda facts, units: facts.decimals is None and not facts.single,
        "it needs all digits of float64, and the answers have fewer",
    ),
    "steady": (
        lambda facts, units: facts.steady,
        "the same row is answered differently",
    ),
    "steps": (
        lambda facts, units: facts.steps,
        "the answers are too many for the leaves of a tree",
    ),
    "no steps": (
        lambda facts, units: not facts.steps,
        "the answers move in steps",
    ),
    "any numbers": (
        lambda facts, units: not units.whole.any(),
        "some columns hold whole numbers alone",
    ),
    "two classes": (
        lambda facts, units: facts.classes == 2,
        "it is for two classes",
    ),
    "few classes": (
        lambda facts, units: facts.classes <= CONTEST.MOST_CLASSES,
        "it is for ten classes at most",
    ),
    "pictures": (
        lambda facts, units: (
            units.shape == (1, 28, 28) and units.low.max() <= 1
        ),
        "it asks pictures of 1 x 28 x 28 from 0 to 1, and these are none",
    ),
    "training rows": (
        lambda facts, units: False,
        "it needs the training rows beside an exact copy",
    ),
    "times": (
        lambda facts, units: False,
        "it reads how long a quiet machine takes, and no answer",
    ),
}


def listed(lines):
    """Lines as a list that a page shows."""
    return Markdown("\n".join(f"- {line}" for line in lines))


def in_words(facts):
    """What the answers reveal."""
    digits = "all digits"
    if facts.single:
        digits = "float32"
    if facts.decimals is not None:
        digits = f"{facts.decimals} decimals"
    parts = [f"{facts.kind} of {facts.classes} classes"]
    parts += [digits] if facts.kind != "labels" else []
    parts += ["in steps"] if facts.steps and facts.kind != "labels" else []
    parts += [] if facts.steady else ["different when asked again"]
    return f"{', '.join(parts)}; {facts.bits:.0f} bits an answer at most"


def why_not(attack, facts, units):
    """Why an attack does not fit, in words, or ""."""
    for name in attack.needs:
        holds, words = CONDITIONS[name]
        if not holds(facts, units):
            return words
    return ""


# %% [markdown]
# A folded `Thief` stands between an attack and the endpoint: it holds the
# attack's share, asks in $[-1, 1]$, and remembers what was really asked.
#
# Equations come first: a softmax regression, or one-vs-rest, is solved from
# $2 (d + 1)$ rows and believed if it answers them all.


# %%
def equations(thief, pool, seed):
    """StealML's equations, of rows that are drawn uniformly."""
    d, rng = pool.shape[1], np.random.default_rng(seed)
    rows = thief.allowed(rng.uniform(-1, 1, (2 * (d + 1), d)))
    return solved(rows, thief.query(rows))


def solved(rows, heard):
    """The copy whose equations hold on rows and their answers, or None."""
    if heard.ndim == 1 or heard.min() <= 0:
        return None
    theta = STEALML.solve_softmax(CONTEST.Replay(heard), rows)
    copy = partial(STEALML.softmax_answers, theta)
    off = np.abs(copy(rows) - heard).max()
    if off >= 1e-6 and heard.shape[1] > 2 and theta.size < 300:
        theta = STEALML.fit_ovr(rows, CONTEST.normalised(heard), steps=50)
        copy = partial(STEALML.ovr_answers, theta)
        off = np.abs(copy(rows) - heard).max()
    return copy if off < 1e-6 else None


# %% [markdown]
# Where nothing can be solved, a copy is learnt: from the reader's other rows
# and as many that are made of them.


# %%
def learning(thief, pool, seed):
    """Rows of the pool, then some of them moved, and uniform ones."""
    few = pool[: thief.share // 2]
    known = CONTEST.Known(pool, None, pool[:0], None)
    made = CONTEST.own_rows(known, thief.share - len(few), seed)
    rows = np.vstack([few, made])
    thief.query(rows[np.random.default_rng(seed).permutation(len(rows))])


# %% [markdown]
# The others, in the words of their chapters, are folded away.


# %% tags=["hide-input"]
class Thief:
    """What an attack asks, in [-1, 1], within its share of the budget.

    `sent` and `heard` are rows (n, d), as they were really asked, and their
    answers; `ended` is "finished", or the words of what broke the attack off.
    """

    input_shape, classes, ended = None, None, "finished"

    def __init__(self, endpoint, units, share, returns="probabilities"):
        self.endpoint, self.units, self.share = endpoint, units, share
        self.returns, self.sent, self.heard = returns, [], []

    @property
    def remaining(self):
        """Rows that are left of the share."""
        return self.share - len(self.sent)

    def query(self, x):
        """The endpoint's answers to rows x (n, d), or their labels."""
        if len(x) > self.remaining:
            raise BudgetExceeded(
                f"{len(x)} rows, and {self.remaining} of the share are left"
            )
        rows = self.units.back(np.array(x, dtype=float))
        heard = self.endpoint.query(rows)
        self.sent.extend(self.units.into(rows))
        self.heard.extend(heard)
        return metrics.labels_of(heard) if self.returns == "label" else heard

    def allowed(self, x):
        """The rows x (n, d) as they can be asked."""
        return self.units.into(self.units.back(np.array(x, dtype=float)))


BOX = 0.02
"""The widest gap left around a threshold of a tree, of a range of 2."""


def paths(thief, pool, seed):
    """StealML's path finding, from rows of the pool."""
    ends = np.ones(pool.shape[1])
    named = LabelAndConfidence(thief.query)
    start = thief.allowed(pool[: max(1, thief.share // 10)])
    boxes = PATHS.tree_bottom_up(named, -ends, ends, BOX, start=start)
    heard = np.array(thief.heard)
    pairs = np.column_stack([heard.argmax(axis=1), heard.max(axis=1)])
    named = map(tuple, pairs.tolist())
    whole = dict(zip(named, heard, strict=True))
    told = np.array([whole[tuple(map(float, b.answer))] for b in boxes])
    order = np.argsort([-box.size() for box in boxes])

    def copy(x):
        x, answers = np.clip(x, -1, 1), np.tile(heard.mean(0), (len(x), 1))
        for i in order:
            answers[boxes[i].holds(x)] = told[i]
        return answers

    return copy


def network(thief, pool, seed):
    """A hidden layer of ReLU, bend by bend, inside the box."""
    ends = np.ones(pool.shape[1])
    theft = EXACT.steal_network(
        thief, len(ends), seed, box=(-ends, ends), lines=20
    )
    return theft.copy.predict_proba if theft.complete else None


def retraining(thief, pool, seed):
    """StealML's adaptive retraining; what was heard is learnt from anew."""
    learn = CONTEST.BYLABEL.linear_learner
    known = CONTEST.Known(pool, None, pool[:0], None, learn)
    CONTEST.retraining(thief, known, seed, thief.share)


# %% tags=["hide-input"]
def classifier(thief, pool, seed):
    """StealClassifier: a network and a threshold, from labels."""
    known = CONTEST.Known(pool, None, pool[:0], None)
    rows = thief.allowed(CONTEST.own_rows(known, thief.share, seed))
    thief.returns, net = "label", CLASSIFIER.DeepNet
    copy = CLASSIFIER.steal(thief, rows, thief.share, net, seed)
    return lambda x: np.eye(2)[copy.labels(x)]


class Pictures:
    """A thief as the attacks on pictures ask it."""

    def __init__(self, thief):
        self.thief, self.returns = thief, thief.returns

    @property
    def remaining(self):
        """Rows that are left of the share."""
        return self.thief.remaining

    def query(self, x):
        """The answers to pictures x (n, 1, 28, 28)."""
        return self.thief.query(self.thief.units.into(x.astype(float)))

    def copy(self, seed):
        """What a network makes of all that was heard."""
        back = self.thief.units.back
        told = metrics.as_probabilities(np.array(self.thief.heard), 10)
        sent = back(np.array(self.thief.sent)).astype("f4")
        labels = CONTEST.learn_pictures(sent, CONTEST.normalised(told), seed)
        return lambda x: np.eye(10)[labels(back(x).astype("f4"))]


def pictured(ask, thief, pool, seed):
    """An attack of the contestants on pictures, some of them natural."""
    shop, letters = Pictures(thief), datasets.letters(4000, seed)
    natural = thief.units.back(pool[: min(100, thief.share // 2)])
    parts = letters.x, letters.y, natural.astype("f4"), None
    ask(shop, CONTEST.Known(*parts), seed, thief.share)
    return shop.copy(seed)


WHOLE = ("varied", "steady", "whole answers")
PICTURES = ("varied", "pictures", "few classes")
# In the order in which they are tried.
ATTACKS = {
    "equation solving": Attack(
        "attacks/stealml",
        equations,
        lambda d: 2 * (d + 1),
        (*WHOLE, "no steps"),
    ),
    "path finding": Attack(
        "attacks/stealml_trees", paths, lambda d: 10 * d, (*WHOLE, "steps")
    ),
    "exact network": Attack(
        "frontier/exact_copies",
        network,
        lambda d: 4 * d + 60,
        (*WHOLE, "all digits", "no steps", "any numbers"),
    ),
    "learning from rows": Attack("comparison/contestants", learning),
    "adaptive retraining": Attack(
        "attacks/stealml_labels",
        retraining,
        lambda d: 50,
    ),
    "StealClassifier": Attack(
        "attacks/steal_classifier",
        classifier,
        lambda d: 50,
        ("varied", "two classes"),
    ),
    "KnockoffNets": Attack(
        "attacks/knockoff_nets",
        partial(pictured, CONTEST.natural_letters),
        lambda d: 100,
        PICTURES,
    ),
    "PRADA's attack": Attack(
        "attacks/prada_attack",
        partial(pictured, CONTEST.prada_attack),
        lambda d: 200,
        PICTURES,
    ),
    "hyperparameters": Attack(
        "attacks/steal_hyperparameters", needs=("training rows",)
    ),
    "architecture": Attack("attacks/steal_nn", needs=("times",)),
}


# %% [markdown]
# What the wine model's answers reveal, and which attacks fit, if they were
# sold whole, rounded, or as labels:

# %%
wide, true = Units(wines), api.query(wines)
for told in (true, true.round(2), true.argmax(axis=1)):
    facts = inspect(told, told[:5])
    fits = [n for n, a in ATTACKS.items() if not why_not(a, facts, wide)]
    print(f"{in_words(facts)}: {', '.join(fits)}")

# %% [markdown]
# ### One theft
#
# What is learnt is learnt in three ways, by a softmax regression, by trees and
# by a kernel; the way that does best on a fifth of the answers makes the copy.


# %%
def by_softmax(x, p, seed):
    """A softmax regression."""
    theta = STEALML.fit_scores(x, p, steps=300)
    return partial(STEALML.softmax_answers, theta)


def by_trees(x, p, seed):
    """Randomised trees."""
    trees = ExtraTreesRegressor(30, random_state=seed)
    return trees.fit(x, p).predict


def by_kernel(x, p, seed, most=3000):
    """Ridge regression of the logarithms, with a Gaussian kernel."""
    width = max(x.shape[1] * x.var(), 1e-9)
    ridge = KernelRidge(kernel="rbf", gamma=1 / width, alpha=1e-3)
    ridge.fit(x[:most], np.log(np.clip(p[:most], 1e-3, 1)))
    return ridge.predict


# %% [markdown]
# A copy maps rows to scores (n, c), of which the largest is its label:


# %%
def shares_of(answers, classes):
    """Answers of any kind as (n, classes or more) shares that sum to 1."""
    if np.ndim(answers) == 1:
        classes = max(classes, int(np.max(answers)) + 1)
    told = metrics.as_probabilities(answers, classes)
    return CONTEST.normalised(np.maximum(told, 0))


def learnt(x, answers, classes, seed):
    """The best copy of rows (n, d) and their answers, from rows to scores."""
    p = shares_of(answers, classes)
    order = np.random.default_rng(seed).permutation(len(x))
    held, rest = np.split(order, [len(x) // 5])

    def right(learn):
        copy = learn(x[rest], p[rest], seed)
        return metrics.fidelity(copy(x[held]), p[held])

    best = max((by_softmax, by_trees, by_kernel), key=right)
    return best(x, p, seed)


copy = learnt(wide.into(wines[:200]), true[:200], 6, seed)
metrics.fidelity(copy(wide.into(wines[200:])), true[200:])


# %% [markdown]
# A copy is judged on the rows that no attack may ask.
# It is *exact* where it gives them all the endpoint's own answers: to
# $10^{-6}$, or, where those are rounded, to half a unit of the last digit.


# %%
def judged(copy, judge, decimals=None):
    """Fidelity with its interval, accuracy, and whether it is exact.

    copy: rows (n, d) to scores (n, c). decimals: of the answers, or None.
    """
    scores, own = copy(judge.x), judge.own
    same = scores.argmax(axis=1) == metrics.labels_of(own)
    share = proportion_interval(int(same.sum()), len(same))
    names = ("fidelity", "low", "high")
    row = dict(zip(names, map(float, share), strict=True))
    if judge.truth is not None:
        row["accuracy"] = metrics.accuracy(scores, judge.truth)
    row["exact"] = bool(same.all())
    if own.ndim == 2 and scores.shape == own.shape:
        room = 1e-6 if decimals is None else 0.5 * 10.0**-decimals + 1e-9
        row["exact"] = bool(np.abs(scores - own).max() <= room)
    return row


# %% [markdown]
# A theft is one attack at its share; what was learnt is judged at a quarter
# and at half of its answers as well.


# %%
def theft(name, thief, pool, judge, facts, seed):
    """What one attack got, as a list of dictionaries."""
    start, copy, ended, rows = time.perf_counter(), None, "finished", []
    try:
        copy = ATTACKS[name].run(thief, pool, seed)
    except (RemoteError, wire.UnreadableAnswer):
        raise
    except (ValueError, RuntimeError) as error:
        ended = str(error)
    thief.ended, n, c = ended, len(thief.sent), facts.classes
    points = [n] if copy else [n // 4, n // 2, n]
    x, heard = np.array(thief.sent), np.array(thief.heard)
    for m in points if copy or n >= SMALLEST else []:
        best = copy or learnt(x[:m], heard[:m], c, seed)
        row = {"attack": name, "queries": m, "ended": ended}
        row["copy"] = "learnt" if copy is None else "solved"
        row |= judged(best, judge, facts.decimals)
        rows.append(row | {"seconds": time.perf_counter() - start})
    return rows


# %% [markdown]
# On the wine model, whose equations need 24 rows:

# %%
shop = wire.Endpoint(wire.Target(api.query, "wine"), ":memory:", budget=500)
judge = Judge(wide.into(wines[:100]), shop.query(wines[:100]))
facts = inspect(judge.own, judge.own[:5])
thief = Thief(shop, wide, 100)
theft("equation solving", thief, judge.x, judge, facts, seed)[-1]

# %% [markdown]
# The shares of the budget, attack by attack:


# %%
def thefts(endpoint, units, pool, judge, facts, left, seed):
    """All thefts as rows, the thieves, and why the others did not run.

    left: rows that all of them may ask together.
    """
    reasons = {n: why_not(a, facts, units) for n, a in ATTACKS.items()}
    todo = [name for name, reason in reasons.items() if not reason]
    rows, thieves = [], {}
    while todo:
        name, share = todo.pop(0), left // (1 + len(todo))
        least = ATTACKS[name].least(pool.shape[1])
        if share < least:
            reasons[name] = f"it needs {least:,} rows, its share is {share:,}"
        elif name == "exact network" and any(r["exact"] for r in rows):
            reasons[name] = "an exact copy is there already"
        else:
            thief = Thief(endpoint, units, share)
            thieves[name] = thief
            more = theft(name, thief, pool, judge, facts, seed)
            if not more:
                n = len(thief.sent)
                reasons[name] = f"{n} rows solve nothing, and teach too little"
                if thief.ended != "finished":
                    reasons[name] += f": {thief.ended}"
            rows, left = rows + more, left - len(thief.sent)
    return rows, thieves, {n: why for n, why in reasons.items() if why}


# %% [markdown]
# What the report at the top got, attack by attack:

# %%
columns = ["attack", "copy", "queries", "dollars", "seconds"]
columns += ["fidelity", "low", "high", "exact"]
plotting.table(
    pd.DataFrame(report.thefts, columns=columns),
    {"fidelity": "{:.1%}", "low": "{:.1%}", "high": "{:.1%}"}
    | {"dollars": "{:.3f}", "seconds": "{:.1f}"},
)

# %% [markdown]
# And why the others were not tried:

# %%
plotting.table(list(report.reasons.items()), columns=["attack", "why not"])

# %% [markdown]
# ### What monitors would have seen
#
# Everything that was asked is kept, so that it can be sent once more, to a
# gateway that sells the kept answers and watches.
# It speaks HTTP as the endpoint does, and costs nothing.


# %%
class Kept:
    """The kept answers as a victim: it knows the rows that were asked."""

    def __init__(self, x, answers, classes):
        told = shares_of(answers, classes)
        self.known = {wire.digest(r): p for r, p in zip(x, told, strict=True)}

    def predict_proba(self, x):
        """Probabilities (n, c) of rows (n, d); `KeyError` for new ones."""
        return np.stack([self.known[wire.digest(row)] for row in x])


# %% [markdown]
# The gateway, and what it makes of two answers when it rounds:


# %%
def through_gateway(predict, settings, streams, size=10):
    """Answers and alarms of clients at a gateway, by their names.

    settings: of the API. streams: client to rows (n, d), sent in calls of
    `size`.
    """
    api = PredictionAPI(predict, **settings, price_per_1000=0)
    answers = {}
    with serve(api, {name: name for name in streams}) as url:
        for name, x in streams.items():
            shop = RemoteAPI(url, key=name)
            parts = np.array_split(x, -(-len(x) // size))
            answers[name] = np.concatenate([shop.query(r) for r in parts])
            shop.close()
    return answers, api.alarms


kept = Kept(wide.into(wines[:20]), true[:20], 6)
two = {"customer": wide.into(wines[:2])}
through_gateway(kept.predict_proba, {"decimals": 1}, two)[0]["customer"]

# %% [markdown]
# Of the book's monitors [PRADA](../defenses/prada_detection.ipynb)'s needs
# nothing but queries and labels; the others read the leaves of a tree, or the
# checkpoints of a training, which only the owner has.
# Its chapter has an attacker who knows the monitor and chooses steps for it,
# so that what follows is about the attacks as they are.
# It is set as the contestants set it, at one false alarm in twenty streams of
# honest rows, here random halves of the rows that judge.


# %%
def prada_limit(x, labels, seed, streams=40):
    """The suspicion, 0 to 1, that one honest stream in twenty passes.

    x: (n, d) honest rows, their labels (n,). None where they are too few for
    a test.
    """
    rng, seen = np.random.default_rng(seed), []
    for _ in range(streams):
        part = rng.permutation(len(x))[: max(len(x) // 2, 130)]
        tests = DETECT.Stream().add(x[part], labels[part])
        seen += [max(1 - w for _, w in tests)] if tests else []
    if len(seen) < streams:
        return None
    level = 1 - CONTEST.FALSE_ALARMS
    return float(np.quantile(seen, level, method="higher"))


# %% [markdown]
# Then every stream is sent past the monitor, under a name of its own.


# %%
def watched(kept, judge, thieves, seed):
    """When PRADA's monitor would have told of each attack, as rows."""
    labels = metrics.labels_of(judge.own)
    limit = prada_limit(judge.x, labels, seed)
    if limit is None:
        words = f"{len(labels)} rows judge, too few to set it: more budget="
        return [{"stream": "none", "alarm": words}]
    streams = {"honest rows": judge.x}
    streams |= {n: np.array(t.sent) for n, t in thieves.items() if t.sent}
    how = {"monitors": [CONTEST.prada(None, min(max(limit, 1e-3), 0.999))]}
    sent = {f"client-{i}": x for i, x in enumerate(streams.values())}
    _, alarms = through_gateway(kept.predict_proba, how, sent)
    rows = []
    for name, client in zip(streams, sent, strict=True):
        alarm = alarms.get(client)
        words = f"at query {alarm.query}" if alarm else "no alarm"
        n = len(streams[name])
        rows.append({"stream": name, "queries": n, "alarm": words})
    return rows


# %% [markdown]
# In the report at the top:

# %%
plotting.table(report.seen)

# %% [markdown]
# ### Defenses, replayed
#
# The gateway sells the kept answers once more, behind each defense at the
# distance of the contestants, to the thief who learnt from rows, to the one
# who solves, and to an honest customer.
# A thief mistrusts what it hears in every way that the contestants know and
# that asks nothing new; the one that gets most counts.


# %%
def heard_by(guard, make, rows, answers, classes, seed):
    """The copy of each reading of defended answers, by its name."""
    copies = {}
    for name, how in CONTEST.READINGS.items():
        facets = [CONTEST.FACETS[f](guard) for f in how.get("only_if", ())]
        if all(facets) and "times" not in how:
            read = how.get("read", CONTEST.as_they_are)
            read = read(partial(make, seed=seed + 1000), seed, guard.inverse)
            told = read(answers)
            copies[name or "as told"] = learnt(rows, told, classes, seed)
    return copies


# %% [markdown]
# What an honest customer notices: labels that change, distance, accuracy.


# %%
def price_of(told, judge, kept):
    """What an honest customer notices: labels, distance, accuracy."""
    true = kept.predict_proba(judge.x)
    labels, own = metrics.labels_of(told), true.argmax(axis=1)
    far = np.abs(shares_of(told, true.shape[1]) - true).sum(axis=1).mean()
    row = {"labels changed": np.mean(labels != own), "L1 moved": far}
    if judge.truth is not None:
        right = np.mean(own == judge.truth) - np.mean(labels == judge.truth)
        row["accuracy lost"] = right
    return row


# %% [markdown]
# One defense, replayed:


# %%
def replayed(name, kept, judge, streams, classes, seed):
    """What a defense costs and leaves: one row of the report.

    streams: "thief" and, if there was one, "solver" to rows (n, d).
    """
    guard = CONTEST.GUARDS[name]
    make = partial(guard.make, owner_of(kept, judge))
    sent = streams | {"customer": judge.x}
    how = kept.predict_proba, make(seed=seed), sent
    told, _ = through_gateway(*how, size=100)
    heard = streams["thief"], told["thief"]
    copies = heard_by(guard, make, *heard, classes, seed)
    if "solver" in streams:
        copies["solved"] = solved(streams["solver"], told["solver"])
    scores = {n: judged(c, judge) for n, c in copies.items() if c is not None}
    best = max(scores, key=lambda n: scores[n]["fidelity"])
    keys = ("fidelity", "low", "high")
    row = {"defense": name, "read": best} | {k: scores[best][k] for k in keys}
    return row | price_of(told["customer"], judge, kept)


# %% [markdown]
# Which defenses can be replayed follows from their facets; the others have a
# reason, which the page of the audit names.
# In the report at the top:

# %%
plotting.table(
    pd.DataFrame(report.guards).drop(columns=["low", "high"], errors="ignore"),
    dict.fromkeys(("fidelity", "labels changed", "accuracy lost"), "{:.1%}")
    | {"L1 moved": "{:.2f}"},
)

# %% [markdown]
# ### Five lines
#
# The summary is computed from the rest; nothing in it is a fixed sentence
# about an outcome.


# %%
def summary(report):
    """Five lines in plain words."""
    return (
        f"Answers of {report.who}: {in_words(report.facts)}.",
        f"Attacks: {tried_in_words(report)}.",
        f"Copy: {copy_in_words(report)}.",
        f"Monitor: {seen_in_words(report)}.",
        f"Defense: {guards_in_words(report)}.",
    )


# %% [markdown]
# The words, the files that a report leaves, and the owner of the kept answers
# for whom a defense is set, are folded away.


# %% tags=["hide-input"]
def owner_of(kept, judge):
    """The owner of the kept answers, as the contestants set defenses for."""
    own, held = metrics.labels_of(judge.own), judge.x[: len(judge.x) // 2]
    rows = judge.x, held, judge.x, judge.x
    return CONTEST.Owner(
        kept.predict_proba, None, *rows, judge.truth, own, None
    )


def tried_in_words(report):
    """How many attacks were tried, and the bill."""
    tried = {row["attack"] for row in report.thefts}
    return (
        f"{len(tried)} of the {len(ATTACKS)} of the book fit and were tried; "
        f"{report.sent:,} rows were sent in all, ${report.dollars:.2f}"
    )


def copy_in_words(report):
    """The best copy, or that there is none."""
    best = report.best
    if best is None:
        return "no attack of the book fits this model within the budget"
    words = (
        f"the best, by {best['attack']}, answers {best['fidelity']:.1%} "
        f"[{best['low']:.1%}, {best['high']:.1%}] of {report.judged} rows as "
        f"the model does, for {best['queries']:,} rows, "
        f"${best['dollars']:.2f}"
    )
    if not report.gained:
        return (
            f"no attack got more than the commonest answer, "
            f"{report.common:.1%}; {words}"
        )
    return words + ("; it is exact there" if best["exact"] else "")


def seen_in_words(report):
    """What PRADA's monitor would have seen."""
    if report.seen[0]["stream"] == "none":
        return report.seen[0]["alarm"]
    honest, *others = report.seen
    told = [r["stream"] for r in others if r["alarm"] != "no alarm"]
    words = f"PRADA's would have told of {len(told)} of {len(others)} attacks"
    words += f" ({', '.join(told)})" if told else ""
    return f"{words}; on honest rows: {honest['alarm']}"


def guards_in_words(report):
    """The replayed defense that leaves least, of those that can be borne."""
    none = [r for r in report.guards if r["defense"] == "none"]
    others = [r for r in report.guards if r["labels changed"] <= BEARABLE]
    others = [r for r in others if r["defense"] != "none"]
    if not others:
        why = ", ".join(sorted({*report.unreplayed.values()}))
        return f"none to be named: {why or 'all change too many labels'}"
    least = min(others, key=itemgetter("fidelity"))
    return (
        f"of those that change {BEARABLE:.0%} of the labels at most, "
        f"{least['defense']} leaves least, {least['fidelity']:.1%} in place "
        f"of {none[0]['fidelity']:.1%}; it changes "
        f"{least['labels changed']:.1%}"
    )


def write(report, folder):
    """`summary.txt`, `audit.csv` and the page `audit.html`."""
    folder = Path(folder)
    (folder / "summary.txt").write_text("\n".join(report.summary) + "\n")
    parts = {
        "thefts": pd.DataFrame(report.thefts),
        "attacks not tried": _pairs("attack", report.reasons),
        "monitors": pd.DataFrame(report.seen),
        "defenses": pd.DataFrame(report.guards),
        "defenses not replayed": _pairs("defense", report.unreplayed),
    }
    table = pd.concat(parts, names=["part"]).reset_index("part")
    table.to_csv(folder / "audit.csv", index=False)
    page = ["<meta charset='utf-8'><title>Audit</title><h1>Audit</h1><ol>"]
    page += [f"<li>{html.escape(line)}</li>" for line in report.summary]
    page += ["</ol>"]
    for name, frame in parts.items():
        page += [f"<h2>{name.capitalize()}</h2>"]
        page += [frame.to_html(index=False, float_format="{:.3f}".format)]
    (folder / "audit.html").write_text("\n".join(page))


def _pairs(what, reasons):
    return pd.DataFrame(list(reasons.items()), columns=[what, "why not"])


# %% [markdown]
# ### The audit
#
# What can be refused is refused first; the order of the rest is that of this
# page.


# %%
def audited(endpoint, x, y, price, seed):
    """The `Report` on an endpoint, from rows (n, ...) and labels or None."""
    order = np.random.default_rng(seed).permutation(len(x))
    budget = endpoint.budget
    n = min(len(x) // 2, max(JUDGES, budget // 4), 500)
    ours, units = x[order[:n]], Units(x)
    wire.try_by_name(endpoint, ours[:1])
    first = endpoint.query(ours[:1])
    truth = wire.true_places(endpoint, first, y)
    own, again = endpoint.query(ours), endpoint.query(ours[:AGAIN], turn=1)
    endpoint.flat = own.ndim == 1
    if own.ndim > first.ndim:  # the first share was 0 or 1
        truth = wire.true_places(endpoint, own, y)
    truth = truth if truth is None else truth[order[:n]]
    judge = Judge(units.into(ours), own, truth)
    facts = inspect(own, again, len(endpoint.classes))
    pool, left = units.into(x[order[n:]]), budget - n - AGAIN
    how = pool, judge, facts, left, seed
    rows, thieves, reasons = thefts(endpoint, units, *how)
    for row in rows:
        row["dollars"] = price * row["queries"] / 1000
    told = [(t.sent, t.heard) for t in thieves.values() if t.sent]
    kept = Kept(
        np.concatenate([judge.x, *(sent for sent, _ in told)]),
        np.concatenate([own, *(heard for _, heard in told)]),
        facts.classes,
    )
    _, counts = np.unique(metrics.labels_of(own), return_counts=True)
    report = Report(
        *(endpoint.target.who, facts, n, counts.max() / n, endpoint.sent),
        *(price * endpoint.sent / 1000, rows, reasons),
        watched(kept, judge, thieves, seed),
        *replays(kept, judge, facts, thieves, seed),
    )
    return report._replace(summary=summary(report))


# %% [markdown]
# A server that answers labels is asked for probabilities by name as well, for
# some give them to whoever asks.
# The folded cell holds the door: the owner's word, the budget, the files, and
# the defenses that cannot be replayed.


# %% tags=["hide-input"]
def replays(kept, judge, facts, thieves, seed):
    """Rows of the defenses that can be replayed, and why others cannot."""
    rows, reasons = [], {}
    asked = {"thief": "learning from rows", "solver": "equation solving"}
    streams = {
        key: np.array(thieves[name].sent)
        for key, name in asked.items()
        if name in thieves and len(thieves[name].sent) >= SMALLEST
    }
    for name, guard in CONTEST.GUARDS.items():
        if guard.watches:
            reasons[name] = "it watches, and changes no answer"
        elif "thief" not in streams:
            reasons[name] = "nothing was learnt from rows"
        elif guard.zone:
            reasons[name] = "it asks the model about rows near the client's"
        elif guard.estranged:
            reasons[name] = "it trains on the owner's network and data"
        elif facts.kind == "labels" and name != "none":
            reasons[name] = "the answers are labels already"
        else:
            parts = kept, judge, streams, facts.classes, seed
            rows.append(replayed(name, *parts))
    return rows, reasons


AGREED = "yes", "true", "1"
"""What counts as the owner's word."""


def audit(
    *,
    url="",
    model="model",
    key="",
    output="",
    predict="",
    rows="",
    labels="",
    classes="",
    budget=1000,
    price=1.50,
    owned="",
    folder="",
    timeout=30.0,
    seed=0,
):
    """Audit an endpoint: the `Report`, which is also written to the folder.

    The parameters are those of the page. Answers that were paid for are kept
    in the folder and used again. Raises, before anything is paid, for a
    missing word of the owner, a file or column that is not there, rows of
    another shape, labels that are no classes, a budget that is too small, and
    an endpoint that cannot be reached or does not know the key.
    """
    if url and predict:
        raise ValueError("give url= or predict=, not both")
    theirs = bool(url or predict)
    if theirs and str(owned).lower() not in AGREED:
        raise ValueError(
            "an audit steals a model, which only its owner may: say owned=yes "
            f"if {url or predict} is yours; nothing was sent"
        )
    if rows and not theirs:
        raise ValueError("rows= are for an endpoint: give url= or predict=")
    least = JUDGES + AGAIN + SMALLEST
    if not checks.is_finite(budget) or budget < least or budget % 1:
        raise ValueError(
            f"budget={budget} is less than any attack needs: {JUDGES} rows "
            f"judge, {AGAIN} are asked twice and the smallest attack takes "
            f"{SMALLEST}, so give {least} or more; nothing was sent"
        )
    price = checks.share("price", price, 0, 1e6)
    seed = checks.whole("seed", seed, least=0)
    x, y = wire.read_rows(rows, labels) if theirs else wine_api(seed)[1:]
    how = model, key, output, predict, timeout, seed
    with connected(url, *how) as target:
        if classes:
            names = classes.split(",") if isinstance(classes, str) else classes
            target = target._replace(classes=list(names))
        x = wire.fits_shape(x, target.shape, f"rows={rows}")
        y = wire.places_of(y, target.classes) if target.classes else y
        folder = Path(folder or ".")
        folder.mkdir(parents=True, exist_ok=True)
        endpoint = wire.Endpoint(target, folder / "answers.db", int(budget))
        with closing(endpoint.db):
            report = audited(endpoint, x, y, price, seed)
    write(report, folder)
    return report


# %% [markdown]
# ## Does it work?
#
# The figure shows every copy of the report at the top, against what it cost;
# the line marks who always gives the commonest answer.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Fidelity of every copy of the audit against the rows that were asked for it, with 95 % intervals over the rows that judge; dashed, the commonest answer."}, "image": {"alt": "Fidelity in percent against the number of queries on a logarithmic axis, a line with intervals for each attack and a dashed line for the commonest answer"}}
fig, ax = plt.subplots()
for name in dict.fromkeys(row["attack"] for row in report.thefts):
    own = [row for row in report.thefts if row["attack"] == name]
    at, mid, low, high = (
        np.array([row[k] for row in own])
        for k in ("queries", "fidelity", "low", "high")
    )
    ends = 100 * np.maximum([mid - low, high - mid], 0)
    ax.errorbar(at, 100 * mid, yerr=ends, capsize=3, label=name)
ax.axhline(100 * report.common, color="grey", linestyle="--", linewidth=1)
ax.set(xlabel="queries", ylabel="fidelity (%)", xscale="log")
at = sorted({row["queries"] for row in report.thefts})
ax.set_xticks(at, at, rotation=45)
ax.minorticks_off()
if report.thefts:
    ax.legend()
plt.show()

# %% [markdown]
# What the replayed defenses leave of it, beside what an honest customer
# notices:

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Fidelity of the best replayed theft behind each defense, with 95 % intervals over the rows that judge; in brackets the share of labels that the defense changes."}, "image": {"alt": "A row for each defense, with a point and an interval on an axis of fidelity in percent."}}
fig, ax = plt.subplots()
names = []
for line, row in enumerate(report.guards):
    mid = 100 * row["fidelity"]
    ends = [[mid - 100 * row["low"]], [100 * row["high"] - mid]]
    ends = np.maximum(ends, 0)
    ax.errorbar(mid, line, xerr=ends, fmt="o", capsize=3, color="C0")
    names.append(f"{row['defense']} ({row['labels changed']:.0%})")
ax.set_yticks(range(len(names)), names)
ax.set(xlabel="fidelity (%)")
ax.invert_yaxis()
plt.show()

# %% [markdown]
# ### Going on after an interruption
#
# The same audit again, with the answers that are in its folder: nothing is
# sent a second time.

# %%
again = chapter.audit(**asked, folder=place)
same = again.summary == report.summary
print(f"{again.sent - report.sent} rows more were sent; same words: {same}")

# %% [markdown]
# ## How it breaks
#
# What an audit does not find is no promise.
# It tries the attacks of this book once each, at a share of a budget; a thief
# with more rows, or rows closer to the owner's, gets more.
# Its own rows bound what it can see: outside of the ranges of their columns
# nothing is asked.
#
# A model that no attack fits gets a page that says so, and so does one from
# which no attack gets anything.
# The first of these two always gives one answer, the second a label that is
# as good as random:


# %%
def one_answer(x):
    """The same two shares for every row."""
    return np.tile([0.25, 0.75], (len(x), 1))


def chance(x):
    """A label that depends on every digit of a row."""
    return np.array([int(wire.digest(row)[:8], 16) % 2 for row in x])


def in_memory(ask, x, y=None, budget=300, seed=0):
    """The report on a function, kept nowhere."""
    shop = wire.Endpoint(wire.Target(ask, ask.__name__), ":memory:", budget)
    return audited(shop, x, y, 1.50, seed)


# %% [markdown]
# What the two pages say of copies:

# %%
refused = [in_memory(f, wines, seed=seed) for f in (one_answer, chance)]
listed(found.summary[2] for found in refused)

# %% [markdown]
# Three limits are by design.
# Replaying knows the rows that were asked, so that defenses which ask the
# model about other rows, and thefts which would have asked others, are left
# out and named.
# The copies of a label-only model are compared by labels, so that *exact*
# means no difference on the rows that judge.
# And a server that blocks or bills by its own rules does so to an audit, too:
# set its budget above that of the audit.
#
# ## The bill

# %%
pd.Series(
    {
        "rows that judged": report.judged,
        "rows sent": report.sent,
        "budget": budget,
        "dollars": report.dollars,
    }
)

# %% [markdown]
# ## Paper and this run
#
# No paper is repeated here.
# What is claimed of any endpoint is what an audit promises; of the wine model
# also what it must find.

# %% tags=["hide-input"]
claims.add("rows sent beyond the budget", report.sent - budget, high=0)
claims.add("rows sent again", again.sent - report.sent, low=0, high=0)
claims.add(
    "a random model: fidelity less the commonest answer (points)",
    100 * (refused[1].best["fidelity"] - refused[1].common),
    high=35,
)
claims.add(
    "attacks that fit a model of one answer",
    len(refused[0].thefts),
    low=0,
    high=0,
)
if not (url or predict):
    exact = [r for r in report.thefts if r["attack"] == "equation solving"]
    claims.add("equations: queries", exact[0]["queries"], low=24, high=24)
    claims.add("equations: exact", exact[0]["exact"], low=1)
    told = {row["defense"]: row for row in report.guards}
    claims.add(
        "fidelity of the best replayed theft, no defense (%)",
        100 * told["none"]["fidelity"],
        low=100,
    )
    claims.add(
        "labels changed where labels alone are sold (%)",
        100 * told["labels only"]["labels changed"],
        high=0,
    )
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise (short)
# :class: attention
# The owner of the wine model rounds to two decimals.
# What does the audit report now?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
coarse = PredictionAPI(api.query, decimals=2)
found = in_memory(coarse.query, wines, quality - 3, 300, seed)
listed(found.summary)

# %% [markdown]
# ## Recap
#
# - The answers to a few rows tell which attacks fit; the conditions are a
#   table.
# - A quarter of the budget judges, the rest is split evenly.
# - Every answer is kept: monitors and defenses are measured by replaying
#   through the gateway, for nothing.
# - Outcomes are measured on the rows that judge; a defense counts by the best
#   theft behind it and by what an honest customer notices.
#
# ## References
#
# - {cite:t}`gong2020survey` lists the attacks and defenses that are tried.
# - {cite:t}`tramer2016stealing` steals models behind services that their
#   owners thought of as black boxes.
# - {cite:t}`juuti2019prada` watches the distances between queries.
