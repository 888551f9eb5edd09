"""The first screen of the site: the theft in one figure, and where to begin.

The figure is drawn here from what the last run measured, and from the very
letters that it sent and what the victim answers to them; where its chapter
broke off before its claims, there is no figure. A page says where the pieces
go by lines `<!-- landing: theft -->`, `<!-- landing: begin -->` and
`<!-- landing: count PART -->`.
"""

import base64
import io
import re
from functools import cache
from html import escape

import nbformat
import numpy as np
from checkout import Address
from PIL import Image
from run_chapters import EXECUTED, chapters
from survey import Run, claims_of_run

from mexutils import datasets, victims

CHAPTER = "attacks/knockoff_nets"
CLAIM = re.compile(r"relative accuracy, ([\d,]+) letters, (.+)")
"""How the chapter names what its copies reach: queries, and what is sold."""
FIRST = "setting"
"""The chapter that the button for Colab opens."""
SENT, ANSWERED = 24, 4
"""Letters that the figure shows, and how many of them with their answers."""


def landed(text: str, address: Address | None) -> str:
    """The text of a page with the pieces that it asks for.

    Raises `ValueError` for a piece that there is not.
    """

    if "<!-- landing:" not in text:
        return text
    run = claims_of_run()

    def piece(match: re.Match) -> str:
        name, _, part = match[1].partition(" ")
        if name == "theft":
            return theft(run)
        if name == "begin":
            return begin(address)
        if name == "count" and part:
            return count(part, run)
        raise ValueError(
            f"{match[0]} asks for no piece that there is; there are theft, "
            "begin, count PART"
        )

    return re.sub(r"^<!-- landing: (.*) -->$", piece, text, flags=re.M)


# --- the figure -------------------------------------------------------------


def theft(run: Run) -> str:
    """The theft in three boxes: what is sent, what is sold, what is had.

    run: the claims of the last run. Empty where the copies were not judged.
    """
    copies = {
        match[2]: (match[1], claim.measured)
        for (chapter, name), claim in run.items()
        if chapter == CHAPTER and (match := CLAIM.fullmatch(name))
    }
    if not copies:
        return ""
    queries = next(iter(copies.values()))[0]
    cost = int(queries.replace(",", "")) * _price() / 1000
    sent, answers = _letters()
    rows = "".join(
        f"<tr><td>{_picture(image, 'a letter')}</td>"
        f"<td>{row.argmax()}</td><td>{_percent(row.max(), 0)}</td></tr>"
        for image, row in zip(sent, answers[:ANSWERED], strict=False)
    )
    bars = _bar("the victim", 1.0, 0) + "".join(
        _bar(f"a copy, from {_sold(sold)}", value, 1)
        for sold, (_, value) in copies.items()
    )
    sheet = np.vstack([np.hstack(row) for row in sent.reshape(4, -1, 28, 28)])
    words = f"{SENT} of the letters, white on black, turned and bent"
    return f"""<figure class="theft">
<div class="steps">
<div><p class="step">1. The thief sends letters</p>
{_picture(sheet, words)}
<p>{queries} drawn letters, and not one digit.</p></div>
<div><p class="step">2. The owner sells answers</p>
<table><thead><tr><th scope="col">sent</th><th scope="col">digit</th>
<th scope="col">probability</th></tr></thead><tbody>{rows}</tbody></table>
<p>The bill for all: {cost:,.2f} dollars.</p></div>
<div><p class="step">3. The copy reads digits</p>
<ul>{bars}</ul>
<p>Accuracy on test digits, as a share of the victim's.</p></div>
</div>
<figcaption>A theft of this run, from the chapter
<a href="{CHAPTER}.html">KnockoffNets</a>: the victim is a network that reads
handwritten digits, the copy has learned from its answers alone.</figcaption>
</figure>"""


def _price() -> float:
    """Dollars for 1,000 queries in the last run of the chapter."""
    notebook = nbformat.read(EXECUTED / f"{CHAPTER}.ipynb", as_version=4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    return float(re.search(r"^price_per_1000 = ([\d.]+)", code, re.M)[1])


@cache
def _letters() -> tuple[np.ndarray, np.ndarray]:
    """The first letters that the chapter sends, and the victim's answers."""
    sent = datasets.letters(SENT).x
    return sent[:, 0], victims.mnist_lenet().predict_proba(sent)


def _picture(image: np.ndarray, words: str) -> str:
    """A grey picture with values in [0, 1], as an element of the page."""
    held = io.BytesIO()
    grey = (255 * np.clip(image, 0, 1)).round().astype(np.uint8)
    Image.fromarray(grey).save(held, "PNG", optimize=True)
    data = base64.b64encode(held.getvalue()).decode()
    high, wide = image.shape
    return (
        f'<img src="data:image/png;base64,{data}" alt="{escape(words)}" '
        f'width="{wide}" height="{high}"/>'
    )


def _percent(share: float, decimals: int) -> str:
    return f"{100 * share:.{decimals}f} %"


def _sold(what: str) -> str:
    """What the API returned, as a reader who starts here would say it."""
    return {"label": "labels alone"}.get(what, what)


def _bar(name: str, share: float, decimals: int) -> str:
    """A line of the list with a bar below it."""
    wide = 100 * min(1.0, max(0.0, share))
    return (
        f"<li>{escape(name)} <b>{_percent(share, decimals)}</b>"
        f'<span class="bar"><span style="width: {wide:.1f}%"></span></span>'
        "</li>"
    )


# --- where to begin ---------------------------------------------------------


def begin(address: Address | None) -> str:
    """Buttons: read, run in Colab where its address is known, audit."""
    buttons = [
        _button("button-ref", FIRST, "Start reading", "primary"),
        _button("button-ref", "practice/audit", "Audit your own model"),
    ]
    if address:
        place = f"blob/gh-pages/_sources/{FIRST}.ipynb"
        url = f"https://colab.research.google.com/github/{address.repository}"
        button = _button("button-link", f"{url}/{place}", "Run it in Colab")
        buttons.insert(1, button)
    return "\n".join([":::::{div} begin", *buttons, ":::::"])


def _button(kind: str, target: str, words: str, colour: str = "") -> str:
    options = [":ref-type: doc"] * (kind == "button-ref")
    options += [f":color: {colour}"] if colour else [":color: primary"]
    options += [] if colour else [":outline:"]
    lines = [f"::::{{{kind}}} {target}", *options, "", words, "::::"]
    return "\n".join(lines)


def count(part: str, run: Run) -> str:
    """How many chapters a part of the book has, and claims of this run.

    part: its folder below book/, or the name of a chapter outside of one.
    """
    found = [c for c in chapters() if c.partition("/")[0] == part]
    if not found:
        raise ValueError(f"the book has no part {part!r}")
    claims = sum(chapter in found for chapter, _ in run)
    many = "1 chapter" if len(found) == 1 else f"{len(found)} chapters"
    return f'<p class="count">{many}, {claims} claims</p>'
