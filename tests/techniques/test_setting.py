"""The setting: what the three scores and the three baselines are."""

import numpy as np
import pytest
from torch import nn

from mexutils import PredictionAPI, load_chapter

chapter = load_chapter("setting")


def test_the_three_scores_by_hand():
    truth = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    victim = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 0])  # right on 8
    copy = np.array([0, 1, 2, 3, 4, 5, 0, 0, 0, 9])  # right on 7
    found = chapter.scores(copy, victim, truth)
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["fidelity"] == pytest.approx(0.7)
    assert found["relative accuracy"] == pytest.approx(0.7 / 0.8)
    found = chapter.scores(truth, victim, truth)
    assert found["accuracy"] == 1
    assert found["fidelity"] == pytest.approx(0.8)
    assert found["relative accuracy"] == pytest.approx(1.25)


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

    api = PredictionAPI(victim, budget=80, input_shape=shape)
    asked.clear()  # the API tries its victim out
    found = chapter.baselines(api, own, own[:7], 5, 3)
    assert api.ledger.queries == 80
    noise, digits = asked
    np.testing.assert_array_equal(digits, own)
    assert len(np.unique(noise, axis=0)) == 40  # no image twice
    assert 0 <= noise.min() < 0.01 and 0.99 < noise.max() <= 1
    # All noise is as bright as the second class.
    assert found["majority"].tolist() == [1] * 7
    assert found["random-query"].tolist() == [2] * 7
    assert found["in-distribution"].tolist() == [2] * 7
    for (model, x, y, options), images in zip(
        trained, (noise, own), strict=True
    ):
        assert isinstance(model, nn.Module)
        np.testing.assert_array_equal(x, images)
        np.testing.assert_allclose(y, brightness(images))  # not its labels
        assert options["steps"] == 5 and options["seed"] == 3
        assert options.get("augment") is None


def test_another_seed_is_other_noise(trained):
    own = np.zeros((4, 1, 28, 28), np.float32)
    api = PredictionAPI(brightness, input_shape=own.shape[1:])
    for seed in (0, 0, 1):
        chapter.baselines(api, own, own, 1, seed)
    first, again, other = (trained[i][1] for i in (0, 2, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
