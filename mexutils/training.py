"""Fit a torch classifier on labels or on probabilities, and ask it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mexutils.models import lenet
from mexutils.notebook import progress

__all__ = ["DEVICE", "fit", "lenet", "predict_proba"]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(
    model: nn.Module,
    x: np.ndarray,
    y: np.ndarray,
    *,
    steps: int = 1500,
    batch_size: int = 64,
    lr: float = 2e-3,
    weight_decay: float = 0.0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    seed: int = 0,
    what: str = "training",
) -> nn.Module:
    """Minimise the cross-entropy of `model` on `(x, y)`, in place.

    AdamW under a one-cycle schedule that peaks at `lr`; the rows are
    shuffled anew in every pass.

    x: (n, ...) rows. y: (n,) class numbers, or (n, c) probabilities, for
    which the loss is the soft cross-entropy
    `-sum_k y_k log softmax(model(x))_k`. augment: maps a batch to a changed
    batch. Returns the model, in evaluation mode.

    Raises `ValueError` where x and y differ in length, are empty, or hold
    values that are not finite.
    """
    inputs, targets = _tensors(x, y)
    model.to(DEVICE).train()
    if inputs.dim() == 4:  # about twice as fast on a CPU
        model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr, weight_decay=weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    rng = torch.Generator().manual_seed(seed)
    order = _batches(len(inputs), batch_size, rng)
    for _ in progress(range(steps), what):
        rows = next(order)
        batch = inputs[rows].to(DEVICE)
        if augment is not None:
            batch = augment(batch, rng)
        loss = nn.functional.cross_entropy(
            model(batch), targets[rows].to(DEVICE)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _tensors(x: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    x, y = np.asarray(x), np.asarray(y)
    if len(x) != len(y) or len(x) == 0:
        raise ValueError(
            f"{len(x)} rows and {len(y)} answers: give one answer to each "
            "row, and at least one row"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            "x or y holds NaN or infinite values: drop those rows"
        )
    targets = torch.as_tensor(y)
    if targets.dim() == 2:
        targets = targets.float()
    elif targets.is_floating_point():
        raise ValueError("one-dimensional y must hold whole class numbers")
    else:
        targets = targets.long()
    inputs = torch.as_tensor(x, dtype=torch.float32)
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return inputs, targets


def _batches(n: int, size: int, rng: torch.Generator):
    """Endless batches of row numbers, every row once before any twice."""
    size = min(size, n)
    rest = torch.empty(0, dtype=torch.long)
    while True:
        while len(rest) < size:
            rest = torch.cat([rest, torch.randperm(n, generator=rng)])
        yield rest[:size]
        rest = rest[size:]


@torch.no_grad()
def predict_proba(
    model: nn.Module, x: np.ndarray, batch_size: int = 500
) -> np.ndarray:
    """The softmax of the model's logits: (n, c) float64 rows that sum to 1."""
    model.eval()
    inputs = torch.as_tensor(np.asarray(x), dtype=torch.float32)
    if not inputs.isfinite().all():
        raise ValueError("x holds NaN or infinite values: drop those rows")
    answers = [
        model(rows.to(DEVICE)).double().softmax(1).cpu()
        for rows in inputs.split(batch_size)
    ]
    return torch.cat(answers).numpy()
