# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # StealNN: what the clock gives away
#
# StealNN reads the depth of a neural network off the time that it takes to
# answer.
# The attacker times networks of known depth on the same kind of machine, fits
# a regression, and then looks for an architecture of the victim's depth which
# copies it.
# Here the profile is made beside the victim and at another time, and then the
# owner hides the clock.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - time networks through a prediction API, and measure the noise of the
#   machine;
# - infer depths with a profile made in the same loop, at another visit, and
#   with none at all but two networks of known depth behind the same API;
# - tell width from depth with a second size of batch;
# - let a controller search for an architecture of that depth, and distil it;
# - pad, quantise and blur the response times, and price each.
#
# <!-- minutes -->
# Read [the setting](../setting.ipynb) first; the symbols are in
# [the notation](../notation.md).
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import copy
import itertools
import math
import time
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.special import softmax
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from mexutils import (
    Claims,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    plotting,
    training,
    victims,
)
from mexutils.notebook import Markdown, display, progress
from mexutils.runs import column, interval, paired_difference

plotting.use_style()
claims = Claims()

# %% [markdown]
# The knobs: every sweep and every training is repeated with `n_seeds` seeds.

# %% tags=["parameters"]
seed = 0
n_seeds = 5
max_depth = 16
width = 128
widths = [32, 64, 128, 256, 384]
repeats = 100  # timed queries of each network
n_victims = 8
pause_s = 1  # before each visit to the victims' service
evaluations = 40  # of each architecture search
price_per_1000 = 1.50

# %% [markdown]
# ## At a glance
#
# Three victims of 3, 7 and 12 layers stand behind an API each; behind two
# more stand networks whose depth the attacker knows.
# All are asked a hundred times in turns, on one thread and without subnormal
# numbers, and the victims' depths are read off between the two.

# %%
torch.set_num_threads(1)
torch.set_flush_denormal(True)
theft = load_chapter("attacks/steal_nn")
rows = datasets.tabular("digits", seed=seed).test.x
hidden = [theft.plain(depth, width, seed + 1) for depth in (3, 7, 12)]
known = {depth: theft.plain(depth, width, seed + 2) for depth in (1, 16)}
guess = theft.infer_between(hidden, known, rows, repeats, seed)
plotting.table([("true", 3, 7, 12), ("inferred", *guess.round(1))])

# %% [markdown]
# What has to be known for that, and at which time?
#
# ## The question
#
# | | |
# |---|---|
# | **sees** | an answer to each query, and when it arrives |
# | **knows** | machine, software, kind of network and, at first, its width |
# | **has** | such a machine, or known networks behind the victim's service |
# | **pays** | for every row it sends |
# | **wants** | the number of layers, and then a copy |
#
# For the copy it has a pool of rows as well, half of which trained the victim.
# That is the setting of {cite:t}`duddu2018stealing`, which we know by its
# abstract and through {cite:t}`gong2020survey`: the chapter follows the
# design and prints none of its numbers.
#
# ## The idea
#
# Let $t_1, \dots, t_N$ be the times of $N$ queries of one row each.
# A layer that adds $\tau$ seconds makes a network of depth $L$ take
#
# $$
# t_i = a + \tau L + \epsilon_i , \qquad \epsilon_i \ge 0 ,
# $$
#
# with a constant $a$ for everything around the network, and a disturbance
# $\epsilon_i$ that can only delay.
# From a *profile*, times of networks of known depth, a regression learns $L$.
#
# The catch is that $a$ and $\tau$ belong to a machine and a moment.
# Where all times stretch by $1 + r$ after the profile was made, a line reads
# $r (a / \tau + L)$ layers too many.
# Two references of known depths $L_1 < L_2$, timed beside the victim, take
# $a$ and $\tau$ out of the reading:
#
# $$
# \hat L = L_1 + (L_2 - L_1)\, \frac{t - t_1}{t_2 - t_1} .
# $$
#
# ## From scratch
#
# ### A network behind an API
#
# A network is a list of layers, from the input on.

# %%
ACTIVATIONS = {"ReLU": nn.ReLU, "tanh": nn.Tanh}


def dense_net(layers, seed, inputs=64, classes=10):
    """A network of (width, activation) layers, random; it answers logits."""
    torch.manual_seed(seed)
    parts = []
    for units, activation in layers:
        parts += [nn.Linear(inputs, units), ACTIVATIONS[activation]()]
        inputs = units
    return nn.Sequential(*parts, nn.Linear(inputs, classes)).eval()


# %% [markdown]
# Its owner serves it on the CPU and sells it: a row in, probabilities out, as
# in the last line.
# The weights are copied, so that they lie side by side in memory.


# %%
def service(model):
    """`predict_proba` of a network as its owner serves it, on the CPU."""
    model = copy.deepcopy(model).requires_grad_(False)

    def predict_proba(x):
        with torch.inference_mode():
            logits = model(torch.as_tensor(x, dtype=torch.float32))
        return logits.double().softmax(1).numpy()

    return predict_proba


def sell(model):
    """The API that sells a network for digits of 8 × 8 pixels."""
    return PredictionAPI(service(model), input_shape=(64,))


def plain(depth, units, seed):
    """A network of so many ReLU layers of equal width, behind an API."""
    return sell(dense_net([(units, "ReLU")] * depth, seed))


plain(5, width, seed).query(rows[:1]).round(2)

# %% [markdown]
# ### The stopwatch
#
# The attacker's clock is wall time, and counts whatever else the machine
# does.
# What is timed together is timed in turns: each round asks every network
# once, in a new order, so that a drift strikes all alike, and none is asked
# twice in a row, with its weights still in the cache.
# The first rounds warm up and are thrown away, though billed.

# %%
WARM_UP = 3


def latencies(calls, rows, repeats, seed):
    """Wall time of single queries: (len(calls), repeats) seconds.

    calls: functions of one row (1, d). rows: (n, d), to draw queries from.
    """
    rows = checks.rows(rows, name="rows")
    repeats = checks.whole("repeats", repeats, 1)
    if not calls or not all(map(callable, calls)):
        raise ValueError("calls must be functions of a row, one or more")
    rng, last = np.random.default_rng(seed), None
    taken = np.empty((len(calls), WARM_UP + repeats))
    for turn in range(WARM_UP + repeats):
        order = rng.permutation(len(calls))
        order = np.roll(order, -1) if order[0] == last else order
        for last in order:
            row = rows[rng.integers(len(rows))][None]
            start = time.perf_counter()
            calls[last](row)
            taken[last, turn] = time.perf_counter() - start
    return taken[:, WARM_UP:]


# %% [markdown]
# Delays add, and the rare large ones are huge: a mean jumps with them.
# The minimum is a single query, and now and then one looks far too fast.
# Low quantiles lie between.
# The last lines time networks of 2 and 12 layers, in microseconds.

# %%
FEATURES = {
    "minimum": lambda t: t.min(-1),
    "5 %": lambda t: np.quantile(t, 0.05, axis=-1),
    "10 %": lambda t: np.quantile(t, 0.1, axis=-1),
    "25 %": lambda t: np.quantile(t, 0.25, axis=-1),
    "median": lambda t: np.median(t, axis=-1),
    "90 %": lambda t: np.quantile(t, 0.9, axis=-1),
    "mean": lambda t: t.mean(-1),
    "deviation": lambda t: t.std(-1),
}
ROBUST = ("5 %", "10 %", "25 %", "median")


def features(taken, names=ROBUST):
    """Features of times (..., N) seconds: (..., len(names)) microseconds."""
    taken = np.asarray(taken, dtype=float)
    if taken.size == 0 or not (np.isfinite(taken) & (taken > 0)).all():
        raise ValueError("times must be positive numbers of seconds")
    return np.stack([1e6 * FEATURES[name](taken) for name in names], -1)


two = [plain(depth, width, seed).query for depth in (2, 12)]
x = features(latencies(two, rows, repeats, seed), FEATURES).round()
plotting.table([(2, *x[0]), (12, *x[1])], columns=["layers", *FEATURES])

# %% [markdown]
# ### Is the machine quiet enough?
#
# Networks of one shape take the same time, whatever their weights; where the
# clock puts them apart, that is the machine.
# So every measurement below times networks of one shape several times over,
# and their spread in layers is its *noise*; whether the attack succeeds does
# not enter.
# With more than half a layer of noise it is made once more; if that does not
# help, the claims that rest on it say *too noisy here*.

# %% tags=["hide-input"]
QUIET = 0.5  # most noise, in layers, that a measurement may have
ANY = 1e-12, math.inf  # what a time may be, in seconds


def noise_of(copies):
    """Spread of what the clock says of equal networks: one number.

    copies: (n, m) depths in layers, read off the times of m networks of one
    shape, for n shapes. Returns the root of the mean variance in a row.
    """
    return float(np.sqrt(np.var(copies, axis=1, ddof=1).mean()))


def profile_noise(sweeps, depths):
    """Time of a layer (microseconds), and noise of sweeps, in layers.

    sweeps: (seeds, nets, N) seconds; depths: (D,) of the networks, which
    come in this order, equally many of each.
    """
    floor = features(sweeps, ["10 %"])[..., 0]
    by_depth = floor.reshape(len(sweeps), len(depths), -1)
    layer = np.polyfit(depths, by_depth.mean((0, 2)), 1)[0]
    return layer, noise_of(np.concatenate(by_depth) / layer)


def measured(measure, holds, attempts=2):
    """The first result of `measure()` that holds, or the last; and a count."""
    made = 0
    while made < attempts:
        result, made = measure(), made + 1
        if holds(result):
            break
    return result, made


# %% [markdown]
# ### The profile
#
# It holds two networks of each depth, all of one width, behind an API each,
# as the victim will be, and is timed once a seed.


# %%
def sweeps_of(nets, rows, repeats, seeds, wrap=None, build=plain):
    """Times of networks behind APIs: (seeds, nets, repeats) seconds.

    nets: (depth, width) of each; a seed gives all of them new weights.
    wrap: what is done to a call, if anything. build: makes an API.
    """
    sweeps = []
    for s in progress(seeds, "timing"):
        calls = [build(*net, 1000 * s + k).query for k, net in enumerate(nets)]
        calls = [wrap(call) for call in calls] if wrap else calls
        sweeps.append(latencies(calls, rows, repeats, s))
    return np.stack(sweeps)


seeds = range(seed, seed + n_seeds)
depths = np.arange(1, max_depth + 1)
profile = depths.repeat(2)
nets = [(depth, width) for depth in profile]
fixed, fixed_attempts = measured(
    lambda: sweeps_of(nets, rows, repeats, seeds),
    lambda sweeps: profile_noise(sweeps, depths)[1] <= QUIET,
)
tau, fixed_noise = profile_noise(fixed, depths)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Time of a query against depth. Left: minimum, lower decile and median over the queries of a network, means over seeds with 95 % intervals. Right: every query of one sweep, and how far the mean of the same queries lies from their lower decile."}, "image": {"alt": "Left panel: minimum, lower decile and median latency against depth in layers. Right panel: all single latencies of one sweep against depth on a logarithmic axis, with one line for the lower deciles and one for the means. The titles give the time of a layer and the noise."}}
busy = fixed_noise > QUIET
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6))
by_depth = fixed.reshape(n_seeds, max_depth, -1)
for name in ("minimum", "10 %", "median"):
    values = features(by_depth, [name])[..., 0].T
    plotting.band(left, depths, values, name, markersize=3)
left.set(xlabel="depth (layers)", ylabel="latency (µs)", ylim=(0, None))
left.set_title(f"{tau:.1f} µs a layer", fontsize=10)
right.set_title(
    f"noise {fixed_noise:.2f} layers: "
    + ("too noisy here" if busy else "quiet enough"),
    fontsize=10,
)
one = by_depth[0]
right.plot(
    np.repeat(depths, one.shape[1]), 1e6 * one.ravel(), ",", color="0.5"
)
for name in ("10 %", "mean"):
    right.plot(depths, features(one, [name])[:, 0], label=name, markersize=3)
right.set(xlabel="depth (layers)", ylabel="latency (µs)", yscale="log")
for ax in (left, right):
    ax.set_xticks([1, *range(4, max_depth + 1, 4)])
    ax.legend()
plt.show()

# %% [markdown]
# ### The regression, with whole depths held out
#
# A random split leaves other networks of a depth in the training set.
# A victim's depth need not be in the attacker's profile, so the honest split
# holds out all networks of a depth at once, and fits to the other folds.
# A guess outside the range of all depths is drawn back to its ends.

# %%
REGRESSORS = {
    "linear": LinearRegression,
    "SVR": lambda: make_pipeline(StandardScaler(), SVR(C=100, epsilon=0.1)),
    "tree": lambda: DecisionTreeRegressor(random_state=0),
    "forest": lambda: RandomForestRegressor(30, random_state=0),
    "boosting": lambda: GradientBoostingRegressor(
        n_estimators=50, random_state=0
    ),
}


def held_out(make, x, depth, fold):
    """Estimated depth (n,) of each row, by a fit to the other folds.

    make: builds a regressor. x: (n, F) features. fold: (n,) numbers.
    """
    guess = np.empty(len(depth))
    for k in np.unique(fold):
        out = fold == k
        guess[out] = make().fit(x[~out], depth[~out]).predict(x[out])
    return guess.clip(depth.min(), depth.max())


# %% [markdown]
# The errors, for estimates $\hat L$ of $n$ depths $L$ with mean $\bar L$:
#
# $$
# \text{MAE} = \frac1n \sum |L - \hat L|, \qquad
# R^2 = 1 - \frac{\sum (L - \hat L)^2}{\sum (L - \bar L)^2},
# $$
#
# and, after rounding, the shares that are exact and within one layer.


# %% tags=["hide-input"]
def depth_folds(depth, n_folds=4):
    """Number of the fold (n,) of each row; a depth is in one fold only."""
    different, place = np.unique(depth, return_inverse=True)
    return place % checks.whole("n_folds", n_folds, 2, len(different))


def depth_scores(guess, depth):
    """Errors of estimated depths (n,): MAE, R2, exact, within one."""
    guess, depth = np.asarray(guess, float), np.asarray(depth, float)
    missed = np.abs(depth - np.rint(guess))
    return {
        "exact": (missed == 0).mean(),
        "within one": (missed <= 1).mean(),
        "MAE": np.abs(depth - guess).mean(),
        "R2": 1 - ((depth - guess) ** 2).mean() / depth.var(),
    }


def mean_of(runs, key):
    """One score of several runs: its mean."""
    return column(runs, key).mean()


def shown(by_name, **keys):
    """A table of scores: mean (smallest to largest). keys: by column."""

    def words(values):
        ends = values.min(), values.max()
        return f"{values.mean():.2f} ({ends[0]:.2f} to {ends[1]:.2f})"

    rows = [
        (name, *(words(column(runs, key)) for key in keys.values()))
        for name, runs in by_name.items()
    ]
    return plotting.table(rows, columns=["", *keys])


# %% tags=["hide-input"]
def blocks(taken, size):
    """Times (n, N) cut into (n * (N // size), size), network by network."""
    count = taken.shape[1] // size
    return taken[:, : count * size].reshape(-1, size)


def judged(sweeps, depth, name="linear", names=ROBUST, fold=None):
    """Scores of a regressor for each seed's sweep, depths held out."""
    make, fold = REGRESSORS[name], depth_folds(depth) if fold is None else fold
    guesses = [
        held_out(make, features(taken, names), depth, fold) for taken in sweeps
    ]
    return [depth_scores(guess, depth) for guess in guesses]


def by_size(sweeps, depth, size, names, most=4):
    """R2 of each sweep when a network is known by `size` queries.

    sweeps: (seeds, nets, N) seconds. depth: (nets,) of the networks.
    The best of line, SVR and tree; most: blocks of a network that are used.
    """
    depth = np.repeat(depth, min(most, sweeps.shape[2] // size))
    cut = [blocks(t[:, : size * most], size) for t in sweeps]
    tried = [
        column(judged(cut, depth, name, names), "R2")
        for name in ("linear", "SVR", "tree")
    ]
    return max(tried, key=np.mean)


def twins_noise(visits, depths):
    """Noise of visits, in layers, whose victims come in equal pairs."""
    told = [readings(made, made, depths) for made in visits.values()]
    found = [t[way] for t in told for way in ("in turns", "two references")]
    return noise_of(np.concatenate(found).reshape(-1, 2))


# %% [markdown]
# The queries of each network are cut into four blocks of 25, each with its
# own features.
# The *random* split deals these rows out at random, so that a network's other
# blocks stay in the training set; the other holds out whole depths.

# %%
row_depth = profile.repeat(4)
quarters = [blocks(taken, repeats // 4) for taken in fixed]
shuffled = np.random.default_rng(seed).permutation(len(row_depth)) % 4
splits = {"random": shuffled, "depths": depth_folds(row_depth)}
contest = {
    f"{name}, {split}": judged(quarters, row_depth, name, fold=fold)
    for name, (split, fold) in itertools.product(REGRESSORS, splits.items())
}
shown(contest, MAE="MAE", exact="exact")

# %% [markdown]
# A tree can only name depths that it was trained on; a line goes through, and
# is what the attack uses from here on.
#
# ## Does it work?
#
# ### In turns
#
# The attacker fits a line to its profile and times victims that it knows
# nothing about, in turns with its own networks.
# That is an idealisation: load and clock rate strike profile and victim
# alike, and nobody can put a provider's machine into a loop of their own.


# %%
def by_line(x, own, depths):
    """Depths of features x (n, F), by a line through a profile's (m, F)."""
    return REGRESSORS["linear"]().fit(own, depths).predict(x)


def infer(hidden, depths, width, rows, repeats, seed):
    """Depths (n,) of the hidden APIs, timed in turns with own networks."""
    own = [plain(L, width, 5000 + seed) for L in depths]
    calls = [api.query for api in [*own, *hidden]]
    x = features(latencies(calls, rows, repeats, seed))
    return by_line(x[len(own) :], x[: len(own)], depths)


# %% [markdown]
# ### Between two references
#
# Some services let customers deploy networks of their own, and some owners
# publish one.
# Two of known depth can be timed beside the victim, and the reading needs no
# profile.


# %%
def between(x, low, high, ends):
    """Depths of features x (n, F), read off between two references.

    low, high: (F,) features of two networks of ends[0] and ends[1] layers.
    """
    share = np.median((x - low) / (high - low), axis=-1)
    return ends[0] + (ends[1] - ends[0]) * share


def infer_between(hidden, known, rows, repeats, seed):
    """Depths (n,) of the hidden APIs, in turns with two of known depth.

    known: APIs by depth, of the victims' width and behind the same service.
    """
    if len(known) != 2:
        raise ValueError(f"two depths must be known, not {list(known)}")
    calls = [api.query for api in [*hidden, *known.values()]]
    x = features(latencies(calls, rows, repeats, seed))
    return between(x[:-2], *x[-2:], tuple(known))


# %% [markdown]
# ### At another time
#
# A *visit* to a service times profile and victims in turns, then the profile,
# the victims and the profile again, each in a loop of its own.
# Three networks of known depth are timed with the victims.


# %%
def visit(hidden, depths, width, rows, repeats, seed):
    """Features of one visit to hidden APIs, by what was timed in one loop."""
    own = [plain(L, width, 5000 + seed) for L in depths]
    known = [plain(L, width, 9000 + seed) for L in REFERENCES]
    loops = {"turns": own + hidden, "before": own}
    loops |= {"victims": hidden + known, "after": own}
    return {
        name: features(latencies([a.query for a in apis], rows, repeats, seed))
        for name, apis in loops.items()
    }


# %% [markdown]
# There are seven ways to read the victims of a visit.
# The first is the loop in turns, the second what is left to an attacker who
# profiled some other time.
# The next two profile anew, right before, or before and after.
# Then one reference of eight layers is taken off all times, or divided out of
# them; two of them leave nothing for a profile to do.

# %% tags=["hide-input"]
REFERENCES = 1, 8, 16


def readings(here, there, depths):
    """Depths of the victims of one visit, by the way of reading.

    here, there: visits; the second has the profile of another time.
    """
    n, old = len(depths), there["before"]
    x, (low, middle, high) = here["victims"][:-3], here["victims"][-3:]
    anchor = old[depths == REFERENCES[1]].mean(0)
    around = np.concatenate([here["before"], here["after"]])
    return {
        "in turns": by_line(here["turns"][n:], here["turns"][:n], depths),
        "other visit": by_line(x, old, depths),
        "just before": by_line(x, here["before"], depths),
        "before and after": by_line(x, around, [*depths] * 2),
        "other visit, minus a reference": by_line(
            x - middle, old - anchor, depths
        ),
        "other visit, over a reference": by_line(
            x / middle, old / anchor, depths
        ),
        "two references": between(x, low, high, REFERENCES[::2]),
    }


def visits_of(truth, pause, *ways):
    """A visit for each seed to victims of known depths, after a pause."""
    made = {}
    for s in progress(truth, "visiting"):
        hidden = [plain(L, ways[1], 7000 + s) for L in truth[s]]
        time.sleep(pause)
        made[s] = visit(hidden, *ways, s)
    return made


# %% [markdown]
# One visit a seed, some seconds apart, to victims of random depths.
# Each is sold by two APIs: what their times differ by is noise.

# %%
dice, n = np.random.default_rng(seed), n_victims
truth = {s: dice.integers(1, max_depth + 1, n).repeat(2) for s in seeds}
ways = depths, width, rows, repeats // 2
visits, visit_attempts = measured(
    lambda: visits_of(truth, pause_s, *ways),
    lambda made: twins_noise(made, depths) <= QUIET,
)
victim_noise = twins_noise(visits, depths)
pairs = list(itertools.permutations(seeds, 2))
told = [readings(visits[s], visits[other], depths) for s, other in pairs]

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Inferred against true depth of victims, for every pair of two visits; the grey band is one layer to either side. What lies outside the axes is drawn at their end."}, "image": {"alt": "Three scatter plots of inferred against true depth with the diagonal and a band of one layer around it: profile in turns, profile of another visit, and two references without a profile."}}
error = {name: column(runs, "MAE") for name, runs in contest.items()}
leak = np.mean(error["tree, depths"] - error["tree, random"])
more = {
    name: np.mean(error[f"{name}, depths"] - error["linear, depths"])
    for name in REGRESSORS
}
one_width = mean_of(judged(fixed, profile), "R2")
by_way = {
    way: [
        depth_scores(guesses[way], truth[s])
        for guesses, (s, _) in zip(told, pairs, strict=True)
    ]
    for way in told[0]
}
fig, panels = plt.subplots(1, 3, figsize=(8.4, 3.2), sharey=True)
ends = np.array([0, max_depth + 1])
titles = {
    "in turns": "profile in turns (idealisation)",
    "other visit": "profile of another visit",
    "two references": "no profile, two references",
}
for ax, (way, title) in zip(panels, titles.items(), strict=True):
    ax.fill_between(ends, ends - 1, ends + 1, color="0.9", lw=0)
    ax.plot(ends, ends, color="0.5", lw=1, marker="")
    for guesses, (s, _) in zip(told, pairs, strict=True):
        y = guesses[way].clip(-3, max_depth + 4)
        ax.plot(truth[s], y, "o", color=plotting.COLOURS["blue"], alpha=0.25)
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="true depth (layers)", ylim=(-4, max_depth + 5))
    ax.set_xticks(range(0, max_depth + 1, 4))
panels[0].set_ylabel("inferred depth (layers)")
plt.show()

# %% [markdown]
# All seven ways, with the range over the pairs of visits in brackets:

# %% tags=["remove-input"]
columns = ("exact", "within one", "MAE")
display(shown(by_way, **dict(zip(columns, columns, strict=True))))
exact = {way: mean_of(runs, "exact") for way, runs in by_way.items()}
layer_us, start_us = np.polyfit(depths, visits[seed]["before"][:, 1], 1)
layer_share = layer_us / (start_us + 8 * layer_us)
before = np.stack([visits[s]["before"] for s in seeds])
drift = np.median(before[:, None] / before, axis=(2, 3)).max() - 1
met = {way: mean_of(runs, "within one") for way, runs in by_way.items()}
lost, unsure = exact["in turns"] - exact["other visit"], victim_noise > QUIET
own, theirs = np.split(visits[seed]["turns"], [max_depth])
low, _, high = visits[seed]["victims"][-3:]
slowed = np.mean(by_line(1.2 * own, own, depths) - depths)
unmoved = np.abs(
    between(1.2 * theirs, 1.2 * low, 1.2 * high, (1, 16))
    - between(theirs, low, high, (1, 16))
).max()
Markdown(
    f"In turns **{exact['in turns']:.0%}** of the depths are exact, with a "
    f"profile of another visit **{exact['other visit']:.0%}**, and between "
    f"two references **{exact['two references']:.0%}**. From visit to visit "
    f"the same depths took up to {drift:.1%} longer, where a layer is "
    f"{layer_share:.1%} of the time of a network of eight. "
    + (
        "What the loop in turns shows is owed to the loop."
        if lost > 0.1
        else "This machine was steady, so that little was lost."
    )
    + " Were all times of a visit a fifth longer, a line through an older "
    f"profile would add {slowed:.1f} layers, and two references "
    f"{unmoved:.0g}. Noise: {victim_noise:.2f} layers, visits made: "
    f"{visit_attempts} a seed."
)

# %% [markdown]
# One reference takes out a constant that moved or a factor, not both, and a
# profile of just before is of another moment too.
# Two references share the victim's moment, but ask much of the service: that
# it hosts networks of known depth on the same machine.
#
# ### The query set
#
# To copy the victim the attacker needs rows as well.
# The survey describes an iterative membership inference in the manner of
# {cite:t}`salem2019mlleaks`: keep what the victim is most sure of, for that
# is what it was trained on.
# It takes two forms here, and both need probabilities:
#
# - *confident half*: of a pool, the half that the victim is most sure of;
# - *climbed*: random rows, moved where that makes the victim surer of a wanted
#   class, as {cite:t}`shokri2017membership` made data of a victim's kind.


# %% tags=["hide-input"]
def climb(api, start, wanted, steps, seed, moved=16, patience=5, enough=0.95):
    """Rows climbed towards certain answers: (n, d).

    start: (n, d) rows in [-1, 1]. wanted: (n,) the class whose probability
    shall rise. A step draws `moved` coordinates of a row anew and keeps them
    if it rises; that number is halved after `patience` failures in a row. A
    row is left alone at `enough`. Bills n * (steps + 1) queries at most.
    Source: model-based synthesis of Shokri et al. (2017).
    """
    steps = checks.whole("steps", steps, 1)
    if len(start) != len(wanted):
        raise ValueError("climb needs a class for each row")
    if api.returns == "label":
        raise ValueError("climb needs an API that answers probabilities")
    rng, failures = np.random.default_rng(seed), np.zeros(len(start), int)
    rows, moved = np.array(start, float), np.full(len(start), moved)
    score = api.query(rows)[np.arange(len(rows)), wanted]
    for _ in range(steps):
        rank = rng.random(rows.shape).argsort(1).argsort(1)
        fresh = rng.uniform(-1, 1, rows.shape)
        trial = np.where(rank < moved[:, None], fresh, rows)
        going = np.flatnonzero(score < enough)
        if going.size == 0:
            break
        new = score.copy()
        answers = api.query(trial[going])
        new[going] = answers[np.arange(len(going)), wanted[going]]
        better = new > score
        rows[better], score[better] = trial[better], new[better]
        failures = np.where(better, 0, failures + 1)
        tired = failures >= patience
        moved = np.where(tired, np.maximum(moved // 2, 1), moved)
        failures[tired] = 0
    return rows


# %% [markdown]
# The victim from here on has five layers and was trained on 600 digits.
# The attacker's pool holds 300 of these and 300 that the victim never saw,
# and the attacker does not know which are which.
# Each seed has its own victim and its own pool.

# %% tags=["hide-input"]
VICTIM_DEPTH = 5


def scene(train, width, seed):
    """A trained victim, the attacker's pool, and who is a member of it."""
    order = np.random.default_rng(seed).permutation(len(train.y))
    own, foreign = order[:600], order[600:900]
    layers = [(width, "ReLU")] * VICTIM_DEPTH
    victim = distil(layers, train.x[own], train.y[own], 100 + seed)
    pool = np.concatenate([train.x[own[:300]], train.x[foreign]])
    return victim, pool, np.repeat([True, False], 300)


def query_sets(victim, pool, member, steps, seed):
    """Rows, answers and bill of each query set; AUC of the certainty."""
    rng, n = np.random.default_rng(seed), len(pool) // 2
    climber, answers = sell(victim), sell(victim).query(pool)
    order = np.argsort(-answers.max(1))
    half = rng.choice(len(pool), n, replace=False)
    start = rng.uniform(-1, 1, (n, pool.shape[1]))
    classes = np.arange(n) % answers.shape[1]
    grown = climb(climber, start, classes, steps, seed)
    chosen = {"confident half": order[:n], "least sure half": order[n:]}
    sets = {k: (pool[i], answers[i], len(pool)) for k, i in chosen.items()}
    sets |= {
        "random half": (pool[half], answers[half], n),
        "whole pool": (pool, answers, len(pool)),
        "climbed": (grown, climber.query(grown), climber.ledger.queries),
        "uniform noise": (start, sell(victim).query(start), n),
    }
    return sets, roc_auc_score(member, answers.max(1))


# %% [markdown]
# Victims and copies are trained alike, a copy on the victim's answers, and it
# is examined on digits that neither network has seen.


# %%
def distil(layers, x, answers, seed, steps=150, lr=5e-3):
    """A network of these layers, trained on a victim's answers.

    answers: (n, c) probabilities or (n,) labels.
    """
    model = dense_net(layers, seed, x.shape[1])
    training.fit(model, x, answers, steps=steps, lr=lr, seed=seed)
    model.zero_grad()
    return model.cpu()


def exam(model, victim, test):
    """Scores of a copy in percent; "distance" is its total variation."""
    answers, own = service(model)(test.x), service(victim)(test.x)
    return metrics.scores(answers, own, test.y) | {
        "victim": 100 * metrics.accuracy(own, test.y),
        "distance": 100 * metrics.total_variation(answers, own),
    }


# %% [markdown]
# Each query set trains a copy with the victim's own layers:

# %%
digits, layers = datasets.tabular("digits", seed=seed), [(width, "ReLU")] * 5
scenes = {s: scene(digits.train, width, s) for s in seeds}
asked = {s: query_sets(*scenes[s], 60, s) for s in seeds}
by_rows = {name: [] for name in asked[seed][0]}
for s, name in itertools.product(seeds, by_rows):
    copied = distil(layers, *asked[s][0][name][:2], s)
    by_rows[name].append(exam(copied, scenes[s][0], digits.test))
print(f"AUC {interval([asked[s][1] for s in seeds]):.2f}")
shown(by_rows, **{"fidelity (%)": "fidelity"})

# %% [markdown]
# The AUC says how well the victim's certainty tells members from others;
# guessing has 0.5.
# The confident half costs as much as the whole pool: whoever keeps half has
# asked for all.
# What follows departs from the published query set: search, copy and bill
# use the *whole pool*, half of which trained the victim.
#
# ### The search space
#
# For each layer the attacker chooses one of eight kinds, four widths and two
# activations.
# With $|A|$ kinds there are $\sum_{L=1}^{L_{\max}} |A|^L$ networks before the
# depth is known, and $|A|^{\hat L}$ after.
# The clock of each seed's victim is read between two references, by four
# accounts for the sake of the noise.

# %%
KINDS = tuple((w, a) for w in (16, 32, 64, 128) for a in ("ReLU", "tanh"))


def search_space(n_kinds, depths):
    """How many networks there are: the sum over depths of n_kinds ** L."""
    checks.whole("n_kinds", n_kinds, 1)
    depths = [checks.whole("depths", L, 1) for L in depths]
    return sum(int(n_kinds) ** L for L in depths)


accounts = {s: [sell(scenes[s][0]) for _ in range(4)] for s in seeds}
known = {depth: plain(depth, width, 9000) for depth in (1, 16)}
clocked, _ = measured(
    lambda: np.stack(
        [infer_between(accounts[s], known, *ways[2:], s) for s in seeds]
    ),
    lambda found: noise_of(found) <= QUIET,
)
found = np.rint(clocked[:, 0]).astype(int).clip(min=1)
spaces = [search_space(len(KINDS), L) for L in (depths, found[:1])]
print(f"{spaces[0]:,} networks, or {spaces[1]:,}")

# %% [markdown]
# ### A controller
#
# The controller draws a kind $a_l$ for each layer $l$ from a policy
# $\pi_\theta$, has the network trained briefly, and gets as reward $R$ the
# fidelity on answers kept aside.
# Its policy has a softmax of its own for each layer, a simplification: with a
# memory, the kind of a layer would depend on those drawn before it.
# REINFORCE climbs the expected reward along
#
# $$
# \nabla_\theta J \approx \frac1M \sum_{m=1}^{M} \sum_{l=1}^{\hat L}
#     \nabla_\theta \log \pi_\theta(a_{m,l})\, (R_m - \bar R) ,
# $$
#
# where $M$ networks are drawn at a time and $\bar R$ is a moving average.


# %%
def policy_gradient(theta, actions, advantage):
    """REINFORCE's estimate for logits theta (L, kinds): the same shape.

    actions: (M, L) kinds drawn. advantage: (M,) rewards minus baseline.
    """
    pulled = np.eye(theta.shape[1])[actions] - softmax(theta, -1)
    return (pulled * np.asarray(advantage)[:, None, None]).mean(0)


# %% [markdown]
# A step along it follows every four networks.


# %%
def reinforce(reward, depth, n_kinds, evaluations, seed, rate=15.0, batch=4):
    """Architectures tried by a controller, with rewards, in their order.

    reward: function of (L,) kinds. Returns [(kinds, reward), ...].
    """
    for number in (depth, n_kinds, evaluations, batch):
        checks.whole("depth, n_kinds, evaluations, batch", number, 1)
    rng, tried = np.random.default_rng(seed), []
    theta, mean = np.zeros((depth, n_kinds)), None
    while len(tried) < evaluations:
        drawn = min(batch, evaluations - len(tried))
        dice = rng.random((drawn, depth, 1))
        actions = (softmax(theta, -1).cumsum(-1) < dice).sum(-1)
        actions = actions.clip(max=n_kinds - 1)
        earned = np.array([reward(kinds) for kinds in actions])
        mean = earned.mean() if mean is None else mean
        theta += rate * policy_gradient(theta, actions, earned - mean)
        mean = 0.7 * mean + 0.3 * earned.mean()
        tried += list(zip(actions, earned, strict=True))
    return tried


# %% [markdown]
# Random search has the same evaluations, answers and training; a third search
# does not know the depth, and is cut short.
# None asks the victim anything new: the answers for the pool are paid.


# %% tags=["hide-input"]
def random_search(reward, depths, n_kinds, evaluations, seed):
    """The same, with depth and kinds drawn evenly."""
    rng, tried = np.random.default_rng(seed), []
    for _ in range(evaluations):
        kinds = rng.integers(n_kinds, size=rng.choice(depths))
        tried.append((kinds, reward(kinds)))
    return tried


def reward_on(x, answers, seed, steps=30):
    """A reward of kinds: fidelity (0 to 1) on a third of the answers."""
    order = np.random.default_rng(seed).permutation(len(x))
    fit, check = np.split(order, [2 * len(x) // 3])

    def reward(kinds):
        layers = [KINDS[k] for k in kinds]
        model = distil(layers, x[fit], answers[fit], seed, steps, 1e-2)
        return metrics.fidelity(service(model)(x[check]), answers[check])

    return reward


def best_kinds(run):
    """The kinds of the architecture with the largest reward."""
    return max(run, key=lambda pair: pair[1])[0]


# %% [markdown]
# The three searches, for each seed's victim:

# %%
few, n, searches = evaluations // 4, len(KINDS), {}
for s, depth in zip(progress(seeds, "searching"), found, strict=True):
    reward = reward_on(*asked[s][0]["whole pool"][:2], s)
    for name, run in (
        ("controller", reinforce(reward, depth, n, evaluations, s)),
        ("random", random_search(reward, [depth], n, evaluations, s)),
        ("random, any depth", random_search(reward, depths, n, few, s)),
    ):
        searches.setdefault(name, []).append(run)

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Reward (fidelity on kept answers) of the architectures tried, in windows of five, and the best so far; means over seeds with 95 % intervals. The titles compare, paired over seeds: the last quarter of the controller with random networks, and the best of all."}, "image": {"alt": "Left panel: mean reward over the evaluations for the controller, random search and random search with unknown depth. Right panel: the best reward so far of each search. The titles give two paired differences in points."}}
by_set = {name: mean_of(runs, "fidelity") for name, runs in by_rows.items()}
pays = by_set["random half"] - by_set["confident half"]
more_of = by_set["whole pool"] - by_set["confident half"]
kind = "controller on an easy reward, {} evaluations: share of the kind"
easy, free = {}, lambda kinds: (kinds == 3).mean()
for budget in (20, 100, 400):
    runs = [reinforce(free, 5, n, budget, s) for s in range(10)]
    easy[budget] = np.mean([r for run in runs for _, r in run[-budget // 4 :]])
rewards = {
    name: 100 * np.array([[r for _, r in run] for run in runs])
    for name, runs in searches.items()
}
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
for name, values in rewards.items():
    edges = np.arange(5, values.shape[1] + 1, 5)
    means = [values[:, e - 5 : e].mean(1) for e in edges]
    plotting.band(left, edges, means, name)
    best = np.maximum.accumulate(values, 1)[:, edges - 1].T
    plotting.band(right, edges, best, name)
last, blind = rewards["controller"][:, -few:].mean(1), rewards["random"]
bits = np.diff(np.log2([float(space) for space in spaces[::-1]])).item()
off, vague = np.abs(clocked[:, 0] - 5).mean(), noise_of(clocked) > QUIET
learnt = paired_difference(last, blind.mean(1))
ahead = paired_difference(rewards["controller"].max(1), blind.max(1))
left.set(xlabel="evaluations", ylabel="reward (%)")
left.set_title(f"mean of 5: controller {learnt:+.1f}", fontsize=10)
right.set(xlabel="evaluations")
right.set_title(f"best so far: controller {ahead:+.1f}", fontsize=10)
right.legend()
plt.show()
print({budget: f"{share:.2f}" for budget, share in easy.items()})

# %% [markdown]
# How many evaluations does a controller need?
# The last line has a reward that costs nothing, the share of layers of one
# kind, 1/8 for random networks, in the last quarter of 20, 100 and 400.
#
# ### Distilling the winner
#
# The best network of each search is trained anew and longer, on all answers
# of the pool: on the victim's probabilities $q = f(x)$, or on its labels
# alone, where $q_j$ is 1 for the victim's label and 0 for the others:
#
# $$
# \mathcal L = -\sum_{j=1}^{c} q_j \log \hat f_j(x) .
# $$
#
# The controller's worst network, which is the best by the rewards' negatives,
# and the victim's own layers go along for comparison.


# %%
def finish(kinds, paid, scene, test, seed, labels=False):
    """The exam of an architecture distilled from answers paid for.

    kinds: (L,) places in `KINDS`. paid: rows, answers and bill of a query
    set. scene: victim first. labels: learn from labels alone.
    """
    x, answers, _ = paid
    answers = metrics.labels_of(answers) if labels else answers
    copied = distil([KINDS[k] for k in kinds], x, answers, seed)
    return exam(copied, scene[0], test)


copies = {name: [] for name in (*searches, "its worst", "its best, labels")}
for i, s in enumerate(seeds):
    known = asked[s][0]["whole pool"], scenes[s], digits.test, s
    for name, runs in searches.items():
        copies[name].append(finish(best_kinds(runs[i]), *known))
    run = searches["controller"][i]
    worst = best_kinds([(kinds, -reward) for kinds, reward in run])
    copies["its worst"].append(finish(worst, *known))
    copies["its best, labels"].append(finish(best_kinds(run), *known, True))
copies["the victim's layers"] = by_rows["whole pool"]
shown(copies, **{"fidelity (%)": "fidelity", "distance (%)": "distance"})

# %% [markdown]
# What the depth takes off the search is a fact about counting; the copy need
# only answer like the victim, and networks of other depths may.
#
# ## How it breaks
#
# ### Unknown widths
#
# Width makes work as well as depth does: a wide shallow network and a narrow
# deep one may take the same time.
# Two unknowns need two equations.
# With one row a narrow layer costs mostly its dispatch, which is the same for
# every width; with 64 rows in a batch its arithmetic weighs more.


# %%
def batched(call, n):
    """A call that asks a row n times over, in one batch."""
    return lambda row: call(row.repeat(n, 0))


def known_by(timings, target, depth):
    """Estimates of a target (n,), depths held out, from several timings.

    timings: arrays (n, N) of seconds, each of another kind of call.
    """
    x = np.log(np.hstack([features(taken) for taken in timings]))
    return held_out(REGRESSORS["SVR"], x, target, depth_folds(depth))


# %% [markdown]
# The next profile has every second depth in each of five widths, timed with 1
# row and with 64 rows a call.

# %%
mixed_nets = list(itertools.product(depths[1::2], widths))
mixed_depth, logs = np.array(mixed_nets).T[0], np.log2(mixed_nets)[:, 1]
calls = {n: lambda call, n=n: batched(call, n) for n in (1, 64)}
sent = {
    n: sweeps_of(mixed_nets, rows, 10, seeds[:3], call)
    for n, call in calls.items()
}
timings = {"1 row": [sent[1]], "1 and 64 rows": [sent[1], sent[64]]}
by_sent = {
    name: [
        depth_scores(known_by(t, mixed_depth, mixed_depth), mixed_depth)
        | {"width": np.abs(known_by(t, logs, mixed_depth) - logs).mean()}
        for t in zip(*sweeps, strict=True)
    ]
    for name, sweeps in timings.items()
}
shown(by_sent, R2="R2", MAE="MAE", **{"width off by (doublings)": "width"})

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Lower decile of the latency against depth, by width, with 1 row and with 64 rows a call; medians over three seeds."}, "image": {"alt": "Two panels of latency on a logarithmic axis against depth, for one row and for 64 rows a call, one line for each of five widths."}}
distance = {name: mean_of(runs, "distance") for name, runs in copies.items()}
chosen = distance["controller"] / distance["its worst"]
relative = mean_of(copies["controller"], "relative") / 100
mixed = "mixed widths: R² of one width minus R² mixed, mean of regressors"
several = [
    mean_of(judged(sent[1], mixed_depth, name), "R2")
    for name in ("linear", "SVR", "boosting")
]
fell = one_width - np.mean(several)
both, single = (mean_of(by_sent[n], "R2") for n in ("1 and 64 rows", "1 row"))
fig, panels = plt.subplots(1, 2, figsize=(8, 3.4))
for ax, (n, sweeps) in zip(panels, sent.items(), strict=True):
    for place, units in enumerate(widths):
        floor = features(sweeps[:, place :: len(widths)], ["10 %"])[..., 0]
        ax.plot(depths[1::2], np.median(floor, 0), label=units, markersize=4)
    ax.set(xlabel="depth (layers)", title=f"rows a call: {n}", yscale="log")
    ax.set_xticks(depths[3::4])
panels[0].set_ylabel("latency (µs)")
handles = panels[0].get_legend_handles_labels()
fig.legend(*handles, title="width", loc="outside right upper")
plt.show()

# %% [markdown]
# The third column is the error of the same guess about the width.
# A result about depth from timing means nothing without the widths that were
# allowed.
#
# ### Other software, other networks
#
# The attacker must profile what the victim runs: its API, and its family of
# networks, which need not be dense.


# %%
def conv_net(depth, channels, seed, side=8, classes=10):
    """A network of 3 × 3 convolutions on rows (n, side ** 2), with ReLUs."""
    torch.manual_seed(seed)
    parts, inputs = [nn.Unflatten(1, (1, side, side))], 1
    for _ in range(depth):
        parts += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU()]
        inputs = channels
    head = nn.Linear(inputs * side**2, classes)
    return nn.Sequential(*parts, nn.Flatten(), head).eval()


# %% [markdown]
# Bare networks, convolutions of 16 channels, and the LeNet of other chapters,
# which has three hidden layers, are read by a dense profile behind an API:


# %% tags=["remove-input"]
def behind(ask):
    """What `infer` asks, of a function of rows that has no API."""
    return SimpleNamespace(query=ask)


image = np.zeros((1, 1, 28, 28))
lenet = PredictionAPI(
    service(victims.embedded().model), input_shape=image.shape[1:]
)
bare = [behind(service(dense_net([(width, "ReLU")] * L, 3))) for L in depths]
strange = [*bare, *(sell(conv_net(L, 16, seed)) for L in depths)]
read = infer([*strange, behind(lambda row: lenet.query(image))], *ways, seed)
as_bare, as_dense, (as_lenet,) = np.split(read, [max_depth, 2 * max_depth])
conv = sweeps_of(
    *([(L, 16) for L in profile], rows, 30, seeds[:2]),
    build=lambda *net: sell(conv_net(*net)),
)
conv_runs, conv_noise = judged(conv, profile), profile_noise(conv, depths)[1]
conv_r2, shaky = mean_of(conv_runs, "R2"), conv_noise > QUIET
lacking = {
    "nothing: timed in turns": mean_of(by_way["in turns"], "MAE"),
    "the moment": mean_of(by_way["other visit"], "MAE"),
    "the width": mean_of(by_sent["1 row"], "MAE"),
    "the width; 64 rows too": mean_of(by_sent["1 and 64 rows"], "MAE"),
    "that the victim has no API": np.abs(as_bare - depths).mean(),
    "convolutions": np.abs(as_dense - depths).mean(),
    "nothing: a profile of convolutions": mean_of(conv_runs, "MAE"),
    f"LeNet, read as {as_lenet:.1f} layers": abs(as_lenet - 3),
}
plotting.table(
    list(lacking.items()),
    *({"off by (layers)": "{:.1f}"}, ["the profile lacks", "off by (layers)"]),
)

# %% [markdown]
# ### The owner hides the clock
#
# The survey knows no defense against timing.
# Three are at hand, each a function of the time $t$ that the network took:
#
# $$
# t_{\text{padded}} = \max(t, T), \qquad
# t_{\text{quantised}} = \Delta \lceil t / \Delta \rceil , \qquad
# t_{\text{noisy}} = t + \xi, \quad \xi \sim \text{Exp}(\text{mean } s) .
# $$
#
# Each only ever delays, so each has a price: the mean extra time.


# %%
def pad(taken, deadline):
    """Times of answers held back until `deadline` seconds have passed."""
    return np.maximum(taken, checks.share("deadline", deadline, *ANY))


def quantise(taken, tick):
    """Times of answers that leave at multiples of `tick` seconds only."""
    return np.ceil(taken / checks.share("tick", tick, *ANY)) * tick


def blur(taken, scale, seed):
    """Times with an exponential delay of mean `scale` seconds added."""
    scale = checks.share("scale", scale, *ANY)
    return taken + np.random.default_rng(seed).exponential(scale, taken.shape)


# %% [markdown]
# The unit is the *span* between the medians of the slowest and the fastest
# network of the profile.
# The attacker knows the defense, profiles under it, uses all features, and
# takes the best of three regressors.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Depth explained under each defense, by number of timed queries; means over seeds with 95 % intervals. Below zero the attacker does worse than always naming the mean depth. In brackets the mean extra time of an answer."}, "image": {"alt": "R squared against timed queries for seven cases in three panels: padding, quantising and noise, each with the undefended case and a dotted line at 0.9."}}
medians = np.median(by_depth, axis=(0, 2))
slowest, span = medians.max(), np.ptp(medians)
shields = {
    "none": lambda t: t,
    "pad to the slowest's median": lambda t: pad(t, slowest),
    "pad to 1.5 times that": lambda t: pad(t, 1.5 * slowest),
    "quantise, a third of the span": lambda t: quantise(t, span / 3),
    "quantise, the span": lambda t: quantise(t, span),
    "noise, a third of the span": lambda t: blur(t, span / 3, seed),
    "noise, the span": lambda t: blur(t, span, seed),
}
sizes = [1, 10, 30, 100]
late = {name: np.stack([f(t) for t in fixed]) for name, f in shields.items()}
shielded = {
    (name, size): by_size(times, profile, size, FEATURES)
    for name, times in late.items()
    for size in sizes
}
one_query, hundred = (shielded["noise, the span", n].mean() for n in (1, 100))
ticks = shielded["quantise, a third of the span", 100].mean()
fig, panels = plt.subplots(1, 3, figsize=(8.4, 3.8), sharey=True)
for ax, word in zip(panels, ("pad", "quantise", "noise"), strict=True):
    names = ["none", *(n for n in shields if n.startswith(word))]
    for name in names:
        values = [shielded[name, size] for size in sizes]
        label = name.removeprefix(f"{word}, ").removeprefix("pad ")
        extra = 1e6 * (late[name] - fixed).mean()
        label = f"{label} (+{extra:,.0f} µs)"
        plotting.band(ax, sizes, values, label, markersize=4)
    ax.axhline(0.9, color="0.5", lw=1, ls=":", marker="")
    ax.set(xscale="log", xlabel="timed queries", title=word, ylim=(-0.6, 1.75))
    ax.set_xticks(sizes, sizes)
    ax.legend(loc="upper left", fontsize=8)
panels[0].set_ylabel("R² of the depth")
plt.show()

# %% [markdown]
# Noise averages out, and exponential noise faster: its smallest values are
# near zero, so that a low quantile peels it off.
# Ticks keep whatever differs by a tick, and the share of answers that just
# miss one tells the rest.
# A deadline leaves nothing below it; what takes longer still shows.
#
# So far the defenses were arithmetic on measured times.
# A real one has to wait, and waiting could leak as well.
# Nor need a late answer tell how late it was: if it is by more than 1 %, it
# waits for the next multiple, awake, for whoever sleeps is interrupted less.


# %%
def padded_call(call, deadline):
    """A call, answered `deadline` seconds after it came, or a multiple."""
    checks.share("deadline", deadline, *ANY)

    def answer(row):
        end = time.perf_counter() + deadline
        reply = call(row)
        while not 0 <= (late := time.perf_counter() - end) <= deadline / 100:
            end += deadline * math.ceil(max(late, 0) / deadline)
        return reply

    return answer


# %% [markdown]
# It is measured with a deadline of three times the median of the slowest
# network that the owner might run, whatever the owner does run.

# %% tags=["remove-input"]
twice, deadline = depths.repeat(2), 3 * slowest
padded_nets = [(L, width) for L in twice]
padded, padded_attempts = measured(
    lambda: sweeps_of(
        *(padded_nets, rows, 30, seeds[:2]),
        lambda call: padded_call(call, deadline),
    ),
    lambda sweep: (sweep[:, twice <= 4] > 1.02 * deadline).mean() <= 0.5,
)
# all networks of the two sweeps together: what little there is to find needs
# many of them to be found
of_each, of_depth = padded.reshape(-1, 30), np.tile(twice, 2)
padded_r2 = by_size(of_each[None], of_depth, 30, FEATURES).item()
left_over = np.polyfit(of_depth, features(of_each, ["10 %"])[:, 0], 1)[0]
over = padded > 1.02 * deadline
# shallow networks are done long before: what they miss is noise
late_anyway = over[:, twice <= 4].mean()
Markdown(
    f"Padded for real to {1e6 * deadline:,.0f} µs, a layer changes the lower "
    f"decile by **{left_over:.2f} µs**, against {tau:.1f} µs undefended. An "
    "attacker whose clock sees differences of that size explains the depth to "
    f"R² = {padded_r2:.2f} by 30 queries of {len(of_each)} networks and all "
    f"features. The first deadline was missed by {over.mean():.1%} of all "
    f"answers, and by {late_anyway:.1%} of those of four layers or fewer, "
    "which are done long before it: that is noise"
    + (", and too much of it. " if late_anyway > 0.5 else ". ")
    + f"Sweeps made: {padded_attempts} of each."
)

# %% [markdown]
# Too short a deadline is overrun by deep networks, and the misses tell; with a
# long one every client waits.
#
# ## The bill
#
# How many timings tell a depth, at most?
# Let the disturbances be independent and off their own mean, which the
# profile shares, by a sub-Gaussian scale $\sigma_t$, and the line be known.
# The mean of $N$ times is then off by more than $\tau / 2$ with a probability
# of at most $2 \exp(-N \tau^2 / 8 \sigma_t^2)$, so that neighbouring depths
# are told apart with probability $1 - \delta$ by
#
# $$
# N \ge \frac{8 \sigma_t^2}{\tau^2} \ln \frac{2}{\delta} .
# $$
#
# The size of the model is not in it: that is what makes the attack cheap.
# Delays of a real machine are not sub-Gaussian; that is what the quantiles
# are for.
# The table bills the theft on this page, for one victim.


# %%
def timings_needed(sigma, tau, delta=0.05):
    """Queries whose mean tells depths apart, with probability 1 - delta.

    sigma, tau: scale of the disturbance and time of a layer, in one unit.
    Source: Hoeffding's bound at a threshold of tau / 2.
    """
    checks.share("sigma", sigma, 0, math.inf)
    checks.share("tau", tau, *ANY)
    checks.share("delta", delta, 1e-12, 1 - 1e-12)
    return max(1, math.ceil(8 * (sigma / tau) ** 2 * math.log(2 / delta)))


timed, paid = repeats + WARM_UP, asked[seed][0]
steps = {
    "depth from the clock": timed,
    "the same of two references": 2 * timed,
    "answers for the pool; search and copy need no more": paid["whole pool"][
        2
    ],
    "a second size of batch, 64 rows": 64 * (10 + WARM_UP),
    "climbed query set, left out": paid["climbed"][2],
    "clock alone, a jitter of 1 ms, at most": timings_needed(1e3, tau),
}
bill = [(name, n, n * price_per_1000 / 1000) for name, n in steps.items()]
plotting.table(bill, {"$": "{:.2f}"}, ["step", "queries", "$"])

# %% [markdown]
# The survey files the attack under those that need many queries.
# The clock needs few; it is the climbing of a query set that is dear.
# What the attacker needs besides is the machine, at the right moment.
#
# ## Paper and this run
#
# No number of the paper could be read in the source, so none stands beside
# ours.
# No range is set for a profile of another visit: how far a machine drifts in
# seconds is its own affair.

# %% tags=["hide-input"]
beyond = "depths held out: error beyond a line's"
beside, apart = met["in turns"], met["two references"]
padding = "padding, real: change of the time a layer, share of the undefended"
for name, value, low, noisy in (
    ("held-out depths, one width: R²", one_width, 0.9, busy),
    ("unseen victims: share within one layer", beside, 0.8, unsure),
    ("two references: share within one layer", apart, 0.8, unsure),
    ("times a fifth longer: layers that a line adds", slowed, 1, unsure),
    ("tree: error added by holding out depths (layers)", leak, 0.05, busy),
    (f"{beyond}, tree (layers)", more["tree"], 0.1, busy),
    (f"{beyond}, forest (layers)", more["forest"], 0.1, busy),
    (f"{beyond}, boosting (layers)", more["boosting"], 0.1, busy),
    (mixed, fell, 0.05, busy),
    ("mixed widths: R² gained by 64 rows", both - single, 0.1, busy),
    ("convolutions, depths held out: R²", conv_r2, 0.9, shaky),
    ("noise of one span, 100 queries: R²", hundred, 0.75, busy),
    ("ticks of a third of the span, 100 queries: R²", ticks, 0.5, busy),
    ("search space: bits before minus bits after", bits, 20, vague),
    (kind.format(400), easy[400], 0.8, False),
    ("controller, last quarter, minus random (points)", learnt.mean, 1, False),
    ("copy by the controller: relative accuracy", relative, 0.93, False),
    ("random half minus confident half (points)", pays, 1, False),
    ("whole pool minus confident half, same bill (points)", more_of, 1, False),
):
    claims.add(name, value, low=low, noisy=noisy)
for name, value, high, noisy in (
    ("times a fifth longer: layers that references add", unmoved, 1e-6, False),
    ("copy of its best: distance, share of its worst's", chosen, 0.4, False),
    ("noise of one span, 1 query: R²", one_query, 0.5, busy),
    ("the trained victims: layers that the clock is off, mean", off, 2, vague),
    (padding, abs(left_over) / tau, 0.05, late_anyway > 0.5),
):
    claims.add(name, value, high=high, noisy=noisy)
claims.add(kind.format(20), easy[20], low=0.2, high=0.75)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (medium)
# :class: attention
# Noise averages out because it is drawn anew for each answer.
# Draw one exponential delay for each network and keep it: what do 100 queries
# tell, by all features and by the lower decile alone?
# :::
#
# :::{admonition} Exercise 2 (short)
# :class: attention
# Low quantiles peel off noise that starts at zero.
# Compare it with gamma noise of shape 4 and the same mean, by the lower
# decile and by the mean.
# :::
#
# :::{admonition} Exercise 3 (short)
# :class: attention
# Which of minimum, lower quartile and mean needs the fewest queries?
# :::
#
# :::{admonition} Exercise 4 (short)
# :class: attention
# Does the clock care what is asked?
# Time one victim with digits, with uniform noise and with zeros, each twice.
# :::


# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show the solutions"}
def in_turn(query, rows):
    """A call that sends the next of some rows, whatever it is given."""
    endless = itertools.cycle(rows)
    return lambda _: query(next(endless)[None])


rng = np.random.default_rng(seed)
secret = fixed + rng.exponential(span, fixed.shape[:2])[..., None]
for names in (tuple(FEATURES), ["10 %"]):
    r2 = by_size(secret, profile, 100, names).mean()
    print(f"1. {len(names)} features: R2 {r2:.2f}")
for shape, name in itertools.product((1, 4), ("10 %", "mean")):
    rng = np.random.default_rng(seed)
    blurred = fixed + rng.gamma(shape, span / shape, fixed.shape)
    r2 = by_size(blurred, profile, 100, [name]).mean()
    print(f"2. shape {shape}, {name}: R2 {r2:.2f}")
for name in ("minimum", "25 %", "mean"):
    r2 = [by_size(fixed, profile, n, [name]).mean() for n in sizes]
    print(f"3. {name}: R2", np.round(r2, 2), "with", sizes)
inputs = {
    "digits": rows[:100],
    "uniform noise": asked[seed][0]["uniform noise"][0][:100],
    "zeros": np.zeros((1, 64)),
}
query = sell(scenes[seed][0]).query
calls = [in_turn(query, x) for x in inputs.values() for _ in range(2)]
floor = features(latencies(calls, rows, repeats, seed), ["10 %"])[:, 0] / tau
for name, pair in zip(inputs, floor.reshape(-1, 2), strict=True):
    print(f"4. {name}:", (pair - floor[0]).round(2), "layers")

# %% [markdown]
# A secret that stays the same does not average out, and yet all features may
# read the depth: it shifts all times of a network alike, and the differences
# between its quantiles grow with depth.
#
# ## Recap
#
# - Few queries read the depth off the clock where the profile is timed
#   together with the victim.
#   That is an idealisation: what a profile of another time is worth is up to
#   the machine.
# - Two networks of known depth behind the victim's own service take constant
#   and factor out of the time, and no profile is needed.
# - Low quantiles hang neither on the rare slow query nor on the fastest one;
#   measure the noise of the machine on networks of one shape.
# - Hold out whole depths: a random split never asks for an unseen one.
# - Unknown widths pass for depth; a second size of batch tells the two apart.
# - The published query set is a victim's surest rows; search and copy here
#   departed from it and used the whole pool.
# - Noise is averaged out; a deadline far above the slowest network takes away
#   what a layer adds but for a small rest, and every answer waits that long.
#
# ## References
#
# - {cite:t}`duddu2018stealing` introduced the attack.
# - {cite:t}`gong2020survey` finds no defense against it.
# - {cite:t}`salem2019mlleaks` and {cite:t}`shokri2017membership` infer
#   membership; the latter climb towards sure answers.
# - {cite:t}`batina2019csi` read networks off electromagnetic radiation.
