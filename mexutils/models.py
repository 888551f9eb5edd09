"""Networks that several chapters train."""

from torch import nn

__all__ = ["lenet"]


def lenet(
    width: int = 16,
    hidden: int = 128,
    classes: int = 10,
    normalise: bool = False,
) -> nn.Sequential:
    """LeNet: two 5 x 5 convolutions with pooling, then two dense layers.

    Reads (n, 1, 28, 28), answers (n, classes) logits. `width` is the number
    of channels of the first convolution; the second has twice as many.
    normalise: batch normalisation after each pooling, with which a network
    learns in about half the steps (the chapters' substitutes have it, the
    shared victim does not).
    """
    norm = nn.BatchNorm2d if normalise else nn.Identity
    return nn.Sequential(
        *(nn.Conv2d(1, width, 5), nn.MaxPool2d(2)),
        *(norm(width), nn.ReLU()),
        *(nn.Conv2d(width, 2 * width, 5), nn.MaxPool2d(2)),
        *(norm(2 * width), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2 * width * 16, hidden), nn.ReLU()),
        nn.Linear(hidden, classes),
    )
