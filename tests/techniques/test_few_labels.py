"""Few labels: scores, strategies, FixMatch and the bill, by second routes."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mexutils import (
    Accounts,
    BudgetExceeded,
    PredictionAPI,
    load_chapter,
    training,
)

chapter = load_chapter("frontier/few_labels")
quick = partial(chapter.active_thief, steps=2)


def stripes(x):
    """A victim of three classes: in which third of the width the ink is."""
    ink = np.stack([x[..., k : k + 9].sum((1, 2, 3)) for k in (0, 9, 18)], 1)
    return (ink + 0.1) / (ink + 0.1).sum(axis=1, keepdims=True)


def pictures(n, seed=0):
    """Noise, brighter in one third of the width."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 0.3, (n, 1, 28, 28))
    for i, third in enumerate(rng.integers(3, size=n)):
        x[i, :, :, 9 * third : 9 * third + 9] += 0.5
    return x.astype(np.float32)


POOL = pictures(120)


def sell(**options):
    return PredictionAPI(stripes, **({"returns": "label"} | options))


# --- scores -----------------------------------------------------------------


def test_entropy_by_hand():
    p = np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])
    quarter = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(chapter.entropy(p), [0, np.log(2), quarter])


def brute_force(points, centres, k):
    """Farthest first, every distance anew each time."""
    taken, centres = [], [tuple(c) for c in centres]
    for _ in range(k):
        best, number = -1.0, None
        for i, point in enumerate(points):
            if i in taken:
                continue
            away = min(
                (
                    sum((a - b) ** 2 for a, b in zip(point, c, strict=True))
                    for c in centres
                ),
                default=np.inf,
            )
            if away > best:
                best, number = away, i
        taken.append(number)
        centres.append(tuple(points[number]))
    return taken


@pytest.mark.parametrize("centres", [0, 1, 7, 120])
@pytest.mark.parametrize("seed", range(3))
def test_k_center_is_that_of_brute_force(centres, seed):
    rng = np.random.default_rng(seed)
    points, given = rng.normal(size=(25, 3)), rng.normal(size=(centres, 3))
    found = chapter.k_center(points, given, 9)
    assert list(found) == brute_force(points, given, 9)


def test_k_center_takes_equal_points_once_and_one_column():
    points = np.zeros((5, 1))
    assert sorted(chapter.k_center(points, points[:1], 5)) == list(range(5))
    line = np.array([[0.0], [4.0], [5.0], [9.0]])
    assert list(chapter.k_center(line, line[:1], 2)) == [3, 1]
    assert len(chapter.k_center(line, line[:1], 0)) == 0


@pytest.mark.parametrize("k", [6, -1, 2.5])
def test_k_center_refuses_what_it_cannot_take(k):
    with pytest.raises(ValueError, match="k"):
        chapter.k_center(np.zeros((5, 2)), np.zeros((1, 2)), k)


def test_k_center_of_no_points_is_an_error():
    with pytest.raises(ValueError, match="points must be rows"):
        chapter.k_center(np.zeros((0, 2)), np.zeros((1, 2)), 0)


def test_k_center_over_ten_thousand_is_quick():
    import time

    p = np.random.default_rng(0).dirichlet(np.ones(10), 11_000)
    started = time.process_time()
    chapter.k_center(p[:10_000], p[10_000:], 1000)
    assert time.process_time() - started < 4  # 2 s on a core of one's own


# --- DeepFool ---------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_deepfool_on_a_linear_model_is_the_closed_form(classes):
    torch.manual_seed(classes)
    model = nn.Linear(6, classes).double().float()
    x = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    w = model.weight.detach().numpy().astype(float)
    z = x @ w.T + model.bias.detach().numpy()
    exact = []
    for row in z:
        y = row.argmax()
        exact.append(
            min(
                (row[y] - row[j]) / np.linalg.norm(w[y] - w[j])
                for j in range(classes)
                if j != y
            )
        )
    found = chapter.deepfool(model, x, batch=17)
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_deepfool_s_first_step_is_that_of_autograd_row_by_row():
    torch.manual_seed(3)
    model = chapter.small_network(4).eval()
    x = torch.from_numpy(POOL[:5])
    z, slopes = chapter.logits_and_slopes(model, x)
    way = chapter.way_out(z, slopes, z.argmax(1))
    for i in range(5):
        jacobian = torch.autograd.functional.jacobian(
            lambda row: model(row[None])[0], x[i]
        ).flatten(1)
        y, best = int(z[i].argmax()), None
        for j in set(range(4)) - {y}:
            w, f = jacobian[j] - jacobian[y], float(z[i, j] - z[i, y])
            step = abs(f) / float(w.norm()) ** 2 * w
            if best is None or step.norm() < best.norm():
                best = step
        np.testing.assert_allclose(way[i], best, rtol=1e-3, atol=1e-6)


def test_deepfool_turns_the_label_where_it_says_so():
    """A curved model of two numbers, whose boundary is a circle."""

    class Circle(nn.Module):
        def forward(self, x):
            r = (x**2).sum(1)
            return torch.stack([r, 4 - r], dim=1)  # boundary: r = 2

    x = np.array([[1.35, 0], [0, 3], [1, 1.1]], np.float32)
    found = chapter.deepfool(Circle(), x, steps=20)
    exact = np.abs(np.linalg.norm(x, axis=1) - np.sqrt(2))
    np.testing.assert_allclose(found, exact, rtol=0.05)


def test_a_label_that_does_not_turn_is_infinitely_far():
    class Flat(nn.Module):
        def forward(self, x):
            return torch.cat([0 * x + 1, 0 * x], dim=1)

    far = chapter.deepfool(Flat(), np.ones((3, 1), np.float32))
    assert np.isinf(far).all()


# --- FixMatch ---------------------------------------------------------------


def test_fixmatch_s_loss_by_hand():
    weak = torch.tensor([[4.0, 0, 0], [0, 0, 1.0], [0, 9.0, 0]])
    strong = torch.tensor([[1.0, 2, 3], [1.0, 0, 0], [0, 0, 0]])
    sure = 1 / (1 + 2 * np.exp(-4))  # 0.965, 0.576 and 0.9998
    assert sure > 0.95
    first = -(1 - np.log(np.exp([1, 2, 3]).sum()))
    expected = (first + 0 + np.log(3)) / 3
    found = float(chapter.fixmatch_loss(weak, strong))
    assert found == pytest.approx(expected, rel=1e-5)
    stricter = float(chapter.fixmatch_loss(weak, strong, 0.99))
    assert stricter == pytest.approx(np.log(3) / 3, rel=1e-5)


def test_no_gradient_flows_through_the_guess():
    weak = torch.tensor([[4.0, 0]], requires_grad=True)
    strong = torch.tensor([[0.0, 0]], requires_grad=True)
    chapter.fixmatch_loss(weak, strong).backward()
    assert weak.grad is None
    np.testing.assert_allclose(strong.grad, [[-0.5, 0.5]])


def test_the_loss_of_a_step_is_the_sum_of_both():
    torch.manual_seed(0)
    model = chapter.small_network(3)
    for module in model.modules():  # so that both passes answer alike
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    x, y = torch.from_numpy(POOL[:4]), torch.tensor([0, 1, 2, 0])
    free = torch.from_numpy(POOL[4:20])
    how = chapter.Recipe(ratio=2, weight=3.0, threshold=0.0)
    rng = torch.Generator().manual_seed(5)
    found = chapter.loss_of(model, x, y, free, rng, how).item()
    rng = torch.Generator().manual_seed(5)
    rows = torch.randint(16, (8,), generator=rng)
    weak = model.eval()(chapter.victims.jitter(free[rows], rng))
    both = torch.cat([x, chapter.strong(free[rows], rng)])
    logits = model.train()(both)
    guess = F.cross_entropy(logits[4:], weak.argmax(1))
    expected = F.cross_entropy(logits[:4], y) + 3 * guess
    assert found == pytest.approx(expected.item(), rel=1e-4)


def test_strong_cuts_one_square_out_of_each_picture():
    rng = torch.Generator().manual_seed(1)
    seen = []
    for _ in range(20):
        out = chapter.strong(torch.ones(3, 1, 28, 28), rng)
        middle = out[:, 0, 9:19, 9:19]  # never emptied by the distortion
        seen += [int((row == 0).sum()) for row in middle]
        assert out.shape == (3, 1, 28, 28)
    assert max(seen) == chapter.CUT**2 and min(seen) < 40


def test_fixmatch_sees_the_labelled_batches_of_augmentation_alone(
    monkeypatch,
):
    batches = []
    plain = chapter.loss_of

    def spy(model, x, y, free, rng, how):
        batches.append((x.clone(), y.clone()))
        return plain(model, x, y, free, rng, how)

    monkeypatch.setitem(chapter.taught.__globals__, "loss_of", spy)
    labels = stripes(POOL).argmax(1)
    for free in (None, POOL[60:]):
        chapter.taught(POOL[:60], labels[:60], 4, free=free, steps=3)
    for first, second in zip(batches[:3], batches[3:], strict=True):
        assert all(map(torch.equal, first, second))


# --- copies -----------------------------------------------------------------


def test_a_copy_learns():
    labels = stripes(POOL).argmax(1)
    model = chapter.taught(POOL, labels, 0, steps=40)
    new = pictures(100, 9)
    said = training.predict_proba(model, new).argmax(1)
    assert (said == stripes(new).argmax(1)).mean() > 0.8


def test_the_held_rows_choose_the_best_state(monkeypatch):
    marks = iter([0.2, 0.9, 0.5, 0.9])
    states = []

    def look(model, images, labels):
        state = {n: w.clone() for n, w in model.state_dict().items()}
        states.append(state)
        return next(marks), state

    monkeypatch.setitem(chapter.taught.__globals__, "looked_at", look)
    labels = stripes(POOL).argmax(1)
    model = chapter.taught(
        POOL, labels, 0, steps=10, held=(POOL[:5], labels[:5])
    )
    assert len(states) == 4
    for name, w in model.state_dict().items():
        assert torch.equal(w, states[3][name])  # the later of two equals


def test_looking_changes_no_step():
    labels = stripes(POOL).argmax(1)
    told = {"steps": 8, "looks": 1}
    held = POOL[:9], labels[:9]
    models = [
        chapter.taught(POOL, labels, 0, held=h, **told) for h in (None, held)
    ]
    for a, b in zip(*(m.state_dict().values() for m in models), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("x", "y", "free", "word"),
    [
        (POOL[:0], [], None, "at least one picture"),
        (POOL[:2], [1], None, "one label"),
        (POOL[:2], [0, 1], POOL[:0], "no unlabelled pictures"),
        (POOL[:2] * np.nan, [0, 1], None, "NaN"),
    ],
)
def test_a_copy_of_nothing_is_refused(x, y, free, word):
    with pytest.raises(ValueError, match=word):
        chapter.taught(x, np.array(y, int), 0, free=free, steps=1)


# --- strategies -------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    labels = stripes(POOL).argmax(1)
    return chapter.taught(POOL[:40], labels[:40], 0, steps=20)


@pytest.mark.parametrize("name", chapter.STRATEGIES)
@pytest.mark.parametrize("k", [1, 9, 30])
def test_a_strategy_takes_k_different_pictures(name, k, model):
    choose = chapter.STRATEGIES[name]
    found = choose(model, POOL[40:80], POOL[:40], k, 20)
    assert len(set(found)) == k and set(found) <= set(range(40))


def test_strategies_by_their_definitions(model):
    rest, learnt = POOL[40:80], POOL[:40]
    p = training.predict_proba(model, rest)
    taken = chapter.uncertain(model, rest, learnt, 6, 0)
    spread = chapter.entropy(p)
    assert set(taken) == set(np.argsort(spread)[-6:])
    taken = chapter.near_boundary(model, rest, learnt, 6, 0)
    far = chapter.deepfool(model, rest)
    assert set(taken) == set(np.argsort(far)[:6])
    known = training.predict_proba(model, learnt)
    apart = chapter.far_apart(model, rest, learnt, 6, 0)
    assert list(apart) == brute_force(p, known, 6)
    near = np.argsort(far, kind="stable")[:12]
    both = chapter.near_and_apart(model, rest, learnt, 6, 12)
    assert list(both) == list(near[brute_force(p[near], known, 6)])


# --- the attack -------------------------------------------------------------


@pytest.mark.parametrize("name", chapter.STRATEGIES)
def test_every_label_is_billed_once_and_its_own(name):
    api = sell(budget=80)
    legs = quick(api, POOL, 80, 3, name)
    assert [len(leg.asked) for leg in legs] == [20, 40, 80]
    assert [leg.held.sum() for leg in legs] == [4, 8, 16]
    assert api.ledger.queries == 80 and api.ledger.calls == 3
    for leg in legs:
        assert len(set(leg.asked)) == len(leg.asked)
        truth = stripes(POOL[leg.asked]).argmax(1)
        np.testing.assert_array_equal(leg.labels, truth)
    for one, two in zip(legs, legs[1:], strict=False):
        n = len(one.asked)
        np.testing.assert_array_equal(one.asked, two.asked[:n])
        np.testing.assert_array_equal(one.held, two.held[:n])


def test_the_strategy_sees_what_is_open_and_what_is_learnt():
    seen = []

    def spy(model, rest, learnt, k, wide):
        seen.append((rest, learnt, k, wide))
        return np.arange(k)[::-1]

    (first, last) = quick(sell(), POOL, 60, 0, spy, legs=2)
    rest, learnt, k, wide = seen[-1]  # the first is the rehearsal
    assert k == 24 and wide == 60 and len(seen) == 2
    np.testing.assert_array_equal(learnt, POOL[first.asked[~first.held]])
    assert len(rest) == 120 - 12 - 24  # without all that will be held back
    new = last.asked[30:][~last.held[30:]]
    np.testing.assert_array_equal(POOL[new], rest[:24][::-1])


def test_budgets_that_do_not_double_are_refused():
    api = sell()
    with pytest.raises(ValueError, match="must double from leg to leg"):
        chapter.thieves(api, POOL, 0, [10, 30, 60], ["random"])
    assert api.ledger.queries == 0


def test_a_start_is_bought_once_for_all_strategies():
    api = sell()
    first = quick(api, POOL, 40, 1, "random", legs=2)
    again = quick(api, POOL, 40, 1, "k-center", legs=2, start=first[0])
    assert api.ledger.queries == 60 and again[0] is first[0]
    alone = quick(sell(), POOL, 40, 1, "k-center", legs=2)
    np.testing.assert_array_equal(alone[1].asked, again[1].asked)


def test_without_validation_all_is_learnt():
    (leg,) = quick(sell(), POOL, 30, 0, legs=1, validation=0)
    assert not leg.held.any() and len(leg.asked) == 30


def test_probabilities_are_heard_as_labels_and_words_are_numbered():
    heard = []
    for options in ({}, {"returns": "probabilities"}):
        legs = quick(sell(**options), POOL, 40, 0, legs=2)
        heard.append(legs[1].labels)
    np.testing.assert_array_equal(*heard)
    words = np.array(["left", "middle", "right"])
    api = sell(classes=words)
    (leg,) = quick(api, POOL, 40, 0, legs=1)
    assert list(leg.model.classes_) == sorted(set(leg.labels))


def test_fixmatch_asks_nothing_more():
    api = sell()
    (leg,) = quick(api, POOL, 40, 0, "random", legs=1, unlabelled=True)
    chapter.learnt_again(POOL, leg, 0, unlabelled=True, steps=2)
    assert api.ledger.queries == 40


def test_fixmatch_reads_the_pictures_that_were_not_asked(monkeypatch):
    seen = []

    def spy(images, labels, seed, *, free, **rest):
        seen.append(free)
        return nn.Identity()

    monkeypatch.setitem(chapter.learnt_again.__globals__, "taught", spy)
    leg = chapter.Leg(np.arange(90), np.zeros(90, int), np.arange(90) < 9)
    chapter.learnt_again(POOL, leg, 0, unlabelled=True)
    np.testing.assert_array_equal(seen[0], POOL[90:])


def test_held_back_pictures_are_looked_at_and_not_learnt(monkeypatch):
    seen = []

    def spy(images, labels, seed, *, held, **rest):
        seen.append((images, labels, *held))
        return nn.Identity()

    monkeypatch.setitem(chapter.learnt_again.__globals__, "taught", spy)
    labels = np.arange(30) % 3
    leg = chapter.Leg(np.arange(30)[::-1], labels, labels == 1)
    chapter.learnt_again(POOL, leg, 0)
    x, y, held_x, held_y = seen[0]
    np.testing.assert_array_equal(x, POOL[29::-1][labels != 1])
    np.testing.assert_array_equal(y, labels[labels != 1])
    np.testing.assert_array_equal(held_x, POOL[29::-1][labels == 1])
    assert len(held_y) == 10 and (held_y == 1).all()


def test_several_accounts_ask_for_one_attack():
    api = sell()
    quick(Accounts(api, ["a", "b"], rows=5), POOL, 40, 0, legs=2)
    assert set(api.ledger.accounts) == {"a", "b"}
    assert api.ledger.queries == 40


LEG = chapter.Leg(np.arange(9), np.zeros(9, int), np.zeros(9, bool))


@pytest.mark.parametrize(
    ("pool", "how", "error", "word"),
    [
        (POOL[:0], {}, ValueError, "the pool is empty"),
        ([], {}, ValueError, "the pool is empty"),
        (POOL[:30], {}, ValueError, "40 of 30 pictures"),
        (POOL[:, 0], {}, ValueError, "the pool must be rows"),
        (POOL * np.inf, {}, ValueError, "NaN or infinite"),
        (POOL, {"budget": 0}, ValueError, "budget must be"),
        (POOL, {"legs": 0}, ValueError, "legs must be"),
        (POOL, {"legs": 6}, ValueError, "too small"),
        (POOL, {"validation": 1.0}, ValueError, "validation must be"),
        (POOL, {"strategy": "best"}, ValueError, "strategy must be one of"),
        (POOL, {"start": LEG}, ValueError, "start has 9 labels"),
        (POOL, {"budget": 60}, BudgetExceeded, "50 queries left"),
        (POOL, {"stepz": 3}, TypeError, "stepz"),
        (POOL[:40], {"unlabelled": True}, ValueError, "whole pool is bought"),
    ],
)
def test_bad_input_is_refused_before_anything_is_paid(pool, how, error, word):
    api = sell(budget=50)
    how = {"budget": 40, "legs": 2} | how
    with pytest.raises(error, match=word):
        chapter.active_thief(api, pool, seed=0, **how)
    assert api.ledger.queries == 0


def test_the_last_query_of_a_budget_may_be_spent():
    api = sell(budget=40)
    quick(api, POOL, 40, 0, legs=2)
    assert api.remaining == 0


# --- labels needed ----------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "level", "expected"),
    [
        ([50, 70, 90], 40, 100),
        ([50, 70, 90], 50, 100),
        ([50, 70, 90], 60, np.sqrt(100 * 200)),
        ([50, 70, 90], 70, 200),
        ([50, 70, 90], 85, np.exp(np.log(200) + 0.75 * np.log(2))),
        ([50, 70, 90], 91, np.inf),
        ([50, 80, 70], 75, np.exp(np.log(100) + 5 / 6 * np.log(2))),
    ],
)
def test_labels_needed_are_read_off_a_line(scores, level, expected):
    found = chapter.labels_needed([100, 200, 400], scores, level)
    assert found == pytest.approx(expected)
