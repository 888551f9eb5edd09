"""Private heads: rows that span, thefts, their certificate, and monitors."""

import numpy as np
import pytest
import torch
from torch import nn

from mexutils import (
    Accounts,
    BudgetExceeded,
    PredictionAPI,
    datasets,
    load_chapter,
    metrics,
    victims,
)

chapter = load_chapter("frontier/private_head")
D = 12
pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed")


class Bent:
    """A small public encoder of rows (n, 5): D features, ReLU."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.weights, self.b = rng.normal(size=(5, D)), rng.normal(size=D)

    def __call__(self, x):
        return np.maximum(np.asarray(x, float) @ self.weights + self.b, 0)


ENCODER = Bent()


def a_head(c=4, seed=0, encoder=ENCODER):
    theta = np.random.default_rng([c, seed]).normal(size=(c, D + 1))
    return chapter.Head(encoder, theta)


def sell(victim, **options):
    return PredictionAPI(victim.predict_proba, input_shape=(5,), **options)


def rows(n=200, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 5))


def shiftless(theta):
    return theta - theta.mean(axis=0)


# --- rows that span -------------------------------------------------------


def test_the_first_rows_span_all_and_the_rest_are_the_others():
    features = ENCODER(rows())
    features[:, 3] = 0  # a unit that is off
    features[:, 7] = np.arange(200) == 199  # on for the last row alone
    order, rank = chapter.spanning(features, 5)
    assert rank == D
    assert sorted(order) == list(range(200))
    assert 199 in order[:rank]
    ones = np.column_stack([features, np.ones(200)])
    assert np.linalg.matrix_rank(ones[order[:rank]]) == rank
    again, _ = chapter.spanning(features, 6)
    np.testing.assert_array_equal(order[:rank], again[:rank])
    assert (order != again).any()


# --- thefts ---------------------------------------------------------------


@pytest.mark.parametrize("c", [2, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_a_theft_is_exact_with_d_plus_1_rows(c, seed):
    victim = a_head(c, seed)
    api = sell(victim)
    theft = chapter.steal_head(api, ENCODER, rows(), seed, exam=5)
    assert theft.exact and theft.solved == D + 1
    assert api.ledger.queries == D + 6 and api.ledger.calls == 1
    np.testing.assert_allclose(
        shiftless(theft.theta), shiftless(victim.theta), atol=1e-8
    )
    new = rows(500, 9)
    off = theft.predict_proba(ENCODER(new)) - victim.predict_proba(new)
    assert np.abs(off).max() < 1e-10


def test_one_row_less_is_not_enough():
    victim, features = a_head(), ENCODER(rows())
    order, rank = chapter.spanning(features)
    assert rank == D + 1
    for n, same in ((rank, True), (rank - 1, False)):
        asked = rows()[order[:n]]
        theta = chapter.from_ratios(
            ENCODER(asked), victim.predict_proba(asked)
        )
        near = np.abs(shiftless(theta) - shiftless(victim.theta)).max() < 1e-6
        assert near == same


def test_the_examined_rows_have_no_part_in_the_solution():
    seen = []

    def solve(features, answers):
        seen.append((features, answers))
        return chapter.from_ratios(features, answers)

    theft = chapter.steal_head(
        sell(a_head()), ENCODER, rows(), queries=30, exam=7, solve=solve
    )
    ((features, answers),) = seen
    assert len(features) == len(answers) == 30 and len(theft.rows) == 37
    np.testing.assert_array_equal(theft.features[:30], features)
    np.testing.assert_array_equal(ENCODER(theft.rows), theft.features)


def test_the_error_is_that_of_the_worst_examined_row():
    theta = a_head(seed=1).theta
    theft = chapter.steal_head(
        sell(a_head()),
        ENCODER,
        rows(),
        exam=9,
        solve=lambda f, p: theta,
        accept=1,
    )
    said = theft.predict_proba(theft.features[-9:])
    worst = np.abs(said - theft.answers[-9:]).sum(axis=1).max() / 2
    assert theft.error == pytest.approx(worst) and not theft.exact


OTHERS = {
    "another body": (lambda: a_head(encoder=Bent(1)), {}),
    "a body a little off": (
        lambda: a_head(encoder=lambda x: ENCODER(x * (1 + 1e-4))),
        {},
    ),
    "rounded": (a_head, {"decimals": 3}),
    "perturbed": (
        a_head,
        {"defenses": [lambda x, p: 0.9 * p + 0.1 / p.shape[1]]},
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_such_head_is_refused_and_named(kind):
    make, sold = OTHERS[kind]
    theta = make().theta / 5  # no answer is rounded to 0
    victim = chapter.Head(make().encoder, theta)
    api = sell(victim, **sold)
    with pytest.raises(chapter.Unsolved, match="no head on this enc") as end:
        chapter.steal_head(api, ENCODER, rows())
    theft = end.value.theft
    assert theft.error > chapter.EXACT and not theft.exact
    assert len(theft.rows) == len(theft.answers) == api.ledger.queries
    taken = chapter.steal_head(api, ENCODER, rows(), accept=1)
    np.testing.assert_array_equal(taken.theta, theft.theta)


def test_saturated_answers_are_named_and_kept():
    victim = chapter.Head(ENCODER, 1e4 * a_head().theta)
    api = sell(victim)
    with pytest.raises(chapter.Unsolved, match="answers hold a 0") as end:
        chapter.steal_head(api, ENCODER, rows())
    theft = end.value.theft
    assert theft.theta is None and len(theft.answers) == api.ledger.queries
    np.testing.assert_array_equal(
        theft.answers, victim.predict_proba(theft.rows)
    )


@pytest.mark.parametrize(
    ("sold", "encoder", "how", "error", "word"),
    [
        ({}, lambda x: ENCODER(x)[:-1], {}, ValueError, "199 rows of feat"),
        ({}, lambda x: ENCODER(x)[:, 0], {}, ValueError, "features must be"),
        ({}, lambda x: ENCODER(x) * np.nan, {}, ValueError, "NaN"),
        ({}, ENCODER, {"queries": D}, ValueError, "queries must be"),
        ({}, ENCODER, {"exam": 0}, ValueError, "exam must be"),
        ({}, ENCODER, {"queries": 190}, ValueError, "pool has 200 rows"),
        ({"budget": 20}, ENCODER, {}, BudgetExceeded, "20 queries left"),
        ({"returns": "label"}, ENCODER, {}, ValueError, "label"),
        ({"returns": "top-2"}, ENCODER, {}, ValueError, "top-2"),
    ],
)
def test_bad_input_is_refused_before_anything_is_paid(
    sold, encoder, how, error, word
):
    api = sell(a_head(), **sold)
    with pytest.raises(error, match=word):
        chapter.steal_head(api, encoder, rows(), **how)
    assert api.ledger.queries == 0


def test_a_victim_of_other_rows_refuses_unpaid():
    api = PredictionAPI(a_head().predict_proba, input_shape=(6,))
    with pytest.raises(ValueError, match="each row must have the shape"):
        chapter.steal_head(api, ENCODER, rows())
    assert api.ledger.queries == 0


def test_a_solver_of_another_width_is_named():
    with pytest.raises(chapter.Unsolved, match="solve gave"):
        chapter.steal_head(
            sell(a_head()), ENCODER, rows(), solve=lambda f, p: np.ones((4, 3))
        )


def test_the_last_query_of_a_budget_may_be_spent():
    api = sell(a_head(), budget=D + 21)
    assert chapter.steal_head(api, ENCODER, rows()).exact
    assert api.remaining == 0


def test_several_accounts_ask_for_one_theft():
    api = sell(a_head())
    door = Accounts(api, ["a", "b"], rows=10)
    assert chapter.steal_head(door, ENCODER, rows()).exact
    assert set(api.ledger.accounts) == {"a", "b"}


# --- rounding, labels -----------------------------------------------------


@pytest.mark.parametrize("name", chapter.SOLVERS)
def test_solvers_read_rounded_answers(name):
    victim = chapter.Head(ENCODER, a_head().theta / 3)
    solve, api = chapter.SOLVERS[name], sell(victim, decimals=4)
    theft = chapter.steal_head(
        api,
        ENCODER,
        rows(600),
        queries=500,
        solve=lambda f, p: solve(f, p, 4),
        accept=1,
    )
    new = rows(500, 9)
    said = theft.predict_proba(ENCODER(new))
    assert metrics.fidelity(said, victim.predict_proba(new)) > 0.97


def test_labels_give_a_model_of_features():
    victim = a_head()
    api = sell(victim, returns="label")
    model = chapter.from_labels(api, ENCODER, rows(600))
    new = rows(500, 9)
    said = model.predict(ENCODER(new))
    assert metrics.fidelity(said, victim.predict_proba(new)) > 0.93
    assert api.ledger.queries == 600


# --- owners ---------------------------------------------------------------


def digits(n, start=0):
    x, y = datasets.mnist().train
    return datasets.Sample(x[start : start + n], y[start : start + n])


@pytest.fixture(scope="module")
def encode():
    return chapter.Kept(victims.letters_encoder().features)


def test_kept_features_are_the_encoder_s_and_computed_once():
    asked = []

    def features(x):
        asked.append(len(x))
        return ENCODER(x)

    kept, x = chapter.Kept(features), rows(20).astype(np.float32)
    first = kept(x[:15])
    np.testing.assert_array_equal(kept(x), ENCODER(x))
    np.testing.assert_array_equal(kept(x[:15]), first)
    assert asked == [15, 5]


def test_an_owner_of_two_classes_has_a_head_of_two(encode):
    sample = digits(400)
    two = datasets.Sample(sample.x, sample.y % 2)
    head = chapter.trained_head(encode, two, 0, n=400)
    assert head.theta.shape == (2, 129)
    p = head.predict_proba(two.x)
    assert (p.argmax(1) == two.y).mean() > 0.9


def test_training_on_moves_a_copy_of_the_body(encode):
    encoder = victims.letters_encoder()
    before = [p.clone() for p in encoder.body.parameters()]
    head = chapter.trained_head(encode, digits(400), 0, n=300)
    x = digits(100, 1000).x

    def answers(rate, steps):
        network = chapter.tuned(
            encoder, head, digits(400), rate, 0, steps=steps
        )
        with torch.no_grad():
            logits = network(torch.from_numpy(x).to(chapter.training.DEVICE))
        return logits.double().softmax(1).cpu().numpy()

    start = answers(1e-3, 0)
    np.testing.assert_allclose(start, head.predict_proba(x), atol=1e-4)
    assert np.abs(answers(1e-3, 20) - start).max() > 1e-3
    for old, new in zip(before, encoder.body.parameters(), strict=True):
        assert torch.equal(old, new)


# --- monitors -------------------------------------------------------------


def test_checkpoints_approach_the_head(encode):
    sample = digits(300)
    layers = chapter.checkpoints(encode(sample.x), sample.y)
    assert len(layers) == len(chapter.STOPS)
    assert all(isinstance(layer, nn.Linear) for layer in layers)
    x = torch.from_numpy(encode(sample.x)).float()
    right = [
        float((layer.cpu()(x).argmax(1).numpy() == sample.y).mean())
        for layer in layers
    ]
    assert right[-1] > 0.97 > right[0]


def test_watchers_agree_with_the_monitors_of_their_chapter(encode):
    head = chapter.trained_head(encode, digits(600), 0, n=600)
    layers = chapter.checkpoints(encode(digits(600).x), digits(600).y)
    watchers = chapter.Watchers(head, encode, layers, digits(500, 1000).x)
    x = digits(240, 2000).x
    found = watchers(x)
    hard = watchers.hardness(x)
    detect = chapter.DETECT
    for limit, alarm in ((found["HODA"] - 1e-9, True), (found["HODA"], False)):
        if limit > 0:
            hoda = detect.Hoda(layers, watchers.usual, limit)
            assert (hoda.read("client", hard) is not None) == alarm
    for scale, alarm in ((0.99, True), (1.01, False)):
        level = np.exp(found["bet"]) * scale
        alpha = 1 / level
        if alpha < 0.999:
            bet = detect.Wager(layers, watchers.least, watchers.share, alpha)
            assert (bet.read("client", hard) is not None) == alarm
    labels = head.predict_proba(x).argmax(1)
    lowest = min(w for _, w in detect.Stream().add(x, labels))
    assert found["PRADA"] == pytest.approx(1 - lowest)


@pytest.mark.parametrize("order", ["span", "come"])
def test_what_an_attacker_sends_are_rows_of_its_own(encode, order):
    sample = digits(1200)
    head = chapter.trained_head(encode, digits(300), 0, n=300)
    found = chapter.sent(head, encode, sample.x, 0, 160, order)
    assert len(found) == 160
    own = {row.tobytes() for row in sample.x}
    assert {row.tobytes() for row in found} <= own


@pytest.mark.parametrize("name", ["MAD", "reverse sigmoid"])
def test_what_is_computed_back_is_nearer_to_the_truth(name, encode):
    head = chapter.trained_head(encode, digits(600), 0, n=600)
    x = digits(150, 3000).x
    defense, inverse = chapter.perturbations(0)[name]
    own = head.predict_proba(x)
    told = defense(x, own)
    far, near = (
        np.abs(p - own).sum(axis=1).mean() for p in (told, inverse(told))
    )
    assert near < far / 4


def test_the_bet_wins_on_hard_rows_and_loses_on_easy_ones(monkeypatch):
    watchers = object.__new__(chapter.Watchers)
    watchers.least, watchers.share = 3, 0.1
    monkeypatch.setattr(watchers, "hardness", lambda x: x, raising=False)
    hard, usual = np.full(50, 5), np.r_[np.zeros(45, int), np.full(5, 5)]
    assert watchers.bet(hard) > 10
    assert watchers.bet(usual) < 2
