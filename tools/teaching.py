"""What the site has for teachers, students and owners, beside the chapters.

`complete` fills the pages on practice and teaching before Sphinx reads them,
and `link_words` links the words of the notation in what it has built.
"""

import re
from pathlib import Path

from checklist import listed, with_places
from course import taught
from frameworks import mapped
from glossary import link_words
from slides import write_decks
from survey import claims_of_run

__all__ = ["complete", "link_words"]


def complete(source: Path) -> None:
    """Fill the pages in the folder that Sphinx reads, and add the slides."""
    decks = write_decks(source)
    for page in source.rglob("*.md"):
        text = page.read_text()
        filled = taught(mapped(listed(text)), decks)
        if filled != text:
            page.write_text(filled)
    board = source / "scoreboard.md"
    board.write_text(with_anchors(board.read_text()))


def with_anchors(scoreboard: str) -> str:
    """The scoreboard with an anchor at each claim, for links to it."""
    run = claims_of_run()
    parts = re.split(r"^(?=## \[)", scoreboard, flags=re.M)
    for i, part in enumerate(parts):
        match = re.match(r"## \[.*\]\((.+)\.ipynb\)", part)
        if match is None or "<tbody>" not in part:
            continue
        own = [c for (where, _), c in run.items() if where == match[1]]
        parts[i] = with_places(part, match[1], own)
    return "".join(parts)
