"""Every attack that needs only answers, unchanged over HTTP."""

import numpy as np
from _wire import victim
from sklearn.datasets import load_iris
from sklearn.tree import DecisionTreeClassifier

from mexutils import PredictionAPI, clients, datasets, load_chapter


def both_ways(shop, predict, attack, **sold):
    """An attack in process and over the wire: its results and its bills."""
    here = PredictionAPI(predict, **sold)
    there = PredictionAPI(predict, **sold)
    remote = shop(there)
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
