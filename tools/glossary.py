"""Links from the pages of a built site to the words of the notation.

The words are those that book/notation.md defines. On each page the first
occurrence of each, in prose, becomes a link to its definition, which also
shows when the pointer rests on it. This is done in the HTML: the notebooks
that the site offers stay as they are.
"""

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from run_chapters import BOOK

PAGE = "notation"
UNLINKED = {
    *("Image", "Bias", "Key", "Answer"),
    "Attribute and functionality extraction",
}
"""Words that prose also uses otherwise, as a verb or of something else."""
ALSO = {
    "Query": ("queries",),
    "Probabilities": ("probability",),
    "Substitute": ("substitute model",),
    "Encoder and head": ("public encoder", "private head"),
    "Ledger and bill": ("ledger",),
    "Fast gradient sign method (FGSM)": ("FGSM", "I-FGSM"),
}
"""Other forms, where the head of the entry is none itself."""
ALONE = {"Encoder and head", "Ledger and bill"}
"""Words whose head is no form that prose uses."""
NEVER_IN = {
    *("a", "code", "pre", "h1", "h2", "h3", "h4", "script", "style", "svg"),
    *("button", "figcaption", "caption", "th", "dt", "nav", "title", "label"),
    *("math", "mjx-container", "table", "aside", "details", "em"),
}
MATHS = {"math", "toctree-wrapper", "admonition-title", "bibtex"}
MATHS |= {"theft", "sd-card"}  # a figure, and cards that are links themselves
"""Classes inside which nothing is linked."""
VOID = {"br", "img", "hr", "input", "meta", "link", "wbr", "source", "col"}
WITHOUT = {PAGE, "genindex", "search", "references", "scoreboard", "stability"}


class Word(NamedTuple):
    """A word of the glossary, its anchor, its meaning, and its forms."""

    name: str
    anchor: str
    meaning: str
    forms: tuple[str, ...]


def words() -> list[Word]:
    """The words that get links, as notation.md defines them."""
    text = (BOOK / f"{PAGE}.md").read_text()
    part = text.partition("\n## Words\n")[2].partition("\n## Symbols\n")[0]
    found = []
    for match in re.finditer(
        r"^(?!#|\s|:)(.+)\n: +(.+(?:\n  .+)*)", part, re.M
    ):
        name, meaning = match[1].strip(), " ".join(match[2].split())
        if name in UNLINKED:
            continue
        forms = () if name in ALONE else (re.sub(r" \(.*\)", "", name),)
        found.append(
            Word(
                name,
                anchor_of(name),
                _plain(meaning),
                (*forms, *ALSO.get(name, ())),
            )
        )
    return found


def anchor_of(name: str) -> str:
    """The place of a word on the page of the notation."""
    return f"word-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"


def _plain(meaning: str) -> str:
    """The meaning without marks, and without what others call the word."""
    own = re.split(r"\*Elsewhere", meaning)[0]
    return re.sub(r"[*$\\]", "", own).strip()


def link_words(site: Path) -> int:
    """Link the words on every page of a built site; how many there are."""
    glossary = site / f"{PAGE}.html"
    found = words()
    text = glossary.read_text(encoding="utf-8")
    glossary.write_text(anchored(text, found), encoding="utf-8")
    count = 0
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).with_suffix("").as_posix()
        if name in WITHOUT or name.startswith("_"):
            continue
        up = "../" * name.count("/")
        text = path.read_text(encoding="utf-8")
        linked, number = with_links(text, found, f"{up}{PAGE}.html")
        path.write_text(linked, encoding="utf-8")
        count += number
    return count


def anchored(html: str, found: list[Word]) -> str:
    """The page of the notation with an anchor at each word.

    Raises `ValueError` for a word that it does not define.
    """
    for word in found:
        head = re.compile(rf"<dt>(?={re.escape(escape(word.name))}</dt>)")
        html, number = head.subn(f'<dt id="{word.anchor}">', html, count=1)
        if not number and f'<dt id="{word.anchor}">' not in html:
            raise ValueError(f"the notation has no entry {word.name!r}")
    return html


def with_links(html: str, found: list[Word], glossary: str) -> tuple[str, int]:
    """A page with its words linked, and how many there are.

    glossary: the address of the notation from that page. A page that has
    links already stays as it is.
    """
    if 'class="glossary"' in html:
        return html, 0
    start = re.search(r"<article[^>]*>", html)
    end = html.rfind("</article>")
    if start is None or end < 0:
        return html, 0
    forms = {form.lower(): w for w in found for form in w.forms}
    # The longest first; in HTML a space may be a line's end.
    choice = "|".join(
        re.escape(form).replace(r"\ ", r"\s+")
        for form in sorted(forms, key=len, reverse=True)
    )
    pattern = re.compile(rf"(?<![\w-])({choice})(e?s)?(?![\w-])", re.I)
    done: set[str] = set()

    def link(match: re.Match) -> str:
        word = forms[" ".join(match[1].lower().split())]
        if word.name in done:
            return match[0]
        done.add(word.name)
        return (
            f'<a class="glossary" href="{glossary}#{word.anchor}" '
            f'title="{escape(word.meaning)}">{match[0]}</a>'
        )

    pieces = re.split(
        r"(<!--.*?-->|<[^>]+>)", html[start.end() : end], flags=re.S
    )
    closed: list[tuple[str, bool]] = []
    for i, piece in enumerate(pieces):
        if i % 2:
            _step(piece, closed)
        elif piece.strip() and not any(barred for _, barred in closed):
            pieces[i] = pattern.sub(link, piece)
    body = "".join(pieces)
    return html[: start.end()] + body + html[end:], len(done)


def _step(tag: str, closed: list[tuple[str, bool]]) -> None:
    """Follow a tag: what is open, and whether links are barred inside."""
    match = re.match(r"<(/?)([a-zA-Z][\w-]*)", tag)
    if match is None:
        return
    name = match[2].lower()
    if match[1]:
        while closed:
            if closed.pop()[0] == name:
                break
    elif name not in VOID and not tag.endswith("/>"):
        classes = re.search(r'class="([^"]*)"', tag)
        inside = set(classes[1].split()) if classes else set()
        closed.append((name, name in NEVER_IN or bool(inside & MATHS)))
