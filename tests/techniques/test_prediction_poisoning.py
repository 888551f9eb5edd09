"""Prediction poisoning, from its chapter, against second routes."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from mexutils import PredictionAPI, load_chapter

poisoning = load_chapter("defenses/prediction_poisoning")

P = np.array([[0.7, 0.2, 0.1]])
VECTORS = [  # surrogate, H of the certain answers, best class, alpha, answer
    (
        (1 / 3, 1 / 3, 1 / 3),
        (0.02434, 2.71842, 3.25724),
        2,
        (0.50556, 0.14444, 0.35),
    ),
    ((0.2, 0.5, 0.3), (0.00081, 3.0, 2.33062), 1, (0.48125, 0.45, 0.06875)),
    ((0.2, 0.3, 0.5), (0.03604, 1.89517, 3.35169), 2, None),
]


class Linear(nn.Module):
    """A surrogate for tests: softmax(x W) on rows of c numbers."""

    def __init__(self, c, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(c, c)

    def forward(self, x):
        return self.layer(x)


def small_net():
    """Convolutions with stride, padding and dilation, one without bias."""
    torch.manual_seed(1)
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2)),
        *(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3, stride=2, bias=False)),
        *(nn.Tanh(), nn.Conv2d(4, 2, 2, dilation=2), nn.Flatten()),
        *(nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 5, bias=False)),
    ).double()


def answers(n, c, seed=0, sharp=0.3):
    return np.random.default_rng(seed).dirichlet(np.full(c, sharp), n)


@pytest.mark.parametrize(("view", "h", "best", "answer"), VECTORS)
def test_published_arithmetic(view, h, best, answer):
    found = poisoning.deviation(np.eye(3), P, np.array([view]))
    np.testing.assert_allclose(found, [h], atol=1e-5)
    corner = poisoning.best_corner(P, False, np.array([view]))
    assert corner.argmax() == best
    if answer is not None:
        sent = poisoning.walk(P, corner, 0.5)
        np.testing.assert_allclose(sent, [answer], atol=1e-5)


def direction(model, x, target):
    """The gradient that a target pushes, straight from the loss."""
    loss = -(target * model(x).log_softmax(1)).sum()
    grads = torch.autograd.grad(-loss, list(model.parameters()))
    return torch.cat([g.flatten() for g in grads]).numpy()


def test_deviation_is_that_of_the_loss_gradients():
    """H of whole-network gradients, from the loss itself."""
    model, rng = small_net(), np.random.default_rng(3)
    x = torch.tensor(rng.normal(size=(4, 1, 20, 20)))
    p, v = answers(4, 5, 4), answers(4, 5, 5)
    logits, gram = poisoning.gram_matrix(model, x)
    view = logits.softmax(1).numpy()
    found = poisoning.deviation(v[:, None], p, view, gram.numpy())[:, 0]
    for i in range(4):
        unit = [
            d / np.linalg.norm(d)
            for d in (
                direction(model, x[i : i + 1], torch.tensor(target[i]))
                for target in (v, p)
            )
        ]
        expected = ((unit[0] - unit[1]) ** 2).sum()
        assert found[i] == pytest.approx(expected, abs=1e-9)


def test_gram_matrix_is_that_of_the_jacobian():
    model = small_net()
    x = torch.randn(6, 1, 20, 20, dtype=torch.float64)
    logits, gram = poisoning.gram_matrix(model, x)
    torch.testing.assert_close(logits, model(x).detach())
    one = torch.stack(
        [poisoning.per_class_autograd(model, r[None]) for r in x]
    )
    torch.testing.assert_close(gram, one, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        gram, poisoning.batched_autograd(model, x), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("places", [3, 12])
def test_both_orders_of_a_convolution_agree(places):
    """Few places take one order of multiplication, many the other."""
    torch.manual_seed(2)
    layer = nn.Conv2d(2, 3, 2).double()
    x = torch.randn(2, 2, places, places, dtype=torch.float64)
    slopes = torch.randn(2, 4, 3, places - 1, places - 1).double()
    found = poisoning.layer_gram(layer, x, slopes)
    u = nn.functional.unfold(x, 2)
    u = torch.cat([u, torch.ones_like(u[:, :1])], 1)
    full = torch.einsum("nios,nws->niow", slopes.flatten(3), u).flatten(2)
    torch.testing.assert_close(found, full @ full.mT)


def test_a_frozen_surrogate_gives_the_same_matrix():
    model = small_net()
    x = torch.randn(3, 1, 20, 20, dtype=torch.float64)
    _, before = poisoning.gram_matrix(model, x)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    _, after = poisoning.gram_matrix(model, x)
    torch.testing.assert_close(before, after)
    assert not any(m._forward_hooks for m in model.modules())


def test_closed_form_is_autograd_of_the_last_layer():
    model = small_net()
    x = torch.randn(6, 1, 20, 20, dtype=torch.float64)
    view = model(x).softmax(1).detach().numpy()
    gram = [poisoning.last_layer_autograd(model, row[None]) for row in x]
    p = answers(6, 5)
    np.testing.assert_allclose(
        poisoning.deviation(np.eye(5), p, view),
        poisoning.deviation(np.eye(5), p, view, torch.stack(gram).numpy()),
        atol=1e-5,
    )


def exhaustive(p, view, gram=None):
    """The best label-keeping corner of one row, set by set."""
    c, label = len(p), p.argmax()
    others = [j for j in range(c) if j != label]
    best, value = None, -1.0
    for size in range(c):
        for extra in combinations(others, size):
            corner = np.zeros(c)
            corner[[label, *extra]] = 1
            corner[label] += 1e-5
            corner /= corner.sum()
            own = None if gram is None else gram[None]
            h = poisoning.deviation(corner[None], p[None], view[None], own)
            if h[0, 0] > value + 1e-13:
                best, value = corner, h[0, 0]
    return best, value


@pytest.mark.parametrize("with_gram", [False, True])
def test_exact_corner_is_the_best_of_all(with_gram):
    c, n = 6, 12
    p, view = answers(n, c, 1), answers(n, c, 2, 1.0)
    root = np.random.default_rng(3).normal(size=(n, c, c))
    gram = root @ root.mT if with_gram else None
    found = poisoning.exact_corner(p, view, gram)
    for i in range(n):
        own = None if gram is None else gram[i]
        corner, value = exhaustive(p[i], view[i], own)
        h = poisoning.deviation(
            found[i][None],
            p[i : i + 1],
            view[i : i + 1],
            None if gram is None else gram[i : i + 1],
        )
        assert h[0, 0] == pytest.approx(value, abs=1e-12)
        np.testing.assert_allclose(found[i], corner, atol=1e-9)


def test_there_are_all_sets_with_the_label():
    sets = poisoning.sets_with(2, 5)
    assert sets.shape == (16, 5) and (sets[:, 2] == 1).all()
    assert len(np.unique(sets, axis=0)) == 16


def grow(p, view):
    """Greedy growth for one row, class by class, by its description."""
    c, label = len(p), p.argmax()
    chosen, trials = [label], 0

    def h(members):
        sets = np.zeros(c)
        sets[members] = 1
        corner = poisoning.even(sets, np.eye(c)[label])
        return poisoning.deviation(corner[None], p[None], view[None])[0, 0]

    best = h(chosen)
    while len(chosen) < c and trials < 1024:
        values = {j: h([*chosen, j]) for j in range(c) if j not in chosen}
        trials += len(values)
        chosen.append(max(values, key=values.get))
        best = max(best, values[chosen[-1]])
    return best


@pytest.mark.parametrize("c", [4, 12, 60])
def test_greedy_corner_grows_as_described(c):
    p, view = answers(3, c, 5), answers(3, c, 6, 1.0)
    found = poisoning.greedy_corner(p, view)
    for i in range(3):
        row = slice(i, i + 1)
        h = poisoning.deviation(found[row], p[row], view[row])[0, 0]
        assert h == pytest.approx(grow(p[i], view[i]), abs=1e-10)
        assert found[i].argmax() == p[i].argmax()


@pytest.mark.parametrize("c", [2, 3, 10, 14])
@pytest.mark.parametrize("norm", [1, 2])
@pytest.mark.parametrize("keep_label", [False, True])
def test_answers_stay_on_the_simplex_and_in_the_ball(c, norm, keep_label):
    surrogate = Linear(c)
    p = np.concatenate(
        [
            answers(60, c),
            answers(60, c, 1, 5.0),
            np.eye(c),
            answers(9, c, 2, 0.02),
        ]
    )
    x = np.random.default_rng(0).normal(size=(len(p), c)).astype(np.float32)
    for model in (surrogate, None):
        for epsilon in (0.01, 0.7, 1.3, 2.0):
            mad = poisoning.MAD(
                model, epsilon, keep_label=keep_label, norm=norm
            )
            sent = mad(x, p)
            assert sent.min() >= 0
            np.testing.assert_allclose(sent.sum(1), 1, atol=1e-12)
            far = np.linalg.norm(sent - p, ord=norm, axis=1)
            assert far.max() <= epsilon + 1e-6
            full = np.linalg.norm(mad.corners(x, p) - p, ord=norm, axis=1)
            np.testing.assert_allclose(
                far, np.minimum(full, epsilon), atol=1e-9
            )
            if keep_label:
                assert (sent.argmax(1) == p.argmax(1)).all()


def test_whole_network_through_the_api():
    torch.manual_seed(0)
    surrogate = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    mad = poisoning.MAD(surrogate, 0.6, gradients="network")
    x = np.random.default_rng(1).normal(size=(150, 4)).astype(np.float32)
    p = answers(150, 3)
    api = PredictionAPI(lambda rows: p[: len(rows)], defenses=[mad])
    sent = api.query(x)
    assert np.abs(sent - p).sum(1).max() <= 0.6 + 1e-6
    # a corner does not depend on how the rows are batched
    alone = np.concatenate(
        [mad.corners(x[i : i + 1], p[i : i + 1]) for i in range(150)]
    )
    np.testing.assert_array_equal(alone, mad.corners(x, p))


@pytest.mark.parametrize(("c", "keep_label"), [(5, 0), (5, 1), (12, 1)])
def test_gradients_of_the_network_are_those_of_all_its_layers(c, keep_label):
    """Corners by autograd's own matrices, and not those of one layer."""
    torch.manual_seed(3)
    surrogate = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, c))
    x = np.random.default_rng(4).normal(size=(60, 4)).astype(np.float32)
    p = answers(60, c, 5, 1.0)
    corners = {
        gradients: poisoning.MAD(
            surrogate, 1, gradients=gradients, keep_label=bool(keep_label)
        ).corners(x, p)
        for gradients in ("last layer", "network")
    }
    rows = torch.tensor(x)
    gram = torch.stack(
        [poisoning.per_class_autograd(surrogate, row[None]) for row in rows]
    )
    view = surrogate(rows).softmax(1).detach().double().numpy()
    search = poisoning.greedy_corner if c > 10 else poisoning.exact_corner
    if not keep_label:
        h = poisoning.deviation(np.eye(c), p, view, gram.double().numpy())
        expected = np.eye(c)[h.argmax(1)]
    else:
        expected = search(p, view, gram.double().numpy())
    reached = [
        poisoning.deviation(found[:, None], p, view, gram.double().numpy())
        for found in (corners["network"], expected, corners["last layer"])
    ]
    np.testing.assert_allclose(reached[0], reached[1], atol=1e-4)
    assert (reached[2] < reached[1] - 0.01).sum() > 3


def test_the_surrogate_decides_where_answers_go():
    x = np.random.default_rng(6).normal(size=(100, 4)).astype(np.float32)
    p = answers(100, 4, 8, 1.0)
    for keep_label in (False, True):
        one, other, none = (
            poisoning.MAD(model, 1, keep_label=keep_label).corners(x, p)
            for model in (Linear(4, 1), Linear(4, 2), None)
        )
        for corners in (other, none):
            assert (np.abs(one - corners).sum(1) > 0.5).sum() > 10


def test_epsilon_to_flip_is_where_the_label_flips():
    p = answers(200, 6, 3)
    corners = poisoning.best_corner(p, False, answers(200, 6, 4, 1.0))
    need = poisoning.epsilon_to_flip(p, corners)
    flips = np.isfinite(need) & (need > 1e-3)
    assert flips.sum() > 100
    for factor, changed in ((0.999, False), (1.001, True)):
        for i in np.flatnonzero(flips):
            row = slice(i, i + 1)
            sent = poisoning.walk(p[row], corners[row], factor * need[i])
            assert (sent.argmax() != p[i].argmax()) == changed


@pytest.mark.parametrize("c", [3, 10, 40])
def test_certain_answers_need_no_array_of_classes_by_classes(c):
    p, view = answers(80, c, 1), answers(80, c, 2, 0.5)
    view[:20] = np.eye(c)[np.arange(20) % c] * (1 - 1e-12) + 1e-12 / c
    p[20:30] = view[20:30]  # no direction at all
    view[30:40] = 0  # no surrogate
    found = poisoning.vertex_deviation(p, view)
    expected = poisoning.deviation(np.eye(c), p, view)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() > -1e-9 and found.max() < 4 + 1e-9


def largest_array(monkeypatch, mad, x, p):
    """Numbers in the largest set of candidates that are compared at once."""
    sizes = [0]
    plain = poisoning.deviation

    def spy(candidates, answers, *view):
        sizes.append(len(answers) * candidates.shape[-2] * p.shape[1])
        return plain(candidates, answers, *view)

    monkeypatch.setattr(poisoning, "deviation", spy)
    found = mad.corners(x, p)
    monkeypatch.undo()
    return max(sizes), found


@pytest.mark.parametrize("gradients", ["last layer", "network"])
@pytest.mark.parametrize("keep_label", [False, True])
def test_many_rows_are_treated_in_bounded_memory(
    monkeypatch, gradients, keep_label
):
    c, n = 30, 60
    surrogate, p = Linear(c), answers(n, c, 3)
    x = np.random.default_rng(4).normal(size=(n, c)).astype(np.float32)
    mad = poisoning.MAD(
        surrogate, 1, gradients=gradients, keep_label=keep_label
    )
    _, at_once = largest_array(monkeypatch, mad, x, p)
    most = 7 * c * c
    monkeypatch.setattr(poisoning, "MEMORY", 8 * poisoning.AT_ONCE * most)
    size, found = largest_array(monkeypatch, mad, x, p)
    assert size <= (most if gradients == "network" or keep_label else n * c)
    np.testing.assert_array_equal(found, at_once)


def test_a_thousand_classes_need_no_gigabytes(monkeypatch):
    p = answers(50, 1000, 0, 0.05)
    x = np.random.default_rng(1).random((50, 1000)).astype(np.float32)
    mad = poisoning.MAD(Linear(1000), 0.5)
    size, _ = largest_array(monkeypatch, mad, x, p)
    assert size <= p.size


def before_the_walk(sent, corner, epsilon):
    """One pre-image by a search for the share that was walked; the share."""

    def start(alpha):
        return (sent - alpha * corner) / (1 - alpha)

    def too_far(alpha):
        return alpha * np.abs(start(alpha) - corner).sum() - epsilon

    alpha = optimize.brentq(too_far, 0, 1 - 1e-9, xtol=1e-15)
    return start(alpha), alpha


@pytest.mark.parametrize("epsilon", [0.3, 0.95, 1.4])
def test_preimages_by_a_search_for_the_share(epsilon):
    rng = np.random.default_rng(5)
    p, corners = answers(20, 6, 6, 1.0), answers(20, 6, 7, 0.1)
    sent = poisoning.walk(p, corners, epsilon)
    before, possible = poisoning.preimages(sent, corners, epsilon)
    tried = 0
    for i, k in rng.integers(20, size=(200, 2)):
        if np.abs(sent[i] - corners[k]).sum() < 1e-3:
            continue
        found, alpha = before_the_walk(sent[i], corners[k], epsilon)
        assert possible[i, k] == ((1 - alpha) * found.min() >= -1e-6)
        if found.min() > 0:
            np.testing.assert_allclose(before[i, k], found, atol=1e-8)
            tried += 1
    short = np.abs(corners - p).sum(1) > epsilon + 1e-3
    rows = np.flatnonzero(short)
    assert tried > 5 and len(rows) > 3
    np.testing.assert_allclose(before[rows, rows], p[rows], atol=1e-9)


def by_trying(sent, corners, epsilon, keep_label):
    """The surest possible pre-image of one answer, corner by corner."""
    best, doubt = None, np.inf
    for corner in corners:
        if np.abs(sent - corner).sum() < 1e-6:
            continue
        found, alpha = before_the_walk(sent, corner, epsilon)
        if (1 - alpha) * found.min() < -1e-6:
            continue
        found = np.maximum(found, 1e-300)
        found /= found.sum()
        if keep_label and found.argmax() != sent.argmax():
            continue
        entropy = -(found * np.log(found)).sum()
        if entropy < doubt - 1e-12:
            best, doubt = found, entropy
    return best


@pytest.mark.parametrize("keep_label", [False, True])
@pytest.mark.parametrize("epsilon", [0.2, 0.95, 1.3])
def test_recovery_is_the_surest_of_all_corners(epsilon, keep_label):
    c, n = 6, 40
    p = answers(n, c, 7, 0.15)
    x = np.random.default_rng(0).normal(size=(n, c)).astype(np.float32)
    mad = poisoning.MAD(Linear(c), epsilon, keep_label=keep_label)
    sent = mad(x, p)
    found = poisoning.recover(sent, epsilon, keep_label=keep_label)
    for i in range(n):
        corners = np.eye(c)
        if keep_label:
            label = p[i].argmax()
            sets = poisoning.sets_with(label, c)
            corners = poisoning.even(sets, np.eye(c)[label])
        expected = by_trying(sent[i], corners, epsilon, keep_label)
        if expected is None:
            at = np.abs(corners - sent[i]).sum(1).min() < 1e-6
            expected = np.eye(c)[sent[i].argmax()] if at else sent[i]
        np.testing.assert_allclose(found[i], expected, atol=1e-6)


@pytest.mark.parametrize("keep_label", [False, True])
@pytest.mark.parametrize("epsilon", [0.2, 0.4, 0.95])
def test_recovery_finds_the_answers(epsilon, keep_label):
    surrogate, rng = Linear(10), np.random.default_rng(0)
    x = rng.normal(size=(300, 10)).astype(np.float32)
    p = answers(300, 10, 7, 0.15)
    mad = poisoning.MAD(surrogate, epsilon, keep_label=keep_label)
    sent = mad(x, p)
    short = np.abs(mad.corners(x, p) - p).sum(1) > epsilon
    assert short.mean() > 0.9
    knows = {"mad": mad, "x": x, "keep_label": keep_label}
    known = poisoning.recover(sent, epsilon, **knows)
    unknown = poisoning.recover(sent, epsilon, keep_label=keep_label)
    right = [(np.abs(b - p).sum(1) < 1e-6)[short] for b in (known, unknown)]
    least = 0.5 if keep_label else 0.95
    assert right[0].mean() > right[1].mean() > least
    # who knows the surrogate finds an answer that would be sent as this was
    again = mad(x, known)
    np.testing.assert_allclose(again[short], sent[short], atol=1e-6)


@pytest.mark.parametrize(("label", "target"), [(3, 8), (8, 3)])
def test_recovery_takes_the_surer_of_two_preimages(label, target):
    """The class that comes first is right for one order and not the other."""
    p = np.full((1, 10), 0.03 / 9)
    p[0, label] = 0.97
    sent = poisoning.walk(p, np.eye(10)[[target]], 0.95)
    _, possible = poisoning.preimages(sent, np.eye(10), 0.95)
    assert possible[0].nonzero()[0].tolist() == [3, 8]
    found = poisoning.recover(sent, 0.95)
    np.testing.assert_allclose(found, p, atol=1e-6)


def test_a_small_walk_is_recovered_by_entropy_and_not_by_confidence():
    """The largest number may be larger before a walk that was not taken."""
    p = np.array([[0.6, 0.399, 0.001]])
    sent = poisoning.walk(p, np.eye(3)[[2]], 0.2)
    before, possible = poisoning.preimages(sent, np.eye(3), 0.2)
    assert possible.all() and before[0, 1].max() > 0.62
    np.testing.assert_allclose(poisoning.recover(sent, 0.2), p, atol=1e-9)


def test_recovery_leaves_what_cannot_have_been_moved():
    p = np.array([[0.3, 0.3, 0.4], [0.0, 1.0, 0.0]])
    for how in ({}, {"mad": poisoning.MAD(Linear(3), 0.9), "x": p}):
        np.testing.assert_allclose(poisoning.recover(p, 0.9, **how), p)


def test_at_the_corner_the_label_is_all_that_is_recovered():
    p = answers(40, 10, 3)
    mad = poisoning.MAD(None, 2, keep_label=True)
    sent = mad(np.zeros((40, 1)), p)
    found = poisoning.recover(sent, 2, keep_label=True)
    np.testing.assert_array_equal(found, np.eye(10)[p.argmax(1)])


@pytest.mark.parametrize("c", [14, 60])
def test_many_classes_are_walked_back_by_runs_of_neighbours(c):
    surrogate, rng = Linear(c), np.random.default_rng(0)
    x = rng.normal(size=(40, c)).astype(np.float32)
    p = answers(40, c, 1, 0.05)
    mad = poisoning.MAD(surrogate, 1.5, keep_label=True)
    sent = mad(x, p)
    found = poisoning.recover(sent, 1.5, keep_label=True)
    off = np.abs(found - p).sum(1)
    assert (off < 1e-6).mean() > 0.7 and off.mean() < 0.2
    assert (found.argmax(1) == p.argmax(1)).all()


def test_the_corners_to_try_of_many_classes_are_runs_of_neighbours():
    c = 12
    q = answers(3, c, 2, 1.0)
    tried = poisoning.corners_to_try(q, 1.0, 1e-6, True) > 0
    assert tried.shape == (3, poisoning._how_many(c, 1.0, 1e-6, True), c)
    for row, sets in zip(q, tried, strict=True):
        first, *others = np.argsort(-row)
        runs = {frozenset([first])} | {
            frozenset([first, *others[i:j]])
            for i, j in combinations(range(c), 2)
        }
        assert {frozenset(np.flatnonzero(one)) for one in sets} == runs


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ({"mad": poisoning.MAD(None, 1, keep_label=True)}, "otherwise"),
        ({"mad": poisoning.MAD(None, 1), "keep_label": True}, "otherwise"),
        ({"mad": poisoning.MAD(None, 1, norm=2)}, "norm is 1"),
        ({"mad": poisoning.MAD(None, 1)}, "rows x"),
        ({"epsilon": 0}, "at most 2"),
    ],
)
def test_recovery_refuses_what_it_does_not_cover(how, word):
    with pytest.raises(ValueError, match=word):
        poisoning.recover(answers(4, 5), **{"epsilon": 1} | how)


def test_recovery_refuses_corners_without_number():
    with pytest.raises(ValueError, match="train on the labels"):
        poisoning.recover(answers(2, 1000), 1, keep_label=True)
    p = answers(5, 1000, 0, 0.05)
    sent = poisoning.MAD(None, 0.9)(np.zeros((5, 1)), p)
    np.testing.assert_allclose(poisoning.recover(sent, 0.9), p, atol=1e-9)


def test_a_customer_reads_in_a_way_of_its_own():
    api = PredictionAPI(lambda x: answers(len(x), 4))
    customer = poisoning.Reading(api, lambda a: a.argmax(1))
    x = np.zeros((6, 2))
    assert (customer.query(x) == answers(6, 4).argmax(1)).all()
    assert api.ledger.queries == 6


def test_a_random_corner_is_walked_to_and_not_always_the_same():
    p = answers(200, 5)
    sent = poisoning.random_corner(0.5, seed=0)(None, p)
    to = (sent - p).argmax(1)
    corners = np.eye(5)[to]
    np.testing.assert_allclose(sent, poisoning.walk(p, corners, 0.5))
    assert np.bincount(to, minlength=5).min() > 20


def test_projection_into_the_ball_is_the_nearest_point():
    rng = np.random.default_rng(0)
    rows = rng.exponential(size=(5, 4))
    found = poisoning.into_ball(rows, 1.5)
    assert (found >= 0).all() and (found.sum(1) <= 1.5 + 1e-12).all()
    inside = rng.dirichlet(np.ones(5), 40_000)[:, :4] * 1.5
    for row, near in zip(rows, found, strict=True):
        best = ((inside - row) ** 2).sum(1).min()
        assert ((near - row) ** 2).sum() <= best + 1e-9
    small = rows / rows.sum(1, keepdims=True)
    np.testing.assert_allclose(poisoning.into_ball(small, 1.5), small)


def test_random_noise_answers_probabilities():
    noise = poisoning.RandomNoise(3.0, seed=0)
    p = np.concatenate([answers(50, 10), np.eye(10)])
    sent = noise(None, p)
    assert sent.min() >= 0
    np.testing.assert_allclose(sent.sum(1), 1, atol=1e-12)
    assert np.abs(sent - p).sum(1).max() > 0.05


def test_random_noise_sums_to_its_radius_on_average(monkeypatch):
    drawn = []

    def spy(rows, radius):
        drawn.append(rows)
        assert radius == 60
        return rows

    monkeypatch.setattr(poisoning, "into_ball", spy)
    poisoning.RandomNoise(60, seed=1)(None, answers(2000, 10))
    (rows,) = drawn
    assert rows.min() >= 0 and 11.9 < rows.max() <= 12
    assert rows.sum(1).mean() == pytest.approx(60, rel=0.02)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"epsilon": 0}, "at most 2"),
        ({"epsilon": 2.1}, "at most 2"),
        ({"epsilon": float("nan")}, "at most 2"),
        ({"norm": 3}, "norm 1 or 2"),
        ({"gradients": "first layer"}, "last layer"),
        ({"surrogate": np.eye(3)}, "torch network"),
        ({"surrogate": None, "gradients": "network"}, "no gradients"),
        (
            {"surrogate": nn.BatchNorm1d(3), "gradients": "network"},
            "cannot be treated",
        ),
        (
            {
                "surrogate": nn.Conv2d(4, 4, 3, groups=2),
                "gradients": "network",
            },
            "cannot be treated",
        ),
    ],
)
def test_bad_settings_are_refused(change, word):
    settings = {"surrogate": Linear(3), "epsilon": 0.5} | change
    with pytest.raises(ValueError, match=word):
        poisoning.MAD(**settings)


def test_a_layer_used_twice_is_refused():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    with pytest.raises(ValueError, match="used twice"):
        poisoning.gram_matrix(model, torch.zeros(1, 3))
    assert not layer._forward_hooks


def test_a_surrogate_for_other_classes_bills_nothing():
    mad = poisoning.MAD(Linear(4), 0.5)
    api = PredictionAPI(lambda x: answers(len(x), 3), defenses=[mad])
    with pytest.raises(ValueError, match="as many classes"):
        api.query(np.zeros((2, 4), np.float32))
    assert api.ledger.queries == 0
    with pytest.raises(ValueError, match="above 0"):
        poisoning.RandomNoise(0, seed=0)
