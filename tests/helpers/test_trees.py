"""The leaves of a tree as boxes, and their answers."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mexutils.trees import class_shares, leaves_of

X, Y = load_iris(return_X_y=True)
MODEL = DecisionTreeClassifier(random_state=0).fit(X, Y)


def test_a_row_lies_in_the_box_of_its_leaf_and_in_no_other():
    leaves = leaves_of(MODEL)
    rows = np.random.default_rng(0).uniform(0, 8, (500, 4)).astype("f4")
    inside = (leaves.lower < rows[:, None]) & (rows[:, None] <= leaves.upper)
    (row, leaf) = np.nonzero(inside.all(axis=2))
    np.testing.assert_array_equal(row, np.arange(len(rows)))
    np.testing.assert_array_equal(leaf, leaves.number[MODEL.apply(rows)])
    np.testing.assert_array_equal(leaves.label[leaf], MODEL.predict(rows))


def test_what_has_no_classes_is_refused():
    regressor = DecisionTreeRegressor(max_depth=2).fit(
        [[0], [1], [2]], [0, 1, 2]
    )
    with pytest.raises(ValueError, match="has no classes"):
        class_shares(regressor.tree_)
    with pytest.raises(ValueError, match="laplace must be"):
        class_shares(MODEL.tree_, -1.0)


def test_class_shares_by_counting():
    nodes = MODEL.decision_path(X).toarray().astype(bool)
    for laplace in (0, 1, 2.5):
        found = class_shares(MODEL.tree_, laplace)
        for node, share in enumerate(found):
            counts = np.bincount(Y[nodes[:, node]], minlength=3) + laplace
            np.testing.assert_allclose(share, counts / counts.sum())
