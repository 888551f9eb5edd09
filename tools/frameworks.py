"""Where each chapter stands in MITRE ATLAS and in OWASP ML05.

book/frameworks.yml is the list; a page says where the tables go by lines
`<!-- frameworks: chapters -->` and `<!-- frameworks: names -->`.
"""

import posixpath
from html import escape
from typing import NamedTuple

import yaml
from html_tables import SCROLLS
from run_chapters import BOOK, chapters
from techniques import techniques

LIST = BOOK / "frameworks.yml"
ATLAS = "https://atlas.mitre.org"
PAGE = "practice/frameworks"


class Place(NamedTuple):
    """Where one chapter stands, by identifiers of the two frameworks."""

    chapter: str
    does: str
    techniques: tuple[str, ...]
    mitigations: tuple[str, ...]
    prevent: tuple[str, ...] = ()


class Frameworks(NamedTuple):
    """The identifiers with their names, and the places of the chapters."""

    techniques: dict[str, str]
    mitigations: dict[str, str]
    prevent: tuple[str, ...]
    places: list[Place]


def frameworks() -> Frameworks:
    """The list, of the chapters that the book has, in the book's order.

    Raises `ValueError` for an identifier without a name, and for a chapter
    that is missing in the list.
    """
    kept = yaml.safe_load(LIST.read_text())
    order = ["setting", *(t.chapter for t in techniques())]
    missing = sorted({*order, *chapters()} - set(kept["chapters"]))
    if missing:
        raise ValueError(f"{LIST.name}: no line for {', '.join(missing)}")
    places = [_place(c, kept["chapters"][c]) for c in order]
    known = {*kept["techniques"], *kept["mitigations"], *kept["prevent"]}
    for place in places:
        used = {*place.techniques, *place.mitigations, *place.prevent}
        if used - known:
            raise ValueError(
                f"{LIST.name}: {place.chapter} names "
                f"{', '.join(sorted(used - known))}, which no list there has"
            )
    return Frameworks(
        kept["techniques"],
        kept["mitigations"],
        tuple(kept["prevent"]),
        places,
    )


def _place(chapter: str, entry: dict) -> Place:
    try:
        lists = {k: tuple(v) for k, v in entry.items() if k != "does"}
        return Place(chapter, entry["does"], **lists)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{LIST.name}: {chapter}: {error}") from error


def mapped(text: str) -> str:
    """The text of a page with the tables that it asks for."""
    if "<!-- frameworks:" not in text:
        return text
    found = frameworks()
    text = text.replace("<!-- frameworks: chapters -->", by_chapter(found))
    return text.replace("<!-- frameworks: names -->", by_name(found))


def by_chapter(found: Frameworks) -> str:
    """A row for each chapter."""
    names = {t.chapter: t.name for t in techniques()}
    rows = [
        (
            f"{_link(p.chapter, names)}<br><small>{escape(p.does)}</small>",
            "<br>".join(_atlas(i) for i in p.techniques) or "–",
            "<br>".join(_atlas(i) for i in p.mitigations) or "–",
            "<br>".join(map(escape, p.prevent)) or "–",
        )
        for p in found.places
    ]
    heads = ("Chapter", "ATLAS techniques", "ATLAS mitigations", "ML05:2023")
    return _table(heads, rows)


def by_name(found: Frameworks) -> str:
    """A row for each identifier, with its chapters."""
    names = {t.chapter: t.name for t in techniques()}
    lists = (
        (found.techniques, "techniques"),
        (found.mitigations, "mitigations"),
        ({word: "" for word in found.prevent}, "prevent"),
    )
    rows = []
    for known, field in lists:
        for i, name in known.items():
            places = [p for p in found.places if i in getattr(p, field)]
            links = ", ".join(_link(p.chapter, names) for p in places) or "–"
            first = _atlas(i) if name else "ML05:2023"
            rows.append((first, escape(name or i), links))
    return _table(("Identifier", "Name", "Chapters"), rows)


def _link(chapter: str, names: dict[str, str]) -> str:
    name = names.get(chapter, "The setting")
    here = posixpath.relpath(chapter, posixpath.dirname(PAGE))
    return f'<a href="{here}.html">{escape(name)}</a>'


def _atlas(identifier: str) -> str:
    kind = "mitigations" if ".M" in identifier else "techniques"
    return f'<a href="{ATLAS}/{kind}/{identifier}">{identifier}</a>'


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [
        f'{SCROLLS}<table class="dataframe" style="min-width: 40rem">',
        f"<thead><tr>{''.join(f'<th>{h}</th>' for h in heads)}</tr></thead>",
        "<tbody>",
    ]
    for row in rows:
        cells = "".join(
            f'<td style="vertical-align: top">{cell}</td>' for cell in row
        )
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])
