"""StealML of trees: scikit-learn's, hand-made ones, and brute force."""

from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from mexutils import BudgetExceeded, PredictionAPI, datasets, load_chapter
from mexutils.clients import Accounts, LabelAndConfidence

chapter = load_chapter("attacks/stealml_trees")

D = 5


def table(n=200, d=D, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, d))
    y = (x @ rng.normal(size=(d, classes))).argmax(axis=1)
    return x, y


class Nodes:
    """A hand-made tree with the attributes that scikit-learn's have."""

    def __init__(self, nodes, n_features=2):
        self.tree_, self.n_features = self, n_features
        feature, threshold, left, right, counts = zip(*nodes, strict=True)
        self.feature, self.threshold = np.array(feature), np.array(threshold)
        self.children_left = np.array(left)
        self.children_right = np.array(right)
        counts = np.array(counts, float)
        self.weighted_n_node_samples = counts.sum(axis=1)
        self.value = counts[:, None]


TWICE = Nodes(
    [  # feature 0 is split at the root and again below feature 1
        (0, 0.5, 1, 2, (30, 31)),
        (1, 0.2, 3, 4, (20, 11)),
        (-2, 0.0, -1, -1, (10, 20)),
        (0, -0.3, 5, 6, (15, 4)),
        (-2, 0.0, -1, -1, (5, 7)),
        (-2, 0.0, -1, -1, (13, 1)),
        (-2, 0.0, -1, -1, (2, 3)),
    ]
)
ENDS = (-np.ones(2), np.ones(2))


def test_the_owners_walk_is_scikit_learns():
    x, y = table(300)
    model = DecisionTreeClassifier(random_state=0).fit(x, y)
    oracle = chapter.TreeOracle(model)
    fresh = table(500, seed=1)[0]
    answers = oracle.query(fresh)
    np.testing.assert_array_equal(answers[:, 0], model.predict(fresh))
    confidence = model.predict_proba(fresh).max(axis=1)
    np.testing.assert_allclose(answers[:, 1], confidence)
    # Values that only differ in double precision fall to the same side.
    edge = np.tile(fresh[:1], (2, 1))
    i = model.tree_.feature[0]
    edge[:, i] = model.tree_.threshold[0] + np.array([0, 1e-12])
    np.testing.assert_array_equal(
        oracle.query(edge)[:, 0], model.predict(edge)
    )


def test_partial_rows_stop_at_the_node_that_asks():
    oracle = chapter.TreeOracle(TWICE)
    x = np.zeros((3, 2))
    known = np.array([[False, False], [True, False], [False, True]])
    answers = oracle.query(x, known)
    np.testing.assert_allclose(answers[0], [1, 31 / 61])
    np.testing.assert_allclose(answers[1], [0, 20 / 31])
    np.testing.assert_allclose(answers[2], [1, 31 / 61])
    assert oracle.ledger.queries == 3


def test_laplace_is_added_to_every_class():
    answers = chapter.node_answers(TWICE, 1.0)
    np.testing.assert_allclose(answers[0], [1, 32 / 63])
    np.testing.assert_allclose(answers[5], [0, 14 / 16])


@pytest.mark.parametrize("find", ["by_halving", "one_by_one"])
def test_a_feature_split_twice_needs_the_rescan(find):
    find, oracle = getattr(chapter, find), chapter.TreeOracle(TWICE)
    tree = chapter.tree_top_down(oracle, *ENDS, 1e-4, find)
    found = chapter.splits_of(tree)
    assert [i for i, _ in found] == [0, 0, 1]
    np.testing.assert_allclose(
        [t for _, t in found], [-0.3, 0.5, 0.2], atol=1e-4
    )
    blind = chapter.tree_top_down(oracle, *ENDS, 1e-4, find, rescan=False)
    assert len(chapter.splits_of(blind)) < 3


def test_bottom_up_on_the_same_tree():
    oracle = chapter.TreeOracle(TWICE)
    for skip in (False, True):
        boxes = chapter.tree_bottom_up(oracle, *ENDS, 1e-4, skip=skip)
        x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
        labels = chapter.predict_boxes(boxes, x)
        assert (labels == oracle.query(x)[:, 0]).mean() > 0.999
        assert len(boxes) == 4


def alike():
    """x0 at -0.5 and 0.5: outer leaves alike, so both ends answer the same."""
    return Nodes(
        [
            (0, -0.5, 1, 2, (16, 12)),
            (-2, 0.0, -1, -1, (8, 1)),
            (0, 0.5, 3, 4, (8, 11)),
            (-2, 0.0, -1, -1, (0, 10)),
            (-2, 0.0, -1, -1, (8, 1)),
        ]
    )


def test_leaves_that_answer_alike():
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    truth = (np.abs(x[:, 0]) < 0.5).astype(int)
    tree = chapter.tree_top_down(chapter.TreeOracle(alike()), *ENDS, 1e-4)
    assert (chapter.predict_tree(tree, x) == truth).mean() > 0.999
    # Bottom-up sees nothing on a line whose ends and row all answer alike;
    # from the middle it sees both walls of the leaf in between.
    for start, all_seen in (([-0.9, 0.0], False), (None, True)):
        boxes = chapter.tree_bottom_up(
            chapter.TreeOracle(alike()), *ENDS, 1e-4, start=start
        )
        same = (chapter.predict_boxes(boxes, x) == truth).mean()
        assert bool(same > 0.999) == all_seen


@pytest.mark.parametrize("seed", range(3))
def test_random_trees_leaf_by_leaf(seed):
    model = DecisionTreeClassifier(max_leaf_nodes=12, random_state=seed)
    model.fit(*table(300, seed=seed))
    ends, true = (-np.ones(D), np.ones(D)), model.tree_
    tree = chapter.tree_top_down(
        chapter.TreeOracle(model, laplace=1.0), *ends, 1e-6
    )
    inner = true.feature >= 0
    expected = np.array([true.feature[inner], true.threshold[inner]]).T
    found = np.array(chapter.splits_of(tree))
    far = np.abs(found[:, None] - expected[None]).max(axis=2)
    assert far.min(axis=0).max() < 1e-6  # every split is found
    assert far.min(axis=1).max() < 1e-6  # and no other
    boxes = chapter.tree_bottom_up(
        chapter.TreeOracle(model, laplace=1.0), *ends, 1e-6
    )
    x = table(3000, seed=9)[0]
    assert (chapter.predict_tree(tree, x) == model.predict(x)).all()
    assert (chapter.predict_boxes(boxes, x) == model.predict(x)).mean() > 0.98


@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_is_the_middle_of_its_gap(seed):
    model = DecisionTreeClassifier(max_leaf_nodes=12, random_state=seed)
    model.fit(*table(300, seed=seed))
    ends = -np.ones(D), np.ones(D)
    for precision in (0.02, 1e-3):
        tree = chapter.tree_top_down(
            chapter.TreeOracle(model, laplace=1.0), *ends, precision
        )
        error = chapter.threshold_error(tree, model)
        assert 0 < error <= precision / 2 + 1e-6


@pytest.mark.parametrize("seed", [0, 1, 11, 100])
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_nodes_that_answer_as_their_neighbours_hide_nothing(name, seed):
    # Iris, 100: a leaf of (0, 1, 0) rows answers as the (0, 2, 1) above it.
    model = DecisionTreeClassifier(random_state=0)
    model.fit(*datasets.tabular(name, seed).train)
    d = model.n_features_in_
    oracle = chapter.TreeOracle(model, laplace=1.0)
    tree = chapter.tree_top_down(oracle, -np.ones(d), np.ones(d), 1e-6)
    assert chapter.threshold_error(tree, model) < 1e-6
    x = np.random.default_rng(0).uniform(-1, 1, (3000, d))
    assert (chapter.predict_tree(tree, x) == model.predict(x)).all()


@pytest.mark.parametrize("same", ["left", "right"])
def test_a_child_that_answers_as_its_parent_is_no_leaf(same):
    children = [(-2, 0.0, -1, -1, (2, 1)), (-2, 0.0, -1, -1, (1, 5))]
    if same == "right":
        children.reverse()
    model = Nodes([(0, 0.1, 1, 2, (4, 2)), *children])
    for find in (chapter.by_halving, chapter.one_by_one):
        oracle = chapter.TreeOracle(model)
        tree = chapter.tree_top_down(oracle, *ENDS, 1e-4, find)
        assert chapter.threshold_error(tree, model) < 1e-4


def test_the_threshold_error_knows_a_split_that_was_found_twice():
    def split(feature, threshold, left, right):
        return chapter.Split(feature, threshold, left, right)

    leaf = chapter.Leaf(0, 1.0)
    lower = split(0, -0.3, leaf, leaf)
    whole = split(0, 0.5, split(1, 0.2, lower, leaf), leaf)
    twice = split(0, 0.5, split(1, 0.2, lower, lower), leaf)
    moved = split(0, 0.5, split(1, 0.25, lower, leaf), leaf)
    error = chapter.threshold_error
    assert error(whole, TWICE) == error(twice, TWICE) == 0
    assert error(moved, TWICE) == pytest.approx(0.05)
    assert error(split(0, 0.5, lower, leaf), TWICE) == np.inf  # 1 is missing
    assert error(split(1, 0.2, leaf, leaf), TWICE) == np.inf
    assert error(leaf, TWICE) == np.inf
    # A threshold that nobody has counts, whichever tree it is in.
    made_up = split(
        0, 0.5, split(1, 0.2, lower, leaf), split(0, 0.9, leaf, leaf)
    )
    assert error(made_up, TWICE) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "up", "skipping", "down"),
    [("iris", 160, 150, 127), ("wine", 342, 287, 160)],
)
def test_memory_and_halving_keep_the_bill_small(name, up, skipping, down):
    # Without the border memory wine costs 531, one by one more than 250.
    model = DecisionTreeClassifier(random_state=0)
    model.fit(*datasets.tabular(name, 0).train)
    d = model.n_features_in_
    x = np.random.default_rng(0).uniform(-1, 1, (3000, d))
    y = model.predict(x)
    for attack, limit, options in (
        (chapter.tree_bottom_up, up, {}),
        (chapter.tree_bottom_up, skipping, {"skip": True}),
        (chapter.tree_top_down, down, {}),
    ):
        oracle = chapter.TreeOracle(model, laplace=1.0)
        copy = attack(oracle, -np.ones(d), np.ones(d), **options)
        boxes = isinstance(copy, list)
        predict = chapter.predict_boxes if boxes else chapter.predict_tree
        assert (predict(copy, x) == y).mean() > 0.99
        assert oracle.ledger.queries <= limit


def test_halving_names_those_without_which_nothing_changes():
    # 2 changes the answer, but only where 0 and 1 are changed before it.
    def changes(features):
        return {0, 1, 2} <= set(features)

    assert chapter.by_halving([0, 1, 2, 3], changes) == [0, 1, 2]
    assert chapter.one_by_one([0, 1, 2, 3], changes) == []


def test_halving_asks_a_logarithm_and_finds_the_same():
    asked = []

    def changes(features):
        asked.append(features)
        return 37 in features

    assert chapter.by_halving(list(range(64)), changes) == [37]
    assert len(asked) <= 8
    assert chapter.one_by_one(list(range(64)), changes) == [37]
    asked.clear()
    assert chapter.by_halving(list(range(20)), changes) == []
    assert len(asked) == 1
    assert chapter.by_halving([], changes) == []


def test_nothing_is_asked_twice():
    oracle = chapter.TreeOracle(TWICE)
    answer = chapter.Remembered(oracle)
    known = np.array([True, False])
    first = answer(np.array([0.1, 7.0]), known)
    assert answer(np.array([0.1, 8.0]), known) == first
    assert oracle.ledger.queries == 1


def test_searches_go_on_side_by_side():
    """Each gets its own answers, in as many calls as the longest has rows."""
    oracle = chapter.TreeOracle(TWICE)
    answer = chapter.Remembered(oracle)

    def search(values):
        heard = []
        for value in values:
            heard.append((yield np.array([value, 0.0])))
        return heard

    lines = [-0.9, 0.9], [], [0.9, -0.9, 0.1], [-0.9]
    found = chapter.side_by_side(answer, map(search, lines))
    alone = chapter.Remembered(chapter.TreeOracle(TWICE))
    expected = [[alone(np.array([v, 0.0])) for v in line] for line in lines]
    assert found == expected
    assert oracle.ledger.queries == 3  # -0.9, 0.9 and 0.1, each once
    assert oracle.ledger.calls <= 3


def test_bottom_up_asks_for_many_features_at_once():
    x, y = table()
    model = DecisionTreeClassifier(random_state=0, max_depth=4).fit(x, y)
    oracle = chapter.TreeOracle(model, laplace=1.0)
    chapter.tree_bottom_up(oracle, -np.ones(D), np.ones(D), 1e-3)
    assert oracle.ledger.calls < 0.7 * oracle.ledger.queries


def test_the_smaller_of_two_boxes_is_believed():
    small = chapter.Box(np.zeros(2), np.full(2, 0.5), (1.0, 0.9))
    large = chapter.Box(-np.ones(2), np.ones(2), (0.0, 0.9))
    x = np.array([[0.2, 0.2], [-0.5, 0.2], [2.0, 0.0]])
    for boxes in ([small, large], [large, small]):
        assert chapter.predict_boxes(boxes, x).tolist() == [1, 0, -1]


def test_more_first_rows_find_what_one_does_not():
    start = np.array([[-0.9, 0.0], [0.0, 0.0]])
    x = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    truth = (np.abs(x[:, 0]) < 0.5).astype(int)
    boxes = chapter.tree_bottom_up(
        chapter.TreeOracle(alike()), *ENDS, 1e-4, start=start
    )
    assert (chapter.predict_boxes(boxes, x) == truth).mean() > 0.999


# Oracles


@pytest.fixture(scope="module")
def low_tree():
    model = DecisionTreeClassifier(max_depth=3, random_state=0)
    return model.fit(*datasets.tabular("iris", 0).train)


def test_the_ordinary_api_is_an_oracle_for_complete_rows(low_tree):
    api = PredictionAPI(low_tree.predict_proba)
    ends = -np.ones(4), np.ones(4)
    boxes = chapter.tree_bottom_up(api, *ends)
    x = np.random.default_rng(0).uniform(-1, 1, (3000, 4))
    same = chapter.predict_boxes(boxes, x) == low_tree.predict(x)
    assert same.mean() > 0.99
    spent = api.ledger.queries
    for attack, options in (
        (chapter.tree_top_down, {}),
        (chapter.tree_bottom_up, {"skip": True}),
    ):
        with pytest.raises(ValueError, match="complete rows"):
            attack(api, *ends, **options)
    assert api.ledger.queries <= spent + 1


def test_several_names_hear_what_one_hears(low_tree):
    ends, boxes = (-np.ones(4), np.ones(4)), []
    for names in (None, ["a", "b"]):
        api = PredictionAPI(low_tree.predict_proba)
        asked = api if names is None else Accounts(api, names)
        boxes.append(chapter.tree_bottom_up(asked, *ends))
    assert [box.answer for box in boxes[0]] == [b.answer for b in boxes[1]]
    api = PredictionAPI(low_tree.predict_proba, returns="label")
    with pytest.raises(ValueError, match="LabelAndConfidence"):
        chapter.tree_bottom_up(Accounts(api), *ends)


def test_labels_alone_are_refused_with_a_remedy(low_tree):
    api = PredictionAPI(low_tree.predict_proba, returns="label")
    for attack in (chapter.tree_bottom_up, chapter.tree_top_down):
        with pytest.raises(ValueError, match="LabelAndConfidence"):
            attack(api, -np.ones(4), np.ones(4))
    assert api.ledger.queries == 0
    oracle = LabelAndConfidence(api.query, 3)
    assert chapter.tree_bottom_up(oracle, -np.ones(4), np.ones(4))


class Liar:
    """Answers complete and partial rows at random, the same row alike."""

    def __init__(self, answers):
        self.answers, self.rows = answers, 0

    def query(self, x, known=None):
        self.rows += len(x)
        known = np.ones(x.shape, bool) if known is None else known
        rows = np.where(known, x, -7.0)
        labels = [hash(row.tobytes()) % self.answers for row in rows]
        return np.column_stack([labels, np.ones(len(x))]).astype(float)


@pytest.mark.parametrize("answers", [2, 1000])
def test_an_oracle_that_is_no_tree_has_an_end(answers, monkeypatch):
    limited = partial(chapter.Remembered, most=5000)
    monkeypatch.setattr(chapter, "Remembered", limited)
    for attack in (chapter.tree_bottom_up, chapter.tree_top_down):
        liar = Liar(answers)
        with suppress(RuntimeError):
            attack(liar, -np.ones(3), np.ones(3), 1e-3)
        assert liar.rows <= 5000


def test_an_answer_that_never_repeats_is_no_tree(monkeypatch):
    limited = partial(chapter.Remembered, most=3000)
    monkeypatch.setattr(chapter, "Remembered", limited)
    smooth = LogisticRegression().fit(*table())
    api = PredictionAPI(smooth.predict_proba)
    with pytest.raises(RuntimeError, match="no tree"):
        chapter.tree_bottom_up(api, -np.ones(D), np.ones(D), 1e-3)
    assert api.ledger.queries == 3000


def test_a_precision_finer_than_doubles_is_refused():
    for attack in (chapter.tree_bottom_up, chapter.tree_top_down):
        oracle = chapter.TreeOracle(TWICE)
        with pytest.raises(ValueError, match="precision"):
            attack(oracle, *ENDS, 1e-17)
        assert oracle.ledger.queries == 0


def test_a_first_row_of_another_shape_is_refused():
    oracle = chapter.TreeOracle(TWICE)
    with pytest.raises(ValueError, match="start"):
        chapter.tree_bottom_up(oracle, *ENDS, start=np.zeros(3))
    assert oracle.ledger.queries == 0


# Bad input


def test_a_spent_budget_of_an_oracle_leaves_nothing_billed():
    oracle = chapter.TreeOracle(TWICE, budget=1)
    with pytest.raises(BudgetExceeded):
        oracle.query(np.zeros((2, 2)))
    assert oracle.ledger.queries == 0


@pytest.mark.parametrize(
    ("x", "known"),
    [
        (np.zeros((2, 3)), None),
        (np.zeros(2), None),
        (np.full((1, 2), np.nan), None),
        (np.zeros((2, 2)), np.ones((1, 2), bool)),
        (np.zeros((1, 2)), np.ones((1, 2), int)),
    ],
)
def test_bad_partial_rows_cost_nothing(x, known):
    oracle = chapter.TreeOracle(TWICE)
    with pytest.raises(ValueError):
        oracle.query(x, known)
    assert oracle.ledger.queries == 0


@pytest.mark.parametrize(
    ("low", "high", "precision"),
    [
        (np.ones(2), -np.ones(2), 1e-3),
        (-np.ones(2), np.ones(3), 1e-3),
        (-np.ones(2), np.ones(2), 0.0),
        (np.full(2, -np.inf), np.ones(2), 1e-3),
    ],
)
def test_bad_ranges_cost_nothing(low, high, precision):
    for attack in (chapter.tree_bottom_up, chapter.tree_top_down):
        oracle = chapter.TreeOracle(TWICE)
        with pytest.raises(ValueError):
            attack(oracle, low, high, precision)
        assert oracle.ledger.queries == 0
