# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # PRADA's detector: distances that are too regular
#
# PRADA watches what each client of a prediction API sends, and raises an
# alarm when the distances between the client's queries do not look like
# those of natural data.
# It changes no answer.
# Here it is built from scratch, calibrated on clients who mean no harm, and
# tried against attackers who know of it; then a second watch looks at how
# hard a client's rows are, and is met in the same way.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - build the growing sets, the threshold that only rises, and the test;
# - choose the alarm threshold on benign streams and judge it on others;
# - hide an attack by random steps, dummies and accounts, and pay for each;
# - build a second watch, HODA's histograms, and a test that may be repeated
#   for ever without more false alarms;
# - find what passes both.
#
# <!-- minutes -->
# Read [the setting](../setting.ipynb) and
# [PRADA's attack](../attacks/prada_attack.ipynb) first; the symbols are in
# [the notation](../notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import time
import warnings
from collections import deque
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import stats
from torch.nn import functional as F

from mexutils import (
    Claims,
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
from mexutils.api import Alarm
from mexutils.notebook import Markdown, display, progress
from mexutils.runs import column, paired_difference, proportion_interval

plotting.use_style()
claims = Claims()
PRADA = load_chapter("attacks/prada_attack")
KNOCKOFF = load_chapter("attacks/knockoff_nets")
BYLABEL = load_chapter("attacks/stealml_labels")

# %% [markdown]
# The knobs of this chapter.

# %% tags=["parameters"]
seed = 0
n_seeds = 3  # attacks that train
n_pairs = 10  # attacks whose copies are compared
n_calibration = 120  # benign streams that choose the threshold
n_benign = 300  # other benign streams that judge it
n_streams = 15  # streams of every other kind that need no training
length = 500  # queries of a stream
short, large = 200, 800  # queries of an attack with small steps, with others
survey_delta = 0.90
price_per_1000 = 1.50

# %% [markdown]
# ## At a glance
#
# The finished detector as an argument of the API, an attacker with small
# steps, and Alice, who sends digits.

# %%
chapter = load_chapter("defenses/prada_detection")
victim, mnist = victims.mnist_lenet(), datasets.mnist()
api = PredictionAPI(victim.predict_proba, monitors=[chapter.Prada(0.92)])
digits = chapter.PRADA.balanced(mnist.train, seed)
chapter.PRADA.prada_attack(api, digits, 300, step=0.1)
api.query(mnist.test.x[:300], client="Alice")
print(api.alarms)

# %% [markdown]
# ## The question
#
# | | |
# |---|---|
# | **sees** | every query of every client by name, and the victim's answer |
# | **knows** | benign queries of the past, on which it is calibrated |
# | **may not** | change an answer, or disturb a benign client |
# | **pays** | memory for each client, and time for each query |
# | **wants** | an alarm before an attacker has a useful copy |
#
# That is the owner's side.
# {cite:t}`juuti2019prada` have attackers in mind who own few natural pictures
# and make the others: by steps of a fixed size along a gradient, or on a
# line between two pictures.
# What is made by one fixed step has regular distances.
# Their abstract says that all prior attacks are detected, without a false
# positive.
#
# ## The idea
#
# For each client, and for each class $j$ that the victim answered, the
# detector keeps a *growing set* $G_j$ of queries.
# For a new query $x$ of class $j$ it measures how far the nearest one is:
#
# $$
# d_\text{min}(x) = \min_{g \in G_j} \lVert x - g \rVert_2 .
# $$
#
# Every $d_\text{min}$ goes into the client's list $Z$.
# The query itself enters the growing set only if $d_\text{min} > T_j$, and
# then the class threshold may rise:
#
# $$
# T_j \leftarrow \max\bigl(T_j,\;
#     \operatorname{mean}(Z_j) - \operatorname{std}(Z_j)\bigr),
# $$
#
# where $Z_j$ holds the distances of the queries that entered $G_j$, and a
# **zero for the first of them**, which had nothing to be measured against.
#
# The claim behind the test is that $Z$ is close to normally distributed for
# a benign client.
# How close is measured, after values more than three standard deviations
# from the mean are dropped, by the statistic of Shapiro and Wilk,
#
# $$
# W = \frac{\bigl(\sum_i a_i z_{(i)}\bigr)^2}{\sum_i (z_i - \bar z)^2},
# $$
#
# with the sorted distances $z_{(i)}$ and weights $a_i$ that depend on their
# number alone.
# $W$ is the squared correlation of the sorted distances with what a sorted
# normal sample would be: at most 1, and lower for samples with peaks.
# The client is an attacker as soon as $W < \delta$.
# That is the *statistic*, not the p-value of the same name.
#
# ## From scratch
#
# ### The test
#
# There is no test before more than 100 distances.
# Distances that are *all equal* have no $W$: the fraction is 0/0, which
# SciPy answers with 1, as if they were perfectly normal.
# Nothing could be more regular, so the detector takes 0.

# %%
WARM_UP = 100  # distances; the first test needs more
OUTLIER = 3.0  # standard deviations


def statistic(distances):
    """Shapiro–Wilk W of a client's distances, from 0 to 1.

    None up to `WARM_UP` distances. Values of `OUTLIER` standard deviations
    or more from the mean are dropped; 0 where all others are equal.
    Source: Juuti et al. (2019).
    """
    z = np.asarray(distances, float)
    if len(z) <= WARM_UP:
        return None
    kept = z[np.abs(z - z.mean()) < OUTLIER * z.std()]
    spread = np.ptp(kept) if len(kept) else 0.0
    if spread == 0:
        return 0.0
    return float(stats.shapiro((kept - kept.min()) / spread).statistic)


# %% [markdown]
# Samples of 200 show what the numbers mean.

# %%
normal = np.random.default_rng(seed).normal(5, 1, 200)
samples = {
    "normal": normal,
    "uniform": np.random.default_rng(seed).uniform(0, 10, 200),
    "half of it one value": np.append(normal[:100], np.full(100, 2.5)),
    "all equal": np.full(200, 2.5),
}
for name, sample in samples.items():
    print(f"{name}: W = {statistic(sample):.3f}")

# %% [markdown]
# ### The growing set
#
# The threshold is one line.
# A set of two queries, of which the first was entered with its zero, has none
# yet; a third one, closer, raises it.


# %%
def edge_of(kept):
    """Mean minus standard deviation of the distances (m,) of a set."""
    return kept.mean() - kept.std()


print([round(float(edge_of(np.array(z))), 3) for z in ([0, 3], [0, 3, 1])])

# %% [markdown]
# The folded cell keeps a set in arrays, and computes distances: one matrix
# product names the rows that could be nearest given its rounding errors, and
# those are measured again exactly.
# So a repeated query is at distance 0 and not at $10^{-7}$, and a batch gives
# bit for bit what single queries give.
# Rows that cannot be measured are refused before anything is noted, huge ones
# too: their squares overflow, $W$ becomes NaN, and NaN is not below $\delta$.

# %% tags=["hide-input"]
ROUNDING = 1e-11  # relative error of the fast squares, generously


def rough_squares(x, own, rows, squares):
    """Squared distances (n, m) of x (n, d) to rows (m, d), up to rounding.

    own, squares: the squared lengths of the rows of either.
    """
    return own[:, None] + squares - 2 * x @ rows.T


def nearest(row, own, rows, squares, rough):
    """Exact distance from a row to the nearest of rows, given rough squares.

    own, squares: squared lengths, of the row and of the rows.
    """
    slack = ROUNDING * (own + squares)
    close = rough - slack <= (rough + slack).min()
    return np.sqrt(((rows[close] - row) ** 2).sum(axis=1).min())


class GrowingSet:
    """What one client sent of one class, without near repetitions.

    rows: (m, d) kept queries. kept: (m,) their distances on entry, the first
    0. threshold: a query enters if its distance is larger.
    Source: Juuti et al. (2019).
    """

    def __init__(self, width):
        self.size, self.threshold = 0, 0.0
        self._rows = np.empty((16, width))
        self._squares, self._kept = np.empty(16), np.empty(16)

    rows = property(lambda self: self._rows[: self.size])
    squares = property(lambda self: self._squares[: self.size])
    kept = property(lambda self: self._kept[: self.size])

    def edge(self):
        """Mean minus standard deviation of the kept distances."""
        return edge_of(self.kept)

    def add(self, row, own, distance):
        """Keep a row of squared length `own`, and raise the threshold."""
        if self.size == len(self._kept):
            for name in ("_rows", "_squares", "_kept"):
                full = getattr(self, name)
                setattr(self, name, np.concatenate([full, full]))
        at, self.size = self.size, self.size + 1
        self._rows[at], self._squares[at] = row, own
        self._kept[at] = distance if at else 0.0
        self.threshold = max(self.threshold, self.edge())


LARGEST = 1e100  # larger numbers would overflow when squared
CHUNK = 256  # rows that are measured at once


def checked_rows(x, labels, width=None):
    """Rows (n, d) float64 and labels (n,), or `ValueError` for bad ones."""
    rows, labels = np.asarray(x, float), np.asarray(labels)
    if rows.ndim < 2 or rows.size == 0 or labels.shape != rows.shape[:1]:
        raise ValueError(
            f"rows {rows.shape} and labels {labels.shape} do not fit: give "
            "(n, ...) numbers and one label a row"
        )
    rows = rows.reshape(len(rows), -1)
    if width not in (None, rows.shape[1]):
        raise ValueError(
            f"this client's rows have {width} numbers, these have "
            f"{rows.shape[1]}: send rows of one shape"
        )
    if not (np.abs(rows) <= LARGEST).all():
        raise ValueError(
            f"rows hold NaN or numbers beyond {LARGEST:g}, which have no "
            "distance: refuse them"
        )
    return rows, labels


def measure(stream, rows, labels):
    """Distances (n,) of rows (n, d), each within the set of its label."""
    found = np.empty(len(rows))
    for label in np.unique(labels):
        name, where = int(label), labels == label
        if name not in stream.sets:
            stream.sets[name] = stream.make_set(stream.width)
        found[where] = take_in(stream.sets[name], rows[where])
    return found


# %% [markdown]
# The rows of a batch are taken one by one, since each may enter and be the
# nearest of the next.


# %%
def take_in(grown, x):
    """Distance (n,) of each row of x (n, d) to a growing set, in order.

    Rows that are far enough enter it, and count for those after them. NaN
    for the first row of an empty set, which enters.
    """
    found, own = np.full(len(x), np.nan), (x**2).sum(axis=1)
    among = rough_squares(x, own, x, own)
    rough = np.empty((len(x), grown.size + len(x)))
    rough[:, : grown.size] = rough_squares(x, own, grown.rows, grown.squares)
    for i, row in enumerate(x):
        if grown.size:
            so_far = rough[i, : grown.size]
            set_now = grown.rows, grown.squares, so_far
            found[i] = nearest(row, own[i], *set_now)
        if not found[i] <= grown.threshold:
            rough[:, grown.size] = among[:, i]
            grown.add(row, own[i], found[i])
    return found


# %% [markdown]
# Four numbers on a line: which enter, and where the threshold ends.

# %%
grown = GrowingSet(1)
print("distances", take_in(grown, np.array([[0.0], [3.0], [4.0], [4.5]])))
print("kept", grown.rows.ravel(), f"threshold {grown.threshold:.3f}")

# %% [markdown]
# ### One client
#
# A stream holds a growing set for each class and the list $Z$.
# Like the authors' released code it tests on every tenth query, over the last
# 5,000 distances, for which SciPy's $W$ is trusted.


# %%
EVERY = 10  # queries from test to test
WINDOW = 5000  # distances that are remembered


class Stream:
    """All that the detector remembers of one client.

    sets: the growing set of each label. distances: the last `WINDOW`.
    queries: how many were seen.
    """

    make_set = GrowingSet

    def __init__(self):
        self.width, self.queries = None, 0
        self.sets, self.distances = {}, deque(maxlen=WINDOW)

    def add(self, x, labels):
        """Take in rows (n, ...) with the victim's labels (n,), in order.

        Returns the tests that were due, a list of (query, W), queries
        counted from 1. Raises `ValueError`, with nothing taken in, for rows
        of another shape than before, or with NaN, or beyond `LARGEST`.
        """
        rows, labels = checked_rows(x, labels, self.width)
        self.width, tests = rows.shape[1], []
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            for distance in measure(self, rows[part], labels[part]):
                self.queries += 1
                if not np.isnan(distance):
                    self.distances.append(float(distance))
                if self.queries % EVERY == 0:
                    tests.append((self.queries, statistic(self.distances)))
        return [(query, w) for query, w in tests if w is not None]


# %% [markdown]
# A stream of random rows of one class, and the first tests that were due:

# %%
rows = np.random.default_rng(seed).normal(size=(130, 20))
print(Stream().add(rows, np.zeros(130, int)))

# %% [markdown]
# ### The monitor
#
# The monitor has a stream for each client, and compares.
# An alarm stays: $W$ can rise again when an attacker goes on, so the first
# verdict counts, and nothing more is stored of that client.
# `not w >= delta` is on purpose: should a NaN ever get here, it is an alarm.
# The folded cell has the start of a monitor and its alarm; and since a restart
# must not pardon anyone, it writes all that is remembered as JSON and reads
# it again.


# %% tags=["hide-input"]
def packed(stream):
    """A stream as plain numbers and lists."""
    sets = [
        [label, g.threshold, g.kept.tolist(), g.rows.tolist()]
        for label, g in stream.sets.items()
    ]
    return {
        "width": stream.width,
        "queries": stream.queries,
        "distances": list(stream.distances),
        "sets": sets,
    }


def unpacked(kept):
    """The stream that `packed` described."""
    stream = Stream()
    stream.width, stream.queries = kept["width"], kept["queries"]
    stream.distances.extend(kept["distances"])
    for label, threshold, distances, rows in kept["sets"]:
        stream.sets[label] = grown = GrowingSet(stream.width)
        grown._rows, grown._kept = np.array(rows), np.array(distances)
        grown._squares = (grown._rows**2).sum(axis=1)
        grown.size, grown.threshold = len(distances), threshold
    return stream


class Saved:
    """What a restart needs: `delta`, `alarms` and `streams` in and out."""

    def __init__(self, delta):
        if not 0 < delta < 1:
            raise ValueError(
                f"delta must lie between 0 and 1, not {delta!r}: choose it "
                "on benign streams"
            )
        self.delta, self.streams, self.alarms = float(delta), {}, {}

    def _raise(self, client, query, w):
        reason = f"W = {w:.3f} is below delta = {self.delta:g}"
        self.alarms[client] = Alarm(query, reason)
        del self.streams[client]

    def state(self):
        """All that is remembered, as numbers, texts, lists and dicts."""
        alarms = {k: [a.query, a.reason] for k, a in self.alarms.items()}
        streams = {k: packed(s) for k, s in self.streams.items()}
        return {"delta": self.delta, "alarms": alarms, "streams": streams}

    @classmethod
    def from_state(cls, state):
        """The monitor that wrote `state`; its verdicts go on unchanged."""
        new = cls(state["delta"])
        new.alarms = {k: Alarm(*a) for k, a in state["alarms"].items()}
        new.streams = {k: unpacked(s) for k, s in state["streams"].items()}
        return new


# %% [markdown]
# What is left is the comparison.


# %%
class Prada(Saved):
    """PRADA's detector as a monitor of `PredictionAPI`.

    delta: an alarm is raised where W falls below it, between 0 and 1.
    Source: Juuti et al. (2019); tests on every `EVERY`-th query of a client.
    """

    def observe(self, client, x, probabilities):
        """The client's alarm, or None so far.

        x: (n, ...) rows; probabilities: (n, c) of the victim. Raises
        `ValueError` for rows that `Stream.add` refuses.
        """
        if client not in self.alarms:
            stream = self.streams.get(client) or Stream()
            tests = stream.add(x, metrics.labels_of(probabilities))
            self.streams[client] = stream
            for query, w in tests:
                if not w >= self.delta:
                    self._raise(client, query, w)
                    break
        return self.alarms.get(client)


# %% [markdown]
# ## Does it work?
#
# A benign client of this section sends 500 different digits, drawn at random.
# The owner calibrates on digits of the training set, and everything is judged
# on test digits.
# The recorder in the folded cell stands in for the monitor: it keeps what the
# API saw, so that one attack can be judged at all thresholds.

# %% tags=["hide-input"]
victim = victims.mnist_lenet()


class Pool(NamedTuple):
    """Pictures (n, 1, 28, 28) and the victim's labels (n,) for them."""

    x: np.ndarray
    labels: np.ndarray


def answered(x):
    """Pictures as a pool, with the labels of this chapter's victim."""
    return Pool(x, metrics.labels_of(victims.mnist_lenet().predict_proba(x)))


def trajectory(x, labels):
    """The tests (m, 2) of one new client: query and W."""
    return np.array(Stream().add(x, labels))


def drawn(pool, n, rng):
    """n different pictures of a pool, in random order."""
    rows = rng.choice(len(pool.x), n, replace=False)
    return Pool(pool.x[rows], pool.labels[rows])


def natural(pool, n, length, rng):
    """Trajectories of n clients with `length` different pictures each."""
    clients = progress(range(n), "clients")
    return [trajectory(*drawn(pool, length, rng)) for _ in clients]


def lowest(paths):
    """The smallest W (n,) of each trajectory."""
    return np.array([path[:, 1].min() for path in paths])


def share_below(paths, threshold):
    """Share of streams with an alarm at that threshold, with its interval."""
    below = (lowest(paths) < threshold).sum()
    return proportion_interval(below, len(paths))


def first_alarm(path, threshold):
    """The query that raises the alarm in a trajectory; NaN if none does."""
    below = path[path[:, 1] < threshold]
    return below[0, 0] if len(below) else np.nan


def alarms(paths, threshold):
    """Alarms and the queries until them, in words for a table."""
    at = np.array([first_alarm(path, threshold) for path in paths])
    raised = int(np.isfinite(at).sum())
    words = f"{raised} of {len(at)}"
    if not raised:
        return words
    first, last = np.nanmin(at), np.nanmax(at)
    span = f"{first:.0f}–{last:.0f}" if first < last else f"{first:.0f}"
    return f"{words}, at {span}"


def row(name, paths, thresholds):
    """One line of a table of streams."""
    low = lowest(paths)
    return {
        "stream": name,
        "queries": f"{max(path[-1, 0] for path in paths):.0f}",
        "lowest W": f"{low.min():.2f}–{low.max():.2f}",
        **{f"alarms at {t:.2f}": alarms(paths, t) for t in thresholds},
    }


def bursts(x, frames):
    """Each picture (n, 1, 28, 28) `frames` times, moved by a pixel a time."""
    shifts = range(-(frames // 2), frames - frames // 2)
    return np.stack([np.roll(x, k, axis=3) for k in shifts], 1).reshape(
        -1, *x.shape[1:]
    )


def repeated(pool, times):
    """A pool with each picture sent so many times in a row."""
    return Pool(*(np.repeat(part, times, axis=0) for part in pool))


def of_one_class(pool, j):
    """The pictures of a pool that the victim puts in class j."""
    return Pool(*(part[pool.labels == j] for part in pool))


# %% tags=["hide-input"]
class Enough(Exception):
    """A recorder has seen as many rows as it was made for."""


class Recorder:
    """A monitor that raises no alarm and keeps all rows and labels.

    enough: after so many rows the attack is ended by `Enough`.
    """

    def __init__(self, enough=np.inf):
        self.x, self.labels, self.enough = [], [], enough

    def observe(self, client, x, probabilities):
        """Keep the rows and the victim's labels; no alarm."""
        self.x.append(np.array(x, np.float32))
        self.labels.append(metrics.labels_of(probabilities))
        if sum(map(len, self.x)) >= self.enough:
            raise Enough

    def seen(self):
        """All rows (n, ...) and labels (n,) in the order of the queries."""
        return np.concatenate(self.x), np.concatenate(self.labels)


def recorded(attack, predict_proba, enough=np.inf):
    """Rows and labels that `attack(api)` sent to a victim's API.

    enough: the attack is ended once it has sent so many rows.
    """
    recorder = Recorder(enough)
    with suppress(Enough):
        attack(PredictionAPI(predict_proba, monitors=[recorder]))
    return recorder.seen()


FAVOURITE = "T-RND FGSM"


def ten_of_each(pool, seed):
    """100 natural digits of a pool, ten of each label."""
    rng = np.random.default_rng(seed)
    of_class = [np.flatnonzero(pool.labels == j) for j in range(10)]
    return pool.x[np.concatenate([rng.choice(k, 10, False) for k in of_class])]


def synthetic(predict_proba, pool, rule, step, budget, seed):
    """Rows and labels that one run of PRADA's attack sent to a victim."""

    def attack(api):
        seeds = ten_of_each(pool, seed)
        PRADA.prada_attack(api, seeds, budget, rule, seed, step)

    return Pool(*recorded(attack, predict_proba, enough=budget))


def stealml(way, budget, seed):
    """Rows and labels that one of StealML's ways sent to this victim."""

    def attack(api):
        def query(rows):  # rows (n, 784) in [-1, 1], as StealML asks
            rows = np.float32((rows + 1) / 2)
            return api.query(rows.reshape(-1, 1, 28, 28))

        door = SimpleNamespace(query=query)
        with warnings.catch_warnings(action="ignore"):  # learners that stop
            getattr(BYLABEL, way)(door, 784, budget, seed=seed)

    ask = victims.mnist_lenet().predict_proba
    return Pool(*recorded(attack, ask, budget))


def line_search(predict_proba, pool, length, seed, rounds=10):
    """Rows and labels of a line search between pairs of a pool's digits."""
    rng = np.random.default_rng(seed)
    one, other = rng.choice(len(pool.x), (2, length // rounds))
    own = pool.labels[one]
    apart = own != pool.labels[other]
    ends = [pool.x[k[apart]].reshape(apart.sum(), -1) for k in (one, other)]

    def attack(api):
        def label(rows):
            return metrics.labels_of(api.query(rows.reshape(-1, 1, 28, 28)))

        BYLABEL.bisect_pairs(label, *ends, own[apart], rounds)

    return Pool(*recorded(attack, predict_proba))


# %% [markdown]
# The rule for the threshold: the smallest $W$ of all calibration streams,
# rounded down to hundredths, and one hundredth less.

# %%
rng = np.random.default_rng(seed)
train = answered(mnist.train.x[:10_000])
test = answered(mnist.test.x)
calibration = natural(train, n_calibration, length, rng)
delta = np.floor(100 * lowest(calibration).min() - 1) / 100
benign = natural(test, n_benign, length, rng)

# %% tags=["remove-input"]
levels, tight = (delta, survey_delta), 0.97
display(
    plotting.table(
        [
            {
                "threshold": f"{threshold:.2f}{note}",
                "false alarms": f"{share.mean:.1%}",
                "95 % interval": f"{share.low:.1%} to {share.high:.1%}",
            }
            for threshold, note in (
                (survey_delta, " (survey)"),
                (delta, " (calibrated)"),
                (0.95, ""),
                (tight, ""),
            )
            for share in [share_below(benign, threshold)]
        ]
    )
)
Markdown(
    f"The smallest *W* of {n_calibration} calibration streams is "
    f"{lowest(calibration).min():.3f}, so that the threshold becomes "
    f"**{delta:.2f}**; of {n_benign} streams of test digits the smallest is "
    f"{lowest(benign).min():.3f}. "
    "The survey ran PRADA on MNIST with 0.90 and reports a false-positive "
    f"rate of nearly 0.0 %. At {tight} "
    f"{np.mean([path[0, 1] < tight for path in benign]):.0%} of the honest "
    "clients fall below the threshold in their first test, and "
    f"{share_below(benign, tight).mean:.0%} in one of all: each test is "
    "another chance to be wrong, so the length belongs to every rate."
)

# %% [markdown]
# ### Attacks
#
# PRADA's own attacker starts from ten natural digits of each class and makes
# the rest with a step of size $s$ in every pixel, by one of several rules.
# All are tried with $s = 0.1$, one with a smaller step, and two with that
# chapter's own, $64/255 \approx 0.25$.

# %%
scene = victim.predict_proba, train
variants = [(rule, 0.1) for rule in PRADA.RULES if rule != FAVOURITE]
made = {
    (rule, step): [
        synthetic(*scene, rule, step, short if step <= 0.1 else large, s)
        for s in range(seed, seed + n_seeds)
    ]
    for rule, step in (*variants, ("JBDA", 0.05), ("JBDA", PRADA.STEP))
}
for step, count in ((0.1, n_pairs // 2), (PRADA.STEP, n_pairs)):
    made[FAVOURITE, step] = [
        synthetic(*scene, FAVOURITE, step, large, seed + k)
        for k in range(count)
    ]

# %% [markdown]
# The others need no training: KnockoffNets sends letters, a careless attacker
# noise, a line search halves the way between digits of different classes.
# The survey's run was against StealML, which knows nothing of digits: here
# are [its three ways](../attacks/stealml_labels.ipynb) of choosing rows.

# %%
letters = answered(datasets.letters(6000, seed).x)
lines = [
    line_search(victim.predict_proba, test, length, seed + k)
    for k in range(n_streams)
]
ways = "retrain_uniform", "retrain_line_search", "retrain_adaptive"
of_stealml = {
    way: [stealml(way, length, seed + k) for k in range(n_seeds)]
    for way in ways
}

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Distances to the growing set in one stream of each kind, with the normal curve of the same mean and standard deviation."}, "image": {"alt": "Four histograms of the distance to the growing set, each with a normal curve over it: benign digits, a synthetic stream with step 0.1, letters, and a line search. The titles give W."}}
of_made = {
    kind: [trajectory(*run) for run in runs] for kind, runs in made.items()
}
of_lines = [trajectory(*stream) for stream in lines]
of_letters = natural(letters, n_streams, length, rng)
noise = [
    answered(datasets.noise(length, (1, 28, 28), seed + k))
    for k in range(n_streams)
]
of_noise = [trajectory(*stream) for stream in noise]
groups = {f"{r}, step {k:.2f}": p for (r, k), p in sorted(of_made.items())}
groups["line search between digits"] = of_lines
for way, runs in of_stealml.items():
    groups[f"StealML, {way}"] = [trajectory(*run) for run in runs]
groups["letters (KnockoffNets)"] = of_letters
groups["uniform noise"] = of_noise
groups["benign digits"] = benign
display(
    plotting.table(
        [row(name, paths, levels) for name, paths in groups.items()]
    )
)
looks_worse = {
    name: (lowest(paths)[:, None] < lowest(benign)).mean()
    for name, paths in (("letters", of_letters), ("uniform noise", of_noise))
}
commonest = np.bincount(noise[0].labels).max() / length
one_stream = {
    "benign digits": drawn(test, length, rng),
    "synthetic, step 0.1": made[FAVOURITE, 0.1][0],
    "letters": drawn(letters, length, rng),
    "line search": lines[0],
}
fig, axes = plt.subplots(2, 2, figsize=(7.6, 4.8))
for ax, (name, (x, labels)) in zip(axes.flat, one_stream.items(), strict=True):
    stream = Stream()
    stream.add(x, labels)
    z = np.array(stream.distances)
    ax.hist(z, 40, density=True, color=plotting.COLOURS["sky"])
    grid = np.linspace(0, z.max(), 200)
    curve = stats.norm.pdf(grid, z.mean(), z.std())
    ax.plot(grid, curve, color=plotting.COLOURS["orange"], marker="")
    ax.set_title(f"{name}: W = {statistic(z):.2f}", fontsize=10)
    ax.set(xlabel="distance to the growing set", ylabel="density")
plt.show()
Markdown(
    "*Lowest W* spans the streams of a kind; after the number of alarms "
    "stands the query, or the first and the last, at which they came. "
    "The chance that a stream looks worse than a benign one is "
    + " and ".join(f"{p:.2f} for {name}" for name, p in looks_worse.items())
    + ": below one half, benign digits are accused before them, whatever the "
    f"threshold. This victim gives {commonest:.0%} of uniform rows one label; "
    "StealML's searches need pairs of two labels, and the line search between "
    "digits shows what they send where such pairs are at hand."
)

# %% [markdown]
# Of every synthetic attack the first hundred queries are natural seeds, and
# the first test comes soon after them.
# Letters and noise need not be the exception that the detector looks for: the
# distances between them may be close to normal too.
# The figure shows distances of one stream of each kind.

# %% [markdown]
# ## How it breaks
#
# ### Honest clients who repeat themselves
#
# The next streams are as benign: a client who sees one class only, one who
# sends every picture twice or four times because answers got lost, a camera
# that takes seven frames of a moving digit, and a good customer with 2,000
# digits.

# %% tags=["remove-input"]
habits = {
    "one class only": lambda k: drawn(of_one_class(test, k % 10), length, rng),
    "each digit twice": lambda k: repeated(drawn(test, length // 2, rng), 2),
    "each digit four times": lambda k: repeated(
        drawn(test, length // 4, rng), 4
    ),
    "bursts of 7 frames": lambda k: answered(
        bursts(drawn(test, length // 7, rng).x, 7)
    ),
    "2,000 different digits": lambda k: drawn(test, 2000, rng),
}
honest = {
    name: [habit(k) for k in range(n_streams)]
    for name, habit in habits.items()
}
of_habits = {
    name: [trajectory(*pool) for pool in pools]
    for name, pools in honest.items()
}
plotting.table([row(name, paths, levels) for name, paths in of_habits.items()])

# %% [markdown]
# A repeated picture has distance 0, and many zeros are a peak.
# The remedy is to answer repeats from a cache that the monitor does not see.
#
# ### The zero that looks like a mistake
#
# The distance of the first query of a class is unknown, and a tidy
# programmer would leave it out of $Z_j$ instead of writing 0.
# Then the second query enters with distance $d$, the mean of one number is
# $d$, its standard deviation 0, and $T_j = d$: only what is farther than that
# enters from then on.
# With the zero, mean and standard deviation are both $d / 2$ and $T_j = 0$.


# %%
class WithoutZero(GrowingSet):
    """A growing set that forgets the zero of its first query."""

    def edge(self):
        """Mean minus standard deviation without the initial zero."""
        entered = self.kept[1:]
        return entered.mean() - entered.std() if len(entered) else 0.0


class TidyStream(Stream):
    """A stream whose growing sets lack the zero."""

    make_set = WithoutZero


# %% tags=["remove-input"]
small, usual = 0.1, PRADA.STEP
zeros = {
    "with": of_made[FAVOURITE, usual],
    "without": [
        np.array(TidyStream().add(*run)) for run in made[FAVOURITE, usual]
    ],
}
freed = paired_difference(*(lowest(zeros[k]) for k in ("without", "with")))
Markdown(
    f"The lowest W rises by **{freed:.2f}** where the zero is left out "
    "(paired over seeds); at the survey's threshold "
    f"{(lowest(zeros['with']) < survey_delta).sum()} of {n_pairs} runs are "
    f"flagged with it, and {(lowest(zeros['without']) < survey_delta).sum()} "
    "without it: a frozen set knows no parents, and the regular distance to "
    "them is gone."
)

# %% [markdown]
# ### A random step
#
# The regular distance is the step's, and the step is the attacker's to
# choose.
# The next rule draws one for every child, so that the distances spread like
# natural ones.
# It sends no query more.


# %%
def random_step(model, x, labels, step, round, rng):
    """T-RND FGSM with a step of its own for each child, `step` on average.

    A rule of PRADA's attack; the standard deviation is a third of the mean.
    """
    size = rng.normal(step, step / 3, (len(x), 1, 1, 1))
    size = size.clip(step / 10, 2.5 * step).astype(np.float32)
    return PRADA.towards(model, x, labels, size, round, rng)


# %% [markdown]
# Its runs, and what copies are worth: of the fixed step with nobody watching,
# of what came before its alarm, of the random step, and of the fixed step
# with a letter for each query, all for the same bill.
# Every copy learns from all answers, by one recipe.


# %% tags=["hide-input"]
def copy_of(x, predict_proba, seed, exam):
    """Fidelity (%) on an exam of a copy that was given answers to x.

    exam: a pool.
    """
    model = PRADA.train_substitute(x, predict_proba(x), seed)
    guess = training.predict_proba(model, exam.x)
    return 100 * metrics.fidelity(guess, exam.labels)


def mixed(own, pool, per_query, rng):
    """A stream with `per_query` rows of a pool for each of its own, mixed.

    No row of the pool comes twice; its own keep their order.
    """
    n, extra = len(own.x), round(per_query * len(own.x))
    place = np.append(np.arange(n), rng.uniform(0, n, extra))
    order = np.argsort(place, kind="stable")
    parts = zip(own, drawn(pool, extra, rng), strict=True)
    return Pool(*(np.concatenate(pair)[order] for pair in parts))


def enough(by_ratio, threshold):
    """The smallest ratio at which no run falls below a threshold.

    by_ratio: the trajectories of all runs at each ratio, from the smallest.
    Infinite where there is no such ratio.
    """
    hidden = (
        ratio
        for ratio, paths in by_ratio.items()
        if (lowest(paths) >= threshold).all()
    )
    return next(hidden, np.inf)


def split(sent, accounts):
    """One trajectory an account, for queries sent under each in turn."""
    parts = [Pool(*(p[k::accounts] for p in sent)) for k in range(accounts)]
    return [trajectory(*part) for part in parts]


def share_of_accounts(paths, threshold):
    """Share of accounts flagged, those included that are never tested."""
    tested = [path for path in paths if len(path)]
    flagged = (lowest(tested) < threshold).sum() if tested else 0
    return proportion_interval(flagged, len(paths))


def timed(stream, x, labels, size):
    """Seconds (m,) that a stream takes for each batch of `size` rows."""
    seconds = []
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        begin = time.perf_counter()
        stream.add(x[part], labels[part])
        seconds.append(time.perf_counter() - begin)
    return np.array(seconds)


def stored(stream):
    """Rows kept by all growing sets of a stream, and their megabytes."""
    rows = sum(grown.size for grown in stream.sets.values())
    return rows, rows * stream.width * 8 / 2**20


# %%
hidden = [
    synthetic(*scene, random_step, usual, large, seed + k)
    for k in range(n_pairs)
]
of_hidden, sent = [trajectory(*run) for run in hidden], []
for k, fixed in enumerate(made[FAVOURITE, usual]):
    alarm = first_alarm(of_made[FAVOURITE, usual][k], delta)
    stop = large if np.isnan(alarm) else int(alarm) - 1
    half = Pool(*(part[: large // 2] for part in fixed))
    covered = mixed(half, letters, 1, np.random.default_rng(seed + k))
    sent.append({"fixed step": fixed.x, "until its alarm": fixed.x[:stop]})
    sent[k] |= {"random step": hidden[k].x, "with letters": covered.x}


# %% tags=["remove-input"] mystnb={"figure": {"caption": "Fidelity of the copies for the same bill, which only the blocked attacker leaves unspent. Points are seeds, bars 95 % intervals."}, "image": {"alt": "Four rows of points with means and intervals on an axis of fidelity in per cent: the fixed step, what came until its alarm, the random step, and the fixed step with letters."}}
copies = [
    {
        name: copy_of(x, victim.predict_proba, seed + k, test)
        for name, x in streams.items()
    }
    for k, streams in enumerate(sent)
]
gains = {
    name: paired_difference(column(copies, name), column(copies, "fixed step"))
    for name in copies[0]
    if name != "fixed step"
}

plotting.interval_plot(
    {name: column(copies, name) for name in copies[0]},
    f"fidelity (%), {large} queries or fewer",
)
plt.show()
Markdown(
    f"The random step's lowest W lies from {lowest(of_hidden).min():.2f} to "
    f"{lowest(of_hidden).max():.2f}; alarms at {delta:.2f}: "
    f"**{alarms(of_hidden, delta)}**, at 0.92: {alarms(of_hidden, 0.92)}, "
    f"with the fixed step {alarms(of_made[FAVOURITE, usual], delta)}. "
    "Points of fidelity, minus the fixed step unwatched, paired: "
    + ", ".join(f"{name} **{gain:.1f}**" for name, gain in gains.items())
    + ". "
    + (
        "The random step costs no more than the spread between seeds."
        if gains["random step"].low <= 0 <= gains["random step"].high
        else "The random step gains."
        if gains["random step"].low > 0
        else "The random step costs something."
    )
)

# %% [markdown]
# ### Dummy queries
#
# The attacker may also send pictures that it does not need, so that the list
# $Z$ looks normal again; the survey warns of this.
# They are natural digits, rendered letters, or *tailored*: earlier queries
# with random signs of a size drawn so that their distances fill the gap
# between step and nature.


# %%
def tailored(own, count, rng, size=0.2, spread=0.05):
    """`count` dummies at distances that a small step leaves free.

    own: the pool of the attack's queries. size, spread: of the change of a
    pixel, mean and standard deviation.
    """
    x = own.x[rng.choice(len(own.x), count)]
    change = np.abs(rng.normal(size, spread, (count, 1, 1, 1)))
    signs = rng.choice(np.float32([-1, 1]), x.shape)
    return answered((x + change.astype(np.float32) * signs).clip(0, 1))


# %% [markdown]
# Each ratio of dummies to queries is tried on the first 400 queries of
# attacks with either step.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Lowest W of the attack mixed with dummies; lines are means over seeds, bands 95 % intervals, dashed the two thresholds."}, "image": {"alt": "Six curves with bands, the lowest W against dummy queries per attack query, for two steps of the attack and three kinds of dummies. Two dashed horizontal lines mark the thresholds."}}
ratios, dodged = [0, 0.5, 1, 2, 3], {}
for step in (small, usual):
    runs = [
        Pool(*(part[:400] for part in run))
        for run in made[FAVOURITE, step][:5]
    ]
    for kind in ("letters", "digits", "tailored"):
        cover = {"letters": letters, "digits": test}.get(kind)
        dodged[step, kind] = {
            r: [
                trajectory(
                    *mixed(run, cover or tailored(run, 1200, rng), r, rng)
                )
                for run in runs
            ]
            for r in ratios
        }
fig, ax = plt.subplots()
for (step, kind), by_ratio in dodged.items():
    values = [lowest(paths) for paths in by_ratio.values()]
    plotting.band(ax, ratios, values, f"step {step:.2f}, {kind}")
for level in levels:
    ax.axhline(level, color="0.3", ls="--", lw=1)
ax.set(xlabel="dummies per attack query", ylabel="lowest W")
ax.set_ylim(top=1)
ax.legend(title="attack, dummies", fontsize=9)
plt.show()
bill = large * price_per_1000 / 1000
plotting.table(
    [
        {
            "step": f"{step:.2f}",
            "dummies": kind,
            **{
                f"per query, at {level:.2f}": f"{ratio:g}"
                for level in levels
                for ratio in [enough(by_ratio, level)]
            },
            f"dollars, {bill:.2f} without": "above "
            f"{bill * (1 + max(ratios)):.2f}"
            if np.isinf(enough(by_ratio, delta))
            else f"{bill * (1 + enough(by_ratio, delta)):.2f}",
        }
        for (step, kind), by_ratio in dodged.items()
    ]
)

# %% [markdown]
# *Per query* is the fewest of those tried with which no run was flagged, *inf*
# where even the most did not hide all; the dollars are for the calibrated
# threshold.
#
# ### Several accounts
#
# The detector knows clients by name, and an attacker with $k$ names sends its
# queries under each in turn.

# %% tags=["remove-input"]
counts = (1, 2, 3, 4, 6, 8)
by_accounts = {
    (step, k): [
        path for run in made[FAVOURITE, step][:5] for path in split(run, k)
    ]
    for step in (small, usual)
    for k in counts
}
plotting.table(
    [
        {
            "step": f"{step:.2f}",
            "accounts": k,
            "queries each": large // k,
            "lowest W": f"{lowest(paths).min():.2f}" if len(paths[0]) else "–",
            **{
                f"flagged at {t:.2f}": f"{share_of_accounts(paths, t):.0%}"
                for t in levels
            },
        }
        for (step, k), paths in by_accounts.items()
    ]
)

# %% [markdown]
# Shares of all accounts over all runs, with their intervals; a dash stands
# where no account sent enough to be tested.
# A child is measured against the queries of its own account only.
# A round doubles the queries, so with 2 or 4 accounts parent and child fall
# to the same one; with 3 or 6 they are parted.
# And an account of 100 queries is never tested, however large the attack.
#
# ## A second watch: how hard are the rows?
#
# ### The idea
#
# {cite:t}`sadeghzadeh2022hoda` do not look at distances.
# While a network learns, the label of an ordinary row settles early; that of
# a row near a border, or of none of the classes, changes until late.
# The *hardness* $h(x)$ of a row, from 0 to 10, is the first of 11 checkpoints
# of the victim's training from which on all have its final label.
# HODA compares histograms: with $H_u$ that of a client's last 100 rows and
# $H_0$ that of benign rows, the alarm is raised where
#
# $$
# 1 - \operatorname{corr}(H_0, H_u) > \delta_H .
# $$
#
# This book's victim was kept without its checkpoints.
# So the owner trains once more, by the same recipe but for 600 steps on
# 10,000 of its digits, and takes ten checkpoints of that; the eleventh is the
# victim in service, whose label is the final one.
# The folded cell trains, and turns a call of `observe` into hardness.

# %% tags=["hide-input"]
STEPS = (10, 15, 25, 40, 60, 100, 160, 250, 400, 600)


class Snapshots:
    """The recipe's distortion, which copies the model at `STEPS`."""

    def __init__(self, model):
        self.model, self.step, self.kept = model, 0, []

    def __call__(self, images, rng):
        if self.step in STEPS:
            state = self.model.state_dict()
            self.kept.append({k: v.clone() for k, v in state.items()})
        self.step += 1
        return victims.jitter(images, rng)


def checkpoints(x, y, seed):
    """LeNets at `STEPS` of one training on digits x and their classes y."""
    torch.manual_seed(seed)
    model = models.lenet()
    snapshots = Snapshots(model)
    recipe = {"lr": victims.PEAK_LR, "weight_decay": victims.WEIGHT_DECAY}
    recipe |= {"batch_size": victims.BATCH, "augment": snapshots}
    training.fit(model, x, y, steps=max(STEPS) + 1, seed=seed, **recipe)
    found = [models.lenet().to(training.DEVICE).eval() for _ in STEPS]
    for network, state in zip(found, snapshots.kept, strict=True):
        network.load_state_dict(state)
    return found


class Watch:
    """A monitor that judges how hard a client's rows are, one by one.

    networks: as for `hardness`. A kind has `start()`, what it knows of a new
    client, and `judge(state, level)`: the next state, and a reason or "".
    """

    def __init__(self, networks):
        self.networks, self.memory, self.alarms = networks, {}, {}

    def observe(self, client, x, probabilities):
        """The client's alarm, or None so far; as for `Prada.observe`."""
        labels = metrics.labels_of(probabilities)
        checked_rows(x, labels)
        return self.read(client, hardness(self.networks, x, labels))

    def read(self, client, hard):
        """The same for rows of known hardness (n,), whole numbers."""
        for level in hard:
            if client in self.alarms:
                break
            seen, state = self.memory.get(client, (0, self.start()))
            state, reason = self.judge(state, level)
            self.memory[client] = seen + 1, state
            if reason:
                self.alarms[client] = Alarm(seen + 1, reason)
        return self.alarms.get(client)


def alarm_of(watch, found):
    """The query at which a watch alarms on rows of that hardness, or NaN."""
    alarm = watch.read("client", found)
    return alarm.query if alarm else np.nan


def told(at):
    """Alarms and the queries until them, in words."""
    at = np.asarray(at, float)
    raised = np.isfinite(at)
    words = f"{raised.sum()} of {len(at)}"
    if raised.any():
        words += f" ({np.nanmin(at):.0f}–{np.nanmax(at):.0f})"
    return words


def hardness_among(known, values, networks, streams):
    """The hardness of each of some streams; rows that are known are looked up.

    known: rows (n, ...) with the hardness `values` (n,).
    """
    rows = map(np.ndarray.tobytes, known)
    seen = dict(zip(rows, values, strict=True))
    return [
        np.array([seen[row.tobytes()] for row in x])
        if all(row.tobytes() in seen for row in x)
        else hardness(networks, x, labels)
        for x, labels in streams
    ]


# %% [markdown]
# The labels of all checkpoints, and the last of them that is another:


# %%
def hardness(networks, x, labels):
    """At which checkpoint the labels (n,) of rows x settle: ints from 0.

    networks: the checkpoints in order; len(networks) where the last of them
    still answers otherwise. Source: Sadeghzadeh et al. (2022).
    """
    said = [training.predict_proba(net, x).argmax(axis=1) for net in networks]
    wrong = np.array(said) != labels
    late = wrong[::-1].argmax(axis=0)  # checkpoints after the last wrong one
    return np.where(wrong.any(axis=0), len(networks) - late, 0)


# %% [markdown]
# Hardness of three kinds of rows, in shares for 0 to 10:

# %%
spare = slice(20_000, 30_000)  # digits that serve for nothing else
networks = checkpoints(mnist.train.x[spare], mnist.train.y[spare], seed)
hard = {
    name: Pool(hardness(networks, *pool), pool.labels)
    for name, pool in (("calibration", train), ("digits", test))
}
hard["letters"] = Pool(hardness(networks, *letters), letters.labels)
bins = {name: np.bincount(p.x, minlength=11) for name, p in hard.items()}
for name, count in bins.items():
    print(f"{name:12}", (count / count.sum()).round(2))

# %% [markdown]
# ### HODA as a monitor
#
# Its threshold is the largest distance of 40,000 windows of benign rows.


# %%
WINDOW_OF_HODA = 100  # rows of a test


def histogram_distance(usual, found):
    """1 minus the correlation of two histograms; 1 where one is flat."""
    if np.ptp(usual) == 0 or np.ptp(found) == 0:
        return 1.0
    return 1 - np.corrcoef(usual, found)[0, 1]


# %% [markdown]
# It is asked once for every hundred rows.


# %%
class Hoda(Watch):
    """HODA's detector: one test for every 100 rows of a client.

    usual: (11,) counts of benign rows by hardness. delta: largest distance
    of histograms without an alarm, above 0.
    """

    def __init__(self, networks, usual, delta):
        super().__init__(networks)
        self.usual = np.asarray(usual)
        self.delta = checks.share("delta", delta, 1e-9, 2)

    def start(self):
        return np.zeros(len(self.usual), int)

    def judge(self, counts, level):
        counts = counts + (np.arange(len(counts)) == level)
        if counts.sum() < WINDOW_OF_HODA:
            return counts, ""
        apart = histogram_distance(self.usual, counts)
        reason = f"histograms are {apart:.2f} apart"
        return self.start(), "" if apart <= self.delta else reason


# %% [markdown]
# ### A bet instead of repeated tests
#
# Each test is another chance to accuse a benign client.
# A bet is not.
# Let $s_i = 1$ where query $i$ is hard, which at most a tenth of the
# calibration digits are, and let a benign client's next query be hard with
# probability $s_0$ at most, whatever came before.
# A gambler starts with 1 and stakes a part of it on the next row being hard:
#
# $$
# E_n = \frac{1}{|\Lambda|} \sum_{\lambda \in \Lambda}
#       \prod_{i \le n} \bigl(1 + \lambda (s_i - s_0)\bigr),
# \qquad
# \Pr\bigl(\exists\, n: E_n \ge 1/\alpha\bigr) \le \alpha .
# $$
#
# Against a benign client no factor is above 1 on average, so no game can be
# expected to win; the second half is *Ville's inequality*, which holds for
# the whole stream, however long and however often one looks
# {cite:p}`ramdas2023savi`.
# Several stakes $\lambda$ share the start, for nobody knows the best.


# %%
STAKES = np.array([0.5, 1.0, 2.0, 4.0, 8.0])


class Wager(Watch):
    """An anytime-valid monitor: it bets that a client's rows are hard.

    least: from which hardness on a row is hard. usual: s_0, below 1/8.
    alpha: the most false alarms, a share of clients.
    """

    def __init__(self, networks, least, usual, alpha=0.01):
        super().__init__(networks)
        self.least = least
        self.usual = checks.share("usual", usual, 1e-9, 0.99 / STAKES.max())
        self.alpha = checks.share("alpha", alpha, 1e-9, 0.999)

    def start(self):
        return np.ones(len(STAKES))

    def judge(self, wealth, level):
        wealth = wealth * (1 + STAKES * ((level >= self.least) - self.usual))
        reason = f"a bet on hard rows won {wealth.mean():.0f} for 1"
        return wealth, reason if wealth.mean() >= 1 / self.alpha else ""


# %% [markdown]
# All constants come from the calibration digits: HODA's, from which hardness
# on a row is hard, and $s_0$, the upper end of a one-sided 99.9 % interval.


# %%
def hard_share(counts):
    """From which hardness on rows are hard, and s_0.

    counts: of benign rows by hardness; a tenth of them may be hard.
    """
    at_least = counts[::-1].cumsum()[::-1]
    least = int(np.argmax(at_least <= at_least[0] / 10))
    hard, others = at_least[least], at_least[0] - at_least[least]
    return least, stats.beta.ppf(0.999, hard + 1, others)


usual_bins = bins["calibration"]
windows = rng.multinomial(WINDOW_OF_HODA, usual_bins / len(train.x), 40_000)
delta_h = max(histogram_distance(usual_bins, window) for window in windows)
least, usual_share = hard_share(usual_bins)
print(f"HODA's threshold {delta_h:.3f}")
print(f"hard from {least} on; s_0 = {usual_share:.3f}")

# %% [markdown]
# ### What the second watch sees
#
# The streams from above, and fresh benign ones; numbers of alarms, and in
# brackets the queries at which the first and the last came.
# In the figure the dashed line is where hard rows begin.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Hardness of the rows of four kinds of streams."}, "image": {"alt": "Four curves of the share of rows, from 0 upwards, against the hardness from 0 to 10: natural digits, T-RND FGSM with a random step, letters, and a line search."}}
new_watch = {
    "HODA": partial(Hoda, networks, usual_bins, delta_h),
    "bet": partial(Wager, networks, least, usual_share),
}
known = test.x, hard["digits"].x
hardness_of = partial(hardness_among, *known, networks)
calm = [drawn(hard["digits"], length, rng).x for _ in range(n_benign)]
watched = {
    "T-RND FGSM, step 0.10": hardness_of(made[FAVOURITE, small]),
    "T-RND FGSM, step 0.25": hardness_of(made[FAVOURITE, usual][:5]),
    "T-RND FGSM, random step": hardness_of(hidden),
    "line search": hardness_of(lines[:5]),
    "StealML, line search": hardness_of(of_stealml[ways[1]]),
    "uniform noise": hardness_of(noise[:5]),
    "letters (KnockoffNets)": [
        drawn(hard["letters"], length, rng).x for _ in range(n_streams)
    ],
    "natural digits": calm,
} | {name: hardness_of(pools) for name, pools in honest.items()}
verdicts = {
    (name, kind): [alarm_of(new_watch[kind](), found) for found in streams]
    for name, streams in watched.items()
    for kind in ("HODA", "bet")
}
display(
    plotting.table(
        [
            {
                "stream": name,
                "hard rows": f"{(np.concatenate(rows) >= least).mean():.1%}",
                "HODA": told(verdicts[name, "HODA"]),
                "the bet": told(verdicts[name, "bet"]),
            }
            for name, rows in watched.items()
        ]
    )
)
fig, ax = plt.subplots()
for name in (
    *("natural digits", "T-RND FGSM, random step"),
    *("letters (KnockoffNets)", "line search"),
):
    rows = np.concatenate(watched[name])
    ax.plot(np.bincount(rows, minlength=11) / len(rows), label=name)
ax.axvline(least - 0.5, color="0.3", ls="--", lw=1)
ax.set(xlabel="hardness (checkpoint)", ylabel="share of rows", ylim=(0, None))
ax.legend(fontsize=9)
plt.show()
false = {
    kind: np.isfinite(verdicts["natural digits", kind]).mean()
    for kind in ("HODA", "bet")
}
Markdown(
    f"False alarms on {n_benign} streams of {length} natural digits: the bet "
    f"**{false['bet']:.1%}**, HODA {false['HODA']:.1%}. Ville's bound for the "
    "bet is 1 % for streams of any length, and 0.1 % for a wrong $s_0$; it "
    "speaks of clients whose rows are hard as rarely as the calibration "
    "digits were, which a client of one class need not be."
)

# %% [markdown]
# A client who sends natural rows is not seen, and cannot be: to accuse it
# is to accuse the benign.
# That is what the bound says.
#
# ### The attacker who knows
#
# An attack whose queries are hard with probability $p$ can be thinned by
# dummies that are hard with $p_d$.
# No bet wins in the long run where, with $r$ dummies for a query,
# $p + r\,p_d \le (1 + r)\,s_0$, which takes
#
# $$
# r = \frac{p - s_0}{s_0 - p_d} .
# $$
#
# Accounts are the other way: each starts the game anew.
# The third is to send easy rows.
# The next attacker bends its hundred seeds by small random affine maps, and
# keeps the half of which a copy trained on the seeds is most certain.
# All three are tried; the first two on the random step.


# %%
def bent(x, strength, rng):
    """Pictures (n, 1, h, w) after a random affine map each, near identity."""
    change = rng.normal(0, strength, (len(x), 2, 3)).astype(np.float32)
    maps = torch.eye(2, 3) + torch.as_tensor(change)
    where = F.affine_grid(maps, list(x.shape), align_corners=False)
    moved = F.grid_sample(torch.as_tensor(x), where, align_corners=False)
    return moved.numpy()


# %% [markdown]
# The choice is the copy's, and asks the victim nothing.


# %%
def easy_rows(api, seeds, budget, seed, strength=0.1):
    """The seeds, and bent ones of which a first copy is most certain.

    seeds: (n, 1, h, w), which are asked first. budget: rows in all.
    """
    rng, answers = np.random.default_rng(seed), api.query(seeds)
    first = PRADA.train_substitute(seeds, answers, seed)
    times = -(-2 * (budget - len(seeds)) // len(seeds))
    rows = np.concatenate([bent(seeds, strength, rng) for _ in range(times)])
    labels = np.tile(metrics.labels_of(answers), times)
    certain = training.predict_proba(first, rows)[range(len(rows)), labels]
    best = np.sort(np.argsort(-certain)[: budget - len(seeds)])
    api.query(rows[best])
    return np.concatenate([seeds, rows[best]])


# %% tags=["remove-input"]
easy = []
for k in range(n_pairs):
    api = PredictionAPI(victim.predict_proba)
    rows = easy_rows(api, ten_of_each(train, seed + k), large, seed + k)
    easy.append(answered(rows))
    copies[k]["easy rows"] = copy_of(
        rows, victim.predict_proba, seed + k, test
    )
of_easy, hard_easy = [trajectory(*run) for run in easy], hardness_of(easy)
gains["easy rows"] = paired_difference(
    column(copies, "easy rows"), column(copies, "fixed step")
)
passed = {
    kind: [alarm_of(new_watch[kind](), h) for h in hard_easy] for kind in false
}

rows_of_kind = {
    "natural digits": hard["digits"],
    "easy rows": Pool(*[np.concatenate([h[100:] for h in hard_easy])] * 2),
}
thinned = {
    (kind, r): [
        mixed(Pool(found[:400], found[:400]), pool, r, rng).x
        for found in watched["T-RND FGSM, random step"][:5]
    ]
    for kind, pool in rows_of_kind.items()
    for r in (1, 3, 7, 15)
}
parted = {
    k: [
        found[j::k]
        for found in watched["T-RND FGSM, random step"]
        for j in range(k)
    ]
    for k in (8, 40, 80, 160)
}
children = [h[100:] for h in watched["T-RND FGSM, random step"]]
p = (np.concatenate(children) >= least).mean()
needed = {
    kind: (p - usual_share) / (usual_share - p_d)
    if (p_d := (pool.x >= least).mean()) < usual_share
    else np.inf
    for kind, pool in rows_of_kind.items()
}
display(
    plotting.table(
        [
            {
                "400 queries with": f"{r} {kind} each",
                "dollars": f"{400 * (1 + r) * price_per_1000 / 1000:.2f}",
                **{
                    name: told(
                        [alarm_of(new_watch[watch](), f) for f in streams]
                    )
                    for name, watch in (("HODA", "HODA"), ("the bet", "bet"))
                },
            }
            for (kind, r), streams in thinned.items()
        ]
    )
)
by_names = {
    (k, watch): np.isfinite(
        [alarm_of(new_watch[watch](), f) for f in streams]
    ).mean()
    for k, streams in parted.items()
    for watch in false
}
display(
    plotting.table(
        [
            {
                "accounts": k,
                "queries each": large // k,
                "flagged by HODA": f"{by_names[k, 'HODA']:.0%}",
                "flagged by the bet": f"{by_names[k, 'bet']:.0%}",
            }
            for k in parted
        ]
    )
)
easy_share = (rows_of_kind["easy rows"].x >= least).mean()
told_easy = ", ".join(
    [f"PRADA at {delta:.2f}: {alarms(of_easy, delta)}"]
    + [
        f"{name}: {told(passed[w])}"
        for name, w in (("HODA", "HODA"), ("the bet", "bet"))
    ]
)
fewest = next(
    n
    for n in range(1, 1000)
    if ((1 + STAKES * (1 - usual_share)) ** n).mean() >= 1 / 0.01
)
Markdown(
    f"Of the random step's children {p:.0%} are hard, so that the formula "
    "asks for "
    + " or ".join(f"{n:.1f} {kind}" for kind, n in needed.items())
    + f" each. An account of {fewest - 1} queries cannot be flagged by the "
    f"bet at all, one of {WINDOW_OF_HODA - 1} not by HODA. "
    f"Of the bent and chosen rows {easy_share:.1%} are hard, against $s_0$ = "
    f"{usual_share:.1%}. Alarms on {large} of them, seeds included: "
    f"**{told_easy}**. Fidelity minus the fixed step: "
    f"**{gains['easy rows']:.1f} points**, for the same bill and with the "
    "same hundred digits."
)

# %% [markdown]
# Dummies cost money, and accounts whatever it takes to open one; easy rows
# cost nothing, and who has them needs no other attack behind them.
# The attacker knows neither the owner's checkpoints nor its digits; it relies
# on what is hard for one copy being hard for another.
#
# ## The bill
#
# The attacker's bill is in the tables above.
# The owner pays with time and memory.
# 10,000 different test digits pass through one client's stream in batches of
# 100.

# %% tags=["remove-input"]
stream, growth, total = Stream(), [], 0.0
for end in (1000, 2000, 5000, 10_000):
    part = slice(stream.queries, end)
    took = timed(stream, test.x[part], test.labels[part], 100)
    total += took.sum()
    growth.append((end, *stored(stream), 100 / np.median(took)))
different = len({digit.tobytes() for digit in test.x})
begin = time.perf_counter()
hardness(networks, *(part[:1000] for part in test))
second = time.perf_counter() - begin
display(
    plotting.table(
        growth,
        {"memory (MB)": "{:.0f}", "queries per second": "{:,.0f}"},
        ["queries so far", "rows kept", "memory (MB)", "queries per second"],
    )
)
Markdown(
    f"All {different:,} different digits took {total:.1f} s, "
    f"**{different / total:,.0f} queries per second** on one core; the last "
    "column is for the stretch that ends at that row. The second watch asks "
    f"ten networks, {1000 / second:,.0f} rows per second, and keeps a few "
    "numbers for each client."
)

# %% [markdown]
# The growing sets thin out as they fill, and grow all the same.
# An owner may store them as bytes, in an eighth of the space, or forget
# clients who stay away; the second lets an attacker do the same.
#
# ## Paper and this run
#
# The survey gives a false-positive rate; the abstracts say that all prior
# attacks are detected (PRADA), or most of them by 100 rows (HODA).
# The first claims are about the attacks that they had in mind; the others
# about what they leave out.

# %% tags=["hide-input"]
small_runs = [p for (_, k), ps in of_made.items() for p in ps if k <= 0.1]
first = {
    name: np.max([first_alarm(path, level) for path in small_runs])
    for name, level in (("the calibrated", delta), ("survey's", survey_delta))
}
bet, hoda = (
    {name: verdicts[name, kind] for name in watched}
    for kind in ("bet", "HODA")
)
caught = [
    np.isfinite(found[name]).mean()
    for found in (bet, hoda)
    for name in watched
    if name.startswith(
        ("T-RND FGSM, r", "T-RND FGSM, step 0.25", "lett", "line")
    )
]
lines_of_claims = [
    (f"false alarms at {survey_delta:.2f}, share of {n_benign} streams",
     share_below(benign, survey_delta).mean, -np.inf, 0.02,
     "nearly 0.0 % (survey)"),
    (f"false alarms at the calibrated threshold, share of {n_benign} streams",
     share_below(benign, delta).mean, -np.inf, 0.03),
    ("calibrated threshold", delta, 0.87, 0.97),
    *((f"steps up to 0.1, every rule: last first alarm at {name} threshold",
       last, -np.inf, 170) for name, last in first.items()),
    ("line search: last first alarm at the calibrated threshold",
     np.max([first_alarm(path, delta) for path in of_lines]), -np.inf, 200),
    ("letters and noise: share flagged at the calibrated threshold",
     share_below(of_letters + of_noise, delta).mean, -np.inf, 0.2),
    ("client who sends each digit four times: share accused",
     share_below(of_habits["each digit four times"], delta).mean, 0.95),
    ("usual step: mean lowest W with the zero", lowest(zeros["with"]).mean(),
     -np.inf, 0.9),
    ("usual step: rise of the lowest W without the zero (log10)",
     np.log10(max(freed.mean, 1e-9)), -3),
    ("random step: mean lowest W", lowest(of_hidden).mean(), 0.95),
    (f"random step: share of {n_pairs} runs flagged at 0.92",
     share_below(of_hidden, 0.92).mean, -np.inf, 0.1),
    ("random minus fixed step, same bill (points)",
     gains["random step"].mean, -3.5),
    *((f"usual step: mean lowest W with a dummy ({kind}) for each query",
       lowest(dodged[usual, kind][1]).mean(), 0.9)
      for kind in ("letters", "digits")),
    ("step 0.1: mean lowest W, a tailored dummy minus a letter for each",
     lowest(dodged[small, "tailored"][1]).mean()
     - lowest(dodged[small, "letters"][1]).mean(), 0.01),
    ("step 0.1: mean lowest W with a dummy (digits) for each query",
     lowest(dodged[small, "digits"][1]).mean(), -np.inf, 0.93),
    ("usual step, 3 accounts: mean lowest W of an account",
     lowest(by_accounts[usual, 3]).mean(), 0.9),
    (f"accounts flagged when 8 share {large} queries, of all",
     sum(share_of_accounts(by_accounts[k, 8], delta).mean
         for k in (small, usual)), 0, 0),
    ("fixed step with letters minus without, same bill (points)",
     gains["with letters"].mean, -9),
    (f"bet: false alarms, share of {n_benign} streams", false["bet"],
     -np.inf, 0.01),
    ("HODA and bet: least share of streams flagged, of T-RND with either "
     "step, line searches and letters", min(caught), 0.9, np.inf,
     "high, by 100 rows (HODA)"),
    ("bet: letters, last first alarm", np.max(bet["letters (KnockoffNets)"]),
     -np.inf, 60),
    ("bet: fewest queries that can raise an alarm", fewest, 3, 3),
    ("easy rows: share hard, minus s_0", easy_share - usual_share, -np.inf,
     0.05),
    (f"easy rows: share of {n_pairs} runs that any watch flags",
     np.mean([(path[:, 1].min() < delta) | np.isfinite([a, b]).any()
              for path, a, b in zip(of_easy, *passed.values(), strict=True)]),
     -np.inf, 0.5),
    ("easy rows minus fixed step, same bill (points)",
     gains["easy rows"].mean, -7),
    (f"rows kept of {different:,} different digits", growth[-1][1], 4000,
     6000),
]  # fmt: skip
for name, value, low, *rest in lines_of_claims:
    high, paper = (*rest, *(np.inf, "")[len(rest) :])
    claims.add(name, value, low=low, high=high, paper=paper)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (medium)
# :class: attention
# The thresholds $T_j$ never fall.
# Can an attacker freeze the growing sets by a few pictures whose ink is a
# thousand times too bright, and attack afterwards?
# :::
#
# :::{admonition} Exercise 2 (short)
# :class: attention
# Use the p-value of the test at 5 % in place of $W < \delta$.
# How many benign clients are accused by the end of their 500 queries?
# :::
#
# :::{admonition} Exercise 3 (long)
# :class: attention
# Let the bet forget: start it anew after every 100 queries.
# What becomes of Ville's bound, and of the share of false alarms?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
x, labels = made[FAVOURITE, 0.1][0]
frozen = Stream()
frozen.add(*answered(1000 * train.x[:100]))
before = sum(grown.size for grown in frozen.sets.values())
path = np.array(frozen.add(x, labels))
after = sum(grown.size for grown in frozen.sets.values())
print(f"{after - before} of {len(x)} attack queries entered the sets")
print(f"lowest W: {path[:, 1].min():.2f}, alarm: {first_alarm(path, delta)}")
accused = 0
for _ in range(n_streams):
    stream = Stream()
    stream.add(*drawn(test, length, rng))
    accused += stats.shapiro(np.array(stream.distances)).pvalue < 0.05
print(f"{accused} of {n_streams} by the p-value, at one look")
anew = [
    np.isfinite(
        [alarm_of(new_watch["bet"](), part) for part in np.split(found, 5)]
    ).any()
    for found in calm
]
print(f"{np.mean(anew):.1%} false alarms; the bound is 5 bets of 1 %")

# %% [markdown]
# ## Recap
#
# - PRADA's detector measures how regular a client's queries are; its
#   threshold is calibrated on the owner's data and for a stated length.
# - Small fixed steps and line searches are what it is made for. The step is
#   the attacker's to choose, and may be random.
# - Dummies blur a regular stream, and an account with few enough queries is
#   never tested.
# - Hardness looks at the rows one by one; a bet on it may be read after every
#   query, with one bound for the whole stream.
# - Who sends rows like those of benign clients is seen by neither watch; to
#   bend a hundred digits is one way to make them.
#
# ## References
#
# - {cite:t}`juuti2019prada` introduced attack and detector; the tests on
#   every tenth query are those of their released code.
# - {cite:t}`gong2020survey` runs the detector on MNIST with a threshold of
#   0.90, and warns of dummy queries.
# - {cite:t}`sadeghzadeh2022hoda` is HODA, and measured PRADA's detector
#   against KnockoffNets, with few detections there too.
# - {cite:t}`ramdas2023savi` survey bets as tests; Ville's inequality is the
#   root of them.
