"""The contestants: what they are, who meets whom, one meeting."""

import dataclasses
from functools import partial
from itertools import product

import numpy as np
import pytest
from techniques import techniques

from mexutils import Alarm, PredictionAPI, load_chapter
from mexutils.sweep import Cell, cell_key

chapter = load_chapter("comparison/contestants")
GUARDS, CONTESTANTS = chapter.GUARDS, chapter.CONTESTANTS
cancer = partial(chapter.table_owner, name="breast_cancer", kind="softmax")
tree = partial(chapter.table_owner, name="breast_cancer", kind="tree")


class After:
    """A monitor that raises an alarm on a client's n-th query."""

    def __init__(self, n):
        self.n, self.seen = n, {}

    def observe(self, client, x, probabilities):
        self.seen[client] = self.seen.get(client, 0) + len(x)
        return Alarm(self.n, "test") if self.seen[client] >= self.n else None


def first_column(x):
    p = np.clip(x[:, 0], 0, 1)
    return np.column_stack([p, 1 - p])


def meet(owner, defense, who, seed=0, budget=300, inverse=None):
    scores = chapter.meet(
        *(owner, defense, who.run, who.read, inverse, seed, budget),
        accounts=who.accounts,
        times=who.times,
    )
    assert scores.pop("seconds") >= 0
    return scores


# --- who meets whom ---------------------------------------------------------


def test_every_pair_meets_or_has_a_reason():
    for who in CONTESTANTS.values():
        for guard in GUARDS.values():
            for kind in chapter.KINDS:
                assert isinstance(chapter.why_not(who, guard, kind), str)
    for name, guard in GUARDS.items():
        for kind in guard.kinds:
            met = [
                a
                for a, who in CONTESTANTS.items()
                if not chapter.why_not(who, guard, kind)
            ]
            assert met, f"nobody meets {name} on {kind}"


def test_every_contestant_meets_somebody():
    for name, who in CONTESTANTS.items():
        assert any(
            not chapter.why_not(who, guard, kind)
            for guard in GUARDS.values()
            for kind in chapter.KINDS
        ), name


def test_facets_decide_who_meets_whom():
    """Each facet of the guard opens the rows that need it, and no other."""
    plain = chapter.Guard(chapter.undefended)
    opened = {
        "noisy": {"noisy": True},
        "invertible": {"inverse": chapter.walked_back},
        "blind": {"blind": True},
        "watched": {"watches": True},
        "truthful": {"exact": True},
    }
    for facet, change in opened.items():
        guard = chapter.Guard(chapter.undefended, **change)
        for who in CONTESTANTS.values():
            for kind in who.kinds:
                before = chapter.why_not(who, plain, kind)
                after = chapter.why_not(who, guard, kind)
                if who.only_if == (facet,):
                    assert before and not after
                elif facet not in who.only_if:
                    assert before == after
    labels = chapter.Guard(chapter.labels_only, answers="label")
    for who in CONTESTANTS.values():
        if "soft" in who.only_if or who.needs == "probabilities":
            assert all(chapter.why_not(who, labels, k) for k in who.kinds)


class Digits:
    """Answers pictures with labels, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def query(self, x):
        self.asked.append(x)
        return np.random.default_rng(len(x)).integers(0, 10, len(x))


def test_chosen_letters_come_after_natural_ones_and_only_once():
    rng, customer = np.random.default_rng(0), Digits()
    pool, natural = rng.random((2, 60, 1, 28, 28)).astype(np.float32)
    known = chapter.Known(pool, np.empty(0), natural[:10], None)
    chapter.spread_letters(customer, known, 0, 25)
    assert [len(x) for x in customer.asked] == [10, 10, 5]
    assert np.array_equal(customer.asked[0], natural[:10])
    letters = np.concatenate(customer.asked[1:]).reshape(15, -1)
    apart = np.abs(letters[:, None] - pool.reshape(1, 60, -1)).max(axis=2)
    found = (apart == 0).nonzero()[1]
    assert len(found) == len(set(found)) == 15


def test_drawn_queries_need_nothing_that_is_known():
    customer = Digits()
    copy = chapter.drawn_queries(customer, None, 0, 300)
    asked = np.concatenate(customer.asked)
    assert asked.shape == (300, 1, 28, 28)
    assert set(copy(asked[:5])) <= set(range(10))


def test_two_classes_are_all_that_some_tell_apart():
    who = CONTESTANTS["StealClassifier"]
    assert not chapter.why_not(who, GUARDS["none"], "softmax", classes=2)
    assert chapter.why_not(who, GUARDS["none"], "softmax", classes=10)


def test_what_is_heard_as_behind_labels_only_meets_like_it():
    """So nobody who comes to labels only stays away from a label-keeper."""
    faithful = [g for g in GUARDS.values() if g.tells_labels]
    assert len(faithful) > 4
    plain = GUARDS["labels only"]
    for name, who in CONTESTANTS.items():
        if chapter.why_not(who, plain, "image"):
            continue
        alone = CONTESTANTS.get(f"{name}, label alone", who)
        for guard in faithful:
            if "image" in guard.kinds:
                row = who if guard.answers == "label" else alone
                assert not chapter.why_not(row, guard, "image"), name


def test_a_label_is_less_than_the_truth():
    true = GUARDS["PRADA"]
    for name, who in CONTESTANTS.items():
        if who.read is chapter.by_label:
            assert all(chapter.why_not(who, true, k) for k in who.kinds), name
            assert any(
                not chapter.why_not(who, guard, k)
                for guard in GUARDS.values()
                for k in who.kinds
                if not (guard.exact and guard.watches)
            ), name


def test_readings_and_names_cross_every_way_of_asking():
    """What is missing is the label of the label, and who meets nobody."""
    for ask, reading, split in product(*chapter.PARTS):
        name = ", ".join(filter(None, (ask, reading, split)))
        if name in CONTESTANTS:
            continue
        parts = [
            of[n]
            for of, n in zip(chapter.PARTS, (ask, reading, split), strict=True)
        ]
        needs = parts[0].get("needs", "answers")
        twice = reading == "label alone" and needs != "answers"
        needed = {f for part in parts for f in part.get("only_if", ())}
        assert twice or not any(
            all(chapter.FACETS[f](guard) for f in needed)
            for guard in GUARDS.values()
            if set(guard.kinds) & set(parts[0]["kinds"])
        ), name


@pytest.mark.parametrize(
    "facets",
    [{"kinds": ("trees",)}, {"answers": "labels"}],
)
def test_a_guard_with_an_unknown_word_is_refused(facets):
    with pytest.raises(ValueError, match="must be of"):
        chapter.Guard(chapter.undefended, **facets)


@pytest.mark.parametrize(
    "facets",
    [{"kinds": ("trees",)}, {"needs": "label"}, {"only_if": ("watches",)}],
)
def test_a_contestant_with_an_unknown_word_is_refused(facets):
    with pytest.raises(ValueError, match="must be of"):
        chapter.Contestant(
            **{"run": chapter.pool_rows, "kinds": ("tree",)} | facets
        )


def shifted(owner, seed):
    """A row decides how the answer is bent."""

    def defense(x, p):
        some = np.asarray(x)[:, 29:] > -0.6
        return chapter.normalised(p + some * np.array([2.0, 0.0]))

    return {"defenses": [defense]}


def evened(owner, seed):
    """Nothing is told."""
    return {"defenses": [lambda x, p: np.full(p.shape, 1 / p.shape[1])]}


@pytest.mark.parametrize(
    ("make", "facets", "wrong"),
    [
        (chapter.undefended, {"watches": True, "exact": True}, "watches"),
        (chapter.undefended, {"answers": "label", "exact": True}, "answers"),
        (chapter.undefended, {}, "exact"),
        (chapter.rounding, {"exact": True}, "exact"),
        (shifted, {"keeps_labels": True}, "keeps_labels"),
        (chapter.labels_only, {}, "answers, exact"),
        (shifted, {"blind": True}, "blind"),
        (evened, {"tuned": True, "blind": True}, "tuned"),
        (chapter.undefended, {"noisy": True, "exact": True}, "noisy"),
        (shifted, {"inverse": lambda heard, settings: heard}, "inverse"),
        (shifted, {"zone": True}, "zone"),
        (shifted, {"estranged": True}, "estranged"),
    ],
)
def test_a_facet_that_is_not_so_is_an_error(make, facets, wrong):
    with pytest.raises(ValueError, match=f": {wrong}"):
        chapter.tried(chapter.Guard(make, **facets), cancer(0))


@pytest.mark.parametrize("name", GUARDS)
def test_a_guard_is_what_it_says(name):
    owners = {("tree",): tree, ("image",): chapter.image_owner}
    owner = owners.get(GUARDS[name].kinds, cancer)
    assert chapter.tried(GUARDS[name], owner(0)) is GUARDS[name]


def test_every_attack_and_every_defense_chapter_takes_part():
    parts = techniques()
    rows = {*chapter.ASKING, *filter(None, chapter.READINGS), *GUARDS}
    shown = {row for part in parts for row in part.arena}
    assert shown == rows
    for part in techniques("attacks", "defenses"):
        assert part.arena or part.remark, part.chapter
    named = {part.chapter: part.arena for part in parts}
    for name, guard in GUARDS.items():
        if guard.chapter:
            assert name in named[guard.chapter]


# --- defenses ---------------------------------------------------------------


def test_perturbations_are_set_at_one_distance():
    owner = cancer(0)
    own = owner.predict(owner.held)
    for guard in GUARDS.values():
        if guard.tuned and guard.answers == "probabilities":
            (defense,) = guard.make(owner, 0)["defenses"]
            far = np.abs(defense(owner.held, own) - own).sum(axis=1).mean()
            assert far == pytest.approx(0.2, abs=0.05)


def test_a_layer_of_labels_is_set_by_its_distance_from_labels():
    owner = chapter.table_owner(0, "digits", "softmax")
    (layer,) = GUARDS["BDPL"].make(owner, 0)["defenses"]
    own = owner.predict(owner.held)
    told = layer(owner.held, own).argmax(axis=1)
    changed = np.mean(told != own.argmax(axis=1))
    assert 0.005 <= changed <= 0.04


def test_a_weak_perturbation_is_taken_at_its_strongest():
    owner = cancer(0)

    def make(owner, strength, seed):
        return lambda x, p: p + strength * np.array([0.001, -0.001])

    settings = chapter.at_distance(make, 4.0, False, owner, 0)
    (defense,) = settings["defenses"]
    assert np.allclose(defense(None, np.zeros((1, 2))), [[0.004, -0.004]])


def test_the_threshold_is_one_that_few_benign_streams_pass(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("MEXUTILS_CACHE", str(tmp_path))
    owner, streams = cancer(0), []

    def suspicion(owner):
        def worst(rows):
            streams.append(rows)
            return len(streams) / 100

        return worst

    limit = chapter.threshold(owner, suspicion, streams=40)
    assert len(streams) == 40
    assert limit == pytest.approx(0.39)  # one of forty is above
    # few rows: drawn again, moved, from those that were put aside
    near = [
        np.abs(owner.held[None] - rows[:20, None]).max(axis=2).min(axis=1)
        for rows in streams
    ]
    assert {len(rows) for rows in streams} == {300}
    assert np.max(near) < 0.6


def test_benign_clients_ask_different_rows_where_there_are_many():
    rows = np.arange(700.0)[:, None]
    asked = chapter.benign_rows(rows, np.random.default_rng(0))
    assert len(np.unique(asked)) == 300 and np.isin(asked, rows).all()


def test_no_row_sets_a_defense_and_tells_of_its_false_alarms():
    for owner in (cancer(0), tree(1)):
        held = {row.tobytes() for row in owner.held}
        assert not held & {row.tobytes() for row in owner.benign}
        assert not held & {row.tobytes() for row in owner.known.pool}


def test_prada_alarms_below_what_benign_streams_reach():
    owner = cancer(0)
    limit = chapter.threshold(owner, chapter.prada_suspicion)
    monitor = chapter.prada(owner, limit)
    assert monitor.delta == pytest.approx(1 - limit)


# --- readings ---------------------------------------------------------------


def test_walked_back_tells_mad_from_mad_argmax():
    p = np.array([[0.7, 0.2, 0.1]])
    for keep_label in (False, True):
        mad = chapter.POISON.MAD(None, 0.4, keep_label=keep_label)
        told = mad(np.zeros((1, 2)), p)
        back = chapter.walked_back(told, {"defenses": [mad]})
        np.testing.assert_allclose(back, p, atol=1e-6)


def test_the_bayesian_needs_the_rule_alone():
    owner = cancer(0)
    rows = owner.exam[:150]
    truth = owner.predict(rows)
    settings = GUARDS["reverse sigmoid"].make(owner, 0)
    told = PredictionAPI(owner.predict, **settings).query(rows)
    read = chapter.partial_bayes(lambda: settings, 0, None)
    parts = np.vstack([read(part) for part in np.array_split(told, 10)])
    naive = np.abs(told - truth).sum(axis=1).mean()
    for back in (read(told), parts):
        assert np.abs(back - truth).sum(axis=1).mean() < naive / 3


def test_a_rehearsal_has_a_secret_of_its_own():
    """No reading sees the owner's seed."""
    seen = []

    def defense(owner, seed):
        seen.append(seed)
        return {}

    def read(rehearse, seed, inverse):
        rehearse()
        return lambda heard: heard

    chapter.meet(cancer, defense, chapter.pool_rows, read, None, 3, 20)
    assert seen[0] == 3 and seen[1] not in range(200)


def test_a_reader_averages_and_pays_for_it():
    api = PredictionAPI(first_column, input_shape=(1,))
    customer = chapter.customer_of(api, 1, watched=False)
    rehearse = partial(dict)
    read = chapter.averaged(rehearse, 0, None)
    reader = chapter.Reader(customer, read, times=chapter.TIMES)
    rows = np.linspace(0.2, 0.8, 5)[:, None]
    mean = reader.query(rows)
    assert api.ledger.queries == 5 * chapter.TIMES
    sent, _ = customer.transfer_set()
    moves = sent.reshape(5, chapter.TIMES) - rows
    assert (moves[:, 0] == 0).all() and (moves[:, 1:] != 0).all()
    assert np.abs(moves).max() < 0.1
    kept, heard = reader.transfer_set()
    np.testing.assert_allclose(kept, rows)
    np.testing.assert_allclose(heard, mean)
    expected = sent.reshape(5, chapter.TIMES).mean(axis=1)
    np.testing.assert_allclose(heard[:, 0], expected)


def test_a_reader_that_was_stopped_keeps_whole_groups():
    api = PredictionAPI(first_column, input_shape=(1,), budget=9)
    customer = chapter.Accounts(api, rows=1)
    read = chapter.averaged(partial(dict), 0, None)
    reader = chapter.Reader(customer, read, times=4)
    with pytest.raises(chapter.BudgetExceeded):
        reader.query(np.full((5, 1), 0.5))
    rows, heard = reader.transfer_set()
    assert len(rows) == len(heard) == 2


def test_who_is_stopped_learns_from_what_it_read():
    """Lies that are read as truths make a true copy, blocked or not."""
    owner = cancer(0)

    def liar(owner, seed):
        return {
            "defenses": [lambda x, p: 1 - p],
            "monitors": [After(seed or 10**9)],
        }

    def truth(rehearse, seed, inverse):
        return lambda heard: 1 - heard

    who = chapter.Contestant(chapter.pool_rows, ("softmax",), read=truth)
    for seed in (0, 150):  # never blocked; blocked at 150
        scores = meet(partial(cancer), liar, who, seed)
        assert scores["fidelity"] > 90
        assert (scores["ended"] == "finished") == (seed == 0)
    assert owner.classes == 2


# --- one meeting ------------------------------------------------------------


def test_equation_solving_is_exact_and_stops_early():
    who = CONTESTANTS["equation solving"]
    scores = meet(cancer, chapter.undefended, who, budget=600)
    assert scores["fidelity"] == 100
    assert scores["queries"] == 2 * (30 + 1)
    assert scores["dollars"] == pytest.approx(0.093)


def test_equation_solving_walks_mad_back():
    owner, guard = cancer, GUARDS["MAD"]
    who = CONTESTANTS["equation solving"]
    back = CONTESTANTS["equation solving, computed back"]
    naive = meet(owner, guard.make, who, budget=600)
    read = meet(owner, guard.make, back, budget=600, inverse=guard.inverse)
    assert read["queries"] <= naive["queries"] == 600


def test_path_finding_is_exact_within_its_precision():
    who = CONTESTANTS["path finding"]
    scores = meet(tree, chapter.undefended, who, budget=5000)
    assert scores["ended"] == "finished"
    assert scores["fidelity"] >= 98


def test_a_blocked_attack_learns_from_what_it_heard():
    def watched(owner, seed):
        return {"monitors": [After(50)]}

    who = CONTESTANTS["pool rows"]
    scores = meet(cancer, watched, who, budget=600)
    assert scores["ended"] == "ClientBlocked"
    assert scores["queries"] == 40
    assert scores["queries to alarm"] == 50
    assert scores["fidelity"] > 60

    def at_once(owner, seed):
        return {"monitors": [After(1)]}

    scores = meet(cancer, at_once, who, budget=600)
    assert scores["queries"] == 0
    assert scores["fidelity"] == pytest.approx(
        100 * np.mean(cancer(0).own == 0)
    )


def test_sixteen_names_hear_more():
    def watched(owner, seed):
        return {"monitors": [After(50)]}

    one = meet(cancer, watched, CONTESTANTS["pool rows"], budget=600)
    many = CONTESTANTS["pool rows, 16 accounts"]
    assert meet(cancer, watched, many, budget=600)["queries"] == 600
    assert one["queries"] == 40


def test_finished_and_stopped_learn_alike(monkeypatch, tmp_path):
    """Who has heard the same has the same copy, and it is learnt once."""
    monkeypatch.setenv("MEXUTILS_CACHE", str(tmp_path))
    owner, calls = cancer(0), []
    learn = owner.known.learn
    monkeypatch.setitem(
        owner.known.__dict__,
        "learn",
        lambda *args: calls.append(1) or learn(*args),
    )

    def asks(customer, known, seed, budget):
        customer.query(known.pool[:60])

    def is_stopped(customer, known, seed, budget):
        asks(customer, known, seed, budget)
        raise chapter.ClientBlocked

    chapter.learnt.cache_clear()
    found = []
    for ask in (asks, is_stopped):
        api = PredictionAPI(owner.predict)
        customer = chapter.customer_of(api, 1, watched=False)
        read = chapter.as_they_are(dict, 0, None)
        reader = chapter.Reader(customer, read)
        found.append(chapter.attacked(ask, reader, owner, 0, 60))
    assert [ended for _, ended in found] == ["finished", "ClientBlocked"]
    assert (found[0][0] == found[1][0]).all()
    assert len(calls) == 1


def test_the_copy_knows_the_answers_and_not_the_victim():
    owner = cancer(0)
    x = owner.exam[:80]
    lies = chapter.Heard(x, 1 - owner.predict(x))
    assert np.mean(chapter.learnt(owner, lies, 0) == owner.own) < 0.2


@pytest.mark.parametrize("learn", ["learn_softmax", "learn_tree"])
@pytest.mark.parametrize("labels", [True, False])
def test_a_learner_takes_any_answers(learn, labels):
    owner = chapter.table_owner(0, "digits", learn.removeprefix("learn_"))
    rows = owner.exam[:300]
    heard = owner.predict(rows)
    heard = heard.argmax(axis=1) if labels else heard
    copy = getattr(chapter, learn)(rows, heard, 0)
    assert np.mean(copy(owner.exam) == owner.own) > 0.7


def test_a_tree_learns_from_all_of_an_answer():
    """Two sure answers outweigh three that lean the other way."""
    heard = np.array([[0.9, 0.1]] * 2 + [[0.4, 0.6]] * 3)
    copy = chapter.learn_tree(np.zeros((5, 1)), heard, 0)
    assert copy(np.zeros((1, 1))) == [0]
    copy = chapter.learn_tree(np.zeros((5, 1)), heard.argmax(axis=1), 0)
    assert copy(np.zeros((1, 1))) == [1]


@pytest.mark.parametrize("name", ["reverse sigmoid", "MAD-argmax", "none"])
def test_a_label_is_heard_behind_every_guard_that_keeps_it(name):
    """The cell that stands for both is what either would have been."""
    who = CONTESTANTS["pool rows, label alone"]
    cell = chapter.meeting(cancer, GUARDS[name], who, 1, 200)
    behind = chapter.meeting(
        cancer, GUARDS["labels only"], CONTESTANTS["pool rows"], 1, 200
    )
    assert cell == behind
    truly = meet(cancer, GUARDS[name].make, who, 1, 200)
    stands = cell.function(**cell.parameters)
    assert truly == {k: v for k, v in stands.items() if k != "seconds"}


def test_a_label_behind_a_monitor_is_a_meeting_of_its_own():
    who = CONTESTANTS["pool rows, label alone"]
    cell = chapter.meeting(cancer, GUARDS["PRADA"], who, 1, 200)
    assert cell.parameters["defense"] is GUARDS["PRADA"].make


def test_seeds_repeat():
    who, make = CONTESTANTS["pool rows"], GUARDS["Gaussian noise"].make
    first, second = (meet(tree, make, who, 1, 200) for _ in range(2))
    assert first == second


def test_a_changed_defense_changes_its_cells_alone():
    def key(name):
        cell = chapter.meeting(
            cancer, GUARDS[name], CONTESTANTS["pool rows"], 0, 9
        )
        return cell_key(Cell(*cell))

    original = chapter.SIGMOID.ReverseSigmoid._bent
    before = key("reverse sigmoid"), key("Gaussian noise")
    try:
        chapter.SIGMOID.ReverseSigmoid._bent = lambda self, p, strength: p
        after = key("reverse sigmoid"), key("Gaussian noise")
    finally:
        chapter.SIGMOID.ReverseSigmoid._bent = original
    assert before[0] != after[0]
    assert before[1] == after[1]


# --- the rows that came later -----------------------------------------------


def test_covers_lie_in_the_leaf_and_free_a_theft():
    """Each query with a row from the middle of what is known of its leaf."""
    asked = []

    class Line:
        def query(self, x, known=None):
            asked.append(np.array(x))
            return np.column_stack([x[:, 0] > 0, np.full(len(x), 0.9)])

    thief = chapter.WithMiddles(Line(), 0)
    heard = thief.query(np.array([[-0.9, 0.1], [0.5, 0.1], [-0.1, 0.1]]))
    assert heard.tolist() == [[0, 0.9], [1, 0.9], [0, 0.9]]
    (cover,) = asked[1]  # of the left leaf, which alone has two rows
    assert -0.9 + 0.4 * 0.8 <= cover[0] <= -0.9 + 0.6 * 0.8
    assert cover[1] == 0.1

    who = CONTESTANTS["paths with middles"]
    scores = meet(tree, chapter.undefended, who, budget=5000)
    assert scores["ended"] == "finished" and scores["fidelity"] >= 98
    make = GUARDS["Forgotten Siblings"].make
    bare = meet(tree, make, CONTESTANTS["path finding"], budget=5000)
    covered = meet(tree, make, who, budget=5000)
    assert covered["queries"] > bare["queries"]


def test_the_edges_of_a_zone_give_its_plane_away():
    """Behind a wide zone and with queries enough; else the rows are learnt."""
    owner = cancer(0)

    class Plane:
        """The victim's plane on two features, the others being nothing."""

        def __call__(self, x):
            far = 3 * (x[:, 0] + 0.5 * x[:, 1])
            one = 1 / (1 + np.exp(-far))
            return np.column_stack([1 - one, one])

    known = chapter.Known(
        owner.known.pool[:, :2], *[None] * 2, owner.known.learn
    )
    predict = Plane()
    layer = chapter.BDPL.BDPL(predict, 0.125, 0.5, key=1)
    api = PredictionAPI(predict, defenses=[layer], returns="probabilities")
    copy = chapter.zone_edges(api, known, 0, 100_000)
    rows = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    same = copy(rows) == predict(rows).argmax(axis=1)
    assert same.mean() > 0.999
    who = CONTESTANTS["edges of the zone"]
    scores = meet(cancer, GUARDS["BDPL"].make, who, budget=300)
    assert scores["ended"] == "BudgetExceeded" and scores["queries"] == 300


def test_the_sieve_learns_from_what_fits():
    """Rows whose answers contradict the trusted ones are left out."""
    seen = []

    def learn(rows, answers, seed):
        seen.append(len(rows))
        return lambda x: (x[:, 0] > 0).astype(int)

    class Customer:
        def __init__(self):
            self.rows = []

        def query(self, x):
            self.rows.append(x)

        def transfer_set(self):
            rows = np.concatenate(self.rows)
            told = (rows[:, 0] > 0).astype(int)
            told[8:] ^= rows[8:, 0] > 0.5  # a lie about strangers
            return rows, np.eye(2)[told]

    rng = np.random.default_rng(0)
    natural, pool = rng.uniform(-1, 1, (8, 3)), rng.uniform(-1, 1, (50, 3))
    known = chapter.Known(pool, None, natural, learn)
    customer = Customer()
    copy = chapter.sifted_letters(customer, known, 0, 40)
    rows, _ = customer.transfer_set()
    lies = (rows[8:, 0] > 0.5).sum()
    assert lies > 3 and seen == [8, 40 - lies, 40 - lies]
    assert copy(pool).tolist() == (pool[:, 0] > 0).tolist()


def test_closed_forms_lead_back():
    owner = cancer(0)
    rows = owner.exam[:100]
    truth = owner.predict(rows)
    for name in ("ModelGuard-W", "GRAD²"):
        settings = GUARDS[name].make(owner, 0)
        told = PredictionAPI(owner.predict, **settings).query(rows)
        back = GUARDS[name].inverse(told, settings)
        off = [np.abs(p - truth).sum(axis=1).mean() for p in (told, back)]
        assert off[1] < off[0] / 2 and off[0] > 0.1


def test_the_second_watch_lets_digits_pass_and_sees_steps():
    owner = chapter.image_owner(0)
    (watch,) = GUARDS["second watch"].make(owner, 0)["monitors"]
    assert watch.alpha == chapter.FALSE_ALARMS
    rows = owner.benign[:300]
    assert watch.observe("Alice", rows, owner.predict(rows)) is None
    noise = chapter.datasets.noise(200, (1, 28, 28), 0)
    assert watch.observe("Eve", noise, owner.predict(noise)) is not None


def test_one_label_behind_a_defense_is_no_warning(recwarn):
    class One:
        def query(self, x):
            return np.zeros(len(x), int)

    copy = chapter.retraining(One(), cancer(0).known, 0, 100)
    assert not recwarn.list
    assert (copy(cancer(0).exam) == 0).all()


def test_what_was_read_at_once_is_not_read_again():
    calls = []

    def read(heard):
        calls.append(len(heard))
        return heard

    rows = np.linspace(0, 1, 6)[:, None]
    for parts, expected in (([rows], [6]), ([rows[:2], rows[2:]], [2, 4, 6])):
        calls.clear()
        api = PredictionAPI(first_column, input_shape=(1,))
        customer = chapter.customer_of(api, 1, watched=False)
        reader = chapter.Reader(customer, read)
        for part in parts:
            reader.query(part)
        kept, heard = reader.transfer_set()
        assert calls == expected
        np.testing.assert_allclose(kept, rows)
        np.testing.assert_allclose(heard[:, 0], rows[:, 0])


def test_an_owner_that_is_known_is_asked_once(monkeypatch, tmp_path):
    """By how it was made; one that nobody can make again, each time."""
    monkeypatch.setenv("MEXUTILS_CACHE", str(tmp_path))
    owner = cancer(1)
    unknown = dataclasses.replace(owner, made=())
    first = chapter.strength(owner, 3, chapter.noise, 1.0, False)
    again = chapter.strength(unknown, 3, chapter.noise, 1.0, False)
    assert first == again
    files = [p for p in (tmp_path / "kept").iterdir() if not p.suffix]
    assert len(files) == 1
    other = chapter.strength(cancer(2), 3, chapter.noise, 1.0, False)
    files = [p for p in (tmp_path / "kept").iterdir() if not p.suffix]
    assert len(files) == 2 and other > 0
