"""What a chapter claims: measured, held against a range, and recorded."""

import math
from dataclasses import dataclass

import pandas as pd

from mexutils.notebook import display

__all__ = ["MIME", "Claim", "Claims", "claims_table"]

MIME = "application/vnd.mexutils.claims+json"
"""The output type under which an executed notebook keeps its claims."""


@dataclass(frozen=True)
class Claim:
    """One measured value, the range that it must lie in, the paper's value.

    paper: the published value in words, only where it was read in a source.
    """

    name: str
    measured: float
    low: float
    high: float
    paper: str = ""

    @property
    def holds(self) -> bool:
        """Whether the value lies in the range; NaN never does."""
        return self.low <= self.measured <= self.high

    def to_json(self) -> dict[str, str]:
        """All fields as text, since JSON knows no infinity and no NaN."""
        return {name: str(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, kept: dict[str, str]) -> "Claim":
        """The claim that `to_json` wrote."""
        numbers = {
            key: float(kept[key]) for key in ("measured", "low", "high")
        }
        return cls(kept["name"], paper=kept["paper"], **numbers)


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
    ) -> None:
        """State that `measured` lies in [low, high].

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
        self._claims.append(
            Claim(name, float(measured), float(low), float(high), paper)
        )

    def check(self) -> None:
        """Show all claims as a table; fail if one is out of its range.

        Raises `AssertionError` that names every claim that does not hold,
        after the table is shown, and `ValueError` where nothing is claimed.
        """
        if not self._claims:
            raise ValueError("the chapter claims nothing: add a claim first")
        table = claims_table(self._claims)
        display(
            {
                "text/plain": table.to_string(index=False),
                "text/html": table.to_html(index=False, border=0),
                MIME: [claim.to_json() for claim in self._claims],
            },
            raw=True,
        )
        broken = [claim for claim in self._claims if not claim.holds]
        if broken:
            raise AssertionError(
                "; ".join(
                    f"{claim.name}: {claim.measured:.6g} is not in "
                    f"{_range(claim)}"
                    for claim in broken
                )
            )


def claims_table(claims: list[Claim]) -> pd.DataFrame:
    """The claims as the chapters and the scoreboard print them."""
    rows = [
        (
            claim.name,
            claim.paper or "–",
            _number(claim.measured),
            _range(claim),
            "yes" if claim.holds else "NO",
        )
        for claim in claims
    ]
    columns = ["claim", "paper", "this run", "accepted", "holds"]
    return pd.DataFrame(rows, columns=columns)


def _number(value: float) -> str:
    if value == int(value) if math.isfinite(value) else False:
        return f"{int(value):,}"
    return f"{value:.2e}" if abs(value) < 1e-3 else f"{value:,.4g}"


def _range(claim: Claim) -> str:
    low, high = _number(claim.low), _number(claim.high)
    if claim.low == claim.high:
        return f"= {low}"
    if math.isinf(claim.low):
        return f"≤ {high}"
    if math.isinf(claim.high):
        return f"≥ {low}"
    return f"{low} to {high}"
