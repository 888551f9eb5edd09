"""Every attack that needs only answers, unchanged over HTTP."""

import numpy as np
import pytest
import yaml
from _wire import victim
from conftest import ROOT
from scipy.special import expit
from sklearn.datasets import load_iris
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from mexutils import PredictionAPI, clients, datasets, load_chapter


def both_ways(shop, predict, attack, key="k-eve", defend=None, **sold):
    """An attack in process and over the wire: its results and its bills.

    defend: makes a defense, a new one for each way.
    """
    here, there = (
        PredictionAPI(predict, defenses=[defend()] if defend else [], **sold)
        for _ in range(2)
    )
    remote = shop(there, key=key)
    found = attack(here), attack(remote)
    assert here.ledger.queries == there.ledger.queries > 0
    assert here.ledger.calls == there.ledger.calls
    return found


def binary(x):
    return softmax_of(x @ np.array([[1.0, -0.7], [0.3, 0.2], [-1.1, 0.4]]))


def softmax_of(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_stealml_is_the_same_over_the_wire(shop):
    stealml = load_chapter("attacks/stealml")
    x = stealml.uniform_rows(4, 3, 0)
    mine, theirs = both_ways(
        shop, binary, lambda api: stealml.solve_binary(api, x)
    )
    assert (mine == theirs).all()
    x = stealml.uniform_rows(20, 4, 0)
    mine, theirs = both_ways(
        shop, victim, lambda api: stealml.solve_softmax(api, x)
    )
    assert (mine == theirs).all()


def test_lowd_and_meek_is_the_same_over_the_wire(shop):
    labels = load_chapter("attacks/stealml_labels")

    def attack(api):
        ends = labels.find_both_labels(api, 3)
        return labels.lowd_meek(api, *ends, epsilon=0.05)

    mine, theirs = both_ways(shop, binary, attack, returns="label")
    assert (mine == theirs).all()


def test_path_finding_is_the_same_over_the_wire(shop):
    trees = load_chapter("attacks/stealml_trees")
    x, y = load_iris(return_X_y=True)
    tree = DecisionTreeClassifier(random_state=0, min_samples_leaf=9)
    tree.fit(x, y)

    def attack(api):
        oracle = clients.LabelAndConfidence(api.query)
        return trees.tree_bottom_up(oracle, x.min(0), x.max(0), 0.05)

    mine, theirs = both_ways(shop, tree.predict_proba, attack)
    assert len(mine) == len(theirs) > 2
    for a, b in zip(mine, theirs, strict=True):
        assert a.answer == b.answer
        assert (a.low == b.low).all() and (a.high == b.high).all()


def weights_of(model):
    return np.concatenate([p.detach().ravel() for p in model.parameters()])


def brightness(x):
    columns = x.reshape(len(x), 28, 28)[:, :, :25].reshape(len(x), 28, 5, 5)
    ink = columns.sum((1, 3)) + 1e-3
    both = np.concatenate([ink, ink[:, ::-1] * 0.5], axis=1)
    return both / both.sum(axis=1, keepdims=True)


def test_knockoff_nets_is_the_same_over_the_wire(shop):
    chapter = load_chapter("attacks/knockoff_nets")
    pool = datasets.letters(100).x

    def attack(api):
        return weights_of(chapter.knockoff(api, pool, 100, seed=1))

    mine, theirs = both_ways(shop, brightness, attack, budget=100)
    assert (mine == theirs).all()


def test_the_attack_of_prada_is_the_same_over_the_wire(shop):
    chapter = load_chapter("attacks/prada_attack")
    rng = np.random.default_rng(4)
    seeds = rng.uniform(0.3, 0.7, (20, 1, 28, 28)).astype(np.float32)

    def attack(api):
        copy, _ = chapter.prada_attack(api, seeds, 60, settings=(0.01, 2))
        return weights_of(copy)

    mine, theirs = both_ways(shop, brightness, attack, returns="label")
    assert (mine == theirs).all()


def test_one_against_the_rest_is_the_same_over_the_wire(shop):
    stealml = load_chapter("attacks/stealml")
    x = stealml.uniform_rows(20, 4, 0)

    def rest(x):
        p = expit(x @ np.random.default_rng(3).normal(size=(4, 3)))
        return p / p.sum(axis=1, keepdims=True)

    mine, theirs = both_ways(
        shop, rest, lambda api: stealml.solve_ovr(api, x, 20)
    )
    assert (mine == theirs).all()


@pytest.mark.parametrize("how", ["uniform", "line_search", "adaptive"])
def test_retraining_is_the_same_over_the_wire(shop, how):
    labels = load_chapter("attacks/stealml_labels")
    retrain = getattr(labels, f"retrain_{how}")
    mine, theirs = both_ways(
        shop,
        binary,
        lambda api: retrain(api, 3, 200, seed=2),
        returns="label",
        budget=200,
    )
    (one, two), (three, four) = (
        (copy.coef_, copy.intercept_) for copy in (mine, theirs)
    )
    assert (one == three).all() and (two == four).all()


@pytest.mark.parametrize("polled", ["at random", "actively"])
def test_steal_classifier_is_the_same_over_the_wire(shop, polled):
    chapter = load_chapter("attacks/steal_classifier")
    pool = np.random.default_rng(5).normal(size=(400, 3))
    fresh = np.random.default_rng(6).normal(size=(500, 3))

    def attack(api):
        args = api, pool, 200, lambda seed: GaussianNB(), 0
        if polled == "at random":
            return [chapter.steal(*args)]
        return list(chapter.active_steal(*args, first=50, batch=30).values())

    mine, theirs = both_ways(shop, binary, attack, returns="label", budget=200)
    for one, other in zip(mine, theirs, strict=True):
        assert (one.labels(fresh) == other.labels(fresh)).all()
        p, q = (c.model.predict_proba(fresh) for c in (one, other))
        assert (p == q).all()


def test_exact_copies_are_the_same_over_the_wire(shop):
    chapter = load_chapter("frontier/exact_copies")
    net = chapter.Random(6, 4, 3, 1)
    mine, theirs = both_ways(
        shop, net.predict_proba, lambda api: chapter.steal_network(api, 6)
    )
    assert mine.complete and theirs.complete and mine.error == theirs.error
    x = np.random.default_rng(0).normal(size=(200, 6))
    assert (mine.copy.log_ratios(x) == theirs.copy.log_ratios(x)).all()


@pytest.mark.slow
def test_exact_copies_of_labels_are_the_same_over_the_wire(shop):
    chapter = load_chapter("frontier/exact_copies")
    net = chapter.Random(5, 3, 2, 0)
    mine, theirs = both_ways(
        shop,
        net.predict_proba,
        lambda api: chapter.steal_by_labels(api, 5, 0),
        returns="label",
        budget=50_000,
    )
    assert mine.complete == theirs.complete and mine.error == theirs.error
    x = np.random.default_rng(0).normal(0, 3, (200, 5))
    assert (mine.copy.log_ratios(x) == theirs.copy.log_ratios(x)).all()


def test_a_private_head_is_the_same_over_the_wire(shop):
    chapter = load_chapter("frontier/private_head")
    theta = np.random.default_rng(2).normal(size=(3, 5))
    head = chapter.Head(np.asarray, theta)
    pool = np.random.default_rng(3).normal(size=(40, 4))
    mine, theirs = both_ways(
        shop,
        head.predict_proba,
        lambda api: chapter.steal_head(api, np.asarray, pool),
    )
    assert (mine.theta == theirs.theta).all()


def test_paths_of_a_watched_tree_are_the_same_over_the_wire(shop):
    chapter = load_chapter("defenses/forgotten_siblings")

    def leaves(x):
        return np.eye(3)[np.digitize(x[:, 0], [-0.2, 0.3]).astype(int)]

    def attack(api):
        thief = chapter.Thief(api, ["ann", "bob"])
        boxes = chapter.find_paths(thief, [0.7], 1e-3, -1.0, 1.0)
        return thief.rows, [(*b.low, *b.high, *b.answer) for b in boxes]

    mine, theirs = both_ways(
        *(shop, leaves, attack),
        key={"ann": "k-ann", "bob": "k-eve"},
        returns="label",
    )
    assert str(mine) == str(theirs)


def test_edges_of_bdpl_are_the_same_over_the_wire(shop):
    bdpl = load_chapter("defenses/bdpl")

    def plane(x):
        p = expit(4 * (x @ [1.0, -0.6, 0.5] + 0.1))
        return np.column_stack([1 - p, p])

    def defend():
        return bdpl.BDPL(plane, 0.2, 0.5, memory="grid", key=1)

    mine, theirs = both_ways(
        *(shop, plane, lambda api: bdpl.steal_by_edges(api, 3, seed=1)),
        defend=defend,
        returns="label",
    )
    assert (mine == theirs).all()


HERE = {
    "attacks/stealml",
    "attacks/stealml_labels",
    "attacks/stealml_trees",
    "attacks/prada_attack",
    "attacks/knockoff_nets",
    "attacks/steal_classifier",
    "frontier/exact_copies",
    "frontier/private_head",
}
ELSEWHERE = {
    "attacks/steal_hyperparameters": "asks nothing beyond solved equations",
    "attacks/steal_nn": "reads times, which the wire changes",
    "frontier/language_models": "asks for tokens, by an API of its own",
    "frontier/model_guard": "a defense; its thief is that of KnockoffNets",
    "frontier/few_labels": "queries as KnockoffNets does, leg by leg",
    "frontier/no_data": "queries as KnockoffNets does, batch by batch",
    "frontier/ownership": "what comes after a theft",
    "frontier/priced_queries": "a defense; its thieves are those of others",
}


def test_every_attack_of_the_book_is_tried_or_says_why_not():
    listed = yaml.safe_load((ROOT / "book" / "techniques.yml").read_text())
    rooms = ("attacks/", "frontier/")
    named = {t["chapter"] for t in listed if t["chapter"].startswith(rooms)}
    assert named == HERE | set(ELSEWHERE)
