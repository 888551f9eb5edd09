"""PRADA's attack, from its chapter, against hand values and second routes."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.nn import functional as F

from mexutils import (
    BudgetExceeded,
    PredictionAPI,
    datasets,
    load_chapter,
    training,
)

prada = load_chapter("attacks/prada_attack")


class OnlyQuery:
    """What an attacker meets: `query` and nothing else."""

    __slots__ = ("query",)

    def __init__(self, query):
        self.query = query


def brightness(x):
    """A victim whose class says in which fifth of the width the ink is."""
    columns = x.reshape(len(x), 28, 28)[:, :, :25].reshape(len(x), 28, 5, 5)
    ink = columns.sum((1, 3)) + 1e-3
    both = np.concatenate([ink, ink[:, ::-1] * 0.5], axis=1)
    return both / both.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def seeds():
    rng = np.random.default_rng(4)
    return rng.uniform(0.3, 0.7, (20, 1, 28, 28)).astype(np.float32)


@pytest.fixture(scope="module")
def labels(seeds):
    return np.arange(len(seeds)) % 3


@pytest.fixture(scope="module")
def model():
    """A smooth network in double precision, for finite differences."""
    torch.manual_seed(0)
    flat = nn.Sequential(
        *(nn.Flatten(), nn.Linear(784, 12), nn.Tanh(), nn.Linear(12, 3))
    )
    return flat.eval()


@pytest.fixture
def quick(monkeypatch):
    """The attack without the training: substitutes that never learn."""
    made = []

    def train_substitute(images, answers, seed):
        torch.manual_seed(seed)
        made.append((len(images), seed))
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()

    monkeypatch.setattr(prada, "train_substitute", train_substitute)
    return made


def cross_entropy(model, x, labels):
    with torch.no_grad():
        scores = model(torch.as_tensor(x, dtype=torch.float32)).double()
    return F.cross_entropy(
        scores, torch.as_tensor(labels), reduction="none"
    ).numpy()


def logit(model, x, labels):
    with torch.no_grad():
        scores = model(torch.as_tensor(x, dtype=torch.float32)).double()
    return scores.numpy()[np.arange(len(x)), labels]


# --- gradients and signs ---------------------------------------------------


@pytest.mark.parametrize(
    ("gradient", "height"),
    [("loss_gradient", cross_entropy), ("logit_gradient", logit)],
)
def test_gradients_are_finite_differences(
    model, seeds, labels, gradient, height
):
    slope = getattr(prada, gradient)(model, seeds, labels)
    assert slope.shape == seeds.shape
    for pixel in ((3, 4), (14, 14), (27, 0)):
        shift = np.zeros((1, 1, 28, 28), np.float32)
        shift[(0, 0, *pixel)] = 0.05
        rise = height(model, seeds + shift, labels) - height(
            model, seeds - shift, labels
        )
        np.testing.assert_allclose(
            slope[(slice(None), 0, *pixel)], rise / 0.1, atol=2e-4
        )


def test_gradients_do_not_depend_on_the_batches(model, seeds, labels):
    many = np.concatenate([seeds] * 30)
    slope = prada.loss_gradient(model, many, np.tile(labels, 30))
    once = prada.loss_gradient(model, seeds, labels)
    np.testing.assert_allclose(slope[-20:], once, atol=1e-7)
    assert all(p.grad is None for p in model.parameters())


def apply(rule, model, x, labels, step=0.02, round=0, seed=0):
    rng = np.random.default_rng(seed)
    return prada.RULES[rule](model, x, labels, step, round, rng)


@pytest.mark.parametrize("rule", ["N-FGSM", "N-I-FGSM", "MI-FGSM"])
def test_n_rules_move_away_from_the_label(model, seeds, labels, rule):
    moved = apply(rule, model, seeds, labels)
    before = cross_entropy(model, seeds, labels)
    assert (cross_entropy(model, moved, labels) > before).all()


@pytest.mark.parametrize("rule", ["T-RND FGSM", "T-RND I-FGSM"])
def test_t_rnd_rules_move_towards_the_drawn_class(model, seeds, labels, rule):
    moved = apply(rule, model, seeds, labels)
    rng = np.random.default_rng(0)
    targets = prada.other_class(labels, 3, rng)
    before = cross_entropy(model, seeds, targets)
    assert (cross_entropy(model, moved, targets) < before).all()


def test_jbda_goes_deeper_and_turns_after_three_rounds(model, seeds, labels):
    before = logit(model, seeds, labels)
    signs = []
    for r in range(9):
        moved = apply("JBDA", model, seeds, labels, round=r)
        signs.append(np.sign(logit(model, moved, labels) - before))
    expected = [1, 1, 1, -1, -1, -1, 1, 1, 1]
    np.testing.assert_array_equal(signs, np.outer(expected, np.ones(20)))


def test_jbda_that_never_turns_never_turns(model, seeds, labels):
    before = logit(model, seeds, labels)
    for r in (0, 3, 9):
        moved = apply("JBDA, no turn", model, seeds, labels, round=r)
        assert (logit(model, moved, labels) > before).all()


def test_one_step_rules_by_hand(seeds, labels):
    """On a linear model the gradients are known."""
    weights = np.random.default_rng(1).normal(size=(3, 784))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(784, 3, bias=False))
    with torch.no_grad():
        linear[1].weight.copy_(torch.as_tensor(weights))
    flat = seeds.reshape(20, 784).astype(float)
    scores = flat @ weights.T
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rise = (p - np.eye(3)[labels]) @ weights  # of the cross-entropy
    sure = np.abs(rise) > 1e-4  # float32 cannot tell the sign of less
    moved = apply("N-FGSM", linear, seeds, labels).reshape(20, 784)
    expected = flat + 0.02 * np.sign(rise)
    np.testing.assert_allclose(moved[sure], expected[sure], atol=1e-6)
    moved = apply("JBDA", linear, seeds, labels).reshape(20, 784)
    expected = flat + 0.02 * np.sign(weights[labels])
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_random_signs_move_every_pixel_by_the_whole_step(seeds, labels):
    moved = apply("random signs", None, seeds, labels, step=0.2) - seeds
    np.testing.assert_allclose(np.abs(moved), 0.2, atol=1e-6)
    assert (moved > 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rule", ["T-RND FGSM", "T-RND I-FGSM"])
def test_targets_are_drawn_anew_in_every_round(model, seeds, labels, rule):
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    drawn = [prada.other_class(labels, 3, same) for _ in range(3)]
    assert not np.array_equal(drawn[0], drawn[1])
    for targets in drawn:
        moved = prada.RULES[rule](model, seeds, labels, 0.02, 0, rng)
        before = cross_entropy(model, seeds, targets)
        assert (cross_entropy(model, moved, targets) < before).all()


def test_iterative_rules_look_again_after_each_part_of_the_step(
    model, seeds, labels, monkeypatch
):
    looked = []
    slope = prada.loss_gradient

    def loss_gradient(model, x, labels):
        looked.append(x)
        return slope(model, x, labels)

    monkeypatch.setattr(prada, "loss_gradient", loss_gradient)
    times = {}
    for rule in ("N-FGSM", "N-I-FGSM", "MI-FGSM", "T-RND I-FGSM"):
        looked.clear()
        apply(rule, model, seeds, labels)
        times[rule] = len(looked)
        assert len(looked) == 1 or not np.array_equal(looked[0], looked[1])
    assert times == {"N-FGSM": 1} | dict.fromkeys(list(times)[1:], 3)


@pytest.mark.parametrize("rule", list(prada.RULES))
def test_rules_stay_in_the_ball_and_in_the_box(model, labels, rule):
    x = np.random.default_rng(2).uniform(0, 1, (20, 1, 28, 28))
    x = x.astype(np.float32)
    moved = apply(rule, model, x, labels, step=0.25)
    assert moved.dtype == np.float32 and moved.shape == x.shape
    assert moved.min() >= 0 and moved.max() <= 1
    assert 0.2 < np.abs(moved - x).max() <= 0.25 + 1e-6
    assert x.min() > 0 and not np.shares_memory(moved, x)


def test_walk_adds_up_its_momentum(seeds):
    """Slopes 1, -1, -1: momentum 1 sums to 1, 0, -1; without it 1, -1, -1."""

    def run(momentum):
        slopes = iter([1.0, -1.0, -1.0])
        here = prada.walk(
            seeds, lambda h: np.full_like(h, next(slopes)), 0.03, 3, momentum
        )
        return here - seeds

    np.testing.assert_allclose(run(1.0), 0.0, atol=1e-6)
    np.testing.assert_allclose(run(0.0), -0.01, atol=1e-6)


def test_momentum_counts_each_gradient_alike_however_long(seeds):
    """A slope of 1, then two of -1/128: by their L1 norms 1, 0, -1."""
    slopes = iter([1.0, -1 / 128, -1 / 128])
    here = prada.walk(
        seeds, lambda h: np.full_like(h, next(slopes)), 0.03, 3, 1.0
    )
    np.testing.assert_allclose(here, seeds, atol=1e-6)


def test_other_class_is_never_the_own_and_even_over_the_rest():
    labels = np.repeat(np.arange(4), 3000)
    drawn = prada.other_class(labels, 4, np.random.default_rng(0))
    counts = np.zeros((4, 4))
    np.add.at(counts, (labels, drawn), 1)
    assert (np.diag(counts) == 0).all()
    assert (np.abs(counts[~np.eye(4, dtype=bool)] - 1000) < 150).all()


# --- rounds, counts, budget ------------------------------------------------


@pytest.mark.parametrize("rule", list(prada.RULES))
def test_rounds_double_and_meet_the_budget(seeds, quick, rule):
    api = PredictionAPI(brightness, budget=130)
    path = list(prada.duplication_rounds(api, seeds, 130, rule, 2))
    assert [len(queries) for _, queries, _ in path] == [20, 40, 80, 130]
    assert api.ledger.queries == 130
    assert quick == [(20, 2000), (40, 2001), (80, 2002), (130, 2003)]
    _, queries, answers = path[-1]
    np.testing.assert_array_equal(queries[:20], seeds)
    np.testing.assert_allclose(answers, brightness(queries))
    # children of round r stand in the order of their parents
    apart = np.abs(queries[20:40] - seeds).max((1, 2, 3))
    assert (apart <= prada.STEP + 1e-6).all()


def test_rules_are_told_what_the_victim_said(seeds, quick, monkeypatch):
    """Of the right parents, in every round, and not what the copy says."""
    told, luck = [], []

    def rule(model, x, labels, step, round, rng):
        told.append((x, labels, round))
        luck.append(rng.random())
        assert (model(torch.as_tensor(x)).argmax(1).numpy() != labels).any()
        return prada.noise_rule(model, x, labels, step, round, rng)

    monkeypatch.setitem(prada.RULES, "spy", rule)
    api = PredictionAPI(brightness)
    prada.prada_attack(api, seeds, 130, "spy", 0)
    assert [round for _, _, round in told] == [0, 1, 2]
    assert [len(x) for x, _, _ in told] == [20, 40, 50]
    for x, labels, _ in told:
        np.testing.assert_array_equal(labels, brightness(x).argmax(1))
    assert len(set(luck)) == 3  # one generator for all rounds


@pytest.mark.parametrize("returns", ["probabilities", "label"])
def test_substitutes_learn_what_was_answered(seeds, monkeypatch, returns):
    learnt = []

    def train_substitute(images, answers, seed):
        learnt.append((images, answers))
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()

    monkeypatch.setattr(prada, "train_substitute", train_substitute)
    api = PredictionAPI(brightness, returns=returns)
    prada.prada_attack(api, seeds, 60, "N-FGSM", 0)
    assert len(learnt) == 3
    for images, answers in learnt:
        said = brightness(images)
        said = said.argmax(1) if returns == "label" else said
        np.testing.assert_allclose(answers, said)


def test_a_substitute_learns_probabilities_and_not_their_largest(seeds):
    answers = np.tile([0.6, 0.4, *[0.0] * 8], (len(seeds), 1))
    model = prada.train_substitute(seeds, answers, 0, steps=150)
    guess = training.predict_proba(model, seeds)
    np.testing.assert_allclose(guess, answers, atol=0.1)


def test_the_queries_come_back_in_the_order_sent(seeds, quick):
    heard = []

    def query(x):
        heard.append(x.copy())
        return brightness(x).argmax(1)

    _, queries = prada.prada_attack(OnlyQuery(query), seeds, 90, seed=3)
    np.testing.assert_array_equal(np.concatenate(heard), queries)


def test_seeds_alone_are_a_budget(seeds, quick):
    api = PredictionAPI(brightness)
    _, queries = prada.prada_attack(api, seeds, 20)
    assert api.ledger.queries == len(queries) == 20


def test_the_same_seed_gives_the_same_attack(seeds):
    runs = [
        prada.prada_attack(PredictionAPI(brightness), seeds, 60, seed=s)
        for s in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert not np.array_equal(runs[0][1], runs[2][1])


# --- settings --------------------------------------------------------------


@pytest.fixture
def noted():
    """A training that notes its rows and settings, and learns nothing."""
    seen = []

    def train(images, answers, seed, **how):
        seen.append((len(images), how))
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()

    return train, seen


def test_settings_are_as_many_passes_over_every_budget(seeds, noted):
    train, seen = noted
    api = PredictionAPI(brightness)
    prada.prada_attack(api, seeds, 160, train=train, settings=(0.003, 10))
    assert [n for n, _ in seen] == [20, 40, 80, 160]
    assert [how["steps"] for _, how in seen] == [4, 8, 16, 32]
    assert {how["lr"] for _, how in seen} == {0.003}


def test_without_settings_the_training_decides(seeds, noted):
    train, seen = noted
    prada.prada_attack(PredictionAPI(brightness), seeds, 40, train=train)
    assert seen == [(20, {}), (40, {})]
    assert prada.training_steps(100) == 43
    assert prada.how_long((0.1, 1), 3) == {"lr": 0.1, "steps": 1}


@pytest.mark.parametrize("returns", ["probabilities", "label"])
def test_the_search_is_of_the_answered_seeds_and_kept(
    seeds, noted, monkeypatch, returns
):
    train, seen = noted
    asked = []

    def fold_accuracy(images, answers, rate, passes, seed, train):
        asked.append((images, answers, train))
        return -abs(np.log(rate / 3e-3)) - abs(np.log(passes / 30))

    monkeypatch.setattr(prada, "fold_accuracy", fold_accuracy)
    api = PredictionAPI(brightness, returns=returns)
    prada.prada_attack(
        *(api, seeds, 80, "N-FGSM", 5), train=train, settings="search"
    )
    said = brightness(seeds)
    said = said.argmax(1) if returns == "label" else said
    assert len(asked) == 8 and api.ledger.queries == 80
    for images, answers, by in asked:
        np.testing.assert_array_equal(images, seeds)
        np.testing.assert_allclose(answers, said)
        assert by is train
    rate, passes = prada.best_settings(prada.cv_search(seeds, said, 5))
    assert [n for n, _ in seen] == [20, 40, 80]
    for n, how in seen:
        assert how == {"lr": rate, "steps": max(1, round(passes * n / 50))}


def test_a_rule_of_thumb_keeps_its_rate(seeds, monkeypatch):
    """Ten passes of Adam at 0.001 and no schedule."""
    rates, adam = [], torch.optim.Adam

    class Noted(adam):
        def step(self, *args, **more):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **more)

    monkeypatch.setattr(torch.optim, "Adam", Noted)
    x = np.concatenate([seeds] * 6)
    first = prada.train_by_thumb(x, brightness(x), 3)
    assert rates == [1e-3] * 30  # 120 rows: three steps a pass
    again = prada.train_by_thumb(x, brightness(x), 3)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    labels = brightness(x).argmax(1)
    copy = prada.train_by_thumb(x, labels, 3, lr=1e-2, passes=30)
    assert (training.predict_proba(copy, x).argmax(1) == labels).mean() > 0.9


# --- as many classes as are answered ---------------------------------------


def stripes(x):
    """A victim of 26 classes: in which of 26 rows is the ink?"""
    ink = x.reshape(len(x), 28, 28)[:, :26].sum(2) + 1e-3
    return ink / ink.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("returns", ["probabilities", "label"])
@pytest.mark.parametrize("settings", [None, (0.01, 2), "search"])
def test_classes_are_those_of_the_answers(returns, settings, monkeypatch):
    monkeypatch.setattr(prada, "PASSES", (1, 2))
    x = np.full((60, 1, 28, 28), 0.05, np.float32)
    for i, picture in enumerate(x):
        picture[0, i % 26] = 1
    api = PredictionAPI(stripes, returns=returns)
    model, _ = prada.prada_attack(api, x, 130, settings=settings)
    assert training.predict_proba(model, x[:2]).shape == (2, 26)
    assert api.ledger.queries == 130


def test_labels_that_are_no_places_are_refused():
    assert prada.classes_in(np.array([0, 3, 1])) == 4
    assert prada.classes_in(np.full((2, 7), 1 / 7)) == 7
    for labels in (np.array([-1, 2]), np.array([0.5, 1.0])):
        with pytest.raises(ValueError, match="places"):
            prada.classes_in(labels)
    with pytest.raises(ValueError, match="places"):
        prada.classes_in(np.array(["a", "b"]))


def test_another_network_reads_other_pictures():
    market = prada.small_market(0, per_class=2)
    assert market.natural.shape == (20, 1, 8, 8)
    for name, rows in market.rows.items():
        said = training.predict_proba(market.victim, rows).argmax(1)
        np.testing.assert_array_equal(market.said[name], said)
    api = market.sell("label")
    model, queries = prada.prada_attack(
        *(api, market.natural, 50),
        train=lambda x, y, seed: prada.train_substitute(
            x, y, seed, steps=3, make_model=prada.small_net
        ),
    )
    assert queries.shape == (50, 1, 8, 8)
    with pytest.raises(ValueError, match="28"):
        prada.prada_attack(api, market.natural, 50)


def test_a_small_attack_buys_what_it_is_told(monkeypatch):
    market = prada.small_market(0)
    asked = []

    def rounds(api, seeds, budget, rule, seed, step, train, settings):
        said = api.query(seeds[:3])
        asked.append((len(seeds), budget, rule, seed, step, settings))
        asked.append(said.ndim)
        for n in (5, 9):
            yield market.victim, np.zeros((n, 1, 8, 8)), None
        model = train(seeds[:10], market.said["digits"][:10], 0, steps=1)
        yield model, np.zeros((10, 1, 8, 8)), None

    monkeypatch.setattr(prada, "duplication_rounds", rounds)
    scores = prada.small_attack(market, 300, 7)
    assert scores[5] == scores[9] == 100
    assert scores[10] == scores["digits"] < 100
    prada.small_attack(
        *(market, 300, 7, "N-FGSM", 0.2, 5),
        **{"returns": "probabilities", "every": 5, "width": 8},
    )
    assert asked == [
        *((100, 300, "T-RND FGSM", 7, 0.1, (0.01, 15)), 1),
        *((20, 300, "N-FGSM", 7, 0.2, (0.01, 5)), 2),
    ]


def test_the_control_learns_the_seeds_alone_as_long_as_the_last_copy(
    monkeypatch,
):
    market = prada.small_market(0, per_class=2)
    seen, train = [], prada.train_substitute

    def noted(images, answers, seed, **how):
        seen.append((images, answers, how["lr"], how["steps"]))
        return train(images, answers, seed, **how)

    monkeypatch.setattr(prada, "train_substitute", noted)
    prada.small_control(market, 400, 0, passes=5)
    ((images, answers, rate, steps),) = seen
    np.testing.assert_array_equal(images, market.natural)
    said = training.predict_proba(market.victim, images).argmax(1)
    np.testing.assert_array_equal(answers, said)
    assert (rate, steps) == (0.01, 40)


def test_what_a_doubling_adds_is_paired_over_seeds():
    grown = {
        ("one", s, n): (None, {"fidelity": 10 * s + n})
        for s in (3, 4)
        for n in (1, 2, 4)
    }
    at = partial(prada.scores_at, grown, (3, 4))
    np.testing.assert_array_equal(at("one", 2, "fidelity"), [32, 42])
    gains = prada.rises(at, {"one": [1, 2, 4]}, "one", "fidelity")
    assert list(gains) == ["1 to 2", "2 to 4"]
    for gain, expected in zip(gains.values(), (1, 2), strict=True):
        assert tuple(gain) == pytest.approx((expected,) * 3)


def test_a_victim_agrees_with_itself_and_falls_to_its_own_examples():
    market = prada.small_market(0)
    scores = prada.small_scores(market, market.victim, 0)
    assert scores["digits"] == scores["noise"] == 100
    assert scores["untargeted"] > 90 and scores["targeted"] > 50


def test_a_rule_of_ones_own_is_a_function(seeds, quick):
    def still(model, x, labels, step, round, rng):
        return x

    _, queries = prada.prada_attack(OnlyQuery(brightness), seeds, 40, still)
    np.testing.assert_array_equal(queries[:20], queries[20:])


def test_the_other_start_turns_once(model, seeds, labels):
    before = logit(model, seeds, labels)
    for r, sign in zip(range(8), (-1, -1, -1, 1, 1, 1, 1, 1), strict=True):
        moved = prada.jbda_turned_once(model, seeds, labels, 0.02, r, None)
        assert (sign * (logit(model, moved, labels) - before) > 0).all()


def test_answers_spread_by_hand():
    bits, share = prada.answers_spread(np.array([1, 1, 2, 3]))
    assert bits == pytest.approx(1.5) and share == 0.5
    assert prada.answers_spread(np.zeros(9, int)) == (0, 1)


# --- reservoirs ------------------------------------------------------------


def test_reservoir_sampling_counts(seeds, quick):
    api = PredictionAPI(brightness)
    path = prada.duplication_rounds(
        api, seeds, 125, "N-FGSM", 0, reservoir=(2, 15)
    )
    sizes = [len(queries) for _, queries, _ in path]
    assert sizes == [20, 40, 80, 95, 110, 125]
    # n_0 2^first + count (rounds - first), the published formula
    assert sizes[5] == 20 * 2**2 + 15 * (5 - 2)


def test_parents_are_drawn_evenly_without_repeats():
    rng = np.random.default_rng(0)
    counts = np.zeros(10)
    for _ in range(3000):
        parents = prada.choose_parents(10, 100, 4, (3, 4), rng)
        assert len(np.unique(parents)) == 4
        counts[parents] += 1
    assert (np.abs(counts - 1200) < 120).all()
    everyone = prada.choose_parents(10, 100, 2, (3, 4), rng)
    np.testing.assert_array_equal(everyone, np.arange(10))


def test_the_attack_learns_the_victim(seeds):
    rng = np.random.default_rng(7)
    place = rng.integers(0, 5, 60)
    x = np.full((60, 1, 28, 28), 0.05, np.float32)
    for picture, fifth in zip(x, place, strict=True):
        picture[0, :, 5 * fifth : 5 * fifth + 5] = rng.uniform(0.5, 1)
    api = PredictionAPI(brightness, returns="label")
    model, _ = prada.prada_attack(api, x[:40], 160, "N-FGSM", 0)
    guess = model(torch.as_tensor(x)).argmax(1).numpy()
    assert (guess == place).mean() > 0.9


# --- search, scores, distances ---------------------------------------------


def test_expected_improvement_is_the_integral():
    for mean, deviation in ((0.4, 0.1), (0.6, 0.05), (0.5, 0.3)):
        by_sum, _ = integrate.quad(
            lambda a, m=mean, v=deviation: (a - 0.5) * stats.norm.pdf(a, m, v),
            *(0.5, mean + 12 * deviation),
        )
        value = prada.expected_improvement(mean, deviation, 0.5)
        np.testing.assert_allclose(value, by_sum, atol=1e-9)
    assert prada.expected_improvement(0.7, 0.0, 0.5) == pytest.approx(0.2)


def test_settings_span_their_ranges():
    for point, corner in (((0, 0), 0), ((1, 1), 1)):
        rate, passes = prada.settings_at(point)
        assert rate == pytest.approx(prada.RATES[corner])
        assert passes == prada.PASSES[corner]
    middle = prada.settings_at((0.5, 0))[0]
    assert middle == pytest.approx(np.sqrt(np.prod(prada.RATES)))


def test_the_search_finds_the_top_of_a_known_hill(seeds, monkeypatch):
    top = np.array([0.7, 0.4])

    def fold_accuracy(images, answers, rate, passes, seed, train):
        low, high = np.log(prada.RATES)
        where = (np.log(rate) - low) / (high - low)
        depth = np.log(passes / prada.PASSES[0])
        depth /= np.log(prada.PASSES[1] / prada.PASSES[0])
        return 1 - ((where - top[0]) ** 2 + (depth - top[1]) ** 2)

    monkeypatch.setattr(prada, "fold_accuracy", fold_accuracy)
    trials = prada.cv_search(seeds, None, 0, trials=14)
    corners = [tuple(point) for point, _ in trials[:4]]
    assert sorted(corners) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert max(value for _, value in trials) > 0.98
    assert len(trials) == 14
    best = max(trials, key=lambda trial: trial[1])
    assert prada.best_settings(trials) == prada.settings_at(best[0])


def test_folds_hold_out_every_row_once(seeds, monkeypatch):
    seen = []

    def train_substitute(images, answers, seed, lr, steps):
        seen.append((len(images), lr, steps))
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    monkeypatch.setattr(prada, "train_substitute", train_substitute)
    prada.fold_accuracy(seeds, brightness(seeds), 1e-3, 4, 0)
    assert seen == [(16, 1e-3, 1)] * 5


def test_folds_are_judged_on_rows_that_were_not_trained_on(seeds, monkeypatch):
    """Copies that say 1 to what they have learnt by heart, 0 to the rest."""

    class ByHeart(nn.Module):
        def __init__(self, images):
            super().__init__()
            self.known = {row.tobytes() for row in images}

        def forward(self, x):
            known = [row.numpy().tobytes() in self.known for row in x]
            return F.one_hot(torch.tensor(known).long(), 10).float()

    monkeypatch.setattr(
        prada, "train_substitute", lambda images, *_, **how: ByHeart(images)
    )
    ones = np.ones(len(seeds), int)
    assert prada.fold_accuracy(seeds, ones, 1e-3, 4, 0) == 0
    assert prada.fold_accuracy(seeds, 0 * ones, 1e-3, 4, 0) == 1


def test_the_next_trial_is_the_one_of_largest_expected_improvement(
    monkeypatch,
):
    asked = []

    def expected_improvement(mean, deviation, best):
        asked.append((mean.shape, (deviation >= 0).all(), best))
        return -np.abs(np.arange(500) - 123.0)

    monkeypatch.setattr(prada, "expected_improvement", expected_improvement)
    points = np.random.default_rng(0).random((6, 2))
    values = [0.1, 0.7, 0.3, 0.2, 0.5, 0.6]
    chosen = prada._next_point(list(points), values, np.random.default_rng(1))
    candidates = np.random.default_rng(1).random((500, 2))
    np.testing.assert_array_equal(chosen, candidates[123])
    assert asked == [((500,), True, 0.7)]


def test_scores_compare_with_the_victim_and_accuracy_with_the_truth():
    """Copy 0 1 2 2, victim 0 1 1 2, truth 0 0 1 2."""
    x = np.zeros((4, 1, 28, 28), np.float32)
    x[[0, 1, 2, 3], 0, 0, [0, 1, 2, 2]] = 9
    model = nn.Flatten()  # the first pixels are the scores
    test = datasets.Sample(x, np.array([0, 0, 1, 2]))
    said = {"test": np.array([0, 1, 1, 2]), "odd": np.array([0, 0, 2, 1])}
    scores = prada.scores_of(test, {"odd": x}, said, model)
    assert scores["accuracy"] == pytest.approx(50)
    assert scores["fidelity"] == pytest.approx(75)
    assert scores["relative"] == pytest.approx(100 * 2 / 3)
    f1 = [1, 2 / 3, 2 / 3]  # one hit of one, of one and two, of two and one
    assert scores["macro-F1"] == pytest.approx(100 * np.mean(f1))
    assert scores["odd"] == pytest.approx(50)


def test_percent_fooled_is_of_the_walks_on_the_copy(seeds, model):
    def query(x):
        with torch.no_grad():
            return model(torch.as_tensor(x)).softmax(1).double().numpy()

    labels = query(seeds).argmax(1)
    targets = prada.other_class(labels, 3, np.random.default_rng(0))
    api = OnlyQuery(query)
    shares = prada.transferability(model, api, seeds, labels, targets)
    percent = prada.percent_fooled(api, seeds, labels, targets, model)
    assert percent == {
        "untargeted": 100 * shares[0],
        "targeted": 100 * shares[1],
    }
    # whoever cannot be moved is not fooled
    still = OnlyQuery(lambda x: np.eye(10)[labels])
    assert prada.percent_fooled(still, seeds, labels, targets, model) == {
        "untargeted": 0,
        "targeted": 0,
    }


def test_seeds_are_balanced_and_drawn_without_repeats():
    x = np.arange(200, dtype=np.float32)[:, None, None, None]
    y = np.repeat(np.arange(10), 20)
    picked = prada.balanced(datasets.Sample(x, y), 0, 7).ravel().astype(int)
    assert len(set(picked)) == 70
    assert (np.bincount(y[picked]) == 7).all()
    again = prada.balanced(datasets.Sample(x, y), 1, 7).ravel()
    assert not np.array_equal(picked, again)


def test_transferability_of_a_victim_to_itself(seeds, model):
    def query(x):
        with torch.no_grad():
            return model(torch.as_tensor(x)).softmax(1).double().numpy()

    labels = query(seeds).argmax(1)
    targets = prada.other_class(labels, 3, np.random.default_rng(0))
    hit = prada.transferability(
        model, OnlyQuery(query), seeds, labels, targets, step=0.3
    )
    assert hit == (1.0, 1.0)
    assert prada.transferability(
        model, OnlyQuery(query), seeds, labels, targets, step=1e-6
    ) == (0.0, 0.0)


def test_nearest_earlier_by_brute_force():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(40, 1, 3, 3)), rng.integers(0, 3, 40)
    expected = [
        min(np.linalg.norm(x[i] - x[k]) for k in range(i) if labels[k] == own)
        for own in range(3)
        for i in np.flatnonzero(labels == own)[1:]
    ]
    found = prada.nearest_earlier(x, labels)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_random_sets_have_their_texture():
    x = prada.patches(5, 1)
    assert x.shape == (5, 1, 28, 28) and x.min() >= 0 and x.max() <= 1
    assert (x[0, 0, :4, :4] == x[0, 0, 0, 0]).all()
    assert x[0, 0, 0, 0] != x[0, 0, 4, 0]
    field = prada.waves(5, 1)
    assert field.shape == (5, 1, 28, 28)
    assert np.abs(np.diff(field, axis=3)).mean() < 0.1
    np.testing.assert_array_equal(field, prada.waves(5, 1))


# --- bad input -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rule": "luck"}, "luck"),
        ({"budget": 19}, "pays for the seeds"),
        ({"budget": 30.5}, "whole number"),
        ({"step": 0}, "step"),
        ({"step": 1.5}, "step"),
        ({"reservoir": (2, 0)}, "1 or more"),
        ({"reservoir": (-1, 5)}, "first round"),
        ({"settings": "luck"}, "luck"),
        ({"settings": (0.0, 10)}, "rate"),
        ({"settings": (0.01, 0)}, "passes"),
        ({"settings": (0.01, np.nan)}, "passes"),
    ],
)
def test_bad_input_is_refused_before_a_query(seeds, change, word):
    api = PredictionAPI(brightness)
    with pytest.raises(ValueError, match=word):
        prada.prada_attack(api, seeds, **({"budget": 40} | change))
    assert api.ledger.queries == 0


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda x: x[0], "one row is x"),
        (lambda x: x[:0], "at least one"),
        (lambda x: x.reshape(20, 784), "shape \\(20, 784\\)"),
        (lambda x: 255 * x, "divide bytes"),
        (lambda x: np.where(x > 0.5, np.nan, x), "infinite"),
    ],
)
def test_bad_seeds_are_refused_before_a_query(seeds, spoil, word):
    api = PredictionAPI(brightness)
    with pytest.raises(ValueError, match=word):
        prada.prada_attack(api, spoil(seeds), 40)
    assert api.ledger.queries == 0


def test_a_search_needs_seeds_to_hold_out(seeds):
    api = PredictionAPI(brightness)
    with pytest.raises(ValueError, match="to search with"):
        prada.prada_attack(api, seeds[:9], 40, settings="search")
    assert api.ledger.queries == 0


def test_what_the_api_cannot_sell_is_never_begun(seeds, quick):
    api = PredictionAPI(brightness, budget=50)
    with pytest.raises(BudgetExceeded, match="50 queries left"):
        prada.prada_attack(api, seeds, 80)
    assert api.ledger.queries == 0


def test_labels_that_are_no_places_are_never_paid(seeds):
    sold = {"returns": "label", "classes": [f"class {k}" for k in range(10)]}
    api = PredictionAPI(brightness, **sold)
    with pytest.raises(ValueError, match="places 0, 1, 2"):
        prada.prada_attack(api, seeds, 40)
    assert api.ledger.queries == 0


def test_a_budget_may_be_written_with_a_point(seeds, quick):
    api = PredictionAPI(brightness)
    _, queries = prada.prada_attack(api, seeds, 40.0, reservoir=(0, 20.0))
    assert len(queries) == api.ledger.queries == 40
