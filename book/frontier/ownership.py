# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Ownership: what can be shown after the theft
#
# Every other defense of this book acts before or during a theft.
# Afterwards an owner asks something else: here is a model, is it a copy of
# mine, and how sure may I be?
# This chapter builds four answers, two marks and two fingerprints, tries each
# on copies and on models that owe the owner nothing, and lets the thief
# answer.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - make p-values that are uniform for innocent models, and test that they are;
# - let a key decide which few answers are wrong (DAWN), and let another put a
#   wave into the probabilities;
# - look for points that only copies share, and for traces of training rows;
# - follow marks and fidelity through short training, labels, fine-tuning,
#   pruning, a copy of the copy, and averages.
#
# <!-- minutes -->
# Read [KnockoffNets](../attacks/knockoff_nets.ipynb) first, which is the
# theft here; the symbols are in [the notation](../notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import copy
import hmac
from functools import partial
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import signal, special, stats
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from torch.nn import functional as F

from mexutils import (
    Claims,
    Ledger,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    plotting,
    training,
    victims,
)
from mexutils.notebook import Markdown, progress
from mexutils.runs import column, interval

KNOCKOFF = load_chapter("attacks/knockoff_nets")
plotting.use_style()
claims = Claims()

# %% [markdown]
# ## At a glance
#
# An owner sells labels of digits, two in a hundred of them wrong by its key.
# Two trees are suspected: one learnt from what was sold, one from the truth.

# %%
chapter = load_chapter("frontier/ownership")
mine, rest, _ = datasets.tabular("digits", seed=0, test_size=0.7)
victim = LogisticRegression(max_iter=1000).fit(mine.x, mine.y)
mark = chapter.Dawn(b"this is the owner's own key", rate=0.02)
api = PredictionAPI(
    victim.predict_proba, returns="label", defenses=[mark], budget=1000
)
asked, truth = rest.x[:1000], rest.y[:1000]
for name, y in {"copy": api.query(asked), "innocent": truth}.items():
    suspect = DecisionTreeClassifier(random_state=0).fit(asked, y)
    shop = PredictionAPI(suspect.predict_proba)
    found = chapter.dawn_claim(mark, victim.predict_proba(asked), shop, asked)
    print(f"{name}: p = {found.p:.2g}, by {found.queries} queries")

# %% [markdown]
# The knobs of this page.

# %% tags=["parameters"]
seed = 0
n_seeds = 5
n_letters = 10_000  # what each thief asks
steps = [421, 1600]  # what it trains on labels, in batches of 64
soft_steps = 800  # on probabilities
n_innocent = 40
n_keys = 1000
price_per_1000 = 1.50

# %% [markdown]
# ## The question
#
# | | the owner … |
# |---|---|
# | sees | a suspect's answers, through its API |
# | knows | its own model, key, and what each client was answered |
# | pays | for every row that it asks the suspect |
# | wants | to accuse copies, and nobody else |
#
# | | the thief … |
# |---|---|
# | has | letters, and a few labelled digits |
# | knows | which marks there are, and no key |
# | wants | fidelity, and a p-value like anybody's |
#
# The second wish of the owner is the harder one.
# A number that is small for copies proves nothing until it is known how often
# it is as small for a model that never saw the owner's answers.
#
# ## The idea
#
# Let $T$ be what the owner measures on a suspect, large for copies.
# The evidence is
#
# $$
# p = \Pr(T' > T) + u \Pr(T' = T), \qquad T' \text{ of an innocent model,}
# $$
#
# with $u = 1$.
# It *means* something if innocent models get $p \le \alpha$ no more often
# than with chance $\alpha$.
# What is needed is the law of $T'$, and there are two honest ways to it.
#
# - **The owner's own chance.**
#   A mark is drawn with a secret key.
#   A model that never met the key's work is independent of it, so that the
#   law of $T'$ is that of other keys on *this* suspect; nothing is assumed of
#   the suspect.
#   The rows must not have been chosen by marked answers, or they know the key
#   a little.
# - **Other models.**
#   A fingerprint has no key.
#   Its law is taken from innocent models, and holds for suspects that are
#   *like these*.
#
# Counts and ranks have ties.
# With $u = 1$ all count for the suspect, and $p$ is too large rather than too
# small: right for an accusation.
# To test whether $p$ is uniform, ties are broken at random, with $u$ uniform
# on $[0, 1]$: then a correct $p$ is exactly uniform, and many a fault shows.
#
# ## From scratch
#
# ### A number that means something
#
# Two laws suffice for this page: a binomial one, and that of a rank among
# draws.


# %%
class Evidence(NamedTuple):
    """p of an innocent model, the score seen, and the queries it took."""

    p: float
    score: float
    queries: int


def p_of_hits(hits, trials, chance, u=1.0):
    """The chance of as many hits in so many trials; ties count u, 0 to 1."""
    law = stats.binom(trials, chance)
    return float(law.sf(hits) + u * law.pmf(hits))


def p_of_rank(found, others, u=1.0):
    """The chance of a rank as high among others (m,), itself included.

    `found` and the others are draws of one law where the suspect is innocent;
    the smallest p is 1 / (m + 1) for u = 1. Raises `ValueError` where one of
    them is no number.
    """
    if np.isnan([found, *others]).any():
        raise ValueError("a rank needs numbers, and one of these is NaN")
    more, ties = np.sum(others > found), np.sum(others == found)
    return float((more + u * (1 + ties)) / (1 + len(others)))


# %% [markdown]
# Twelve throws of a fair die, a thousand times: how often is $p$ at most 0.1?

# %%
rng = np.random.default_rng(seed)
sixes = rng.binomial(12, 1 / 6, 1000)
for name, u in {
    "ties count": np.ones(1000),
    "drawn": rng.random(1000),
}.items():
    p = [p_of_hits(k, 12, 1 / 6, v) for k, v in zip(sixes, u, strict=True)]
    print(f"{name}: {np.mean(np.array(p) <= 0.1):.3f}")

# %% [markdown]
# With ties drawn it should be a tenth; with ties counted it cannot be more.
#
# ### DAWN: a key decides which answers are wrong
#
# {cite:t}`szyller2021dawn` hash every row with a key.
# With $H_1, H_2$ two pieces of the hash, read as numbers from 0 to 1,
#
# $$
# \tilde\ell(x) = \begin{cases}
#   \bigl(\ell(x) + 1 + \lfloor (c - 1) H_2(x) \rfloor\bigr) \bmod c
#   & \text{if } H_1(x) < r, \\
#   \ell(x) & \text{else.}
# \end{cases}
# $$
#
# The same row always gets the same answer, and nobody without the key can say
# which rows are marked.
# The class below takes the *whole* row, as contiguous float32 numbers with
# one zero, so that a row has one name whatever types it passes through.
# In place of the floor it takes a remainder of 64 bits, which is as even.


# %%
class Dawn:
    """DAWN, a perturbation: a share `rate` of the labels is wrong by a key.

    key: bytes, 16 or more. rate: above 0, below 1. The probability of the
    label changes places with that of the wrong one.
    Source: Szyller et al. (2021).
    """

    def __init__(self, key, rate=0.005):
        self.key, self.rate = checked_key(key), inside("rate", rate)

    def draws(self, x):
        """Two numbers of 64 bits for each row, (n, 2)."""
        x = np.asarray(x, "<f4") + np.float32(0)  # -0 becomes 0
        names = [hmac.digest(self.key, r.tobytes(), "sha256") for r in x]
        return np.frombuffer(b"".join(names), "<u8").reshape(-1, 4)[:, :2]

    def told(self, x, own):
        """Which rows are marked (n,), and the labels told (n,)."""
        first, second = self.draws(x).T
        labels, c = own.argmax(axis=1), own.shape[1]
        marked = first < self.rate * 2.0**64
        wrong = (labels + 1 + (second % (c - 1)).astype(int)) % c
        return marked, np.where(marked, wrong, labels)

    def __call__(self, x, own):
        """The answers that are sent, (n, c)."""
        _, told = self.told(x, own)
        sent, n = own.copy(), np.arange(len(own))
        labels = own.argmax(axis=1)
        sent[n, told], sent[n, labels] = own[n, labels], own[n, told]
        return sent


# %% [markdown]
# Folded: the checks of keys, sizes and suspects.


# %% tags=["hide-input"]
def inside(name, value):
    """The value as a float; `ValueError` unless above 0 and below 1."""
    if not checks.is_finite(value) or not 0 < value < 1:
        raise ValueError(
            f"{name} must be a number above 0 and below 1, not {value!r}"
        )
    return float(value)


def places_of(suspect, x):
    """The labels (n,) of a suspect's API, as places 0, 1, 2, ...

    `ValueError`, with nothing asked where it can be known, for names.
    """
    names = getattr(suspect, "classes", None) is not None
    names = names and getattr(suspect, "returns", None) == "label"
    said = None if names else metrics.labels_of(suspect.query(x))
    if names or said.dtype.kind not in "iu" or said.min() < 0:
        raise ValueError(
            "the suspect answers names of classes, and this claim compares "
            "places 0, 1, 2, ...: map its names to the owner's places first"
        )
    return said


def checked_key(key):
    """The key; `ValueError` for what anybody could try out."""
    if not isinstance(key, bytes) or len(key) < 16:
        raise ValueError(
            "key must be 16 bytes or more, such as secrets.token_bytes(32)"
        )
    return key


def probable(api):
    """The API; `ValueError`, with nothing asked, where it sells labels."""
    if getattr(api, "returns", "probabilities") != "probabilities":
        raise ValueError(
            f"the suspect answers {api.returns!r}, and this claim reads "
            "probabilities: use dawn_claim or fingerprint_claim, which read "
            "labels"
        )
    return api


def shop_of(model, **sold):
    """The API of a network that somebody sells."""
    ask = partial(training.predict_proba, model)
    return PredictionAPI(ask, input_shape=(1, 28, 28), **sold)


# %% [markdown]
# The whole row matters.
# The public code of the paper hashes the first 25 bytes of it; how many
# different names does either way give the 10,000 test digits?
# The victim is the book's classifier of digits; last, the marks on one
# thief's letters, and what they cost digits.

# %%
test, victim = datasets.mnist().test, victims.mnist_lenet()
for name, end in {"first 25 bytes": 25, "the whole row": None}.items():
    print(name, len({row.tobytes()[:end] for row in test.x}))
letters = datasets.letters(n_letters, seed).x
own, right = victim.predict_proba(letters), victim.predict_proba(test.x)
mark = Dawn(b"the owner's key, 0", rate=0.005)
marked, _ = mark.told(letters, own)
told = mark(test.x, right).argmax(axis=1)
cost = np.mean(right.argmax(axis=1) == test.y) - np.mean(told == test.y)
print(f"{marked.sum()} letters marked; accuracy lost {100 * cost:.2f} points")

# %% [markdown]
# A mark that does not tell rows apart is all or nothing.
#
# **The claim.**
# Ask the suspect the rows that were marked.
# An innocent model may well disagree with the victim there, and the wrong
# label was drawn from the other $c - 1$, so that a disagreement hits it with
# chance $1 / (c - 1)$, exactly, whatever the suspect is.
# So with $D$ disagreements $T' \sim \operatorname{Bin}(D, 1 / (c - 1))$.


# %%
def dawn_claim(mark, own, suspect, asked, u=1.0):
    """Evidence that a suspect repeats the wrong answers of a `Dawn`.

    own: (n, c) the owner's answers before DAWN to the rows `asked` (n, ...),
    which the thief is thought to have asked; rows that are one to the hash
    are one draw, and count once. suspect: an API, which is asked the marked
    rows alone; labels suffice. score: the share that it repeats.
    Raises `ValueError`, with nothing asked, where no row is marked, and where
    the suspect answers names of classes.
    """
    own = checks.probabilities(own, len(asked), "own")
    first = np.unique(mark.draws(asked)[:, 0], return_index=True)[1]
    asked, own = np.asarray(asked)[first], own[first]
    marked, told = mark.told(asked, own)
    if not marked.any():
        raise ValueError("none of these rows is marked: take more of them")
    said = places_of(suspect, asked[marked])
    differ = int(np.sum(said != own[marked].argmax(axis=1)))
    hits = int(np.sum(said == told[marked]))
    p = p_of_hits(hits, differ, 1 / (own.shape[1] - 1), u)
    return Evidence(p, hits / len(said), len(said))


# %% [markdown]
# ### DRW: a wave in the probabilities
#
# {cite:t}`zhao2022distillation` hide a wave.
# A secret direction $v$ gives every row a height,
#
# $$
# h(x) = \Phi\Bigl(\frac{v \cdot x - m}{s}\Bigr) \in [0, 1],
# $$
#
# with mean $m$ and standard deviation $s$ of $v \cdot x$ over usual rows (for
# pictures $v \cdot x$ is far from standard, and without this all heights
# are 0 or 1).
# The probability of the label goes up and down with $\cos(f_w h(x))$, those
# of the others go against it:
#
# $$
# \tilde p_j = \frac{p_j + e_j (1 + s_j \cos(f_w h(x)))}{1 + 2 \epsilon},
# \qquad (e_j, s_j) = \begin{cases}
#   (\epsilon, 1) & \text{for the label,} \\
#   (\epsilon / (c - 1), -1) & \text{else.}
# \end{cases}
# $$


# %% [markdown]
# Folded: the heights and waves of many directions at once, sizes and signs,
# and correlations.


# %% tags=["hide-input"]
class Waves:
    """The waves of k secret directions.

    directions: (k, d). usual: (m, ...) rows of d numbers that say how a
    direction's products spread. frequency: f_w, in radians.
    """

    def __init__(self, directions, usual, frequency=16.0):
        self.directions, self.frequency = np.asarray(directions), frequency
        along = self.along(usual)
        self.centre, self.spread = along.mean(axis=0), along.std(axis=0)
        if not (self.spread > 0).all():
            raise ValueError("usual: give rows that differ along each key")

    def along(self, x):
        """Products with the directions, (n, k)."""
        return np.reshape(x, (len(x), -1)) @ self.directions.T

    def heights(self, x):
        """h(x) of each row and key, (n, k), from 0 to 1."""
        return special.ndtr((self.along(x) - self.centre) / self.spread)

    def __call__(self, x):
        """cos(f_w h(x)), (n, k)."""
        return np.cos(self.frequency * self.heights(x))


def _sign(own):
    """s: 1 at the label, -1 elsewhere, (n, c)."""
    label = own.argmax(axis=1)[:, None]
    return np.where(np.arange(own.shape[1]) == label, 1.0, -1.0)


def _size(own, epsilon):
    """e: epsilon at the label, spread over the others elsewhere, (n, c)."""
    return np.where(_sign(own) > 0, epsilon, epsilon / (own.shape[1] - 1))


def correlations(left, waves):
    """Correlation of each row of (m, n) with each column of (n, k).

    0 where either does not vary.
    """
    left, waves = (
        np.divide(off, spread, out=np.zeros_like(off), where=spread > 1e-12)
        for off, spread in map(_off_and_spread, (np.atleast_2d(left).T, waves))
    )
    return left.T @ waves / len(waves)


def _off_and_spread(columns):
    """Distances from the mean, and standard deviations, of columns (n, k)."""
    columns = np.asarray(columns, float)
    return columns - columns.mean(axis=0), columns.std(axis=0)


# %% [markdown]
# The perturbation is the formula; below it, what it does to answers.


# %%
class CosineMark:
    """A wave in the label's probability, a perturbation.

    waves: `Waves` of one direction. epsilon: its size, above 0, below 1.
    Source: Zhao et al. (2022), with the label as the marked class.
    """

    def __init__(self, waves, epsilon=0.2):
        self.waves, self.epsilon = waves, inside("epsilon", epsilon)

    def __call__(self, x, own):
        """The answers that are sent, (n, c)."""
        wave = self.waves(x)[:, :1]
        sent = own + _size(own, self.epsilon) * (1 + _sign(own) * wave)
        return sent / (1 + 2 * self.epsilon)


keys = np.random.default_rng(seed).normal(size=(n_keys, 784))
wave = CosineMark(Waves(keys[:1], letters))
for name, x, p in (("digits", test.x, right), ("letters", letters, own)):
    sent = wave(x, p)
    same = metrics.fidelity(sent, p)
    moved = np.abs(sent - p).sum(axis=1).mean()
    print(f"{name}: labels kept {same:.2%}, moved by {moved:.2f} in L1")

# %% [markdown]
# What this mark costs is the confidence; its customers buy labels with a rough
# one.
#
# **The claim.**
# The owner takes its own answer off the suspect's, at its own label, and
# correlates the rest with its wave.
# The law is that of other keys on the same answers: directions are drawn
# that nobody ever used, and $p$ is the rank of the true one.
# Below, the suspect is the owner's own API.


# %%
def cosine_claim(own, suspect, asked, waves, u=1.0):
    """Evidence that a suspect's probabilities follow the owner's wave.

    own: (n, c) the owner's unmarked answers to the rows `asked`. suspect: an
    API of probabilities. waves: (n, k), the owner's own in the first column
    and those of unused keys in the others. score: the correlation.
    Raises `ValueError`, with nothing asked, for an API of labels.
    """
    own = checks.probabilities(own, len(asked), "own")
    waves = checks.rows(waves, None, name="waves")
    if waves.shape[0] != len(own) or waves.shape[1] < 2:
        raise ValueError(f"waves must be (n, 2 or more), not {waves.shape}")
    said = probable(suspect).query(asked)
    at = np.arange(len(own)), own.argmax(axis=1)
    found = correlations(said[at] - own[at], waves)[0]
    return Evidence(p_of_rank(found[0], found[1:], u), found[0], len(asked))


sold = PredictionAPI(lambda x: wave(x, victim.predict_proba(x)))
others = Waves(keys, letters)(letters[:500])
cosine_claim(own[:500], sold, letters[:500], others)


# %% [markdown]
# ### Thefts
#
# One owner sells with both marks at once, labels to some thieves and
# probabilities to others.
# Each thief asks 10,000 letters and trains a network of its own: for 421
# batches or 2.7 passes, the short recipe of
# [KnockoffNets](../attacks/knockoff_nets.ipynb), for five passes, or for ten.
#
# Folded: such an owner with one thief's rows; and how a suspect is shown to
# all, with its fidelity on test digits and the evidence of both marks.

# %% tags=["hide-input"]
PROBES = 3000
"""Rows that a claim about the wave asks."""


class Deal(NamedTuple):
    """An owner with keys of its own, and one thief's rows.

    waves: those of the owner's key and of unused ones at the first `PROBES`
    rows. own: the answers without marks.
    """

    dawn: Dawn
    cosine: CosineMark
    waves: np.ndarray
    rows: np.ndarray
    own: np.ndarray

    def sells(self, returns):
        """The owner's API."""
        sold = {"returns": returns, "defenses": [self.dawn, self.cosine]}
        return PredictionAPI(victims.mnist_lenet().predict_proba, **sold)


def deal(seed, n, n_keys):
    """The deal of one seed: n letters, and n_keys directions."""
    rows = datasets.letters(n, seed).x
    keys = np.random.default_rng(seed).normal(size=(n_keys, 784))
    own = victims.mnist_lenet().predict_proba(rows)
    dawn = Dawn(f"the owner's key, {seed}".encode())
    cosine = CosineMark(Waves(keys[:1], rows))
    return Deal(dawn, cosine, Waves(keys, rows)(rows[:PROBES]), rows, own)


def shown(model, deal, exam, labels):
    """Fidelity, and evidence by both marks, of a network's API."""
    shop, some = shop_of(model), slice(0, PROBES)
    asked = deal.own[some], shop, deal.rows[some], deal.waves
    return {
        "fidelity": metrics.fidelity(shop.query(exam), labels),
        "DAWN": dawn_claim(deal.dawn, deal.own, shop, deal.rows),
        "wave": cosine_claim(*asked),
    }


# %% [markdown]
# Three thefts a seed.

# %%
seeds = range(seed, seed + n_seeds)
deals = [deal(s, n_letters, n_keys) for s in seeds]
exam, exam_labels = test.x[::4], right[::4].argmax(axis=1)
recipes = {
    f"labels, {steps[0]} steps": ("label", steps[0]),
    f"labels, {steps[1]} steps": ("label", steps[1]),
    f"probabilities, {soft_steps} steps": ("probabilities", soft_steps),
}
stolen = {name: [] for name in recipes}
for s, d in zip(seeds, progress(deals, "thefts"), strict=True):
    sold = {
        returns: d.sells(returns).query(d.rows)
        for returns in ("label", "probabilities")
    }
    for name, (returns, n) in recipes.items():
        model = KNOCKOFF.train_substitute(d.rows, sold[returns], s, steps=n)
        stolen[name].append(model)


# %% tags=["remove-input"]
def costs(deal, x, p, truth):
    """Accuracy that each mark costs its owner, and the share marked."""
    right = np.mean(p.argmax(axis=1) == truth)
    sent = {"DAWN": deal.dawn(x, p), "wave": deal.cosine(x, p)}
    lost = {
        f"{name}: lost": right - np.mean(q.argmax(axis=1) == truth)
        for name, q in sent.items()
    }
    return lost | {"marked": deal.dawn.told(x, p)[0].mean()}


utility = [costs(d, test.x, right, test.y) for d in deals]
seen = {
    name: [
        shown(m, d, exam, exam_labels)
        for m, d in zip(models, deals, strict=True)
    ]
    for name, models in stolen.items()
}


def evidence(runs, way, what="p"):
    """One number of the evidence over seeds, (seeds,)."""
    return np.array([getattr(run[way], what) for run in runs])


def strength(runs, way):
    """-log10 p over seeds, (seeds,)."""
    return -np.log10(np.clip(evidence(runs, way), 1e-300, 1)) + 0.0


def table_of(seen, ways):
    """Fidelity, and for each way the score and -log10 p, seed by seed."""
    rows = []
    for name, runs in seen.items():
        row = {
            "suspect": name,
            "fidelity": f"{interval(column(runs, 'fidelity')):.3f}",
        }
        for way in ways:
            row[f"{way}: score"] = f"{evidence(runs, way, 'score').mean():.2f}"
            row[f"{way}: −log₁₀ p"] = ", ".join(
                f"{value:.1f}" for value in strength(runs, way)
            )
        rows.append(row)
    return plotting.table(rows)


table_of(seen, ["DAWN", "wave"])

# %% [markdown]
# The score of DAWN is the share of marks that the copy repeats, that of the
# wave a correlation.
# $-\log_{10} p$ is given seed by seed; for the wave, whose $p$ is a rank among
# a thousand keys, it cannot pass 3.
# A wrong answer is one that nothing else in the transfer set supports:
# whether a copy has come to it is a matter of how long it is trained.
# Labels are not wholly without the wave: it moves letters on the boundary
# across it, and these labels are sold.
#
# The periodogram shows the wave: how much of what is left of the copy's
# answers follows a wave of each frequency.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Lomb–Scargle periodogram of a copy's answers, less the owner's, against the heights of the owner's key; one copy from probabilities, one from labels. The dotted line is the owner's frequency."}, "image": {"alt": "Share of variance against frequency in radians from 2 to 40, one line for a copy from probabilities and one for a copy from labels, with a dotted vertical line at 16."}}
frequencies = np.linspace(2, 40, 150)
first, fig_rows = deals[0], deals[0].rows[:PROBES]
height = first.cosine.waves.heights(fig_rows)[:, 0]
at = np.arange(PROBES), first.own[:PROBES].argmax(axis=1)
fig, ax = plt.subplots()
for name in list(recipes)[1:]:
    left = training.predict_proba(stolen[name][0], fig_rows)[at]
    left = left - first.own[:PROBES][at]
    power = signal.lombscargle(
        height, left - left.mean(), frequencies, normalize=True
    )
    ax.plot(frequencies, power, label=name, marker="")
ax.axvline(first.cosine.waves.frequency, color="0.4", ls=":")
ax.set(xlabel="frequency (radians)", ylabel="share of variance explained")
ax.legend()
plt.show()

# %% [markdown]
# ### Innocent models
#
# Who wants to know how often an innocent model is accused needs many.
# Small networks suffice, on digits in a quarter of the pixels, all trained
# side by side: the weights of all lie in one array, and a batched product
# moves them together.
# Folded: such a crowd and its training; and larger networks, an innocent one
# and a copy of the owner's own, for later.


# %% tags=["hide-input"]
class Crowd:
    """m small networks, asked together.

    weights: (m, 196, h), (m, 1, h), (m, h, c), (m, 1, c) tensors.
    """

    def __init__(self, weights):
        self.weights = weights

    def logits(self, x):
        """Of rows (n, 196), or of m times such rows: (m, n, c)."""
        w, a, v, b = self.weights
        x = x.expand(len(w), -1, -1) if x.dim() == 2 else x
        return torch.baddbmm(b, torch.baddbmm(a, x, w).relu(), v)

    def predict_proba(self, x):
        """Probabilities (m, n, c) of pictures (n, 1, 28, 28)."""
        parts = pooled(x).split(500)
        with torch.no_grad():
            said = torch.cat([self.logits(part) for part in parts], dim=1)
        return said.double().softmax(dim=2).numpy()

    def member(self, i):
        """The `predict_proba` of network i alone, (n, c)."""
        one = Crowd([w[i : i + 1] for w in self.weights])
        return lambda x: one.predict_proba(x)[0]


def pooled(x):
    """Pictures (n, 1, 28, 28) at half the size, (n, 196) float32."""
    return F.avg_pool2d(torch.tensor(x, dtype=torch.float32), 2).flatten(1)


def train_crowd(x, y, rows, seed, steps=300, hidden=64, lr=1e-2):
    """A `Crowd` whose network i has learnt x[rows[i]], y[rows[i]].

    x: (n, 1, 28, 28). y: (n,) labels or (n, 10) probabilities. rows: (m, k).
    """
    rng, (m, k) = torch.Generator().manual_seed(seed), rows.shape
    x, y, rows = pooled(x), torch.as_tensor(y), torch.as_tensor(rows)
    shapes = (196, hidden), (1, hidden), (hidden, 10), (1, 10)
    scales = 0.3, 0.0, hidden**-0.5, 0.0
    weights = [
        (s * torch.randn(m, *shape, generator=rng)).requires_grad_(True)
        for s, shape in zip(scales, shapes, strict=True)
    ]
    crowd = Crowd(weights)
    optimizer = torch.optim.Adam(weights, lr, fused=True)
    slope = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for _ in progress(range(steps), "training a crowd"):
        i = rows.gather(1, torch.randint(k, (m, 32), generator=rng))
        said = crowd.logits(x[i]).flatten(0, 1)
        loss = F.cross_entropy(said, y[i].flatten(0, 1), reduction="sum")
        optimizer.zero_grad()
        (loss / 32).backward()
        optimizer.step()
        slope.step()
    return Crowd([w.detach() for w in weights])


def own_copy(seed, n=5000, steps=300):
    """A copy that the owner makes of its own model, from other letters."""
    rows = datasets.letters(n, seed + 1000).x
    own = victims.mnist_lenet().predict_proba(rows)
    return KNOCKOFF.train_substitute(rows, own, seed, steps=steps)


def stranger(seed, n=8000, steps=150):
    """A large innocent network, of the kind that thieves train."""
    rows = np.random.default_rng([seed, 4]).permutation(50_000)[:n]
    x, y = datasets.mnist().train
    return KNOCKOFF.train_substitute(x[rows], y[rows], seed, steps=steps)


# %% [markdown]
# 210 of them, with 2,000 digits each: ten to choose points with, 160 to
# calibrate with, and 40 who are accused.

# %%
digits = datasets.mnist().train
rng = np.random.default_rng(seed + 1)
some = np.stack(
    [rng.permutation(50_000)[:2000] for _ in range(170 + n_innocent)]
)
crowd = train_crowd(digits.x, digits.y, some, seed)
said = crowd.predict_proba(exam).argmax(axis=2)
accuracy = (said == test.y[::4]).mean(axis=1)
print(f"right on {interval(accuracy[-n_innocent:]):.3f} of the digits")

# %% [markdown]
# Each of the 40 is accused by 25 owners, who are the same but for their keys.
# DAWN's have marked 500 of a client's letters at a tenth, about as many marks
# as before.

# %%
accused = [crowd.member(170 + i) for i in range(n_innocent)]
per_model = n_keys // n_innocent
rng, few = np.random.default_rng(seed + 2), slice(0, 500)
innocent = {"DAWN": [], "wave": []}
for i, ask in enumerate(progress(accused, "accused by DAWN")):
    shop = PredictionAPI(ask)
    for k in range(per_model):
        dawn = Dawn(f"owner {k} of model {i}".encode().ljust(16), rate=0.1)
        case = dawn, own[few], shop, letters[few]
        innocent["DAWN"].append(dawn_claim(*case, u=rng.random()).p)

# %% [markdown]
# For the wave, every model is correlated with all thousand keys at once, and
# each of its 25 owners is ranked among the others.

# %%
probes, at = letters[:2000], (np.arange(2000), own[:2000].argmax(axis=1))
left = np.stack([ask(probes)[at] - own[:2000][at] for ask in accused])
found = correlations(left, Waves(keys, letters)(probes))
for i, row in enumerate(found):
    for k in range(i * per_model, (i + 1) * per_model):
        p = p_of_rank(row[k], np.delete(row, k), rng.random())
        innocent["wave"].append(p)
print({name: len(p) for name, p in innocent.items()})

# %% [markdown]
# ### A fingerprint: points that only copies share
#
# The owner changes nothing.
# It looks for points on which copies agree with it and strangers do not:
# {cite:t}`lukas2021conferrable` call them conferrable.
# With copies $C$ and strangers $I$ that the owner trains itself,
#
# $$
# \operatorname{conf}(x) = \operatorname*{mean}_{g \in C} g_{\ell(x)}(x)
# \cdot \Bigl(1 - \operatorname*{mean}_{g \in I} g_{\ell(x)}(x)\Bigr) .
# $$
#
# The paper optimises points by gradients; here the best of many are kept.


# %%
def best_points(own, copies, strangers, n=100):
    """Numbers of the n points of the largest conf, best first.

    own: (k, c) the owner's answers to k candidates. copies, strangers:
    (m, k, c) those of models that the owner has trained.
    """
    at = np.arange(len(own)), own.argmax(axis=1)
    shared = np.mean([p[at] for p in copies], axis=0)
    common = np.mean([p[at] for p in strangers], axis=0)
    return np.argsort(-shared * (1 - common), kind="stable")[:n]


def fingerprint_claim(points, labels, suspect, usual, u=1.0):
    """Evidence that a suspect agrees with the owner where copies do.

    points: (n, ...) and the owner's labels (n,). suspect: an API. usual:
    (m,) agreements of innocent models that had no part in the choice.
    score: the suspect's agreement. p is right for suspects like those.
    """
    said = places_of(suspect, points)
    score = float(np.mean(said == labels))
    return Evidence(p_of_rank(score, usual, u), score, len(points))


# %% [markdown]
# Candidates are letters, whose digit is anybody's guess.
# The cell ends with how often innocent models agree on the chosen.
# The owner's own copies learn from other letters, and its strangers are ten
# of the crowd, who count as one by their mean, and one larger network.


# %%
candidates = datasets.letters(3000, seed + 3000).x
own_there = victim.predict_proba(candidates)
said, ask = crowd.predict_proba(candidates), training.predict_proba
copies = [ask(own_copy(seed + k), candidates) for k in range(2)]
larger = [stranger(seed + k) for k in range(3)]
strangers = [said[:10].mean(axis=0), ask(larger[0], candidates)]
best = best_points(own_there, copies, strangers)
points, labels = candidates[best], own_there[best].argmax(axis=1)
agree = (said[:, best].argmax(axis=2) == labels).mean(axis=1)
usual, held = agree[10:170], agree[170:]
print(f"innocent: {interval(usual):.2f}, most {usual.max():.2f}")

# %% tags=["remove-input"]
prints = partial(fingerprint_claim, points, labels)
for name, models in stolen.items():
    for run, model in zip(seen[name], models, strict=True):
        run["fingerprint"] = prints(shop_of(model), usual)
others = [prints(shop_of(m), usual) for m in larger]
rng = np.random.default_rng(seed + 5)
innocent["fingerprint"] = [p_of_rank(a, usual, rng.random()) for a in held]
table_of(seen, ["fingerprint"])

# %% [markdown]
# The smallest $p$ of 160 others is 1 in 161, or 2.2 in the table's units.
#
# ### Dataset inference: training rows leave traces
#
# {cite:t}`maini2021dataset` ask whether a suspect is surer of the owner's
# training rows than of other rows of the same kind.
# With labels alone the distance to the boundary is felt by a *blind walk*:
# from a row, steps along one random direction, until the label changes,
#
# $$
# w(x) = \min \{k : \ell(x + k \delta) \ne \ell(x)\},
# \qquad k \le k_\text{max} .
# $$
#
# Three kinds of noise $\delta$ give three numbers a row; a regression on the
# owner's own model weighs them, and Welch's test compares private rows with
# public ones.


# %%
def blind_walks(ask, x, seed, most=10, scale=0.1):
    """Steps until the label changes, by three kinds of noise, (..., n, 3).

    ask: rows (n, ...) to probabilities (..., n, c). At most `most` steps,
    which stand for no change as well. Asks n (1 + 3 most) rows.
    Source: Maini et al. (2021), the blind walk.
    """
    rng, first = np.random.default_rng(seed), ask(x).argmax(axis=-1)
    walks = []
    for draw in (rng.laplace, rng.normal, rng.uniform):
        low = -1 if draw == rng.uniform else 0
        step = scale * draw(low, 1, x.shape)
        steps = np.full(first.shape, most)
        for k in range(most, 0, -1):
            moved = np.clip(x + k * step, 0, 1).astype(np.float32)
            steps[ask(moved).argmax(axis=-1) != first] = k
        walks.append(steps)
    return np.stack(walks, axis=-1)


# %% [markdown]
# Folded: the claim, from the walks of an owner's model and of a suspect.


# %% tags=["hide-input"]
def inference_claim(private, public, suspect_private, suspect_public):
    """p by Welch's test that private rows are farther from the boundary.

    private, public: (n, 3) walks on the owner's own model, on which the
    weights are fitted. suspect_private, suspect_public: (m, 3) walks of a
    suspect, on other rows. The p is right where innocent models find both
    kinds of rows equally hard, which nothing guarantees.
    """
    walks = np.vstack([private, public]).astype(float)
    walks = np.column_stack([walks, np.ones(len(walks))])
    kind = np.repeat([1.0, 0.0], [len(private), len(public)])
    weights = np.linalg.lstsq(walks, kind, rcond=None)[0][:3]
    sides = suspect_private @ weights, suspect_public @ weights
    test = stats.ttest_ind(*sides, equal_var=False, alternative="greater")
    return float(np.nan_to_num(test.pvalue, nan=1.0))


# %% [markdown]
# The book's victim cannot be asked: its training rows are everybody's.
# Five smaller owners have 400 digits each that nobody else has, and train on
# them for as many steps as if they were many more; a thief copies each from
# 3,000 letters, and another from 3,000 digits.

# %%
private = 50_000 + np.arange(2000).reshape(5, 400)
owners = train_crowd(digits.x, digits.y, private, seed, steps=600)
pools = {"letters": letters[:3000], "digits": digits.x[56_000:59_000]}
suspects = {"the owner's model": owners}
for name, x in pools.items():
    sold = owners.predict_proba(x).reshape(-1, 10).astype(np.float32)
    rows = np.arange(len(sold)).reshape(5, -1)
    suspects[f"copy from {name}"] = train_crowd(
        np.tile(x, (5, 1, 1, 1)), sold, rows, seed, steps=600
    )

# %% [markdown]
# Every owner walks from 200 rows of its own and from 200 others; half of them
# fit the weights.
# Once the others are digits as its own are, once they are digits too, but a
# little turned and shifted, as if they were scanned elsewhere.

# %% tags=["remove-input"]
public = digits.x[59_000:]
turned = victims.jitter(
    torch.from_numpy(public), torch.Generator().manual_seed(seed)
).numpy()
rows_asked = np.concatenate(
    [digits.x[private[:, :200].ravel()], public, turned]
).astype(np.float32)
suspects["innocent"] = Crowd([w[-n_innocent:] for w in crowd.weights])
walks = {
    name: blind_walks(models.predict_proba, rows_asked, seed)
    for name, models in suspects.items()
}


def inferred(walks, owner, model, shift):
    """p of one owner's claim against one model's walks (3000, 3)."""
    mine = 200 * owner + np.arange(100)
    other = 1000 * (1 + shift) + mine
    base = walks["the owner's model"][owner]
    held = model[mine + 100], model[other + 100]
    return inference_claim(base[mine], base[other], *held)


inference = {
    (name, shift): [
        inferred(walks, k, model, shift)
        for k in range(5)
        for model in (found if name == "innocent" else found[k : k + 1])
    ]
    for name, found in walks.items()
    for shift in (0, 1)
}
innocent["dataset inference"] = inference["innocent", 0]
innocent["the same, rows turned"] = inference["innocent", 1]
plotting.table(
    [
        {
            "suspect": name,
            "others are": ("alike", "turned")[shift],
            "claims": len(p),
            "p at most 0.01": f"{np.mean(np.array(p) <= 0.01):.0%}",
            "median p": f"{np.median(p):.2g}",
        }
        for (name, shift), p in inference.items()
    ]
)

# %% [markdown]
# ## Does it work?
#
# ### How often an innocent model is accused
#
# If a $p$ means what it says, a share $\alpha$ of innocent models has
# $p \le \alpha$, for every $\alpha$: the curves lie on the diagonal.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Share of claims against innocent models whose p is at most α, ties drawn, against α. The dotted diagonal is what α promises."}, "image": {"alt": "Five step curves from 0 to 1 against alpha from 0 to 1 beside a dotted diagonal: DAWN, the wave, the fingerprint, dataset inference, and dataset inference with turned rows."}}
fig, ax = plt.subplots(figsize=(5.4, 4.4))
for name, p in innocent.items():
    ax.step(
        np.sort(p), np.arange(1, len(p) + 1) / len(p), label=name, marker=""
    )
ax.plot([0, 1], [0, 1], ":", color="0.4", marker="")
ax.set(xlabel="α", ylabel="share of claims with p ≤ α")
ax.legend()
plt.show()

# %% [markdown]
# The test of Kolmogorov and Smirnov looks at the largest distance of a curve
# from the diagonal.
# The fingerprints of all forty are ranked among the same 160 others, so that
# they are no forty draws; there the test is that of two samples, the
# agreements of the forty and of the 160.


# %%
def uniformity(p):
    """√n times the largest distance from the diagonal, and its p."""
    found = stats.kstest(p, "uniform")
    return np.sqrt(len(p)) * found.statistic, found.pvalue


def alike(first, second):
    """The same for two samples that should be draws of one law."""
    n, m = len(first), len(second)
    found = stats.ks_2samp(first, second)
    return np.sqrt(n * m / (n + m)) * found.statistic, found.pvalue


# %% tags=["remove-input"]
tested = {name: uniformity(p) for name, p in innocent.items()}
tested["fingerprint"] = alike(held, usual)
accusations = {
    name: np.mean(np.array(p) <= 0.01) for name, p in innocent.items()
}
plotting.table(
    [
        {
            "claim": name,
            "claims": len(p),
            "distance, scaled": f"{tested[name][0]:.2f}",
            "p of uniformity": f"{tested[name][1]:.2g}",
            "accused at α = 0.01": f"{accusations[name]:.1%}",
        }
        for name, p in innocent.items()
    ]
)

# %% [markdown]
# The first two laws are the owner's own chance, and nothing of the models
# enters.
# The third is a rank among models of one kind, for suspects of that kind.
# For dataset inference nobody promises anything: all innocent models meet
# the same two heaps of rows, and if one heap is easier, it is easier for
# all of them.
# {cite:t}`szyller2023robustness` found false accusations of innocent models;
# turned rows are one way in which they may come about.
#
# ### Marks and fidelity
#
# Each theft is a point: how good the copy is, and how strong the evidence.
# The digits that judge chose nothing: the size and frequency of the wave, the
# candidates of the fingerprint, the length of the walks and that of the
# training on probabilities were tried with another seed and on training
# digits, some of which the innocent models and the owners here learn as well.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Strength of the evidence against fidelity, a point for each theft and seed; dashed, p = 0.01."}, "image": {"alt": "Three scatter plots side by side, for DAWN, the wave and the fingerprint: minus the decimal logarithm of p against fidelity, with a marker for each kind of theft and a dashed line at 2."}}
fig, axes = plt.subplots(
    1, 3, figsize=(8.6, 3.8), sharex=True, layout="constrained"
)
for ax, way in zip(axes, ("DAWN", "wave", "fingerprint"), strict=True):
    proofs = {name: strength(runs, way) for name, runs in seen.items()}
    for name, runs in seen.items():
        ax.plot(column(runs, "fidelity"), proofs[name], ls="", label=name)
    ax.axhline(2, color="0.4", ls="--", lw=1, marker="")
    most = max(2, *(values.max() for values in proofs.values()))
    ax.set(title=way, xlabel="fidelity", ylim=(-0.05 * most, 1.08 * most))
axes[0].set_ylabel("−log₁₀ p")
fig.legend(
    *axes[0].get_legend_handles_labels(),
    **{"loc": "outside lower center", "ncols": 3, "fontsize": 8},
)
plt.show()
quick, long, soft = seen.values()
gain = column(long, "fidelity") - column(quick, "fidelity")
Markdown(
    f"With {steps[0]} steps a copy repeats "
    f"{interval(evidence(quick, 'DAWN', 'score')):.2f} of DAWN's marks at a "
    f"fidelity of {interval(column(quick, 'fidelity')):.3f}; with "
    f"{steps[1]}, {interval(evidence(long, 'DAWN', 'score')):.2f} at "
    f"{interval(column(long, 'fidelity')):.3f}. "
    "Seed by seed the longer training gains "
    f"{interval(100 * gain):.1f}"
    " points of fidelity: that is what the thief gives up who stops early. "
    "The wave's correlation is "
    f"{interval(evidence(soft, 'wave', 'score')):.3f} in copies from "
    "probabilities, and "
    f"{interval(evidence(long, 'wave', 'score')):.3f} in those from labels."
)

# %% [markdown]
# ## How it breaks
#
# ### Fine-tuning, pruning, copying the copy
#
# A thief washes its copy.
# It trains on with 500 digits that it has labels of, or sets the smaller half
# of each layer's weights to zero, or teaches another network from the copy's
# own answers to other letters, which cost nothing.
# Folded: the three.


# %% tags=["hide-input"]
def tuned(model, x, y, seed):
    """A copy of a network, trained on with rows and labels."""
    return training.fit(
        copy.deepcopy(model), x, y, steps=100, lr=1e-3, seed=seed
    )


def pruned(model, share=0.5):
    """A copy of a network, the smallest weights of each layer set to 0."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for w in model.parameters():
            if w.dim() > 1:
                w[w.abs() < w.abs().quantile(share)] = 0
    return model


def again(model, seed, n, steps):
    """A copy of the copy, from n other letters."""
    rows = datasets.letters(n, seed + 2000).x
    return KNOCKOFF.train_substitute(
        rows, training.predict_proba(model, rows), seed, steps=steps
    )


# %% [markdown]
# All three, of the long copy from labels, for DAWN's sake, and of the one from
# probabilities, for the wave's:

# %%
washed, half = {}, (n_letters // 2, steps[0] // 2)
for base in list(recipes)[1:]:
    for s, model in zip(seeds, progress(stolen[base], base), strict=True):
        some = np.random.default_rng([s, 6]).permutation(50_000)[:500]
        for way, clean in {
            "fine-tuned": tuned(model, digits.x[some], digits.y[some], s),
            "pruned": pruned(model),
            "copied again": again(model, s, *half),
        }.items():
            washed.setdefault(f"{base}, {way}", []).append(clean)

# %% tags=["remove-input"]
after = {
    name: [
        shown(m, d, exam, exam_labels)
        | {"fingerprint": prints(shop_of(m), usual)}
        for m, d in zip(models, deals, strict=True)
    ]
    for name, models in washed.items()
}
table_of(
    {name: runs for name, runs in seen.items() if name in list(recipes)[1:]}
    | after,
    ["DAWN", "wave", "fingerprint"],
)

# %% [markdown]
# ### Near-duplicates and averages
#
# One grey level more on every pixel is another row for DAWN's hash, and no
# other row for the eye.
# The thief asks each letter three times, a little different each time, and
# averages.


# %%
def averaged(api, rows, seed, times=3):
    """Mean answers (n, c) to near-duplicates of each row."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 2, (times, *rows.shape)) / 255
    near = [np.clip(rows + n, 0, 1).astype(np.float32) for n in noise]
    return np.mean([api.query(x) for x in near], axis=0)


# %% tags=["remove-input"]
left = []
for s, d in zip(seeds, deals, strict=True):
    marked, told = (part[:2000] for part in d.dawn.told(d.rows, d.own))
    few, own_few = d.rows[:2000], d.own[:2000]
    at, wave = (np.arange(2000), own_few.argmax(axis=1)), d.cosine.waves(few)
    api = d.sells("probabilities")
    for way, said in (("once", api.query(few)), ("3", averaged(api, few, s))):
        wrong = 1 - metrics.fidelity(said, own_few)
        follows = correlations(said[at] - own_few[at], wave)[0, 0]
        kept = np.mean(said.argmax(axis=1)[marked] == told[marked])
        row = {"way": way, "wrong": wrong, "wave": follows, "kept": kept}
        left.append(row)

by_way = {
    way: [row for row in left if row["way"] == way] for way in ("once", "3")
}
plotting.table(
    [
        {
            "asked": {"once": "once", "3": "three times, averaged"}[way],
            "other labels than the owner's own": (
                f"{interval(100 * column(rows, 'wrong')):.2f} %"
            ),
            "marks that are left": f"{column(rows, 'kept').mean():.1%}",
            "correlation with the wave": f"{column(rows, 'wave').mean():.3f}",
        }
        for way, rows in by_way.items()
    ]
)

# %% [markdown]
# A hash knows no neighbours, so that the three answers are three draws, and
# two of them outvote a wrong one, at three times the price.
# A wave is the same for neighbours, and stays in their mean.
# Where both marks are sold, the wave moves letters on the boundary across it,
# which are among the other labels.
#
# ### The wave computed back
#
# The thief need not know the key to see the wave.
# In an answer that is nearly certain, all small entries are
# $\epsilon (1 - \cos) / ((c - 1)(1 + 2 \epsilon))$: the smallest entry of an
# answer *is* the wave, and the formula can be solved for $p$.


# %%
def unwaved(sent, epsilon):
    """The answers (n, c) of a `CosineMark` before the wave, nearly.

    Exact where the smallest probability was 0, as is nearly so in an answer
    of many classes. epsilon: of the mark; the largest of all smallest entries
    shows it.
    """
    floor = sent.min(axis=1, keepdims=True) * (1 + 2 * epsilon)
    wave = np.clip(1 - floor * (sent.shape[1] - 1) / epsilon, -1, 1)
    own = sent * (1 + 2 * epsilon)
    own = own - _size(sent, epsilon) * (1 + _sign(sent) * wave)
    own = np.maximum(own, 0)
    return own / own.sum(axis=1, keepdims=True)


# %% tags=["remove-input"]
back = []
for d in deals:
    sent = d.cosine(d.rows, d.own)
    at, wave = (np.arange(n_letters), d.own.argmax(1)), d.cosine.waves(d.rows)
    for way, said in (("sent", sent), ("back", unwaved(sent, 0.2))):
        follows = correlations(said[at] - d.own[at], wave)[0, 0]
        off = metrics.total_variation(said, d.own)
        back.append({"way": way, "off": off, "wave": follows})
for way in ("sent", "back"):
    rows = [row for row in back if row["way"] == way]
    off, follows = (column(rows, name).mean() for name in ("off", "wave"))
    print(f"{way}: off by {off:.4f}, correlation {follows:.3f}")

# %% [markdown]
# The distance is the total variation from the owner's own answers.
#
# ### What a first copy does not believe
#
# DAWN's thief can look at its own short copy: which of the answers that it
# paid for does the copy find unlikely?

# %%
for model, d in zip(stolen[list(recipes)[0]], deals, strict=True):
    marked, _ = d.dawn.told(d.rows, d.own)
    said = training.predict_proba(model, d.rows)
    odd = said[np.arange(len(said)), d.sells("label").query(d.rows)] < 0.05
    print(f"{odd.sum()} unlikely, {odd[marked].sum()} of {marked.sum()} marks")

# %% [markdown]
# Which it may leave out, or give the copy's own label, before it trains
# long.
#
# ### Another kind of suspect
#
# The fingerprint's law is that of small networks with few digits.
# Three larger ones, as innocent, were trained on 8,000 digits; one of them
# took part in the choice.

# %%
for k, case in enumerate(others):
    role = "stranger of the choice" if k == 0 else "innocent"
    print(f"{role}: agrees on {case.score:.2f}, p = {case.p:.3f}")

# %% [markdown]
# {cite:t}`liu2024false` turn this round: who chooses the points can choose
# them so that somebody else's model agrees.
# A claim is worth something where key and points were deposited before.
#
# ## The bill
#
# What the thief pays, and what the owner pays the suspect.

# %% tags=["remove-input"]
price = Ledger(price_per_1000).price
paid = {
    "thief: letters": n_letters,
    "thief: letters, three times each": 3 * n_letters,
    "owner: DAWN (mean)": np.mean([run["DAWN"].queries for run in long]),
    "owner: wave": PROBES,
    "owner: fingerprint": len(points),
    "owner: dataset inference, 200 rows": 200 * 31,
}
plotting.table(
    [
        {
            "who, for what": name,
            "queries": f"{n:,.0f}",
            f"at ${price_per_1000:.2f} for 1,000": f"${price(n):.2f}",
        }
        for name, n in paid.items()
    ]
)

# %% [markdown]
# The owner's copies, strangers and crowd are its own and cost it time alone.
#
# ## Paper and this run
#
# The claims about innocent models are on these distances.
# For independent draws of a continuous law $\sqrt n$ times the distance is
# about 0.87, with a standard deviation of 0.26, whatever $n$.
# DAWN's are such draws.
# The other two should be smaller: the wave's keys are ranked among each other,
# and the fingerprint's agreements have ties.

# %% tags=["hide-input"]
for name in ("DAWN", "wave", "fingerprint"):
    what = "agreements of innocent models from others'"
    if name != "fingerprint":
        what = "innocent p-values from uniform"
    claims.add(
        f"{name}: distance of {what}, scaled",
        tested[name][0],
        high=2.3,
    )
    claims.add(
        f"{name}: innocent models accused at 1 % (share)",
        accusations[name],
        high=0.1 if name == "fingerprint" else 0.025,
    )
few_marks, all_marks = (evidence(r, "DAWN", "score") for r in (quick, long))
claims.add(
    f"DAWN: share of marks repeated after {steps[0]} steps (mean)",
    few_marks.mean(),
    high=0.3,
)
claims.add(
    f"DAWN: share of marks repeated after {steps[1]} steps (mean)",
    all_marks.mean(),
    low=0.4,
)
claims.add(
    f"DAWN: copies of {steps[1]} steps accused at 1 % (share)",
    np.mean(evidence(long, "DAWN") <= 0.01),
    low=0.8,
)
claims.add(
    "fidelity that the longer training gains (points, mean)",
    100 * gain.mean(),
    low=0.0,
)
claims.add(
    "DAWN: accuracy lost, as a part of the share marked (mean)",
    np.mean(column(utility, "DAWN: lost") / column(utility, "marked")),
    low=0.9,
    high=1.0,
)
claims.add(
    "DAWN: marked letters answered as marked, asked three times (share)",
    column(by_way["3"], "kept").mean(),
    high=0.1,
)
claims.add(
    "wave: copies from probabilities accused at 1 % (share)",
    np.mean(evidence(soft, "wave") <= 0.01),
    low=0.8,
)
claims.add(
    "wave: accuracy lost (points, mean)",
    100 * column(utility, "wave: lost").mean(),
    high=0.5,
)
claims.add(
    "wave: correlation in copies from labels (mean)",
    evidence(long, "wave", "score").mean(),
    high=0.08,
)
claims.add(
    "wave: correlation in copies from probabilities (mean)",
    evidence(soft, "wave", "score").mean(),
    low=0.1,
)
claims.add(
    "wave: distance from the owner's answers, computed back (mean)",
    np.mean([row["off"] for row in back if row["way"] == "back"]),
    high=0.03,
)
claims.add(
    "fingerprint: agreement of copies less the most of the crowd",
    evidence(soft, "fingerprint", "score").mean() - usual.max(),
    low=0.5,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (medium)
# :class: attention
# DAWN's hash has no neighbours.
# Give it a coarser row: the 49 means of patches of 4 by 4 pixels, each above
# one half or not.
# How many near-duplicates keep their name, and how many letters share one?
# :::


# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
def coarse(x):
    """49 bits a picture, as float32."""
    return (F.avg_pool2d(torch.tensor(x), 4).flatten(1) > 0.5).float().numpy()


some = letters[:2000]
noise = np.random.default_rng(seed).integers(0, 2, some.shape) / 255
near = np.clip(some + noise, 0, 1).astype(np.float32)
kept = (mark.draws(coarse(some)) == mark.draws(coarse(near))).all(axis=1)
names = {row.tobytes() for row in coarse(some)}
print(f"kept {kept.mean():.1%}; {len(names)} names of {len(some)} letters")
# The coarser the row, the more duplicates keep the name, and the more rows
# that are no duplicates share one verdict.

# %% [markdown]
# :::{admonition} Exercise 2 (short)
# :class: attention
# An owner deposits nothing.
# It draws a thousand keys for the wave after it has seen the suspect's
# answers, and claims the best.
# What $p$ does it reach against each innocent model?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
chosen = [p_of_rank(row.max(), np.delete(row, row.argmax())) for row in found]
print(f"{len(chosen)} innocent models, p at most {max(chosen)}")
# The smallest there is, always: a key that was chosen after the fact is no
# evidence. So the key's hash is deposited before the first query is sold.

# %% [markdown]
# ## Recap
#
# - Evidence is a p-value that is uniform for innocent models, and that is
#   tested before anybody is accused.
# - A secret key gives such a p for any suspect; a fingerprint gives it for
#   suspects that are like those it was calibrated on.
# - DAWN's marks are single wrong answers: how many are learnt depends on how
#   long a copy is trained, and so does its fidelity; near-duplicates are other
#   rows to a hash.
# - A wave is the same for near-duplicates; of a label it reaches only what it
#   moves across a boundary.
# - A claim by two heaps of rows may be about the heaps, not the model.
#
# ## References
#
# - {cite:t}`szyller2021dawn` are DAWN, {cite:t}`zhao2022distillation` the
#   wave, {cite:t}`lukas2021conferrable` the conferrable points, and
#   {cite:t}`maini2021dataset` dataset inference.
# - {cite:t}`szyller2023robustness` and {cite:t}`liu2024false` are about
#   accusing the innocent.
# - {cite:t}`gong2020survey` is the survey, whose defenses end with the theft.
