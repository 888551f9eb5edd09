"""The figure and the tables of the page on teaching.

book/course.yml says what to have read before which chapter; the exercises and
their grades are read off the chapters. A page says where they go by lines
`<!-- course: figure -->`, `<!-- course: before -->`,
`<!-- course: exercises -->` and `<!-- course: slides -->`.
"""

import re
import textwrap
from collections import Counter
from html import escape
from typing import NamedTuple

import jupytext
import yaml
from run_chapters import BOOK, chapters
from techniques import PARTS, techniques

LIST = BOOK / "course.yml"
GRADES = ("short", "medium", "long")
"""What an exercise takes: ten minutes, an hour, an afternoon."""
EXERCISE = re.compile(
    r"^:{3,}\{admonition\} (Exercise.*?)(?: \((\w+)\))?$", re.M
)
WIDE, HIGH, ACROSS, DOWN = 118, 40, 24, 10
"""Pixels of a box, and between two boxes."""
TONES = {
    "setting": "#7a7a7a",
    "attacks": "#c1492e",
    "defenses": "#2a78b8",
    "comparison": "#7b5ea7",
    "frontier": "#b07d12",
    "practice": "#3b8a4b",
}
"""The edge of a box says the part of the book, as its words do below."""


class Exercise(NamedTuple):
    """An exercise of a chapter: its title, and its grade or None."""

    chapter: str
    title: str
    grade: str | None


def names() -> dict[str, str]:
    """Chapter to what links to it say, in the order of the book."""
    found = {"setting": "The setting"}
    return found | {t.chapter: t.name for t in techniques()}


def before() -> dict[str, tuple[str, ...]]:
    """Chapter to what to have read just before it.

    Raises `ValueError` for a chapter without an entry, and for a circle.
    """
    kept = yaml.safe_load(LIST.read_text())
    there = names()
    missing = sorted({*there, *chapters()} - set(kept))
    if missing:
        raise ValueError(f"{LIST.name}: no line for {', '.join(missing)}")
    found = {c: tuple(p for p in kept[c] if p in there) for c in there}
    depths(found)
    return found


def depths(found: dict[str, tuple[str, ...]]) -> dict[str, int]:
    """How many chapters, one after the other, come before each."""
    depth: dict[str, int] = {}
    while len(depth) < len(found):
        ready = {
            c: 1 + max((depth[p] for p in found[c]), default=-1)
            for c in found
            if c not in depth and all(p in depth for p in found[c])
        }
        if not ready:
            left = sorted(set(found) - set(depth))
            raise ValueError(
                f"{LIST.name}: {', '.join(left)} wait in a circle"
            )
        depth |= ready
    return depth


def exercises() -> list[Exercise]:
    """All exercises of all chapters, in the order of the book."""
    found = []
    for chapter in names():
        notebook = jupytext.read(BOOK / f"{chapter}.py", fmt="py:percent")
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                found += [
                    Exercise(chapter, title, grade)
                    for title, grade in EXERCISE.findall(cell.source)
                ]
    return [e._replace(grade=e.grade or None) for e in found]


def taught(text: str, decks: dict[str, str]) -> str:
    """The text of a page with the figure and the tables that it asks for.

    decks: chapter to the address of its slides, from that page.
    """
    if "<!-- course:" not in text:
        return text
    parts = {
        "figure": lambda: figure(before()),
        "before": lambda: table_of_before(before()),
        "exercises": table_of_exercises,
        "slides": lambda: table_of_slides(decks),
    }
    return re.sub(
        r"^<!-- course: (\w+) -->$", lambda m: parts[m[1]](), text, flags=re.M
    )


# --- the figure -------------------------------------------------------------


def places(found: dict[str, tuple[str, ...]]) -> dict[str, tuple[int, float]]:
    """Column and row of each chapter; a column right of what it needs."""
    depth, order = depths(found), list(found)
    place: dict[str, tuple[int, float]] = {}
    for column in range(max(depth.values()) + 1):
        here = [c for c in order if depth[c] == column]

        def height(chapter: str) -> tuple[float, int]:
            rows = [place[p][1] for p in found[chapter]] or [0]
            return sum(rows) / len(rows), order.index(chapter)

        for row, chapter in enumerate(sorted(here, key=height)):
            place[chapter] = column, row
    counts = Counter(column for column, _ in place.values())
    most = max(counts.values())
    return {c: (x, y + (most - counts[x]) / 2) for c, (x, y) in place.items()}


def figure(found: dict[str, tuple[str, ...]]) -> str:
    """The chapters as boxes and what leads to what as lines, in SVG."""
    place, named = places(found), names()
    wide = (1 + max(c for c, _ in place.values())) * (WIDE + ACROSS) - ACROSS
    high = (1 + max(r for _, r in place.values())) * (HIGH + DOWN) - DOWN
    lines = [
        '<div class="course" style="overflow-x: auto" tabindex="0" '
        'role="region" aria-label="Figure of the prerequisites">',
        f'<svg viewBox="-2 -2 {wide + 4} {high + 4}" role="group" '
        'xmlns="http://www.w3.org/2000/svg" aria-labelledby="before-title" '
        f'style="min-width: {wide * 4 // 5}px; width: 100%">',
        '<title id="before-title">Boxes for the chapters in columns from left '
        "to right, joined by lines from each chapter to those that build on "
        "it; the table below lists the same in words</title>",
    ]
    for chapter, needed in found.items():
        for one in needed:
            lines.append(_line(place[one], place[chapter]))
    for chapter, at in place.items():
        lines += _box(chapter, named[chapter], at)
    lines += ["</svg>", "</div>"]
    return "\n".join(lines)


def _corner(at: tuple[int, float]) -> tuple[int, int]:
    return at[0] * (WIDE + ACROSS), round(at[1] * (HIGH + DOWN))


def _line(one: tuple[int, float], other: tuple[int, float]) -> str:
    (x, y), (u, v) = _corner(one), _corner(other)
    x, y, v = x + WIDE, y + HIGH // 2, v + HIGH // 2
    bend = ACROSS
    return (
        f'<path d="M{x} {y} C{x + bend} {y} {u - bend} {v} {u} {v}" '
        'fill="none" stroke="currentColor" stroke-opacity="0.45" '
        'stroke-width="1.2"/>'
    )


def _box(chapter: str, name: str, at: tuple[int, float]) -> list[str]:
    x, y = _corner(at)
    part = chapter.partition("/")[0]
    return [
        f'<a href="{chapter}.html">',
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="4" '
        'fill="var(--pst-color-surface, Canvas)" '
        f'stroke="{TONES[part]}" stroke-width="2"/>',
        *_words(name, x + WIDE // 2, y + HIGH // 2),
        "</a>",
    ]


def _words(name: str, x: int, y: int) -> list[str]:
    """The name around a point, in lines that fit a box."""
    lines = textwrap.wrap(name, 17)
    top = y + 4 - 7 * (len(lines) - 1)
    return [
        f'<text x="{x}" y="{top + 14 * i}" text-anchor="middle" '
        f'font-size="12.5" fill="currentColor">{escape(line)}</text>'
        for i, line in enumerate(lines)
    ]


# --- the tables -------------------------------------------------------------


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _link(chapter: str, named: dict[str, str]) -> str:
    return f"[{named[chapter]}]({chapter}.ipynb)"


def table_of_before(found: dict[str, tuple[str, ...]]) -> str:
    """What to have read, chapter by chapter."""
    named = names()
    rows = [_row("Chapter", "Part", "Read before"), _row("---", "---", "---")]
    for chapter, needed in found.items():
        links = ", ".join(_link(c, named) for c in needed) or "–"
        part = chapter.partition("/")[0].capitalize()
        rows.append(_row(_link(chapter, named), part, links))
    return "\n".join(rows)


def table_of_exercises() -> str:
    """How many exercises of each grade a chapter has."""
    named, found = names(), exercises()
    rows = [_row("Chapter", *GRADES), _row("---", *("---:" for _ in GRADES))]
    for chapter in named:
        grades = [e.grade for e in found if e.chapter == chapter]
        counts = [str(grades.count(g) or "–") for g in GRADES]
        rows.append(_row(_link(chapter, named), *counts))
    total = [str(sum(e.grade == g for e in found)) for g in GRADES]
    return "\n".join([*rows, _row("all", *total)])


def table_of_slides(decks: dict[str, str]) -> str:
    """A link to the slides of each chapter, part by part."""
    named, lines = names(), []
    for part in ("setting", *PARTS):
        links = [
            f'<a href="{decks[c]}">{escape(named[c])}</a>'
            for c in named
            if c.partition("/")[0] == part and c in decks
        ]
        if links:
            lines.append(f"- {part.capitalize()}: {', '.join(links)}")
    return "\n".join(lines)
