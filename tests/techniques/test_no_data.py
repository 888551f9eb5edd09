"""Data-free attacks: gradients, what is billed, what is learnt, collapses."""

import numpy as np
import pytest
import torch
from torch import nn

from mexutils import (
    Accounts,
    BudgetExceeded,
    PredictionAPI,
    load_chapter,
    metrics,
    training,
)

chapter = load_chapter("frontier/no_data")
KINDS = sorted(chapter.SOURCES)
SHAPE = (1, 28, 28)


class Halves:
    """A victim of three classes that looks at the light in four places."""

    def __init__(self, c=3):
        self.weights = np.random.default_rng(c).normal(size=(4, c)) * 8
        self.asked = []

    def predict_proba(self, x):
        """Probabilities (n, c) of the pictures x."""
        x = np.asarray(x, float)
        self.asked.append(x.astype(np.float32))
        light = x.reshape(-1, 2, 14, 2, 14).mean((2, 4)).reshape(-1, 4)
        return metrics_softmax((light - 0.22) @ self.weights)


def metrics_softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def sell(victim=None, **options):
    victim = victim or Halves()
    return PredictionAPI(victim.predict_proba, try_out=False, **options)


def attack(name="DisGUIDE", seed=0, **options):
    api = sell(**options.pop("sold", {}))
    source = options.pop("source", None) or chapter.SOURCES[name]()
    return chapter.Attack(api, source, seed, classes=3, **options)


# --- gradients ------------------------------------------------------------


@pytest.fixture
def double():
    """New tensors and networks are of 64 bits."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def numeric(f, at, step=1e-6):
    """Gradient of a number by central differences, entry by entry."""
    grad = torch.zeros_like(at)
    for place in np.ndindex(*at.shape):
        for sign in (1, -1):
            moved = at.clone()
            moved[place] += sign * step
            grad[place] += sign * f(moved) / (2 * step)
    return grad


@pytest.mark.parametrize("weight", [0.0, 0.2, 3.0])
def test_disagreement_s_gradient_against_finite_differences(weight):
    torch.manual_seed(0)
    z = torch.randn(2, 4, 3, dtype=torch.float64)

    def loss(z):
        return chapter.disagreement(z.softmax(2), weight)

    leaf = z.clone().requires_grad_()
    loss(leaf).backward()
    torch.testing.assert_close(leaf.grad, numeric(loss, z), atol=1e-8, rtol=0)


def test_disagreement_by_loops():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), size=(2, 5))
    apart = [np.std(p[:, i, j], ddof=1) for i in range(5) for j in range(3)]
    a = [p[:, :, j].mean() for j in range(3)]
    wanted = -np.mean(apart) + 0.7 * sum(v * np.log(v) for v in a)
    found = chapter.disagreement(torch.from_numpy(p), 0.7)
    assert float(found) == pytest.approx(wanted, abs=1e-5)


def test_the_generator_s_step_follows_that_gradient(double):
    """A step moves its weights down the disagreement of the two copies."""
    run = attack()
    source, network = run.source, run.source.network.eval()
    for copy in run.working:  # fresh ones are of one opinion
        copy.net[-1].weight.data *= 30
    source.optimizer = torch.optim.SGD(network.parameters(), 1.0)
    weight = network[7].weight  # of the last convolution
    before = {k: v.clone() for k, v in network.state_dict().items()}
    torch.manual_seed(5)
    source.next(run)
    step = before["7.weight"] - weight.detach()

    def loss(value):
        torch.manual_seed(5)
        network.load_state_dict(before | {"7.weight": value})
        with torch.no_grad():
            x = chapter.pictures(network(chapter.noise()))
            p = [chapter.scores_of(c, x).softmax(1) for c in run.working]
            return float(chapter.disagreement(torch.stack(p)))

    wanted, h = torch.zeros(1, chapter.CHANNELS, 3, 3), 1e-5
    for place in np.ndindex(*wanted.shape):
        for sign in (1, -1):
            value = before["7.weight"].clone()
            value[place] += sign * h
            wanted[place] += sign * loss(value) / (2 * h)
    size = float(wanted.abs().max())
    assert size > 1e-4
    torch.testing.assert_close(step, wanted, rtol=0, atol=1e-3 * size)


def test_an_estimate_along_all_axes_is_the_gradient():
    """With an orthonormal basis as directions nothing is left to chance."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    at = torch.randn(3, 6, dtype=torch.float64)
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    directions = basis[:, None, :].expand(6, 3, 6)

    def loss(x):
        return net(x).squeeze(1)

    found = chapter.estimated_gradient(loss, at, directions, step=1e-6)
    leaf = at.clone().requires_grad_()
    loss(leaf).sum().backward()
    torch.testing.assert_close(found, leaf.grad, atol=1e-5, rtol=0)


def test_estimates_are_right_on_average_and_pay_for_each_direction():
    torch.manual_seed(0)
    at, asked = torch.randn(2, 1, 3, 3, dtype=torch.float64), []

    def loss(x):
        asked.append(len(x))
        return (x**2).flatten(1).sum(1)

    u = chapter.on_the_sphere(4000, at)
    assert u.flatten(2).norm(dim=2).allclose(torch.ones(1).double())
    found = chapter.estimated_gradient(loss, at, u)
    assert asked == [2] * 4001
    torch.testing.assert_close(found, 2 * at, atol=0.5, rtol=0.1)


def test_dfme_climbs_the_loss_that_its_copy_lowers():
    """With all directions, DFME's step is the gradient of the true loss."""
    victim = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
    torch.manual_seed(1)
    run = attack(source=chapter.Dfme(directions=2))
    run.left = 10_000
    got = []

    class Spy:
        def __init__(self, network):
            self.network = network

        def __call__(self, z):
            raw = self.network(z)
            raw.register_hook(got.append)
            self.raw = raw.detach()
            return raw

    source = run.source
    run.ask = lambda x, probes: victim(x).softmax(1).detach()
    spy = source.network = Spy(source.network)
    source.directions = 60
    chapter.climb(source, run)
    leaf = spy.raw.clone().requires_grad_()
    x = chapter.pictures(leaf)
    value = run.loss(
        chapter.scores_of(run.working[0], x), victim(x).softmax(1)
    )
    value.mean().backward()
    cosine = nn.functional.cosine_similarity(
        got[0].flatten()[None], -leaf.grad.flatten()[None]
    )
    # m directions of d: the cosine is near sqrt(m / d), here 0.28.
    assert 0.2 < float(cosine) < 0.35


# --- losses ---------------------------------------------------------------


def test_log_distance_is_0_for_the_logits_behind_the_answer():
    z = torch.randn(6, 4)
    centred = z - z.mean(1, keepdim=True)
    assert chapter.log_distance(centred, z.softmax(1)).max() < 1e-5
    off = chapter.log_distance(centred + 0.5, z.softmax(1))
    assert off.allclose(torch.full((6,), 0.5), atol=1e-5)


def test_a_probability_of_0_counts_as_the_least_that_is_told():
    p = torch.tensor([[1.0, 0.0]])
    wanted = -np.log(1e-12) / 2
    found = chapter.log_distance(torch.zeros(1, 2), p)
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def test_cross_entropy_of_labels_and_of_certain_probabilities():
    z, y = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    by_hand = -z.log_softmax(1)[range(5), y]
    assert chapter.cross_entropy(z, torch.eye(3)[y]).allclose(by_hand)


# --- what is billed -------------------------------------------------------


@pytest.mark.parametrize("returns", ["label", "probabilities"])
@pytest.mark.parametrize("name", KINDS)
def test_every_answer_is_billed_and_learnt_from_or_told_of(name, returns):
    victim = Halves()
    api = sell(victim, returns=returns, budget=1300)
    theft = chapter.steal(api, chapter.SOURCES[name](), 1300, classes=3)
    assert api.ledger.queries == theft.billed == 1300
    assert len(theft.rows) == len(theft.answers) == 1300 - theft.probes
    seen = np.concatenate(victim.asked)
    assert len(seen) == 1300
    again = Halves().predict_proba(theft.rows)
    if returns == "label":
        again = np.eye(3)[again.argmax(1)]
    np.testing.assert_allclose(theft.answers, again, atol=1e-6)


def test_only_dfme_pays_for_its_generator():
    """Two of seven batches, where the budget is a multiple of seven."""
    for name in KINDS:
        theft = chapter.steal(
            sell(), chapter.SOURCES[name](), 7 * chapter.BATCH, classes=3
        )
        assert theft.probes == (2 * chapter.BATCH if name == "DFME" else 0)
    source = chapter.Dfme(directions=3, every=2)
    theft = chapter.steal(sell(), source, 12 * chapter.BATCH, classes=3)
    assert theft.probes == 8 * chapter.BATCH


@pytest.mark.parametrize("budget", [1, 124, 126, 380])
@pytest.mark.parametrize("name", KINDS)
def test_a_budget_that_is_no_multiple_is_spent_to_the_last(name, budget):
    api = sell(budget=budget)
    theft = chapter.steal(api, chapter.SOURCES[name](), budget, classes=3)
    assert theft.billed == budget and api.remaining == 0


@pytest.mark.parametrize("name", KINDS)
def test_instalments_are_one_run(name):
    """What is held at the first stop is what a short run ends with."""
    long = attack(name, seed=3)
    chapter.spend(long, 1000)
    early = long.theft(None)
    chapter.spend(long, 500)
    late = long.theft(None)
    short = attack(name, seed=3)
    chapter.spend(short, 1000)
    short = short.theft(None)
    for part in ("rows", "answers"):
        first = getattr(early, part)
        np.testing.assert_array_equal(first, getattr(short, part))
        np.testing.assert_array_equal(first, getattr(late, part)[: len(first)])
    assert (early.billed, late.billed) == (1000, 1500)


def test_being_read_on_the_way_changes_nothing():
    x = chapter.KNOCKOFF.blots(20, 5)
    exam = chapter.KNOCKOFF.Exam(x, np.zeros(20, int), np.zeros(20, int))

    def last(budgets):
        source = chapter.SOURCES["DisGUIDE"]()
        found = chapter.followed(sell(), source, budgets, 0, exam, classes=3)
        return found[-1]["variety"], found[-1]["fidelity"]

    assert last([250, 500, 1000]) == last([1000])


def test_seeds_draw_other_pictures_and_the_same_seed_the_same():
    def rows(name, seed):
        source = chapter.SOURCES[name]()
        return chapter.steal(sell(), source, 250, seed, classes=3).rows

    for name in KINDS:
        np.testing.assert_array_equal(rows(name, 1), rows(name, 1))
        assert (rows(name, 1) != rows(name, 2)).any()
    source = chapter.DisGuide()  # used twice, it begins anew
    twice = [
        chapter.steal(sell(), source, 250, 1, classes=3).rows for _ in "ab"
    ]
    np.testing.assert_array_equal(*twice)


@pytest.mark.parametrize("name", KINDS)
def test_pictures_are_pixels_of_the_right_shape(name):
    theft = chapter.steal(sell(), chapter.SOURCES[name](), 250, classes=3)
    assert theft.rows.shape[1:] == SHAPE and theft.rows.dtype == np.float32
    assert theft.rows.min() >= 0 and theft.rows.max() <= 1


def test_several_accounts_ask_for_one_theft():
    api = sell()
    door = Accounts(api, ["a", "b"], rows=60)
    theft = chapter.steal(door, chapter.DisGuide(), 500, classes=3)
    assert set(api.ledger.accounts) == {"a", "b"}
    assert theft.billed == api.ledger.queries == 500


# --- what is learnt -------------------------------------------------------


@pytest.mark.parametrize("returns", ["label", "probabilities"])
@pytest.mark.parametrize("name", ["DisGUIDE", "blots"])
def test_a_simple_victim_is_copied(name, returns):
    api = sell(returns=returns)
    theft = chapter.steal(api, chapter.SOURCES[name](), 4000, classes=3)
    new = chapter.KNOCKOFF.blots(500, 77)
    said = Halves().predict_proba(new)
    assert metrics.fidelity(theft.predict_proba(new), said) > 0.75


def test_the_copy_is_taught_what_was_bought_and_nothing_else():
    """From scratch, by the trainer of the chapter on KnockoffNets."""
    theft = chapter.steal(sell(), chapter.DisGuide(), 400, 7, classes=3)
    again = chapter.taught(theft.rows, theft.answers, 7)
    for a, b in zip(theft.copy.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    other = chapter.taught(theft.rows, theft.answers, 8)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(again.parameters(), other.parameters(), strict=True)
    )
    assert not theft.copy.training


def test_a_lesson_is_half_new():
    bought = chapter.Bought(2)
    bought.make_room(300)
    for k in range(3):
        x = torch.full((100, *SHAPE), float(k))
        bought.keep(x, torch.full((100, 2), float(k)))
    torch.manual_seed(0)
    rows, answers = bought.lesson()
    assert len(rows) == len(answers) == chapter.BATCH
    assert torch.equal(rows[:, 0, 0, 0], answers[:, 0])
    assert (rows[:62, 0, 0, 0] == 2).all()
    assert set(rows[62:, 0, 0, 0].tolist()) == {0.0, 1.0, 2.0}


def test_being_asked_does_not_move_a_copy():
    copy = chapter.Working(3, 1e-2)
    before = {k: v.clone() for k, v in copy.net.state_dict().items()}
    x = torch.rand(20, *SHAPE, requires_grad=True)
    chapter.scores_of(copy, x).sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0
    assert all(
        w.grad is None and w.requires_grad for w in copy.net.parameters()
    )
    for k, v in copy.net.state_dict().items():
        assert torch.equal(v, before[k])


def test_variety_of_constructed_answers():
    def theft(labels):
        answers = np.eye(4)[labels]
        return chapter.Theft(None, np.zeros((len(labels), *SHAPE)), answers, 0)

    assert theft([2] * 50).variety == pytest.approx(1)
    assert theft([0, 1, 2, 3] * 25).variety == pytest.approx(4)
    assert theft([3] * 500 + [0, 1] * 500).variety == pytest.approx(2)


# --- collapses and bad input ----------------------------------------------


class Stuck(chapter.Drawn):
    """Draws well at first, then one picture, or no numbers."""

    def __init__(self, after, broken):
        super().__init__()
        self.after, self.broken = after, broken

    def start(self, seed):
        super().start(seed)
        self.turn = 0

    def next(self, attack):
        x, self.turn = super().next(attack), self.turn + 1
        if self.turn <= self.after:
            return x
        return x[:1].expand_as(x) if self.broken == "same" else x * np.nan


@pytest.mark.parametrize(
    ("broken", "word"), [("same", "all the same"), ("nan", "no numbers")]
)
def test_a_collapse_is_an_error_that_holds_what_was_bought(broken, word):
    api = sell()
    with pytest.raises(chapter.Collapsed, match=word) as end:
        chapter.steal(api, Stuck(3, broken), 5000, classes=3)
    assert api.ledger.queries == end.value.theft.billed == 3 * chapter.BATCH
    assert "after 375 queries" in str(end.value)
    theft = end.value.theft
    assert theft.copy is None
    copy = chapter.taught(theft.rows, theft.answers, 0)
    assert training.predict_proba(copy, theft.rows).shape == (375, 3)


def test_a_generator_with_far_too_large_steps_is_one():
    with pytest.raises(chapter.Collapsed, match="lower `step`"):
        chapter.steal(sell(), chapter.DisGuide(step=1e30), 5000, classes=3)


def test_a_working_copy_that_diverges_is_one():
    source = chapter.DisGuide(rate=1e38)
    with pytest.raises(chapter.Collapsed, match="or `rate`"):
        chapter.steal(sell(), source, 1000, classes=3)


@pytest.mark.parametrize(
    ("sold", "how", "error", "word"),
    [
        ({"budget": 100}, {}, BudgetExceeded, "100 queries left"),
        ({}, {"budget": 0}, ValueError, "queries must be"),
        ({}, {"budget": 2.5}, ValueError, "queries must be"),
        ({}, {"classes": 1}, ValueError, "classes must be"),
        ({"input_shape": (784,)}, {}, ValueError, "shape"),
        (
            {"returns": "label"},
            {"loss": chapter.log_distance},
            ValueError,
            "sells label",
        ),
        (
            {"returns": "top-2"},
            {"loss": chapter.log_distance},
            ValueError,
            "sells top-2",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_paid(sold, how, error, word):
    api = sell(**sold)
    how = {"budget": 250, "classes": 3} | how
    with pytest.raises(error, match=word):
        chapter.steal(api, chapter.DisGuide(), **how)
    assert api.ledger.queries == 0


@pytest.mark.parametrize(
    ("sold", "classes", "word"),
    [
        ({}, 5, "pass classes=3"),
        ({"returns": "label"}, 2, "places from 0 to 1"),
        ({"returns": "label", "classes": ["a", "b", "c"]}, 3, "places"),
    ],
)
def test_other_classes_are_named_after_one_batch(sold, classes, word):
    """Nobody can know them before; no more than one batch is lost."""
    api = sell(**sold)
    with pytest.raises(ValueError, match=word):
        chapter.steal(api, chapter.Drawn(), 2000, classes=classes)
    assert api.ledger.queries == chapter.BATCH


def test_the_judge_s_scores_of_a_run():
    x = chapter.KNOCKOFF.blots(100, 5)
    said = Halves().predict_proba(x).argmax(1)
    exam = chapter.KNOCKOFF.Exam(x, said, said)
    api = sell()
    found = chapter.followed(
        api, chapter.Dfme(), [250, 1000], 0, exam, classes=3
    )
    assert [run["off"] for run in found] == [0, 0]
    assert [run["probes"] for run in found] == [0, 250]
    for run in found:
        assert run["fidelity"] == run["accuracy"]
        assert run["seconds"] > 0 and 1 <= run["variety"] <= 3
