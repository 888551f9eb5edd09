"""The tables that pages make of book/techniques.yml, the list of techniques.

A page says where a table stands by a line of its own,
`<!-- techniques: map attacks -->` with one of `TABLES` and a part of the
book, and where the minutes of a chapter stand by `<!-- minutes -->`.
"""

import posixpath
import re
from typing import NamedTuple

import yaml
from nbformat import NotebookNode
from run_chapters import BOOK

LIST = BOOK / "techniques.yml"
PARTS = ("attacks", "defenses", "comparison", "frontier", "practice")
HEADINGS = {
    "attacks": ("Attack", "What is taken"),
    "defenses": ("Defense", "What the owner does"),
    "comparison": ("Chapter", "What is compared"),
    "frontier": ("Technique", "What is done"),
    "practice": ("Chapter", "What is shown"),
}
WORDS_A_MINUTE, LINES_A_MINUTE = 200, 15
"""How fast a reader is taken to read prose and code."""


class Technique(NamedTuple):
    """An entry of the list; the head of the file explains the fields."""

    chapter: str
    name: str
    about: str
    arena: tuple[str, ...] = ()
    remark: str = ""

    @property
    def part(self) -> str:
        """The part of the book that it stands in."""
        return self.chapter.partition("/")[0]


def techniques(*parts: str) -> list[Technique]:
    """The entries of these parts, in their order; without a part, all.

    Raises `ValueError` that names the entry which lacks or exceeds the
    fields, or stands twice.
    """
    found = []
    for entry in yaml.safe_load(LIST.read_text()):
        try:
            entry["arena"] = tuple(entry.get("arena", ()))
            found.append(Technique(**entry))
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"{LIST.name}: {entry} is no entry with the fields "
                f"{', '.join(Technique._fields)}"
            ) from error
    names = [technique.chapter for technique in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{LIST.name}: {', '.join(twice)} stands there twice")
    return [t for t in found if not parts or t.part in parts]


def filled(text: str, page: str) -> str:
    """The text of a page with the tables that it asks for.

    page: its path below book/, from which links lead to the chapters. Raises
    `ValueError` for a table or a part that there is not.
    """

    def table(match: re.Match) -> str:
        kind, *parts = match[1].split()
        if kind not in TABLES or not set(parts) <= set(PARTS) or not parts:
            raise ValueError(
                f"{page}: {match[0]} asks for no table that there is; tables: "
                f"{', '.join(TABLES)}; parts: {', '.join(PARTS)}"
            )
        head, *rows = TABLES[kind](techniques(*parts), page)
        return "\n".join(map(_row, [head, ("---",) * len(head), *rows]))

    return re.sub(r"^<!-- techniques: (.*) -->$", table, text, flags=re.M)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _link(technique: Technique, page: str) -> str:
    place = posixpath.relpath(technique.chapter, posixpath.dirname(page))
    return f"[{technique.name}]({place}.ipynb)"


def _map(entries: list[Technique], page: str) -> list[tuple[str, ...]]:
    """What each chapter is about."""
    rows = [(_link(entry, page), entry.about) for entry in entries]
    return [HEADINGS[entries[0].part], *rows]


def _arena(entries: list[Technique], page: str) -> list[tuple[str, ...]]:
    """Under which names a chapter takes part in the arena, or why not."""
    rows = [
        (_link(entry, page), "; ".join(entry.arena) or "–", entry.remark)
        for entry in entries
        if entry.arena or entry.remark
    ]
    return [("Chapter", "In the arena as", "Remark"), *rows]


TABLES = {"map": _map, "arena": _arena}
"""Name to what makes the heads of the columns, and the rows."""


def minutes(notebook: NotebookNode, seconds: float) -> str:
    """A line on how long a chapter takes to read and to run.

    notebook: the chapter, whose prose and visible code are counted. seconds:
    how long its last run took.
    """
    words = lines = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            words += len(cell.source.split())
        elif not any(map(_hides, cell.metadata.get("tags", []))):
            lines += len(cell.source.splitlines())
    read = words / WORDS_A_MINUTE + lines / LINES_A_MINUTE
    ran = round(seconds / 60)
    run = {0: "less than a minute", 1: "a minute"}.get(ran, f"{ran} minutes")
    about = 5 * max(1, round(read / 5))
    return f"About {about} minutes to read; this run took {run}."


def _hides(tag: str) -> bool:
    return tag.startswith(("hide-", "remove-"))
