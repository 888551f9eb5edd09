"""Chapters and figures by number, in the order of the contents.

A chapter is what has a program; its figures are counted within it. The numbers
stand in the built pages and in the notebooks for download, not in the sources,
so that a new chapter renumbers nothing by hand.
"""

import re
from pathlib import Path

from nbformat import NotebookNode


def in_order(names: list[str], contents: Path) -> list[str]:
    """The chapters as the table of contents has them; unlisted ones last."""
    listed = re.findall(r"^\s*- file: (\S+)$", contents.read_text(), re.M)
    places = {name: place for place, name in enumerate(listed)}
    return sorted(names, key=lambda n: (places.get(n, len(places)), n))


def numbers(names: list[str], contents: Path) -> dict[str, int]:
    """Chapter to number, from 1; a chapter that is not listed has none."""
    text = contents.read_text()
    listed = [
        name
        for name in in_order(names, contents)
        if re.search(rf"^\s*- file: {re.escape(name)}$", text, re.M)
    ]
    return {name: place for place, name in enumerate(listed, 1)}


def title_of(notebook: NotebookNode, number: int | None) -> str:
    """The chapter's title, with its number where it has one."""
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    return title if number is None else f"{number}. {title}"


def numbered(notebook: NotebookNode, number: int | None) -> NotebookNode:
    """The notebook with numbers in its title and before its captions."""
    first = notebook.cells[0]
    head, *rest = first.source.split("\n")
    if head.startswith("# "):
        title = title_of(notebook, number)
        first.source = "\n".join([f"# {title}", *rest])
    count = 0
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "caption" in figure and any(map(is_a_picture, cell.outputs)):
            count += 1
            place = f"{count}" if number is None else f"{number}.{count}"
            figure["caption"] = f"Figure {place}: {figure['caption']}"
    return notebook


def is_a_picture(output: NotebookNode) -> bool:
    """Whether an output of a cell is a figure."""
    return any(kind.startswith("image/") for kind in output.get("data", {}))
