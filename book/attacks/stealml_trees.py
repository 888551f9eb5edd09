# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # StealML: trees
#
# A decision tree gives itself away by its answers: each leaf has a confidence
# of its own, and wherever the answer changes, a threshold lies in between.
# This chapter finds the thresholds by halving, in two ways, after
# {cite:t}`tramer2016stealing`: from leaf to leaf with complete rows, and
# from the root down where an API answers rows with missing values.
#
# :::{admonition} In this chapter
# :class: tip
# - Tell the nodes of a tree apart by label and confidence.
# - Find splits from the root down, with rows that lack features.
# - Find leaves one by one, as boxes, with complete rows.
# - See which leaves hide behind each other.
#
# <!-- minutes -->
# See [the setting](../setting.ipynb) first;
# [StealML: equation solving](stealml.ipynb) is not needed.
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from mexutils import (
    BudgetExceeded,
    Claims,
    Ledger,
    PredictionAPI,
    checks,
    datasets,
    load_chapter,
    metrics,
    plotting,
)
from mexutils.clients import Accounts, LabelAndConfidence
from mexutils.notebook import Markdown, display
from mexutils.runs import of_shares
from mexutils.trees import class_shares

STEALML = load_chapter("attacks/stealml")
plotting.use_style()

# %% [markdown]
# Copies are judged on `n_uniform` uniform rows, and thresholds are searched to
# `precision`.
# What starts at random does so `n_few` times.

# %% tags=["parameters"]
seed = 0
n_few = 3
n_uniform = 10_000
precision = 1e-3

# %% [markdown]
# ## At a glance
#
# The victim is a tree for the iris table, behind an oracle that answers label
# and confidence, also for rows that lack features.
# The finished attack is one line.

# %%
chapter = load_chapter("attacks/stealml_trees")
iris = DecisionTreeClassifier(random_state=0)
iris.fit(*datasets.tabular("iris", seed).train)
oracle = chapter.TreeOracle(iris, laplace=1.0)
copy = chapter.tree_top_down(oracle, -np.ones(4), np.ones(4), precision)
off = chapter.threshold_error(copy, iris)
print(
    f"{oracle.ledger.queries} queries, {len(chapter.splits_of(copy))} splits"
)
print(f"the worst threshold is off by {off:.1g}")

# %% [markdown]
# ## The question
#
# | | the attacker … |
# |---|---|
# | sees | a label and its confidence |
# | knows | that the model is a tree, $d$, and the range of each feature |
# | does not know | splits, thresholds, the training data |
# | sends | any row in the range, where it is allowed with missing features |
# | pays | for every row: $q$ queries |
# | wants | the same tree, or at least the same label in every leaf |
#
# How many queries does a leaf cost, and which leaves cannot be found?

# %% [markdown]
# ## The idea
#
# Along one feature, all others fixed, the answer of a tree is constant but
# for a few jumps.
# A jump between $a$ and $b$ is bisected to a precision $\varepsilon$ in
# $\log_2((b - a) / \varepsilon)$ queries.
# It is a threshold of the tree.
#
# What has to be known is where to look.
# *Top-down* the attacker starts with no feature at all: the answer is that of
# the root, and the one missing feature that changes it is the feature of the
# root's split.
# *Bottom-up* it starts with a complete row, which lies in some leaf, and
# searches along every feature for the walls of that leaf.
#
# A tree with $m$ leaves has $m - 1$ thresholds of $\log_2 (2 / \varepsilon)$
# bits each in a range of 2, and an answer names one of $2 m - 1$ nodes at
# most.

# %% [markdown]
# ## From scratch
#
# ### The oracle
#
# Some services answer *partial* rows: the walk stops at the first node that
# asks for a missing feature, and the label and confidence of that node are
# returned.
# Missing features travel as a mask `known`.
# The owner's side is folded away; like scikit-learn it compares in single
# precision.


# %% tags=["hide-input"]
def node_answers(tree, laplace: float = 0.0) -> np.ndarray:
    """Label and confidence (nodes, 2) of every node of a scikit-learn tree.

    laplace: added to the class counts of a node before the confidence.
    """
    share = class_shares(tree, laplace)
    return np.column_stack([share.argmax(axis=1), share.max(axis=1)])


def stops_at(tree, row) -> int:
    """The node where one float32 row stops; NaN is a missing feature."""
    node = 0
    while tree.feature[node] >= 0:
        value = row[tree.feature[node]]
        if np.isnan(value):
            break
        left = value <= tree.threshold[node]
        node = (tree.children_left if left else tree.children_right)[node]
    return node


def partial_rows(x, known, d: int) -> np.ndarray:
    """Rows (n, d) in float32 with NaN where `known` is false."""
    x = np.asarray(x, dtype=float)
    known = np.ones(x.shape, bool) if known is None else np.asarray(known)
    if x.ndim != 2 or x.shape[1] != d or known.shape != x.shape:
        raise ValueError(f"rows and masks must both be (n, {d})")
    if known.dtype != bool or not np.isfinite(x[known]).all():
        raise ValueError("NaN or infinite: mark missing entries in known")
    return np.where(known, x, np.nan).astype(np.float32)


# %% tags=["hide-input"]
class TreeOracle:
    """A fitted scikit-learn tree behind a price, also for partial rows.

    laplace: see `node_answers`. budget: how many rows it will answer.
    """

    def __init__(self, model, *, laplace=0.0, budget=None, price_per_1000=1.5):
        self.d, self.budget = model.tree_.n_features, budget
        self.ledger = Ledger(price_per_1000)
        self._tree = model.tree_
        self._answers = node_answers(model.tree_, laplace)

    def query(self, x, known=None) -> np.ndarray:
        """Label and confidence (n, 2) of the nodes where the rows x stop.

        x: (n, d). known: (n, d) booleans, all true where None is given.
        Raises `ValueError` or `BudgetExceeded` with nothing billed.
        """
        rows = partial_rows(x, known, self.d)
        left = np.inf if self.budget is None else self.budget
        if len(rows) > left - self.ledger.queries:
            raise BudgetExceeded(f"{len(rows)} rows asked: budget {left}")
        self.ledger.bill("anonymous", len(rows))
        return self._answers[[stops_at(self._tree, row) for row in rows]]


# %% [markdown]
# The root, a row with one feature, and two leaves of the iris tree:

# %%
oracle = TreeOracle(iris, laplace=1.0)
row = np.array([[0.5, 0.5, 0.5, -0.9]])
for known in ([0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]):
    print(known, oracle.query(row, np.array([known], bool)).round(3))

# %% [markdown]
# Pure leaves all have confidence 1 and would answer alike.
# This owner adds 1 to every class count (Laplace's rule), so that a leaf with
# many rows sounds surer than one with few.
# The attacker tells nodes apart by these two numbers alone.
# It remembers every answer, since asking twice costs twice, and it gives up
# at last: behind the API there may be no tree at all.
# This memory, `Remembered`, is folded away below.
#
# The ordinary API of this book answers complete rows with probabilities, of
# which label and confidence are read off; labels alone name no leaf.


# %%
def leaf_oracle(oracle):
    """The oracle; an ordinary API so that it answers as one."""
    if not isinstance(oracle, PredictionAPI | Accounts):
        return oracle
    if oracle.returns == "label":
        raise ValueError(
            "labels alone name no leaf: path finding needs confidences, or "
            "LabelAndConfidence(api.query, classes) for a poor copy"
        )
    return LabelAndConfidence(oracle.query)


# %% tags=["hide-input"]
class Remembered:
    """Asks an oracle, and never twice for the same row.

    oracle: see `tree_top_down`. Raises `RuntimeError` after `most` rows.
    """

    def __init__(self, oracle, most: int = 200_000):
        self._oracle, self._answers = leaf_oracle(oracle), {}
        self._most = most

    def __call__(self, x, known=None) -> tuple[float, float]:
        """(label, confidence) for the row x (d,) with the mask known (d,)."""
        whole = known is None or known.all()
        key = (x if whole else np.where(known, x, np.nan)).tobytes()
        if key not in self._answers:
            masks = () if whole else (known[None],)
            self._ask({key: x}, *masks)
        return self._answers[key]

    def together(self, rows) -> list[tuple[float, float]]:
        """The same for several complete rows; the new ones in one call."""
        keys = [x.tobytes() for x in rows]
        new = dict(zip(keys, rows, strict=True))
        self._ask({k: x for k, x in new.items() if k not in self._answers})
        return [self._answers[key] for key in keys]

    def _ask(self, new: dict, *masks) -> None:
        """Ask the new rows, by their keys, as far as `most` goes."""
        left = self._most - len(self._answers)
        rows = list(new.values())[:left]
        if rows:
            heard = self._oracle.query(np.stack(rows), *masks)
            answers = map(tuple, heard.tolist())
            self._answers |= zip(list(new)[:left], answers, strict=True)
        if len(new) > left:
            raise RuntimeError(f"no tree, by {self._most} answers")


def replaced(x: np.ndarray, where, value) -> np.ndarray:
    """A copy of x with the entries `where` set to `value`."""
    x = x.copy()
    x[where] = value
    return x


def checked_range(low, high, precision) -> tuple[np.ndarray, np.ndarray]:
    """The ends as float arrays, or a `ValueError` that says what is wrong."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    if low.ndim != 1 or low.shape != high.shape or not (low < high).all():
        raise ValueError("low and high must be (d,), low below high")
    if not np.isfinite(high - low).all():
        raise ValueError("the range must be finite")
    least = 1e-12 * max(np.abs(low).max(), np.abs(high).max())
    if not precision > least:
        raise ValueError(f"the precision must be above {least:.0e}")
    return low, high


# %% [markdown]
# ### Top-down: from the root
#
# At an inner node exactly one missing feature changes the answer when it is
# filled in: the one that the node splits on.
# Which one is it?
# The paper tries them one at a time, $d$ queries for every leaf.
# But several can be filled in at once.
# If that changes nothing, the node is a leaf; else we halve how many of them
# are filled in, until one more makes the change.
# Where nodes share an answer, it may change only if others are filled in
# before it; these are then returned too.


# %%
def one_by_one(features: list, changes: Callable) -> list:
    """The first feature whose change is seen, in a list; or an empty one."""
    return next(([i] for i in features if changes([i])), [])


# %% [markdown]
# By halving:


# %%
def by_halving(features: list, changes: Callable) -> list:
    """The same in about log2(len(features)) questions instead of all.

    The last feature of the list makes the change that is seen; alone,
    wherever that is enough.
    """
    if not features or not changes(features):
        return []
    few, many = 0, len(features)  # many of them change the answer, few do not
    while many - few > 1:
        middle = (few + many) // 2
        if changes(features[:middle]):
            many = middle
        else:
            few = middle
    last = features[many - 1 : many]
    return last if changes(last) else features[:many]


# %% [markdown]
# How many questions find feature 37 of 64, and the absence of one?

# %%
for find in (one_by_one, by_halving):
    for name, wanted in {"feature 37": 37, "a leaf": 64}.items():
        questions = []
        found = find(
            list(range(64)),
            lambda some, w=wanted, q=questions: q.append(some) or w in some,
        )
        print(f"{find.__name__}, {name}: {len(questions)} questions, {found}")

# %% [markdown]
# Two traps are left.
# A tree may split on the same feature again further down, and a row with that
# feature filled in runs through such a node in silence.
# So at each node the features that are *already* set are scanned again: they
# stand at the low ends of their intervals, and all of them are moved to the
# high ends.
# And the node below may happen to answer as the one above it.
# So the missing features are filled in twice, at their low ends and at their
# high ends, which lead to different nodes.


# %%
def next_split(answer, find: Callable, rescan: bool, low, high, known):
    """A row, its mask, and a feature along which it meets a split.

    None at a leaf.
    """
    here = answer(low, known)

    def moved(features, ends):
        row = replaced(low, features, ends[features])
        return row, replaced(known, features, True)

    again = np.flatnonzero(known).tolist() if rescan else []
    missing = np.flatnonzero(~known).tolist()
    for features, ends in ((again, high), (missing, low), (missing, high)):

        def changes(some, ends=ends):
            return answer(*moved(some, ends)) != here

        found = find(features, changes)
        if found:
            return *moved(found, ends), found[-1]
    return None


# %% [markdown]
# The root of the iris tree, and its first split:

# %%
answer = Remembered(oracle)
nothing = np.zeros(4, dtype=bool)
row, known, i = next_split(
    answer, by_halving, True, -np.ones(4), np.ones(4), nothing
)
print(f"feature {i}; the owner's: {iris.tree_.feature[0]}")

# %% [markdown]
# The threshold of that feature is bisected.
# If the row passes through two nodes in silence, both ends of the interval can
# answer alike; then a few points between them are tried.


# %%
def threshold_gap(answer_at: Callable, a, b, precision: float):
    """(u, v) around a change of the answer, or None where none is seen."""
    first = answer_at(a)
    between = [a + (b - a) * k / 16 for k in (8, 4, 12, *range(1, 16, 2))]
    other = (v for v in (b, *between) if answer_at(v) != first)
    b = next(other, None)
    if b is None:
        return None
    while b - a > precision:
        middle = (a + b) / 2
        a, b = (middle, b) if answer_at(middle) == first else (a, middle)
    return a, b


# %% [markdown]
# For the root:

# %%
u, v = threshold_gap(
    lambda value: answer(replaced(row, i, value), known), -1, 1, precision
)
true = iris.tree_.threshold[0]
print(f"between {u:.5f} and {v:.5f}; the owner's: {true:.5f}")

# %% [markdown]
# Each split grows two subtrees.
# The left one keeps the low end and gets a new high end, the right one the
# other way round.


# %%
@dataclass
class Leaf:
    """The end of a path, with the label and confidence that it answers."""

    label: float
    confidence: float


@dataclass
class Split:
    """Rows with `feature` at or below `threshold` go left, others right."""

    feature: int
    threshold: float
    left: "Split | Leaf"
    right: "Split | Leaf"


# %% [markdown]
# At a leaf nothing is found; else there are two searches.


# %%
def grow(answer, precision, find, rescan, low, high, known):
    """The subtree of the box low to high, the features `known` set to low."""
    found = next_split(answer, find, rescan, low, high, known)
    if found is None:
        return Leaf(*answer(low, known))
    row, mask, i = found
    known = replaced(known, i, True)
    gap = threshold_gap(
        lambda value: answer(replaced(row, i, value), mask),
        *(low[i], high[i], precision),
    )
    options = answer, precision, find, rescan
    if gap is None:  # the feature changes nothing that we can see
        return grow(*options, low, high, known)
    left = grow(*options, low, replaced(high, i, gap[0]), known)
    right = grow(*options, replaced(low, i, gap[1]), high, known)
    return Split(i, sum(gap) / 2, left, right)


# %% [markdown]
# The search starts with a box that is the whole range and no feature set.


# %%
def tree_top_down(
    oracle, low, high, precision=1e-3, find=by_halving, rescan=True
):
    """A tree of `Split` and `Leaf`, found from the root by partial rows.

    oracle: answers `query(x, known)` as `TreeOracle`, label and confidence
    (n, 2) of rows that lack features; `ValueError` for an API that does not.
    low, high: (d,) the range of every feature. precision: width of the
    interval that a threshold is found in. find: or `one_by_one`, as in the
    paper. rescan: also look for second splits on features that are set (one
    may then appear in two subtrees). Raises `RuntimeError` for no tree.

    Source: Tramèr et al. (2016).
    """
    low, high = checked_range(low, high, precision)
    options = Remembered(oracle), precision, find, rescan
    try:
        return grow(*options, low, high, np.zeros(len(low), dtype=bool))
    except RecursionError:
        raise RuntimeError("no tree: its paths have no end") from None


# %% [markdown]
# Below, the iris tree stands beside the stolen one.
# (The owner's view of a tree, and the drawing, are folded away.)


# %% tags=["hide-input"]
def owner_tree(model, node: int = 0):
    """The owner's view of a scikit-learn tree, as `Split` and `Leaf`."""
    tree = model.tree_
    if tree.feature[node] < 0:
        share = tree.value[node, 0] / tree.value[node, 0].sum()
        return Leaf(int(share.argmax()), float(share.max()))
    return Split(
        int(tree.feature[node]),
        float(tree.threshold[node]),
        owner_tree(model, tree.children_left[node]),
        owner_tree(model, tree.children_right[node]),
    )


def threshold_error(tree, model) -> float:
    """Largest distance of a split in one tree from the nearest in the other.

    Both ways, so that none is missing and none made up; infinite where a
    feature is split in one of them only. A split that was found in two
    subtrees counts as found.
    """
    found, true = splits_of(tree), splits_of(owner_tree(model))
    if not found or not true:
        return 0.0 if found == true else np.inf
    found, true = np.array(found), np.array(true)
    apart = np.abs(found[:, None] - true[None])
    far = np.where(apart[:, :, 0] > 0, np.inf, apart[:, :, 1])
    return float(max(far.min(axis=0).max(), far.min(axis=1).max()))


# %% tags=["hide-input"]
def tree_layout(tree, depth: int = 0, columns=None) -> list:
    """(column, depth, text, children) of every node, leaves left to right."""
    columns = iter(range(1000)) if columns is None else columns
    if isinstance(tree, Leaf):
        return [(next(columns), depth, f"{tree.label:.0f}", [])]
    left = tree_layout(tree.left, depth + 1, columns)
    right = tree_layout(tree.right, depth + 1, columns)
    middle = (left[0][0] + right[0][0]) / 2
    text = f"$x_{{{tree.feature}}}$ ≤ {tree.threshold:.3f}"
    return [(middle, depth, text, [left[0], right[0]]), *left, *right]


def draw_tree(ax, tree) -> None:
    """Draw a tree, the root on top; each leaf shows its label."""
    for column, depth, text, children in tree_layout(tree):
        for child in children:
            ends = [column, child[0]], [depth, child[1]]
            ax.plot(*ends, color="grey", marker="", linewidth=1)
        colour = plotting.COLOURS["sky"] if children else "white"
        style = {"boxstyle": "round", "facecolor": colour}
        place = {"ha": "center", "va": "center", "fontsize": 7}
        ax.text(column, depth, text, bbox=style, **place)
    ax.invert_yaxis()
    ax.axis("off")


# %% tags=["remove-input"] mystnb={"figure": {"caption": "The owner's iris tree and the tree found top-down; inner nodes show the rule that sends a row left, leaves the label."}, "image": {"alt": "Two drawings of decision trees, the victim's above the stolen one, each inner node with its feature and threshold, each leaf with its label"}}
copy = tree_top_down(oracle, -np.ones(4), np.ones(4), precision)
figure, axes = plt.subplots(2, 1, figsize=(6.8, 6.4))
pair = {"the victim": owner_tree(iris), "stolen": copy}
for ax, (title, tree) in zip(axes, pair.items(), strict=True):
    draw_tree(ax, tree)
    ax.set_title(title)
plt.show()

# %% [markdown]
# The splits of a copy, by which it is judged:


# %%
def splits_of(tree) -> list[tuple[int, float]]:
    """(feature, threshold) of every split, sorted."""
    if isinstance(tree, Leaf):
        return []
    own = [(tree.feature, tree.threshold)]
    return sorted(own + splits_of(tree.left) + splits_of(tree.right))


# %% [markdown]
# Its answers:


# %%
def predict_tree(tree, x: np.ndarray) -> np.ndarray:
    """Labels (n,) of the rows x (n, d)."""
    if isinstance(tree, Leaf):
        return np.full(len(x), int(tree.label))
    left = x[:, tree.feature] <= tree.threshold
    return np.where(
        left, predict_tree(tree.left, x), predict_tree(tree.right, x)
    )


# %% [markdown]
# ### Bottom-up: from leaf to leaf
#
# The second attack needs complete rows only.
# Wherever the answers at the two ends of an interval differ, it is halved,
# down to the precision.
# A border that another leaf has already shown is tried first: it costs two
# queries instead of a whole bisection.
# (This memory, and that of answers, are ours; the paper asks anew.)


# %%
def borders(at: Callable, a, b, precision: float, seen=()):
    """All gaps (u, v) between a and b over which the answer is seen to change.

    A search for `side_by_side`: it yields rows, is sent their answers, and
    returns the gaps, each at most `precision` wide. at: value to row. seen:
    gaps of earlier searches.
    """
    if (yield at(a)) == (yield at(b)):
        return []
    if b - a <= precision:
        return [(a, b)]
    inside = [gap for gap in seen if a < gap[0] and gap[1] < b]
    # the one nearest to the middle, or the middle itself
    cuts = min(inside, key=lambda gap: abs(sum(gap) - a - b), default=None)
    cuts = cuts or ((a + b) / 2,)
    gaps = []
    for u, v in pairwise((a, *cuts, b)):
        gaps += yield from borders(at, u, v, precision, seen)
    return gaps


# %% [markdown]
# A search stops at every row until it is told the answer, so that several
# can go on side by side, and what they want to know next is asked in one
# call.


# %%
def side_by_side(answer: Remembered, searches) -> list:
    """What each of the searches returns, their rows asked together."""
    found, going = {}, dict(enumerate(searches))
    replies = dict.fromkeys(going)
    while going:
        rows = {}
        for k, search in list(going.items()):
            try:
                rows[k] = search.send(replies[k])
            except StopIteration as end:
                found[k] = end.value
                del going[k]
        replies = dict(zip(rows, answer.together(rows.values()), strict=True))
    return [found[k] for k in sorted(found)]


# %% [markdown]
# A line through the middle of the iris range, along the last feature:

# %%
middle = np.zeros(4)
search = borders(partial(replaced, middle, 3), -1, 1, precision)
(gaps,) = side_by_side(answer, [search])
print([f"{u:.4f} to {v:.4f}" for u, v in gaps])

# %% [markdown]
# What the search finds are boxes.
# The interval around the current row is one side of its leaf's box; each other
# interval holds a row of another leaf, which goes to the queue.


# %%
@dataclass
class Box:
    """A leaf as a box, low to high (d,), with its (label, confidence)."""

    low: np.ndarray
    high: np.ndarray
    answer: tuple[float, float]

    def holds(self, x: np.ndarray) -> np.ndarray:
        """Whether the rows x (..., d) lie in the box."""
        return ((self.low <= x) & (x <= self.high)).all(axis=-1)

    def size(self) -> float:
        """The logarithm of its volume."""
        return float(np.log(self.high - self.low).sum())


# %% [markdown]
# One line of the search cuts the box.


# %%
def line(x, i, box, precision, seen):
    """Cut `box` along feature i; rows of the other intervals, with answers.

    A search for `side_by_side`, as `borders` is.
    """
    at, known = partial(replaced, x, i), sorted(seen)
    below = yield from borders(at, box.low[i], x[i], precision, known)
    above = yield from borders(at, x[i], box.high[i], precision, known)
    gaps = below + above
    seen.update(gaps)
    edges = [box.low[i], *(sum(gap) / 2 for gap in gaps), box.high[i]]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    box.low[i], box.high[i] = edges[len(below)], edges[len(below) + 1]
    del middles[len(below)]
    others = []
    values = [u for u, _ in below] + [v for _, v in above]
    for middle, value in zip(middles, values, strict=True):
        others.append((at(middle), (yield at(value))))
    return others


# %% [markdown]
# The same line, as the search takes it:

# %%
box = Box(-np.ones(4), np.ones(4), answer(middle))
(others,) = side_by_side(answer, [line(middle, 3, box, precision, set())])
print(f"the box ends at {box.low[3]:.4f} and {box.high[3]:.4f}")
print(f"{len(others)} rows of other leaves go to the queue")

# %% [markdown]
# The attack is a queue of rows that nobody has placed yet.
# A row is skipped if its answer is known *and* it lies in a box with that
# answer: the answer alone may belong to two leaves.
# If partial rows are answered, there is a saving.
# Delete feature $i$: if the answer stays, the leaf does not depend on it, and
# its search is skipped.


# %%
def first_rows(oracle, low, high) -> np.ndarray:
    """Rows (n, d) to start from: the middle, and 50 more behind an API.

    Leaves of an ordinary tree are often pure and answer alike, so that a
    search from one row may never see some of them.
    """
    n = 50 if isinstance(oracle, PredictionAPI | Accounts) else 0
    more = np.random.default_rng(0).uniform(low, high, (n, len(low)))
    return np.vstack([(low + high) / 2, more])


# %% [markdown]
# The search itself:


# %%
def tree_bottom_up(oracle, low, high, precision=1e-3, skip=False, start=None):
    """The leaves of a tree as a list of `Box`, by line searches.

    oracle: as for `tree_top_down`, or a `PredictionAPI` of probabilities,
    since complete rows are enough unless skip. low, high: (d,) the range of
    every feature. precision: the widest gap left around a threshold. skip:
    try to delete each feature first. start: first row (d,) or rows (n, d),
    see `first_rows`. Raises `RuntimeError` where no tree answers.

    Source: Tramèr et al. (2016), algorithm 1, for features that are numbers.
    """
    low, high = checked_range(low, high, precision)
    answer, boxes, tried = Remembered(oracle), [], set()
    start = first_rows(oracle, low, high) if start is None else start
    start = checks.rows(np.atleast_2d(start), len(low), name="start")
    queue, seen = [(x, None) for x in start[::-1]], [set() for _ in low]
    while queue:
        x, here = queue.pop()
        here = answer(x) if here is None else here
        held = any(box.answer == here and box.holds(x) for box in boxes)
        if held or x.tobytes() in tried:
            continue
        tried.add(x.tobytes())
        box = Box(low.copy(), high.copy(), answer(x))
        lines = [
            line(x, i, box, precision, seen[i])
            for i in range(len(low))
            if not (skip and answer(x, np.arange(len(low)) != i) == here)
        ]
        queue += sum(side_by_side(answer, lines), [])
        boxes.append(box)
    return boxes


# %% [markdown]
# The copy answers with the label of the box that holds a row.
# Where two boxes overlap, a wall of one of them was not seen; then the smaller
# box is believed.


# %%
def predict_boxes(boxes: list, x: np.ndarray) -> np.ndarray:
    """Labels (n,) of the rows x (n, d); -1 where no box holds a row."""
    labels = np.full(len(x), -1)
    for box in sorted(boxes, key=Box.size, reverse=True):
        labels[box.holds(x)] = box.answer[0]
    return labels


# %% [markdown]
# The iris tree again, from complete rows alone:

# %%
oracle = TreeOracle(iris, laplace=1.0)
boxes = tree_bottom_up(oracle, -np.ones(4), np.ones(4), precision)
wide = STEALML.uniform_rows(n_uniform, 4, STEALML.JUDGE)
same = metrics.fidelity(predict_boxes(boxes, wide), iris.predict(wide))
print(f"{oracle.ledger.queries} queries, {len(boxes)} boxes, {same:.2%} agree")

# %% [markdown]
# ## Does it work?
#
# Three trees, grown by scikit-learn until each leaf is pure, each attacked in
# six ways.
# All see the same oracle and search a range of 2.


# %%
def steal_tree(model, attack: Callable, n: int, laplace=1.0, **options):
    """One theft of a tree: copy, bill and agreement on n uniform rows."""
    oracle = TreeOracle(model, laplace=laplace)
    ends = -np.ones(oracle.d), np.ones(oracle.d)
    copy = attack(oracle, *ends, **options)
    x = STEALML.uniform_rows(n, oracle.d, STEALML.JUDGE)
    boxes = isinstance(copy, list)
    labels = predict_boxes(copy, x) if boxes else predict_tree(copy, x)
    return {
        "copy": copy,
        "leaves": len(copy) if boxes else len(splits_of(copy)) + 1,
        "queries": oracle.ledger.queries,
        "agreement": metrics.fidelity(labels, model.predict(x)),
        "threshold error": np.nan if boxes else threshold_error(copy, model),
    }


# %% [markdown]
# Besides the attacks above, top-down runs without its savings and with a finer
# precision.

# %%
TREES = {"iris": 0, "wine": 0, "breast_cancer": 2}  # name: random_state
finer = {"precision": precision / 1000}
attacks = {
    "bottom-up": (tree_bottom_up, {}),
    "bottom-up, skipping": (tree_bottom_up, {"skip": True}),
    "top-down, one by one": (tree_top_down, {"find": one_by_one}),
    "top-down, no re-scan": (tree_top_down, {"rescan": False}),
    "top-down": (tree_top_down, {}),
    "top-down, 1000 times finer": (tree_top_down, finer),
}
trees, thefts = {}, {}
for name, state in TREES.items():
    tree = DecisionTreeClassifier(random_state=state)
    trees[name] = tree.fit(*datasets.tabular(name, seed).train)
    for kind, (attack, options) in attacks.items():
        options = {"precision": precision} | options
        thefts[name, kind] = steal_tree(tree, attack, n_uniform, **options)

# %% tags=["remove-input"]
rows = [
    {"tree": name, "victim's leaves": trees[name].get_n_leaves()}
    | {"attack": kind}
    | {key: value for key, value in theft.items() if key != "copy"}
    for (name, kind), theft in thefts.items()
]
formats = {"agreement": "{:.2%}", "threshold error": "{:.0e}"}
display(plotting.table(rows, formats))
finest = [thefts[name, "top-down, 1000 times finer"] for name in TREES]
saving = {
    name: thefts[name, "top-down, one by one"]["queries"]
    / thefts[name, "top-down"]["queries"]
    for name in TREES
}
blind = thefts["iris", "top-down, no re-scan"]
threshold_worst = max(
    thefts[name, "top-down"]["threshold error"] for name in TREES
)
Markdown(
    "The largest distance of a threshold from the one that top-down finds "
    f"for it is {threshold_worst:.1g}, at a precision of {precision:g}. What "
    "a true threshold and its estimate enclose is answered wrongly; with a "
    "precision 1,000 times finer the least agreement is "
    f"{min(t['agreement'] for t in finest):.2%}. Where a row runs through a "
    "node in silence, the splits below may be found twice, in two subtrees "
    "that answer as the one does. Asking for one feature at a time costs "
    f"{saving['iris']:.1f} times as many queries as filling in many at once "
    f"on iris (*d* = 4), {saving['breast_cancer']:.1f} times as many on "
    "breast cancer (*d* = 30). Without the second look at features that are "
    f"set, {blind['leaves']} leaves of iris are found and agreement is "
    f"{blind['agreement']:.0%}."
)

# %% [markdown]
# ## How it breaks
#
# ### Leaves that answer alike
#
# The bottom-up attack knows a leaf by its answer.
# A tree for the digits, cut at depth 8, with scikit-learn's plain confidences,
# has many pure leaves, which say 100 % whatever their size.
# We start the attack from a random row, once for each of a few seeds.

# %%
digits = datasets.tabular("digits", seed)
many = DecisionTreeClassifier(max_depth=8, random_state=1).fit(*digits.train)
ends = many.tree_.children_left < 0
alike = {
    "leaves": int(ends.sum()),
    "different answers": len(
        np.unique(node_answers(many.tree_)[ends], axis=0)
    ),
}
upward = []
for s in range(seed, seed + n_few):
    options = {"laplace": 0.0, "start": STEALML.uniform_rows(1, 64, s)[0]}
    upward.append(steal_tree(many, tree_bottom_up, n_uniform, **options))
downward = steal_tree(many, tree_top_down, n_uniform, laplace=0.0)

# %% tags=["remove-input"]
up = of_shares([theft["agreement"] for theft in upward])
Markdown(
    f"The tree has {alike['leaves']} leaves and {alike['different answers']} "
    f"different answers. Bottom-up agrees on {up:.1%} of the uniform rows "
    f"for {np.mean([t['queries'] for t in upward]):,.0f} queries: two ends of "
    "a line with the same answer hide what lies between. "
    f"Top-down agrees on {downward['agreement']:.1%} for "
    f"{downward['queries']:,} queries: it only needs a node to differ from "
    "the node above it."
)

# %% [markdown]
# The paper reports such an effect for its *Steak* tree, with 193 leaves and 28
# different answers: bottom-up reached 92.45 %, top-down 100 %
# {cite:p}`tramer2016stealing`.
#
# ### A victim that is no tree
#
# Where the answer changes everywhere, every point is a border.
# The search then ends with an error, after as many rows as it may ask for.

# %%
smooth = LogisticRegression().fit(*datasets.tabular("iris", seed).train)
api = PredictionAPI(smooth.predict_proba, budget=1000)
try:
    tree_bottom_up(api, -np.ones(4), np.ones(4), 0.01)
except BudgetExceeded as error:
    print(f"{api.ledger.queries} queries, then: {error}")

# %% [markdown]
# :::{admonition} What else stops these attacks
# :class: warning
# - Rounded confidences, or labels alone, make leaves alike.
# - Noise in the answers shows borders where there are none.
# - [Forgotten siblings](../defenses/forgotten_siblings.ipynb) watches for
#   queries that hug the thresholds, as a bisection does.
#
# A categorical feature would be one question for each of its values instead of
# a bisection; this chapter leaves it out.
# :::

# %% [markdown]
# ## The bill
#
# The bound is the number of unknown bits divided by the bits of an answer.

# %%
paid = thefts["breast_cancer", "top-down"]
leaves = paid["leaves"]
unknown = (leaves - 1) * np.log2(2 / precision)
bound = int(np.ceil(unknown / np.log2(2 * leaves - 1)))
bill = {
    "breast cancer, lower bound": bound,
    "breast cancer, top-down": paid["queries"],
    "breast cancer, bottom-up": thefts["breast_cancer", "bottom-up"][
        "queries"
    ],
    "digits, top-down": downward["queries"],
}
rows = [
    (name, f"{n:,}", f"${Ledger(1.50).price(n):.2f}")
    for name, n in bill.items()
]
plotting.table(rows, columns=["tree", "queries", "at $1.50 for 1,000"])

# %% [markdown]
# A bisection does not meet the bound: an answer could name one of many nodes,
# but it asks only whether it is still the same one.

# %% [markdown]
# ## Paper and this run
#
# The paper stole trees of other tables, and of a live service: its numbers are
# neighbours of ours, not targets.
# Its tree for German credit, for one, cost 1,722 queries bottom-up and 1,150
# top-down {cite:p}`tramer2016stealing`.

# %% tags=["hide-input"]
claims = Claims()
claims.add(
    "trees, top-down, 1000 times finer: least agreement",
    min(theft["agreement"] for theft in finest),
    low=0.999,
)
claims.add(
    "trees, top-down: largest threshold error",
    threshold_worst,
    high=0.6 * precision,  # half, as the middle of a gap, and some room
)
claims.add(
    "alike leaves: bottom-up agreement (mean)",
    up.mean,
    low=0.5,
    paper="0.9245 (Steak, test rows)",
)
claims.add(
    "alike leaves: top-down agreement",
    downward["agreement"],
    low=0.99,
    paper="1 (Steak, test rows)",
)

# %% tags=["hide-input"]
LIMITS = {  # queries for a leaf: another seed grows trees of another size
    "bottom-up": (30, 60, 120),
    "bottom-up, skipping": (30, 60, 100),
    "top-down": (25, 25, 30),
}
for kind, limits in LIMITS.items():
    for name, limit in zip(TREES, limits, strict=True):
        leaf = thefts[name, kind]["queries"] / trees[name].get_n_leaves()
        claims.add(f"tree {name}, {kind}: queries a leaf", leaf, high=limit)
    agreed = np.mean([thefts[name, kind]["agreement"] for name in TREES])
    claims.add(f"trees, {kind}: agreement (mean)", agreed, low=0.95)
claims.check()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise: the price of precision (short)
# :class: attention
# What does each further digit of the thresholds cost?
# Steal the iris tree top-down with precisions from 0.1 to a millionth, and
# compare with $\log_2 10$ queries for every split.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
prices = []
for digits_wanted in range(1, 7):
    oracle = TreeOracle(iris, laplace=1.0)
    tree_top_down(oracle, -np.ones(4), np.ones(4), 10.0**-digits_wanted)
    prices.append(oracle.ledger.queries)
each = np.diff(prices).mean()
expected = np.log2(10) * (iris.get_n_leaves() - 1)
print(f"a digit costs {each:.1f} queries, {expected:.1f} expected")

# %% [markdown]
# :::{admonition} Exercise: the ordinary door (medium)
# :class: attention
# Sell the iris tree as it is, by `PredictionAPI(iris.predict_proba)`: its
# leaves are pure, and each says 1.
# Steal it bottom-up from one row, the middle, and from the 51 rows that
# `tree_bottom_up` takes where it meets such an API.
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
lines = []
for start in (np.zeros(4), None):
    api = PredictionAPI(iris.predict_proba)
    ends = -np.ones(4), np.ones(4)
    boxes = tree_bottom_up(api, *ends, precision, start=start)
    agree = metrics.fidelity(predict_boxes(boxes, wide), iris.predict(wide))
    lines.append(
        f"{len(boxes)} boxes for {api.ledger.queries} queries, {agree:.1%} "
        "agree"
    )
print("from one row: {}\nfrom 51 rows: {}".format(*lines))

# %% [markdown]
# ## Recap
#
# - A tree answers with label and confidence, which name a node unless two
#   share them.
# - Top-down, partial rows show which feature a node splits on; features that
#   are set must be scanned again.
# - Bottom-up, complete rows show the walls of one leaf after the other.
# - Leaves that answer alike hide from a line whose ends they hold, and not
#   from a search that comes from the node above.
# - A threshold costs the logarithm of range over precision.
#
# ## References
#
# - {cite:t}`tramer2016stealing` introduced both attacks; algorithm 1 there is
#   the one from leaf to leaf.
# - {cite:t}`gong2020survey` place them among their successors.
