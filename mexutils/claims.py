"""What a chapter claims: measured, held against a range, and recorded."""

import math
from dataclasses import dataclass
from html import escape

import pandas as pd

from mexutils.notebook import display

__all__ = [
    "MIME",
    "TOO_NOISY",
    "Claim",
    "Claims",
    "claims_html",
    "claims_table",
    "range_in_words",
]

MIME = "application/vnd.mexutils.claims+json"
"""The output type under which an executed notebook keeps its claims."""

TOO_NOISY = "too noisy here"
_MISSED = "background-color: rgba(210, 40, 40, 0.25)"  # on light and on dark


@dataclass(frozen=True)
class Claim:
    """One measured value, the range that it must lie in, the paper's value.

    paper: the published value in words, only where it was read in a source.
    noisy: the chapter found the machine too busy to measure this value.
    """

    name: str
    measured: float
    low: float
    high: float
    paper: str = ""
    noisy: bool = False

    @property
    def holds(self) -> bool:
        """Whether the value lies in the range; NaN never does."""
        return self.low <= self.measured <= self.high

    @property
    def missed(self) -> bool:
        """Whether the value was measured, and lies outside the range."""
        return not (self.holds or self.noisy)

    @property
    def verdict(self) -> str:
        """`"yes"`, `"NO"`, or that the machine was too busy to tell."""
        if self.noisy:
            return TOO_NOISY
        return "yes" if self.holds else "NO"

    @property
    def fault(self) -> str:
        """What was measured, and the range that it is not in."""
        accepted = range_in_words(self.low, self.high)
        return f"{self.name}: {self.measured:.6g} is not in {accepted}"

    def to_json(self) -> dict[str, str]:
        """All fields as text, since JSON knows no infinity and no NaN."""
        return {name: str(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, kept: dict[str, str]) -> "Claim":
        """The claim that `to_json` wrote."""
        numbers = {
            key: float(kept[key]) for key in ("measured", "low", "high")
        }
        noisy = kept["noisy"] == "True"
        return cls(kept["name"], paper=kept["paper"], noisy=noisy, **numbers)


class Claims:
    """The claims of one chapter, in the order in which they are made."""

    def __init__(self):
        self._claims: list[Claim] = []

    def add(
        self,
        name: str,
        measured: float,
        *,
        low: float = -math.inf,
        high: float = math.inf,
        paper: str = "",
        noisy: bool = False,
    ) -> None:
        """State that `measured` lies in [low, high].

        noisy: true where the chapter has itself found that this machine is
            too busy to measure a time; the claim is then neither held nor
            missed.

        Raises `ValueError` where the range is open on both sides or empty,
        or the name is taken: such a claim could not fail.
        """
        if not (math.isfinite(low) or math.isfinite(high)) or not low <= high:
            raise ValueError(
                f"claim {name!r} accepts [{low}, {high}]: give a low or a "
                "high end that a broken technique would miss"
            )
        if any(claim.name == name for claim in self._claims):
            raise ValueError(f"claim {name!r} is stated twice")
        numbers = map(float, (measured, low, high))
        self._claims.append(Claim(name, *numbers, paper, bool(noisy)))

    @property
    def missed(self) -> list[Claim]:
        """The claims that were measured and do not hold."""
        return [claim for claim in self._claims if claim.missed]

    def check(self) -> None:
        """Show all claims as a table, the missed ones in colour and in words.

        A missed claim is a result like any other: the chapter goes on, the
        site shows it, and the book's tests fail and name it. A script that
        wants to stop looks at `missed`.

        Raises `ValueError` where nothing is claimed.
        """
        if not self._claims:
            raise ValueError("the chapter claims nothing: add a claim first")
        display(
            {
                "text/plain": claims_table(self._claims).to_string(
                    index=False
                ),
                "text/html": claims_html(self._claims),
                MIME: [claim.to_json() for claim in self._claims],
            },
            raw=True,
        )
        if self.missed:
            faults = "; ".join(claim.fault for claim in self.missed)
            print(
                f"{len(self.missed)} of {len(self._claims)} claims are "
                f"missed in this run: {faults}"
            )


def claims_table(claims: list[Claim]) -> pd.DataFrame:
    """The claims as the chapters and the scoreboard print them."""
    rows = [
        (
            claim.name,
            claim.paper or "–",
            _number(claim.measured),
            range_in_words(claim.low, claim.high),
            claim.verdict,
        )
        for claim in claims
    ]
    columns = ["claim", "paper", "this run", "accepted", "holds"]
    return pd.DataFrame(rows, columns=columns)


def claims_html(claims: list[Claim]) -> str:
    """The same table for a page, the rows of missed claims in red."""
    table = claims_table(claims)
    lines = ['<table class="dataframe">', "<thead><tr>"]
    lines += [f"<th>{name}</th>" for name in table.columns]
    lines += ["</tr></thead>", "<tbody>"]
    for claim, row in zip(claims, table.itertuples(index=False), strict=True):
        style = f' class="missed" style="{_MISSED}"' if claim.missed else ""
        cells = "".join(f"<td>{escape(text)}</td>" for text in row)
        lines.append(f"<tr{style}>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _number(value: float) -> str:
    if value == int(value) if math.isfinite(value) else False:
        return f"{int(value):,}"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:,.4g}"


def range_in_words(low: float, high: float) -> str:
    """The range of a claim as the tables print it: `≥ 0.95`, `3 to 8`."""
    if low == high:
        return f"= {_number(low)}"
    if math.isinf(low):
        return f"≤ {_number(high)}"
    if math.isinf(high):
        return f"≥ {_number(low)}"
    return f"{_number(low)} to {_number(high)}"
