"""One house style for figures and tables.

The colours are those of Okabe and Ito, which colour-blind readers can tell
apart; lines differ by marker as well.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes

from mexutils.notebook import HTML
from mexutils.runs import interval

__all__ = [
    "COLOURS",
    "band",
    "images",
    "interval_plot",
    "table",
    "use_style",
]

COLOURS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "pink": "#CC79A7",
    "amber": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
}
_MARKERS = "osD^vPX"


def use_style() -> None:
    """Make every later figure of this process one of the book's."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.8),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "savefig.dpi": 110,
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.prop_cycle": cycler(color=list(COLOURS.values()))
            + cycler(marker=list(_MARKERS)),
            "lines.markersize": 5,
            "legend.frameon": False,
            "image.cmap": "cividis",
        }
    )


def band(ax: Axes, x, values, label: str, **style) -> None:
    """Draw the mean over seeds with its 95 % interval as a band.

    x: (m,) positions. values: (m, seeds).
    """
    ends = [interval(row) for row in np.asarray(values, float)]
    (line,) = ax.plot(x, [end.mean for end in ends], label=label, **style)
    ax.fill_between(
        x,
        [end.low for end in ends],
        [end.high for end in ends],
        color=line.get_color(),
        alpha=0.18,
        linewidth=0,
    )


def interval_plot(groups: dict, xlabel: str) -> Axes:
    """Every seed as a point, with mean and interval, a line for a group.

    groups: the values over seeds of each named group, drawn from the top.
    """
    _, ax = plt.subplots(figsize=(6.4, 0.6 + 0.45 * len(groups)))
    for place, values in enumerate(groups.values()):
        mean, low, high = interval(values)
        ends = [[mean - low], [high - mean]]
        (dots,) = ax.plot(values, [place] * len(values), "o", alpha=0.4)
        ax.errorbar(
            mean, place, xerr=ends, fmt="D", color=dots.get_color(), capsize=4
        )
    ax.set_yticks(range(len(groups)), groups)
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.set_xlabel(xlabel)
    return ax


def images(x, columns: int = 12, titles=None, size: float = 0.62):
    """Grey images (n, 1, h, w) or (n, h, w) side by side; the figure."""
    x = np.asarray(x)
    x = x.reshape(len(x), *x.shape[-2:])
    rows = -(-len(x) // columns)
    high = size * (1.35 if titles is not None else 1.0)
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * size, rows * high), squeeze=False
    )
    for ax in axes.flat:
        ax.axis("off")
    for i, (ax, image) in enumerate(zip(axes.flat, x, strict=False)):
        ax.imshow(image, cmap="gray", vmin=0, vmax=1)
        if titles is not None:
            ax.set_title(titles[i], fontsize=8)
    return figure


def table(rows, formats=None, columns=None) -> HTML:
    """A table to look at.

    rows: a DataFrame, a list of dictionaries, or a list of tuples with their
        `columns`.
    formats: a format for a column, as `{"cost ($)": "{:.2f}"}`.
    """
    frame = pd.DataFrame(rows, columns=columns)
    formatters = {
        column: form.format for column, form in (formats or {}).items()
    }
    return HTML(
        frame.to_html(
            index=frame.index.name is not None,
            border=0,
            formatters=formatters,
            index_names=False,
            na_rep="–",
        )
    )
