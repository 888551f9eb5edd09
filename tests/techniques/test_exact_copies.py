"""Exact copies: bends, neurons, and thefts, against what is known of them."""

import numpy as np
import pytest
from scipy.special import softmax

from mexutils import Accounts, PredictionAPI, load_chapter

chapter = load_chapter("frontier/exact_copies")
D = 6


@pytest.fixture(scope="module")
def victim():
    return chapter.Random(D, 4, 3, 0)


@pytest.fixture(scope="module")
def pair():
    return chapter.Random(D, 4, 2, 1)


def sell(victim, **options):
    return PredictionAPI(victim.predict_proba, input_shape=(D,), **options)


def labels(victim, budget=200_000):
    return sell(victim, returns="label", budget=budget)


def unit(victim):
    """The neurons of a victim as unit weights (h, d) and biases (h,)."""
    length = np.linalg.norm(victim.hidden, axis=0)
    return (victim.hidden / length).T, victim.b / length


def a_line(victim, seed=0):
    rng = np.random.default_rng(seed)
    way = rng.normal(size=D)
    ask = sell(victim).query
    return chapter.Line(ask, rng.normal(size=D), way / np.linalg.norm(way))


def crossings(victim, line):
    w, b = unit(victim)
    return np.sort(-(w @ line.start + b) / (w @ line.way))


# --- from a softmax --------------------------------------------------------


def test_log_ratios_are_differences_of_logits(victim):
    x = np.random.default_rng(1).normal(size=(50, D))
    z = victim.logits(x)
    found = chapter.log_ratios(victim.predict_proba(x))
    np.testing.assert_allclose(found, z[:, 1:] - z[:, :1], atol=1e-12)


def test_blur_bounds_what_rounding_does():
    z = np.random.default_rng(2).normal(0, 15, (2000, 2))
    p = softmax(z, axis=1)
    p[:, 1] = 1 - p[:, 0]  # as a model of two classes answers
    off = np.abs(chapter.log_ratios(p)[:, 0] - (z[:, 1] - z[:, 0]))
    known = p.min(axis=1) > 0
    assert (off <= chapter.blur(p))[known].all()
    assert np.isinf(chapter.blur(np.array([[1.0, 0.0]])))


def test_a_position_is_asked_once(victim):
    line = a_line(victim)
    first, _ = line.at(0.5, 1.0, 0.5)
    again, _ = line.at(1.0, 0.5)
    assert len(line.known) == 2
    np.testing.assert_array_equal(first[0], again[1])


@pytest.mark.parametrize("seed", range(6))
def test_every_bend_on_a_line_is_found(victim, seed):
    line = a_line(victim, seed)
    truth = crossings(victim, line)
    found = chapter.bends_on(line, -50.0, 50.0)
    np.testing.assert_allclose(found, truth[np.abs(truth) < 50], atol=1e-9)


def test_a_bend_near_the_end_of_an_interval_is_not_misplaced(victim):
    line = a_line(victim)
    t = crossings(victim, line)[1]
    for low in (t - 0.01, t - 0.3, t - 0.99):
        found = chapter.bends_on(line, low, low + 16)
        assert np.abs(np.array(found) - t).min() < 1e-9


def test_two_close_bends_are_two():
    twins = chapter.Random(D, 4, 3, 3)
    twins.hidden[:, 1] = twins.hidden[:, 0]
    twins.b[1] = twins.b[0] + 1e-4
    line = a_line(twins)
    truth = crossings(twins, line)
    np.testing.assert_allclose(
        chapter.bends_on(line, -50.0, 50.0), truth[abs(truth) < 50], atol=1e-8
    )


def test_the_gradient_is_that_of_the_piece(victim):
    x = np.random.default_rng(4).normal(size=D)
    found = chapter.gradient(sell(victim).query, x, 1.0)
    on = x @ victim.hidden + victim.b > 0
    slope = (victim.hidden * on) @ victim.outer
    np.testing.assert_allclose(found, slope[:, 1:] - slope[:, :1], atol=1e-9)


def test_steps_stay_in_the_box(victim):
    asked = []

    def ask(x):
        asked.append(x)
        return victim.predict_proba(x)

    box = np.zeros(D), np.ones(D)
    x = np.random.default_rng(5).uniform(0.01, 0.99, D)
    chapter.gradient(ask, x, 1.0, box)
    rows = np.vstack(asked)
    assert rows.min() >= 0 and rows.max() <= 1


def test_a_jump_of_two_neurons_is_left_alone():
    rng = np.random.default_rng(6)
    w = rng.normal(size=(D, 2))
    jump = w @ rng.normal(size=(2, 3))
    x = np.zeros(D)
    assert chapter.neuron_at(np.zeros_like(jump), jump, x) is None
    found, b = chapter.neuron_at(0 * jump, np.outer(w[:, 0], [1, 2, 3]), x)
    assert abs(found @ w[:, 0]) == pytest.approx(np.linalg.norm(w[:, 0]))
    assert b == 0
    assert chapter.neuron_at(np.full_like(jump, np.nan), jump, x) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("box", [None, (-np.ones(D), np.ones(D))])
def test_a_theft_is_exact_and_knows_it(seed, box):
    victim = chapter.Random(D, 5, 4, seed)
    theft = chapter.steal_network(sell(victim), D, seed, box=box)
    assert theft.complete and theft.error < chapter.GOOD
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (2000, D)) * (1 if box else 5)
    off = theft.copy.predict_proba(x) - victim.predict_proba(x)
    assert np.abs(off).max() < 1e-8


def test_no_row_leaves_the_box(victim):
    low, high = -0.5 * np.ones(D), np.array([1.0] * (D - 1) + [0.25])
    door = Accounts(sell(victim))
    chapter.steal_network(door, D, box=(low, high))
    rows, _ = door.transfer_set()
    assert (rows >= low).all() and (rows <= high).all()


def test_orientations_are_plus_or_minus_one(victim):
    copy = chapter.steal_network(sell(victim), D).copy
    e = chapter.orientations(copy)
    np.testing.assert_allclose(np.abs(e), 1, atol=1e-7)
    w, _ = unit(victim)
    for own, sign in zip(copy.weights, e, strict=True):
        assert (sign * own @ w.T).max() == pytest.approx(1)


def test_an_unfinished_theft_says_so_and_the_budget_holds(victim):
    for budget in (1, 60, 150):
        api = sell(victim, budget=budget)
        theft = chapter.steal_network(api, D)
        assert not theft.complete and np.isinf(theft.error)
        assert api.ledger.queries <= budget


def test_what_was_paid_for_is_kept(victim):
    door = Accounts(sell(victim, budget=150))
    chapter.steal_network(door, D)
    rows, answers = door.transfer_set()
    np.testing.assert_allclose(victim.predict_proba(rows), answers)


@pytest.mark.parametrize("decimals", [4, 8, 12])
def test_rounded_answers_are_refused_early(victim, decimals):
    api = sell(victim, decimals=decimals)
    with pytest.raises(ValueError, match="rounded"):
        chapter.steal_network(api, D)
    assert api.ledger.queries < 2000


@pytest.mark.parametrize("kind", ["float32", "tanh", "two hidden layers"])
@pytest.mark.parametrize("seed", range(3))
def test_another_kind_of_network_is_never_called_complete(kind, seed):
    end, _, _ = chapter.outcome(chapter.Other(kind, seed).predict_proba, seed)
    assert end != "complete"


def test_neurons_that_cannot_be_seen_do_no_harm():
    victim = chapter.Other("dead and doubled neurons", 0)
    end, _, off = chapter.outcome(victim.predict_proba, 0)
    assert end == "complete" and off < 1e-9


def test_a_model_without_neurons_is_copied_too():
    m = np.random.default_rng(7).normal(size=(D, 3))
    api = PredictionAPI(lambda x: softmax(x @ m, axis=1), input_shape=(D,))
    theft = chapter.steal_network(api, D)
    assert theft.complete and len(theft.copy.weights) == 0


@pytest.mark.parametrize("d", [0, 2.5, None])
def test_features_are_a_whole_number(victim, d):
    api = sell(victim)
    with pytest.raises(ValueError, match="d must be a whole number"):
        chapter.steal_network(api, d)
    assert api.ledger.queries == 0


# --- from labels -----------------------------------------------------------


def test_halving_ends_on_the_boundary(pair):
    x = np.random.default_rng(8).normal(0, 3, (200, D))
    said = pair.logits(x).argmax(axis=1)
    n = min((said == 0).sum(), (said == 1).sum(), 20)
    ask = labels(pair).query
    ends = chapter.halved(ask, x[said == 0][:n], x[said == 1][:n], np.zeros(n))
    f = pair.logits(ends) @ [-1, 1]
    assert np.abs(f).max() < 1e-13


def boundary_row(pair, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 3, (200, D))
    said = pair.logits(x).argmax(axis=1)
    one, other = x[said == 0][:1], x[said == 1][:1]
    ask = labels(pair).query
    row = chapter.halved(ask, one, other, np.zeros(1))[0]
    guess = (one - other)[0] / np.linalg.norm(one - other)
    return row, guess, ask, rng


def test_the_normal_is_that_of_the_piece(pair):
    x, guess, ask, rng = boundary_row(pair)
    normal, rows = chapter.normal_at(ask, x, guess, 1e-2, rng)
    on = x @ pair.hidden + pair.b > 0
    truth = (pair.hidden * on) @ pair.outer @ [-1, 1]
    cosine = abs(normal @ truth) / np.linalg.norm(truth)
    assert cosine == pytest.approx(1, abs=1e-12)
    assert np.abs(pair.logits(rows) @ [-1, 1]).max() < 1e-12


def test_a_dual_point_lies_on_the_boundary_and_on_a_neuron(pair):
    x, guess, ask, rng = boundary_row(pair)
    normal, _ = chapter.normal_at(ask, x, guess, 1e-2, rng)
    w, b = unit(pair)
    for way in chapter._tangents(normal, 4, rng):
        t = chapter.bend_along(ask, x, normal, way)
        if t is None:
            continue
        dual, y, _ = chapter.step_over(ask, x, normal, way, t, rng)
        assert abs(pair.logits(dual.at[None])[0] @ [-1, 1]) < 1e-10
        assert np.abs(w @ dual.at + b).min() < 1e-8
        assert abs(pair.logits(y[None])[0] @ [-1, 1]) < 1e-12


def duals_of(w, at, normals):
    """Dual points of a neuron w at rows `at`, with normals before."""
    for z, n in zip(at, normals, strict=True):
        after = n + 0.7 * w
        yield chapter.Dual(z, n, after / np.linalg.norm(after))


def test_two_dual_points_give_their_neuron_away():
    rng = np.random.default_rng(9)
    w = rng.normal(size=D)
    w /= np.linalg.norm(w)
    at = rng.normal(size=(2, D))
    at -= np.outer(at @ w + 0.3, w)  # on the plane w x + 0.3 = 0
    normals = chapter._tangents(rng.normal(size=D) + 2 * w, 2, rng)
    one, two = duals_of(w, at, normals)
    found, b = chapter.common_neuron(one, two)
    sign = np.sign(found @ w)
    np.testing.assert_allclose(sign * found, w, atol=1e-12)
    assert sign * b == pytest.approx(0.3)
    assert chapter.is_of(one, found, b) and chapter.is_of(two, found, b)


def test_duals_of_one_piece_or_of_two_neurons_are_not_paired():
    rng = np.random.default_rng(10)
    w = chapter._tangents(np.ones(D), 2, rng)
    at, normals = rng.normal(size=(2, D)), chapter._tangents(w[0], 2, rng)
    (one,) = duals_of(w[0], at[:1], normals[:1])
    (two,) = duals_of(w[1], at[1:], normals[1:])
    assert chapter.common_neuron(one, two) is None
    (shares,) = duals_of(w[1], at[1:], normals[:1])
    assert chapter.common_neuron(one, shares) is None


def test_duals_of_parallel_neurons_are_not_paired():
    rng = np.random.default_rng(12)
    w = rng.normal(size=D)
    w /= np.linalg.norm(w)
    at = rng.normal(size=(2, D))
    at -= np.outer(at @ w + [0.3, 1.3], w)
    normals = chapter._tangents(rng.normal(size=D) + 2 * w, 2, rng)
    assert chapter.common_neuron(*duals_of(w, at, normals)) is None


@pytest.mark.parametrize("seed", range(4))
def test_labels_alone_are_enough(seed):
    victim = chapter.Random(D, 4, 2, seed)
    theft = chapter.steal_by_labels(labels(victim), D, seed)
    assert theft.complete
    x = np.random.default_rng(seed).normal(0, 3, (50_000, D))
    said = victim.logits(x).argmax(axis=1) == 1
    assert ((theft.copy.log_ratios(x) > 0) != said).mean() <= 2e-5


def test_a_missing_neuron_leaves_no_null_vector(pair):
    rng = np.random.default_rng(11)
    x = rng.normal(0, 3, (800, D))
    said = pair.logits(x).argmax(axis=1)
    n = min((said == 0).sum(), (said == 1).sum())
    ends = chapter.halved(
        labels(pair).query, x[said == 0][:n], x[said == 1][:n], np.zeros(n)
    )
    neurons = list(zip(*unit(pair), strict=True))
    assert chapter.null_copy(neurons, ends) is not None
    assert chapter.null_copy(neurons[1:], ends) is None
    more = [*neurons, (np.eye(D)[0], 0.1)]  # one that is none is dropped
    assert len(chapter.null_copy(more, ends).weights) == len(neurons)


def boundary_rows(pair, seed=11):
    """Rows all over the boundary of a network of two classes."""
    x = np.random.default_rng(seed).normal(0, 3, (800, D))
    said = pair.logits(x).argmax(axis=1)
    n = min((said == 0).sum(), (said == 1).sum())
    sides = x[said == 0][:n], x[said == 1][:n]
    return chapter.halved(labels(pair).query, *sides, np.zeros(n))


def test_a_neuron_that_no_point_has_crossed_is_left_out(pair):
    ends, own = boundary_rows(pair), list(zip(*unit(pair), strict=True))
    far = (np.eye(D)[0], 100.0)  # all points lie on one side of it
    assert len(chapter.null_copy([*own, far], ends).weights) == len(own)


SPOILT = {
    "as it is": (lambda outer: outer, True),
    "upside down": (lambda outer: -outer, True),
    "zero everywhere": (lambda outer: 0 * outer, False),
    "moved a little": (
        lambda outer: outer + 1e-4 * (outer == outer[-1]),
        False,
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_the_examination_turns_a_copy_and_refuses_a_wrong_one(
    pair, how, monkeypatch
):
    own = list(zip(*unit(pair), strict=True))
    true = chapter.null_copy(own, boundary_rows(pair))
    spoil, passes = SPOILT[how]
    wrong = true._replace(outer=spoil(true.outer))
    monkeypatch.setattr(chapter, "null_copy", lambda *_: wrong)
    walk = chapter.Walk(labels(pair), D, 0, 3.0)
    walk.neurons, walk.points = own, [np.zeros((100, D))]
    copy, _ = walk.finished()
    assert (copy is not None) == passes
    if passes:
        x = np.random.default_rng(1).normal(0, 3, (500, D))
        said = pair.logits(x).argmax(axis=1) == 1
        np.testing.assert_array_equal(copy.log_ratios(x) > 0, said)


def test_what_is_not_solved_is_said_and_the_budget_holds(pair):
    for budget in (10, 3000):
        api = labels(pair, budget)
        theft = chapter.steal_by_labels(api, D)
        assert theft == (None, False, np.inf, theft.lines)
        assert api.ledger.queries <= budget


@pytest.mark.parametrize(
    ("sold", "d", "word"),
    [
        ({"returns": "label"}, D, "no budget"),
        ({"budget": 900}, D, "labels 0 and 1"),
        ({"returns": "label", "budget": 900}, 3, "4 or more"),
    ],
)
def test_bad_doors_are_refused(pair, sold, d, word):
    with pytest.raises(ValueError, match=word):
        chapter.steal_by_labels(sell(pair, **sold), d)


def test_a_victim_of_one_label_is_named():
    api = PredictionAPI(
        lambda x: np.tile([0.9, 0.1], (len(x), 1)),
        returns="label",
        budget=100_000,
        input_shape=(D,),
    )
    with pytest.raises(chapter.NoBoundary, match="one label"):
        chapter.steal_by_labels(api, D)
    assert api.ledger.queries < 5000


def test_a_theft_without_a_boundary_is_not_complete():
    def one_class(x):
        return np.tile([0.9, 0.1], (len(x), 1))

    rows = np.zeros((10, D))
    run = chapter.label_theft(one_class, D, 4, rows, 0, 100_000)
    assert not run["complete"]
    assert run["differ"] == 1


# --- two hidden layers -----------------------------------------------------


def test_planes_of_the_first_layer_are_true_ones():
    deep = chapter.Other("two hidden layers", 1)
    api = PredictionAPI(deep.predict_proba, input_shape=(10,))
    planes = chapter.first_layer(api, 10, 1)
    truth = (deep.hidden / np.linalg.norm(deep.hidden, axis=0)).T
    assert len(planes) >= 4
    for w, _ in planes:
        assert np.abs(truth @ w).max() == pytest.approx(1, abs=1e-8)


def test_labels_are_asked_inside_the_box_only():
    box = -np.full(D, 1.5), np.full(D, 1.5)
    victim, asked = chapter.Random(D, 4, 2, 1), []

    def predict_proba(x):
        asked.append(x)
        return victim.predict_proba(x)

    api = PredictionAPI(
        predict_proba, returns="label", input_shape=(D,), budget=200_000
    )
    theft = chapter.steal_by_labels(api, D, 0, box=box)
    x = np.vstack(asked)
    assert (x >= box[0]).all()
    assert (x <= box[1]).all()
    assert theft.complete
    rows = np.random.default_rng(3).uniform(*box, (50_000, D))
    said = victim.logits(rows).argmax(axis=1) == 1
    np.testing.assert_array_equal(theft.copy.log_ratios(rows) > 0, said)


@pytest.mark.parametrize("seed", [300, 301, 303])
def test_a_curve_does_not_cost_much(seed):
    """On these a line shows bend after bend, as far as it is searched."""
    victim = chapter.Other("tanh", seed).predict_proba
    end, queries, _ = chapter.outcome(victim, seed, budget=40_000)
    assert end != "complete"
    assert queries < 25_000


def test_an_owner_sells_no_network_that_knows_one_class(monkeypatch):
    class Unlucky(chapter.MLPClassifier):
        def predict(self, x):
            lucky = self.random_state >= 2000
            return super().predict(x) if lucky else np.zeros(len(x))

    monkeypatch.setattr(chapter, "MLPClassifier", Unlucky)
    model, rows = chapter.trained("breast_cancer", 8, 1)
    assert model.random_state == 2001
    assert len(rows) > 0
