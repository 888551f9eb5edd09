"""Training, the shared victims, and the cache that keeps them."""

import hashlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from pathlib import Path

import make_victims
import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from mexutils import datasets, metrics, models, training, victims
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


class Tagger(nn.Module):
    """Token numbers (n, 6) below 20, an embedding, and three classes."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.out = nn.Linear(24, 3)

    def forward(self, tokens):
        assert tokens.dtype == torch.long
        return self.out(self.words(tokens).flatten(1))


EMBEDDED = {
    "in a module": Tagger,
    "a bag, nested": lambda: nn.Sequential(
        nn.Sequential(nn.EmbeddingBag(20, 4), nn.ReLU()), nn.Linear(4, 3)
    ),
}


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("make", EMBEDDED.values(), ids=EMBEDDED)
def test_an_embedding_in_front_reads_whole_numbers(make, kind):
    tokens = np.random.default_rng(0).integers(0, 20, (300, 6))
    y = (tokens[:, 0] // 7).astype(int)
    torch.manual_seed(0)
    model = training.fit(make(), tokens, y, steps=60, lr=0.05)
    torch.manual_seed(0)
    again = training.fit(make(), tokens.astype(kind), y, steps=60, lr=0.05)
    assert torch.equal(weights(model), weights(again))
    np.testing.assert_array_equal(
        training.predict_proba(model, tokens),
        training.predict_proba(again, tokens.astype(kind)),
    )
    answer = training.predict_proba(model, tokens).argmax(1)
    assert (answer == y).mean() > 0.5


@pytest.mark.parametrize("ask", ["fit", "predict_proba"])
def test_an_embedding_refuses_numbers_that_are_not_whole(ask):
    model = Tagger()
    before = weights(model)
    x = np.ones((5, 6))
    x[2, 3] = x[4, 0] = 0.5
    what = (x, np.zeros(5, int)) if ask == "fit" else (x,)
    with pytest.raises(ValueError, match="2 rows.*row 2: pass token numbers"):
        getattr(training, ask)(model, *what)
    assert torch.equal(weights(model), before)


@pytest.mark.parametrize("bad", [0, -3, 2.5, "a"])
@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_other_numbers_of_steps_and_rows_are_refused(name, bad):
    model = linear()
    before = weights(model)
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        training.fit(model, np.ones((4, 2)), [0, 1, 0, 1], **{name: bad})
    assert torch.equal(weights(model), before)


def test_an_embedding_further_back_changes_nothing():
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.numbers, self.kinds = nn.Linear(1, 2), nn.Embedding(3, 2)

        def forward(self, x):
            assert x.dtype == torch.float32
            return self.numbers(x[:, :1]) + self.kinds(x[:, 1].long())

    x = np.array([[0.5, 1], [0.2, 2], [0.1, 0]])
    model = training.fit(Late(), x, [0, 1, 0], steps=4)
    assert training.predict_proba(model, x).shape == (3, 2)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_that_must_not_be_written_to_are_copied_quietly(kind):
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(kind)
    y, p = np.arange(40) % 2, np.eye(2, dtype=kind)[np.arange(40) % 2]
    for array in (x, y, p):
        array.flags.writeable = False
    for answers in (y, p):
        model = training.fit(linear(), x, answers, steps=5)
        same = training.fit(linear(), x.copy(), answers.copy(), steps=5)
        assert torch.equal(weights(model), weights(same))
        np.testing.assert_array_equal(
            training.predict_proba(model, x),
            training.predict_proba(model, x.copy()),
        )


def test_lenet_reads_digits_and_answers_logits():
    model = models.lenet(width=4, hidden=8, classes=7)
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


# --- the embedded victim --------------------------------------------------


@pytest.fixture
def no_seed(monkeypatch):
    monkeypatch.delenv("MEXUTILS_VICTIM_SEED", raising=False)


def test_the_embedded_victim_needs_no_cache_no_data_and_no_training(
    no_seed, monkeypatch
):
    monkeypatch.setattr(victims, "cached", never)
    monkeypatch.setattr(training, "fit", never)
    monkeypatch.setattr(datasets, "mnist", never)
    start = time.process_time()
    victim = victims.mnist_lenet()
    assert time.process_time() - start < 0.5
    assert victim.input_shape == (1, 28, 28)
    assert not victim.model.training


def test_the_embedded_victim_is_as_right_as_recorded(no_seed):
    test = datasets.mnist().test
    answer = victims.mnist_lenet().predict_proba(test.x)
    assert answer.shape == (10_000, 10) and answer.dtype == np.float64
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-12)
    right = (answer.argmax(1) == test.y).mean()
    assert right == pytest.approx(victims.ACCURACY, abs=0.0005)
    assert right >= 0.99


def test_packed_weights_give_the_embedded_file_to_the_byte():
    model = victims.embedded().model
    assert sum(p.numel() for p in model.parameters()) == 80_202
    content = victims.packed(model)
    assert hashlib.sha256(content).hexdigest() == victims.CHECKSUM


def test_each_caller_gets_a_victim_of_its_own(no_seed):
    first, second = victims.mnist_lenet().model, victims.mnist_lenet().model
    with torch.no_grad():
        first[0].weight.zero_()
    assert second[0].weight.any()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[:-100], "damaged.*git checkout"),
        (lambda whole: whole[:999] + b"\0" + whole[1000:], "damaged"),
        (lambda whole: None, "absent.*install mexutils anew"),
    ],
    ids=["cut", "a byte", "no file"],
)
def test_damaged_weights_are_refused(
    damage, words, no_seed, tmp_path, monkeypatch
):
    whole = (ROOT / "mexutils" / "data" / victims.WEIGHTS).read_bytes()
    (tmp_path / "data").mkdir()
    if (content := damage(whole)) is not None:
        (tmp_path / "data" / victims.WEIGHTS).write_bytes(content)
    monkeypatch.setattr(victims, "files", lambda _: tmp_path)
    with pytest.raises(RuntimeError, match=words):
        victims.mnist_lenet()


# --- the public encoder ---------------------------------------------------


def test_the_embedded_letters_are_as_right_as_recorded():
    x, y = victims.letters_test()
    lenet = victims.embedded_letters()
    answer = lenet.predict_proba(x)
    assert answer.shape == (2000, 52)
    right = (answer.argmax(1) == y).mean()
    assert right == pytest.approx(victims.LETTERS_ACCURACY, abs=0.002)
    assert right >= 0.75
    digest = hashlib.sha256(victims.packed(lenet.model)).hexdigest()
    assert digest == victims.LETTERS_CHECKSUM


def test_an_encoder_is_its_network_without_the_last_layer(no_seed):
    encoder, lenet = victims.letters_encoder(), victims.embedded_letters()
    x = datasets.letters(300, seed=3).x
    found = encoder.features(x)
    assert found.shape == (300, 128) and found.dtype == np.float64
    last = lenet.model[-1]
    weight, bias = (p.detach().numpy() for p in (last.weight, last.bias))
    logits = found @ weight.T + bias
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(p, lenet.predict_proba(x), atol=1e-5)


def test_features_do_not_depend_on_the_batch_and_leave_the_body_alone(no_seed):
    encoder = victims.letters_encoder()
    x = datasets.letters(60, seed=3).x
    whole = encoder.features(x)
    np.testing.assert_allclose(
        encoder.features(x, batch_size=7), whole, rtol=1e-12, atol=1e-12
    )
    assert next(encoder.body.parameters()).dtype == torch.float32
    with pytest.raises(ValueError, match="x must be rows"):
        encoder.features(x[:, 0])


def test_damaged_letters_are_refused(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(victims, "files", lambda _: tmp_path)
    with pytest.raises(RuntimeError, match="letters_lenet.npz.*absent"):
        victims.embedded_letters()


def test_a_seed_gives_an_encoder_that_is_trained_once_and_then_read(
    small_recipe, own_cache
):
    first = victims.letters_encoder()
    (name,) = kept(own_cache)
    assert name.startswith("letters_lenet-")
    again = victims.letters_encoder()
    assert kept(own_cache) == [name]
    x = small_recipe[:5]
    np.testing.assert_array_equal(first.features(x), again.features(x))


# --- retrained victims ----------------------------------------------------


@pytest.fixture
def small_recipe(own_cache, monkeypatch):
    """The recipe on 200 digits, or letters, for four steps, with seed 1."""
    x = np.random.default_rng(0).uniform(size=(200, 1, 28, 28))
    digits = datasets.Sample(x.astype(np.float32), np.arange(200) % 10)
    monkeypatch.setattr(
        datasets, "mnist", lambda: datasets.Split(digits, digits)
    )
    monkeypatch.setattr(datasets, "fashion_mnist", lambda train: digits)
    monkeypatch.setattr(victims, "EPOCHS", 1)
    monkeypatch.setattr(victims, "BATCH", 50)
    monkeypatch.setattr(victims, "LETTERS", 200)
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", "1")
    return x


def kept(folder):
    return sorted(p.name for p in folder.glob("*.npz"))


def test_a_seed_gives_a_victim_that_is_trained_once_and_then_read(
    small_recipe, own_cache, monkeypatch
):
    first = victims.mnist_lenet()
    monkeypatch.setattr(datasets, "mnist", never)
    again = victims.mnist_lenet()
    assert first.input_shape == (1, 28, 28)
    assert not first.model.training
    answer = first.predict_proba(small_recipe[:30])
    np.testing.assert_array_equal(
        answer, again.predict_proba(small_recipe[:30])
    )
    assert len(kept(own_cache)) == 1
    embedded = weights(victims.embedded().model)
    assert not torch.equal(weights(first.model), embedded)


def test_each_seed_gives_its_own_victim(small_recipe, own_cache, monkeypatch):
    first = weights(victims.mnist_lenet().model)
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", " 02 ")
    other = weights(victims.mnist_lenet().model)
    assert not torch.equal(first, other)
    assert len(kept(own_cache)) == 2
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", "1")
    assert torch.equal(first, weights(victims.mnist_lenet().model))


def test_the_seed_draws_weights_batches_and_distortions(
    small_recipe, monkeypatch
):
    starts, seeds = [], []

    def fit(model, x, y, *, seed, **_):
        starts.append(weights(model).clone())
        seeds.append(seed)
        return model

    monkeypatch.setattr(training, "fit", fit)
    digits = datasets.mnist().train
    for seed in (1, 2, 1):
        torch.manual_seed(5)
        victims._train(digits, seed, "")
        draw = torch.rand(1)
        torch.manual_seed(5)
        assert torch.equal(draw, torch.rand(1))  # the caller's draws stay
    assert seeds == [1, 2, 1]
    assert not torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], starts[2])


def test_fashion_is_trained_with_seed_0_unless_told_otherwise(
    small_recipe, own_cache, monkeypatch
):
    one = weights(victims.fashion_lenet().model)
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", "0")
    zero = weights(victims.fashion_lenet().model)
    monkeypatch.delenv("MEXUTILS_VICTIM_SEED")
    assert torch.equal(zero, weights(victims.fashion_lenet().model))
    assert not torch.equal(one, zero)
    assert len(kept(own_cache)) == 2


def test_a_damaged_victim_is_trained_anew(small_recipe, own_cache):
    first = victims.mnist_lenet()
    (path,) = own_cache.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        again = victims.mnist_lenet()
    np.testing.assert_allclose(
        weights(first.model), weights(again.model), atol=1e-6
    )


@pytest.mark.parametrize("seed", ["-1", "1.0", "one", "1e3", "None", "9" * 30])
def test_a_seed_that_is_no_whole_number_is_refused(seed, monkeypatch):
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", seed)
    with pytest.raises(ValueError, match="give a whole number from 0.*unset"):
        victims.mnist_lenet()


@pytest.mark.parametrize(
    ("text", "seed"), [("", None), (" ", None), ("0", 0), ("12", 12)]
)
def test_the_seed_is_read_from_the_environment(text, seed, monkeypatch):
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", text)
    assert victims.victim_seed() == seed


def file_of(monkeypatch, seed=1):
    """The name under which a retrained victim would be kept."""
    with monkeypatch.context() as patch:
        patch.setattr(victims, "cached", lambda name, make: name)
        patch.setattr(victims, "_unpacked", lambda name: name)
        return victims.retrained(seed)


@pytest.mark.parametrize(
    "setting", ["EPOCHS", "BATCH", "PEAK_LR", "WEIGHT_DECAY"]
)
def test_another_setting_is_another_recipe(monkeypatch, setting):
    before = file_of(monkeypatch)
    assert file_of(monkeypatch) == before
    monkeypatch.setattr(victims, setting, getattr(victims, setting) * 2)
    assert file_of(monkeypatch) != before


@pytest.mark.parametrize(
    ("place", "name"),
    [(models, "lenet"), (training, "fit"), (victims, "jitter")],
    ids=["network", "training", "distortion"],
)
def test_another_procedure_is_another_recipe(monkeypatch, place, name):
    before = file_of(monkeypatch)
    monkeypatch.setattr(place, name, never)
    assert file_of(monkeypatch) != before


def test_what_trains_nothing_is_no_part_of_the_recipe(monkeypatch):
    before = file_of(monkeypatch)
    monkeypatch.setattr(victims, "CHECKSUM", "0" * 64)
    monkeypatch.setattr(victims, "ACCURACY", 0.5)
    monkeypatch.setattr(victims, "embedded", never)
    monkeypatch.setattr(training, "predict_proba", never)
    other = {**datasets.CHECKSUMS, "t10k-labels-idx1-ubyte.gz": "0"}
    monkeypatch.setattr(datasets, "CHECKSUMS", other)
    assert file_of(monkeypatch) == before
    other["train-labels-idx1-ubyte.gz"] = "0"
    assert file_of(monkeypatch) != before


@pytest.mark.slow
def test_two_processes_train_a_victim_once(own_cache, tmp_path):
    code = """
import os, sys, time
import numpy as np
from mexutils import datasets, victims
def train(*_):
    print("trained", flush=True)
    time.sleep(1)
    return victims.packed(victims.embedded().model)
victims._train = train
victims.key_of = lambda *_: "key"
open(sys.argv[1], "w").close()
while not all(map(os.path.exists, sys.argv[1:])):
    time.sleep(0.01)
victims.mnist_lenet()
"""
    ready = [str(tmp_path / "ready-1"), str(tmp_path / "ready-2")]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *order],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "MEXUTILS_VICTIM_SEED": "3"},
        )
        for order in (ready, ready[::-1])
    ]
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert b"".join(said).split() == [b"trained"]


# --- make victims ---------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder that the tool writes to in place of `mexutils`."""
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "mexutils" / "victims.py", tmp_path)
    monkeypatch.setattr(make_victims, "PACKAGE", tmp_path)
    return tmp_path


def test_the_tool_says_how_the_retrained_victim_differs(
    small_recipe, package, capsys
):
    before = (package / "victims.py").read_text()
    make_victims.main(["mnist_lenet", "letters_lenet"])
    said = capsys.readouterr().out
    for what in (
        *("accuracy, embedded", "accuracy, retrained", "same label"),
        *("total variation", "difference of a weight"),
    ):
        found = re.findall(rf"{what} +\d\.\d{{4}}\n", said)
        assert len(found) == 2  # the victim and the letters
    assert (package / "victims.py").read_text() == before
    assert not any((package / "data").iterdir())


def test_a_victim_does_not_differ_from_itself(small_recipe):
    victim = victims.embedded()
    test = datasets.mnist().test
    table = make_victims.differences(victim, victim, test)
    assert list(table.values())[2:] == [1, 0, 0]


def test_the_tool_embeds_the_retrained_victim_when_told_to(
    small_recipe, package, monkeypatch
):
    make_victims.main(["--write", "mnist_lenet", "letters_lenet"])
    after = runpy.run_path(str(package / "victims.py"))
    assert after["CHECKSUM"] != victims.CHECKSUM
    monkeypatch.setattr(victims, "CHECKSUM", after["CHECKSUM"])
    data = package / "data" / victims.WEIGHTS
    assert hashlib.sha256(data.read_bytes()).hexdigest() == after["CHECKSUM"]
    monkeypatch.setattr(victims, "files", lambda _: package)
    new, again = victims.embedded(), victims.retrained(0)
    assert torch.equal(weights(new.model), weights(again.model))
    right = metrics.accuracy(
        new.predict_proba(small_recipe).argmax(1), datasets.mnist().test.y
    )
    assert after["ACCURACY"] == pytest.approx(right)
    letters = (package / "data" / victims.LETTERS_WEIGHTS).read_bytes()
    digest = hashlib.sha256(letters).hexdigest()
    assert digest == after["LETTERS_CHECKSUM"] != victims.LETTERS_CHECKSUM


# --- the language model ----------------------------------------------------


@pytest.fixture
def small_text(own_cache, monkeypatch):
    """The recipe of the language model on few stories, for four steps."""
    monkeypatch.setattr(victims, "TEXT_STORIES", 400)
    monkeypatch.setattr(victims, "TEXT_STEPS", 4)
    monkeypatch.setattr(victims, "TEXT_BATCH", 8)


def perplexity(model):
    windows = torch.as_tensor(victims.text_exam(), device=training.DEVICE)
    with torch.no_grad():
        lp = model(windows[:, :-1]).log_softmax(dim=-1)
    return float((-lp.gather(-1, windows[:, 1:, None]).mean()).exp())


def test_the_language_model_is_as_good_as_recorded(no_seed, monkeypatch):
    monkeypatch.setattr(training, "fit_text", never)
    model = victims.reuters_text()
    assert model.out.weight.dtype == torch.float64 and not model.training
    assert perplexity(model) == pytest.approx(victims.TEXT_PERPLEXITY, 1e-5)
    assert victims.TEXT_PERPLEXITY < 60
    content = victims.packed(model.half())
    assert hashlib.sha256(content).hexdigest() == victims.TEXT_CHECKSUM
    assert len(content) < 1_000_000


def test_a_language_model_reads_no_later_token():
    model = victims.embedded_text()
    tokens = torch.as_tensor(victims.text_exam(5), device=training.DEVICE)
    with torch.no_grad():
        whole = model(tokens[:, :16])
        for t in (1, 7, 15):
            part = model(tokens[:, :t])
            torch.testing.assert_close(part, whole[:, :t])


def test_the_norm_before_the_last_layer_is_the_one_that_was_asked():
    x = torch.arange(12).view(2, 6)
    torch.manual_seed(0)
    layer = models.Transformer(20, 8, norm="layer").states(x)
    torch.testing.assert_close(
        layer.mean(-1), torch.zeros(2, 6), atol=1e-6, rtol=0
    )
    rms = models.Transformer(20, 8, norm="rms").states(x)
    torch.testing.assert_close((rms**2).mean(-1), torch.ones(2, 6))
    assert rms.mean(-1).abs().max() > 1e-2


def test_the_language_model_is_retrained_once(
    small_text, own_cache, monkeypatch
):
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", "1")
    first = weights(victims.reuters_text())
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", "2")
    other = weights(victims.reuters_text())
    assert len(kept(own_cache)) == 2
    assert not torch.equal(first, other)
    assert torch.equal(other, weights(victims.reuters_text()))
    assert len(kept(own_cache)) == 2


def test_damaged_weights_of_the_language_model_are_refused(
    no_seed, tmp_path, monkeypatch
):
    monkeypatch.setattr(victims, "files", lambda _: tmp_path)
    with pytest.raises(RuntimeError, match="absent.*install mexutils anew"):
        victims.reuters_text()


def test_the_tool_embeds_a_retrained_language_model(
    small_text, package, monkeypatch, capsys
):
    make_victims.main(["--write", "reuters_text"])
    said = capsys.readouterr().out
    assert re.search(r"perplexity, retrained +\d+\.\d{4}\n", said)
    after = runpy.run_path(str(package / "victims.py"))
    data = package / "data" / victims.TEXT_WEIGHTS
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    assert digest == after["TEXT_CHECKSUM"] != victims.TEXT_CHECKSUM
    assert after["CHECKSUM"] == victims.CHECKSUM
    new = victims.unpacked_text(data.read_bytes())
    assert after["TEXT_PERPLEXITY"] == pytest.approx(perplexity(new), 1e-4)


def test_the_tool_knows_its_victims(package):
    with pytest.raises(SystemExit):
        make_victims.main(["lenet"])


def test_text_is_learnt_by_the_default_loss_and_by_another():
    windows = np.tile(np.arange(9) % 3, (40, 1))
    torch.manual_seed(0)
    model = models.Transformer(3, 8)
    training.fit_text(model, windows, steps=60, batch_size=8, lr=1e-2)
    guess = model(torch.as_tensor(windows[:1, :-1], device=training.DEVICE))
    assert (guess.argmax(-1).cpu().numpy() == windows[:1, 1:]).all()
    rows = []

    def loss(logits, numbers):
        rows.append(numbers)
        return logits.square().mean()

    training.fit_text(model, windows, loss=loss, steps=5, batch_size=8)
    assert len(torch.cat(rows).unique()) == 40


@pytest.mark.parametrize("bad", [np.zeros((3, 1), int), np.zeros(4, int)])
def test_windows_are_rows_of_two_tokens_or_more(bad):
    with pytest.raises(ValueError, match="windows must be rows"):
        training.fit_text(models.Transformer(3, 8), bad)


# --- the distortions ------------------------------------------------------


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
