"""The owners' checklist: advice, and the claims of the run that it rests on.

book/checklist.yml lists the advice and the names of the claims. Values,
ranges and whether they hold come from the last run of the chapters; a page
says where the list goes by a line `<!-- checklist -->`. Each value links to
its row of the scoreboard, whose rows get their names here.
"""

import re
from html import escape
from typing import NamedTuple

import yaml
from run_chapters import BOOK
from survey import Run, claims_of_run
from techniques import techniques

from mexutils.claims import Claim, claims_table, range_in_words

LIST = BOOK / "checklist.yml"
MARK = "<!-- checklist -->"
ON_PAPER = """<style>
@media print {
  @page { size: A4; margin: 9mm; }
  article { font-size: 8.5pt; line-height: 1.2; }
  article small { font-size: 7.5pt; }
  article p, article ul { margin: 0 0 2pt; }
  #jb-print-docs-body h1 { font-size: 14pt; margin: 0; }
  #jb-print-toc { display: none !important; }
  article h2 { font-size: 9.5pt; margin: 4pt 0 2pt; }
  article ul.checklist li { margin-bottom: 1.5pt; }
  .prev-next-footer, .bd-footer-content, .bd-header-article,
  .bd-footer-article { display: none !important; }
}
</style>"""
"""One page of paper, whatever the screen shows."""


class Line(NamedTuple):
    """A line of the list: its part, the advice, and (chapter, claim) pairs."""

    part: str
    advice: str
    claims: tuple[tuple[str, str], ...]


def lines() -> list[Line]:
    """All lines, in their order; `ValueError` for one without a claim."""
    found = []
    for part, rows in yaml.safe_load(LIST.read_text()).items():
        for row in rows:
            claims = tuple(
                (chapter, name)
                for chapter, names in row.get("because", {}).items()
                for name in names
            )
            if set(row) != {"do", "because"} or not claims:
                raise ValueError(
                    f"{LIST.name}: {row} needs `do`, and `because` with at "
                    "least one claim"
                )
            found.append(Line(part, row["do"], claims))
    return found


def place_of(chapter: str, name: str) -> str:
    """The anchor of a claim on the scoreboard."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{chapter} {name}".lower())
    return f"claim-{words.strip('-')}"


def with_places(table: str, chapter: str, claims: list[Claim]) -> str:
    """A table of claims as HTML, with an anchor at each of its rows."""
    head, body, rest = re.split(r"(?<=<tbody>)|(?=</tbody>)", table)
    rows = body.split("<tr")[1:]
    if len(rows) != len(claims):  # a name that stands twice is no place
        return table
    named = "".join(
        f'<tr id="{place_of(chapter, claim.name)}"{row}'
        for claim, row in zip(claims, rows, strict=True)
    )
    return f"{head}\n{named}{rest}"


def listed(text: str) -> str:
    """The text of a page with the checklist where it asks for it."""
    if MARK not in text:
        return text
    return text.replace(MARK, checklist(lines(), claims_of_run()))


def checklist(found: list[Line], run: Run) -> str:
    """A heading and a list for each part, and a line that counts."""
    names = {t.chapter: t.name for t in techniques()}
    borne = sum(is_borne_out(line, run) for line in found)
    page = [f"**{len(found)} lines, {borne} borne out by this run.**", ""]
    page += [ON_PAPER, ""]
    for part in dict.fromkeys(line.part for line in found):
        items = [_item(ln, run, names) for ln in found if ln.part == part]
        page += [f"## {part}", "", '<ul class="checklist">', *items]
        page += ["</ul>", ""]
    return "\n".join(page).rstrip()


def is_borne_out(line: Line, run: Run) -> bool:
    """Whether every claim of the line was measured and holds."""
    claims = [run.get(pair) for pair in line.claims]
    return all(c is not None and c.holds and not c.noisy for c in claims)


def _item(line: Line, run: Run, names: dict[str, str]) -> str:
    values = "; ".join(_value(*pair, run, names) for pair in line.claims)
    word = "" if is_borne_out(line, run) else " <b>Open in this run.</b>"
    return (
        f"<li>{escape(line.advice)}{word}<br>"
        f"<small>Measured: {values}.</small></li>"
    )


def _value(chapter: str, name: str, run: Run, names: dict[str, str]) -> str:
    where = escape(names.get(chapter, chapter.capitalize()))
    link = (
        f'{where}, <a href="../scoreboard.html#{place_of(chapter, name)}">'
        f"{escape(name)}</a>"
    )
    claim = run.get((chapter, name))
    if claim is None:
        return f"{where}, {escape(name)}: not in this run"
    value = claims_table([claim]).iloc[0]["this run"]
    accepted = range_in_words(claim.low, claim.high)
    return f"{link}: <b>{value}</b> (accepted {accepted})"
