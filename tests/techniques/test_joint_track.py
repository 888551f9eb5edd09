"""Theft and proof: marks on top of defenses, copies that are sold, claims."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from mexutils import PredictionAPI, load_chapter, metrics

joint = load_chapter("comparison/joint_track")
contest = load_chapter("comparison/contestants")
digits = partial(contest.table_owner, name="digits", kind="softmax")
cancer = partial(contest.table_owner, name="breast_cancer", kind="softmax")
leaves = partial(contest.table_owner, name="digits", kind="tree")


@pytest.fixture(scope="module")
def owner():
    return digits(0)


# --- marks -----------------------------------------------------------------


def test_a_sure_answer_moves_as_far_as_tables_may():
    own = np.eye(10)[np.zeros(20_000, int)]
    x = np.random.default_rng(0).normal(size=(20_000, 1))
    waves = joint.PROOF.Waves(np.ones((1, 1)), x, frequency=16 * np.pi)
    sent = joint.PROOF.CosineMark(waves, joint.EPSILON)(x, own)
    moved = np.abs(sent - own).sum(axis=1).mean()
    assert moved == pytest.approx(contest.DISTANCE["tables"], abs=0.01)


def test_marks_come_after_the_defense_and_differ_by_secret(owner):
    make = contest.GUARDS["reverse sigmoid"].make
    *lies, wave, dawn = joint.with_marks(make, owner, 0)["defenses"]
    assert len(lies) == 1
    x, own = np.vstack([owner.exam, owner.mine]), None
    own = owner.predict(x)
    _, other = joint.marks(owner, 1)
    first, second = dawn.told(x, own)[0], other.told(x, own)[0]
    assert first.sum() > 10
    assert np.sum(first & second) < 0.3 * first.sum()
    many = joint.waves_of(owner, 0, 5).directions
    assert np.array_equal(many[:1], wave.waves.directions)
    assert not np.array_equal(many[:1], joint.waves_of(owner, 1).directions)


def test_no_setting_of_a_defense_is_lost(owner):
    for name, guard in contest.GUARDS.items():
        if "softmax" not in guard.kinds:
            continue
        plain = guard.make(owner, 0)
        found = joint.MARKED[name].make(owner, 0)
        assert set(found) == set(plain) | {"defenses"}
        assert len(found["defenses"]) == 2 + len(plain.get("defenses", ()))
        assert joint.MARKED[name].watches == guard.watches


def test_the_wave_is_taken_back_and_then_the_defense(owner):
    heard = owner.predict(owner.exam)
    settings = joint.MARKED["MAD"].make(owner, 0)
    sent, seen = settings["defenses"][-2](owner.exam, heard), []

    def undo(told, settings):
        seen.append((told, len(settings["defenses"])))
        return told

    joint.both_back(undo, sent, settings)
    ((told, n),) = seen
    assert n == 1
    before = np.abs(sent - heard).sum(axis=1).mean()
    assert np.abs(told - heard).sum(axis=1).mean() < before / 3


# --- copies that are sold --------------------------------------------------


@pytest.mark.parametrize("make", [digits, cancer, leaves])
def test_a_copy_has_probabilities_behind_its_labels(make):
    owner = make(0)
    rows = contest.own_rows(owner.known, 300, 0)
    soft = owner.predict(rows)
    for answers in (soft, soft.round(1), soft.argmax(axis=1)):
        copy = owner.known.learn(rows, answers, 0)
        shares = copy.predict_proba(owner.exam)
        assert np.array_equal(copy(owner.exam), shares.argmax(axis=1))
        assert np.mean(copy(owner.exam) == owner.own) > 0.5
        assert not shares[:, owner.classes :].any()
        assert shares.min() >= 0 and np.allclose(shares.sum(axis=1), 1)


def test_classes_that_were_never_seen_get_nothing(owner):
    rows = contest.own_rows(owner.known, 60, 0)
    labels = np.where(rows[:, 0] > 0, 3, 7)
    copy = owner.known.learn(rows, labels, 0)
    shares = copy.predict_proba(owner.exam)
    assert set(np.flatnonzero(shares.sum(axis=0))) <= {3, 7}
    assert set(copy(owner.exam)) <= {3, 7}


def test_a_copy_of_labels_is_sold_as_certain():
    api = joint.shop(lambda x: np.arange(len(x)) % 3, 3)
    assert np.array_equal(api.query(np.zeros((3, 2))), np.eye(3))


# --- claims ----------------------------------------------------------------


def test_the_marked_api_is_found_and_a_stranger_is_not(owner):
    asked = contest.own_rows(owner.known, 600, 0)
    make = joint.MARKED["none"].make
    sold = PredictionAPI(owner.predict, **make(owner, 0))
    found = joint.claimed(owner, 0, asked, sold)
    assert found["DAWN"].p < 1e-6
    assert found["wave"].p == pytest.approx(1 / joint.KEYS)
    assert found["fingerprint"].score > 0.9
    stranger = joint.shop(joint.innocent_model(owner, True, 77), owner.classes)
    found = joint.claimed(owner, 0, asked, stranger)
    assert min(case.p for case in found.values()) > 0.001
    # the keys of another owner are not in these answers
    found = joint.claimed(owner, 5, asked, sold)
    assert found["DAWN"].p > 1e-3
    assert found["wave"].p > 1e-3


def test_the_fingerprint_takes_the_larger_rank(owner):
    points, labels, usual = joint.fingerprint(owner)
    assert usual.shape == (2, joint.N_USUAL)
    said, agree = np.eye(owner.classes)[labels], int(100 * usual.mean())
    said[agree:] = np.roll(said[agree:], 1, axis=1)
    suspect = PredictionAPI(lambda x: said[: len(x)])
    p = joint.claimed(owner, 0, points, suspect)["fingerprint"].p
    least = agree / 100 - 1e-9
    ranks = [(1 + np.sum(part >= least)) / (1 + len(part)) for part in usual]
    assert min(ranks) < max(ranks)
    assert p == pytest.approx(max(ranks))


def test_points_of_the_law_are_no_points_of_the_choice(owner):
    draws = range(joint.FIRST, joint.FIRST + joint.STRANGERS + joint.N_USUAL)
    points, labels, usual = joint.fingerprint(owner)
    x = joint.candidates(owner, joint.N_CANDIDATES, joint.FIRST)
    where = [np.flatnonzero((x == p).all(axis=1))[0] for p in points]
    for kind, part in zip((True, False), usual, strict=True):
        last = joint.said_by(owner, kind, draws[-1])[where]
        assert part[-1] == pytest.approx(metrics.fidelity(last, labels))
        assert len(part) == len(draws) - joint.STRANGERS
    some = [
        joint.said_by(owner, kind, s)
        for kind in (True, False)
        for s in draws[: joint.STRANGERS]
    ]
    mine = [
        joint.said_by(owner, None, joint.FIRST + k)
        for k in range(joint.COPIES)
    ]
    best = joint.PROOF.best_points(owner.predict(x), mine, some)
    assert np.array_equal(points, x[best])


def test_two_classes_have_no_claim_by_dawn():
    owner = cancer(0)
    asked = contest.own_rows(owner.known, 200, 0)
    suspect = joint.shop(lambda x: np.zeros(len(x), int), 2)
    found = joint.claimed(owner, 0, asked, suspect)
    assert sorted(found) == ["fingerprint", "wave"]


# --- meetings --------------------------------------------------------------


def test_scores_are_against_the_undefended_victim_and_the_bill_is_paid():
    cell = joint.meeting(digits, "none", "pool rows", 0, 300)
    found = cell.function(**cell.parameters)
    assert found["queries"] == 300
    assert found["wave"] < 0.01  # the copy is sold with its probabilities
    assert not found["blocked"]
    owner = digits(0)
    rows = contest.own_rows(owner.known, 300, 0)
    sold = PredictionAPI(owner.predict, **cell.parameters["defense"](owner, 0))
    copy = owner.known.learn(rows, sold.query(rows), 0)
    equal = 100 * metrics.fidelity(copy(owner.exam), owner.own)
    assert found["fidelity"] == pytest.approx(equal)


def test_who_washes_computes_back_and_then_averages(owner):
    x = np.repeat(owner.exam[:50], contest.TIMES, axis=0)
    x = x + 0.02 * np.random.default_rng(0).normal(size=x.shape)
    own = owner.predict(x)
    settings = joint.MARKED["none"].make(owner, 0)
    sold = PredictionAPI(owner.predict, **settings).query(x)
    rehearse = partial(joint.MARKED["none"].make, owner, 1000)
    inverse = joint.MARKED["none"].inverse
    heard = joint.washed(rehearse, 0, inverse)(sold)
    once = joint.both_back(None, sold, settings)
    mean = once.reshape(50, contest.TIMES, -1).mean(axis=1)
    assert np.allclose(heard, mean)
    truth = own.reshape(50, contest.TIMES, -1).mean(axis=1)
    assert np.abs(heard - truth).sum(axis=1).mean() < 0.1
    names = [n for n, who in joint.THIEVES.items() if who.read is joint.washed]
    assert "pool rows, washed" in names
    assert all(not n.startswith("adaptive") for n in names)


def test_an_error_of_an_attack_is_no_empty_theft():
    def broken(customer, known, seed, budget):
        customer.query(known.pool[:5])
        raise ValueError("a fault")

    who = broken, contest.as_they_are, None, 1, 1
    with pytest.raises(ValueError, match="a fault"):
        joint.prove(digits, joint.MARKED["none"].make, who, 0, 100)


def test_a_thief_without_one_answer_has_no_copy_and_is_not_accused():
    def refused(customer, known, seed, budget):
        raise joint.BudgetExceeded("nothing is sold")

    who = refused, contest.as_they_are, None, 1, 1
    found = joint.prove(digits, joint.MARKED["none"].make, who, 0, 100)
    owner = digits(0)
    assert found["fidelity"] == pytest.approx(100 * np.mean(owner.own == 0))
    assert found["owner's queries"] == found["queries"] == 0
    assert [found[way] for way in joint.WAYS] == [None] * 3


def test_every_pair_meets_or_has_a_reason():
    owners = {("softmax", "digits", 300): digits}
    meetings, absent = joint.grid(owners, ["none", "PRADA"], range(2))
    met = {key[3:5] for key in meetings}
    away = {key[2:] for key in absent}
    assert not met & away
    assert len(met) + len(away) == 2 * len(joint.THIEVES)
    assert all(absent.values())
    watched = {a for a, d in met if d == "PRADA"}
    assert "pool rows, 16 accounts" in watched
    assert "pool rows" not in watched
    # what has no twin under many names comes under one
    assert "pool rows, averaged" in watched


def test_the_best_that_can_meet_a_marked_defense_comes():
    place = "softmax", "digits", 300
    keys = [
        (*place, "reverse sigmoid", "pool rows, partial Bayes"),
        (*place, "reverse sigmoid", "pool rows"),
        (*place, "reverse sigmoid", "equation solving"),
        ("softmax", "red_wine", 300, "none", "pool rows"),
    ]
    found = joint.best_thieves(keys, {place: digits}, range(2))
    assert {key[3] for key in found} == {"pool rows"}
    assert {key[5] for key in found} == {0, 1}


# --- tables ----------------------------------------------------------------


def thefts():
    rows = [
        ("a", 95.0, 0.9, 0.005, 0.009),
        ("a", 95.0, 1e-5, 0.9, 0.2),
        ("b", 94.0, 1e-5, 0.9, 0.009),
        ("b", 94.0, None, 0.001, 0.009),
        ("c", 70.0, 0.9, 0.9, 0.9),
    ]
    columns = "row", "fidelity", *joint.WAYS
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(defense="none", kind="tree", victim="digits")


def test_a_theft_is_proved_by_the_better_mark_three_times_over():
    assert joint.proved(thefts()).tolist() == [False, True, True, True, False]


def test_who_escapes_is_sought_among_good_copies():
    (found,) = joint.escapes(thefts()).to_dict("records")
    assert found["hardest to prove"] == "a"
    assert found["attackers near it"] == 2
    assert found["proved by a mark"] == 0.5
    assert found["by the fingerprint"] == 0.5
    # "c" alone is never proved, and has no fingerprint either
    assert found["best that no mark proves (%)"] == 70
    assert found["best that nothing proves (%)"] == 70
    printed = thefts().assign(fingerprint=0.001)
    (found,) = joint.escapes(printed).to_dict("records")
    assert np.isnan(found["best that nothing proves (%)"])


def test_counts_of_proofs_leave_out_what_cannot_be_claimed():
    text = joint.proofs(thefts())
    assert text == "DAWN 2/4, wave 2/5, fingerprint 3/5"
    none = thefts().assign(DAWN=None)
    assert joint.proofs(none).startswith("wave")


def test_a_shy_shop_answers_its_own_rows_alone(owner):
    pool = owner.known.pool
    copy = owner.known.learn(pool, owner.predict(pool), 0)
    sold = joint.Shy(copy, pool)
    assert np.array_equal(sold(pool[:50]), copy(pool[:50]))
    far = np.random.default_rng(0).uniform(-1, 1, (50, pool.shape[1]))
    assert not sold(far).any()
