"""The comparison of defenses: its own small pieces, by a second route."""

import numpy as np
import pytest

from mexutils import load_chapter, metrics

DEFENSES = load_chapter("comparison/defense_comparison")


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


def test_moved_by_hand():
    own = np.array([[0.9, 0.1], [0.2, 0.8]])
    found = DEFENSES.moved(
        lambda x, p: p[:, ::-1], np.zeros((2, 1)), own, np.array([0, 0])
    )
    # right on one of two rows before, and on the other one after
    assert found["lost"] == pytest.approx(0)
    assert found["L1"] == pytest.approx((1.6 + 1.2) / 2)


# --- BDPL ------------------------------------------------------------------


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


# --- trees -------------------------------------------------------------------


def test_watched_counts_the_clients_that_are_warned_of():
    warning = DEFENSES.WARNING
    shop = warning.Shop("breast_cancer", 0)
    visits = [shop.people[:40], shop.people[:2]]
    labels, meters = DEFENSES.watched(shop, (0.01, 1, 0.9), visits=visits)
    assert labels is None
    assert DEFENSES.alarms_on(meters, "A") == 1
    assert DEFENSES.alarms_on(meters, "B") == 0
    assert not meters[1].clients  # no strategy of the chapter reads it
