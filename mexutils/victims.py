"""The victims that several chapters share: trained once, kept in the cache."""

import hashlib
import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mexutils import datasets, training
from mexutils.cache import cached

__all__ = ["Victim", "fashion_lenet", "jitter", "mnist_lenet"]

EPOCHS, BATCH, PEAK_LR, WEIGHT_DECAY = 15, 128, 5e-3, 0.01
"""How the victims of this module are trained."""


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

    Trained on first use (minutes on one core) and kept in the cache under a
    key of its recipe; two processes that ask at once train it once.
    """
    return _kept("mnist_lenet", lambda: datasets.mnist().train)


def fashion_lenet() -> Victim:
    """The same network and training on Fashion-MNIST's 60,000 pictures.

    Raises `FileNotFoundError` that says how to get them where they are
    absent.
    """
    return _kept("fashion_lenet", lambda: datasets.fashion_mnist(train=True))


def _kept(name: str, data: Callable[[], datasets.Sample]) -> Victim:
    """The LeNet of that name from the cache, trained on `data()` at first."""
    model = training.lenet().to(training.DEVICE)
    content = cached(f"{name}-{_recipe()}.pt", lambda: _train(name, data()))
    state = torch.load(
        io.BytesIO(content), map_location=training.DEVICE, weights_only=True
    )
    model.load_state_dict(state)
    model.to(memory_format=torch.channels_last)
    return Victim(model.eval(), (1, 28, 28))


def _train(name: str, train: datasets.Sample) -> bytes:
    torch.manual_seed(0)
    model = training.fit(
        training.lenet(),
        train.x,
        train.y,
        steps=EPOCHS * len(train.x) // BATCH,
        batch_size=BATCH,
        lr=PEAK_LR,
        weight_decay=WEIGHT_DECAY,
        augment=jitter,
        what=f"training {name}",
    )
    file = io.BytesIO()
    torch.save({k: v.cpu() for k, v in model.state_dict().items()}, file)
    return file.getvalue()


def _recipe() -> str:
    """A key that changes with the way in which the victim is trained."""
    settings = (EPOCHS, BATCH, PEAK_LR, WEIGHT_DECAY)
    parts = (training.lenet, training.fit, jitter, _train)
    text = repr(settings) + "".join(map(inspect.getsource, parts))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


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
