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
# a regression from time to depth, and then looks for an architecture of that
# depth which copies the victim.
# In this chapter all of it is measured on the machine that runs the page, and
# then the owner hides the clock.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - time small networks through a prediction API, look for features of the
#   times that survive a busy machine, and measure how busy it is;
# - infer the depth of victims never timed before, with whole depths held out,
#   and compare that with a careless split;
# - see what unknown widths do to the attack;
# - let a controller search for an architecture of the depth found, against
#   random search with as many evaluations, and distil a copy;
# - pad, quantise and blur the response times, and price each.
#
# <!-- minutes -->
# Read [the setting](../setting.ipynb) first; the symbols are in
# [the notation](../notation.md).
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
import copy
import itertools
import math
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
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
    datasets,
    metrics,
    plotting,
    training,
)
from mexutils.notebook import Markdown, progress
from mexutils.runs import column, interval, paired_difference, spread_of

plotting.use_style()
claims = Claims()

# %% [markdown]
# The knobs of this chapter.
# Every sweep of timings and everything that is trained is repeated with
# `n_seeds` seeds.
# One thread, and no subnormal numbers: both would make times depend on more
# than the network.

# %% tags=["parameters"]
seed = 0
n_seeds = 3
max_depth = 16
width = 128
widths = [32, 64, 128, 256, 384]
nets_per_depth = 2
repeats = 100  # timed queries of each network
n_victims = 8
evaluations = 16  # of each architecture search
price_per_1000 = 1.50

# %%
torch.set_num_threads(1)
torch.set_flush_denormal(True)
seeds = range(seed, seed + n_seeds)
depths = np.arange(1, max_depth + 1)

# %% [markdown]
# ## The question
#
# | | |
# |---|---|
# | **sees** | an answer to each query, and when it arrives |
# | **knows** | the machine and the software that the victim runs on; the kind of network and, at first, its width |
# | **has** | such a machine, to time networks of its own; a pool of rows of the victim's kind |
# | **pays** | for every row it sends |
# | **wants** | the number of layers, and then a copy |
#
# That is the setting of {cite:t}`duddu2018stealing`, whose abstract reports
# that execution time gives the depth away and that a search guided by
# reinforcement learning then finds a copy close to the target in accuracy.
# We know that paper by its abstract and through {cite:t}`gong2020survey`, so
# that this chapter follows the design and prints none of its numbers.
#
# The attacker's clock is wall time, as a client's must be.
# It counts whatever else the machine does in the meantime.
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
# A regression on networks of known depth gives $\hat L = g(t_1, \dots, t_N)$.
#
# How many queries does that take?
# If the disturbances are independent with a sub-Gaussian scale $\sigma_t$,
# the mean of $N$ times is off by more than $\tau / 2$ with a probability of
# at most $2 \exp(-N \tau^2 / 8 \sigma_t^2)$, so that neighbouring depths are
# told apart with probability $1 - \delta$ by
#
# $$
# N \ge \frac{8 \sigma_t^2}{\tau^2} \ln \frac{2}{\delta} .
# $$
#
# The bound does not contain the size of the model: that is what makes the
# attack cheap.
# Delays of a real machine are not sub-Gaussian; that is what the features
# below are for.
#
# Once $\hat L$ is known, a search for an architecture has less to look at.
# With $|A|$ kinds of layers there are $\sum_{L=1}^{L_{\max}} |A|^L$ networks
# before, and $|A|^{\hat L}$ after.
#
# ## From scratch
#
# ### Networks and a service
#
# A network is a list of layers, each a width and an activation.
# The service turns it into what the API wants: rows in, probabilities out.

# %%
ACTIVATIONS = {"ReLU": nn.ReLU, "tanh": nn.Tanh}


def dense_net(layers, seed, inputs=64, classes=10):
    """A network of dense layers with random weights; it answers logits.

    layers: (width, activation) of each hidden layer, from the input on; its
    length is the depth L. activation: a key of `ACTIVATIONS`.
    """
    torch.manual_seed(seed)
    parts = []
    for units, activation in layers:
        parts += [nn.Linear(inputs, units), ACTIVATIONS[activation]()]
        inputs = units
    return nn.Sequential(*parts, nn.Linear(inputs, classes)).eval()


def service(model):
    """`predict_proba` of a network as its owner serves it, on the CPU.

    The weights are copied, so that they lie side by side in memory wherever
    the network comes from.
    """
    model = copy.deepcopy(model).requires_grad_(False)

    def predict_proba(x):
        with torch.inference_mode():
            logits = model(torch.as_tensor(x, dtype=torch.float32))
        return logits.double().softmax(1).numpy()

    return predict_proba


# %% [markdown]
# ### The stopwatch
#
# All networks are timed in turns: each round asks every network once, in a
# new order, so that a noisy moment or a drift of the machine strikes all of
# them alike, and none is asked twice in a row, with its weights still in the
# cache.
# The first rounds warm up and are thrown away, though the bill has them.

# %%
WARM_UP = 3


def latencies(calls, rows, repeats, seed):
    """Wall time of single queries: (len(calls), repeats) seconds.

    calls: functions of one row (1, d), such as `api.query`. rows: (n, d),
    from which each query is drawn. Each call is made `repeats + WARM_UP`
    times, interleaved in random order. Raises `ValueError`, with nothing
    asked, for empty or wrong input.
    """
    _check_timing(calls, rows, repeats)
    rng = np.random.default_rng(seed)
    taken = np.empty((len(calls), WARM_UP + repeats))
    last = None
    for turn in range(WARM_UP + repeats):
        order = rng.permutation(len(calls))
        order = np.roll(order, -1) if order[0] == last else order
        last = order[-1]
        for which in order:
            row = rows[rng.integers(len(rows))][None]
            start = time.perf_counter()
            calls[which](row)
            taken[which, turn] = time.perf_counter() - start
    return taken[:, WARM_UP:]


# %%
def _check_timing(calls, rows, repeats):
    """Refuse what would fail half-way, when queries are paid already."""
    if not calls or not all(callable(call) for call in calls):
        raise ValueError("calls must be functions of a row, one or more")
    if repeats < 1 or repeats != int(repeats):
        raise ValueError(f"repeats must be 1 or more, not {repeats!r}")
    rows = np.asarray(rows)
    if rows.ndim != 2 or rows.size == 0 or not np.isfinite(rows).all():
        raise ValueError(
            f"rows must be a finite (n, d) array, not {rows.shape}: drop "
            "rows with NaN, and send one row as x[None]"
        )


# %% [markdown]
# ### Robust features
#
# Delays mostly add, and the rare large ones are huge: a mean jumps with them.
# The minimum, on the other hand, is a single query, and now and then one
# looks far too fast, for reasons that the attacker does not see.
# Low quantiles lie between the two.

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


# %% [markdown]
# ### The regression, with whole depths held out
#
# Each regressor is judged on networks that it has not seen.
# The question is what *not seen* means.
# A random split leaves other networks of the same depth in the training set.
# A victim's depth need not be in the attacker's profile, so the honest split
# holds out all networks of a depth at once.

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


def depth_folds(depth, n_folds=4):
    """Number of the fold (n,) of each row; a depth is in one fold only."""
    different, place = np.unique(depth, return_inverse=True)
    if not 2 <= n_folds <= len(different):
        raise ValueError(
            f"{len(different)} depths cannot be held out in {n_folds} folds: "
            "profile more depths or use from 2 folds to one a depth"
        )
    return place % n_folds


# %%
def held_out(make, x, depth, fold):
    """Estimated depth (n,) of each row, by a fit to the other folds.

    Estimates outside the range of all depths are drawn back to its ends.

    make: builds a regressor. x: (n, F) features. fold: (n,) numbers.
    """
    guess = np.empty(len(depth))
    for k in np.unique(fold):
        out = fold == k
        guess[out] = make().fit(x[~out], depth[~out]).predict(x[out])
    return guess.clip(depth.min(), depth.max())


# %% [markdown]
# The errors, for estimates $\hat L$ of depths $L$ with mean $\bar L$:
#
# $$
# \text{MAE} = \frac1n \sum |L - \hat L|, \qquad
# \text{RMSE} = \sqrt{\frac1n \sum (L - \hat L)^2}, \qquad
# R^2 = 1 - \frac{\sum (L - \hat L)^2}{\sum (L - \bar L)^2},
# $$
#
# and, after rounding, the shares that are exact and within one layer.


# %%
def depth_scores(guess, depth):
    """Errors of estimated depths (n,): MAE, RMSE, R2, exact, within one."""
    guess, depth = np.asarray(guess, float), np.asarray(depth, float)
    error = depth - guess
    missed = np.abs(depth - np.rint(guess))
    return {
        "MAE": np.abs(error).mean(),
        "RMSE": np.sqrt((error**2).mean()),
        "R2": 1 - (error**2).sum() / ((depth - depth.mean()) ** 2).sum(),
        "exact": (missed == 0).mean(),
        "within one": (missed <= 1).mean(),
    }


# %% [markdown]
# ## Does it work?
#
# ### What a layer costs
#
# The profile holds `nets_per_depth` networks of each depth from 1 to
# `max_depth`, all of one width, behind an API each, as the victim will be.
# The rows are digits of 8 × 8 pixels.

# %%
digits = datasets.tabular("digits", seed=seed, test_size=0.3)


def sell(model):
    """The API that sells a network."""
    return PredictionAPI(service(model), input_shape=(64,))


def plain(depth, units, seed):
    """A network of so many ReLU layers of equal width, behind an API."""
    return sell(dense_net([(units, "ReLU")] * depth, seed))


# %% [markdown]
# ### Is the machine quiet enough?
#
# Networks of one shape take the same time, whatever their weights.
# Where the clock puts them apart, that is the machine: what else it did, and
# where the weights came to lie.
# So every measurement below times networks of one shape several times over,
# in turns with all others, and their spread in layers is its *noise*.
# It does not look at whether the attack succeeds.
#
# A measurement with more than half a layer of noise is made once more.
# If that does not help, the claims that rest on it say *too noisy here*.

# %%
QUIET = 0.5
"""Most noise, in layers, that a measurement of this page may have."""


def noise_of(copies):
    """Spread of what the clock says of equal networks: one number.

    copies: (n, m) depths in layers, read off the times of m networks of one
    shape, for n shapes. Returns the root of the mean variance in a row.
    """
    return float(np.sqrt(np.var(copies, axis=1, ddof=1).mean()))


# %%
def measured(measure, holds, attempts=2):
    """The first result of `measure()` that holds, or the last; and a count.

    holds: a function of a result, true where it need not be repeated.
    """
    made = 0
    while made < attempts:
        result, made = measure(), made + 1
        if holds(result):
            break
    return result, made


def sweeps_of(nets, rows, repeats, seeds, shield=None):
    """Times of networks behind APIs: (seeds, nets, repeats) seconds.

    nets: (depth, width) of each; a seed gives all of them new weights.
    shield: what the owner does to a call, if anything.
    """
    sweeps = []
    for s in progress(seeds, "timing"):
        calls = [
            plain(L, units, 1000 * s + k).query
            for k, (L, units) in enumerate(nets)
        ]
        calls = [shield(call) for call in calls] if shield else calls
        sweeps.append(latencies(calls, rows, repeats, s))
    return np.stack(sweeps)


# %%
def judged(sweeps, depth, name="linear", names=ROBUST):
    """Scores of a regressor, depths held out, for each seed's sweep."""
    return [
        depth_scores(
            held_out(
                REGRESSORS[name],
                features(taken, names),
                depth,
                depth_folds(depth),
            ),
            depth,
        )
        for taken in sweeps
    ]


# %%
def profile_noise(sweeps, depths):
    """Time of a layer (microseconds), and noise of sweeps, in layers.

    sweeps: (seeds, nets, N) seconds; depths: (D,) of the networks, which
    come in this order, equally many of each.
    """
    floor = features(sweeps, ["10 %"])[..., 0]
    by_depth = floor.reshape(len(sweeps), len(depths), -1)
    layer = np.polyfit(depths, by_depth.mean((0, 2)), 1)[0]
    return layer, noise_of(np.concatenate(by_depth) / layer)


# %%
profile = np.repeat(depths, nets_per_depth)
fixed, fixed_attempts = measured(
    lambda: sweeps_of(
        [(L, width) for L in profile], digits.test.x, repeats, seeds
    ),
    lambda sweeps: profile_noise(sweeps, depths)[1] <= QUIET,
)
tau, fixed_noise = profile_noise(fixed, depths)
busy = fixed_noise > QUIET

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Time of a query against depth. Left: minimum, lower decile and median over 100 queries, means over seeds with 95 % intervals. Right: every query of one sweep, and how far the mean of the same queries lies from their lower decile."}, "image": {"alt": "Left panel: minimum, lower decile and median latency against depth in layers. Right panel: all single latencies of one sweep against depth on a logarithmic axis, with one line for the lower deciles and one for the means."}}
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
by_depth = fixed.reshape(n_seeds, max_depth, -1)
for name in ("minimum", "10 %", "median"):
    values = features(by_depth, [name])[..., 0].T
    plotting.band(left, depths, values, name, markersize=3)
left.set(xlabel="depth (layers)", ylabel="latency (µs)", ylim=(0, None))
left.legend()
for ax in (left, right):
    ax.set_xticks([1, *range(4, max_depth + 1, 4)])
one = by_depth[0]
right.plot(
    np.repeat(depths, one.shape[1]), 1e6 * one.ravel(), ",", color="0.5"
)
for name in ("10 %", "mean"):
    right.plot(depths, features(one, [name])[:, 0], label=name, markersize=3)
right.set(xlabel="depth (layers)", ylabel="latency (µs)", yscale="log")
right.legend()
plt.show()

# %% tags=["hide-input"]
correlation = {
    name: np.corrcoef(features(fixed[0], [name])[:, 0], profile)[0, 1]
    for name in FEATURES
}
Markdown(
    f"A layer of {width} units costs **{tau:.1f} µs** on this machine, and "
    f"the noise is **{fixed_noise:.2f} layers**: "
    + ("too noisy here" if busy else "quiet enough")
    + f". Sweeps made: {fixed_attempts} of each. Correlation of depth with "
    "each feature, in the first sweep: "
    + ", ".join(f"{name} {r:.3f}" for name, r in correlation.items())
    + ". The slowest query of that sweep lies "
    f"{1e6 * (one - one.min(-1, keepdims=True)).max():,.0f} µs above the "
    "fastest of its depth."
)

# %% [markdown]
# The formula has the floor as a straight line, and single queries above it.
# What the mean makes of these depends on the moment, and is printed rather
# than promised.
#
# ### Which regressor, and which split?
#
# The 100 queries of each network are cut into four blocks of 25, each with
# its own features.
# The *random* split deals these rows out at random, so that a network's other
# blocks stay in the training set.
# The *depths* split holds out whole depths.


# %%
def blocks(taken, size):
    """Times (n, N) cut into (n * (N // size), size), network by network."""
    count = taken.shape[1] // size
    return taken[:, : count * size].reshape(-1, size)


quarter = repeats // 4
row_depth = np.repeat(profile, 4)
splits = {
    "random": np.random.default_rng(seed).permutation(len(row_depth)) % 4,
    "depths": depth_folds(row_depth),
}
contest = {
    (name, split): [
        depth_scores(
            held_out(make, features(blocks(t, quarter)), row_depth, fold),
            row_depth,
        )
        for t in fixed
    ]
    for name, make in REGRESSORS.items()
    for split, fold in splits.items()
}

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Mean absolute error of each regressor under both splits; means over seeds with 95 % intervals."}, "image": {"alt": "Bars of the mean absolute error in layers for five regressors, one bar for the random split and one for held-out depths, with intervals."}}
fig, ax = plt.subplots(figsize=(6.8, 3.2))
places = np.arange(len(REGRESSORS))
for shift, split in ((-0.19, "random"), (0.19, "depths")):
    ends = [
        interval(column(contest[name, split], "MAE")) for name in REGRESSORS
    ]
    means = np.array([end.mean for end in ends])
    error = [means - [e.low for e in ends], [e.high for e in ends] - means]
    label = "random split" if split == "random" else "depths held out"
    ax.bar(places + shift, means, 0.36, yerr=error, capsize=3, label=label)
ax.set_xticks(places, REGRESSORS)
ax.set_ylabel("mean absolute error (layers)")
ax.set_ylim(bottom=0)
ax.legend()
plt.show()

# %% tags=["hide-input"]
plotting.table(
    [
        {
            "regressor": name,
            "split": split,
            "MAE": spread_of(runs, "MAE"),
            "RMSE": spread_of(runs, "RMSE"),
            "R²": f"{column(runs, 'R2').mean():.3f}",
            "exact": f"{column(runs, 'exact').mean():.0%}",
            "within one": f"{column(runs, 'within one').mean():.0%}",
        }
        for (name, split), runs in contest.items()
    ]
)

# %% tags=["hide-input"]
leaks = {
    name: paired_difference(
        column(contest[name, "depths"], "MAE"),
        column(contest[name, "random"], "MAE"),
    )
    for name in REGRESSORS
}
beyond_a_line = {
    name: paired_difference(
        column(contest[name, "depths"], "MAE"),
        column(contest["linear", "depths"], "MAE"),
    )
    for name in REGRESSORS
}
winner = {
    split: min(
        REGRESSORS,
        key=lambda n: column(contest[n, split], "MAE").mean(),
    )
    for split in splits
}
Markdown(
    "From the random split to held-out depths the error grows by "
    + ", ".join(f"{leak:.2f} ({name})" for name, leak in leaks.items())
    + f" layers. The random split prefers *{winner['random']}*, held-out "
    f"depths prefer *{winner['depths']}*. With depths held out, the error "
    "differs from a line's by "
    + ", ".join(
        f"{more:.2f} ({name})"
        for name, more in beyond_a_line.items()
        if name != "linear"
    )
    + " layers."
)

# %% [markdown]
# A tree answers with depths that it was trained on, so a depth that was held
# out is out of its reach: at best it names a neighbour.
# A line goes through.
# A random split does not ask for such depths.
#
# ### Victims
#
# Now the attack itself.
# The attacker fits a line to its profile and times victims that it knows
# nothing about, again in turns with its own networks.
# That is an idealisation: load and clock rate then strike profile and victim
# alike, and a profile of another hour would not have that.
# Each victim has its own API and its own bill, and is sold by a second API as
# well: what the two estimates differ by is noise.


# %%
def infer(hidden, depths, width, rows, repeats, seed):
    """Depths (n,) of the hidden APIs, by a line through an own profile.

    depths, width: of the profile's networks, timed in turns with `hidden`.
    """
    own = [plain(L, width, 5000 + seed) for L in depths]
    calls = [api.query for api in [*own, *hidden]]
    x = features(latencies(calls, rows, repeats, seed))
    model = REGRESSORS["linear"]().fit(x[: len(depths)], depths)
    return model.predict(x[len(depths) :])


# %%
rng = np.random.default_rng(seed)
true_depths = rng.integers(1, max_depth + 1, n_victims)
ways = depths, width, digits.test.x, repeats
hidden = {
    s: [plain(L, width, 7000 + s) for L in true_depths for _ in range(2)]
    for s in seeds
}
twins, victim_attempts = measured(
    lambda: np.stack(
        [infer(hidden[s], *ways, s).reshape(-1, 2) for s in seeds]
    ),
    lambda found: noise_of(np.concatenate(found)) <= QUIET,
)
inferred, victim_noise = twins[..., 0], noise_of(np.concatenate(twins))
victim_bill = max(api.ledger.queries for s in seeds for api in hidden[s])
on_victims = [depth_scores(found, true_depths) for found in inferred]

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Inferred against true depth of unseen victims; the grey band is one layer to either side."}, "image": {"alt": "Scatter plot of inferred against true depth with the diagonal and a band of one layer around it."}}
fig, ax = plt.subplots(figsize=(4.6, 3.8))
ends = np.array([0, max_depth + 1])
ax.fill_between(ends, ends - 1, ends + 1, color="0.9", lw=0)
ax.plot(ends, ends, color="0.5", lw=1, marker="")
ax.plot(np.tile(true_depths, n_seeds), inferred.ravel(), "o", alpha=0.6)
ax.set(xlabel="true depth (layers)", ylabel="inferred depth (layers)")
ax.set_xticks(range(0, max_depth + 1, 4))
ax.set_yticks(range(0, max_depth + 1, 4))
plt.show()

# %% tags=["hide-input"]
share = column(on_victims, "within one")
Markdown(
    f"Of {inferred.size} inferences "
    f"{column(on_victims, 'exact').mean():.0%} are exact and "
    f"**{share.mean():.0%}** within one layer ({share.min():.0%} with the "
    f"worst of the {n_seeds} profiles), at {victim_bill} queries a victim, "
    f"${victim_bill * price_per_1000 / 1000:.2f}. Noise: {victim_noise:.2f} "
    f"layers, measurements made: {victim_attempts}."
)

# %% [markdown]
# ### How many queries?
#
# The next cell cuts the same times into blocks of 1 to 100 queries and
# infers depths from the minimum, the lower quartile or the mean of a block
# alone, with whole depths held out.
# The attacker knows its own profile, so that it may take whichever of line,
# SVR and tree serves it best there.

# %%
sizes = [1, 10, 30, 100]


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


by_feature = {
    (name, size): by_size(fixed, profile, size, [name])
    for name in ("minimum", "25 %", "mean")
    for size in sizes
}

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Depth explained by one feature of 1 to 100 queries, whole depths held out; means over seeds with 95 % intervals."}, "image": {"alt": "R squared against the number of timed queries on a logarithmic axis, for the minimum, the lower quartile and the mean of the times."}}
fig, ax = plt.subplots()
for name in ("minimum", "25 %", "mean"):
    values = [by_feature[name, size] for size in sizes]
    plotting.band(ax, sizes, values, name)
ax.set(xscale="log", ylim=(-0.3, 1.05))
ax.set_xticks(sizes, sizes)
ax.set(xlabel="timed queries", ylabel="R² of the depth")
ax.legend(title="feature", loc="lower right")
plt.show()

# %% tags=["hide-input"]
Markdown(
    "R² from one query, ten and a hundred: "
    + "; ".join(
        f"*{name}* "
        + ", ".join(f"{by_feature[name, n].mean():.2f}" for n in (1, 10, 100))
        for name in ("minimum", "25 %", "mean")
    )
    + ". With one query the three are the same. The best mean with more: "
    + ", ".join(
        f"*{max(('minimum', '25 %', 'mean'), key=lead)}* with {n}"
        for n in sizes[1:]
        for lead in [lambda name, n=n: by_feature[name, n].mean()]
    )
    + "; the bands of the figure say what such an order is worth."
)

# %% [markdown]
# A low quantile needs a few queries without a disturbance.
# A mean needs the rare large delays to average out, and on a busy machine it
# may wait long.
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
# - *climbed*: random rows, moved a few coordinates at a time wherever that
#   makes the victim surer of a wanted class.


# %%
def climb(api, start, wanted, steps, seed, moved=16, patience=5):
    """Rows climbed towards certain answers: (n, d).

    start: (n, d) rows in [-1, 1]. wanted: (n,) the class whose probability
    shall rise. In each step `moved` coordinates of a row are drawn anew; the
    change stays if the probability rises, and after `patience` failures in a
    row that number is halved. Bills n * (steps + 1) queries.
    """
    if steps < 1 or len(start) != len(wanted):
        raise ValueError(
            "climb needs a class for each row, and 1 step or more"
        )
    if api.returns == "label":
        raise ValueError("climb needs an API that answers probabilities")
    rng, every = np.random.default_rng(seed), np.arange(len(start))
    rows, failures = np.array(start, float), np.zeros(len(start), int)
    moved = np.full(len(start), moved)
    score = api.query(rows)[every, wanted]
    for _ in range(steps):
        rank = rng.random(rows.shape).argsort(1).argsort(1)
        fresh = rng.uniform(-1, 1, rows.shape)
        trial = np.where(rank < moved[:, None], fresh, rows)
        new = api.query(trial)[every, wanted]
        better = new > score
        rows[better], score[better] = trial[better], new[better]
        failures = np.where(better, 0, failures + 1)
        tired = failures >= patience
        moved = np.where(tired, np.maximum(moved // 2, 1), moved)
        failures[tired] = 0
    return rows


# %% [markdown]
# The victim of the rest of this page has five layers and was trained on 600
# digits.
# The attacker's pool holds 300 of these and 300 that the victim never saw,
# and the attacker does not know which are which.
# Each seed has its own victim and its own pool.

# %%
VICTIM_DEPTH = 5


def distil(layers, x, answers, seed, steps=200, lr=5e-3):
    """A network of these layers, trained on the victim's answers.

    answers: (n, c) probabilities or (n,) labels. Source of the loss: soft
    cross-entropy, which is distillation at temperature 1.
    """
    model = dense_net(layers, seed, x.shape[1])
    training.fit(model, x, answers, steps=steps, lr=lr, seed=seed)
    model.zero_grad()
    return model.cpu()


def scene(train, width, seed):
    """A trained victim, the attacker's pool, and who is a member of it."""
    order = np.random.default_rng(seed).permutation(len(train.y))
    own, foreign = order[:600], order[600:900]
    layers = [(width, "ReLU")] * VICTIM_DEPTH
    victim = distil(layers, train.x[own], train.y[own], 100 + seed)
    pool = np.concatenate([train.x[own[:300]], train.x[foreign]])
    return victim, pool, np.repeat([True, False], 300)


# %%
scenes = {s: scene(digits.train, width, s) for s in seeds}
climb_steps = 60


def query_sets(victim, pool, member, steps, seed):
    """Rows, answers and bill of each query set; AUC of the certainty."""
    rng = np.random.default_rng(seed)
    api, climber = sell(victim), sell(victim)
    answers = api.query(pool)
    sure = np.argsort(-answers.max(1))[: len(pool) // 2]
    half = rng.choice(len(pool), len(pool) // 2, replace=False)
    start = rng.uniform(-1, 1, (len(half), pool.shape[1]))
    classes = np.arange(len(half)) % answers.shape[1]
    grown = climb(climber, start, classes, steps, seed)
    sets = {
        "confident half": (pool[sure], answers[sure], len(pool)),
        "random half": (pool[half], answers[half], len(half)),
        "whole pool": (pool, answers, len(pool)),
        "climbed": (grown, climber.query(grown), climber.ledger.queries),
        "uniform noise": (start, sell(victim).query(start), len(start)),
    }
    auc = roc_auc_score(member, answers.max(1))
    return sets, auc


# %%
def exam(model, victim, test):
    """Accuracy, fidelity and relative accuracy in percent, on a test set."""
    guess = metrics.labels_of(service(model)(test.x))
    own = metrics.labels_of(service(victim)(test.x))
    return {
        "accuracy": 100 * metrics.accuracy(guess, test.y),
        "fidelity": 100 * metrics.fidelity(guess, own),
        "relative": 100 * metrics.relative_accuracy(guess, own, test.y),
        "victim": 100 * metrics.accuracy(own, test.y),
    }


asked = {s: query_sets(*scenes[s], climb_steps, s) for s in seeds}
reference = [(width, "ReLU")] * VICTIM_DEPTH
by_rows = {
    name: [
        exam(
            distil(reference, *asked[s][0][name][:2], s),
            *(scenes[s][0], digits.test),
        )
        for s in seeds
    ]
    for name in asked[seed][0]
}

# %% tags=["hide-input"]
plotting.table(
    [
        {
            "query set": name,
            "rows": len(asked[seed][0][name][0]),
            "queries": f"{asked[seed][0][name][2]:,}",
            "fidelity (%)": spread_of(runs, "fidelity"),
        }
        for name, runs in by_rows.items()
    ]
)

# %% tags=["hide-input"]
auc = interval([asked[s][1] for s in seeds])
choosing = paired_difference(
    column(by_rows["confident half"], "fidelity"),
    column(by_rows["random half"], "fidelity"),
)
keeping = paired_difference(
    column(by_rows["whole pool"], "fidelity"),
    column(by_rows["confident half"], "fidelity"),
)
climbing = paired_difference(
    column(by_rows["climbed"], "fidelity"),
    column(by_rows["uniform noise"], "fidelity"),
)
Markdown(
    "The victim's certainty tells members from others with an AUC of "
    f"**{auc:.2f}**: "
    + ("no better than" if auc.low <= 0.5 else "apart from")
    + " guessing, which is 0.5, as far as these seeds show. "
    f"The confident half changes the "
    f"fidelity by {choosing:.1f} points against a random half of the same "
    f"size, but by {-keeping.mean:.1f} points against the whole pool, which "
    "costs the same: whoever asks for all and keeps half has paid for the "
    f"other half. Climbing gains {climbing:.1f} points over the noise that it "
    f"starts from, for {climb_steps + 1} times as many queries."
)

# %% [markdown]
# Does the clock care about any of this?
# Dense kernels multiply whatever is in the row, so that every query set
# should time the victim alike.
# The next cell measures it, each set twice for the noise.

# %%
victim, pool, _ = scenes[seed]
timed_sets = {
    "digits": pool[:100],
    "climbed": asked[seed][0]["climbed"][0][:100],
    "uniform noise": asked[seed][0]["uniform noise"][0][:100],
    "zeros": np.zeros((1, 64)),
}


def in_turn(query, rows):
    """A call that sends the next of some rows, whatever it is given."""
    endless = itertools.cycle(rows)
    return lambda _: query(next(endless)[None])


def time_sets(query, sets, repeats, seeds):
    """Lower decile of the latency, in microseconds: (sets, seeds, 2).

    Each query set is timed twice over, in turns.
    """
    calls = [in_turn(query, rows) for rows in sets.values() for _ in range(2)]
    row = np.zeros((1, 64))
    floor = [
        features(latencies(calls, row, repeats, s), ["10 %"]) for s in seeds
    ]
    return np.stack(floor).reshape(len(seeds), -1, 2).swapaxes(0, 1)


twin_sets, input_attempts = measured(
    lambda: time_sets(sell(victim).query, timed_sets, repeats, seeds) / tau,
    lambda t: noise_of(t.reshape(-1, 2)) <= QUIET,
)
by_input = twin_sets.mean(2)
input_noise = noise_of(twin_sets.reshape(-1, 2))
input_spread = np.ptp(by_input.mean(1))

# %% tags=["hide-input"]
Markdown(
    "Lower decile of the victim's latency, in layers beyond that of digits: "
    + ", ".join(
        f"{name} {paired_difference(row, by_input[0]):.2f}"
        for name, row in zip(timed_sets, by_input, strict=True)
        if name != "digits"
    )
    + f". The noise is {input_noise:.2f} layers. "
    + (
        "For the timing any row will do."
        if input_spread <= QUIET
        else "That is more than the timing should mind: look again on a "
        "quieter machine."
    )
)

# %% [markdown]
# ### The search, before and after
#
# The depth of each seed's victim is read off its clock first, as before, by
# four accounts for the sake of the noise; the table below is that of the
# first.
# Then the attacker chooses for each layer one of eight kinds: four widths
# and two activations.
# The copy need not have the victim's own layers; it has to answer like it.


# %%
KINDS = tuple((w, a) for w in (16, 32, 64, 128) for a in ("ReLU", "tanh"))


def search_space(n_kinds, depths):
    """How many networks there are: the sum over depths of n_kinds ** L."""
    depths = [int(L) for L in depths]
    if n_kinds < 1 or not depths or min(depths) < 1:
        raise ValueError("there must be a kind, and depths of 1 or more")
    return sum(int(n_kinds) ** L for L in depths)


# %%
clocked, clock_attempts = measured(
    lambda: np.stack(
        [
            infer([sell(scenes[s][0]) for _ in range(4)], *ways, s)
            for s in seeds
        ]
    ),
    lambda L: noise_of(L) <= QUIET,
)
clock_noise = noise_of(clocked)
found = np.rint(clocked[:, 0]).astype(int).clip(min=1)
depth_found = int(found[0])
window = range(max(1, depth_found - 1), depth_found + 2)
spaces = {
    f"depth from 1 to {max_depth}": search_space(len(KINDS), depths),
    f"{window[0]} to {window[-1]}, to be safe": search_space(
        len(KINDS), window
    ),
    f"depth {depth_found}": search_space(len(KINDS), [depth_found]),
}

# %% tags=["hide-input"]
plotting.table(
    [
        {"known": name, "networks": f"{n:,}", "bits": f"{np.log2(n):.1f}"}
        for name, n in spaces.items()
    ]
)

# %% [markdown]
# ### A controller
#
# The controller draws a kind $a_l$ for each layer $l$ from a policy
# $\pi_\theta$ with a softmax of its own for each layer, has the network
# trained briefly, and gets as reward $R$ the fidelity on answers kept aside.
# REINFORCE climbs the expected reward along
#
# $$
# \nabla_\theta J \approx \frac1M \sum_{m=1}^{M} \sum_{l=1}^{\hat L}
#     \nabla_\theta \log \pi_\theta(a_{m,l})\, (R_m - \bar R) ,
# $$
#
# where $M$ networks are drawn at a time and $\bar R$ is a moving average.


# %%
def softmax(theta):
    """Probabilities along the last axis."""
    power = np.exp(theta - theta.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def policy_gradient(theta, actions, advantage):
    """REINFORCE's estimate for logits theta (L, kinds): the same shape.

    actions: (M, L) kinds drawn. advantage: (M,) rewards minus baseline.
    """
    pulled = np.eye(theta.shape[1])[actions] - softmax(theta)
    return (pulled * np.asarray(advantage)[:, None, None]).mean(0)


# %%
def reinforce(reward, depth, n_kinds, evaluations, seed, rate=15.0, batch=4):
    """Architectures tried by a controller, with rewards, in their order.

    reward: function of (L,) kinds. Returns [(kinds, reward), ...].
    """
    if min(depth, n_kinds, evaluations, batch) < 1:
        raise ValueError(
            "depth, kinds, evaluations and batch must be 1 or more"
        )
    rng = np.random.default_rng(seed)
    theta, mean, tried = np.zeros((depth, n_kinds)), None, []
    while len(tried) < evaluations:
        drawn = min(batch, evaluations - len(tried))
        dice = rng.random((drawn, depth, 1))
        actions = (softmax(theta).cumsum(-1) < dice).sum(-1)
        actions = actions.clip(max=n_kinds - 1)
        earned = np.array([reward(kinds) for kinds in actions])
        mean = earned.mean() if mean is None else mean
        theta += rate * policy_gradient(theta, actions, earned - mean)
        mean = 0.7 * mean + 0.3 * earned.mean()
        tried += list(zip(actions, earned, strict=True))
    return tried


def random_search(reward, depths, n_kinds, evaluations, seed):
    """The same, with depth and kinds drawn evenly."""
    rng = np.random.default_rng(seed)
    tried = []
    for _ in range(evaluations):
        kinds = rng.integers(n_kinds, size=rng.choice(depths))
        tried.append((kinds, reward(kinds)))
    return tried


# %% [markdown]
# Both have the same number of evaluations, the same answers and the same
# short training.
# A third search does not know the depth.
# None of them asks the victim anything new: the answers for the pool are paid.


# %%
def reward_on(x, answers, seed, steps=30):
    """A reward of kinds: fidelity (0 to 1) on a third of the answers."""
    order = np.random.default_rng(seed).permutation(len(x))
    fit, check = order[: 2 * len(x) // 3], order[2 * len(x) // 3 :]
    own = metrics.labels_of(answers[check])

    def reward(kinds):
        layers = [KINDS[k] for k in kinds]
        model = distil(layers, x[fit], answers[fit], seed, steps, 1e-2)
        return metrics.fidelity(service(model)(x[check]), own)

    return reward


searches = {"controller": [], "random": [], "random, any depth": []}
for s in progress(seeds, "searching"):
    reward, n = reward_on(*asked[s][0]["whole pool"][:2], s), len(KINDS)
    depth = int(found[s - seed])
    searches["controller"].append(reinforce(reward, depth, n, evaluations, s))
    for name, choice in (
        ("random", [depth]),
        ("random, any depth", depths),
    ):
        searches[name].append(random_search(reward, choice, n, evaluations, s))

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Reward (fidelity on kept answers) of the architectures tried, in windows of four, and the best so far; means over seeds with 95 % intervals."}, "image": {"alt": "Left panel: mean reward over the evaluations for the controller, random search and random search with unknown depth. Right panel: the best reward so far of each search."}}
rewards = {
    name: 100 * np.array([[r for _, r in run] for run in runs])
    for name, runs in searches.items()
}
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
edges = np.arange(4, evaluations + 1, 4)
for name, values in rewards.items():
    means = [values[:, e - 4 : e].mean(1) for e in edges]
    plotting.band(left, edges, means, name)
    best = np.maximum.accumulate(values, 1)[:, edges - 1].T
    plotting.band(right, edges, best, name)
left.set(xlabel="evaluations", ylabel="reward (%)", title="mean of the last 4")
left.set_xticks(edges)
right.set(xlabel="evaluations", title="best so far", xticks=edges)
right.legend()
plt.show()

# %%
last = evaluations // 4
learnt = paired_difference(
    rewards["controller"][:, -last:].mean(1), rewards["random"].mean(1)
)
best_of = {name: values.max(1) for name, values in rewards.items()}
ahead = paired_difference(best_of["controller"], best_of["random"])
depth_pays = paired_difference(best_of["random"], best_of["random, any depth"])

# %% tags=["hide-input"]
Markdown(
    f"In its last {last} evaluations the controller draws networks that are "
    f"{learnt:.1f} points better than random ones. Its best network is "
    f"{ahead:.1f} points better than that of random search, and knowing the "
    f"depth is worth {depth_pays:.1f} points to random search (paired over "
    f"{n_seeds} seeds)."
)

# %% [markdown]
# Is the controller wrong, or is it short of evaluations?
# A reward that costs nothing tells: the share of layers of one kind, which
# is 1/8 for random networks.

# %%
easy = {
    n: np.mean(
        [
            np.mean([r for _, r in run[-len(run) // 4 :]])
            for run in (
                reinforce(lambda k: (k == 3).mean(), 5, len(KINDS), n, s)
                for s in range(10)
            )
        ]
    )
    for n in (20, 100, 400)
}

# %% tags=["hide-input"]
Markdown(
    "Share of the wanted kind in the last quarter of the networks drawn: "
    + ", ".join(f"{v:.2f} after {n}" for n, v in easy.items())
    + f" evaluations. A policy for five layers has {5 * len(KINDS)} numbers "
    f"to settle. The search above gave it {evaluations} rewards, which are "
    "not exact either, and each of them is a training."
)

# %% [markdown]
# ### Distilling the winner
#
# The best network of each search is trained anew and longer, on all answers
# of the pool, from probabilities or from labels alone:
#
# $$
# \mathcal L = \beta \Bigl( -\sum_{j=1}^{c} f_j(x) \log \hat f_j(x) \Bigr)
#     + (1 - \beta) \bigl( -\log \hat f_{y_f}(x) \bigr) ,
# $$
#
# with $\beta = 1$ for probabilities and $\beta = 0$ for labels $y_f$.
# The victim's own layers, which no attacker here knows, go along as a
# reference.


# %%
def finish(kinds, paid, scene, test, seed, labels=False):
    """The exam of an architecture distilled from answers paid for.

    paid: rows, answers and bill of a query set. scene: victim first.
    """
    x, answers, _ = paid
    answers = metrics.labels_of(answers) if labels else answers
    layers = [KINDS[k] for k in kinds]
    return exam(distil(layers, x, answers, seed), scene[0], test)


def best_kinds(run):
    """The kinds of the architecture with the largest reward."""
    return max(run, key=lambda pair: pair[1])[0]


known = {s: (asked[s][0]["whole pool"], scenes[s], digits.test) for s in seeds}
copies = {
    name: [finish(best_kinds(runs[s - seed]), *known[s], s) for s in seeds]
    for name, runs in searches.items()
}
copies["controller, labels"] = [
    finish(best_kinds(searches["controller"][s - seed]), *known[s], s, True)
    for s in seeds
]
copies["the victim's layers"] = by_rows["whole pool"]

# %% tags=["hide-input"]
plotting.table(
    [
        {
            "search": name,
            "fidelity (%)": spread_of(runs, "fidelity"),
            "accuracy (%)": spread_of(runs, "accuracy"),
            "relative accuracy (%)": spread_of(runs, "relative"),
        }
        for name, runs in copies.items()
    ]
)

# %% [markdown]
# What the depth takes off the search is a fact about counting; whether the
# copy is better for it is the question that the table answers.
# A copy needs to answer like the victim, and networks of other depths may.
#
# ## How it breaks
#
# ### Unknown widths
#
# Latency is total work, and width makes work as well as depth does.
# The next profile has every second depth, in each of five widths.


# %%
def mixed_scores(sweeps, depth):
    """Scores of line, SVR and boosting on mixed widths, by name."""
    return {
        name: judged(sweeps, depth, name)
        for name in ("linear", "SVR", "boosting")
    }


mixed_depths = depths[1::2]
mixed_nets = [(L, units) for L in mixed_depths for units in widths]
mixed_profile = np.repeat(mixed_depths, len(widths))
fixed_runs = judged(fixed, profile)
fixed_best = column(fixed_runs, "R2").mean()
mixed = sweeps_of(mixed_nets, digits.test.x, 20, seeds)
by_mixed = mixed_scores(mixed, mixed_profile)


def ranged(runs, key):
    """One score of several runs in words: mean (smallest to largest)."""
    values = column(runs, key)
    return f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})"


# %% tags=["hide-input"] mystnb={"figure": {"caption": "Lower decile of the latency against depth, by width; means over seeds with 95 % intervals."}, "image": {"alt": "Latency on a logarithmic axis against depth, one line with a band for each of five widths."}}
fig, ax = plt.subplots()
for place, units in enumerate(widths):
    values = features(mixed[:, place :: len(widths)], ["10 %"])[..., 0].T
    plotting.band(ax, mixed_depths, values, f"{units}", markersize=3)
ax.set(xlabel="depth (layers)", ylabel="latency (µs)", yscale="log")
ax.legend(title="width")
plt.show()

# %% tags=["hide-input"]
plotting.table(
    [
        {
            "widths": case,
            "regressor": name,
            "R²": ranged(runs, "R2"),
            "MAE": ranged(runs, "MAE"),
            "within one": f"{column(runs, 'within one').mean():.0%}",
        }
        for case, rows in (
            (
                f"{width} alone",
                {n: contest[n, "depths"] for n in by_mixed},
            ),
            ("mixed", by_mixed),
        )
        for name, runs in rows.items()
    ]
)

# %% [markdown]
# A wide shallow network and a narrow deep one may take the same time, and the
# time of one row cannot tell them apart; the third exercise asks with more.
# In brackets is the range over seeds.
# A result about depth from timing means nothing without the widths that were
# allowed.
#
# ### A profile of something else
#
# The attacker must profile what the victim runs.
# Here it times its own networks without the API around them, and the
# victims with it.


# %%
def bare_shift(depths, width, rows, repeats, seed):
    """Layers by which a bare profile overestimates networks behind an API."""
    nets = [dense_net([(width, "ReLU")] * L, 300 + seed) for L in depths]
    bare = [service(net) for net in nets]
    calls = bare + [sell(net).query for net in nets]
    x = features(latencies(calls, rows, repeats, seed))
    model = REGRESSORS["linear"]().fit(x[: len(depths)], depths)
    return (model.predict(x[len(depths) :]) - depths).mean()


shift = interval(
    [bare_shift(depths, width, digits.test.x, 30, s) for s in seeds]
)

# %% tags=["hide-input"]
Markdown(
    f"The API's own work looks like **{shift:.1f} layers**, and the profile "
    "of bare networks adds them to every victim."
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
    return np.maximum(taken, _positive("deadline", deadline))


def quantise(taken, tick):
    """Times of answers that leave at multiples of `tick` seconds only."""
    return np.ceil(taken / _positive("tick", tick)) * tick


def blur(taken, scale, seed):
    """Times with an exponential delay of mean `scale` seconds added."""
    rng = np.random.default_rng(seed)
    return taken + rng.exponential(_positive("scale", scale), taken.shape)


def _positive(name, seconds):
    if not (np.isfinite(seconds) and seconds > 0):
        raise ValueError(f"{name} must be a time above 0, not {seconds!r}")
    return seconds


# %% [markdown]
# The owner measures in units of its own: the *span* between the medians of
# the slowest and the fastest network of the profile.
# The attacker knows the defense, profiles under it, uses all features, also
# the mean, the upper decile and the deviation, and takes the best of three
# regressors.

# %%
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
shielded = {
    (name, size): by_size(late, profile, size, FEATURES)
    for name, f in shields.items()
    for late in [np.stack([f(t) for t in fixed])]
    for size in sizes
}
price = {
    name: 1e6 * np.array([(f(t) - t).mean() for t in fixed])
    for name, f in shields.items()
}

# %% tags=["hide-input"] mystnb={"figure": {"caption": "Depth explained under each defense, by number of timed queries; means over seeds with 95 % intervals. Below zero the attacker does worse than always naming the mean depth."}, "image": {"alt": "R squared against timed queries for seven cases in three panels: padding, quantising and noise, each with the undefended case."}}
fig, panels = plt.subplots(1, 3, figsize=(8.4, 3.6), sharey=True)
for ax, word in zip(panels, ("pad", "quantise", "noise"), strict=True):
    names = ["none", *(n for n in shields if n.startswith(word))]
    for name in names:
        values = [shielded[name, size] for size in sizes]
        label = name.removeprefix(f"{word}, ").removeprefix("pad ")
        plotting.band(ax, sizes, values, label, markersize=4)
    ax.set(xscale="log", xlabel="timed queries", title=word, ylim=(-0.6, 1.65))
    ax.set_xticks(sizes, sizes)
    ax.legend(loc="upper left", fontsize=8)
panels[0].set_ylabel("R² of the depth")
plt.show()


# %% tags=["hide-input"]
def undone_at(r2):
    """Fewest queries with a mean R2 of 0.9 or more, as text.

    r2: values over seeds by number of queries.
    """
    enough = [n for n, values in r2.items() if np.mean(values) >= 0.9]
    return f"{min(enough)}" if enough else f"not with {max(r2)}"


plotting.table(
    [
        {
            "defense": name,
            "extra time (µs)": f"{price[name].mean():,.0f}",
            "R², 1 query": f"{shielded[name, 1].mean():.2f}",
            "R², 10": f"{shielded[name, 10].mean():.2f}",
            "R², 100": f"{shielded[name, 100].mean():.2f}",
            "R² of 0.9 at": undone_at({n: shielded[name, n] for n in sizes}),
        }
        for name in shields
    ]
)

# %% [markdown]
# Noise averages out, and exponential noise faster than that: its smallest
# values are near zero, so that a low quantile peels it off.
# Ticks keep whatever differs by a tick, and the share of answers that just
# miss one tells the rest.
# A deadline leaves nothing below it; what takes longer still shows, in the
# mean and the upper quantiles.
#
# So far the defenses were arithmetic on measured times.
# A real one has to wait, and waiting could leak as well.
# Nor is the arithmetic fair to padding: a query that takes longer is
# interrupted more often on a busy machine, while behind a deadline all take
# the same time and are interrupted alike.
# And a late answer need not tell how late it was: it can wait for the next
# deadline.
# The next cell builds it and measures it.


# %%
def padded_call(call, deadline):
    """A call whose answer leaves `deadline` seconds after it came.

    An answer that is late by more than 1 % waits for the next multiple. It
    waits awake: whoever sleeps is interrupted less than whoever computes.
    """
    _positive("deadline", deadline)

    def answer(row):
        end = time.perf_counter() + deadline
        reply = call(row)
        while not 0 <= (late := time.perf_counter() - end) <= deadline / 100:
            if late > 0:
                end += deadline * math.ceil(late / deadline)
        return reply

    return answer


# %%
LATE = 0.5
"""Share of deadlines missed above which the machine keeps none."""

twice = np.repeat(depths, 2)
deadline = 3 * slowest
padded_queries = 30


def missed(sweep, deadline):
    """Share of answers that came after the first deadline, 0 to 1."""
    return (sweep > 1.02 * deadline).mean()


padded, padded_attempts = measured(
    lambda: sweeps_of(
        [(L, width) for L in twice],
        *(digits.test.x, padded_queries, seeds[:2]),
        lambda call: padded_call(call, deadline),
    ),
    # shallow networks are done long before: what they miss is noise
    lambda sweep: missed(sweep[:, twice <= 4], deadline) <= LATE,
)
late_anyway = missed(padded[:, twice <= 4], deadline)
# all networks of the two sweeps together: what little there is to find needs
# many of them to be found
of_each = padded.reshape(-1, padded_queries)
padded_r2 = by_size(
    of_each[None], np.tile(twice, 2), padded_queries, FEATURES
).item()
left_over = np.polyfit(
    np.tile(twice, 2), features(of_each, ["10 %"])[:, 0], 1
)[0]

# %% tags=["hide-input"]
Markdown(
    f"Padded for real to {1e6 * deadline:,.0f} µs, a layer changes the lower "
    f"decile by **{left_over:.2f} µs**, against {tau:.1f} µs undefended. An "
    "attacker whose clock sees differences of that size explains the depth to "
    f"R² = {padded_r2:.2f} by {padded_queries} queries of {len(of_each)} "
    "networks and all features. "
    f"The first deadline was missed by {missed(padded, deadline):.1%} of all "
    f"answers, and by {late_anyway:.1%} of those of four layers or fewer, "
    "which are done long before it: that is noise"
    + (", and too much of it. " if late_anyway > LATE else ". ")
    + f"Sweeps made: {padded_attempts} of each."
)

# %% [markdown]
# The deadline is a choice.
# Too short, and deep networks overrun it; long, and every client waits.
# Here it is three times the median of the slowest network that the owner
# might run, whatever the owner does run: depth 1 waits like the deepest.
# A deadline close above that median is missed by the deep networks first, and
# the misses tell.
#
# ## The bill

# The bound above, as code: what the clock costs where answers travel over a
# network that blurs them with a scale of $\sigma_t$.


# %%
def timings_needed(sigma, tau, delta=0.05):
    """Queries whose mean tells depths apart, with probability 1 - delta.

    sigma: sub-Gaussian scale of the disturbance. tau: what a layer adds, in
    the same unit. Source: Hoeffding's bound at a threshold of tau / 2.
    """
    if not (sigma >= 0 and tau > 0 and 0 < delta < 1):
        raise ValueError(
            "sigma must be 0 or more, tau above 0, delta between 0 and 1"
        )
    return max(1, int(np.ceil(8 * (sigma / tau) ** 2 * np.log(2 / delta))))


# %% tags=["hide-input"]
plotting.table(
    [
        {
            "jitter (ms)": jitter,
            "queries, at most": f"{n:,}",
            "cost ($)": f"{n * price_per_1000 / 1000:,.2f}",
        }
        for jitter in (0.01, 0.1, 1, 10)
        for n in [timings_needed(1e3 * jitter, tau)]
    ]
)

# %% [markdown]
# And the bill of the theft on this page, for one victim:

# %% tags=["hide-input"]
steps_of_theft = {
    "depth from the clock": repeats + WARM_UP,
    "answers for the pool": asked[seed][0]["whole pool"][2],
    "search and distillation": 0,
}
steps_of_theft["in all"] = sum(steps_of_theft.values())
steps_of_theft["climbed query set, left out"] = asked[seed][0]["climbed"][2]
plotting.table(
    [
        {
            "step": name,
            "queries": f"{n:,}",
            "cost ($)": f"{n * price_per_1000 / 1000:.2f}",
        }
        for name, n in steps_of_theft.items()
    ]
)

# %% [markdown]
# The survey files the attack under those that need many queries.
# The clock needs few, and the same few for any size of model; it is the
# climbing of a query set that is dear.
# What the attacker needs besides is the machine.
#
# ## Paper and this run
#
# No number of the paper could be read in the source, so none stands beside
# ours.
# A measurement of times was made a second time if the first was too noisy,
# whatever it showed.
# Where the second was too noisy as well, the row says so.

# %%
claims.add(
    "held-out depths, one width: R²",
    fixed_best,
    low=0.9,
    noisy=busy,
)
claims.add(
    "held-out depths, one width: share within one layer",
    column(fixed_runs, "within one").mean(),
    low=0.8,
    noisy=busy,
)
claims.add(
    "unseen victims: share within one layer",
    share.mean(),
    low=0.8,
    noisy=victim_noise > QUIET,
)
claims.add(
    "the trained victims: layers that the clock is off, mean",
    np.abs(clocked[:, 0] - VICTIM_DEPTH).mean(),
    high=2,
    noisy=clock_noise > QUIET,
)

# %%
claims.add(
    "tree: error added by holding out depths (layers)",
    leaks["tree"].mean,
    low=0.05,
    noisy=busy,
)
for name in ("tree", "forest", "boosting"):
    claims.add(
        f"depths held out: error beyond a line's, {name} (layers)",
        beyond_a_line[name].mean,
        low=0.1,
        noisy=busy,
    )
claims.add(
    "mixed widths: R² of one width minus R² mixed, mean of regressors",
    fixed_best - np.mean([column(r, "R2").mean() for r in by_mixed.values()]),
    low=0.05,
    noisy=busy,
)

# %%
claims.add(
    "padding, real: change of the time a layer, share of the undefended",
    abs(left_over) / tau,
    high=0.05,
    noisy=late_anyway > LATE,
)
claims.add(
    "noise of one span, 1 query: R²",
    shielded["noise, the span", 1].mean(),
    high=0.4,
    noisy=busy,
)
claims.add(
    "noise of one span, 100 queries: R²",
    shielded["noise, the span", 100].mean(),
    low=0.75,
    noisy=busy,
)

# %%
claims.add(
    "ticks of a third of the span, 100 queries: R²",
    shielded["quantise, a third of the span", 100].mean(),
    low=0.5,
    noisy=busy,
)
claims.add(
    "query sets: spread of the victim's time (layers)",
    input_spread,
    high=1,
    noisy=input_noise > QUIET,
)
claims.add(
    "search space: bits before minus bits after",
    np.log2(spaces[f"depth from 1 to {max_depth}"])
    - np.log2(spaces[f"depth {depth_found}"]),
    low=20,
    noisy=clock_noise > QUIET,
)

# %%
claims.add(
    "copy by the controller: relative accuracy",
    column(copies["controller"], "relative").mean() / 100,
    low=0.93,
)
claims.add(
    "controller on an easy reward, 400 evaluations: share of the kind",
    easy[400],
    low=0.8,
)
claims.add(
    "controller on an easy reward, 20 evaluations: share of the kind",
    easy[20],
    low=0.2,
    high=0.75,
)

# %%
claims.add(
    "random half minus confident half (points)",
    -choosing.mean,
    low=2.0,
)
claims.add(
    "whole pool minus confident half, same bill (points)",
    keeping.mean,
    low=1.0,
)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1
# :class: attention
# Noise averages out because it is drawn anew for each answer.
# Draw one exponential delay of the same mean for each network and keep it.
# What do 100 queries tell now, and what does it cost?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
rng = np.random.default_rng(seed)
secret = rng.exponential(span, fixed.shape[:2])[..., None]
r2 = by_size(fixed + secret, profile, 100, FEATURES)
print(f"R2 {r2.mean():.2f} at {1e6 * secret.mean():.0f} µs extra")
alone = by_size(fixed + secret, profile, 100, ["10 %"])
print(f"by one quantile alone: R2 {alone.mean():.2f}")
print(f"drawn anew: R2 {shielded['noise, the span', 100].mean():.2f}")

# %% [markdown]
# A secret that stays the same does not average out, and yet all features
# together may read the depth: it shifts all times of a network alike, so
# that differences between its quantiles are what they were, and these grow
# with depth.
# One quantile alone has no such help.
#
# :::{admonition} Exercise 2
# :class: attention
# Noise that starts at zero with full density is peeled off by low quantiles.
# Compare exponential noise with gamma noise of shape 4 and the same mean, at
# 100 queries, by the lower decile alone and by the mean alone.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
for shape in (1, 4):
    rng = np.random.default_rng(seed)
    noisy = fixed + rng.gamma(shape, span / shape, fixed.shape)
    for name in ("10 %", "mean"):
        r2 = by_size(noisy, profile, 100, [name]).mean()
        print(f"shape {shape}, {name}: R2 {r2:.2f}")

# %% [markdown]
# :::{admonition} Exercise 3
# :class: attention
# Two unknowns need two equations.
# Time networks of all widths with one row and with 64 rows a call: is the
# depth found now, and what does a timing cost?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
nets = [plain(L, units, L) for L, units in mixed_nets]
few, many = (
    latencies(
        [lambda row, q=api.query, n=n: q(row.repeat(n, 0)) for api in nets],
        *(digits.test.x, 10, seed),
    )
    for n in (1, 64)
)
both = np.log(np.hstack([features(few), features(many)]))
for name, x in (("1 row", both[:, :4]), ("1 and 64 rows", both)):
    guess = held_out(
        REGRESSORS["SVR"], x, mixed_profile, depth_folds(mixed_profile)
    )
    print(name, f"R2 {depth_scores(guess, mixed_profile)['R2']:.2f}")
print(f"queries billed for each network: {nets[0].ledger.queries:,}")

# %% [markdown]
# ## Recap
#
# - Depth shows in the time of a query; how many queries read it off is up to
#   the machine, and the attacker must profile the same machine, at the same
#   time, with the same software and the right widths.
# - A mean hangs on the rare slow query and a minimum on the fastest one; low
#   quantiles, taken in turns, hang on neither.
# - Measure the noise of the machine on networks of one shape before reading
#   anything off a clock.
# - Hold out whole depths: a random split never asks a regressor for a depth
#   that it has not seen.
# - The depth removes most of the search space; whether the copy profits is
#   another question, and random search is the rival to beat.
# - Noise is averaged out; a deadline far above the slowest network takes
#   away what a layer adds but for a small rest, and every answer waits that
#   long.
#
# ## References
#
# - {cite:t}`duddu2018stealing` introduced the attack; this chapter knows it
#   by abstract and through the survey.
# - {cite:t}`gong2020survey` describes its steps and finds no defense against
#   it.
# - {cite:t}`salem2019mlleaks` is the membership inference that the survey
#   names.
# - {cite:t}`batina2019csi` read networks off electromagnetic radiation.
