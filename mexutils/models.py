"""Networks that several chapters train."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Transformer", "lenet"]


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


class Transformer(nn.Module):
    """A language model of one block: what may follow each prefix of a text.

    size: number of tokens that there are. width: d, the numbers that stand
    for a prefix; a multiple of `heads`. context: the longest prefix that it
    reads. norm: `"layer"` or `"rms"`, of the block and before the last layer.

    `model(tokens)` reads token numbers (n, t), t up to `context`, and answers
    logits (n, t, size): place i is what follows the tokens 0 to i.
    """

    def __init__(
        self,
        size: int,
        width: int = 64,
        context: int = 16,
        heads: int = 4,
        norm: str = "layer",
    ):
        super().__init__()
        normed = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}[norm]
        self.size, self.context, self.heads = size, context, heads
        self.words = nn.Embedding(size, width)
        self.places = nn.Parameter(0.02 * torch.randn(context, width))
        self.attention_norm, self.block_norm = normed(width), normed(width)
        self.asks, self.mixes = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.block = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )
        self.last_norm = normed(width)
        self.out = nn.Linear(width, size, bias=False)

    def states(self, tokens: Tensor) -> Tensor:
        """What the last layer reads, (n, t, width)."""
        n, t = tokens.shape
        h = self.words(tokens) + self.places[:t]
        parts = self.asks(self.attention_norm(h)).view(n, t, 3, self.heads, -1)
        seen = F.scaled_dot_product_attention(
            *parts.permute(2, 0, 3, 1, 4), is_causal=True
        )
        h = h + self.mixes(seen.transpose(1, 2).reshape(n, t, -1))
        return self.last_norm(h + self.block(self.block_norm(h)))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.states(tokens))
