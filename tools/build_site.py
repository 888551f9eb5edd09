"""Build the website from the chapters' last run.

Gathers the pages and the executed notebooks in _build/source, writes the
scoreboard from the claims that the notebooks hold, lets jupyter-book render
them into _build/html, and rewrites the notebooks that the site offers for
download so that Colab and Jupyter show them as they are meant.

usage: build_site.py
"""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from plain_notebooks import make_plain
from run_chapters import BOOK, EXECUTED, ROOT, chapters, fingerprint, record

from mexutils.claims import MIME, Claim, claims_table

SOURCE = ROOT / "_build" / "source"
SITE = ROOT / "_build" / "html"


def main() -> int:
    """Build the site; 1 where a chapter has no fresh, faultless run."""
    stale = [
        chapter
        for chapter in chapters()
        if record(chapter).get("fingerprint") != fingerprint(chapter)
        or record(chapter)["error"]
    ]
    if stale:
        print(
            f"no site without a faultless run of {', '.join(stale)}: "
            "run tools/run_chapters.py",
            file=sys.stderr,
        )
        return 1
    gather()
    shutil.rmtree(SITE, ignore_errors=True)
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", SOURCE, "--path-output", ROOT]
    command += ["--config", ROOT / "_config.yml", "--toc", ROOT / "_toc.yml"]
    command += ["--all", "-q", "-W", "-n", "--keep-going"]
    code = subprocess.run(command).returncode
    if code == 0:
        make_plain(SITE / "_sources", BOOK / "references.bib")
        print(f"the site is in {SITE.relative_to(ROOT)}/index.html")
    return code


def gather() -> None:
    """Pages, pictures and executed notebooks in one folder for Sphinx."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(
        BOOK,
        SOURCE,
        ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.ipynb"),
    )
    for chapter in chapters():
        shutil.copy(EXECUTED / f"{chapter}.ipynb", SOURCE / f"{chapter}.ipynb")
    (SOURCE / "scoreboard.md").write_text(scoreboard())


def scoreboard() -> str:
    """A page with every claim of every chapter, in the order of the book."""
    page = [
        "# Scoreboard",
        "",
        "Every claim of every chapter, as this run measured it.",
        "A claim that is missed stops the build.",
        "The value of a paper is printed where it was read in a source.",
    ]
    for chapter in chapters():
        notebook = nbformat.read(EXECUTED / f"{chapter}.ipynb", as_version=4)
        claims = [
            Claim.from_json(claim)
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            for claim in output.get("data", {}).get(MIME, [])
        ]
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        table = claims_table(claims).to_html(index=False, border=0)
        page += ["", f"## [{title}]({chapter}.ipynb)", ""]
        page += [f'<div style="overflow-x: auto">{table}</div>']
    return "\n".join(page) + "\n"


if __name__ == "__main__":
    sys.exit(main())
