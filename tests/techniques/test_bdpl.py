"""BDPL, from its chapter, against hand values and second routes."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from mexutils import PredictionAPI, load_chapter

bdpl = load_chapter("defenses/bdpl")

W = np.array([1.0, -2.0, 0.5])
BIAS = 0.1


def plane(x):
    """Two-class probabilities of the plane W, BIAS."""
    high = 1 / (1 + np.exp(-(np.asarray(x, float) @ W + BIAS)))
    return np.column_stack([1 - high, high])


CORNERS = np.random.default_rng(3).normal(size=(4, 3))


def softmax_victim(x):
    """Four classes, linear scores."""
    scores = np.exp(2 * np.asarray(x, float) @ CORNERS.T)
    return scores / scores.sum(axis=1, keepdims=True)


def rows(n, seed=0, d=3):
    return np.random.default_rng(seed).uniform(-1, 1, (n, d))


def answers(layer, predict, x):
    return layer(x, predict(x)).argmax(1)


# --- the probability of truth ---------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "p"),
    [
        *((0.01, 0.53536), (0.05, 0.57905), (0.1, 0.61176)),
        *((0.5, 0.74745), (1, 0.83990), (2, 0.93635), (4, 0.99092)),
    ],
)
def test_probability_of_truth_on_known_values(epsilon, p):
    assert bdpl.truth_probability(epsilon) == pytest.approx(p, abs=5e-6)
    root = np.sqrt(np.exp(2 * epsilon) - 1) / (2 + 2 * np.exp(epsilon))
    assert bdpl.truth_probability(epsilon) == pytest.approx(0.5 + root)


def test_probability_of_truth_at_its_ends():
    assert bdpl.truth_probability(np.inf) == 1
    assert bdpl.truth_probability(2000, 10) == pytest.approx(1)
    assert bdpl.truth_probability(1e-12, 10) == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 2])
def test_the_odds_are_what_was_asked(epsilon, classes):
    p = bdpl.truth_probability(epsilon, classes)
    equal, unequal = bdpl.odds_by_enumeration(p, classes)
    least = (classes - 1) / (np.exp(epsilon) + classes - 2)
    assert equal == pytest.approx(np.exp(epsilon), rel=1e-10)
    assert unequal == pytest.approx(least, rel=1e-10)
    assert unequal >= np.exp(-epsilon) * (1 - 1e-10)


def test_the_layer_lies_as_often_as_it_should():
    x = np.tile([[0.05, 0.0, 0.0]], (40_000, 1))
    layer = bdpl.BDPL(plane, 0.2, 0.5, memory="none", key=1)
    true = np.mean(answers(layer, plane, x) == 1)
    assert true == pytest.approx(bdpl.truth_probability(0.5), abs=0.01)


# --- the zone -------------------------------------------------------------


def test_axis_probes_are_exact_for_a_plane():
    x = rows(3000)
    own = plane(x).argmax(1)
    found = bdpl.in_zone(plane, x, own, 0.2)
    np.testing.assert_array_equal(
        found, np.abs(x @ W + BIAS) < 0.2 * np.abs(W).max()
    )


def test_the_gradient_probe_is_exact_for_a_plane():
    x = rows(3000)

    def slope(x):
        return np.broadcast_to(W, x.shape)

    found = bdpl.in_zone(
        *(plane, x, plane(x).argmax(1), 0.2),
        partial(bdpl.along_gradient, slope),
    )
    inside = np.abs(x @ W + BIAS) < 0.2 * np.linalg.norm(W)
    np.testing.assert_array_equal(found, inside)


@pytest.mark.parametrize("at_once", [1, 7, 100_000])
def test_the_zone_is_the_one_of_all_probes_asked_singly(at_once):
    x = rows(200, 1)
    own = softmax_victim(x).argmax(1)
    expected = [
        any(
            softmax_victim((row + sign * 0.15 * axis)[None]).argmax() != label
            for axis in np.eye(3)
            for sign in (1, -1)
        )
        for row, label in zip(x, own, strict=True)
    ]
    found = bdpl.in_zone(softmax_victim, x, own, 0.15, at_once=at_once)
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.sum() < len(x)


def test_settled_rows_are_probed_no_more():
    asked = []

    def counted(x):
        asked.append(len(x))
        return plane(x)

    x = np.zeros((10, 3))  # all flip on the first axis
    found = bdpl.in_zone(counted, x, np.ones(10, int), 0.2, at_once=20)
    assert found.all() and sum(asked) == 20


def test_labels_serve_as_well_as_probabilities():
    x = rows(300)
    own = plane(x).argmax(1)
    np.testing.assert_array_equal(
        bdpl.in_zone(lambda x: plane(x).argmax(1), x, own, 0.2),
        bdpl.in_zone(plane, x, own, 0.2),
    )


def test_margin_gradient_by_finite_differences():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    model = model.float()
    x = rows(4, d=5)

    def margin(x):
        with torch.no_grad():
            top = model(torch.as_tensor(x, dtype=torch.float32)).topk(2).values
        return (top[:, 0] - top[:, 1]).double().numpy()

    slope = bdpl.margin_gradient(model, x)
    for i, axis in enumerate(1e-2 * np.eye(5)):
        numeric = (margin(x + axis) - margin(x - axis)) / 2e-2
        np.testing.assert_allclose(slope[:, i], numeric, atol=2e-3)


def test_the_search_stays_within_its_distance():
    x = rows(500)
    own = plane(x).argmax(1)
    found = bdpl.searched_zone(
        plane, lambda x: np.where(own[:, None] == 1, W, -W), x, own, 0.2
    )
    inside = np.abs(x @ W + BIAS) < 0.2 * np.linalg.norm(W)
    np.testing.assert_array_equal(found, inside)


# --- the memory -----------------------------------------------------------


def sensitive_rows(n, seed=0):
    x = rows(4000, seed)
    return x[np.abs(x @ W + BIAS) < 0.2][:n]


@pytest.mark.parametrize("memory", ["cache", "coins", "grid"])
@pytest.mark.parametrize("predict", [plane, softmax_victim])
def test_batches_repeats_and_order_change_nothing(memory, predict):
    layer = bdpl.BDPL(predict, 0.2, 0.1, memory, key=5)
    x = np.append(sensitive_rows(60), rows(60, 2), axis=0)
    first = answers(layer, predict, x)
    single = [answers(layer, predict, row[None])[0] for row in x]
    np.testing.assert_array_equal(first, single)
    np.testing.assert_array_equal(
        first[::-1], answers(layer, predict, x[::-1])
    )
    again = bdpl.BDPL(predict, 0.2, 0.1, memory, key=5)
    np.testing.assert_array_equal(first, answers(again, predict, x))
    other = bdpl.BDPL(predict, 0.2, 0.1, memory, key=6)
    assert (first != answers(other, predict, x)).any()


KEYS = [*range(40), *(2**k for k in range(6, 128, 11)), 2**128 - 1]


def test_every_bit_of_the_key_counts():
    """A key of few values would let a client try them all."""
    x = sensitive_rows(300)
    told = [
        answers(bdpl.BDPL(plane, 0.2, 0.1, "cache", key=key), plane, x)
        for key in KEYS
    ]
    assert len(np.unique(told, axis=0)) == len(KEYS)


def test_where_the_cells_lie_is_a_secret():
    """Each key shifts the grid its own way, anywhere within a cell."""
    x = np.zeros((1, 3))
    layers = [bdpl.BDPL(plane, 0.2, 0.1, "grid", key=key) for key in KEYS]
    places = np.concatenate([layer.places(x) for layer in layers])
    assert len(np.unique(places, axis=0)) == len(KEYS)
    half = layers[0].cell / 2
    assert np.abs(places).max() <= half
    assert (np.ptp(places, axis=0) > 1.6 * half).all()


def test_the_place_is_the_centre_of_the_nearest_cell():
    layer, x = bdpl.BDPL(plane, 0.2, 0.1, "grid", key=4), rows(500)
    assert layer.cell == pytest.approx(0.16)
    off = layer.places(x) - x
    assert np.abs(off).max() <= 0.08 + 1e-12
    steps = (layer.places(x) - layer.places(x[:1])) / 0.16
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)


def majority(memory, shift):
    layer = bdpl.BDPL(plane, 0.2, 0.5, memory, key=2)
    x, rng = sensitive_rows(300), np.random.default_rng(0)
    x = x[np.abs(x @ W + BIAS) > 0.005]
    votes = sum(
        answers(layer, plane, x + shift * rng.uniform(-1, 1, x.shape))
        for _ in range(41)
    )
    return np.mean((votes > 20) == plane(x).argmax(1))


def test_a_shift_defeats_the_cache_and_not_the_grid():
    assert majority("none", 0) > 0.98
    assert majority("cache", 0) < 0.82
    assert majority("cache", 1e-3) > 0.98
    assert majority("coins", 1e-3) < 0.82
    assert majority("grid", 1e-3) < 0.82


def test_within_a_cell_the_grid_has_one_answer_and_a_coin_shows_the_side():
    grid = bdpl.BDPL(plane, 0.2, 0.1, "grid", key=4)
    coins = bdpl.BDPL(plane, 0.2, 0.1, "coins", key=4)
    centre = grid.places(sensitive_rows(1))
    x = centre + 0.49 * grid.cell * rows(300, 7)
    np.testing.assert_allclose(grid.places(x), np.repeat(centre, 300, 0))
    own = plane(x).argmax(1)
    near = bdpl.in_zone(plane, x, own, 0.2)
    assert len(np.unique(own[near])) == 2
    assert len(np.unique(answers(grid, plane, x)[near])) == 1
    lies = answers(coins, plane, x)[near] != own[near]
    assert lies.all() or not lies.any()


def test_keyed_numbers_are_even_and_belong_to_key_and_place():
    x = rows(20_000)
    numbers = bdpl.keyed_numbers(x, b"a")
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, 10, (0, 1))[0]
    assert np.abs(counts - 2000).max() < 220
    assert abs(np.corrcoef(numbers, bdpl.keyed_numbers(x, b"b"))[0, 1]) < 0.03
    np.testing.assert_array_equal(
        bdpl.keyed_numbers(np.zeros((1, 3)), b"a"),
        bdpl.keyed_numbers(-np.zeros((1, 3)), b"a"),
    )


# --- the layer ------------------------------------------------------------


@pytest.mark.parametrize("memory", bdpl.MEMORIES)
def test_far_rows_get_the_truth_and_all_answers_are_one_hot(memory):
    x = rows(500)
    layer = bdpl.BDPL(softmax_victim, 0.1, 0.01, memory)
    own = softmax_victim(x)
    told = layer(x, own)
    assert set(np.unique(told)) == {0.0, 1.0}
    np.testing.assert_array_equal(told.sum(1), 1)
    near = bdpl.in_zone(softmax_victim, x, own.argmax(1), 0.1)
    np.testing.assert_array_equal(told.argmax(1)[~near], own.argmax(1)[~near])
    assert (told.argmax(1) != own.argmax(1)).any()


def test_with_many_classes_the_lie_is_the_runner_up():
    x = rows(500)
    own = softmax_victim(x)
    told = bdpl.BDPL(softmax_victim, 0.2, 0.01, "cache")(x, own).argmax(1)
    second = np.argsort(own, axis=1)[:, -2]
    lies = told != own.argmax(1)
    assert lies.any()
    np.testing.assert_array_equal(told[lies], second[lies])


def test_an_infinite_budget_never_lies():
    x = rows(500)
    told = answers(bdpl.BDPL(plane, 0.2, np.inf, "cache"), plane, x)
    np.testing.assert_array_equal(told, plane(x).argmax(1))


def test_behind_an_api_pictures_and_single_precision():
    def pictures(x):
        return plane(x.reshape(len(x), -1)[:, :3])

    layer = bdpl.BDPL(pictures, 0.2, 0.1)
    api = PredictionAPI(pictures, returns="label", defenses=[layer])
    x = rows(50, d=4).reshape(50, 1, 2, 2).astype(np.float32)
    np.testing.assert_array_equal(api.query(x), api.query(x))
    assert api.ledger.queries == 100  # the probes are the owner's


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"predict": None}, "function"),
        ({"delta": 0}, "above 0"),
        ({"delta": np.nan}, "above 0"),
        ({"epsilon": 0}, "above 0"),
        ({"epsilon": np.nan}, "above 0"),
        ({"memory": "disk"}, "cache"),
        ({"key": -1}, "randbits"),
        ({"key": 2**128}, "randbits"),
        ({"key": 0.5}, "randbits"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(change, word):
    arguments = {"predict": plane, "delta": 0.1, "epsilon": 1.0} | change
    with pytest.raises(ValueError, match=word):
        bdpl.BDPL(**arguments)


@pytest.mark.parametrize(
    ("x", "own"),
    [
        (rows(3), plane(rows(4))),
        (rows(3), plane(rows(3)).argmax(1)),
        (rows(3)[0], plane(rows(3))),
        (np.full((3, 3), np.nan), plane(rows(3))),
        (rows(3), np.full((3, 2), np.nan)),
    ],
)
def test_rows_that_do_not_fit_are_refused(x, own):
    with pytest.raises(ValueError, match="rows"):
        bdpl.BDPL(plane, 0.1, 1.0)(x, own)


def test_too_few_classes_are_refused():
    with pytest.raises(ValueError, match="classes"):
        bdpl.truth_probability(1.0, 1)


# --- what the chapter measures with ---------------------------------------


def test_edges_of_an_honest_api_lie_on_the_plane():
    victim = bdpl.PlaneVictim(0)
    ends = bdpl.edges(victim.sell(), victim.d, 20, 30, 0)
    assert np.abs(victim.distance(ends)).max() < 1e-7


def test_walking_from_afar_finds_an_honest_plane():
    victim = bdpl.PlaneVictim(0)
    found, spent = bdpl.walk_and_average(victim, 20, 0)
    assert victim.angle(found) < 0.5
    assert spent < 600


def test_likelihood_ratios_on_hand_values():
    first = np.array([0, 0, 0, 1])
    same = np.array([0, 0, 0, 0])
    other = np.array([1, 1, 0, 0])
    equal, unequal = bdpl.likelihood_ratios(first, same, other)
    assert (equal, unequal) == (pytest.approx(3), pytest.approx(1 / 3))


def test_a_loss_is_before_minus_after():
    before, after = ([{"rate": r} for r in rs] for rs in ((90, 80), (70, 70)))
    assert bdpl.loss_of(before, after, "rate").mean == pytest.approx(15)
    with pytest.raises(ValueError, match="paired"):
        bdpl.loss_of(before, after[:1], "rate")


# --- the edge of the zone, and what is made of it ---------------------------

UNIT = np.append(W, BIAS) / np.linalg.norm(W)
HALF = 0.2 * np.abs(W).max() / np.linalg.norm(W)  # of the zone of axis probes


def sold(memory="grid", epsilon=0.1, key=1, layer=bdpl.BDPL, **options):
    """The plane behind an API of labels, with a layer of delta 0.2."""
    layer = layer(plane, 0.2, epsilon, memory=memory, key=key, **options)
    return PredictionAPI(plane, returns="label", defenses=[layer])


def test_a_zone_of_many_widths_is_that_of_each():
    x, widths = rows(400), np.random.default_rng(1).uniform(0.05, 0.4, 400)
    own = plane(x).argmax(1)
    found = bdpl.in_zone(plane, x, own, widths, at_once=300)
    np.testing.assert_array_equal(
        found, np.abs(x @ W + BIAS) < widths * np.abs(W).max()
    )


def test_ends_on_sides_of_cells_are_told_from_others():
    def label(x):  # a side of a cell up to 0, a slope behind it
        side, slope = x[:, 0] > 0.2, x @ W > 0
        return np.where(x[:, 1] < 0, side, slope).astype(int)

    ends = np.array([[0.2, -0.5, 0.1], [0.8, 0.4, 0.0]])
    own = label(ends)
    assert bdpl.not_on_a_side(label, ends, own, 1e-3).tolist() == [1]
    assert len(bdpl.not_on_a_side(label, ends[:0], own[:0], 1e-3)) == 0


@pytest.mark.parametrize("swap", [False, True])
def test_a_tangent_plane_is_the_plane_and_points_to_label_1(swap):
    def label(x):
        return plane(x).argmax(1)

    one, other = np.array([[0.5, -0.5, 0.2], [-0.5, 0.5, -0.1]])
    if swap:
        one, other = other, one
    own = label(one[None])
    a, b, *_ = bdpl.BYLABEL.bisect_pairs(
        label, one[None], other[None], own, 14
    )
    found = bdpl.tangent_plane(label, a[0], b[0], own[0])
    np.testing.assert_allclose(found, UNIT, atol=1e-9)


def test_there_is_no_tangent_plane_at_a_corner():
    def label(x):
        return ((x[:, 0] > 0) & (x[:, 1] > 0)).astype(int)

    one, other = np.array([[1e-5, 1e-5, 0], [-1e-5, -2e-5, 0]])
    assert bdpl.tangent_plane(label, one, other, 1) is None


def test_the_middle_of_edges_by_hand():
    axis, other = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    planes = [np.append(axis, b) for b in (-1.5, -1.0, 0.4, 0.5)]
    planes.insert(1, np.append(other, 9.0))
    np.testing.assert_allclose(bdpl.middle_of_edges(planes), [1, 0, 0, -0.3])
    assert bdpl.middle_of_edges(planes[:1]) is None
    assert bdpl.middle_of_edges([planes[0]] * 3) is None


@pytest.mark.parametrize("epsilon", [0.01, 0.5])
@pytest.mark.parametrize("key", [1, 2])
def test_the_edges_of_a_grid_give_the_plane_away(key, epsilon):
    api = sold("grid", epsilon, key)
    found = bdpl.steal_by_edges(api, 3, seed=key)
    np.testing.assert_allclose(found, UNIT, atol=1e-7)
    assert api.ledger.queries < 6000


def test_without_a_zone_there_are_no_two_edges():
    api = PredictionAPI(plane, returns="label")
    with pytest.raises(RuntimeError, match="no two parallel edges"):
        bdpl.steal_by_edges(api, 3, batches=2)


@pytest.mark.parametrize(
    ("before", "behind"), [(0, 0.4), (0.4, 0.6), (0.1, 1)]
)
def test_noise_is_searched_to_the_last_digit(before, behind):
    for seed, place in enumerate((0.1234, 0.5, 0.987)):
        rng = np.random.default_rng(seed)

        def differs(t, place=place, rng=rng):
            return rng.random() < (before if t < place else behind)

        found = bdpl.noisy_bisection(differs, before, behind)
        assert found == pytest.approx(place, abs=1e-10)


def test_where_nothing_changes_nothing_is_found():
    assert bdpl.noisy_bisection(lambda t: True, 0, 0.4) is None
    assert bdpl.noisy_bisection(lambda t: False, 0.1, 0.9) is None
    assert bdpl.noisy_bisection(lambda t: t > 0.5, 0.4, 0.6, most=5) is None


@pytest.mark.parametrize("edge", [True, False])
def test_points_behind_a_cache_lie_where_they_should(edge):
    p = bdpl.truth_probability(0.5)
    odds = (0, 1 - p) if edge else (1 - p, p)
    points, own = bdpl.points_by_noise(sold("cache", 0.5), 3, 4, odds)
    assert points.shape == (4, 3) and len(own) == 4
    distance = points @ UNIT[:3] + UNIT[3]
    wanted = np.where(own == 1, HALF, -HALF) if edge else 0
    np.testing.assert_allclose(distance, wanted, atol=1e-9)


def test_a_plane_through_points_and_amid_edges():
    x = rows(4)
    foot = x - np.outer(x @ UNIT[:3] + UNIT[3], UNIT[:3])
    own = np.array([0, 1, 1, 0])
    for edge, points in (
        (False, foot[:3]),
        (True, foot + np.outer(np.where(own == 1, 0.3, -0.3), UNIT[:3])),
    ):
        found = bdpl.plane_of_points(points, own[: len(points)], edge)
        np.testing.assert_allclose(found * np.sign(found[0]), UNIT, atol=1e-12)


@pytest.mark.parametrize("edge", [True, False])
def test_the_noise_of_a_cache_gives_the_plane_away(edge):
    p = bdpl.truth_probability(0.5)
    found = bdpl.steal_by_noise(sold("cache", 0.5), 3, p, edge=edge)
    np.testing.assert_allclose(found, UNIT, atol=1e-8)


def test_where_all_labels_are_one_no_point_is_found():
    api = PredictionAPI(lambda x: np.eye(2)[[0] * len(x)], returns="label")
    with pytest.raises(RuntimeError, match="labels hardly differ"):
        bdpl.points_by_noise(api, 3, 1, (0.0, 0.4))


# --- soft edges --------------------------------------------------------------


def test_an_edge_without_reach_is_the_hard_one():
    x = rows(800)
    hard = bdpl.BDPL(plane, 0.2, 0.1, "grid", key=3)
    soft = bdpl.SoftEdge(plane, 0.2, 0.1, "grid", key=3, reach=1)
    np.testing.assert_array_equal(hard(x, plane(x)), soft(x, plane(x)))


def test_lies_become_rare_between_delta_and_reach():
    x = rows(60_000)
    layer = bdpl.SoftEdge(plane, 0.2, 0.01, "cache", key=3, reach=3)
    lie = answers(layer, plane, x) != plane(x).argmax(1)
    depth = np.abs(x @ W + BIAS) / (0.2 * np.abs(W).max())
    q = 1 - bdpl.truth_probability(0.01)
    for low, high, share in ((0, 1, 1), (1, 2, 0.75), (2, 3, 0.25)):
        found = lie[(low < depth) & (depth < high)].mean()
        assert found == pytest.approx(share * q, abs=0.015)
    assert not lie[depth > 3].any()


@pytest.mark.parametrize("reach", [1, 2])
def test_where_cells_decide_a_cell_has_one_answer(reach):
    layer = bdpl.SoftEdge(*(plane, 0.2, 0.1), key=5, reach=reach, by_cell=True)
    x = rows(4000)
    centres, cell = np.unique(
        layer.places(x).round(9), axis=0, return_inverse=True
    )
    told = answers(layer, plane, x)
    shared = np.bincount(cell, weights=told) / np.bincount(cell)
    assert set(np.unique(shared)) == {0.0, 1.0}
    depth = np.abs(centres @ W + BIAS) / (0.2 * np.abs(W).max())
    wrong = shared != plane(centres).argmax(1)
    assert wrong[depth < 1].any() and not wrong[depth > reach].any()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"reach": 0.5}, "reach"),
        ({"memory": "none"}, "cache"),
        ({"memory": "cache", "by_cell": True}, "grid"),
    ],
)
def test_a_soft_edge_that_cannot_be_is_refused(change, word):
    with pytest.raises(ValueError, match=word):
        bdpl.SoftEdge(plane, 0.2, 0.1, **change)


def test_the_chance_of_an_answer_is_the_share_of_it():
    layer = bdpl.SoftEdge(plane, 0.2, 0.1, "cache", key=3, reach=2)
    for depth in (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5):
        x = np.zeros((6000, 3))
        x[:, 1] = np.arange(6000) * 1e-9 - 0.5
        x[:, 0] = depth * 0.2 * 2 - BIAS - x @ W
        one = bdpl.chance_of_one(UNIT[None], x[:1], 0.2, layer.p, 2.0)[0, 0]
        assert answers(layer, plane, x).mean() == pytest.approx(one, abs=0.03)


@pytest.mark.parametrize("reach", [1.0, 2.0])
def test_bits_of_cells_lead_close_to_the_plane(reach):
    victim = bdpl.PlaneVictim(1, dims=3)
    layer = bdpl.SoftEdge(
        *(victim.predict_proba, 1 / 8, 0.1), key=2, reach=reach, by_cell=True
    )
    api = victim.sell(layer, budget=1500)
    found = bdpl.steal_from_cells(api, layer, victim.d, 0, budget=1500)
    assert bdpl.scores(victim, found)["uniform"] > 98
    assert api.ledger.queries == 1500


def test_a_network_victim_answers_as_its_model_does():
    victim = bdpl.NetworkVictim(0)
    x = rows(200, d=3)
    np.testing.assert_allclose(
        victim.predict_proba(x), victim.model.predict_proba(x), atol=1e-12
    )
    step = 1e-6
    slope = [
        victim.predict_proba(x + step * a)[:, 1]
        - victim.predict_proba(x - step * a)[:, 1]
        for a in np.eye(3)
    ]
    p = victim.predict_proba(x)[:, 1]
    steep = np.linalg.norm(slope, axis=0) / (2 * step) / (p * (1 - p))
    np.testing.assert_allclose(
        victim.distance(x), np.log(p / (1 - p)) / steep, rtol=1e-3
    )


def test_the_rows_that_are_disputed_most_are_asked():
    planes = np.array([[1.0, 0, 0, 0.05], [1.0, 0, 0, -0.05]])
    x = np.zeros((9, 3))
    x[:, 0] = [-0.9, -0.04, 0.3, 0.01, -0.2, 0.03, 0.6, -0.02, 0.1]
    rng = np.random.default_rng(0)
    asked = bdpl.most_disputed(planes, x, 2, rng, 1e-3, 0.6, 1.0)
    assert asked.shape == (2, 3) and np.abs(asked[:, 0]).max() < 0.05
