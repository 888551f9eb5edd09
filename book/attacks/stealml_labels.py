# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # StealML: labels alone
#
# A prediction API that answers nothing but labels still gives a model away.
# Each label says on which side of the decision boundary a row lies, and an
# attacker who chooses its rows well finds the boundary by halving.
# This chapter walks along the boundary of a linear model, after
# {cite:t}`lowd2005adversarial`, and compares the three ways in which
# {cite:t}`tramer2016stealing` retrain a copy where there is nothing to walk
# along.
#
# :::{admonition} In this chapter
# :class: tip
# - Find a boundary between two rows by halving.
# - Read all weights of a linear model off labels, one at a time.
# - Retrain a copy on labels in three ways, and compare them fairly.
# - See where each of them ends.
#
# <!-- minutes -->
# See [the setting](../setting.ipynb) first, and
# [StealML: equation solving](stealml.ipynb) for what probabilities give.
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import warnings
from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.datasets import make_moons
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC

from mexutils import (
    Claims,
    Ledger,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    plotting,
)
from mexutils.clients import affordable
from mexutils.notebook import Markdown
from mexutils.runs import paired_difference

STEALML = load_chapter("attacks/stealml")
plotting.use_style()

# %% [markdown]
# `n_seeds` sets of queries are drawn, and copies are judged on `n_uniform`
# uniform rows.

# %% tags=["parameters"]
seed = 0
n_seeds = 5
n_uniform = 10_000

# %% [markdown]
# ## At a glance
#
# The victim is a linear support vector machine on the breast cancer table,
# behind an API that returns labels.
# The finished attack needs two lines.

# %%
chapter = load_chapter("attacks/stealml_labels")
cancer = datasets.tabular("breast_cancer", seed)
machine = LinearSVC(max_iter=20_000, random_state=seed).fit(*cancer.train)
api = chapter.labels_only(machine)
ends = chapter.find_both_labels(api, 30, seed)
plane = chapter.lowd_meek(api, *ends)
copy = chapter.plane_labels(plane)
wrong = chapter.differs(copy, machine, cancer.test.x)
print(f"{api.ledger.queries} labels; test rows that differ: {wrong:.1%}")

# %% [markdown]
# ## The question
#
# | | the attacker … |
# |---|---|
# | sees | a label: one of $c$ classes, mostly 0 or 1 here |
# | knows | $d$, the range of each input; to walk, that the model is linear |
# | does not know | the parameters, the training data |
# | sends | any row it likes |
# | pays | for every row: $q$ queries |
# | wants | $\hat f = f$ in every label |
#
# How much dearer is a model if its owner sells labels instead of
# probabilities?

# %% [markdown]
# ## The idea
#
# A linear two-class model answers 1 exactly if $w \cdot x + \beta > 0$.
# Start from a base point $x_b$ on the negative side, where
# $w \cdot x_b + \beta = -\kappa$ with one unknown $\kappa > 0$, and move
# coordinate $i$ alone by $t$.
# The label flips exactly if $w_i t > \kappa$.
# So a query at $t = 1 / u$ answers the question
#
# $$
# \frac{w_i}{\kappa} > u \; ?
# $$
#
# and halving an interval of $u$ finds every weight in units of $\kappa$.
# Nobody can do better than that unit: every positive multiple of
# $[w; \beta]$ gives the same labels.
#
# A label has at most one bit.
# The direction of $[w; \beta]$ to a precision $\varepsilon$ is one of about
# $\varepsilon^{-d}$, since it has $d + 1$ entries and no length, so that every
# attack needs about $d \log_2 (1 / \varepsilon)$ labels.

# %% [markdown]
# ## From scratch
#
# The owner sells labels, and we who judge compare them, row by row.


# %%
def labels_only(machine) -> PredictionAPI:
    """A two-class machine behind an API that returns its labels."""
    return PredictionAPI(
        lambda x: np.eye(2)[machine.predict(x)],
        returns="label",
        input_shape=(machine.n_features_in_,),
    )


# %% [markdown]
# A copy is a map from rows to labels, as a plane is one.


# %%
def differs(copy: Callable, machine, x) -> float:
    """Share of the rows x that a copy, as a map to labels, answers wrongly."""
    return 1 - metrics.fidelity(copy(x), machine.predict(x))


def plane_labels(w: np.ndarray) -> Callable:
    """The labels of the linear model w (d + 1,), as a map from rows."""
    return lambda x: (STEALML.with_one(x) @ w > 0).astype(int)


# %% [markdown]
# ### A boundary between two rows
#
# First we need one row of each class.
# Nothing keeps the attacker in the box $[-1, 1]^d$: it looks in larger and
# larger ones.


# %%
def ask_labels(api, x) -> np.ndarray:
    """Labels 0 and 1 (n,) of the rows x; `ValueError` for other answers."""
    labels = metrics.labels_of(api.query(np.asarray(x)))
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"labels must be the places 0 and 1, not {labels[:3]}: sell two "
            "classes, without names"
        )
    return labels.astype(int)


# %% [markdown]
# The first rows come from larger and larger boxes.


# %%
def find_both_labels(api, d: int, seed: int = 0, tries: int = 100):
    """A row with label 1 and one with label 0, each (d,).

    api: answers labels or probabilities of two classes. The n-th row is
    uniform in a box 2^(n/2) times [-1, 1]^d. Raises `RuntimeError` where
    `tries` rows all have one label.
    """
    rng, seen = np.random.default_rng(seed), {}
    for n in range(tries):
        x = rng.uniform(-1, 1, d) * 2 ** (n / 2)
        seen[ask_labels(api, x[None])[0]] = x
        if len(seen) == 2:
            return seen[1], seen[0]
    raise RuntimeError(f"{tries} rows, one label: give a row of each class")


# %% [markdown]
# A victim with two inputs, made up, shows what each piece does.
# It writes down what it was asked, and what it said.


# %%
class Recorder:
    """An API of labels that keeps every row and every answer.

    label: maps rows (n, d) to labels (n,).
    """

    def __init__(self, label: Callable):
        self.label, self.rows, self.labels = label, [], []

    def query(self, x) -> np.ndarray:
        """The labels (n,) of the rows x (n, d)."""
        labels = self.label(np.asarray(x))
        self.rows.extend(np.asarray(x))
        self.labels.extend(labels)
        return labels


toy = Recorder(plane_labels(np.array([1.0, -0.4, 0.3])))
positive, negative = find_both_labels(toy, 2, seed)
print(f"{len(toy.rows)} rows; 1: {positive.round(2)}, 0: {negative.round(2)}")

# %% [markdown]
# Between two such rows there is a boundary, and halving finds it.
# The function below takes many pairs at once, since retraining needs that
# too: each pair shrinks to the half whose ends still differ.


# %%
def bisect_pairs(label: Callable, one, other, own, rounds: int):
    """Pairs of rows with different labels, halved `rounds` times.

    label: maps rows (n, d) to labels (n,). one, other: (n, d). own: (n,) the
    labels of `one`. Returns both ends (n, d), and every probed row with its
    label.
    """
    probes, found = [], []
    for _ in range(rounds):
        middle = (one + other) / 2
        y = label(middle)
        same = (y == own)[:, None]
        one, other = np.where(same, middle, one), np.where(same, other, middle)
        probes.append(middle)
        found.append(y)
    return one, other, np.concatenate(probes), np.concatenate(found)


# %% [markdown]
# How many rounds that takes:


# %%
def halvings(one, other, gap: float) -> int:
    """How often the longest of the pairs must be halved to reach `gap`."""
    longest = np.linalg.norm(one - other, axis=1).max()
    return max(1, int(np.ceil(np.log2(longest / gap))))


# %% [markdown]
# For the made-up victim, down to a gap of a thousandth:

# %%
pair = positive[None], negative[None]
rounds = halvings(*pair, 1e-3)
one, other, *_ = bisect_pairs(toy.query, *pair, [1], rounds)
edge = (one + other)[0] / 2
print(f"{rounds} halvings; w x + beta there: {edge @ [1, -0.4] + 0.3:.5f}")

# %% [markdown]
# ### One weight
#
# Along one coordinate there are two stages: double or halve $u$ until the
# weight is bracketed, then bisect.
# The doubling has an end.
# If the label flips at the tiniest step, the base point itself is on the
# wrong side, and no answer would ever stop it.


# %%
def bracket(exceeds: Callable, u: float, least: float, most: float = 1e9):
    """(low, high), a factor 2 apart, with the unknown between them.

    exceeds(u): whether the unknown is above u. Below `least` the search
    gives up and answers (0, u). Raises `ValueError` above `most`.
    """
    if exceeds(u):
        while exceeds(2 * u):
            u *= 2
            if u > most:
                raise ValueError(
                    "the base point has label 1: the victim is not linear or "
                    "its labels are noisy; retrain a copy instead"
                )
        return u, 2 * u
    while u > least:
        u /= 2
        if exceeds(u):
            return u, 2 * u
    return 0.0, u


# %% [markdown]
# The sign comes first, from a very long step each way.
# The interval is halved until it is shorter than $\varepsilon$ times the
# largest weight found so far.


# %%
def weight_along(flips: Callable, largest: float, epsilon: float, span=1e4):
    """One weight in units of kappa; flips(t): the label after a step t."""
    sign = 1.0 if flips(span) else -1.0 if flips(-span) else 0.0
    if sign == 0:
        return 0.0
    low, high = bracket(
        lambda u: flips(sign / u),
        largest or 1.0,
        max(1 / span, epsilon * largest / 2),
    )
    while high - low > epsilon * max(largest, low):
        u = (low + high) / 2
        low, high = (u, high) if flips(sign / u) else (low, u)
    return sign * (low + high) / 2


# %% [markdown]
# A weight of $-2.7 \kappa$, to 5 percent: which steps are taken, and what do
# they say?

# %%
one_input = Recorder(plane_labels(np.array([-2.7, -1.0])))
weight = weight_along(
    lambda t: ask_labels(one_input, [[t]])[0] == 1, 0.0, epsilon=0.05
)
steps = [
    {"step t": t, "u": 1 / abs(t), "label": label}
    for (t,), label in zip(one_input.rows, one_input.labels, strict=True)
]
plotting.table(steps, {"step t": "{:,.3f}", "u": "{:.3f}"})

# %% tags=["remove-input"]
Markdown(
    f"After {len(steps)} labels the weight is {weight:.2f}. The long steps "
    "give the sign, the next ones double u until the label stays, and the "
    "rest halve."
)

# %% [markdown]
# ### The walk
#
# The attack itself bisects once for a point of the boundary, steps back from
# it, and reads one weight after the other.
# The bias follows from the point: $\beta = -w \cdot x$ there.


# %%
def lowd_meek(api, positive, negative, epsilon=5e-3, step=0.5) -> np.ndarray:
    """Direction [w; beta] (d + 1,) of a linear model that returns labels.

    api: answers labels 0 and 1, or probabilities of two classes. positive,
    negative: rows (d,) with the labels 1 and 0. epsilon: precision of each
    weight, in units of the largest. step: of the base point from the
    boundary. Raises `ValueError` where the answers contradict a plane.

    Source: Lowd and Meek (2005); Tramèr et al. (2016).
    """
    one = checks.rows([positive], None, name="positive")
    other = checks.rows([negative], one.shape[1], name="negative")
    epsilon = checks.share("epsilon", epsilon, 1e-12, 0.5)
    rounds = halvings(one, other, epsilon / 10)
    label = partial(ask_labels, api)
    both = np.vstack([one, other])
    one, other, _, met = bisect_pairs(label, one, other, [1], rounds)
    if len(set(met)) < 2 and not np.array_equal(label(both), [1, 0]):
        raise ValueError("positive must have the label 1, negative 0")
    edge, away = (one + other)[0] / 2, (other - one)[0]
    base = other[0] + step * away / np.linalg.norm(away)
    weights = np.zeros(len(base))
    for i, axis in enumerate(np.eye(len(base))):
        weights[i] = weight_along(
            lambda t, axis=axis: label((base + t * axis)[None])[0] == 1,
            np.abs(weights).max(),
            epsilon,
        )
    if not weights @ away < 0:  # from label 1 to label 0 the score falls
        raise ValueError("the victim is not linear; retrain a copy instead")
    return np.append(weights, -weights @ edge)


# %% [markdown]
# The made-up victim once more, to a tenth, with every row that is asked.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Every row that the walk asks of a model with two inputs, and the boundary. The bisection runs between the two crosses; from the base point each weight is read along one axis. Long steps lie outside of the picture."}, "image": {"alt": "A plane with the victim's boundary as a line, two crosses on either side, points on the segment between them, and a horizontal and a vertical row of points through the base point, coloured by label"}}
start = len(toy.rows)
found = lowd_meek(toy, positive, negative, 0.1)
rows, labels = np.array(toy.rows[start:]), np.array(toy.labels[start:])
figure, ax = plt.subplots(figsize=(5.2, 4.2))
ax.axline((-0.3, 0), (0.1, 1), color="grey", linewidth=1)
for label, style in enumerate(("o", "s")):
    part = rows[labels == label].T
    colour = plotting.COLOURS[("sky", "orange")[label]]
    ax.plot(*part, style, color=colour, label=f"label {label}")
ends = np.array([positive, negative])
ax.plot(*ends.T, "kx", label="first pair")
limits = ends.min() - 0.7, ends.max() + 0.7
ax.set(xlim=limits, ylim=limits, xlabel="$x_1$", ylabel="$x_2$")
ax.legend()
plt.show()

# %% tags=["remove-input"]
Markdown(
    f"{len(rows)} labels give the ratio of the weights as "
    f"{found[1] / found[0]:.3f} and that of bias and first weight as "
    f"{found[2] / found[0]:.3f}; the victim's are -0.4 and 0.3."
)

# %% [markdown]
# ### Any model
#
# (The survey {cite:p}`gong2020survey` says that StealML needs confidences.
# Its strongest attacks do; what this chapter shows does not.)
# Where no boundary can be walked along, the attacker trains a copy on labelled
# queries.
# The paper compares three ways to choose them, for a budget of $m$ queries.
# The plain one draws them uniformly.


# %%
def linear_learner(x, y):
    """A fitted linear classifier, or a constant where y has one label."""
    if len(np.unique(y)) < 2:
        return DummyClassifier().fit(x, y)
    return LogisticRegression(C=100, max_iter=1000).fit(x, y)


def last_copy(learner, x, y):
    """What the learner makes of all answers; a warning of one label."""
    if len(np.unique(y)) < 2:
        warnings.warn(
            f"{len(y)} rows between {x.min():.3g} and {x.max():.3g} all have "
            f"the label {y[0]}: scale the features so that both labels lie "
            "there, or ask more",
            stacklevel=3,
        )
    return learner(x, y)


# %% [markdown]
# On uniform rows:


# %%
def retrain_uniform(api, d: int, budget: int, learner=linear_learner, seed=0):
    """A model trained on the labels of `budget` uniform rows (d,).

    Rows lie between -1 and 1, as the owner's scaled features do. api: answers
    labels or probabilities. learner: maps (x, y) to a fitted model with
    `predict`.

    Source: Tramèr et al. (2016).
    """
    budget = affordable(api, budget, least=20)
    x = np.random.default_rng(seed).uniform(-1, 1, (budget, d))
    return last_copy(learner, x, metrics.labels_of(api.query(x)))


# %% [markdown]
# On the support vector machine, 400 labels:

# %%
x_test = cancer.test.x
api = labels_only(machine)
copy = retrain_uniform(api, 30, 400, seed=seed)
print(f"test rows that differ: {differs(copy.predict, machine, x_test):.1%}")

# %% [markdown]
# The second way spends most of its queries on line searches: it bisects
# between rows of different labels until they are 0.1 apart, and learns from
# every probe.


# %%
def pairs_across(x, y, n: int, rng) -> tuple[np.ndarray, np.ndarray]:
    """Index arrays of at most n random pairs of rows whose labels differ."""
    first, second = rng.integers(len(x), size=(2, 50 * n))
    apart = np.flatnonzero(y[first] != y[second])[:n]
    return first[apart], second[apart]


# %% [markdown]
# Most of the budget goes into bisections of such pairs.


# %%
def retrain_line_search(
    api, d: int, budget: int, learner=linear_learner, seed=0, gap=0.1
):
    """A model trained on the probes of line searches for the boundary.

    A quarter of the budget is uniform; the rest bisects pairs of these rows
    until they are `gap` apart, or is uniform too where no labels differ.

    Source: Tramèr et al. (2016).
    """
    budget = affordable(api, budget, least=20)
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (budget // 4, d))
    label = lambda rows: metrics.labels_of(api.query(rows))  # noqa: E731
    y = label(x)
    rounds = int(np.ceil(np.log2(2 * np.sqrt(d) / gap)))
    i, j = pairs_across(x, y, (budget - len(x)) // rounds, rng)
    if len(i):
        _, _, new, labels = bisect_pairs(label, x[i], x[j], y[i], rounds)
    else:
        new = rng.uniform(-1, 1, (budget - len(x), d))
        labels = label(new)
    x, y = np.append(x, new, axis=0), np.append(y, labels)
    return last_copy(learner, x, y)


# %% [markdown]
# The adaptive way asks its own copy where the boundary is, which is free, and
# the victim only there.
# In each of five rounds three quarters of the rows lie on the boundary of the
# copy so far, and a quarter is uniform.


# %%
def near_boundary(model, d: int, n: int, rng) -> np.ndarray:
    """n rows on the boundary of a copy, or uniform where it has none."""
    x = rng.uniform(-1, 1, (max(10 * n, 1000), d))
    y = model.predict(x)
    i, j = pairs_across(x, y, n, rng)
    if len(i) < n:
        return x[:n]
    one, other, *_ = bisect_pairs(model.predict, x[i], x[j], y[i], 12)
    return (one + other) / 2


# %% [markdown]
# The rounds:


# %%
def retrain_adaptive(
    api, d: int, budget: int, learner=linear_learner, seed=0, rounds=5
):
    """A model retrained `rounds` times on rows near its own boundary.

    Source: Tramèr et al. (2016).
    """
    budget = affordable(api, budget, least=4 * rounds)
    rng, share = np.random.default_rng(seed), budget // rounds
    x = rng.uniform(-1, 1, (share, d))
    y = metrics.labels_of(api.query(x))
    for _ in range(rounds - 1):
        close = near_boundary(learner(x, y), d, 3 * share // 4, rng)
        wide = rng.uniform(-1, 1, (share - len(close), d))
        new = np.append(close, wide, axis=0)
        x = np.append(x, new, axis=0)
        y = np.append(y, metrics.labels_of(api.query(new)))
    return last_copy(learner, x, y)


# %% [markdown]
# The same 400 labels, spent in these ways:

# %%
for retrain in (retrain_line_search, retrain_adaptive):
    api = labels_only(machine)
    copy = retrain(api, 30, 400, seed=seed)
    wrong = differs(copy.predict, machine, x_test)
    print(f"{retrain.__name__}: test rows that differ: {wrong:.1%}")

# %% [markdown]
# ## Does it work?
#
# A copy can be good where the queries were and bad where the patients are.
# How often does each kind of rows meet the label 1?

# %%
box = STEALML.uniform_rows(n_uniform, 30, STEALML.JUDGE)
kinds = {"R_unif": box, "R_test": x_test}
for name, x in kinds.items():
    print(f"{name}: label 1 on {machine.predict(x).mean():.1%} of the rows")

# %% [markdown]
# So both errors are kept apart: $R_{unif}$ on uniform rows and $R_{test}$ on
# test rows, each $1 -$ [fidelity](../setting.ipynb).
# First the walk.
# It has no budget but a precision; a finer one costs more.


# %%
def errors_of(copy: Callable, machine, kinds: dict) -> dict:
    """The share of each kind of rows on which a map to labels differs."""
    return {name: differs(copy, machine, x) for name, x in kinds.items()}


# %% [markdown]
# One walk, judged:


# %%
def walked(machine, epsilon: float, seed: int, kinds: dict) -> dict:
    """One walk: its bill, the angle of its weights, and its errors."""
    api, truth = labels_only(machine), machine.coef_[0]
    w = lowd_meek(api, *find_both_labels(api, len(truth), seed), epsilon)
    cosine = w[:-1] @ truth / np.linalg.norm(w[:-1]) / np.linalg.norm(truth)
    run = {"epsilon": epsilon, "seed": seed, "queries": api.ledger.queries}
    errors = errors_of(plane_labels(w), machine, kinds)
    return run | {"1 - cosine": 1 - cosine} | errors


# %% [markdown]
# Four precisions, the mean over the seeds:

# %%
seeds = range(seed, seed + n_seeds)
PRECISIONS = (0.1, 0.03, 5e-3, 1e-3)
walks = pd.DataFrame(
    [walked(machine, e, s, kinds) for e in PRECISIONS for s in seeds]
)
shown = walks.drop(columns="seed").groupby("epsilon").mean()
formats = {"queries": "{:.0f}", "R_unif": "{:.2%}", "R_test": "{:.2%}"}
plotting.table(shown, formats | {"1 - cosine": "{:.1e}"})

# %% [markdown]
# Then the three ways of retraining, with five budgets each.

# %% tags=["hide-input"]
METHODS = {
    "uniform": retrain_uniform,
    "line search": retrain_line_search,
    "adaptive": retrain_adaptive,
}
budgets = (100, 200, 400, 800, 1600)


def retrained_by(method, machine, budget: int, seed: int, kinds) -> dict:
    """One copy from labels: its bill and its errors."""
    api = labels_only(machine)
    copy = METHODS[method](api, machine.n_features_in_, budget, seed=seed)
    run = {"method": method, "budget": budget, "seed": seed}
    errors = errors_of(copy.predict, machine, kinds)
    return run | {"queries": api.ledger.queries} | errors


retrained = pd.DataFrame(
    [
        retrained_by(m, machine, b, s, kinds)
        for m in METHODS
        for b in budgets
        for s in seeds
    ]
)
plotting.table(
    retrained.pivot_table("R_test", "method", "budget"),
    dict.fromkeys(budgets, "{:.2%}"),
)

# %% [markdown]
# That was $R_{test}$, the mean over the seeds.
# The figure shows all of it, with the walk beside it.

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Share of uniform rows and of test rows on which a label-only copy differs from the victim, against the queries billed, mean and 95 % interval over the seeds."}, "image": {"alt": "Two panels, for uniform and for test rows, of the share answered differently against queries on a logarithmic axis; four curves each: uniform, line-search and adaptive retraining, and the walk of Lowd and Meek"}}
figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.6), sharey=True)
for ax, score in zip(axes, kinds, strict=True):
    for name in METHODS:
        part = retrained[retrained.method == name]
        spent = part.groupby("budget").queries.mean()
        values = part.pivot(index="budget", columns="seed", values=score)
        plotting.band(ax, spent, values, name)
    by_epsilon = walks.pivot(index="epsilon", columns="seed", values=score)
    spent = walks.groupby("epsilon").queries.mean()
    plotting.band(ax, spent, by_epsilon, "Lowd–Meek")
    ax.set(xscale="log", xlabel="queries", ylim=(-0.01, 0.4), title=score)
axes[0].set_ylabel("share of rows answered differently")
axes[0].legend()
plt.show()

# %% [markdown]
# Retraining is compared seed by seed: the difference of the errors of uniform
# rows and of the clever ones, with its 95 % interval.


# %%
def gain(runs: pd.DataFrame, method: str, budget: int, score: str):
    """Error of uniform retraining less that of another, over the seeds."""
    part = runs[runs.budget == budget].set_index("method")[score]
    return paired_difference(part["uniform"].values, part[method].values)


gains = {
    (budget, score, method): gain(retrained, method, budget, score)
    for budget in budgets
    for score in kinds
    for method in ("line search", "adaptive")
}
plotting.table(
    pd.Series({key: f"{value:.3f}" for key, value in gains.items()})
    .unstack([1, 2])
    .rename_axis("queries")
)

# %% tags=["remove-input"]
sure = pd.Series(gains).map(lambda value: value.low > 0)
sure = sure.groupby(level=[1, 2]).sum()
best = walks[walks.epsilon == 5e-3].mean()
last = retrained.drop(columns="seed").groupby(["budget", "method"]).mean()
last = last.loc[budgets[-1]]
Markdown(
    f"Of {len(budgets)} budgets, adaptive queries are better than uniform "
    f"ones, beyond the spread of {n_seeds} seeds, at "
    f"{sure['R_unif', 'adaptive']} on uniform rows and at "
    f"{sure['R_test', 'adaptive']} on test rows; line searches at "
    f"{sure['R_unif', 'line search']} and {sure['R_test', 'line search']}. "
    f"The walk takes {best.queries:.0f} labels on average for an *R_unif* of "
    f"{best.R_unif:.2%}; after {budgets[-1]:,} labels uniform retraining "
    f"errs on {last.R_unif['uniform']:.1%}, line search on "
    f"{last.R_unif['line search']:.1%}, adaptive retraining on "
    f"{last.R_unif['adaptive']:.1%} of the uniform rows."
)

# %% [markdown]
# ## How it breaks
#
# **A boundary that is no plane.**
# The walk needs one plane and labels free of noise.
# A victim that flags what leaves a normal range has two planes, and the base
# point may lie beyond the other one.

# %%
normal_range = PredictionAPI(
    lambda x: np.eye(2)[(np.abs(x[:, 0]) > 0.2).astype(int)],
    returns="label",
    input_shape=(4,),
)
try:
    lowd_meek(normal_range, [1, 0, 0, 0], [0, 0, 0, 0])
except ValueError as error:
    print(f"{normal_range.ledger.queries} labels, then: {error}")

# %% [markdown]
# Retraining takes such a victim, with a learner that can draw such a boundary;
# the second exercise does so.
#
# **An API that looks at its rows.**
# How many rows of a walk lie in the range $[-1, 1]^d$ that customers are told?

# %%
watcher = Recorder(machine.predict)
lowd_meek(watcher, *find_both_labels(watcher, 30, seed))
inside = (np.abs(watcher.rows) <= 1).all(axis=1)
print(f"{np.mean(inside):.0%} of {len(inside)} rows lie in the range")

# %% [markdown]
# Those outside would be refused by an API that checks the range.
# Retraining stays inside: every row of it is uniform, or lies between uniform
# rows.
#
# **False labels.**
# [BDPL](../defenses/bdpl.ipynb) flips labels at random near the boundary,
# exactly where all of these attacks ask.

# %% [markdown]
# ## The bill
#
# How much does a label carry, and how many does a theft need?
# The bound is the number of unknown bits divided by the bits of an answer:
# $d \log_2 (1 / \varepsilon)$ for the walk.
# Beside it stand the 31 answers with probabilities from which
# [equations](stealml.ipynb) give the same model exactly.

# %%
bits = 30 * np.log2(1 / PRECISIONS[2])
paid = {"lower bound, labels": np.ceil(bits), "walk": np.ceil(best.queries)}
paid |= {"retraining": budgets[-1], "equations, probabilities": 31}
plotting.table(
    [
        {"theft": name, "queries": f"{n:,.0f}", "at $1.50 for 1,000": cost}
        for name, n in paid.items()
        for cost in [f"${Ledger(1.50).price(n):.4f}"]
    ]
)

# %% tags=["remove-input"]
Markdown(
    f"Labels cost {best.queries / 31:.0f} times as many queries as exact "
    f"probabilities, {best.queries / bits:.1f} times their own bound. In "
    f"money that is \\${Ledger(1.50).price(best.queries):.2f}."
)

# %% [markdown]
# ## Paper and this run
#
# The paper attacked models of other tables: its numbers are neighbours of
# ours, not targets.

# %% tags=["hide-input"]
claims = Claims()
claims.add("Lowd–Meek: 1 - cosine (mean)", best["1 - cosine"], high=1e-5)
claims.add("Lowd–Meek: R_unif (mean)", best.R_unif, high=0.01)
claims.add("Lowd–Meek: R_test (mean)", best.R_test, high=0.03)
claims.add(
    "Lowd–Meek: queries for it (mean)",
    best.queries,
    high=400,
    paper="about 2,050 on average over its data sets",
)
claims.add(
    "labels: R_unif, uniform less adaptive (mean over budgets)",
    np.mean([gains[b, "R_unif", "adaptive"].mean for b in budgets]),
    low=0.005,
)
claims.add(
    "1,600 labels: R_unif, uniform less line search (mean)",
    gains[budgets[-1], "R_unif", "line search"].mean,
    low=0.002,
)
for method in ("line search", "adaptive"):
    for score, most in (("R_unif", 0.005), ("R_test", 0.05)):
        full = f"1,600 labels: {score}, {method} (mean)"
        claims.add(full, last[score][method], high=most)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise: saturated answers (long)
# :class: attention
# Multiply the parameters of a logistic regression by 100, and most of its
# probabilities are exactly 0 or 1, so that equations are lost.
# The attacker may choose where it asks: where are they neither?
# Solve for it to a relative error below $10^{-10}$.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
# Bisect between two labels, then ask close to the point in between.
mild = LogisticRegression(max_iter=1000).fit(*cancer.train)
sharp = 100 * STEALML.theta_of(mild)[0]
api = PredictionAPI(
    lambda x: softmax(np.outer(STEALML.with_one(x) @ sharp, (0, 1)), axis=1),
    input_shape=(30,),
)
one, other = find_both_labels(api, 30, seed)
pair = one[None], other[None]
edge, *_ = bisect_pairs(partial(ask_labels, api), *pair, [1], 30)
close = edge + STEALML.uniform_rows(62, 30, seed) / 100
off = STEALML.relative_error(STEALML.solve_binary(api, close), sharp)
print(f"{api.ledger.queries} queries, error {off:.0e}")

# %% [markdown]
# :::{admonition} Exercise: a boundary that is no plane (medium)
# :class: attention
# `retrain_adaptive` takes any learner.
# Steal a support vector machine with a Gaussian kernel on the two moons of
# scikit-learn (`make_moons`), scaled to $[-1, 1]^2$, from 150 labels, and
# compare with uniform queries over several seeds.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
moons, moon_labels = make_moons(400, noise=0.15, random_state=seed)
moons = 2 * (moons - moons.min(0)) / np.ptp(moons, axis=0) - 1
kernel = SVC(C=10, gamma=4).fit(moons, moon_labels)
square = STEALML.uniform_rows(n_uniform, 2, STEALML.JUDGE)


def kernel_error(method, kernel, x, seed: int) -> float:
    """R of a kernel machine on rows x, stolen with 150 labels."""
    api = labels_only(kernel)
    copy = method(api, 2, 150, SVC(C=1e5, gamma=4).fit, seed=seed)
    assert api.ledger.queries <= 150
    return differs(copy.predict, kernel, x)


plain, clever = (
    [kernel_error(method, kernel, square, s) for s in seeds]
    for method in (retrain_uniform, retrain_adaptive)
)
print(f"uniform {np.mean(plain):.1%}, adaptive {np.mean(clever):.1%}")
print(f"difference {paired_difference(plain, clever):.3f}")

# %% [markdown]
# ## Recap
#
# - A label says on which side of the boundary a row lies, one bit at most.
# - Halving between two rows finds a point of any boundary; along the axes it
#   finds every weight of a linear model, up to one common factor.
# - Labels alone cost about $d \log_2 (1 / \varepsilon)$ queries.
# - Where there is no plane, a copy is retrained, and where its rows lie
#   decides how good it gets.
# - Errors on uniform rows and on test rows are two numbers.
#
# ## References
#
# - {cite:t}`lowd2005adversarial` showed how labels reveal a linear model.
# - {cite:t}`tramer2016stealing` compare retraining on uniform, line-search and
#   adaptive queries.
# - {cite:t}`gong2020survey` place the attack among its successors.
