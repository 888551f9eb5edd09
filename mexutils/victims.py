"""The victims that several chapters share, and a body that anybody may have.

The MNIST victim, the language model and the public encoder travel with the
package, so that every machine works with the same models.
`MEXUTILS_VICTIM_SEED` puts others in their place that are trained anew from
the same recipes.
"""

import copy
import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mexutils import checks, datasets, models, training
from mexutils.cache import cached
from mexutils.keys import key_of

__all__ = [
    "Encoder",
    "Victim",
    "embedded",
    "embedded_letters",
    "embedded_text",
    "fashion_lenet",
    "jitter",
    "letters_encoder",
    "letters_test",
    "mnist_lenet",
    "packed",
    "retrained",
    "retrained_letters",
    "retrained_text",
    "reuters_text",
    "victim_seed",
]

EPOCHS, BATCH, PEAK_LR, WEIGHT_DECAY = 15, 128, 5e-3, 0.01
"""The recipe: how the victims of this module are trained."""

TRAINING_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")

WEIGHTS = "mnist_lenet.npz"
CHECKSUM = "bbe1be75bdc749fa56fae6b31168e1374243b7023c0a3fe401083c911a46f391"
ACCURACY = 0.9953
"""The embedded weights: the recipe with seed 0, run once on one thread.

File, SHA-256, and the share of the 10,000 test digits that it gets right.
`tools/make_victims.py --write` replaces all three. They are arrays in NumPy's
own format, which holds numbers and no code: reading one runs nothing.
"""

LETTERS, LETTERS_SEED = 12_000, 7
"""The encoder's training rows: `datasets.letters(LETTERS, LETTERS_SEED)`."""

LETTERS_WEIGHTS = "letters_lenet.npz"
LETTERS_CHECKSUM = (
    "16f92a91e3389768644c00a6d22adfde22bd0317fab7954feb6577233b3d9e15"
)
LETTERS_ACCURACY = 0.8025
"""The same three for the LeNet that was trained on letters with seed 0.

The accuracy is on `letters_test()`, of 52 classes some of which look alike.
"""

TEXT_STORIES, TEXT_STEPS, TEXT_BATCH, TEXT_PEAK_LR = 12_000, 3000, 64, 3e-3
"""The recipe of the language model, on the first stories of Reuters."""

TEXT_WEIGHTS = "reuters_text.npz"
TEXT_CHECKSUM = (
    "156ef115b6c1bcf07911a64c3b461083ebf24e52b1ec7a349f07d86fda5fc036"
)
TEXT_PERPLEXITY = 53.9580
"""Its embedded weights, in float16: the recipe with seed 0, run once.

File, SHA-256, and the perplexity on `text_exam`.
"""


@dataclass(frozen=True)
class Victim:
    """A trained model and the shape of one row that it reads.

    The model is the owner's. An attacker is given a `PredictionAPI` around
    `predict_proba` and nothing else.
    """

    model: nn.Module
    input_shape: tuple[int, ...]

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Probabilities (n, c) float64 for the rows x (n, *input_shape)."""
        return training.predict_proba(self.model, x)


@dataclass(frozen=True)
class Encoder:
    """A trained network without its last layer, which anybody may run.

    Who puts a layer of his own on it has a victim. Not to be trained in
    place: `copy.deepcopy(encoder.body)` is the caller's own.
    """

    body: nn.Module
    input_shape: tuple[int, ...]

    def features(self, x: np.ndarray, batch_size: int = 250) -> np.ndarray:
        """Features (n, d) float64 of the rows x (n, *input_shape).

        Computed in float64 throughout, so that everybody who asks for them
        gets the same to 15 digits, whatever the size of the batch.
        """
        x = checks.rows(x, *self.input_shape)
        body = copy.deepcopy(self.body).double()
        with torch.no_grad():
            found = [
                body(rows.to(training.DEVICE)).cpu()
                for rows in torch.from_numpy(x).split(batch_size)
            ]
        return torch.cat(found).numpy()


def letters_encoder() -> Encoder:
    """The body of a LeNet trained on rendered letters: 128 features.

    The embedded one, read in milliseconds; with `MEXUTILS_VICTIM_SEED` one
    that is retrained with that seed on first use.
    """
    seed = victim_seed()
    lenet = embedded_letters() if seed is None else retrained_letters(seed)
    return Encoder(lenet.model[:-1], lenet.input_shape)


def mnist_lenet() -> Victim:
    """LeNet trained on the 60,000 MNIST digits, each slightly distorted.

    The embedded one, read in milliseconds; with `MEXUTILS_VICTIM_SEED` one
    that is retrained with that seed on first use.
    """
    seed = victim_seed()
    return embedded() if seed is None else retrained(seed)


def fashion_lenet() -> Victim:
    """The same network and training on Fashion-MNIST's 60,000 pictures.

    Trained on first use, with seed 0 unless `MEXUTILS_VICTIM_SEED` names
    another. Raises `FileNotFoundError` that says how to get the pictures
    where they are absent.
    """
    return _kept(
        "fashion_lenet",
        victim_seed() or 0,
        "torchvision's files",
        lambda: datasets.fashion_mnist(train=True),
    )


def victim_seed() -> int | None:
    """The whole number in `MEXUTILS_VICTIM_SEED`; None where it is not set.

    A result that was measured on these victims stands on this value too.
    Raises `ValueError` for anything but a whole number from 0.
    """
    text = os.environ.get("MEXUTILS_VICTIM_SEED", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(
            f"MEXUTILS_VICTIM_SEED is {text!r}: give a whole number from 0, "
            "such as 1, or unset it for the embedded victim"
        )
    return int(text)


def embedded() -> Victim:
    """The MNIST victim whose weights travel with the package.

    Raises `RuntimeError` with the remedy where its file is absent or
    damaged.
    """
    path = files("mexutils") / "data" / WEIGHTS
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != CHECKSUM:
        raise RuntimeError(
            f"the victim's weights, {WEIGHTS} in mexutils/data, are "
            f"{'damaged' if content else 'absent'}: install mexutils anew, "
            f"or restore the file with git checkout mexutils/data/{WEIGHTS}"
        )
    return _unpacked(content)


def retrained(seed: int) -> Victim:
    """The MNIST victim, trained from the recipe with that seed.

    The seed draws the first weights, the batches and the distortions.
    Trained on first use (minutes on one core) and kept in the cache.
    """
    return _kept(
        "mnist_lenet",
        seed,
        [datasets.CHECKSUMS[file] for file in TRAINING_FILES],
        lambda: datasets.mnist().train,
    )


def _kept(
    name: str, seed: int, marks, data: Callable[[], datasets.Sample]
) -> Victim:
    """The victim of that name and seed from the cache, trained at first.

    The key is the recipe, the seed and the marks by which the data are
    known; two processes that ask at once train it once.
    """
    key = key_of(_train, seed, marks)
    content = cached(
        f"{name}-{key}.npz", lambda: _train(data(), seed, f"training {name}")
    )
    return _unpacked(content)


def _train(train: datasets.Sample, seed: int, what: str) -> bytes:
    """The packed weights of a LeNet that was fitted to `train`."""
    with torch.random.fork_rng(devices=[]):  # the caller's draws stay his
        torch.manual_seed(seed)
        model = models.lenet()
    training.fit(
        model,
        train.x,
        train.y,
        steps=EPOCHS * len(train.x) // BATCH,
        batch_size=BATCH,
        lr=PEAK_LR,
        weight_decay=WEIGHT_DECAY,
        augment=jitter,
        seed=seed,
        what=what,
    )
    return packed(model)


def packed(model: nn.Module) -> bytes:
    """The weights of a model as the bytes of an .npz file."""
    file, state = io.BytesIO(), model.state_dict()
    np.savez(file, **{name: w.cpu().numpy() for name, w in state.items()})
    return file.getvalue()


def _unpacked(content: bytes) -> Victim:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays}
    model = models.lenet().to(training.DEVICE)
    model.load_state_dict(state)
    model.to(memory_format=torch.channels_last)
    return Victim(model.eval(), (1, 28, 28))


def jitter(images: Tensor, rng: torch.Generator) -> Tensor:
    """Images (n, 1, h, w), each slightly turned, slanted, scaled, shifted.

    Angle to 0.15 rad, slant to 0.1, scale to 10 %, shift to about 5 % of
    the side (1.5 of 28 pixels).
    """

    def uniform(bound: float, *shape: int) -> Tensor:
        draw = torch.rand(len(images), *shape, generator=rng)
        return ((2 * draw - 1) * bound).to(images.device)

    angle, slant = uniform(0.15), uniform(0.1)
    width, height = 1 + uniform(0.1), 1 + uniform(0.1)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack(
        [
            torch.stack([cos * width, (slant * cos - sin) * height], -1),
            torch.stack([sin * width, (slant * sin + cos) * height], -1),
        ],
        -2,
    )
    affine = torch.cat([matrix, uniform(1.5 / 14, 2, 1)], -1)
    where = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, where, align_corners=False)


# --- the public encoder -----------------------------------------------------
# Its functions are its own: every result on the MNIST victim stands on the
# code of those above.


def embedded_letters() -> Victim:
    """The LeNet for 52 letters whose weights travel with the package.

    Raises `RuntimeError` with the remedy where its file is absent or
    damaged.
    """
    found = _file(LETTERS_WEIGHTS, LETTERS_CHECKSUM, "the encoder's weights")
    return _letters_lenet(found)


def _file(name: str, checksum: str, what: str) -> bytes:
    """The bytes of a file of the package, if they are those of the checksum.

    Raises `RuntimeError` with the remedy otherwise.
    """
    path = files("mexutils") / "data" / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != checksum:
        raise RuntimeError(
            f"{what}, {name} in mexutils/data, are "
            f"{'damaged' if content else 'absent'}: install mexutils anew, "
            f"or restore the file with git checkout mexutils/data/{name}"
        )
    return content


def retrained_letters(seed: int) -> Victim:
    """The LeNet for 52 letters, trained from the recipe with that seed.

    The letters are the same for each seed. Trained on first use (a minute on
    one core) and kept in the cache.
    """
    key = key_of(_train_letters, seed)
    content = cached(f"letters_lenet-{key}.npz", lambda: _train_letters(seed))
    return _letters_lenet(content)


def letters_test() -> datasets.Sample:
    """2,000 letters that the encoder was not trained on."""
    return datasets.letters(2000, LETTERS_SEED + 1)


def _train_letters(seed: int) -> bytes:
    """The packed weights of a LeNet that was fitted to letters."""
    x, y = datasets.letters(LETTERS, LETTERS_SEED)
    with torch.random.fork_rng(devices=[]):  # the caller's draws stay his
        torch.manual_seed(seed)
        model = models.lenet(classes=len(datasets.LETTERS))
    training.fit(
        model,
        x,
        y,
        steps=EPOCHS * len(x) // BATCH,
        batch_size=BATCH,
        lr=PEAK_LR,
        weight_decay=WEIGHT_DECAY,
        augment=jitter,
        seed=seed,
        what="training letters_lenet",
    )
    return packed(model)


def _letters_lenet(content: bytes) -> Victim:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays}
    model = models.lenet(classes=len(datasets.LETTERS)).to(training.DEVICE)
    model.load_state_dict(state)
    model.to(memory_format=torch.channels_last)
    return Victim(model.eval(), (1, 28, 28))


# --- the language model ----------------------------------------------------


def reuters_text() -> models.Transformer:
    """A language model of Reuters stories, in float64.

    It tells the 2,000 tokens of `datasets.reuters_tokens` apart, and stands
    on the first 12,000 stories. The embedded one; with
    `MEXUTILS_VICTIM_SEED` one that is retrained with that seed on first use.
    """
    seed = victim_seed()
    return embedded_text() if seed is None else retrained_text(seed)


def embedded_text() -> models.Transformer:
    """The language model whose weights travel with the package.

    Raises `RuntimeError` with the remedy where its file is absent or
    damaged.
    """
    what = "the language model's weights"
    return unpacked_text(_file(TEXT_WEIGHTS, TEXT_CHECKSUM, what))


def retrained_text(seed: int) -> models.Transformer:
    """The language model, trained from the recipe with that seed.

    The seed draws the first weights and the batches. Trained on first use
    (minutes on one core) and kept in the cache.
    """
    mark = datasets.CHECKSUMS["reuters21578.jsonl.gz"]
    key = key_of(_train_text, seed, mark)
    content = cached(f"reuters_text-{key}.npz", lambda: _train_text(seed))
    return unpacked_text(content)


def _train_text(seed: int) -> bytes:
    """The packed weights of a language model of the owner's stories."""
    tokens = datasets.reuters_tokens(counted=TEXT_STORIES)
    with torch.random.fork_rng(devices=[]):  # the caller's draws stay his
        torch.manual_seed(seed)
        model = models.Transformer(len(tokens.words))
    training.fit_text(
        model,
        windows(tokens.texts[:TEXT_STORIES], model.context + 1),
        steps=TEXT_STEPS,
        batch_size=TEXT_BATCH,
        lr=TEXT_PEAK_LR,
        weight_decay=WEIGHT_DECAY,
        seed=seed,
        what="training reuters_text",
    )
    return packed(model.half())


def windows(texts, length: int) -> np.ndarray:
    """The texts, one after the other, cut into rows (n, length) of tokens."""
    stream = np.concatenate(texts)
    return stream[: len(stream) // length * length].reshape(-1, length)


def text_exam(n: int = 1000) -> np.ndarray:
    """Windows (n, 17) of the last stories, which no model was taught."""
    return windows(datasets.reuters_tokens().texts[-3000:], 17)[:n]


def unpacked_text(content: bytes) -> models.Transformer:
    """The language model of packed weights, in float64."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        state = {name: torch.from_numpy(arrays[name]) for name in arrays}
    model = models.Transformer(*state["out.weight"].shape)
    model.load_state_dict(state)
    return model.double().to(training.DEVICE).eval()
