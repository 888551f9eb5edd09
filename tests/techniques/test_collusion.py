"""Collusion: what several accounts get, by a second route."""

from functools import partial

import numpy as np
import pytest

from mexutils import PredictionAPI, load_chapter, victims
from mexutils.api import Alarm

COLLUSION = load_chapter("comparison/collusion")


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
    run = COLLUSION.collude(blocking(35), ROWS, k)
    assert run["answered"] == answered == len(run["x"])
    assert run["blocked"] == blocked
    if blocked:
        assert run["first"] == first
    else:
        assert np.isnan(run["first"])


class OnlyTheFirst(AfterSoMany):
    """Warns of one account alone."""

    def observe(self, client, x, probabilities):
        alarm = super().observe(client, x, probabilities)
        return alarm if client == "account 0" else None


def test_the_first_alarm_counts_though_others_go_on():
    watch = [OnlyTheFirst(15)]
    api = PredictionAPI(step_victim, monitors=watch, on_alarm="block")
    run = COLLUSION.collude(api, ROWS, 3)
    assert run["blocked"] == 1 and run["answered"] == 200
    assert run["first"] == 30  # rows of three calls, one an account


def test_what_came_are_the_first_rows_and_their_answers():
    run = COLLUSION.collude(blocking(35), ROWS, 3)
    assert (run["x"] == ROWS[:90]).all()
    assert run["answers"] == pytest.approx(step_victim(ROWS[:90]))


def test_nobody_watching_answers_everything():
    run = COLLUSION.collude(blocking(None), ROWS[:95], 9)
    assert run["answered"] == 95
    assert run["blocked"] == 0


def test_accounts_take_turns_by_tens():
    api = blocking(None)
    COLLUSION.collude(api, ROWS, 3)
    table = api.ledger.table()["queries"]
    assert table.tolist() == [70, 70, 60]


@pytest.mark.parametrize("k", [0, -1])
def test_an_attacker_without_accounts_is_refused(k):
    with pytest.raises(ValueError, match="names"):
        COLLUSION.collude(blocking(None), ROWS, k)


def test_an_alarm_at_the_first_call_leaves_nothing_to_learn():
    with pytest.raises(ValueError, match="nothing was answered"):
        COLLUSION.collude(blocking(5), ROWS, 2)


def test_a_client_is_told_what_its_surrogate_makes_of_the_truth():
    poison = COLLUSION.POISON
    x = np.random.default_rng(0).uniform(0, 1, (5, 1, 28, 28))
    truth = victims.mnist_lenet().predict_proba(x)
    told = [COLLUSION.told_to(client, truth, x, 3) for client in (0, 1)]
    own = poison.MAD(poison.random_surrogate(3), 0.95)(x, truth)
    np.testing.assert_allclose(told[0], own)
    assert np.abs(told[1] - told[0]).max() > 0.01
    np.testing.assert_allclose(np.abs(told - truth).sum(axis=2), 0.95)


def test_same_answers_from_any_number_of_accounts():
    defense = COLLUSION.DECEPTIVE.ReverseSigmoid(1.0, 0.4)
    sell = partial(PredictionAPI, step_victim, defenses=[defense])
    assert COLLUSION.changed_by(sell, ROWS, 9) == 0


def test_answers_that_go_by_the_account_are_counted():
    class ByName:
        """Tells one of its clients the opposite."""

        def query(self, x, client):
            p = step_victim(x)
            return p if client != "account 2" else p[:, ::-1]

    assert COLLUSION.changed_by(ByName, ROWS[:60], 3) == 20


def test_the_mean_is_scored_as_it_is_and_by_its_copies():
    truth = np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.9, 0.1]])
    mean = np.array([[0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [0.9, 0.1]])
    judged = []

    def judge(x, answers, s):
        judged.append((len(x), len(answers), s))
        return len(x)

    found = COLLUSION.from_mean(mean, truth, np.zeros((4, 1)), 2, 7, judge)
    assert found["labels"] == 75
    assert found["distance"] == pytest.approx((0.4 + 0.6) / 4)
    assert (found["same rows"], found["same bill"]) == (4, 2)
    assert judged == [(4, 4, 7), (2, 2, 7)]


def test_linked_accounts_are_one():
    everyone = COLLUSION.WARNING.Everyone(AfterSoMany(35))
    api = PredictionAPI(step_victim, monitors=[everyone], on_alarm="block")
    run = COLLUSION.collude(api, ROWS, 6)
    assert run["answered"] == 30


def test_the_runs_of_unlinked_accounts():
    runs = {(0.1, 1, False): "a", (0.1, 1, True): "b", (0.2, 1, False): "c"}
    assert COLLUSION.unlinked(runs, 0.1) == {1: "a"}


@pytest.mark.parametrize("k", [3, 9])
def test_one_key_makes_a_majority_of_one(k):
    victim = COLLUSION.BDPL.PlaneVictim(0)
    alone = COLLUSION.majority(victim, [5], 0, n=60)
    assert COLLUSION.majority(victim, [5] * k, 0, n=60) == alone


def test_fresh_noise_is_averaged_away_as_the_binomial_says():
    victim = COLLUSION.BDPL.PlaneVictim(0)
    p = COLLUSION.BDPL.truth_probability(0.5)
    expected = 100 * COLLUSION.BDPL.stats.binom.sf(4, 9, p)
    found = COLLUSION.majority(victim, [5] * 9, 0, "none", n=2000)
    assert found == pytest.approx(expected, abs=3)


def test_first_alarm_in_words():
    runs = [{"first": 60.0}, {"first": np.nan}, {"first": 80.0}]
    assert COLLUSION.first_alarm(runs) == "70 (2 of 3 runs)"
    assert COLLUSION.first_alarm([{"first": np.nan}]) == "no alarm"


def test_a_pool_reads_what_one_client_reads():
    warning = COLLUSION.WARNING
    shop = warning.Shop("breast_cancer", 0)
    rows = warning.own_rows(shop.people, 90, np.random.default_rng(0))
    found = COLLUSION.pooled(shop, (1, 1, 1), rows, 3)
    a, _, b = warning.meters(shop)
    warning.sell(shop, [a, b]).query(rows, client="one")
    assert found["A all"] == a.status("one")
    assert found["B all"] == b.status("one")
    assert found["B best"] <= found["B all"]


def test_thresholds_are_the_highest_readings():
    warning = COLLUSION.WARNING
    shop = warning.Shop("breast_cancer", 0)
    found = COLLUSION.limits_of(shop, 2, 30, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    peaks = [
        warning.highest(
            shop, warning.answered(shop, warning.benign_rows(shop, 30, rng))
        )
        for _ in range(2)
    ]
    assert found == [max(pair) for pair in zip(*peaks, strict=True)]
