"""Fit a torch classifier on labels or on probabilities, and ask it.

Rows reach a network as float32 numbers. Where its first layer is an embedding
(the first of its modules without children is an `nn.Embedding` or an
`nn.EmbeddingBag`) they reach it as whole numbers of type long, in training
and in prediction alike, since an embedding looks up the rows of a table.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mexutils import checks
from mexutils.models import lenet
from mexutils.notebook import progress

__all__ = ["DEVICE", "fit", "fit_text", "lenet", "predict_proba"]

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

    x: (n, ...) rows; whole numbers where the first layer of the model is an
    embedding. y: (n,) class numbers, or (n, c) probabilities, for which the
    loss is the soft cross-entropy `-sum_k y_k log softmax(model(x))_k`.
    augment: maps a batch to a changed batch. Neither x nor y is changed.
    Returns the model, in evaluation mode.

    Raises `ValueError`, before the model is touched, where x and y differ in
    length, are empty, hold values that are not finite, where an embedding
    would meet numbers that are not whole, and for other numbers of steps or
    rows than whole ones above 0.
    """
    steps = checks.whole("steps", steps, 1)
    batch_size = checks.whole("batch_size", batch_size, 1)
    inputs, targets = _tensors(model, x, y)
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


def fit_text(
    model: nn.Module,
    windows: np.ndarray,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    steps: int = 1000,
    batch_size: int = 64,
    lr: float = 3e-3,
    weight_decay: float = 0.01,
    seed: int = 0,
    what: str = "training",
) -> nn.Module:
    """Teach a language model windows of text, in place.

    The optimiser, the schedule and the batches are those of `fit`.

    model: token numbers (b, t) to logits (b, t, size). windows: (n, t + 1)
    token numbers, of which the model reads the first t and is held against
    the last t. loss: maps logits (b, t, size) and the numbers (b,) of their
    windows to what is to be made small; by default the mean cross-entropy.
    Returns the model, in evaluation mode.

    Raises `ValueError`, before the model is touched, for windows that are
    not such rows.
    """
    steps = checks.whole("steps", steps, 1)
    batch_size = checks.whole("batch_size", batch_size, 1)
    windows = np.asarray(windows)
    if windows.ndim != 2 or not len(windows) or windows.shape[1] < 2:
        raise ValueError(
            "windows must be rows (n, t + 1) of two token numbers or more, "
            f"at least one, not an array of shape {windows.shape}"
        )
    inputs = _inputs(model, windows)

    def plain(logits: Tensor, rows: Tensor) -> Tensor:
        target = inputs[rows, 1:].to(DEVICE)
        return nn.functional.cross_entropy(
            logits.flatten(0, 1), target.flatten()
        )

    model.to(DEVICE).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr, weight_decay=weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    order = _batches(
        len(inputs), batch_size, torch.Generator().manual_seed(seed)
    )
    for _ in progress(range(steps), what):
        rows = next(order)
        logits = model(inputs[rows, :-1].to(DEVICE))
        value = (loss or plain)(logits, rows)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _tensors(model: nn.Module, x, y) -> tuple[Tensor, Tensor]:
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
    targets = _tensor(y)
    if targets.dim() == 2:
        targets = targets.float()
    elif targets.is_floating_point():
        raise ValueError("one-dimensional y must hold whole class numbers")
    else:
        targets = targets.long()
    inputs = _inputs(model, x)
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return inputs, targets


def _inputs(model: nn.Module, x) -> Tensor:
    """The rows x in the type that the model's first layer reads."""
    first = next(m for m in model.modules() if not list(m.children()))
    if not isinstance(first, (nn.Embedding, nn.EmbeddingBag)):
        return _tensor(x, dtype=torch.float32)
    x = np.asarray(x)
    broken = np.flatnonzero((x % 1 != 0).any(axis=tuple(range(1, x.ndim))))
    if len(broken):
        raise ValueError(
            "the model's first layer is an embedding, which reads whole "
            f"numbers, and {len(broken)} rows of x hold others, the first of "
            f"them row {broken[0]}: pass token numbers 0, 1, 2, ..., or a "
            "model that begins with another layer"
        )
    return _tensor(x, dtype=torch.long)


def _tensor(values, dtype: torch.dtype | None = None) -> Tensor:
    """The values as a tensor; of a read-only array a copy is made."""
    values = np.require(values, requirements="W")
    return torch.as_tensor(values, dtype=dtype)


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
    """The softmax of the model's logits: (n, c) float64 rows that sum to 1.

    x: (n, ...) rows, as `fit` takes them. Raises `ValueError` where they hold
    values that are not finite, or where an embedding would meet numbers that
    are not whole.
    """
    model.eval()
    inputs = _inputs(model, x)
    if not inputs.isfinite().all():
        raise ValueError("x holds NaN or infinite values: drop those rows")
    answers = [
        model(rows.to(DEVICE)).double().softmax(1).cpu()
        for rows in inputs.split(batch_size)
    ]
    return torch.cat(answers).numpy()
