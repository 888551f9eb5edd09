"""A scikit-learn tree as its leaves: boxes, and what each of them answers."""

from typing import NamedTuple

import numpy as np

from mexutils import checks

__all__ = ["Leaves", "class_shares", "leaves_of"]


class Leaves(NamedTuple):
    """The leaves of a tree as boxes, numbered from the left.

    lower, upper: (L, d) ends of each leaf, infinite where nothing bounds it;
    a row x lies in it where lower < x <= upper. label: (L,) place of the
    likeliest class. number: (nodes,) the leaf's number at its node.
    """

    lower: np.ndarray
    upper: np.ndarray
    label: np.ndarray
    number: np.ndarray


def leaves_of(model) -> Leaves:
    """The leaves of a fitted scikit-learn tree."""
    tree = model.tree_
    lower = np.full((tree.node_count, tree.n_features), -np.inf)
    upper = -lower
    for node in np.flatnonzero(tree.feature >= 0):  # parents come first
        i, t = tree.feature[node], tree.threshold[node]
        left, right = tree.children_left[node], tree.children_right[node]
        lower[[left, right]], upper[[left, right]] = lower[node], upper[node]
        upper[left, i] = min(t, upper[left, i])  # left is x <= t
        lower[right, i] = max(t, lower[right, i])
    ends = tree.feature < 0
    label = tree.value[ends, 0].argmax(axis=1)
    return Leaves(lower[ends], upper[ends], label, np.cumsum(ends) - 1)


def class_shares(tree, laplace: float = 0.0) -> np.ndarray:
    """Class shares (nodes, c) of `model.tree_`.

    laplace: added to the count of each class in a node, so that leaves of
    different size answer differently. Raises `ValueError` for trees that have
    no classes and for a laplace below 0.
    """
    laplace = checks.share("laplace", laplace, high=np.inf)
    if tree.value.shape[1:] < (1, 2):
        raise ValueError(
            "the tree has no classes: give a DecisionTreeClassifier that has "
            "seen two classes or more"
        )
    share = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)
    count = share * tree.weighted_n_node_samples[:, None] + laplace
    return count / count.sum(axis=1, keepdims=True)
