"""Build the website from the chapters' last run.

Gathers the pages and the executed notebooks in _build/source, writes the
scoreboard from the claims that the notebooks hold and the page on their
stability from benchmarks/stability.csv, fills the page on the survey, lets
jupyter-book render them into _build/html, and rewrites the notebooks that the
site offers for download so that Colab and Jupyter show them as they are meant.
A site that was built from the same pages without a warning is left as it is.

The site is built whatever the run has shown: a missed claim is red on its
page and on the scoreboard, and a chapter that broke off says so on top.

usage: build_site.py
"""

import hashlib
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from html import escape
from itertools import groupby
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from plain_notebooks import make_plain
from run_chapters import (
    BOOK,
    EXECUTED,
    ROOT,
    chapters,
    claims_of,
    is_fresh,
    record,
)
from stability import stability_page
from survey import judged
from teaching import complete, link_words
from techniques import filled, minutes

from mexutils.claims import Claim, claims_html

SOURCE = ROOT / "_build" / "source"
SITE = ROOT / "_build" / "html"
BUILT = ROOT / "_build" / "html.key"
"""What the site stands on, once Sphinx has built it without a warning."""


def main() -> int:
    """Build the site; 1 where a chapter was not run, or Sphinx warned."""
    stale = [chapter for chapter in chapters() if not is_fresh(chapter)]
    if stale:
        print(
            f"no site without a run of {', '.join(stale)}: "
            "run tools/run_chapters.py",
            file=sys.stderr,
        )
        return 1
    gather()
    key = stands_on()
    if (SITE / "index.html").is_file() and is_built_from(key):
        print(verdict())
        return 0
    BUILT.unlink(missing_ok=True)
    shutil.rmtree(SITE, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", SOURCE, "--path-output", ROOT]
    command += ["--config", ROOT / "_config.yml", "--toc", ROOT / "_toc.yml"]
    command += ["--all", "-q", "-W", "-n", "--keep-going"]
    code = subprocess.run(command).returncode
    if (SITE / "index.html").is_file():
        make_plain(SITE / "_sources", BOOK / "references.bib")
        link_words(SITE)
        print(f"the site is in {SITE.relative_to(ROOT)}/index.html")
    if code == 0:
        BUILT.write_text(key)
    print(verdict())
    return code


def stands_on() -> str:
    """A digest of the pages, the settings and the tools that build them."""
    files = [path for path in SOURCE.rglob("*") if path.is_file()]
    files += [ROOT / "_config.yml", ROOT / "_toc.yml"]
    files += [ROOT / "requirements.txt", *(ROOT / "tools").glob("*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def is_built_from(key: str) -> bool:
    """Whether the last build without a warning stands on that."""
    return BUILT.is_file() and BUILT.read_text() == key


def gather() -> None:
    """Pages, pictures and executed notebooks in one folder for Sphinx."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(
        BOOK,
        SOURCE,
        ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.ipynb"),
    )
    for page in SOURCE.rglob("*.md"):
        name = page.relative_to(SOURCE).with_suffix("").as_posix()
        page.write_text(judged(filled(page.read_text(), name)))
    for chapter in chapters():
        note = record(chapter)
        notebook = with_tables(executed(chapter), chapter, note["seconds"])
        notebook = with_notice(with_figures_apart(notebook), note)
        nbformat.write(notebook, SOURCE / f"{chapter}.ipynb")
    (SOURCE / "scoreboard.md").write_text(scoreboard())
    (SOURCE / "stability.md").write_text(stability_page())
    complete(SOURCE)


def executed(chapter: str) -> NotebookNode:
    """The notebook of the chapter's last run."""
    return nbformat.read(EXECUTED / f"{chapter}.ipynb", as_version=4)


def with_tables(
    notebook: NotebookNode, chapter: str, seconds: float
) -> NotebookNode:
    """The notebook with the tables and the minutes that its text asks for."""
    time = minutes(notebook, seconds)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = cell.source.replace("<!-- minutes -->", time)
            cell.source = filled(text, chapter)
    return notebook


def with_figures_apart(notebook: NotebookNode) -> NotebookNode:
    """The notebook with a figure in one cell, what stands beside in others.

    A caption belongs to the cell, and MyST-NB puts it under every output. The
    new cells have no code; `joined` undoes this in what is offered.
    """
    notebook.cells = [part for cell in notebook.cells for part in apart(cell)]
    return notebook


def apart(cell: NotebookNode) -> list[NotebookNode]:
    """The cell, once for its pictures and once for what they stand among."""
    captioned = "figure" in cell.metadata.get("mystnb", {})
    if not captioned or not any(map(is_a_picture, cell.outputs)):
        return [cell]
    parts = []
    for is_picture, outputs in groupby(cell.outputs, is_a_picture):
        part = deepcopy(cell)
        part.outputs = list(outputs)
        if not is_picture:
            del part.metadata["mystnb"]
        if parts:
            part.update(id=f"{cell.id[:50]}-{len(parts)}", source="")
            part.metadata.update(tags=["remove-input"], goes_on=True)
        parts.append(part)
    return parts


def is_a_picture(output: NotebookNode) -> bool:
    """Whether an output of a cell is a figure."""
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def with_notice(notebook: NotebookNode, note: dict) -> NotebookNode:
    """The notebook with a box below its title, where the run went wrong.

    note: the record of the run: `error` and `missed`.
    """
    if note["error"]:
        first = note["error"].splitlines()[0]
        words = re.sub(r"^book/\S+?\.py(, )?:? ?", "", first)
        words = words.replace("`", "'")
        text = notice(
            "danger",
            "This chapter broke off",
            f"In this run it stopped with an error (`{words}`).",
            "What stands below that cell was not computed.",
        )
    elif note["missed"]:
        text = notice(
            "warning",
            f"Claims missed in this run: {len(note['missed'])}",
            *(f"- {escape(fault)}" for fault in note["missed"]),
        )
    else:
        return notebook
    # Below the title and its paragraph, which search engines show.
    title, _, rest = notebook.cells[0].source.partition("\n\n")
    paragraph, _, rest = rest.partition("\n\n")
    notebook.cells[0].source = f"{title}\n\n{paragraph}\n\n{text}\n\n{rest}"
    return notebook


def notice(kind: str, title: str, *lines: str) -> str:
    """A box of MyST with a title."""
    head = [f":::{{admonition}} {title}", f":class: {kind}", ""]
    return "\n".join([*head, *lines, ":::"])


def verdict() -> str:
    """One line that counts what this run has missed."""
    notes = {chapter: record(chapter) for chapter in chapters()}
    broken = [name for name, note in notes.items() if note["error"]]
    missed = {name: len(n["missed"]) for name, n in notes.items()}
    total = sum(len(claims_of(executed(name))) for name in notes)
    count = sum(missed.values())
    words = f"{count} of {total} claims missed"
    if count:
        places = ", ".join(f"{n} in {name}" for name, n in missed.items() if n)
        words += f" ({places})"
    words += f"; {len(broken)} of {len(notes)} chapters broke off"
    if broken:
        words += f" ({', '.join(broken)})"
    if count or broken:
        words += ". The site shows it; make test fails until it is mended"
    return words


def scoreboard() -> str:
    """A page with every claim of every chapter, in the order of the book."""
    page = [
        "# Scoreboard",
        "",
        "Every claim of every chapter, as this run measured it.",
        "A missed claim is a result: its row is coloured and says NO.",
        "A run that misses one is not published.",
        "How far other machines, seeds and victims move the values stands on",
        "[a page of its own](stability.md), and what they mean for the survey",
        "[on another](survey.md).",
        "The value of a paper is printed where it was read in a source.",
        "",
        summary({name: claims_of(executed(name)) for name in chapters()}),
    ]
    for chapter in chapters():
        notebook = executed(chapter)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        page += ["", f"## [{title}]({chapter}.ipynb)", ""]
        if record(chapter)["error"]:
            page += ["This chapter broke off before the end.", ""]
        claims = claims_of(notebook)
        if claims:
            table = claims_html(claims)
            page += [f'<div style="overflow-x: auto">{table}</div>']
    return "\n".join(page) + "\n"


def summary(claims: dict[str, list[Claim]]) -> str:
    """How many claims there are, and how many are missed."""
    made = [claim for found in claims.values() for claim in found]
    missed = sum(claim.missed for claim in made)
    return f"**{len(made)} claims, {missed} missed.**"


if __name__ == "__main__":
    sys.exit(main())
