"""Run the chapters once, side by side, into executed notebooks.

papermill runs every chapter whose result is older than what it stands on:
its own text, mexutils, and the chapters that it loads. Tests, site,
scoreboard and the notebooks offered for download all come from this run.

usage: run_chapters.py [--jobs N] [--all] [CHAPTER ...]
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import jupytext
import papermill
from filelock import FileLock
from papermill.exceptions import PapermillExecutionError

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
EXECUTED = ROOT / "_build" / "executed"
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "matplotlib")
CELL_LIMIT_S = 1800
ALONE = {"comparison/arena"}
"""Chapters that start processes of their own: they run last, alone."""


class ChapterFailed(Exception):
    """A cell of a chapter raised; the message names the cell and the error."""


def chapters() -> list[str]:
    """Every chapter, by its path below book/ without suffix."""
    return sorted(
        path.relative_to(BOOK).with_suffix("").as_posix()
        for path in BOOK.rglob("*.py")
    )


def fingerprint(chapter: str) -> str:
    """Changes when something changes that the chapter's result stands on."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        digest.update(f"{package}=={version(package)}".encode())
    helpers = sorted((ROOT / "mexutils").glob("*.py"))
    for path in [*helpers, *_sources(chapter)]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _sources(chapter: str) -> list[Path]:
    """The chapter and all that it loads, directly or not."""
    found, wanted = [], [chapter]
    while wanted:
        path = BOOK / f"{wanted.pop()}.py"
        if path not in found:
            found.append(path)
            loads = re.findall(
                r"load_chapter\(\s*\"([\w/]+)\"", path.read_text()
            )
            wanted += loads
    return sorted(found)


def record(chapter: str) -> dict:
    """What is noted of the chapter's last run; empty where there is none."""
    path = EXECUTED / f"{chapter}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def run(chapter: str, again: bool = False) -> dict:
    """The record of a finished run; runs the chapter where that is stale.

    Raises `ChapterFailed` with the number and the text of the cell that
    failed, and its error. The notebook with the error stays for a look.
    """
    notebook = EXECUTED / f"{chapter}.ipynb"
    notebook.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{notebook}.lock"):
        state = fingerprint(chapter)
        last = record(chapter)
        fresh = last.get("fingerprint") == state and not last.get("error")
        if fresh and not again:
            return last
        start = time.monotonic()
        error = _execute(chapter, notebook)
        note = {
            "fingerprint": state,
            "seconds": round(time.monotonic() - start, 1),
            "error": error,
        }
        notebook.with_suffix(".json").write_text(json.dumps(note))
    if error:
        raise ChapterFailed(error)
    return note


def _execute(chapter: str, notebook: Path) -> str | None:
    """Run the chapter into `notebook`; what went wrong, or None."""
    script = BOOK / f"{chapter}.py"
    jupytext.write(jupytext.read(script, fmt="py:percent"), notebook)
    # The chapter's own checkout comes first, whatever else is installed.
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.setdefault("CI", "1")  # no progress bars in what is published
    try:
        papermill.execute_notebook(
            notebook,
            notebook,
            # papermill's own cwd is the whole process's, not this thread's.
            resources={"metadata": {"path": str(script.parent)}},
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=CELL_LIMIT_S,
        )
    except PapermillExecutionError as error:
        cell = "\n".join(f"    {line}" for line in error.source.splitlines())
        trace = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error.traceback))
        return (
            f"book/{chapter}.py, cell {error.cell_index}: {error.ename}: "
            f"{error.evalue}\n{cell}\n{trace}"
        )
    except Exception as error:  # a kernel that died, a cell past its limit
        return f"book/{chapter}.py: {type(error).__name__}: {error}"
    return None


def _run_all(wanted: list[str], jobs: int, again: bool) -> int:
    """Run chapters side by side; how many of them failed."""
    failed = 0
    with ThreadPoolExecutor(jobs) as pool:
        started = [(name, pool.submit(run, name, again)) for name in wanted]
        for name, job in started:
            try:
                print(
                    f"{name}: ran {job.result()['seconds']:.0f} s", flush=True
                )
            except ChapterFailed as error:
                failed += 1
                print(f"FAILED {error}", file=sys.stderr, flush=True)
    return failed


def main() -> int:
    """Run what is stale, the longest first; 1 where a chapter failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", nargs="*", help="as attacks/stealml")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--all", action="store_true", help="run fresh ones too"
    )
    options = parser.parse_args()
    unknown = set(options.chapter) - set(chapters())
    if unknown:
        parser.error(f"no chapter {unknown}; there are {chapters()}")
    wanted = options.chapter or chapters()
    wanted.sort(key=lambda name: -record(name).get("seconds", 1e9))
    together = [name for name in wanted if name not in ALONE]
    failed = _run_all(together, options.jobs, options.all)
    failed += _run_all([n for n in wanted if n in ALONE], 1, options.all)
    if failed:
        print(f"{failed} of {len(wanted)} chapters failed", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
