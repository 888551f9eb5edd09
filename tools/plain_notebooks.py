"""Rewrite a built site's notebooks so that Colab and Jupyter can show them.

The site understands MyST markdown and its tags; Colab does not. Callouts
become quotations, citations become links, captions become text, code that the
site folds away is folded away, and what papermill noted about the machine
goes.

usage: plain_notebooks.py SITE_SOURCES BIBLIOGRAPHY
"""

import re
import sys
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from pybtex.database import Entry, parse_file

CALLOUT = re.compile(
    r"^:{3,}\{(?P<kind>\w+)\}[ \t]*(?P<title>[^\n]*)\n"
    r"(?::[\w-]+:[^\n]*\n)*"  # options
    r"(?P<body>.*?)^:{3,}[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
LIST_TABLE = re.compile(
    r"^:{3,}\{list-table\}[^\n]*\n(?::[\w-]+:[^\n]*\n)*"
    r"(?P<body>.*?)^:{3,}[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
CITATION = re.compile(r"\{cite:([pt])\}`([^`]+)`")
MACHINE = re.compile(r"(/[\w.+-]+)+/(?=(book|mexutils|site-packages)/)")


def quotation(match: re.Match[str]) -> str:
    """A callout as a block quotation with its title in bold."""
    title = match["title"] or match["kind"].capitalize()
    lines = [f"**{title}**", "", *match["body"].strip().splitlines()]
    return "\n".join(f"> {line}".rstrip() for line in lines)


def piped(match: re.Match[str]) -> str:
    """A table of nested lists as a table of pipes; its first row is named."""
    rows = re.split(r"^\* - ", match["body"], flags=re.MULTILINE)[1:]
    table = [re.split(r"\n  - ", row.strip()) for row in rows]
    table.insert(1, ["---"] * len(table[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def reference(entry: Entry) -> tuple[str, str, str]:
    """Who wrote it, when, and where it is; an empty address if unknown."""
    names = [
        " ".join(map(str, author.rich_prelast_names + author.rich_last_names))
        for author in entry.persons["author"]
    ]
    if names[-1] == "others" or len(names) > 2:
        who = f"{names[0]} et al."
    else:
        who = " and ".join(names)
    doi = entry.fields.get("doi")
    where = f"https://doi.org/{doi}" if doi else entry.fields.get("url", "")
    return who, entry.fields["year"], where


def linked(words: str, url: str) -> str:
    """The words, as a link where there is an address."""
    return f"[{words}]({url})" if url else words


def plain(text: str, entries: dict[str, Entry]) -> str:
    """Markdown that needs no MyST."""

    def citation(match: re.Match[str]) -> str:
        form, keys = match.groups()
        works = [reference(entries[key.strip()]) for key in keys.split(",")]
        if form == "t":
            return ", ".join(linked(f"{w} ({y})", url) for w, y, url in works)
        parts = [linked(f"{w}, {y}", url) for w, y, url in works]
        return f"({'; '.join(parts)})"

    return CITATION.sub(
        citation, CALLOUT.sub(quotation, LIST_TABLE.sub(piped, text))
    )


def folded(tags: list[str]) -> dict:
    """How Jupyter and Colab are told to fold what the site folds."""
    if not {"hide-input", "hide-cell", "remove-input"} & set(tags):
        return {}
    hidden = {"source_hidden": True}
    if "hide-cell" in tags:
        hidden["outputs_hidden"] = True
    return {"jupyter": hidden, "cellView": "form"}


def joined(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The cells, with what `with_figures_apart` took out of one back in it."""
    whole = []
    for cell in cells:
        if not cell.metadata.get("goes_on"):
            whole.append(cell)
            continue
        whole[-1].outputs += cell.outputs
        if "mystnb" in cell.metadata:
            whole[-1].metadata["mystnb"] = cell.metadata["mystnb"]
    return whole


def captioned(cell: NotebookNode) -> list[NotebookNode]:
    """The cell, and its figure's caption and description as a cell of text.

    The description goes to the picture as well, for what reads it there.
    """
    shown = cell.metadata.get("mystnb", {})
    caption = shown.get("figure", {}).get("caption", "")
    words = shown.get("image", {}).get("alt", "")
    for output in cell.get("outputs", []):
        for kind in output.get("data", {}):
            if words and kind.startswith("image/"):
                output.metadata[kind] = {"alt": words}
    text = []
    if caption:
        named = re.match(r"Figure \d", caption)
        text.append(f"*{caption}*" if named else f"*Figure: {caption}*")
    if words:
        text.append("<details><summary>The figure in words</summary>")
        text[-1] += f"{escape(words, quote=False)}</details>"
    return [cell, new_markdown_cell("\n\n".join(text))] if text else [cell]


def titled(cell: NotebookNode) -> None:
    """Name a folded solution by a comment, which Colab shows as its title."""
    if "hide-cell" in cell.metadata.get("tags", []):
        cell.source = f"# @title Solution\n{cell.source}"


def make_plain(sources: Path, bibliography: Path) -> None:
    """Rewrite every notebook below `sources` in place."""
    entries = parse_file(str(bibliography), bib_format="bibtex").entries
    for path in sorted(sources.rglob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("papermill", None)
        parts = [captioned(cell) for cell in joined(notebook.cells)]
        notebook.cells = [cell for part in parts for cell in part]
        for number, cell in enumerate(notebook.cells):
            titled(cell)
            cell.id = f"cell-{number}"  # jupytext draws random ones
            kept = {key: cell.metadata.get(key) for key in ("tags", "mystnb")}
            cell.metadata = {
                key: value for key, value in kept.items() if value
            } | folded(cell.metadata.get("tags", []))
            if cell.cell_type == "markdown":
                cell.source = plain(cell.source, entries)
            for output in cell.get("outputs", []):
                if "text" in output:
                    output["text"] = MACHINE.sub("", output["text"])
        nbformat.validate(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    make_plain(Path(sys.argv[1]), Path(sys.argv[2]))
