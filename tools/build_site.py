"""Build the website from the chapters' last run.

Gathers the pages and the executed notebooks in _build/source, writes the
scoreboard from the claims that the notebooks hold and the page on their
stability from benchmarks/stability.csv, fills the page on the survey, lets
jupyter-book render them into _build/html, and rewrites the notebooks that the
site offers for download so that Colab and Jupyter show them as they are meant.
A site that was built from the same pages without a warning is left as it is.

Addresses come from `checkout` and go into the settings, the pages and the
first cell of each notebook, which installs the wheel that the site carries.

The site is built whatever the run has shown: a missed claim is red on its
page and on the scoreboard, and a chapter that broke off says so on top.

usage: build_site.py [--pdf]
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from html import escape
from itertools import groupby
from pathlib import Path

import nbformat
import yaml
from checkout import NONE, address, commit
from downloads import add_downloads, build_wheel, wheel_name
from figures import give_room
from html_tables import mend_heads
from landing import landed
from nbformat import NotebookNode
from numbering import in_order, is_a_picture, numbered, numbers, title_of
from plain_notebooks import make_plain
from print_book import print_book
from run_chapters import (
    BOOK,
    EXECUTED,
    ROOT,
    chapters,
    claims_of,
    is_fresh,
    record,
)
from scoreboard import Chapter
from scoreboard import scoreboard as board_of
from site_pages import Site, run_in_words
from stability import stability_page
from survey import judged
from teaching import complete, link_words
from techniques import filled, minutes

CONTENTS = ROOT / "_toc.yml"
SETTINGS = ROOT / "_build" / "config.yml"
"""_config.yml with what only a build knows."""
SOURCE = ROOT / "_build" / "source"
SITE = ROOT / "_build" / "html"
BUILT = ROOT / "_build" / "html.key"
"""What the site stands on, once Sphinx has built it without a warning."""


def main() -> int:
    """Build the site; 1 where a chapter was not run, or Sphinx warned."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pdf", action="store_true", help="and the PDF")
    options = parser.parse_args()
    stale = [chapter for chapter in chapters() if not is_fresh(chapter)]
    if stale:
        print(
            f"no site without a run of {', '.join(stale)}: "
            "run tools/run_chapters.py",
            file=sys.stderr,
        )
        return 1
    site = this_site(options.pdf)
    if site.address is None:
        print(f"the site will have no Colab button: {NONE}")
    gather(site)
    write_settings(site)
    key = stands_on()
    if (SITE / "index.html").is_file() and is_built_from(key):
        print(verdict())
        return 0
    BUILT.unlink(missing_ok=True)
    shutil.rmtree(SITE, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", SOURCE, "--path-output", ROOT]
    command += ["--config", SETTINGS, "--toc", CONTENTS]
    command += ["--all", "-q", "-W", "-n", "--keep-going"]
    code = subprocess.run(command, env=with_tools()).returncode
    if (SITE / "index.html").is_file():
        make_plain(SITE / "_sources", BOOK / "references.bib")
        link_words(SITE)
        give_room(SITE)
        mend_heads(SITE)
        wheel = build_wheel(ROOT, site.commit, ROOT / "_build" / "wheel")
        add_downloads(SITE, site, wheel, ROOT)
        if options.pdf:
            print_book(SITE, in_contents(), site)
        print(f"the site is in {SITE.relative_to(ROOT)}/index.html")
    if code == 0:
        BUILT.write_text(key)
    print(verdict())
    return code


def this_site(pdf: bool = False) -> Site:
    """What this checkout's site knows of itself."""
    now = commit(ROOT)
    return Site(address(ROOT), now, wheel_name(ROOT, now), pdf)


def with_tools() -> dict[str, str]:
    """The environment, in which Sphinx finds our extension."""
    known = os.environ.get("PYTHONPATH", "")
    path = [str(ROOT), str(ROOT / "tools"), *filter(None, [known])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


def in_contents() -> list[str]:
    """Every page, in the order of the table of contents."""
    text = CONTENTS.read_text()
    return re.findall(r"^\s*(?:- file|root): (\S+)$", text, re.MULTILINE)


def write_settings(site: Site) -> None:
    """_config.yml with the addresses, or without the buttons that need one."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text())
    sphinx = settings["sphinx"]["config"]
    sphinx["extensions"].append("book_pages")
    # Sphinx looks at its settings to see what to do anew.
    sphinx["html_context"]["book_edition"] = site.footer("")
    if site.address is None:
        del settings["launch_buttons"], settings["repository"]
        for button in ("use_repository_button", "use_issues_button"):
            del settings["html"][button]
    else:
        settings["repository"]["url"] = site.address.url
        settings["html"]["baseurl"] = site.address.site
        sphinx["ogp_site_url"] = site.address.site
        sphinx["ogp_image"] = f"{site.address.site}_static/social.png"
        sphinx["ogp_image_alt"] = settings["title"]
    SETTINGS.parent.mkdir(parents=True, exist_ok=True)
    SETTINGS.write_text(yaml.safe_dump(settings, sort_keys=False))


def stands_on() -> str:
    """A digest of the pages, the settings, the wheel's code and the tools."""
    files = [path for path in SOURCE.rglob("*") if path.is_file()]
    files += [SETTINGS, CONTENTS]
    files += (ROOT / "mexutils").rglob("*.py")
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


def gather(site: Site | None = None) -> None:
    """Pages, pictures and executed notebooks in one folder for Sphinx."""
    site = site or this_site()
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(
        BOOK,
        SOURCE,
        ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.ipynb"),
    )
    for page in SOURCE.rglob("*.md"):
        name = page.relative_to(SOURCE).with_suffix("").as_posix()
        text = site.filled(page.read_text(), name)
        text = landed(judged(filled(text, name)), site.address)
        page.write_text(text)
    number = numbers(chapters(), CONTENTS)
    for chapter in chapters():
        note = record(chapter)
        notebook = executed(chapter)
        run = run_of(notebook, note)
        notebook = with_tables(notebook, chapter, note["seconds"])
        notebook = with_setup(notebook, site)
        notebook = numbered(notebook, number.get(chapter))
        notebook = with_notice(with_figures_apart(notebook), note)
        notebook = with_run(notebook, run, site)
        nbformat.write(notebook, SOURCE / f"{chapter}.ipynb")
    (SOURCE / "scoreboard.md").write_text(scoreboard())
    (SOURCE / "stability.md").write_text(stability_page())
    complete(SOURCE)


SETUP_CELL = """\
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError:  # as on Colab: leave its torch and numpy alone
    from pathlib import Path

    # The wheel of this very edition: beside the notebook, or on its site.
    near = [p for f in (".", "..") for p in Path(f).glob("mexutils-*.whl")]
    wheel = {wheel}
    get_ipython().run_line_magic("pip", f"install -q --no-deps {{wheel}}")"""


def with_setup(notebook: NotebookNode, site: Site) -> NotebookNode:
    """The notebook whose first cell installs the wheel that the site carries.

    The wheel that lies in the zip beside the notebooks comes first.
    """
    if site.address is None:
        wheel = "near[0]  # from the zip of all notebooks"
    else:
        wheel = f'near[0] if near else (\n        "{site.wheel_url}"\n    )'
    for cell in notebook.cells:
        if is_setup(cell):
            cell.source = SETUP_CELL.format(wheel=wheel)
    return notebook


def is_setup(cell: NotebookNode) -> bool:
    """Whether a cell is the hidden one that looks for mexutils."""
    return cell.cell_type == "code" and cell.source.startswith(
        "try:\n    import mexutils "
    )


def run_of(notebook: NotebookNode, note: dict) -> str:
    """A sentence on the run of a chapter."""
    started = notebook.metadata.get("papermill", {}).get("start_time", "")
    python = notebook.metadata.get("language_info", {}).get("version", "")
    return run_in_words(note, started, python)


def with_run(notebook: NotebookNode, run: str, site: Site) -> NotebookNode:
    """The notebook, at its end with when and on what it ran."""
    words = run
    if site.address is None:
        words += f" This page has no Colab button: {NONE}."
    cell = nbformat.v4.new_markdown_cell(f"---\n\n*{words}*", id="this-run")
    notebook.cells.append(cell)
    return notebook


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
    new cells have a comment for code, since MyST-NB leaves out an empty cell
    with all that it shows; `joined` undoes this in what is offered.
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
            part.update(id=f"{cell.id[:50]}-{len(parts)}", source="#")
            part.metadata.update(tags=["remove-input"], goes_on=True)
        parts.append(part)
    return parts


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
    number = numbers(chapters(), CONTENTS)
    found = []
    for name in in_order(chapters(), CONTENTS):
        notebook, note = executed(name), record(name)
        found.append(
            Chapter(
                name,
                title_of(notebook, number.get(name)),
                claims_of(notebook),
                bool(note["error"]),
                run_of(notebook, note),
            )
        )
    return board_of(found)


if __name__ == "__main__":
    sys.exit(main())
