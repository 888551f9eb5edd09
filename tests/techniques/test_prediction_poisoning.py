"""Prediction poisoning, from its chapter, against second routes."""

from itertools import combinations

import numpy as np
import pytest
import torch
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


@pytest.mark.parametrize("epsilon", [0.4, 0.95])
def test_recovery_finds_the_answers(epsilon):
    surrogate, rng = Linear(10), np.random.default_rng(0)
    x = rng.normal(size=(300, 10)).astype(np.float32)
    p = answers(300, 10, 7, 0.15)
    mad = poisoning.MAD(surrogate, epsilon)
    sent = mad(x, p)
    known = poisoning.recover(sent, epsilon, mad=mad, x=x)
    reached = np.abs(sent - p).sum(1) > epsilon - 1e-9
    right = np.abs(known - p).sum(1) < 1e-5
    assert right[reached].mean() > (0.97 if epsilon > 2 / 3 else 0.9)
    before, possible = poisoning.preimages(sent, epsilon)
    target = mad.corners(x, p).argmax(1)
    rows = np.flatnonzero(reached)
    assert possible[rows, target[rows]].all()
    np.testing.assert_allclose(before[rows, target[rows]], p[rows], atol=1e-6)
    if epsilon > 2 / 3:
        assert possible.sum(1).max() <= 2
        unknown = poisoning.recover(sent, epsilon)
        assert (unknown.argmax(1) == p.argmax(1))[reached].mean() > 0.9


@pytest.mark.parametrize(("label", "target"), [(3, 8), (8, 3)])
def test_recovery_takes_the_more_confident_of_two_preimages(label, target):
    """The class that comes first is right for one order and not the other."""
    p = np.full((1, 10), 0.03 / 9)
    p[0, label] = 0.97
    sent = poisoning.walk(p, np.eye(10)[[target]], 0.95)
    before, possible = poisoning.preimages(sent, 0.95)
    assert possible[0].nonzero()[0].tolist() == [3, 8]
    assert before[0, label].max() < 0.96
    found = poisoning.recover(sent, 0.95)
    np.testing.assert_allclose(found, p, atol=1e-6)


def test_recovery_leaves_what_cannot_have_been_moved():
    p = np.array([[0.3, 0.3, 0.4], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(poisoning.recover(p, 0.9), p)


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


def test_a_remembering_victim_is_asked_once():
    class Counting:
        input_shape, calls = (3,), 0

        def predict_proba(self, x):
            self.calls += 1
            return answers(len(x), 3)

    counting = Counting()
    victim = poisoning.Remembering(counting)
    x = np.random.default_rng(0).normal(size=(4, 3))
    first = victim.predict_proba(x)
    np.testing.assert_array_equal(victim.predict_proba(x.copy()), first)
    assert counting.calls == 1
    victim.predict_proba(x + 1)
    assert counting.calls == 2
