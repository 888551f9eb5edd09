# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The private head on a public encoder
#
# Many large classifiers are a public network with a small layer of the
# owner's on top.
# The public part is no secret, so what is to be stolen is as small as the
# layer, however large the network is.
# This chapter steals such heads with the equations of StealML, from ordinary
# pictures, and finds out what fine-tuning, rounding, labels and perturbations
# leave of that, and what a monitor sees.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - steal a head exactly, with one query for each feature and one more;
# - choose the rows before anything is paid, and examine the copy on others;
# - follow the attack as the owner trains the body too, rounds, or sells
#   labels;
# - look at the attacker with the eyes of three monitors.
#
# <!-- minutes -->
# Read [StealML](../attacks/stealml.ipynb) first, whose solvers are used here,
# and [PRADA's detector](../defenses/prada_detection.ipynb) for the monitors.
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import copy
import warnings
from functools import partial
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.linalg import qr
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from mexutils import (
    Accounts,
    Claims,
    Ledger,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    models,
    plotting,
    training,
    victims,
)
from mexutils.clients import affordable
from mexutils.notebook import Markdown, progress
from mexutils.runs import column, interval, proportion_interval

STEALML = load_chapter("attacks/stealml")
BYLABEL = load_chapter("attacks/stealml_labels")
SIGMOID = load_chapter("defenses/deceptive_perturbations")
POISON = load_chapter("defenses/prediction_poisoning")
DETECT = load_chapter("defenses/prada_detection")
plotting.use_style()
claims = Claims()
warnings.simplefilter("ignore", ConvergenceWarning)  # owners who stop early

# %% [markdown]
# ## At a glance
#
# The encoder is a LeNet that was trained on letters and then published.
# An owner puts a head for digits on it and sells the answers; the attacker has
# 500 digits without labels.

# %%
chapter = load_chapter("frontier/private_head")
mnist, encoder = datasets.mnist(), victims.letters_encoder()
model = chapter.trained_head(encoder.features, mnist.train, 0, n=1000)
api = PredictionAPI(model.predict_proba, input_shape=(1, 28, 28))
theft = chapter.steal_head(api, encoder.features, mnist.test.x[:500])
exam = mnist.test.x[8500:]
answers, phi = model.predict_proba(exam), encoder.features(exam)
copied = theft.predict_proba(phi)
print(f"{theft.solved} queries solved, {api.ledger.queries} paid")
print(f"fidelity {metrics.fidelity(copied, answers):.4f}", end=", ")
print(f"total variation {metrics.total_variation(copied, answers):.0e}")

# %% [markdown]
# The knobs of this page.

# %% tags=["parameters"]
seed = 0
n_owners = 8
n_streams = 40  # clients of each kind
fashion = False  # True needs the one download of Fashion-MNIST
price_per_1000 = 1.50

# %% [markdown]
# ## The question
#
# | | the attacker … |
# |---|---|
# | sees | $c$ probabilities; later rounded ones, or a label |
# | knows | which public encoder the owner took |
# | has | pictures of the owner's kind, without labels |
# | does not know | the head, the owner's data and classes |
# | pays | for every row |
# | wants | the owner's function, everywhere |
#
# {cite:t}`gong2020survey` ask whether attacks reach larger models.
# {cite:t}`zanella2021grey` answer for classifiers of text: with a public
# encoder that was left as it was, ordinary inputs suffice, about twice as many
# as the last layer has inputs, and fine-tuning the encoder weakens the attack.
#
# ## The idea
#
# Let $\varphi$ be the encoder, $d$ numbers for a picture.
# The victim is a softmax regression on them,
#
# $$
# f(x) = \operatorname{softmax}(W \varphi(x) + \beta), \qquad
# \ln \frac{p_k}{p_0} = (w_k - w_0) \cdot \varphi(x) + \beta_k - \beta_0 ,
# $$
#
# and the attacker can compute $\varphi(x)$ itself.
# So each answer is $c - 1$ linear equations, as in StealML, and $d + 1$
# answers are enough: 129 here, whatever the encoder costs to train or to run.
#
# One thing is new.
# StealML draws rows that are independent; here the rows are what the encoder
# makes of pictures, and some features are rarely above zero, or never.
# But features cost nothing: **the attacker looks at them before it pays.**

# %% [markdown]
# ## From scratch
#
# ### Owners
#
# An owner trains its head on features of its digits and leaves the body alone.
# Owners differ in their digits and in the strength of their regularisation.


# %%
class Head:
    """A softmax regression on features, sold as a classifier of pictures.

    encoder: rows (n, ...) to features (n, d). theta: (c, d + 1).
    """

    def __init__(self, encoder, theta):
        self.encoder, self.theta = encoder, np.asarray(theta, float)

    def predict_proba(self, x):
        """Probabilities (n, c) of the pictures x (n, ...)."""
        return STEALML.softmax_answers(self.theta, self.encoder(x))


# %% [markdown]
# Its training, with scikit-learn:


# %%
def trained_head(encoder, sample, seed, n=3000):
    """An owner's `Head`, trained on n rows of a sample of rows and labels."""
    rng = np.random.default_rng(seed)
    mine = rng.choice(len(sample.y), n, replace=False)
    strength = 10.0 ** rng.uniform(-1, 1)
    found = LogisticRegression(C=strength, max_iter=100).fit(
        encoder(sample.x[mine]), sample.y[mine]
    )
    theta = STEALML.theta_of(found)
    if len(theta) == 1:  # two classes
        theta = np.vstack([-theta / 2, theta / 2])
    return Head(encoder, theta)


# %% [markdown]
# Everybody asks for the features of the same pictures; the folded class
# computes each picture's once.


# %% tags=["hide-input"]
class Kept:
    """An encoder that remembers what it has computed.

    features: rows (n, ...) to features (n, d).
    """

    def __init__(self, features):
        self.features, self.known = features, {}

    def __call__(self, x):
        """Features (n, d) of rows x (n, ...)."""
        x = np.asarray(x, np.float32)
        names = [row.tobytes() for row in x]
        new = [i for i, name in enumerate(names) if name not in self.known]
        if new:
            found = self.features(x[new])
            self.known.update(zip([names[i] for i in new], found, strict=True))
        return np.array([self.known[name] for name in names])


# %% [markdown]
# Whose pictures are whose, and the owners at work on digits that nobody has
# used:

# %%
owned = datasets.Sample(mnist.train.x[:5000], mnist.train.y[:5000])
pool, truth = mnist.test.x[:1500], mnist.test.y[8500:]
encode, seeds = Kept(encoder.features), range(seed, seed + n_owners)
owners = [trained_head(encode, owned, s) for s in seeds]
right = [(h.predict_proba(exam).argmax(1) == truth).mean() for h in owners]
print(f"{len(owners)} owners, right on {interval(right):.3f}")

# %% [markdown]
# ### Rows that span
#
# How many directions do the features of digits have?


# %%
def spanning(features, seed=0):
    """An order of rows (n,), those that span first; and how many they are.

    features: (n, d), to which a 1 is appended. The others follow at random.
    Nothing is asked: features are the attacker's own.
    """
    rows = STEALML.with_one(features)
    _, r, order = qr(rows.T, mode="economic", pivoting=True)
    size = np.abs(np.diag(r))
    rank = int((size > 1e-9 * size[0]).sum())
    rest = np.random.default_rng(seed).permutation(order[rank:])
    return np.append(order[:rank], rest), rank


# %% [markdown]
# For the attacker's digits, and for letters:

# %%
letters = datasets.letters(1000, seed + 11).x
for name, x in {"digits": pool, "letters": letters}.items():
    _, rank = spanning(encode(x))
    print(f"{name}: {rank} of {phi.shape[1] + 1} directions")

# %% [markdown]
# The 1 counts as a direction; a unit that is off for every picture is none.
# A pivoted QR decomposition takes the row that adds most to the span of those
# before it, and then the next.
# As many rows drawn at random may leave out a unit that is rarely on, and the
# copy would be wrong wherever it is.
#
# ### The attack
#
# Solving is StealML's own function, on features and answers that are paid for.
# It takes an API, and gets one of answers that are there already.


# %%
def from_ratios(features, answers):
    """theta (c, d + 1) by StealML's log ratios; exact for exact answers."""
    return STEALML.solve_softmax(Paid(answers), features)


# %% [markdown]
# Folded: those answers as an API; a theft, which holds the copy, its error on
# rows that were held out, and all that was bought; and an error that keeps
# the theft.

# %% tags=["hide-input"]
EXACT = 1e-9
"""Total variation on the examination up to which a copy counts as exact."""


class Paid:
    """Answers that were paid for, as an API."""

    def __init__(self, answers):
        self.answers = answers

    def query(self, features):
        """The answers, whatever is asked."""
        return self.answers


class Theft(NamedTuple):
    """A copy of a head, and what is known of it.

    theta: (c, d + 1), or None. error: the largest total variation of an
    answer on the examination. solved: how many rows were solved with.
    rows, features, answers: all that was paid for, examination last.
    """

    theta: np.ndarray | None
    error: float
    solved: int
    rows: np.ndarray
    features: np.ndarray
    answers: np.ndarray

    @property
    def exact(self):
        """Whether the examination found no error."""
        return self.error < EXACT

    def predict_proba(self, features):
        """Probabilities (n, c) of rows with features (n, d)."""
        return STEALML.softmax_answers(self.theta, features)


class Unsolved(ValueError):
    """No copy that passes; `theft` holds what was paid for."""

    def __init__(self, message, theft):
        super().__init__(message)
        self.theft = theft


# %% [markdown]
# The rows that are examined have no part in the solution, so that their error
# is the certificate: it tells a private head on *this* encoder from everything
# else.


# %%
def steal_head(
    api,
    encoder,
    pool,
    seed=0,
    *,
    queries=None,
    exam=20,
    solve=from_ratios,
    accept=EXACT,
):
    """The head on a public encoder, behind an API of probabilities.

    encoder: rows (n, ...) to features (n, d). pool: (n, ...) rows without
    labels, of which those that span are asked first. queries: rows to solve
    with, d + 1 unless said. exam: further rows, held out. solve: features
    and answers to theta (c, d + 1). accept: the largest error of a theft that
    is returned. Pays queries + exam rows, in one call.

    Raises `ValueError` or `BudgetExceeded` before anything is paid, and
    `Unsolved`, which holds what was paid, for saturated answers and where the
    victim is no such head.
    """
    features, queries = checked(api, encoder, pool, queries, exam)
    order, _ = spanning(features, seed)
    order = order[: queries + exam]
    rows, features = np.asarray(pool)[order], features[order]
    answers = STEALML.ask_probabilities(api, rows)
    theft = Theft(None, np.inf, queries, rows, features, answers)
    return examined(theft, solve, accept)


# %% [markdown]
# Folded: the checks before, and the examination after.


# %% tags=["hide-input"]
def checked(api, encoder, pool, queries, exam):
    """Features of the pool and the number of queries, or an error."""
    features = checked_features(encoder, pool)
    d = features.shape[1]
    queries = d + 1 if queries is None else queries
    queries = checks.whole("queries", queries, d + 1)
    exam = checks.whole("exam", exam, 1)
    if len(features) < queries + exam:
        raise ValueError(
            f"the pool has {len(features)} rows: {queries} to solve with and "
            f"{exam} to examine are needed"
        )
    affordable(api, queries + exam, name="queries + exam")
    return features, queries


def checked_features(encoder, pool):
    """Features (n, d) of a pool; `ValueError` where an encoder gives others.

    Tells of features that are no table of finite numbers, one row for each
    row of the pool.
    """
    features = checks.rows(encoder(pool), None, name="the encoder's features")
    if len(features) != len(pool):
        raise ValueError(
            f"the encoder made {len(features)} rows of features of "
            f"{len(pool)} rows: pass a function that keeps rows apart"
        )
    return features


def examined(theft, solve, accept):
    """The theft with its copy and error; `Unsolved` where it does not pass."""
    n = theft.solved
    try:
        theta = solve(theft.features[:n], theft.answers[:n])
        if np.shape(theta)[1] != theft.features.shape[1] + 1:
            raise ValueError(f"solve gave {np.shape(theta)}, not (c, d + 1)")
    except ValueError as error:
        raise Unsolved(f"{error} (paid answers: .theft)", theft) from error
    theft = theft._replace(theta=theta)
    said = theft.predict_proba(theft.features[n:])
    off = np.abs(said - theft.answers[n:]).sum(axis=1).max() / 2
    theft = theft._replace(error=float(off))
    if not off <= accept:
        raise Unsolved(
            f"the copy is off by {off:.1g} on {len(said)} rows that were held "
            "out: the victim is no head on this encoder (its body was trained "
            "on, or is another), or its answers are rounded or perturbed; the "
            "copy and all paid answers are in .theft, and accept=1 returns "
            "them",
            theft,
        )
    return theft


def door(predict_proba, **sold):
    """An API for pictures of digits."""
    return PredictionAPI(predict_proba, input_shape=(1, 28, 28), **sold)


# %% [markdown]
# The same on a head that can be checked by hand: two features, three classes.

# %%
by_hand = Head(np.asarray, [[0, 0, 0], [1, -1, 0.5], [2, 0, -1]])
shop = PredictionAPI(by_hand.predict_proba, input_shape=(2,))
points = np.random.default_rng(seed).normal(size=(9, 2))
steal_head(shop, np.asarray, points, exam=3).theta.round(12) + 0.0

# %% [markdown]
# ## Does it work?
#
# ### Exactly, with d + 1 rows
#
# Each owner is attacked with digits, and with letters, which need not have
# anything to do with its task.
# Beside them stand owners with other classes: five digits, and odd or even.


# %% tags=["remove-input"]
def judged(theft, features, answers):
    """The scores of a copy on rows that it never saw."""
    said = theft.predict_proba(features)
    return {
        "queries": theft.solved,
        "fidelity": metrics.fidelity(said, answers),
        "total variation": metrics.total_variation(said, answers),
        "error": theft.error,
        "exact": theft.exact,
    }


def some_of(pool, seed, n=149):
    """n rows of a pool as they come."""
    rng = np.random.default_rng(seed)
    return pool[rng.choice(len(pool), n, replace=False)]


def attacked(victim, encode, pool, exam, seed, **how):
    """Scores of one theft from an API of `victim(rows)`."""
    theft = steal_head(door(victim), encode, pool, seed, **how)
    return judged(theft, encode(exam), victim(exam))


# %% [markdown]
# Ten classes:

# %%
rows_of = {"ten, by digits": pool, "ten, by letters": letters}
exact = {
    name: [
        attacked(h.predict_proba, encode, x, exam, s)
        for s, h in zip(seeds, owners, strict=True)
    ]
    for name, x in rows_of.items()
}

# %% [markdown]
# And five, and two:

# %%
low = owned.y < 5
tasks = {
    "five digits": datasets.Sample(owned.x[low], owned.y[low]),
    "odd or even": datasets.Sample(owned.x, owned.y % 2),
}
for name, sample in tasks.items():
    exact[name] = []
    for s in seeds:
        head = trained_head(encode, sample, s, n=2000)
        run = attacked(head.predict_proba, encode, pool, exam, s)
        exact[name].append(run)

# %% tags=["remove-input"]
if fashion:
    clothes = datasets.fashion_mnist(train=True)
    shown = datasets.fashion_mnist().x
    wardrobe = Kept(encoder.features)
    exact["Fashion-MNIST"] = [
        attacked(
            trained_head(
                wardrobe, datasets.Sample(*(a[:5000] for a in clothes)), s
            ).predict_proba,
            *(wardrobe, shown[:2000], shown[8000:], s),
        )
        for s in seeds
    ]
plotting.table(
    [
        {
            "heads": name,
            "owners": len(runs),
            "queries solved": runs[0]["queries"],
            "fidelity, least": f"{column(runs, 'fidelity').min():.4f}",
            "total variation, most": (
                f"{column(runs, 'total variation').max():.0e}"
            ),
            "error by examination, most": f"{column(runs, 'error').max():.0e}",
        }
        for name, runs in exact.items()
    ]
)

# %% [markdown]
# ### Any size
#
# The bill knows $d$ and nothing else of the encoder.
# Three more encoders: the pixels as they are, which is StealML, and two wide
# layers of random weights (folded), the larger with nearly two million.


# %% tags=["hide-input"]
class Wide:
    """A public body of random weights: 784 - width - d, ReLU.

    Called with pictures (n, 1, 28, 28), it gives features (n, d).
    """

    def __init__(self, width, d, seed):
        rng = np.random.default_rng(seed)
        self.first = rng.normal(size=(784, width)) / 28
        self.second = rng.normal(size=(width, d)) / np.sqrt(width)
        self.parameters = self.first.size + self.second.size

    def __call__(self, x):
        """Features (n, d) of pictures (n, 1, 28, 28)."""
        flat = np.asarray(x, float).reshape(len(x), -1)
        return np.maximum(np.maximum(flat @ self.first, 0) @ self.second, 0)


# %% [markdown]
# One owner each:

# %%
sizes = [("random", Wide(w, d, seed)) for w, d in ((200, 64), (2000, 200))]
for name, body in [("pixels", lambda x: x.reshape(len(x), -1)), *sizes]:
    head = trained_head(body, owned, seed, n=1000)
    run = attacked(head.predict_proba, body, pool, exam, seed)
    size = getattr(body, "parameters", 0)
    print(
        f"{name}: {size:,} weights in the body, {run['queries']} queries, "
        f"total variation {run['total variation']:.0e}"
    )

# %% [markdown]
# A pixel that is black in every digit of the pool is a direction that was
# never asked about, and the copy cannot know what the victim makes of it.

# %% [markdown]
# ## How it breaks
#
# ### A body that was trained on
#
# Many owners train the whole network a little further, at a small learning
# rate.
# Then $\varphi$ is not quite the attacker's any more.
# Each owner starts from its head and trains on for 100 steps (folded); the
# control is a network that has nothing to do with the encoder.


# %% tags=["hide-input"]
def tuned(encoder, head, sample, rate, seed, steps=100):
    """The owner's network after training on, body at `rate`, head at 1e-3.

    encoder: a `victims.Encoder`. head: the `Head` that it starts from.
    sample: rows and labels. rate: the body's learning rate.
    """
    body = copy.deepcopy(encoder.body)
    last = nn.Linear(head.theta.shape[1] - 1, len(head.theta))
    theta = torch.tensor(head.theta, dtype=torch.float32)
    with torch.no_grad():
        last.weight.copy_(theta[:, :-1])
        last.bias.copy_(theta[:, -1])
    network = nn.Sequential(*body, last).to(training.DEVICE)
    network.to(memory_format=torch.channels_last)
    groups = [
        {"params": network[:-1].parameters(), "lr": rate},
        {"params": network[-1].parameters(), "lr": 1e-3},
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = rng.integers(len(sample.x), size=16)
        x = torch.from_numpy(sample.x[rows]).to(training.DEVICE)
        y = torch.from_numpy(sample.y[rows]).to(training.DEVICE)
        loss = nn.functional.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def stranger(sample, seed, steps=150):
    """A LeNet of the owner's own, with no public part."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = models.lenet()
    return training.fit(network, *sample, steps=steps, lr=5e-3, seed=seed)


# %% [markdown]
# Eight owners at each of three rates, and a few strangers, from three numbers
# of answers:

# %%
RATES = (1e-5, 1e-4, 1e-3)
budgets = tuple(k * (phi.shape[1] + 1) for k in (1, 2, 4))
networks = {
    f"body at {rate:.0e}": [
        tuned(encoder, h, owned, rate, s)
        for s, h in zip(progress(seeds, "tuning"), owners, strict=True)
    ]
    for rate in RATES
}
networks["own network"] = [stranger(owned, s) for s in seeds[:3]]
networks["own network"].append(victims.mnist_lenet().model)


# %% tags=["remove-input"]
def looked_up(network, *rows):
    """The network's answers to some rows, computed once."""
    known = Kept(partial(training.predict_proba, network))
    for x in rows:
        known(x)
    return known


tuning = {}
for name, several in networks.items():
    tuning[name] = {n: [] for n in budgets}
    for s, network in zip(seeds, several, strict=False):
        victim = looked_up(network, pool, exam)
        for n in budgets:
            run = attacked(
                victim, encode, pool, exam, s, queries=n, accept=1.0
            )
            tuning[name][n].append(run)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Fidelity of the copy against the answers that were solved with, for bodies that were trained on at three rates and for networks that share nothing with the encoder; mean and 95 % interval over the victims."}, "image": {"alt": "Four curves of fidelity against queries on a logarithmic axis: three learning rates of the body, and independent networks."}}
fig, ax = plt.subplots()
for name, by_budget in tuning.items():
    values = [column(runs, "fidelity") for runs in by_budget.values()]
    plotting.band(ax, budgets, values, name)
ax.set(xscale="log", xlabel="queries solved", ylabel="fidelity")
ax.set_xticks(budgets, [str(n) for n in budgets])
ax.minorticks_off()
ax.legend()
plt.show()
twice = {name: by_budget[budgets[1]] for name, by_budget in tuning.items()}
everything = [r for runs in exact.values() for r in runs]
called = sum(
    r["exact"] for b in tuning.values() for v in b.values() for r in v
)
Markdown(
    f"With 2 (d + 1) = {budgets[1]} answers the mean fidelity is "
    + ", ".join(
        f"{column(runs, 'fidelity').mean():.2%} ({name})"
        for name, runs in twice.items()
    )
    + f". The examination calls {called} of these thefts exact, and "
    f"{sum(r['exact'] for r in everything)} of the {len(everything)} of "
    "frozen bodies. Its smallest error on trained bodies is "
    f"{min(column(r, 'error').min() for r in twice.values()):.0e}."
)

# %% [markdown]
# The certificate and the fidelity are two things: a copy can be good and be
# no exact copy, and the attack says which.
# Without `accept`, it refuses:

# %%
api = door(looked_up(networks["own network"][0], pool))
try:
    steal_head(api, encode, pool, seed)
except Unsolved as refused:
    print(str(refused)[:62], "...", refused.theft.answers.shape)

# %% [markdown]
# ### Rounding, and labels alone
#
# Rounded answers are no equations any more.
# StealML's three ways out work on features as they do on rows: log ratios
# with zeros replaced, least squares on the answers, cross-entropy.
# Where labels alone are sold, its learner is fitted to them.


# %%
SOLVERS = {
    "log ratios": STEALML.solve_clipped,
    "least squares": lambda f, p, k: STEALML.solve_rounded(f, p, 100),
    "cross-entropy": lambda f, p, k: STEALML.fit_softmax(f, p, k, 5, 50),
}


# %% [markdown]
# From labels, on rows that span like the others:


# %%
def from_labels(api, encoder, rows):
    """A linear model of features, fitted to the labels of rows (n, ...)."""
    features = checked_features(encoder, rows)
    return BYLABEL.linear_learner(features, metrics.labels_of(api.query(rows)))


# %% tags=["remove-input"]
def from_rounded(head, encode, pool, exam, seed, n, decimals):
    """Fidelity of each solver, and of labels, on n answers of one head."""
    truth, order = head.predict_proba(exam), spanning(encode(pool), seed)[0]
    found = {}
    for name, solve in SOLVERS.items():
        api = door(head.predict_proba, decimals=decimals)
        how = {"queries": n, "accept": 1.0}
        how["solve"] = lambda f, p, solve=solve: solve(f, p, decimals)
        theft = steal_head(api, encode, pool, seed, **how)
        found[name] = judged(theft, encode(exam), truth)["fidelity"]
    api = door(head.predict_proba, returns="label")
    model = from_labels(api, encode, pool[order[:n]])
    said = model.predict(encode(exam))
    return found | {"labels": metrics.fidelity(said, truth)}


# %% [markdown]
# Two to five decimals with $2 (d + 1)$ answers, and two decimals with half and
# twice as many:

# %%
some = budgets[1]
cases = [(some, k) for k in (2, 3, 4, 5)]
cases += [(n, 2) for n in budgets if n != some]
rounded = {
    (n, k): [
        from_rounded(h, encode, pool, exam, s, n, k)
        for s, h in zip(seeds, owners, strict=True)
    ]
    for n, k in progress(cases, "rounding")
}

# %% tags=["remove-input"]
names = [*SOLVERS, "labels"]
plotting.table(
    [
        {"decimals": k}
        | {name: f"{column(runs, name).mean():.2%}" for name in names}
        for (n, k), runs in rounded.items()
        if n == some
    ]
)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Fidelity against the number of answers with two decimals, for three solvers, and with labels alone; mean and 95 % interval over the owners."}, "image": {"alt": "Four curves of fidelity against queries on a logarithmic axis: log ratios, least squares, cross-entropy, and labels."}}
fig, ax = plt.subplots()
for name in names:
    values = [column(rounded[n, 2], name) for n in budgets]
    plotting.band(ax, budgets, values, name)
ax.set(xscale="log", xlabel="queries solved", ylabel="fidelity")
ax.set_xticks(budgets, [str(n) for n in budgets])
ax.minorticks_off()
ax.legend()
plt.show()
gain = column(rounded[some, 2], "cross-entropy")
gain = interval(gain - column(rounded[some, 2], "labels"))
Markdown(
    f"With {some} answers of two decimals, cross-entropy agrees on "
    f"{column(rounded[some, 2], 'cross-entropy').mean():.2%} and labels "
    f"on {column(rounded[some, 2], 'labels').mean():.2%}; the "
    f"difference is {gain:.4f}, owner by owner."
)

# %% [markdown]
# ### Perturbations, computed back
#
# [MAD](../defenses/prediction_poisoning.ipynb) moves an answer by 0.8 in
# $L_1$, and the [reverse sigmoid](../defenses/deceptive_perturbations.ipynb)
# bends it.
# Both have an inverse, which their chapters give to who knows the setting.


# %%
EPSILON = 0.8
"""How far MAD moves an answer, in L1."""


def perturbations(seed):
    """Name to a defense, and to the inverse of its answers."""
    mad = POISON.MAD(POISON.random_surrogate(seed), EPSILON)
    bent = SIGMOID.ReverseSigmoid(1.0, 0.4)
    rng = np.random.default_rng(seed)
    return {
        "MAD": (mad, lambda p: POISON.recover(p, EPSILON)),
        "reverse sigmoid": (
            bent,
            lambda p: SIGMOID.invert_by_table(p, bent, rng, 10_000),
        ),
    }


# %% tags=["remove-input"]
def bent_theft(head, defense, inverse, encode, pool, exam, seed, n):
    """Fidelity of a theft by cross-entropy, as told and computed back."""
    api, found = door(head.predict_proba, defenses=[defense]), {}
    for name, read in (("as told", lambda p: p), ("back", inverse)):

        def solve(f, p, read=read):
            return STEALML.fit_scores(f, np.maximum(read(p), 0), steps=100)

        how = {"queries": n, "accept": 1.0, "solve": solve}
        theft = steal_head(api, encode, pool, seed, **how)
        run = judged(theft, encode(exam), head.predict_proba(exam))
        found[name] = run["fidelity"]
    return found


# %% [markdown]
# Twice $d + 1$ answers of each owner, read in both ways:

# %%
behind = {"MAD": [], "reverse sigmoid": []}
for s, h in zip(seeds, owners, strict=True):
    for name, (defense, inverse) in perturbations(s).items():
        where = encode, pool, exam, s, budgets[1]
        behind[name].append(bent_theft(h, defense, inverse, *where))
for name, runs in behind.items():
    told, back = (interval(column(runs, way)) for way in runs[0])
    print(f"{name}: as told {told}, computed back {back}")

# %% [markdown]
# ### What a monitor sees
#
# An owner watches with PRADA's detector and with the two watches on hard rows
# of its chapter, HODA's histograms and the bet.
# The rows are hard whose label settles late while the head is trained; ten
# checkpoints of that cost this owner nothing.
# All three are set to accuse a twentieth of benign clients.
# (Extraction warning and forgotten siblings look at the leaves of a tree.)
#
# The clients send as many rows as the attack does with $2 (d + 1)$.
# The attacker comes in two forms: with the rows that span, and with digits as
# they come, which are benign rows in every respect but what they are for.
# Letters, and halving between digits, are the controls.
# Folded: the checkpoints, and how suspicious a stream looks on its way.


# %% tags=["hide-input"]
FALSE_ALARMS = 0.05
"""Share of benign clients that a monitor may accuse."""

STOPS = (1, 2, 3, 4, 6, 8, 12, 20, 40, 80)


def checkpoints(features, y, strength=1.0):
    """The head after `STOPS` iterations of its training, as layers."""
    found = []
    for stop in STOPS:
        model = LogisticRegression(C=strength, max_iter=stop).fit(features, y)
        layer = nn.Linear(features.shape[1], len(model.classes_))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(model.coef_))
            layer.bias.copy_(torch.from_numpy(model.intercept_))
        found.append(layer.to(training.DEVICE))
    return found


class Watchers:
    """Three monitors as measures of suspicion of a client's whole stream.

    head: the victim. layers: checkpoints of it. rows: (n, ...) benign rows
    that say what is usual.
    """

    def __init__(self, head, encoder, layers, rows):
        self.head, self.encoder, self.layers = head, encoder, layers
        hard = self.hardness(rows)
        self.usual = np.bincount(hard, minlength=len(layers) + 1)
        late = self.usual[::-1].cumsum()[::-1] / len(hard)
        self.least = int(np.argmax(late <= 0.1))
        share = proportion_interval((hard >= self.least).sum(), len(hard))
        self.share = share.high

    def hardness(self, x):
        """Hardness (n,) of rows x (n, ...)."""
        features = self.encoder(x)
        labels = STEALML.softmax_answers(self.head.theta, features).argmax(1)
        return DETECT.hardness(self.layers, features, labels)

    def prada(self, x):
        """1 less the lowest W."""
        labels = self.head.predict_proba(x).argmax(axis=1)
        return max(1 - w for _, w in DETECT.Stream().add(x, labels))

    def hoda(self, x):
        """The largest distance of a window's histogram from the usual one."""
        hard, size = self.hardness(x), DETECT.WINDOW_OF_HODA
        windows = hard[: len(hard) // size * size].reshape(-1, size)
        bins = len(self.usual)
        counts = [np.bincount(w, minlength=bins) for w in windows]
        return max(DETECT.histogram_distance(self.usual, c) for c in counts)

    def bet(self, x):
        """The most that the bet on hard rows has won, as a logarithm."""
        hits = (self.hardness(x) >= self.least)[:, None]
        steps = np.log1p(DETECT.STAKES * (hits - self.share))
        return float(np.log(np.exp(steps.cumsum(0)).mean(axis=1)).max())

    def __call__(self, x):
        """All three of a stream (n, ...), by name."""
        return {
            "PRADA": self.prada(x),
            "HODA": self.hoda(x),
            "bet": self.bet(x),
        }


# %% tags=["remove-input"]
def sent(head, encode, digits, seed, n, order):
    """The rows that one theft sends, from a thousand digits of its own.

    order: "span", or "come" for a pool that is no larger than the theft.
    """
    rng, size = np.random.default_rng(seed), 1000 if order == "span" else n
    own = digits[rng.choice(len(digits), size, replace=False)]
    customer = Accounts(door(head.predict_proba))
    exam = 20
    steal_head(
        customer, encode, own, seed, queries=n - exam, exam=exam, accept=1.0
    )
    rows, _ = customer.transfer_set()
    return rows if order == "span" else rng.permutation(rows)


def streams(head, encode, digits, letters, n, size, seed):
    """Streams of n rows of each kind of client, by name."""
    made = {"benign": [], "digits as they come": [], "rows that span": []}
    made |= {"letters": [], "halving": []}
    for k in range(size):
        rng = np.random.default_rng([seed, k])
        made["benign"].append(digits[rng.permutation(len(digits))[:n]])
        for name, order in (
            ("digits as they come", "come"),
            ("rows that span", "span"),
        ):
            theft = head, encode, digits, rng.integers(1 << 30), n, order
            made[name].append(sent(*theft))
        if k < 20:
            made["letters"].append(letters[rng.permutation(len(letters))[:n]])
        if k < 10:
            labels = head.predict_proba(digits).argmax(axis=1)
            own = DETECT.Pool(digits, labels)
            made["halving"].append(
                DETECT.line_search(head.predict_proba, own, n, k).x
            )
    return made


# %% [markdown]
# One of the owners calibrates on digits of its own, and judges others:

# %%
length = budgets[1] + 20
layers = checkpoints(encode(owned.x[:3000]), owned.y[:3000])
mixed = 5000 + np.random.default_rng(seed).permutation(6000)
held, others = mnist.train.x[mixed[:3000]], mnist.train.x[mixed[3000:]]
watchers = Watchers(owners[0], encode, layers, held)

# %% [markdown]
# Benign clients set the thresholds, and then all kinds are watched.
# First what the attacker gives up who does not choose, but asks the first
# digits that come:

# %%
come = [
    attacked(h.predict_proba, encode, some_of(pool, s), exam, s)
    for s, h in zip(seeds, owners, strict=True)
]
for score in ("fidelity", "total variation"):
    least, most = np.quantile(column(come, score), (0, 1))
    print(f"{score}: from {least:.6g} to {most:.6g}")

# %% [markdown]
# The streams:

# %%
rng = np.random.default_rng(seed)
calm = [held[rng.permutation(len(held))[:length]] for _ in range(60)]
calm = [watchers(x) for x in progress(calm, "calibration")]
made = streams(owners[0], encode, others, letters, length, n_streams, seed)
seen = {kind: [watchers(x) for x in xs] for kind, xs in made.items()}

# %% tags=["remove-input"]
limits = {
    name: np.quantile(column(calm, name), 1 - FALSE_ALARMS, method="higher")
    for name in calm[0]
}
alarms = {
    (kind, name): proportion_interval(
        (column(runs, name) > limits[name]).sum(), len(runs)
    )
    for kind, runs in seen.items()
    for name in limits
}
plotting.table(
    [
        {"client": kind, "streams": len(runs)}
        | {name: f"{alarms[kind, name]:.0%}" for name in limits}
        for kind, runs in seen.items()
    ]
)

# %% [markdown]
# The shares are those of clients accused within their stream, with Wilson's
# interval.
# For digits as they come the two first rows of the table are draws of one and
# the same chance, and no monitor of rows can tell them apart, at any setting.
# Rows that span are a choice, and a choice can be seen by who looks for it.
# But it is one that the attacker need not make: it can ask for more digits.
#
# ## The bill
#
# What the same owner costs in five ways.

# %% tags=["remove-input"]
price = Ledger(price_per_1000).price
paid = {
    "frozen body, exact": budgets[0] + 20,
    "body at 1e-05": budgets[1] + 20,
    "two decimals, cross-entropy": some + 20,
    "MAD, computed back": budgets[1] + 20,
    "labels": some,
}
plotting.table(
    [
        {
            "theft": name,
            "queries": f"{n:,}",
            f"at ${price_per_1000:.2f} for 1,000": f"${price(n):.2f}",
        }
        for name, n in paid.items()
    ]
)

# %% [markdown]
# Twenty rows of each are the examination.
# The encoder's size is in none of these numbers, and neither is the owner's
# work.
#
# ## Paper and this run
#
# The paper attacked classifiers of text, of other sizes: what is claimed here
# is this page's own.

# %% tags=["hide-input"]
for name in ("ten, by digits", "ten, by letters", *tasks):
    runs = exact[name]
    claims.add(
        f"{name}, d + 1: fidelity, least",
        column(runs, "fidelity").min(),
        low=1.0,
    )
    claims.add(
        f"{name}, d + 1: total variation, most",
        column(runs, "total variation").max(),
        high=1e-12,
    )
claims.add(
    "frozen bodies: thefts that the examination calls exact (share)",
    column(everything, "exact").mean(),
    low=1.0,
)
claims.add(
    "trained or other bodies: thefts that it calls exact",
    called,
    low=0,
    high=0,
)
for rate, least in zip(RATES, (0.97, 0.97, 0.95), strict=True):
    claims.add(
        f"body at {rate:.0e}, 2 (d + 1) answers: fidelity (mean)",
        column(twice[f"body at {rate:.0e}"], "fidelity").mean(),
        low=least,
    )
for k in (2, 4):
    claims.add(
        f"{k} decimals, 2 (d + 1) answers, cross-entropy: fidelity (mean)",
        column(rounded[some, k], "cross-entropy").mean(),
        low=0.93,
    )
claims.add(
    "2 (d + 1) labels: fidelity (mean)",
    column(rounded[some, 2], "labels").mean(),
    low=0.9,
)
for name, runs in behind.items():
    claims.add(
        f"{name}: fidelity, computed back less as told (mean)",
        (column(runs, "back") - column(runs, "as told")).mean(),
        low=0.1,
    )
claims.add(
    "digits as they come, d + 1: fidelity (mean)",
    column(come, "fidelity").mean(),
    low=0.99,
)
for name in limits:
    share = alarms["digits as they come", name].mean
    claims.add(
        f"{name}: alarms on the attack less on benign clients (share)",
        share - alarms["benign", name].mean,
        low=-0.3,
        high=0.3,
    )
claims.add(
    "PRADA: alarms on halving (share)",
    alarms["halving", "PRADA"].mean,
    low=0.9,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (medium)
# :class: attention
# Where features have fewer directions than $d + 1$, fewer queries might do.
# With how many is the copy exact, and what does one less cost?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
order, rank = spanning(encode(pool))
for n in (rank, rank - 1):
    asked = pool[order[:n]]
    theta = from_ratios(encode(asked), owners[0].predict_proba(asked))
    off = STEALML.softmax_answers(theta, encode(exam))
    off = metrics.total_variation(off, owners[0].predict_proba(exam))
    print(f"{n} queries: total variation {off:.0e}")
# As many as there are directions; d + 1 is the most that can be needed.

# %% [markdown]
# :::{admonition} Exercise 2 (short)
# :class: attention
# An owner computes in float32.
# What does the examination say, and is the copy worse for it?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
single = tuned(encoder, owners[0], owned, 0.0, seed, steps=0)
run = attacked(looked_up(single, pool, exam), encode, pool, exam, seed,
               accept=1.0)  # fmt: skip
print(f"exact: {run['exact']}, error {run['error']:.0e}", end=", ")
print(f"fidelity {run['fidelity']:.4f}")
# Seven digits instead of fifteen: not exact by the strict examination, whose
# error says how near it is.

# %% [markdown]
# ## Recap
#
# - A private head on a public encoder is a softmax regression on features that
#   the attacker can compute: $d + 1$ answers are equations enough.
# - Features are free, so that rows are chosen for what they span before
#   anything is paid.
# - Rows that were held out tell an exact copy from a good one.
# - What the owner can change is the body, the digits of its answers or the
#   whole of them; what each leaves to the attacker is measured above.
# - Ordinary rows are no evidence of anything.
#
# ## References
#
# - {cite:t}`zanella2021grey` steal the heads of language models' classifiers.
# - {cite:t}`tramer2016stealing` have the equations, {cite:t}`gong2020survey`
#   the question.
