"""What a reader meets in a chapter: cells, lines, waits, bars, words.

usage: shape.py [CHAPTER ...]    (default: every chapter that was run)

A cell shows a result where the executed notebook holds an output of it, so
that a chapter must have been run: tools/run_chapters.py.
"""

import re
import statistics
import sys
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode
from run_chapters import EXECUTED, chapters


class Shape(NamedTuple):
    """The measures of a chapter; each has its most in `MOST`.

    A cell is visible where no tag hides or removes its code. Lines count
    where they are not blank.
    """

    median_cell: float  # lines of the median visible cell
    large_cell: float  # the ninth decile of that
    first_result: int  # visible lines before the first result
    longest_wait: int  # visible lines between two results
    visible_lines: int
    code_cells: int
    bars: int  # "Show the code", to be clicked on
    unannounced: int  # visible cells with no text since the code before
    sentences: int  # computed ones whose code is shown or folded
    wide_lines: int  # of text and code, above 79 columns
    words: int


MOST = Shape(10, 20, 30, 60, 450, 45, 10, 0, 0, 0, 2800)
"""What a chapter keeps to."""


def shape_of(notebook: NotebookNode) -> Shape:
    """The measures of an executed notebook."""
    code = [c for c in notebook.cells if c.cell_type == "code"]
    prose = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    visible = [_lines(c) for c in code if not _is_hidden(c)]
    first, longest, waited, announced = None, 0, 0, False
    unannounced = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            announced = True
            continue
        if not _is_hidden(cell):
            waited += _lines(cell)
            unannounced += not announced
            announced = False
        if cell.outputs and "remove-cell" not in _tags(cell):
            first = waited if first is None else first
            longest, waited = max(longest, waited), 0
    return Shape(
        median_cell=statistics.median(visible),
        large_cell=statistics.quantiles(visible, n=10)[-1],
        first_result=waited if first is None else first,
        longest_wait=max(longest, waited),
        visible_lines=sum(visible),
        code_cells=len(code),
        bars=sum(any(t.startswith("hide-") for t in _tags(c)) for c in code),
        unannounced=unannounced,
        sentences=sum(
            bool(re.match(r"(Markdown|display)\(", _last(c)))
            and not {"remove-input", "remove-cell"} & set(_tags(c))
            for c in code
        ),
        wide_lines=sum(
            len(line) > 79 and not re.search(r"https?://", line)
            for cell in notebook.cells
            for line in _written(cell)
        ),
        words=sum(len(text.split()) for text in prose),
    )


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def _is_hidden(cell: NotebookNode) -> bool:
    return any(t.startswith(("hide-", "remove-")) for t in _tags(cell))


def _lines(cell: NotebookNode) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def _last(cell: NotebookNode) -> str:
    """The last statement of a cell of code, from its first line on."""
    parts = re.split(r"\n(?=\S)", cell.source)
    while len(parts) > 1 and re.match(r"[)\]}]", parts[-1]):
        last = parts.pop()
        parts[-1] += "\n" + last
    return parts[-1]


def _written(cell: NotebookNode) -> list[str]:
    """The lines as they stand in the script: text begins with "# "."""
    lines = cell.source.splitlines()
    return lines if cell.cell_type == "code" else [f"# {x}" for x in lines]


def too_much(shape: Shape) -> dict[str, tuple[float, float]]:
    """Each measure that passes its most: what it is, and the most."""
    return {
        name: (value, most)
        for name, value, most in zip(shape._fields, shape, MOST, strict=True)
        if value > most
    }


def main() -> None:
    """Print the measures of chapters, those that are too much with a mark."""
    print(" ".join(f"{name[:13]:>13}" for name in Shape._fields))
    print(" ".join(f"{most:>13}" for most in MOST), "at most")
    for name in sys.argv[1:] or chapters():
        path = EXECUTED / f"{name}.ipynb"
        if path.is_file():
            shape = shape_of(nbformat.read(path, as_version=4))
            marks = (
                "!" if v > m else " " for v, m in zip(shape, MOST, strict=True)
            )
            print(
                " ".join(
                    f"{v:>12.5g}{m}" for v, m in zip(shape, marks, strict=True)
                ),
                name,
            )


if __name__ == "__main__":
    main()
