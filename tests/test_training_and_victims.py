"""Training, the shared victims, and the cache that keeps them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from mexutils import datasets, training, victims
from mexutils.cache import cache_dir, cached

# --- fit and predict_proba ------------------------------------------------

QUICK = {"steps": 200, "batch_size": 20, "lr": 0.05}


@pytest.fixture(scope="module")
def clouds():
    """Two clouds of points and the class of each."""
    y = np.arange(200) % 2
    x = np.random.default_rng(0).normal(size=(200, 2)) + 4 * y[:, None]
    return x, y


def linear(inputs=2, outputs=2):
    torch.manual_seed(7)
    return nn.Linear(inputs, outputs)


def weights(model):
    return torch.cat([p.detach().cpu().flatten() for p in model.parameters()])


def test_fit_learns_from_labels(clouds):
    x, y = clouds
    model = training.fit(linear(), x, y, **QUICK)
    guesses = training.predict_proba(model, x).argmax(1)
    assert (guesses == y).mean() > 0.98


def test_fit_learns_from_probabilities(clouds):
    x, _ = clouds
    teacher = linear().requires_grad_(False)
    target = training.predict_proba(teacher, x)
    torch.manual_seed(8)
    copy = training.fit(nn.Linear(2, 2), x, target, steps=600, lr=0.1)
    answer = training.predict_proba(copy, x)
    assert np.abs(answer - target).max() < 0.01


def test_the_soft_loss_is_least_at_the_target_distribution():
    target = np.array([0.2, 0.5, 0.3])
    x, y = np.ones((60, 1)), np.tile(target, (60, 1))
    model = training.fit(linear(1, 3), x, y, steps=400, lr=0.1)
    answer = training.predict_proba(model, x[:1])[0]
    np.testing.assert_allclose(answer, target, atol=1e-3)


def test_one_seed_gives_one_model_and_another_gives_another(clouds):
    first, again, other = (
        weights(training.fit(linear(), *clouds, **QUICK, seed=seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_fit_returns_the_model_itself_in_evaluation_mode(clouds):
    model = nn.Sequential(linear(), nn.Dropout())
    assert training.fit(model, *clouds, steps=4) is model
    assert not model.training


def test_fit_augments_every_batch(clouds):
    sizes = []

    def augment(batch, rng):
        sizes.append(len(batch))
        return batch + torch.rand(batch.shape, generator=rng).to(batch)

    plain = training.fit(linear(), *clouds, **QUICK)
    changed = training.fit(linear(), *clouds, **QUICK, augment=augment)
    assert sizes == [20] * 200
    assert not torch.equal(weights(plain), weights(changed))


BAD_TRAINING_DATA = {
    "more rows than answers": (np.zeros((3, 2)), [0, 1], "3 rows and 2"),
    "empty": (np.zeros((0, 2)), np.zeros(0, int), "at least one row"),
    "NaN rows": ([[0, np.nan], [0, 1]], [0, 1], "NaN.*drop those rows"),
    "infinite rows": ([[0, np.inf], [0, 1]], [0, 1], "infinite"),
    "NaN answers": (np.zeros((1, 2)), [[np.nan, 1]], "NaN"),
    "scores, one a row": (np.zeros((2, 2)), [0.1, 0.9], "class numbers"),
}


@pytest.mark.parametrize("case", BAD_TRAINING_DATA)
def test_bad_training_data_are_refused(case):
    x, y, words = BAD_TRAINING_DATA[case]
    model = linear()
    before = weights(model)
    with pytest.raises(ValueError, match=words):
        training.fit(model, x, y)
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("n", [1, 3, 10, 64])
def test_every_row_is_used_once_before_any_is_used_twice(n):
    batches = training._batches(n, 4, torch.Generator().manual_seed(0))
    drawn = torch.cat([next(batches) for _ in range(60)]).tolist()
    passes = [drawn[i : i + n] for i in range(0, len(drawn) - n + 1, n)]
    assert len(passes) >= 3
    assert all(sorted(rows) == list(range(n)) for rows in passes)
    assert n < 10 or passes[0] != passes[1]


def test_predicted_rows_sum_to_one_in_double_precision():
    model = nn.Sequential(linear(4, 10), nn.Flatten())
    x = np.random.default_rng(0).normal(size=(1001, 4)) * 1e4
    answer = training.predict_proba(model.train(), x)
    assert answer.shape == (1001, 10) and answer.dtype == np.float64
    np.testing.assert_allclose(answer.sum(1), 1, rtol=0, atol=1e-14)
    assert (answer >= 0).all()
    assert not model.training


def test_predictions_do_not_depend_on_the_batches():
    x = np.random.default_rng(0).normal(size=(7, 2))
    np.testing.assert_allclose(
        training.predict_proba(linear(), x, batch_size=2),
        training.predict_proba(linear(), x),
        rtol=1e-6,
    )


def test_predict_proba_refuses_rows_that_are_not_finite():
    with pytest.raises(ValueError, match="NaN or infinite"):
        training.predict_proba(linear(), [[0.0, np.nan]])


def test_lenet_reads_digits_and_answers_logits():
    model = training.lenet(width=4, hidden=8, classes=7)
    assert model(torch.zeros(3, 1, 28, 28)).shape == (3, 7)
    widths = [m.out_channels for m in model if isinstance(m, nn.Conv2d)]
    assert widths == [4, 8]


# --- the cache ------------------------------------------------------------


def never(*_, **__):
    raise AssertionError("the file was made although the cache holds it")


def test_a_file_is_made_once_and_read_later(own_cache):
    assert cached("a", lambda: b"content\nof two lines") == (
        b"content\nof two lines"
    )
    assert cached("a", never) == b"content\nof two lines"
    assert cached("b", lambda: b"") == b""
    assert cached("b", never) == b""


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:10],
        lambda whole: b"",
        lambda whole: whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:],
        lambda whole: bytes([whole[0] ^ 1]) + whole[1:],
    ],
    ids=["last byte", "half the checksum", "empty", "a bit", "checksum bit"],
)
def test_a_damaged_file_is_noticed_and_made_anew(own_cache, damage):
    cached("a", lambda: b"0123456789")
    path = own_cache / "a"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged or half-written"):
        assert cached("a", lambda: b"anew") == b"anew"
    assert cached("a", never) == b"anew"


def test_a_half_written_part_is_never_read(own_cache):
    own_cache.mkdir()
    digest = hashlib.sha256(b"older").hexdigest().encode()
    (own_cache / "a.123.part").write_bytes(digest + b"\nolder")
    assert cached("a", lambda: b"right") == b"right"


def test_a_failed_making_leaves_nothing_behind(own_cache):
    with pytest.raises(ZeroDivisionError):
        cached("a", lambda: 1 / 0)
    assert not (own_cache / "a").exists()
    assert cached("a", lambda: b"right") == b"right"


def test_two_processes_make_a_file_once(own_cache, tmp_path):
    code = """
import os, runpy, sys, time
cached = runpy.run_path(sys.argv.pop(1))["cached"]
def make():
    print("made", flush=True)
    time.sleep(1)
    return b"content"
open(sys.argv[1], "w").close()
while not all(map(os.path.exists, sys.argv[1:])):
    time.sleep(0.01)
assert cached("a", make) == b"content"
"""
    module = str(ROOT / "mexutils" / "cache.py")
    ready = [str(tmp_path / "ready-1"), str(tmp_path / "ready-2")]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, module, *order],
            stdout=subprocess.PIPE,
        )
        for order in (ready, ready[::-1])
    ]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert b"".join(said).split() == [b"made"]


def test_a_cache_folder_that_cannot_be_made_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEXUTILS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RuntimeError, match="set MEXUTILS_CACHE to a folder"):
        cache_dir()


def test_a_cache_folder_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # a superuser's modes bind nobody
        folder = Path("/sys")
    if not folder.is_dir():
        pytest.skip("this user may write to every folder")
    monkeypatch.setenv("MEXUTILS_CACHE", str(folder))
    with pytest.raises(RuntimeError, match="set MEXUTILS_CACHE to a folder"):
        cached("a", lambda: b"content")


# --- the shared victims ---------------------------------------------------


@pytest.fixture
def small_recipe(own_cache, monkeypatch):
    """The MNIST victim's recipe on 200 digits for four steps."""
    x = np.random.default_rng(0).uniform(size=(200, 1, 28, 28))
    digits = datasets.Sample(x.astype(np.float32), np.arange(200) % 10)
    monkeypatch.setattr(
        datasets, "mnist", lambda: datasets.Split(digits, digits)
    )
    monkeypatch.setattr(victims, "EPOCHS", 1)
    monkeypatch.setattr(victims, "BATCH", 50)
    return x


def test_the_victim_is_trained_once_and_then_read(
    small_recipe, own_cache, monkeypatch
):
    first = victims.mnist_lenet()
    monkeypatch.setattr(datasets, "mnist", never)
    again = victims.mnist_lenet()
    assert first.input_shape == (1, 28, 28)
    assert not first.model.training
    answer = first.predict_proba(small_recipe[:30])
    assert answer.shape == (30, 10)
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(
        answer, again.predict_proba(small_recipe[:30])
    )
    assert [p.suffix for p in own_cache.glob("mnist_lenet-*")].count(
        ".pt"
    ) == 1


def test_a_damaged_victim_is_trained_anew(small_recipe, own_cache):
    first = victims.mnist_lenet()
    (path,) = own_cache.glob("*.pt")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        again = victims.mnist_lenet()
    np.testing.assert_allclose(
        weights(first.model), weights(again.model), atol=1e-6
    )


@pytest.mark.parametrize(
    "setting", ["EPOCHS", "BATCH", "PEAK_LR", "WEIGHT_DECAY"]
)
def test_another_setting_is_another_recipe(monkeypatch, setting):
    before = victims._recipe()
    assert victims._recipe() == before
    monkeypatch.setattr(victims, setting, getattr(victims, setting) * 2)
    assert victims._recipe() != before


@pytest.mark.parametrize(
    ("place", "name"),
    [(training, "lenet"), (training, "fit"), (victims, "jitter")],
    ids=["network", "training", "distortion"],
)
def test_another_procedure_is_another_recipe(monkeypatch, place, name):
    before = victims._recipe()
    monkeypatch.setattr(place, name, never)
    assert victims._recipe() != before


def test_jitter_moves_every_image_a_little():
    images = torch.zeros(50, 1, 28, 28)
    images[:, :, 10:18, 8:20] = 1
    moved = victims.jitter(images, torch.Generator().manual_seed(0))
    again = victims.jitter(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and moved.dtype == images.dtype
    assert torch.equal(moved, again)
    assert moved.min() >= 0 and moved.max() <= 1 + 1e-6
    assert (moved != images).flatten(1).any(1).all()
    assert not torch.equal(moved[0], moved[1])
    steps = torch.arange(28.0)
    for axis in (2, 3):
        centre = (moved.sum((1, 5 - axis)) * steps).sum(1) / moved.sum(
            (1, 2, 3)
        )
        assert (centre - 13.5).abs().max() < 2.5
    mass = moved.sum((1, 2, 3)) / images[0].sum()
    assert mass.min() > 0.75 and mass.max() < 1.3
