"""The perturbations of ModelGuard's chapter, against second routes."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from mexutils import PredictionAPI, datasets, load_chapter

guard = load_chapter("frontier/model_guard")

SURE = np.array([[0.9, 0.06, 0.02, 0.012, 0.008]])
DISTANCES = [0.05, 0.4, 0.95, 1.0, 1.5, 2.0]


def answers(n, c, seed=0, sharp=0.3):
    return np.random.default_rng(seed).dirichlet(np.full(c, sharp), n)


def kinds(c):
    """Sure, unsure, nearly even, tied, even and certain answers."""
    tied = np.zeros(c)
    tied[:2] = 0.5
    rows = [answers(8, c, 1, sharp) for sharp in (0.05, 0.5, 5, 500)]
    return np.vstack([*rows, tied, np.full(c, 1 / c), np.eye(c)[c - 1]])


class Fixed(nn.Module):
    """A network whose logits are its rows, multiplied."""

    def __init__(self, weights):
        super().__init__()
        self.layer = nn.Linear(*np.shape(weights)[::-1], bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor(weights))

    def forward(self, x):
        return self.layer(x)


def solved(cost, p, epsilon, margin=None):
    """The least cost of an answer, by mass that comes and mass that goes.

    The variables are what each class gains and what it gives.
    """
    c, one = len(p), np.eye(len(p))
    rows, ends = [np.ones(2 * c)], [epsilon]
    rows += list(np.hstack([-one, one]))  # no entry below 0
    ends += list(p)
    if margin is not None:
        k = p.argmax()
        for j in set(range(c)) - {k}:
            rows.append(np.r_[one[j] - one[k], one[k] - one[j]])
            ends.append(p[k] - p[j] - margin)
    balance = np.r_[np.ones(c), -np.ones(c)][None]
    found = linprog(np.r_[cost, -cost], rows, ends, balance, [0.0])
    assert found.status == 0
    return found.fun + cost @ p


def check_promises(sent, p, epsilon):
    assert sent.min() >= -1e-12
    np.testing.assert_allclose(sent.sum(1), 1, atol=1e-12)
    assert (np.abs(sent - p).sum(1) <= epsilon + 1e-9).all()


# --- gradient redirection -------------------------------------------------


@pytest.mark.parametrize(
    ("p", "sent"),
    [
        ([0.7, 0.2, 0.1], [0.45, 0.2, 0.35]),
        ([0.1, 0.2, 0.7], [0, 0.05, 0.95]),
    ],
)
def test_redirection_by_hand(p, sent):
    gains = np.array([[-1, 0.5, 2]])
    found = guard.redirected(np.array([p]), gains, 0.5)
    np.testing.assert_allclose(found, [sent], atol=1e-12)


@pytest.mark.parametrize("c", [2, 3, 6])
@pytest.mark.parametrize("epsilon", DISTANCES)
def test_redirection_gains_what_a_solver_finds(c, epsilon):
    p = kinds(c)
    gains = np.random.default_rng(c).normal(size=p.shape)
    before = p.copy()
    sent = guard.redirected(p, gains, epsilon)
    check_promises(sent, p, epsilon)
    best = [-solved(-g, row, epsilon) for g, row in zip(gains, p, strict=True)]
    np.testing.assert_allclose((gains * sent).sum(1), best, atol=1e-8)
    np.testing.assert_array_equal(p, before)


def log_gradients(model, row):
    """All parameters' gradients of every log-probability: (c, m)."""
    weights = list(model.parameters())
    return torch.stack(
        [
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(one, weights,
                                                          retain_graph=True)]
            )
            for one in model(row).log_softmax(1)[0]
        ]
    ).double().numpy()  # fmt: skip


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def centred(gains):
    return gains - gains.mean(-1, keepdims=True)


def test_opposing_is_the_gradients_own_product():
    """g = -G Gᵀ p, up to a number that all classes share."""
    model, x = network(), torch.randn(5, 6)
    p = answers(5, 4)
    found = guard.opposing(model, x.numpy(), p, "network")
    for row, one, g in zip(x, p, found, strict=True):
        full = log_gradients(model, row[None])
        np.testing.assert_allclose(
            centred(g), centred(-full @ full.T @ one), atol=1e-5
        )
    last = nn.Sequential(model[2])
    inside = model[:2](x).detach()
    found = guard.opposing(model, x.numpy(), p)
    for row, one, g in zip(inside, p, found, strict=True):
        full = log_gradients(last, row[None])
        wanted = centred(-full @ full.T @ one)
        scale = wanted.std() / centred(g).std()
        np.testing.assert_allclose(scale * centred(g), wanted, atol=1e-5)


def test_all_ones_sums_the_gradients():
    model, x = network(1), torch.randn(5, 6)
    found = guard.all_ones(model, x.numpy(), batch_size=2)
    wanted = [log_gradients(model, row[None]).sum(1) for row in x]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_redirection_raises_what_it_says():
    """The step of the answer that is sent goes farther along all ones."""
    model, x, p = network(2), torch.randn(6, 6).numpy(), answers(6, 4)
    sent = guard.GradientRedirection(model, guard.all_ones, 0.5)(x, p)
    gains = guard.all_ones(model, x)
    assert (((sent - p) * gains).sum(1) > 0).all()
    turned = guard.GradientRedirection(model, guard.opposing, 0.5)(x, p)
    gains = guard.opposing(model, x, p)
    assert (((turned - p) * gains).sum(1) > 0).all()


# --- ModelGuard-W ---------------------------------------------------------


@pytest.mark.parametrize(
    ("epsilon", "sent"),
    [
        (0.2, [0.80, 0.06, 0.02, 0.012, 0.108]),
        (0.9, [0.45, 0.06, 0.02, 0.0201, 0.4499]),
        (1.3, [0.25, 0.06, 0.1902, 0.2499, 0.2499]),
    ],
)
def test_guarded_by_hand(epsilon, sent):
    np.testing.assert_allclose(guard.guarded(SURE, epsilon), [sent], atol=1e-9)


@pytest.mark.parametrize("c", [2, 3, 5, 10])
@pytest.mark.parametrize("epsilon", DISTANCES)
def test_guarded_is_as_unlikely_as_a_solver_s_answer(c, epsilon):
    p = kinds(c)
    before, cost = p.copy(), np.log(p + guard.SMALL)
    sent = guard.ModelGuardW(epsilon)(None, p)
    check_promises(sent, p, epsilon)
    best = [
        solved(one, row, epsilon, guard.MARGIN)
        for one, row in zip(cost, p, strict=True)
    ]
    np.testing.assert_allclose((cost * sent).sum(1), best, atol=1e-7)
    np.testing.assert_array_equal(p, before)
    assert guard.by_solver(p[0], epsilon) == pytest.approx(best[0], abs=1e-7)


def test_guarded_beats_every_answer_of_a_grid():
    p, epsilon = np.array([[0.5, 0.3, 0.2]]), 0.6
    cost = np.log(p[0] + guard.SMALL)
    least = min(
        cost @ q
        for i, j in product(range(101), repeat=2)
        if i + j <= 100
        for q in [np.array([i, j, 100 - i - j]) / 100]
        if abs(q - p[0]).sum() <= epsilon and q[0] > q[1:].max()
    )
    assert guard.guarded(p, epsilon)[0] @ cost <= least


@pytest.mark.parametrize("c", [2, 10, 100])
def test_guarded_keeps_every_label_by_the_margin(c):
    p = kinds(c)
    for epsilon in DISTANCES:
        sent = guard.ModelGuardW(epsilon)(None, p)
        ahead = np.sort(sent, axis=1)
        np.testing.assert_array_equal(sent.argmax(1), p.argmax(1))
        assert (ahead[:, -1] - ahead[:, -2] >= guard.MARGIN - 1e-9).all()
        check_promises(sent, p, epsilon)


def test_a_row_is_answered_alike_in_any_company():
    p = answers(50, 7)
    alone = np.vstack([guard.guarded(row[None]) for row in p])
    np.testing.assert_allclose(guard.guarded(p), alone, atol=1e-12)


# --- ModelGuard-S ---------------------------------------------------------


def test_the_first_that_is_near_and_not_the_nearest():
    cells = guard.ModelGuardS(0.5, draws=0)
    old, new = [0.9, 0.1, 0], [0.6, 0.3, 0.1]
    between = [0.7, 0.25, 0.05]
    p = np.array([old, new, between])
    np.testing.assert_allclose(cells(None, p), [old, new, old])
    assert len(cells.cells[0]) == 2


@pytest.mark.parametrize("draws", [0, 1000])
@pytest.mark.parametrize("c", [2, 10, 100])
def test_many_truths_share_an_answer_that_stays(draws, c):
    tops = np.eye(c)[np.arange(400) % min(c, 5)]
    p = 0.6 * tops + 0.4 * answers(400, c, sharp=1)
    cells = guard.ModelGuardS(1.0, draws, seed=1)
    sent = cells(None, p)
    check_promises(sent, p, 1.0)
    np.testing.assert_array_equal(sent.argmax(1), p.argmax(1))
    different = len(np.unique(sent, axis=0))
    assert different == sum(map(len, cells.cells.values())) < len(p) / 2
    np.testing.assert_array_equal(cells(None, p), sent)
    again = guard.ModelGuardS(1.0, draws, seed=1)
    for row, one in zip(p, sent, strict=True):
        np.testing.assert_array_equal(again(None, row[None])[0], one)
    some = np.array([np.abs(one - p).sum(1).min() for one in sent])
    assert (some.max() == 0) == (draws == 0)  # draws hide the founder


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.5])
def test_a_founder_stays_within_the_distance_and_goes_far(epsilon):
    rng = np.random.default_rng(0)
    far = []
    for p in answers(40, 5, sharp=1):
        found = guard.founder(p, epsilon, 1000, rng)
        assert found.argmax() == p.argmax()
        far.append(np.abs(found - p).sum())
    assert max(far) <= epsilon
    assert max(far) > 0.8 * epsilon
    np.testing.assert_array_equal(guard.founder(p, 1, 0, rng), p)


def test_cells_of_a_label_are_farther_apart_than_epsilon_from_founders():
    p = answers(300, 5)
    cells = guard.ModelGuardS(0.4, draws=0)
    cells(None, p)
    for one in cells.cells.values():
        for i, founder in enumerate(one):
            assert all(abs(founder - old).sum() > 0.4 for old in one[:i])


def test_a_client_overhears_the_cells():
    p = answers(500, 6)
    owner = guard.ModelGuardS(seed=3)
    known = guard.overheard(owner(None, p))
    np.testing.assert_array_equal(known(None, p), owner(None, p))


# --- adaptive misinformation ----------------------------------------------


def test_strangers_are_misled_and_others_are_not():
    sharp, flat = 8 * np.eye(3), 3 * np.roll(np.eye(3), 1, axis=0)
    defense = guard.AdaptiveMisinformation(Fixed(sharp), Fixed(flat), 0.9)
    x = np.array([[1.0, 0, 0], [0.1, 0, 0]], dtype=np.float32)
    p = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]])
    sent = defense(x, p)
    np.testing.assert_allclose(sent[0], p[0], atol=1e-12)
    wrong = np.exp([0, 0.3, 0])
    np.testing.assert_allclose(sent[1], wrong / wrong.sum(), atol=1e-6)


def test_the_switch_is_a_sigmoid():
    even, flat = Fixed(np.zeros((2, 2))), Fixed(np.zeros((2, 2)))
    defense = guard.AdaptiveMisinformation(even, flat, 0.6, sharpness=5)
    sent = defense(np.ones((1, 2), np.float32), np.array([[1.0, 0]]))
    alpha = 1 / (1 + np.exp(5 * (0.5 - 0.6)))
    np.testing.assert_allclose(sent, [[1 - alpha / 2, alpha / 2]], atol=1e-6)


@pytest.fixture(scope="module")
def digits():
    return datasets.mnist().train


def test_the_misleading_network_avoids_the_truth(digits):
    x, y = digits.x[:1000], digits.y[:1000]
    net = guard.misled(x, y, 0, steps=60)
    p = guard.training.predict_proba(net, digits.x[1000:1500])
    true = p[np.arange(500), digits.y[1000:1500]]
    assert true.mean() < 0.03  # one in ten by chance


def test_outliers_become_unsure_and_the_model_stays(digits):
    model = guard.victims.mnist_lenet().model
    before = [w.clone() for w in model.state_dict().values()]
    x, y = digits.x[:500], digits.y[:500]
    outliers = guard.KNOCKOFF.blots(500, 0)
    net = guard.outlier_exposed(model, x, y, outliers, 0, steps=40)
    ask = guard.training.predict_proba
    strange = guard.KNOCKOFF.blots(300, 5)
    assert ask(net, strange).max(1).mean() < 0.6
    assert ask(model, strange).max(1).mean() > 0.7
    assert ask(net, digits.x[500:800]).max(1).mean() > 0.8
    after = model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# --- attackers ------------------------------------------------------------


def test_a_sure_answer_is_walked_back():
    p = answers(200, 10, sharp=0.03)
    p = p[p.max(1) > 0.97]
    assert len(p) > 20
    back = guard.undo_guard(guard.guarded(p))
    least = np.sort(p, axis=1)[:, :2].sum(1)  # what was least is forgotten
    assert (np.abs(back - p).sum(1) <= 2 * least + 1e-3).all()
    gains = np.random.default_rng(1).normal(size=p.shape)
    gains[np.arange(len(p)), p.argmax(1)] = -9  # the label gives
    for epsilon in (0.8, 0.95):
        sent = guard.redirected(p, gains, epsilon)
        back = guard.undo_redirection(sent, epsilon)
        np.testing.assert_allclose(back, p, atol=1e-12)


def test_walking_back_makes_probabilities():
    p = answers(300, 8, sharp=1.0)
    for undo in (guard.undo_guard, guard.undo_redirection):
        back = undo(p.copy())
        assert back.min() >= -1e-12
        np.testing.assert_allclose(back.sum(1), 1)


def test_posterior_mean_by_hand():
    clean = np.array([[0.8, 0.2], [0.6, 0.4], [0.4, 0.6], [0.9, 0.1]])
    seen = np.array([[0.7, 0.3], [0.701, 0.299], [0.499, 0.501], [0.95, 0.05]])
    heard = np.array([[0.7, 0.3], [0.501, 0.499], [0.2, 0.8]])
    found = guard.posterior_mean(heard, clean, seen)
    wanted = [[0.7, 0.3], [0.8, 0.2], [0.4, 0.6]]  # near; its label's nearest
    np.testing.assert_allclose(found, wanted)
    stranger = guard.posterior_mean(
        np.array([[0.3, 0.7]]), clean[:1], seen[:1]
    )
    np.testing.assert_allclose(stranger, clean[:1])


def test_a_learned_inverse_finds_the_way_back():
    clean = answers(4000, 4, sharp=0.5)
    seen = 0.5 * clean[:, [1, 2, 3, 0]] + 0.125
    network = guard.learned_inverse(clean, seen, 0)
    back = guard.training.predict_proba(network, seen[:500])
    off = np.abs(back - clean[:500]).sum(1).mean()
    assert off < 0.15 < np.abs(seen - clean).sum(1).mean()


def test_attackers_read_what_they_can():
    p = answers(60, 10)
    x = np.zeros((60, 1, 28, 28), np.float32)
    sent = guard.guarded(p)
    spare = {"ModelGuard-W": guard.ModelGuardW()}
    read = guard.readings("ModelGuard-W", x, sent, x, spare, guard.Copies(), 0)
    assert set(read) == {
        *("naive", "labels", "partial Bayes", "learned inverse"),
        "closed form",
    }
    for one in read.values():
        np.testing.assert_allclose(one.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(read["labels"].argmax(1), p.argmax(1))


def test_the_same_lesson_is_learnt_once():
    copies, x = guard.Copies(), np.zeros((8, 1, 28, 28), np.float32)
    one = copies(x, answers(8, 10), 0)
    assert copies(x.copy(), answers(8, 10), 0) is one
    assert copies(x, answers(8, 10), 1) is not one


def test_sifting_keeps_what_fits(digits):
    """Of 300 digits a third is answered with the next label."""
    x, y = digits.x[:300], digits.y[:300]
    lie = np.arange(300) % 3 == 0
    trusted = np.arange(300) >= 200
    lie &= ~trusted
    told = np.eye(10)[(y + lie) % 10]
    kept = guard.agreeing(x, told, trusted, 0)
    assert kept[trusted].all()
    assert kept[lie].mean() < 0.2
    assert kept[~lie & ~trusted].mean() > 0.6


def test_a_price_by_hand():
    clean = np.array([[0.9, 0.1], [0.6, 0.4]])
    sent = np.array([[0.8, 0.2], [0.4, 0.6]])
    found = guard.price(sent, clean)
    assert found["mean L1"] == pytest.approx(0.3)
    assert found["largest L1"] == pytest.approx(0.4)
    assert found["flips"] == 50


# --- behind the door ------------------------------------------------------


@pytest.mark.parametrize("c", [2, 5, 30])
def test_every_perturbation_stands_behind_an_api(c):
    model = Fixed(np.random.default_rng(c).normal(size=(c, 4)))
    ask = guard.training.predict_proba
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    for defense in (
        guard.ModelGuardW(),
        guard.ModelGuardS(),
        guard.GradientRedirection(model, guard.opposing),
        guard.GradientRedirection(model, guard.all_ones),
        guard.AdaptiveMisinformation(model, model, 0.5),
    ):
        api = PredictionAPI(lambda rows: ask(model, rows), defenses=[defense])
        first, again = api.query(x), api.query(x)
        np.testing.assert_array_equal(first, again)
        check_promises(first, ask(model, x), 2)


@pytest.mark.parametrize("epsilon", [0, -1, 2.1, np.nan, "1"])
def test_a_distance_that_is_none_is_refused(epsilon):
    for make in (
        guard.ModelGuardW,
        guard.ModelGuardS,
        lambda e: guard.GradientRedirection(None, guard.all_ones, e),
    ):
        with pytest.raises(ValueError, match="epsilon must be a number"):
            make(epsilon)


def test_a_distance_too_small_for_the_margin_is_refused():
    with pytest.raises(ValueError, match="epsilon must be a number from"):
        guard.ModelGuardW(0.01)(None, answers(3, 100))
    with pytest.raises(ValueError, match="draws must be a whole number"):
        guard.ModelGuardS(draws=-1)
