"""The comparison of defenses: its own small pieces, by a second route."""

from functools import partial

import numpy as np
import pytest

from mexutils import PredictionAPI, load_chapter, metrics, victims
from mexutils.api import Alarm

DEFENSES = load_chapter("comparison/defense_comparison")


def step_victim(x):
    """Two classes, the boundary at 0 of the first feature."""
    high = 1 / (1 + np.exp(-4 * np.asarray(x)[:, 0]))
    return np.column_stack([1 - high, high])


class AfterSoMany:
    """A monitor that warns of a client at its n-th query."""

    def __init__(self, n):
        self.n, self.seen = n, {}

    def observe(self, client, x, probabilities):
        self.seen[client] = self.seen.get(client, 0) + len(x)
        return Alarm(self.n, "many") if self.seen[client] >= self.n else None


def blocking(n):
    monitors = [AfterSoMany(n)] if n else []
    return PredictionAPI(step_victim, monitors=monitors, on_alarm="block")


ROWS = np.random.default_rng(0).uniform(-1, 1, (200, 3))


# --- k accounts and a monitor that blocks ---------------------------------


@pytest.mark.parametrize(
    ("k", "answered", "first", "blocked"),
    [
        # alarm at the 35th query of an account: its 4th call of ten is
        # refused, so that each account gets 30 rows
        (1, 30, 30, 1),
        (3, 90, 90, 3),
        (6, 180, 180, 6),
        (7, 200, 200, 0),
    ],
)
def test_each_account_gets_what_comes_before_its_alarm(
    k, answered, first, blocked
):
    run = DEFENSES.collude(blocking(35), ROWS, k)
    assert run["answered"] == answered == len(run["x"])
    assert run["blocked"] == blocked
    if blocked:
        assert run["first"] == first
    else:
        assert np.isnan(run["first"])


def test_what_came_are_the_first_rows_and_their_answers():
    run = DEFENSES.collude(blocking(35), ROWS, 3)
    assert (run["x"] == ROWS[:90]).all()
    assert run["answers"] == pytest.approx(step_victim(ROWS[:90]))


def test_nobody_watching_answers_everything():
    run = DEFENSES.collude(blocking(None), ROWS[:95], 9)
    assert run["answered"] == 95
    assert run["blocked"] == 0


def test_accounts_take_turns_by_tens():
    api = blocking(None)
    DEFENSES.collude(api, ROWS, 3)
    table = api.ledger.table()["queries"]
    assert table.tolist() == [70, 70, 60]


@pytest.mark.parametrize("k", [0, -1])
def test_an_attacker_without_accounts_is_refused(k):
    with pytest.raises(ValueError, match="names"):
        DEFENSES.collude(blocking(None), ROWS, k)


def test_an_alarm_at_the_first_call_leaves_nothing_to_learn():
    with pytest.raises(ValueError, match="nothing was answered"):
        DEFENSES.collude(blocking(5), ROWS, 2)


# --- perturbations ----------------------------------------------------------


@pytest.mark.parametrize("name", DEFENSES.PERTURBATIONS)
def test_recovery_comes_closer_to_the_truth(name):
    truth = np.random.default_rng(1).dirichlet(np.full(10, 0.3), 60)
    x = np.random.default_rng(2).uniform(0, 1, (60, 1, 28, 28))
    (defense,), back = DEFENSES.perturbed(name, 0)
    told = defense(x, truth)
    before = np.abs(told - truth).sum(1).mean()
    after = np.abs(back(told) - truth).sum(1).mean()
    assert after < before / 2


def test_no_defense_changes_nothing():
    assert DEFENSES.perturbed("no defense", 0) == ([], None)


@pytest.mark.parametrize("name", ["BDPL", "mad", ""])
def test_an_unknown_perturbation_is_named(name):
    with pytest.raises(ValueError, match="no perturbation"):
        DEFENSES.perturbed(name, 0)


def test_readings_of_an_undefended_answer():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    heard = DEFENSES.readings(p)
    assert set(heard) == {"naive", "labels"}
    assert heard["labels"].tolist() == [0, 2]
    more = DEFENSES.readings(p, lambda answers: answers[::-1])
    assert (more["recovered"] == p[::-1]).all()
    assert metrics.labels_of(more["sharpened"]).tolist() == [0, 2]
    assert more["sharpened"].max(1).min() > 0.999


def test_one_client_is_the_mad_of_the_seed():
    ask = victims.mnist_lenet().predict_proba
    x = np.random.default_rng(0).uniform(0, 1, (5, 1, 28, 28))
    (defense,), _ = DEFENSES.perturbed("Prediction Poisoning", 3)
    alone = DEFENSES.of_many(ask, x, 1, 3)
    assert alone == pytest.approx(defense(x, ask(x)))
    two = DEFENSES.of_many(ask, x, 2, 3)
    assert two.sum(axis=1) == pytest.approx(1)


def test_same_answers_from_any_number_of_accounts():
    (defense,), _ = DEFENSES.perturbed("Deceptive Perturbations", 0)
    sell = partial(PredictionAPI, step_victim, defenses=[defense])
    one, nine = (DEFENSES.answers_from(sell(), ROWS, k) for k in (1, 9))
    assert (one == nine).all()


def test_moved_by_hand():
    own = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = DEFENSES.moved(
        lambda x, p: p[:, ::-1], np.zeros((2, 1)), own, np.array([0, 0])
    )
    # right on one of two rows before, and on the other one after
    assert found["lost"] == pytest.approx(0)
    assert found["L1"] == pytest.approx((1.6 + 1.2) / 2)


def test_the_mean_of_many_from_answers_that_are_known():
    ask = victims.mnist_lenet().predict_proba
    x = np.random.default_rng(0).uniform(0, 1, (5, 1, 28, 28))
    truth = ask(x)
    known = DEFENSES.of_many(lambda _: truth, x, 3, 2)
    assert (known == DEFENSES.of_many(ask, x, 3, 2)).all()


# --- BDPL ------------------------------------------------------------------


@pytest.mark.parametrize("k", [3, 9])
def test_one_key_makes_a_majority_of_one(k):
    victim = DEFENSES.BDPL.PlaneVictim(0)
    alone = DEFENSES.majority(victim, [5], 0, n=60)
    assert DEFENSES.majority(victim, [5] * k, 0, n=60) == alone


def test_fresh_noise_is_averaged_away_as_the_binomial_says():
    victim = DEFENSES.BDPL.PlaneVictim(0)
    p = DEFENSES.BDPL.truth_probability(0.5)
    expected = 100 * DEFENSES.BDPL.stats.binom.sf(4, 9, p)
    found = DEFENSES.majority(victim, [5] * 9, 0, "none", n=2000)
    assert found == pytest.approx(expected, abs=3)


# --- scores ------------------------------------------------------------------


def runs_of(*values):
    return [{"fidelity": v} for v in values]


def test_the_best_attacker_is_best_by_its_mean():
    attackers = {"high once": runs_of(99, 1), "steady": runs_of(60, 60)}
    assert DEFENSES.best_of(attackers) == ("steady", attackers["steady"])


def test_outcome_is_paired_with_the_best_without_a_defense():
    found = DEFENSES.outcome(
        {"weak": runs_of(10, 10), "strong": runs_of(90, 80)},
        {"weak": runs_of(4, 5)},
        {"weak": runs_of(4, 5), "clever": runs_of(85, 85)},
    )
    assert found["naive"].tolist() == [6, 5]
    assert found["best"].tolist() == [5, -5]
    assert found["who"] == "clever"


def test_first_alarm_in_words():
    runs = [{"first": 60.0}, {"first": np.nan}, {"first": 80.0}]
    assert DEFENSES.first_alarm(runs) == "70 (2 of 3 runs)"
    assert DEFENSES.first_alarm([{"first": np.nan}]) == "no alarm"


# --- trees -------------------------------------------------------------------


def test_a_pool_reads_what_one_client_reads():
    warning = DEFENSES.WARNING
    shop = warning.Shop("breast_cancer", 0)
    rows = warning.own_rows(shop.people, 90, np.random.default_rng(0))
    found = DEFENSES.pooled(shop, (1, 1, 1), rows, 3)
    a, _, b = warning.meters(shop)
    warning.sell(shop, [a, b]).query(rows, client="one")
    assert found["A all"] == a.status("one")
    assert found["B all"] == b.status("one")
    assert found["B best"] <= found["B all"]


def test_thresholds_are_the_highest_readings():
    warning = DEFENSES.WARNING
    shop = warning.Shop("breast_cancer", 0)
    found = DEFENSES.limits_of(shop, 2, 30, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    peaks = [
        warning.highest(
            shop, warning.answered(shop, warning.benign_rows(shop, 30, rng))
        )
        for _ in range(2)
    ]
    assert found == [max(pair) for pair in zip(*peaks, strict=True)]


def test_watched_counts_the_clients_that_are_warned_of():
    warning = DEFENSES.WARNING
    shop = warning.Shop("breast_cancer", 0)
    visits = [shop.people[:40], shop.people[:2]]
    labels, meters = DEFENSES.watched(shop, (0.01, 1, 0.9), visits=visits)
    assert labels is None
    assert DEFENSES.alarms_on(meters, "A") == 1
    assert DEFENSES.alarms_on(meters, "B") == 0
    assert not meters[1].clients  # no strategy of the chapter reads it
