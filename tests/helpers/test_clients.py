"""What an attacker puts before an API."""

import numpy as np
import pytest

from mexutils import (
    Accounts,
    Alarm,
    BudgetExceeded,
    ClientBlocked,
    PredictionAPI,
)
from mexutils.clients import LabelAndConfidence, affordable

ROWS = np.linspace(0, 1, 40).reshape(20, 2)


def first_column(x):
    return np.column_stack([x[:, 0], 1 - x[:, 0]])


class After:
    """Raises an alarm on each client after so many rows."""

    def __init__(self, rows):
        self.rows, self.seen = rows, {}

    def observe(self, client, x, probabilities):
        self.seen[client] = self.seen.get(client, 0) + len(x)
        if self.seen[client] >= self.rows:
            return Alarm(self.seen[client], "enough")
        return None


def test_names_take_turns_and_drop_the_blocked():
    api = PredictionAPI(
        first_column,
        monitors=[After(20)],
        on_alarm="block",
        input_shape=(1,),
    )
    attacker = Accounts(api, ["a", "b"], rows=10)
    rows = np.linspace(0, 1, 40)[:, None]
    with pytest.raises(ClientBlocked):
        attacker.query(rows)
    sent, heard = attacker.transfer_set()
    np.testing.assert_array_equal(sent, rows[:20])
    np.testing.assert_allclose(heard, first_column(rows[:20]))
    assert api.ledger.accounts["a"].queries == 10
    assert api.ledger.accounts["b"].queries == 10


def test_a_name_may_ask_again_after_a_call_that_was_too_large():
    api = PredictionAPI(first_column, input_shape=(1,), budget=15)
    attacker = Accounts(api, ["a", "b"], rows=20)
    with pytest.raises(BudgetExceeded):
        attacker.query(np.zeros((16, 1)))
    for _ in range(2):
        assert len(attacker.query(np.zeros((5, 1)))) == 5
    assert [api.ledger.accounts[n].queries for n in "ab"] == [5, 5]


def test_bad_names_are_refused():
    api = PredictionAPI(first_column, input_shape=(1,))
    for names in ("me", []):
        with pytest.raises(ValueError, match="names must be a list"):
            Accounts(api, names)
    with pytest.raises(ValueError, match="nothing was answered"):
        Accounts(api).transfer_set()


def test_the_transfer_set_keeps_what_was_sent_and_not_the_array():
    attacker = Accounts(PredictionAPI(first_column, input_shape=(2,)), rows=4)
    buffer, told = np.empty((10, 2)), []
    for start in (0, 10):
        buffer[:] = ROWS[start : start + 10]
        told.append(attacker.query(buffer))
    rows, answers = attacker.transfer_set()
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(answers, first_column(ROWS))
    rows[:], answers[:], told[0][:] = 0, 0, 0
    np.testing.assert_array_equal(attacker.transfer_set()[0], ROWS)
    np.testing.assert_array_equal(
        attacker.transfer_set()[1], first_column(ROWS)
    )


def test_an_answer_names_a_leaf():
    api = PredictionAPI(first_column, input_shape=(1,))
    oracle = LabelAndConfidence(api.query)
    rows = np.array([[0.2], [0.9]])
    np.testing.assert_allclose(oracle.query(rows), [[1, 0.8], [0, 0.9]])
    np.testing.assert_array_equal(
        LabelAndConfidence(lambda x: np.array([1, 0]), 2).query(rows),
        [[1, 1], [0, 1]],
    )
    with pytest.raises(ValueError, match="only complete rows"):
        oracle.query(rows, np.zeros((2, 1), bool))
    assert api.ledger.queries == 2


def test_an_attacker_may_spend_what_is_left_and_no_more():
    api = PredictionAPI(first_column, budget=10)
    api.query(ROWS[:4, :1], "somebody")
    for door in (api, Accounts(api)):
        assert affordable(door, 6.0) == 6
        with pytest.raises(BudgetExceeded, match="6 queries left"):
            affordable(door, 7)
    assert affordable(PredictionAPI(first_column), 10**9) == 10**9
    assert affordable(object(), 5) == 5
    with pytest.raises(ValueError, match="budget must be a whole number"):
        affordable(api, 2.5)
