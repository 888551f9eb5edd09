"""The prediction API: what it answers, refuses, bills and reports."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Barrier, Event, Lock
from time import sleep

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mexutils import (
    Alarm,
    BudgetExceeded,
    ClientBlocked,
    Ledger,
    PredictionAPI,
    metrics,
)
from mexutils.api import BadAnswer, BadRows

ROWS = np.random.default_rng(0).normal(size=(20, 2))
WEIGHTS = np.array([[1.0, -2.0, 0.5], [0.3, 0.8, -1.0]])


class Victim:
    """Softmax regression on two features that remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def predict_proba(self, x):
        self.asked.append(np.array(x))
        return softmax(x @ WEIGHTS, axis=1)


class Watcher:
    """A monitor that raises an alarm in the calls of the given numbers."""

    def __init__(self, *alarms_in):
        self.alarms_in, self.seen = alarms_in, []

    def observe(self, client, x, probabilities):
        self.seen.append((client, x.copy(), probabilities))
        call = len(self.seen)
        return Alarm(call, f"call {call}") if call in self.alarms_in else None


@pytest.fixture
def victim():
    return Victim()


@pytest.fixture
def make(victim):
    def make_api(**settings):
        return PredictionAPI(victim.predict_proba, **settings)

    return make_api


def answering(*probabilities):
    """A victim that answers every row alike."""
    return lambda x: np.tile(probabilities, (len(x), 1))


def refuses(api, rows, words, error=ValueError, client="eve"):
    """The call raises, and the ledger and the victim's state stay put."""
    bill = api.ledger.queries, api.ledger.calls, api.ledger.cost
    with pytest.raises(error, match=words):
        api.query(rows, client=client)
    assert (api.ledger.queries, api.ledger.calls, api.ledger.cost) == bill


# --- the ledger -----------------------------------------------------------


def test_ledger_equals_the_rows_sent(make):
    api = make(price_per_1000=2.5)
    rng = np.random.default_rng(1)
    sent = {"ann": [], "bob": []}
    for _ in range(40):
        client, n = rng.choice(["ann", "bob"]), int(rng.integers(1, 20))
        assert len(api.query(ROWS[:n], client=client)) == n
        sent[client].append(n)
    for client, batches in sent.items():
        account = api.ledger.accounts[client]
        assert account.queries == sum(batches)
        assert account.calls == len(batches)
    total = sum(map(sum, sent.values()))
    assert api.ledger.queries == total
    assert api.ledger.calls == 40
    assert api.ledger.cost == pytest.approx(total * 2.5 / 1000)
    table = api.ledger.table()
    assert table.loc["bob", "queries"] == sum(sent["bob"])
    assert table["cost ($)"].sum() == pytest.approx(api.ledger.cost)


def test_a_repeated_row_is_billed_again(make):
    api = make()
    api.query(np.repeat(ROWS[:1], 3, axis=0))
    api.query(ROWS[:1])
    assert api.ledger.queries == 4


def test_a_new_api_has_an_empty_ledger(make):
    ledger = make().ledger
    assert (ledger.queries, ledger.calls, ledger.cost) == (0, 0, 0)
    assert len(ledger.table()) == 0


# --- the budget -----------------------------------------------------------


def test_a_batch_above_the_budget_is_refused_whole(make, victim):
    api = make(budget=10)
    api.query(ROWS[:6])
    asked = len(victim.asked)
    refuses(api, ROWS[:5], "5 rows asked, 4 of 10 left", BudgetExceeded)
    assert len(victim.asked) == asked
    assert api.remaining == 4


def test_a_batch_that_fits_exactly_is_answered_and_then_none(make):
    api = make(budget=10)
    assert len(api.query(ROWS[:10])) == 10
    assert api.remaining == 0
    refuses(api, ROWS[:1], "0 of 10 left", BudgetExceeded)


def test_a_smaller_batch_is_answered_after_a_refusal(make):
    api = make(budget=10)
    refuses(api, ROWS[:11], "send fewer rows", BudgetExceeded)
    assert len(api.query(ROWS[:9])) == 9
    assert api.remaining == 1


def test_clients_share_the_budget(make):
    api = make(budget=10)
    api.query(ROWS[:8], client="ann")
    refuses(api, ROWS[:3], "2 of 10 left", BudgetExceeded, client="bob")


def test_without_a_budget_nothing_runs_out(make):
    api = make()
    assert api.remaining is None
    assert len(api.query(np.zeros((5000, 2)))) == 5000


# --- bad rows and bad settings --------------------------------------------

BAD_ROWS = {
    "too wide": (np.zeros((4, 3)), r"shape \(2,\), not \(3,\)"),
    "too narrow": (np.zeros((4, 1)), r"shape \(2,\), not \(1,\)"),
    "one row alone": (np.zeros(2), r"shape \(2,\).*x\[None\]"),
    "a number": (1.0, "batch of rows"),
    "too deep": (np.zeros((4, 2, 2)), r"shape \(2,\), not \(2, 2\)"),
    "empty": (np.zeros((0, 2)), "batch of rows"),
    "NaN": ([[0, 0], [np.nan, 1]], "NaN.*first row 1.*drop or repair"),
    "infinite": ([[0, -np.inf], [0, 1]], "infinite.*first row 0"),
    "strings": ([["a", "b"]], "not an array of numbers"),
    "digits as strings": ([["1", "2"]], "not an array of numbers"),
    "sparse": (sparse.eye_array(3, 2, format="csr"), r"x\.toarray\(\)"),
    "ragged": ([[1.0, 2.0], [3.0]], "every row equally long"),
    "nothing": (None, "not an array of numbers|batch of rows"),
}


def test_numbers_of_several_kinds_are_rows(make):
    frame = pd.DataFrame({"flag": [True, False], "size": [0.25, 1]})
    mixed = frame.astype(object)
    expected = make().query(frame.to_numpy(float))
    for rows in (frame, mixed, mixed.to_numpy()):
        np.testing.assert_array_equal(make().query(rows), expected)


@pytest.mark.parametrize("case", BAD_ROWS)
@pytest.mark.parametrize("known", [True, False], ids=["known", "learnt"])
def test_bad_rows_are_refused(make, victim, case, known):
    rows, words = BAD_ROWS[case]
    watcher = Watcher()
    api = make(monitors=[watcher], input_shape=(2,) if known else None)
    api.query(ROWS, client="ann")
    asked = len(victim.asked)
    refuses(api, rows, words)
    assert len(victim.asked) == asked
    assert len(watcher.seen) == 1


def test_a_row_without_any_feature_is_refused(make):
    refuses(make(), np.zeros((3, 0)), r"not.*shape.*\(3, 0\)")


BAD_SETTINGS = [
    *(("returns", value) for value in ("top-0", "top-", "top-1.5", "top--1")),
    *(("returns", value) for value in ("labels", "Probabilities", None, 3)),
    *(("decimals", value) for value in (-1, 1.5, True, "two", np.nan, [2])),
    *(("budget", value) for value in (-1, 2.5, True, "many", np.inf, [2])),
    *(("price_per_1000", value) for value in (-1, np.nan, np.inf, "free")),
    *(("price_per_1000", value) for value in (None, [1.5])),
    *(("on_alarm", value) for value in ("stop", None, True)),
    *(("input_shape", value) for value in (2, (2.5,), (-2,), "two")),
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_bad_settings_are_refused(make, name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        make(**{name: value})


def test_a_victim_that_is_no_function_is_refused():
    with pytest.raises(ValueError, match="pass model.predict_proba"):
        PredictionAPI(LogisticRegression())


# --- bad victims ----------------------------------------------------------

BAD_VICTIMS = {
    "logits": (lambda x: x @ WEIGHTS, "no probability vectors.*softmax"),
    "labels": (lambda x: (x @ WEIGHTS).argmax(1), r"shape \(\d+,\)"),
    "one column": (lambda x: np.ones((len(x), 1)), "two classes or more"),
    "NaN": (lambda x: np.full((len(x), 3), np.nan), "NaN"),
    "a row short": (lambda x: answering(0.5, 0.5)(x)[:-1], "rows were"),
    "negative": (answering(1.2, -0.2), "smallest entry -0.2"),
}


@pytest.mark.parametrize("case", BAD_VICTIMS)
def test_a_bad_victim_of_declared_shape_is_refused_at_once(case):
    function, words = BAD_VICTIMS[case]
    with pytest.raises(ValueError, match=words):
        PredictionAPI(function, input_shape=(2,))


@pytest.mark.parametrize("case", BAD_VICTIMS)
def test_a_bad_victim_that_tells_its_shape_is_refused_at_once(case):
    function, words = BAD_VICTIMS[case]

    class Owner:
        input_shape = (2,)

        def predict_proba(self, x):
            return function(x)

    with pytest.raises(ValueError, match=words):
        PredictionAPI(Owner().predict_proba)


@pytest.mark.parametrize("method", ["decision_function", "predict"])
def test_scikit_learns_scores_and_labels_are_refused_at_once(method):
    model = LogisticRegression().fit(ROWS, np.arange(20) % 3)
    with pytest.raises(ValueError, match="probability vectors"):
        PredictionAPI(getattr(model, method))


@pytest.mark.parametrize("case", BAD_VICTIMS)
def test_a_bad_victim_of_unknown_shape_is_refused_at_its_first_call(case):
    function, words = BAD_VICTIMS[case]
    watcher = Watcher()
    api = PredictionAPI(function, monitors=[watcher])
    refuses(api, ROWS, words)
    assert api.input_shape is None
    assert watcher.seen == []


def test_the_row_shape_is_known_or_learnt_from_the_first_answer(make):
    model = LogisticRegression().fit(ROWS, np.arange(20) % 3)
    assert PredictionAPI(model.predict_proba).input_shape == (2,)
    assert make(input_shape=[2]).input_shape == (2,)
    api = make(budget=5)
    refuses(api, np.zeros((6, 7)), "left", BudgetExceeded)
    assert api.input_shape is None
    api.query(ROWS[:3])
    assert api.input_shape == (2,)


# --- the answers ----------------------------------------------------------


def test_probabilities_are_the_victims_own(make):
    answer = make().query(ROWS)
    assert answer.dtype == np.float64
    np.testing.assert_array_equal(answer, softmax(ROWS @ WEIGHTS, axis=1))


def test_labels_are_the_most_probable_classes(make):
    labels = make(returns="label").query(ROWS)
    assert np.issubdtype(labels.dtype, np.integer)
    np.testing.assert_array_equal(labels, (ROWS @ WEIGHTS).argmax(1))


def test_labels_do_not_depend_on_the_rounding():
    api = PredictionAPI(
        answering(0.332, 0.334, 0.334), returns="label", decimals=2
    )
    assert api.query(ROWS[:1]) == [1]


def test_top_k_keeps_the_places_and_is_not_renormalised():
    api = PredictionAPI(answering(0.2, 0.1, 0.4, 0.3), returns="top-2")
    np.testing.assert_array_equal(api.query(ROWS[:1]), [[0, 0, 0.4, 0.3]])


def test_top_k_takes_the_first_of_equals():
    # So many that a sort which does not keep the order would mix them.
    api = PredictionAPI(answering(*[1 / 96, 2 / 96] * 32), returns="top-3")
    for answer in api.query(ROWS):
        assert np.flatnonzero(answer).tolist() == [1, 3, 5]


@pytest.mark.parametrize("k", [3, 12])
def test_top_k_of_all_classes_is_everything(make, k):
    np.testing.assert_array_equal(
        make(returns=f"top-{k}").query(ROWS), make().query(ROWS)
    )


def test_answers_are_rounded_to_the_decimals(make):
    exact = softmax(ROWS @ WEIGHTS, axis=1)
    np.testing.assert_array_equal(make(decimals=2).query(ROWS), exact.round(2))


def test_answers_are_truncated_before_they_are_rounded():
    # Rounded first, all three would tie and the first two would stay.
    api = PredictionAPI(
        answering(0.332, 0.334, 0.334), returns="top-2", decimals=2
    )
    np.testing.assert_array_equal(api.query(ROWS[:1]), [[0, 0.33, 0.33]])


def test_a_client_cannot_change_the_victim_through_its_answer():
    memory = softmax(ROWS @ WEIGHTS, axis=1)
    api = PredictionAPI(lambda x: memory[: len(x)])
    expected = memory.copy()
    api.query(ROWS)[:] = 0
    np.testing.assert_array_equal(api.query(ROWS), expected)


# --- defenses -------------------------------------------------------------


def test_defenses_apply_in_order_each_to_what_the_last_returned(make):
    seen = []

    def reverse(x, p):
        seen.append(p)
        return p[:, ::-1]

    def keep_first(x, p):
        seen.append(p)
        return np.eye(3)[np.zeros(len(p), int)] * 0.5 + p * 0.5

    own = softmax(ROWS @ WEIGHTS, axis=1)
    answer = make(defenses=[reverse, keep_first]).query(ROWS)
    np.testing.assert_array_equal(seen[0], own)
    np.testing.assert_array_equal(seen[1], own[:, ::-1])
    np.testing.assert_allclose(answer, own[:, ::-1] / 2 + [0.5, 0, 0])


def test_answers_are_truncated_and_rounded_after_the_defenses(make):
    api = make(
        defenses=[lambda x, p: answering(0.121, 0.333, 0.546)(x)],
        returns="top-2",
        decimals=2,
    )
    np.testing.assert_array_equal(api.query(ROWS[:1]), [[0, 0.33, 0.55]])


@pytest.mark.parametrize(
    "defense",
    [
        lambda x, p: p + 0.1,
        lambda x, p: p * np.nan,
        lambda x, p: p.argmax(1),
        lambda x, p: p[:-1],
        lambda x, p: None,
    ],
    ids=["no probabilities", "NaN", "labels", "a row short", "nothing"],
)
def test_a_defense_that_returns_no_probabilities_is_refused(make, defense):
    watcher = Watcher()
    refuses(make(defenses=[defense], monitors=[watcher]), ROWS, "answer")
    assert watcher.seen == []


def test_a_defense_changes_neither_what_monitors_see_nor_the_rows(make):
    def vandal(x, p):
        x[:] = 0
        p[:] = 1 / 3
        return p

    watcher = Watcher()
    rows = ROWS.copy()
    answer = make(defenses=[vandal], monitors=[watcher]).query(rows)
    np.testing.assert_array_equal(answer, np.full((20, 3), 1 / 3))
    _, seen_rows, seen = watcher.seen[0]
    np.testing.assert_array_equal(seen, softmax(ROWS @ WEIGHTS, axis=1))
    np.testing.assert_array_equal(seen_rows, ROWS)
    np.testing.assert_array_equal(rows, ROWS)


# --- monitors -------------------------------------------------------------


def test_monitors_see_client_rows_and_the_victims_own_answers(make):
    watchers = Watcher(), Watcher()
    api = make(monitors=watchers, returns="label")
    api.query(ROWS, client="ann")
    api.query(ROWS[:3], client="bob")
    for watcher in watchers:
        assert [client for client, _, _ in watcher.seen] == ["ann", "bob"]
        np.testing.assert_array_equal(watcher.seen[1][1], ROWS[:3])
        np.testing.assert_array_equal(
            watcher.seen[0][2], softmax(ROWS @ WEIGHTS, axis=1)
        )


def test_the_first_alarm_of_each_client_is_kept(make):
    api = make(monitors=[Watcher(2, 3, 4)])
    for client in ("ann", "eve", "bob", "eve"):
        api.query(ROWS[:2], client=client)
    assert api.alarms == {"eve": Alarm(2, "call 2"), "bob": Alarm(3, "call 3")}


def test_a_flagged_client_is_answered_on(make):
    api = make(monitors=[Watcher(1)], on_alarm="flag")
    for _ in range(3):
        assert len(api.query(ROWS, client="eve")) == 20
    assert api.ledger.accounts["eve"].queries == 60


def test_a_blocked_client_gets_no_answer_any_more(make, victim):
    watcher = Watcher(2)
    api = make(monitors=[watcher], on_alarm="block")
    api.query(ROWS, client="eve")
    refuses(api, ROWS, "'eve' is blocked.*call 2", ClientBlocked)
    asked = len(victim.asked)
    refuses(api, ROWS, "nothing was answered", ClientBlocked)
    assert len(victim.asked) == asked
    assert len(watcher.seen) == 2
    assert api.ledger.accounts["eve"].queries == 20


def test_other_clients_do_not_feel_a_block(make):
    api = make(monitors=[Watcher(1)], on_alarm="block")
    refuses(api, ROWS, "blocked", ClientBlocked)
    assert len(api.query(ROWS, client="ann")) == 20
    assert list(api.ledger.accounts) == ["ann"]


def test_a_call_above_the_budget_never_reaches_the_monitors(make):
    watcher = Watcher(1)
    api = make(monitors=[watcher], budget=5, on_alarm="block")
    refuses(api, ROWS, "left", BudgetExceeded)
    assert watcher.seen == []
    assert api.alarms == {}


# --- several threads at once ----------------------------------------------


def in_threads(work, n=32):
    """What `work(k)` returns for each of n threads that start together."""
    gate = Barrier(n)

    def begin(k):
        gate.wait(30)
        return work(k)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(begin, range(n), timeout=60))


def rows_bought(api, client, calls=40, rows=25):
    """How many rows the client got before the budget was spent."""
    got = 0
    for _ in range(calls):
        try:
            got += len(api.query(np.zeros((rows, 2)), client))
        except BudgetExceeded:
            break
    return got


def slow(x):
    sleep(0.001)
    return np.full((len(x), 2), 0.5)


def test_threads_get_no_more_rows_than_the_budget():
    api = PredictionAPI(slow, budget=1000, input_shape=(2,))
    got = in_threads(lambda k: rows_bought(api, f"client {k}"))
    assert sum(got) == api.ledger.queries == 1000
    assert api.ledger.calls == 40
    assert api.remaining == 0
    for k, rows in enumerate(got):
        if rows:
            assert api.ledger.accounts[f"client {k}"].queries == rows


def test_what_fails_is_given_back_and_billed_to_nobody():
    turn = count()

    def moody(x):
        sleep(0.001)
        if next(turn) % 3 == 0:
            raise OSError("the victim is down")
        return np.full((len(x), 2), 0.5)

    api = PredictionAPI(moody, budget=1000, input_shape=(2,), try_out=False)

    def insist(k):
        got = failed = 0
        while True:
            try:
                got += len(api.query(ROWS, client=f"client {k}"))
            except OSError:
                failed += 1
            except BudgetExceeded:
                if api.remaining == 0 and api.ledger.queries == 1000:
                    return got, failed

    got, failed = zip(*in_threads(insist, 8), strict=True)
    assert sum(got) == api.ledger.queries == 1000
    assert sum(failed) > 0
    assert api.ledger.calls == 50


def test_rows_under_way_count_as_used_until_their_call_fails():
    asked, go_on = Event(), Event()

    def waits(x):
        asked.set()
        assert go_on.wait(30)
        raise OSError("the victim is down")

    api = PredictionAPI(waits, budget=10, input_shape=(2,), try_out=False)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(api.query, ROWS[:7])
        assert asked.wait(30)
        assert api.remaining == 3 and api.ledger.queries == 0
        refuses(api, ROWS[:4], "4 rows asked, 3 of 10 left", BudgetExceeded)
        go_on.set()
        with pytest.raises(OSError, match="down"):
            call.result(30)
    assert api.remaining == 10 and api.ledger.calls == 0


class Failing:
    def observe(self, client, x, probabilities):
        raise OSError("the monitor is down")


FAILURES = {
    "victim": (ValueError, "logits", {"predict_proba": lambda x: x}),
    "defense": (ValueError, "logits", {"defenses": [lambda x, p: p * 2]}),
    "monitor": (OSError, "is down", {"monitors": [Failing()]}),
    "block": (
        *(ClientBlocked, "blocked"),
        {"monitors": [Watcher(1, 2, 3)], "on_alarm": "block"},
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_call_that_fails_anywhere_costs_no_budget(case):
    error, words, settings = FAILURES[case]
    settings = {"predict_proba": answering(0.5, 0.5)} | settings
    api = PredictionAPI(**settings, budget=20)
    for _ in range(3):
        refuses(api, ROWS, words, error)
        assert api.remaining == 20


def test_monitors_see_one_call_at_a_time_and_the_victim_many():
    inside = {"victim": 0, "monitor": 0}
    most = dict(inside)
    lock = Lock()

    def visit(room):
        with lock:
            inside[room] += 1
            most[room] = max(most[room], inside[room])
        sleep(0.005)
        with lock:
            inside[room] -= 1

    class Visitor:
        def observe(self, client, x, probabilities):
            visit("monitor")

    def victim(x):
        visit("victim")
        return np.full((len(x), 2), 0.5)

    api = PredictionAPI(victim, monitors=[Visitor()])
    in_threads(lambda k: [api.query(ROWS) for _ in range(5)], 8)
    assert most["monitor"] == 1
    assert most["victim"] > 1
    assert api.ledger.calls == 40


def test_one_alarm_stops_the_calls_of_that_client_that_are_under_way():
    watcher, gate = Watcher(1), Barrier(8)

    def victim(x):
        gate.wait(30)  # all eight have passed the first look at the alarms
        return np.full((len(x), 2), 0.5)

    api = PredictionAPI(victim, monitors=[watcher], on_alarm="block")

    def ask(k):
        with pytest.raises(ClientBlocked):
            api.query(ROWS, client="eve")

    in_threads(ask, 8)
    assert len(watcher.seen) == 1 and len(api.alarms) == 1
    assert api.ledger.queries == 0


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda api: pickle.loads(pickle.dumps(api))],
    ids=["copied", "copied deeply", "pickled"],
)
def test_an_api_can_be_copied_and_sent_to_a_worker(again):
    model = LogisticRegression().fit(ROWS, np.arange(20) % 3)
    api = PredictionAPI(model.predict_proba, budget=30)
    api.query(ROWS[:9], client="ann")
    other = again(api)
    assert other.remaining == 21
    np.testing.assert_array_equal(other.query(ROWS[:1]), api.query(ROWS[:1]))


# --- whose arrays ---------------------------------------------------------


def test_a_victim_that_writes_into_its_rows_changes_nobody_elses():
    def scales(x):
        x /= 10
        return softmax(x @ WEIGHTS, axis=1)

    seen = []
    api = PredictionAPI(
        scales,
        monitors=[Watcher(), watcher := Watcher()],
        defenses=[lambda x, p: (seen.append(x), p)[1]],
    )
    mine = ROWS.copy()
    first = api.query(mine)
    np.testing.assert_array_equal(mine, ROWS)
    np.testing.assert_array_equal(seen[0], ROWS)
    np.testing.assert_array_equal(watcher.seen[0][1], ROWS)
    np.testing.assert_array_equal(api.query(mine), first)


def test_a_monitor_that_writes_changes_nobody_elses():
    class Vandal:
        def observe(self, client, x, probabilities):
            x[:] = 0
            probabilities[:] = 0

    watcher = Watcher()
    mine = ROWS.copy()
    api = PredictionAPI(Victim().predict_proba, monitors=[Vandal(), watcher])
    answer = api.query(mine)
    np.testing.assert_array_equal(mine, ROWS)
    np.testing.assert_array_equal(watcher.seen[0][1], ROWS)
    np.testing.assert_array_equal(answer, watcher.seen[0][2])
    np.testing.assert_array_equal(answer, softmax(ROWS @ WEIGHTS, axis=1))


def test_what_is_kept_of_a_call_is_not_the_clients_array():
    class Hoarder:
        def observe(self, client, x, probabilities):
            self.rows, self.answers = x, probabilities

    hoarder, kept = Hoarder(), []

    def victim(x):
        kept.append(x)
        return softmax(x @ WEIGHTS, axis=1)

    api = PredictionAPI(victim, monitors=[hoarder])
    mine = ROWS.copy()
    answer = api.query(mine)
    expected = answer.copy()
    mine[:], answer[:] = 0, 0
    np.testing.assert_array_equal(hoarder.rows, ROWS)
    np.testing.assert_array_equal(kept[0], ROWS)
    np.testing.assert_array_equal(hoarder.answers, expected)


def test_a_client_cannot_change_what_a_defense_remembers():
    memory = np.full((20, 2), 0.5)
    api = PredictionAPI(answering(0.9, 0.1), defenses=[lambda x, p: memory])
    api.query(ROWS)[:] = 0
    np.testing.assert_array_equal(memory, 0.5)


# --- the try-out ----------------------------------------------------------


def test_the_try_out_sends_four_rows_that_nobody_pays(make, victim):
    watcher = Watcher()
    api = make(input_shape=(2,), monitors=[watcher])
    (rows,) = victim.asked
    assert rows.shape == (4, 2)
    assert (rows[0] == 0).all()
    assert ((rows[1:] >= 0) & (rows[1:] < 1)).all()
    assert api.ledger.calls == 0 and watcher.seen == []


def test_without_a_try_out_the_first_answer_is_checked(victim):
    def logits(x):
        victim.asked.append(x)
        return x @ WEIGHTS

    api = PredictionAPI(logits, input_shape=(2,), try_out=False)
    assert victim.asked == []
    refuses(api, ROWS, "logits")


def test_a_victim_that_raises_on_made_up_rows_can_be_sold():
    codes = np.random.default_rng(0).integers(1, 5, (60, 2)).astype(float)
    strict = make_pipeline(OneHotEncoder(), LogisticRegression())
    strict.fit(codes, codes[:, 0] > 2)
    api = PredictionAPI(strict.predict_proba)
    np.testing.assert_array_equal(
        api.query(codes), strict.predict_proba(codes)
    )
    refuses(api, ROWS, "unknown categories")


def test_a_victim_that_raises_and_then_answers_wrongly_is_refused_unbilled():
    def strict(x):
        if (x != x.round()).any():
            raise KeyError("no such category")
        return x

    api = PredictionAPI(strict, input_shape=(2,))
    refuses(api, ROWS, "no such category", KeyError)
    refuses(api, np.full((3, 2), 4.0), "logits")


# --- labels by name -------------------------------------------------------

NAMES = {
    "numbers": np.array([3, 5, 8]),
    "fractions": [0.5, 1.0, 2.5],
    "words": ["low", "middle", "high"],
    "objects": np.array(["low", "middle", "high"], dtype=object),
}


@pytest.mark.parametrize("kind", NAMES)
def test_labels_have_the_owners_names_and_their_dtype(make, kind):
    labels = make(returns="label", classes=NAMES[kind]).query(ROWS)
    names = np.asarray(NAMES[kind])
    assert labels.dtype == names.dtype
    places = (ROWS @ WEIGHTS).argmax(1)
    np.testing.assert_array_equal(labels, names[places])


@pytest.mark.parametrize("names", [[3, 5, 8], ["a", "b", "c"]])
def test_named_labels_score_as_the_model_says(names):
    y = np.array(names)[np.arange(20) % 3]
    model = LogisticRegression().fit(ROWS, y)
    api = PredictionAPI(
        model.predict_proba, returns="label", classes=model.classes_
    )
    assert metrics.accuracy(api.query(ROWS), y) == model.score(ROWS, y)


def test_names_of_classes_change_no_probabilities(make):
    api = make(classes=["a", "b", "c"], returns="top-2")
    np.testing.assert_array_equal(
        api.query(ROWS), make(returns="top-2").query(ROWS)
    )


def test_the_names_are_not_the_owners_list():
    names = np.array([3, 5, 8])
    api = PredictionAPI(Victim().predict_proba, returns="label", classes=names)
    expected = api.query(ROWS)
    names[:] = 0
    api.query(ROWS)[:] = 0
    np.testing.assert_array_equal(api.query(ROWS), expected)


@pytest.mark.parametrize(
    "classes",
    [
        *("abc", 3, [], ["a"], ["a", "a", "b"], [1, "b", "c"], {"a", "b"}),
        *([1.0, np.nan, 2.0], [["a", "b", "c"]]),
    ],
)
def test_bad_names_are_refused(make, classes):
    with pytest.raises(ValueError, match="classes must be.*model.classes_"):
        make(classes=classes)


@pytest.mark.parametrize("names", ["ab", "abcd"])
def test_names_must_fit_the_answers(make, names):
    words = f"classes has {len(names)} names.*3 columns"
    with pytest.raises(ValueError, match=words):
        make(classes=list(names), input_shape=(2,))
    api = make(classes=list(names), returns="label")
    refuses(api, ROWS, words)


# --- errors that name the remedy ------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_sums_that_are_nearly_one_are_told_from_logits(dtype):
    off = np.array([[0.5, 0.5003]], dtype).repeat(20, axis=0)
    api = PredictionAPI(lambda x: off[: len(x)])
    with pytest.raises(
        ValueError, match="off 1 by 0.000[345].*divide each row"
    ) as told:
        api.query(ROWS)
    assert "logits" not in str(told.value)
    wide = off.astype(float)
    api = PredictionAPI(lambda x: wide / wide.sum(axis=1, keepdims=True))
    assert api.query(ROWS).shape == (20, 2)


@pytest.mark.parametrize("answer", [(0.5, 0.6), (3.0, 1.0), (-0.01, 1.01)])
def test_sums_far_from_one_and_negative_entries_may_be_logits(answer):
    refuses(PredictionAPI(answering(*answer)), ROWS, "logits")


def test_missing_values_are_a_limit_and_the_error_says_what_to_do():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    y = rows[:, 0] > 0
    rows[::3, 1] = np.nan
    model = HistGradientBoostingClassifier(max_iter=5).fit(rows, y)
    refuses(
        PredictionAPI(model.predict_proba),
        rows,
        "67 rows hold NaN.*missing value.*-999.*puts NaN back",
    )

    def decoded(x):  # the remedy, as the error has it
        x[x == -999] = np.nan
        return model.predict_proba(x)

    api = PredictionAPI(decoded, input_shape=(3,))
    sent = np.nan_to_num(rows, nan=-999)
    np.testing.assert_array_equal(api.query(sent), model.predict_proba(rows))
    assert (sent[::3, 1] == -999).all()


# --- another ledger -------------------------------------------------------


class Notebook(Ledger):
    """A ledger that writes down the order of its entries, and may fail."""

    def __init__(self, fails=""):
        super().__init__(9.0)
        self.lines, self.fails = [], fails

    def enter(self, what):
        if what == self.fails:
            raise OSError(f"no room for {what}")
        self.lines.append(what)

    def bill(self, client, queries):
        self.enter("bill")
        super().bill(client, queries)

    def warn(self, client, alarm):
        self.enter("warn")
        super().warn(client, alarm)

    def saw(self, client, x, own):
        self.enter("saw")


def test_a_ledger_is_told_of_what_was_seen_before_the_bill(make):
    book = Notebook()
    api = make(ledger=book, monitors=[Watcher(2)], price_per_1000=2.0)
    for _ in range(3):
        api.query(ROWS, client="eve")
    assert book.lines == ["saw", "bill", "warn", "saw", "bill", "saw", "bill"]
    assert api.alarms is book.alarms and list(book.alarms) == ["eve"]
    assert book.cost == 0.12  # the price is the API's


@pytest.mark.parametrize("fails", ["bill", "warn", "saw"])
def test_what_cannot_be_entered_is_not_answered(make, fails):
    api = make(ledger=Notebook(fails), monitors=[Watcher(1)], budget=20)
    refuses(api, ROWS, f"no room for {fails}", OSError)
    assert api.remaining == 20


def test_whose_fault_a_refusal_is_can_be_told(make):
    with pytest.raises(BadRows):
        make(input_shape=(2,)).query(ROWS[0])
    with pytest.raises(BadAnswer):
        PredictionAPI(answering(3.0, 1.0)).query(ROWS)
    with pytest.raises(BadAnswer):
        make(defenses=[lambda x, p: 2 * p]).query(ROWS)
