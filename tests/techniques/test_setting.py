"""The setting: what the three scores and the three baselines are."""

import re

import numpy as np
import pytest
from torch import nn

from mexutils import PredictionAPI, load_chapter, victims
from mexutils.chapters import book_dir

chapter = load_chapter("setting")


def test_the_three_scores_by_hand():
    truth = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    victim = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 0])  # right on 8
    copy = np.array([0, 1, 2, 3, 4, 5, 0, 0, 0, 9])  # right on 7
    found = chapter.scores(copy, victim, truth)
    assert found["accuracy"] == pytest.approx(70)
    assert found["fidelity"] == pytest.approx(70)
    assert found["relative"] == pytest.approx(100 * 0.7 / 0.8)
    found = chapter.scores(truth, victim, truth)
    assert found["accuracy"] == 100
    assert found["fidelity"] == pytest.approx(80)
    assert found["relative"] == pytest.approx(125)


def brightness(x):
    """Three classes by the mean of an image; noise is mostly of the second."""
    level = x.reshape(len(x), -1).mean(axis=1)
    z = -((level[:, None] - [0.2, 0.5, 0.8]) ** 2) / 0.01
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@pytest.fixture
def trained(monkeypatch):
    """What `training.fit` is given, in place of training."""
    calls = []

    def fit(model, x, y, **options):
        calls.append((model, x, y, options))
        return model

    def predict_proba(model, x):
        return np.tile(np.eye(3)[2], (len(x), 1))

    monkeypatch.setattr(chapter.training, "fit", fit)
    monkeypatch.setattr(chapter.training, "predict_proba", predict_proba)
    return calls


def test_the_baselines_ask_and_learn_what_the_chapter_says(trained):
    shape = (1, 28, 28)
    own = np.linspace(0, 1, 40, dtype=np.float32)[:, None, None, None]
    own = np.broadcast_to(own, (40, *shape)).copy()
    asked = []

    def victim(x):
        asked.append(np.asarray(x))
        return brightness(x)

    api = PredictionAPI(victim, budget=80, input_shape=shape, try_out=False)
    found = chapter.baselines(api, own, own[:7], 5, 3)
    assert api.ledger.queries == 80
    noise, digits = asked
    np.testing.assert_array_equal(digits, own)
    assert len(np.unique(noise, axis=0)) == 40  # no image twice
    assert 0 <= noise.min() < 0.01 and 0.99 < noise.max() <= 1
    # All noise is as bright as the second class.
    assert found["majority"].tolist() == [1] * 7
    names = ["random-query", "in-distribution, plain", "in-distribution"]
    assert list(found)[2:] == names
    for name in names:
        assert found[name].tolist() == [2] * 7
    jitters = None, None, victims.jitter
    for call, images, jitter in zip(
        trained, (noise, own, own), jitters, strict=True
    ):
        model, x, y, options = call
        assert isinstance(model, nn.Module)
        np.testing.assert_array_equal(x, images)
        np.testing.assert_allclose(y, brightness(images))  # not its labels
        assert options["steps"] == 5 and options["seed"] == 3
        assert options["augment"] is jitter


def test_the_prior_gives_each_label_as_often_as_it_came_back(trained):
    own = np.repeat(np.float32([0.2, 0.8]), [30, 10])[:, None, None, None]
    own = np.broadcast_to(own, (40, 1, 28, 28)).copy()
    api = PredictionAPI(brightness, input_shape=own.shape[1:])
    rows = np.zeros((4000, 1, 28, 28), np.float32)
    prior = chapter.baselines(api, own, rows, 1, 0)["prior"]
    shares = np.bincount(prior, minlength=3) / len(rows)
    np.testing.assert_allclose(shares, [0.75, 0, 0.25], atol=0.03)


def test_another_seed_is_other_noise(trained):
    own = np.zeros((4, 1, 28, 28), np.float32)
    api = PredictionAPI(brightness, input_shape=own.shape[1:])
    for seed in (0, 0, 1):
        chapter.baselines(api, own, own, 1, seed)
    first, again, other = (trained[i][1] for i in (0, 3, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_copy_has_as_many_classes_as_the_answers(trained):
    answers = np.full((2, 26), 1 / 26)
    chapter.copy_from(np.zeros((2, 1, 28, 28)), answers, 1, 0)
    (model, _, _, options) = trained[0]
    assert model[-1].out_features == 26
    assert options["augment"] is victims.jitter  # the owner's, unless told


def test_the_prices_by_hand():
    assert chapter.costs(2000) == {1: 2, 1.5: 3, 10: 20}
    assert chapter.costs(0) == {1: 0, 1.5: 0, 10: 0}


def test_each_line_of_the_table_names_an_attack_that_there_is():
    source = (book_dir() / "setting.py").read_text()
    line = r"^# \* - \[[^]]+\]\((attacks/\w+)\.ipynb\)"
    linked = re.findall(line, source, re.MULTILINE)
    assert len(set(linked)) == len(linked) >= 6
    for name in linked:
        assert (book_dir() / f"{name}.py").is_file()
