"""The prediction API: what it answers, refuses, bills and reports."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from mexutils import Alarm, BudgetExceeded, ClientBlocked, PredictionAPI

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
    "ragged": ([[1.0, 2.0], [3.0]], "every row equally long"),
    "nothing": (None, "not an array of numbers|batch of rows"),
}


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
