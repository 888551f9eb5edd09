"""The page that holds the survey, sentence by sentence, against the claims.

book/survey.yml lists what the survey says, where, and which claims of the
book bear it out or contradict it. No verdict stands there: each follows from
the claims of the last run. The page says where they go by lines of its own,
`<!-- survey: summary -->` and `<!-- survey: tables -->`.
"""

import re
from html import escape
from typing import NamedTuple

import nbformat
import yaml
from html_tables import SCROLLS
from run_chapters import BOOK, EXECUTED, chapters, claims_of
from techniques import techniques

from mexutils.claims import Claim, claims_table, range_in_words

LIST = BOOK / "survey.yml"
FOR, AGAINST, UNDECIDED = "for it", "against it", "undecided"
"""What a claim says of a sentence."""
HOLDS, PARTLY, REFUTED = "holds", "holds partly", "refuted"
OPEN, NOT_HERE = "open", "not testable here"
VERDICTS = HOLDS, PARTLY, REFUTED, OPEN, NOT_HERE

Run = dict[tuple[str, str], Claim]
"""The claims of a run, by chapter and name."""


class Evidence(NamedTuple):
    """A claim that tests a sentence.

    contradicts: whether the claim speaks against the sentence where it holds.
    low, high: the ends of what the sentence says of the value, where it does.
    """

    chapter: str
    claim: str
    contradicts: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """What the sentence says of the value; None where nothing."""
        if self.low is None and self.high is None:
            return None
        low = float("-inf") if self.low is None else float(self.low)
        return low, float("inf") if self.high is None else float(self.high)


class Sentence(NamedTuple):
    """An entry of the list; the head of the file explains the fields."""

    part: str
    says: str
    place: str
    evidence: tuple[Evidence, ...]
    note: str = ""
    reason: str = ""
    chapter: str = ""


def sentences() -> list[Sentence]:
    """All entries, in their order.

    Raises `ValueError` that names the entry and what is wrong with it.
    """
    parts = yaml.safe_load(LIST.read_text())
    found = [
        _sentence(p, entry) for p, rows in parts.items() for entry in rows
    ]
    said = [sentence.says for sentence in found]
    twice = sorted({words for words in said if said.count(words) > 1})
    if twice:
        raise ValueError(f"{LIST.name}: {'; '.join(twice)} stands there twice")
    return found


def _sentence(part: str, entry: dict) -> Sentence:
    entry = dict(entry)
    try:
        evidence = [
            *_evidence(entry.pop("for", {}), contradicts=False),
            *_evidence(entry.pop("against", {}), contradicts=True),
        ]
        found = Sentence(part, evidence=tuple(evidence), **entry)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{LIST.name}: {entry}: {error}") from error
    fault = _fault(found)
    if fault:
        raise ValueError(f"{LIST.name}: {found.says} {fault}")
    return found


def _evidence(listed: dict, contradicts: bool) -> list[Evidence]:
    rows = [(c, row) for c, names in listed.items() for row in names]
    return [
        Evidence(chapter, contradicts=contradicts, **_row(row))
        for chapter, row in rows
    ]


def _row(row: str | dict) -> dict:
    return {"claim": row} if isinstance(row, str) else row


def _fault(sentence: Sentence) -> str:
    """What is wrong with an entry; empty where nothing is."""
    against = [e for e in sentence.evidence if e.contradicts]
    if bool(sentence.evidence) == bool(sentence.reason):
        return "needs either claims or the reason why there are none"
    if any(e.ends for e in against):
        return "has ends of its own for a claim against it: list it under for"
    if not sentence.note and (
        against or any(e.ends for e in sentence.evidence)
    ):
        return "needs a note on what the claims that may contradict it mean"
    if sentence.chapter and not sentence.reason:
        return "names a chapter beside those of its claims"
    return ""


def claims_of_run() -> Run:
    """The claims of the last run of every chapter that was run."""
    return {
        (chapter, claim.name): claim
        for chapter in chapters()
        if (EXECUTED / f"{chapter}.ipynb").is_file()
        for claim in claims_of(
            nbformat.read(EXECUTED / f"{chapter}.ipynb", as_version=4)
        )
    }


def word_of(evidence: Evidence, run: Run) -> str:
    """What a claim says of its sentence, in this run.

    A claim that is missed, too noisy or absent decides nothing.
    """
    claim = run.get((evidence.chapter, evidence.claim))
    if claim is None or claim.noisy or not claim.holds:
        return UNDECIDED
    if evidence.ends is None:
        return AGAINST if evidence.contradicts else FOR
    low, high = evidence.ends
    return FOR if low <= claim.measured <= high else AGAINST


def verdict(sentence: Sentence, run: Run) -> str:
    """One of `VERDICTS`, from what the claims of the run say."""
    words = {word_of(evidence, run) for evidence in sentence.evidence}
    if not words:
        return NOT_HERE
    if UNDECIDED in words:
        return OPEN
    return {(FOR,): HOLDS, (AGAINST,): REFUTED}.get(tuple(words), PARTLY)


def judged(text: str) -> str:
    """The text of a page with the summary and the tables that it asks for."""
    if "<!-- survey:" not in text:
        return text
    run, found = claims_of_run(), sentences()
    text = text.replace("<!-- survey: summary -->", summary(found, run))
    return text.replace("<!-- survey: tables -->", tables(found, run))


def summary(found: list[Sentence], run: Run) -> str:
    """How many sentences of each part have each verdict."""
    parts = list(dict.fromkeys(sentence.part for sentence in found))
    got = [(sentence.part, verdict(sentence, run)) for sentence in found]
    rows = [
        [part, *(got.count((part, v)) for v in VERDICTS)] for part in parts
    ]
    total = [sum(row[i] for row in rows) for i in range(1, len(VERDICTS) + 1)]
    words = ", ".join(
        f"{name} {count}" for name, count in zip(VERDICTS, total, strict=True)
    )
    heads = ["part of the survey", *VERDICTS]
    table = _table(heads, [map(str, row) for row in [*rows, ["all", *total]]])
    return f"**{len(found)} sentences: {words}.**\n\n{table}"


def tables(found: list[Sentence], run: Run) -> str:
    """A heading and a table for each part of the survey."""
    names = {t.chapter: t.name for t in techniques()}
    page = []
    for part in dict.fromkeys(sentence.part for sentence in found):
        rows = [
            _cells(sentence, run, names)
            for sentence in found
            if sentence.part == part
        ]
        heads = ["the survey says", "verdict", "this run"]
        page += [f"## {part}", "", _table(heads, rows, "34rem"), ""]
    return "\n".join(page).rstrip()


def _cells(
    sentence: Sentence, run: Run, names: dict[str, str]
) -> tuple[str, str, str]:
    says = (
        f"{escape(sentence.says)}<br><small>{escape(sentence.place)}</small>"
    )
    lines, last = [], ""
    for evidence in sentence.evidence:  # in the order that the note counts in
        if evidence.chapter != last:
            lines.append(_link(evidence.chapter, names))
        lines.append(_measured(evidence, run))
        last = evidence.chapter
    if sentence.reason:
        lines.append(escape(sentence.reason))
    if sentence.chapter:
        lines.append(_link(sentence.chapter, names))
    if sentence.note:
        lines.append(f"<em>{escape(sentence.note)}</em>")
    return says, f"<b>{verdict(sentence, run)}</b>", "<br>".join(lines)


def _link(chapter: str, names: dict[str, str]) -> str:
    name = names.get(chapter, chapter.capitalize())
    return f'<a href="{chapter}.html">{escape(name)}</a>'


def _measured(evidence: Evidence, run: Run) -> str:
    """The claim, its value, and what that says of the sentence."""
    claim = run.get((evidence.chapter, evidence.claim))
    name, word = escape(evidence.claim), word_of(evidence, run)
    if claim is None:
        return f"– {name}: not in this run, {word}"
    row = claims_table([claim]).iloc[0]
    said = range_in_words(*(evidence.ends or (claim.low, claim.high)))
    whose = "accepted" if evidence.ends is None else "the sentence"
    why = ""
    if word == UNDECIDED:
        why = "too noisy, " if claim.noisy else "missed, "
        said, whose = range_in_words(claim.low, claim.high), "accepted"
    return f"– {name}: <b>{row['this run']}</b> ({whose} {said}), {why}{word}"


def _table(heads: list[str], rows, least: str = "0") -> str:
    """A table of HTML without blank lines, which scrolls on a phone."""
    lines = [
        f'{SCROLLS}<table class="dataframe" style="min-width: {least}">',
        "<thead><tr>"
        + "".join(f"<th>{h}</th>" for h in heads)
        + "</tr></thead>",
        "<tbody>",
    ]
    for row in rows:
        cells = "".join(
            f'<td style="vertical-align: top">{cell}</td>' for cell in row
        )
        lines.append(f"<tr>{cells}</tr>")
    return re.sub(
        r"\n\s*\n", "\n", "\n".join([*lines, "</tbody></table></div>"])
    )
