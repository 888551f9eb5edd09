"""Figures of the built pages that a phone shows large enough to be read.

A figure of the chapters is a picture with text in it, drawn for a page of 700
pixels. On a phone it keeps at least `LEAST` of its own size and scrolls
sideways: book/_static/page.css says so, figures.js lets the keyboard reach
what scrolls. The width and height that a browser needs beforehand, so that
nothing jumps, are written here as well. This is done in the HTML, as the links
to the notation are.
"""

import posixpath
import re
import struct
from pathlib import Path

LEAST = 0.85
"""Of a picture's own size, on a phone; page.css holds the same number."""
POINTS = 7
"""The smallest text in a figure; an exponent of a tick is as small."""
DPI = 110
"""Pixels an inch of the book's figures, as in `mexutils.plotting`."""
SMALLEST = POINTS * DPI / 72
"""The same text in pixels of the picture."""
PIXELS = 9
"""The smallest text that a reader should have to read on a phone."""
_IMAGE = re.compile(
    r'<img (?=[^>]*src="((?:\.\./)*_images/[^"]+\.png)")([^>]*?) ?/?>'
)


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG file, in its own pixels."""
    return struct.unpack(">II", picture.read_bytes()[16:24])


def with_room(html: str, page: str, site: Path) -> str:
    """A page whose pictures are framed by what scrolls.

    page: its path below the site. A page that was done stays as it is.
    """
    if 'class="wide-figure"' in html:
        return html
    folder = posixpath.dirname(page)

    def framed(match: re.Match) -> str:
        place = posixpath.normpath(posixpath.join(folder, match[1]))
        wide, high = size_of(site / place)
        return (
            '<div class="wide-figure" role="group" aria-label="Figure" '
            f'style="--own-width: {wide}px"><img {match[2]} width="{wide}" '
            f'height="{high}"/></div>'
        )

    return _IMAGE.sub(framed, html)


def give_room(site: Path) -> int:
    """Frame the pictures of every page of a built site; how many there are."""
    count = 0
    for path in sorted(site.rglob("*.html")):
        page = path.relative_to(site).as_posix()
        if page.startswith("_"):
            continue
        html = path.read_text(encoding="utf-8")
        framed = with_room(html, page, site)
        if framed != html:
            path.write_text(framed, encoding="utf-8")
            count += framed.count('class="wide-figure"')
    return count
