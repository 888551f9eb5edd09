"""Slides for each chapter, from its executed notebook.

A deck is the title with its paragraph, the cell "At a glance" with what it
showed in this run, the chapter's first figure with its caption, and the
recap. It is one HTML file that needs nothing else: arrow keys, space and the
two buttons turn the slides, printing puts one on a page, and without scripts
they stand below each other.
"""

import base64
import re
from functools import cache
from html import escape
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from plain_notebooks import plain
from pybtex.database import Entry, parse_file
from run_chapters import BOOK, EXECUTED, chapters

FOLDER = "_static/slides"
"""Where the decks are, from the root of the site."""
_MARKDOWN = MarkdownIt("commonmark").enable("table")
_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+(?:\n(?!- )[^$\n]+)?)\$", re.S)


def address(chapter: str) -> str:
    """Where the deck of a chapter is, from the root of the site."""
    return f"{FOLDER}/{chapter.replace('/', '-')}.html"


def write_decks(source: Path) -> dict[str, str]:
    """Write the deck of each chapter that was run; chapter to address."""
    found = {}
    for chapter in chapters():
        path = EXECUTED / f"{chapter}.ipynb"
        if not path.is_file():
            continue
        deck = source / address(chapter)
        deck.parent.mkdir(parents=True, exist_ok=True)
        deck.write_text(slides(nbformat.read(path, as_version=4), chapter))
        found[chapter] = address(chapter)
    return found


def slides(notebook: NotebookNode, chapter: str) -> str:
    """The deck of an executed chapter as one HTML page."""
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    parts = [
        opening(notebook),
        glance(notebook),
        figure(notebook),
        recap(notebook),
    ]
    sections = [part for part in parts if part]
    depth = FOLDER.count("/") + 1
    page = f"{'../' * depth}{chapter}.html"
    bodies = "\n".join(
        f'<section aria-label="Slide {i} of {len(sections)}">\n{body}\n'
        "</section>"
        for i, body in enumerate(sections, 1)
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<script>
MathJax = {{tex: {{inlineMath: [["\\\\(", "\\\\)"]]}}}};
document.documentElement.className = "turned";
</script>
<style>{STYLE}</style></head><body>
<main>
{bodies}
</main>
<nav><button id="back" aria-label="Slide before">←</button>
<span id="number" aria-live="polite"></span>
<button id="on" aria-label="Next slide">→</button>
<a href="{page}">the chapter</a></nav>
<script>{SCRIPT}</script>
{MATHJAX if has_math(bodies) else ""}
</body></html>
"""


def has_math(html: str) -> bool:
    """Whether a formula is in it."""
    return "\\(" in html or "\\[" in html


# --- the four slides --------------------------------------------------------


def opening(notebook: NotebookNode) -> str:
    """The title and the paragraph below it."""
    title, paragraph = notebook.cells[0].source.split("\n\n")[:2]
    return f"<h1>{inline(title.removeprefix('# '))}</h1>\n{text(paragraph)}"


def glance(notebook: NotebookNode) -> str:
    """The cells of "At a glance", with what they showed."""
    cells = under(notebook, "At a glance")
    if not cells:
        return ""
    body = ["<h2>At a glance</h2>"]
    for cell in cells:
        if cell.cell_type == "markdown":
            body.append(text(cell.source))
        elif "remove-cell" not in cell.metadata.get("tags", []):
            hides = {"hide-input", "remove-input", "hide-cell"}
            if not hides & set(cell.metadata.get("tags", [])):
                body.append(f"<pre><code>{escape(cell.source)}</code></pre>")
            body += [shown(output, cell) for output in cell.outputs]
    return "\n".join(filter(None, body))


def figure(notebook: NotebookNode) -> str:
    """The first figure of the chapter, with its caption."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            kinds = output.get("data", {})
            if "image/png" in kinds or "image/svg+xml" in kinds:
                words = cell.metadata.get("mystnb", {})
                caption = words.get("figure", {}).get("caption", "")
                return (
                    f"<figure>{picture(output, cell)}\n"
                    f"<figcaption>{inline(caption)}</figcaption></figure>"
                )
    return ""


def recap(notebook: NotebookNode) -> str:
    """The list at the end of the chapter."""
    cells = under(notebook, "Recap")
    words = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    return f"<h2>Recap</h2>\n{text(words)}" if words else ""


def under(notebook: NotebookNode, heading: str) -> list[NotebookNode]:
    """The cells below a heading of the second level, without it."""
    found, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            if inside:
                found.append(cell)
            continue
        for part in re.split(r"^(?=## )", cell.source, flags=re.M):
            title, _, rest = part.partition("\n")
            if title.startswith("## "):
                inside = title.removeprefix("## ").strip() == heading
                part = rest
            if inside and part.strip():
                found.append(nbformat.v4.new_markdown_cell(part.strip()))
    return found


# --- what a slide shows -----------------------------------------------------


def shown(output: NotebookNode, cell: NotebookNode) -> str:
    """An output of a cell as HTML; empty for what is no result."""
    if output.output_type == "stream" and output.name == "stdout":
        return f'<pre class="result">{escape(output.text)}</pre>'
    kinds = output.get("data", {})
    if "image/png" in kinds or "image/svg+xml" in kinds:
        return picture(output, cell)
    if "text/html" in kinds:
        return f'<div class="wide">{kinds["text/html"]}</div>'
    if "text/markdown" in kinds:
        return text(kinds["text/markdown"])
    if "text/plain" in kinds:
        return f'<pre class="result">{escape(kinds["text/plain"])}</pre>'
    return ""


def picture(output: NotebookNode, cell: NotebookNode) -> str:
    """A figure, with the words that the chapter has for it."""
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    kinds = output["data"]
    if "image/png" in kinds:
        kind, data = "image/png", re.sub(r"\s", "", kinds["image/png"])
    else:
        kind = "image/svg+xml"
        data = base64.b64encode(kinds[kind].encode()).decode()
    return f'<img alt="{escape(alt)}" src="data:{kind};base64,{data}">'


def text(markdown: str) -> str:
    """Markdown of a chapter as HTML; links become words."""
    return _rendered(markdown, _MARKDOWN.render)


def inline(markdown: str) -> str:
    """A line of Markdown as HTML without a paragraph around it."""
    return _rendered(markdown, _MARKDOWN.renderInline)


@cache
def works() -> dict[str, Entry]:
    """What the book cites."""
    path = str(BOOK / "references.bib")
    return parse_file(path, bib_format="bibtex").entries


def _rendered(markdown: str, render) -> str:
    words = re.sub(r"<!--.*?-->", "", plain(markdown, works()), flags=re.S)
    words = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", words)
    formulas: list[str] = []

    def keep(match: re.Match) -> str:
        ends = ("\\[", "\\]") if match[1] else ("\\(", "\\)")
        formulas.append(ends[0] + escape(match[1] or match[2]) + ends[1])
        return f"\x02{len(formulas) - 1}\x03"

    html = render(_MATH.sub(keep, words))
    return re.sub(r"\x02(\d+)\x03", lambda m: formulas[int(m[1])], html)


STYLE = """
:root { color-scheme: light dark; --line: #8886; }
* { box-sizing: border-box; }
body { margin: 0; font: 1.25rem/1.5 system-ui, sans-serif; }
section { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1.5rem 4rem;
  min-height: 100vh; overflow-wrap: anywhere; }
.turned section { display: none; }
.turned section.here { display: block; }
h1 { font-size: 2.4rem; line-height: 1.2; margin: 12vh 0 1.5rem; }
h2 { font-size: 1.7rem; margin: 0 0 1rem; }
pre { overflow-x: auto; font-size: 0.95rem; line-height: 1.45;
  padding: 0.7rem 1rem; border: 1px solid var(--line); border-radius: 4px; }
pre.result { border-style: none none none solid; border-width: 4px;
  border-radius: 0; }
code { font-family: ui-monospace, monospace; }
.wide { overflow-x: auto; font-size: 1rem; }
table { border-collapse: collapse; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid var(--line);
  text-align: left; }
figure { margin: 0; text-align: center; }
img { max-width: 100%; max-height: 74vh; background: white; }
figcaption { font-size: 1rem; margin-top: 0.7rem; }
li { margin-bottom: 0.6rem; }
nav { position: fixed; right: 0.8rem; bottom: 0.6rem; font-size: 1rem;
  background: Canvas; padding: 0.2rem 0.5rem; }
nav a { margin-left: 0.8rem; }
nav button { font: inherit; min-width: 2.75rem; min-height: 2.75rem; }
html:not(.turned) nav button { display: none; }
@media (max-width: 600px) {
  body { font-size: 1.05rem; }
  section { padding: 1rem 1rem 4.5rem; }
  h1 { font-size: 1.8rem; margin-top: 4vh; }
}
@media print {
  nav { display: none; }
  .turned section { display: block; break-after: page; }
}
"""

SCRIPT = """
const slides = [...document.querySelectorAll("section")];
let now = 0;
function turn(to, quiet) {
  now = Math.min(Math.max(to, 0), slides.length - 1);
  slides.forEach((s, i) => s.classList.toggle("here", i === now));
  document.getElementById("number").textContent =
    `${now + 1} of ${slides.length}`;
  document.getElementById("back").disabled = now === 0;
  document.getElementById("on").disabled = now === slides.length - 1;
  if (!quiet) { history.replaceState(null, "", "#" + (now + 1)); }
}
document.getElementById("back").onclick = () => turn(now - 1);
document.getElementById("on").onclick = () => turn(now + 1);
addEventListener("keydown", e => {
  if (e.target.closest("button, a") && e.key === " ") return;
  if (["ArrowRight", "PageDown", " "].includes(e.key)) turn(now + 1);
  else if (["ArrowLeft", "PageUp"].includes(e.key)) turn(now - 1);
  else if (e.key === "Home") turn(0);
  else if (e.key === "End") turn(slides.length - 1);
  else return;
  e.preventDefault();
});
turn((parseInt(location.hash.slice(1)) || 1) - 1, true);
"""

MATHJAX = '<script src="../mathjax/tex-chtml.js" async></script>'
