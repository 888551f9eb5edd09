"""Tables that the keyboard can scroll, and whose heads say something.

A table of results has an empty cell above the names of its rows, and a table
of two columns in markdown may have an empty head. A head without words is read
aloud as nothing: an empty cell becomes an ordinary one, a head of empty cells
goes. This is done in the HTML, whatever has made the table.
"""

import re
from pathlib import Path

SCROLLS = (
    '<div class="scroll" style="overflow-x: auto" tabindex="0" role="group" '
    'aria-label="A table that may be wider than the page">'
)
"""The frame of a wide table, for the keyboard too; a `</div>` ends it."""
_HEAD = re.compile(r"<thead>.*?</thead>\s*", re.S)
_EMPTY = re.compile(r"<th\b([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>")


def with_heads(html: str) -> str:
    """The page without empty heads."""

    def mended(match: re.Match) -> str:
        head = _EMPTY.sub(r"<td\1></td>", match[0])
        return head if "<th " in head or "<th>" in head else ""

    return _HEAD.sub(mended, html)


def mend_heads(site: Path) -> int:
    """Mend the tables of every page of a built site; how many pages."""
    count = 0
    for path in sorted(site.rglob("*.html")):
        if path.relative_to(site).parts[0].startswith("_"):
            continue
        html = path.read_text(encoding="utf-8")
        mended = with_heads(html)
        if mended != html:
            path.write_text(mended, encoding="utf-8")
            count += 1
    return count
