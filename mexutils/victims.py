"""The victims that several chapters share: two embedded, the others kept.

The MNIST victim and the language model travel with the package, so that every
machine attacks the same models. `MEXUTILS_VICTIM_SEED` puts ones in their
place that are trained anew from the same recipes.
"""

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

from mexutils import datasets, models, training
from mexutils.cache import cached
from mexutils.keys import key_of

__all__ = [
    "Victim",
    "embedded",
    "embedded_text",
    "fashion_lenet",
    "jitter",
    "mnist_lenet",
    "packed",
    "retrained",
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
    path = files("mexutils") / "data" / TEXT_WEIGHTS
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != TEXT_CHECKSUM:
        raise RuntimeError(
            f"the language model's weights, {TEXT_WEIGHTS} in mexutils/data, "
            f"are {'damaged' if content else 'absent'}: install mexutils "
            "anew, or restore the file with "
            f"git checkout mexutils/data/{TEXT_WEIGHTS}"
        )
    return unpacked_text(content)


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
