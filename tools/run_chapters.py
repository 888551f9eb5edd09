"""Run the chapters once, side by side, into executed notebooks.

papermill runs every chapter whose result is older than what it stands on
(`chapter_keys`): its own code, the helpers and chapters that it reaches,
data, libraries. Where prose alone has changed, the new text is put around the
outputs of the last run. Tests, site, scoreboard and the notebooks offered for
download all come from this run.

usage: run_chapters.py [--jobs N] [--all] [CHAPTER ...]
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import jupytext
import nbformat
import papermill
from chapter_keys import chapter_key
from filelock import FileLock
from machine import about_now
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from mexutils.claims import MIME, Claim

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
EXECUTED = ROOT / "_build" / "executed"
CELL_LIMIT_S = 1800
ALONE = {
    "comparison/arena",
    "comparison/joint_track",
    "practice/on_the_wire",
}
"""Chapters that start processes of their own: they run last, alone.

Their cells have no time limit, since a sweep keeps what is finished.
"""
QUIET = "CI" in os.environ  # noted before a run sets it for its kernels
KERNEL = ["--IPKernelApp.log_level=50"]
"""No word on unencrypted loopback, nor on the interrupt that ends a kernel."""


class ChapterFailed(Exception):
    """A cell of a chapter raised; the message names the cell and the error."""


def chapters() -> list[str]:
    """Every chapter, by its path below book/ without suffix."""
    return sorted(
        path.relative_to(BOOK).with_suffix("").as_posix()
        for path in BOOK.rglob("*.py")
        if not path.name.startswith("_")  # the template is no page
    )


def run_key(chapter: str) -> str:
    """Changes when something changes that the chapter's result stands on."""
    victim = os.environ.get("MEXUTILS_VICTIM_SEED", "")
    return chapter_key(chapter) + (f"-victim-{victim}" if victim else "")


def record(chapter: str) -> dict:
    """What is noted of the chapter's last run; empty where there is none.

    key: what it stood on. text: the digest of the script whose text the
    notebook shows. seconds: how long it ran. error: what a cell raised, or
    None. missed: the claims that did not hold, in words. about: when and on
    what it ran, as `machine.about_now`; older records have none.
    """
    path = EXECUTED / f"{chapter}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def is_fresh(chapter: str) -> bool:
    """Whether the last run stands on what is there now."""
    return record(chapter).get("key") == run_key(chapter)


def claims_of(notebook: NotebookNode) -> list[Claim]:
    """The claims that an executed notebook holds, in their order."""
    return [
        Claim.from_json(claim)
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for claim in output.get("data", {}).get(MIME, [])
    ]


def run(chapter: str, again: bool = False) -> dict:
    """The record of a finished run; runs the chapter where that is stale.

    A run that was broken off by an error is repeated. Where only the text
    of the script is newer, it is put around the outputs of the last run.

    Raises `ChapterFailed` with the number and the text of the cell that
    failed, and its error. The notebook with the error stays for a look. A
    missed claim is no failure of the run: see the record's `missed`.
    """
    path = EXECUTED / f"{chapter}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        last, key, text = record(chapter), run_key(chapter), _text(chapter)
        if last.get("key") == key and not last["error"] and not again:
            if last["text"] == text:
                return last
            notebook = with_new_text(_script(chapter), _read(path))
            note = last | {"text": text}
        else:
            notebook, note = _run_anew(chapter, path)
            note |= {"key": key, "text": text}
        nbformat.write(notebook, path)
        path.with_suffix(".json").write_text(json.dumps(note))
    if note["error"]:
        raise ChapterFailed(note["error"])
    return note


def _text(chapter: str) -> str:
    script = (BOOK / f"{chapter}.py").read_bytes()
    return hashlib.sha256(script).hexdigest()


def _script(chapter: str) -> NotebookNode:
    return jupytext.read(BOOK / f"{chapter}.py", fmt="py:percent")


def _read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def with_new_text(
    script: NotebookNode, executed: NotebookNode
) -> NotebookNode:
    """The script's text, captions, tags and comments, the run's outputs.

    The code cells of both must be the same but for comments, as they are
    where the key of the run has not changed.
    """
    code, ran = (
        [cell for cell in notebook.cells if cell.cell_type == "code"]
        for notebook in (script, executed)
    )
    for cell, done in zip(code, ran, strict=True):
        cell.outputs = done.outputs
        cell.execution_count = done.execution_count
    script.metadata = executed.metadata
    return script


def _run_anew(chapter: str, path: Path) -> tuple[NotebookNode, dict]:
    """The notebook of a new run, and what is noted of it.

    The last run's notebook at `path` stays until the new one is complete: a
    run that is killed leaves the old result.
    """
    start, about = time.monotonic(), about_now(ROOT)
    part = path.with_name(f"{path.stem}.part.ipynb")
    error = _execute(chapter, part)
    notebook = _read(part)
    part.unlink()
    notebook.cells = [c for c in notebook.cells if not _is_notice(c)]
    missed = [c.fault for c in claims_of(notebook) if c.missed]
    seconds = round(time.monotonic() - start, 1)
    note = {"seconds": seconds, "error": error, "missed": missed}
    return notebook, note | {"about": about}


def _is_notice(cell: NotebookNode) -> bool:
    """Whether papermill put the cell there, to tell of an error."""
    return any(
        tag.startswith("papermill-error")
        for tag in cell.metadata.get("tags", [])
    )


def _execute(chapter: str, notebook: Path) -> str | None:
    """Run the chapter into `notebook`; what went wrong, or None."""
    nbformat.write(_script(chapter), notebook)
    # The chapter's own checkout comes first, whatever else is installed.
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # one more warning
    # The kernel's own choice draws into the notebook; another (as that of the
    # tests) would leave it without figures, and it would count as fresh.
    os.environ.pop("MPLBACKEND", None)
    # Two chapters of two threads on two cores take several times as long.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("CI", "1")  # no progress bars in what is published
    try:
        papermill.execute_notebook(
            notebook,
            notebook,
            # papermill's own cwd is the whole process's, not this thread's.
            resources={"metadata": {"path": str((BOOK / chapter).parent)}},
            kernel_name="python3",
            extra_arguments=list(KERNEL),
            progress_bar=False,
            execution_timeout=None if chapter in ALONE else CELL_LIMIT_S,
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


class Progress:
    """One line for the whole build: what is done, what runs, what is left.

    estimates: the seconds of each chapter's last run, where it was run.
    """

    def __init__(self, wanted: list[str], jobs: int):
        self.estimates = {
            name: 0 if is_fresh(name) else record(name).get("seconds")
            for name in wanted
        }
        self.jobs = jobs
        self.started: dict[str, float] = {}
        self.finished: set[str] = set()
        self.bar = tqdm(
            total=len(wanted),
            desc="chapters",
            bar_format="{desc}: {n_fmt} of {total_fmt} done{postfix}",
            disable=True if QUIET else None,  # None: where nobody watches
        )

    def start(self, name: str) -> None:
        self.started[name] = time.monotonic()

    def finish(self, name: str) -> None:
        self.finished.add(name)
        self.bar.update()

    def show(self) -> None:
        """Draw the line anew."""
        running = [n for n in self.started if n not in self.finished]
        words = f"running {', '.join(running)}" if running else ""
        self.bar.set_postfix_str("; ".join(filter(None, [words, self.left()])))

    def left(self) -> str:
        """About how long it will take; empty where no run is recorded."""
        if None in self.estimates.values():
            return ""
        now = time.monotonic()
        together = alone = 0.0
        for name, seconds in self.estimates.items():
            if name in self.finished:
                continue
            rest = max(0, seconds - (now - self.started.get(name, now)))
            alone += rest * (name in ALONE)
            together += rest * (name not in ALONE)
        return f"about {(together / self.jobs + alone) / 60:.0f} min left"


def _run_all(
    wanted: list[str], jobs: int, again: bool, progress: Progress
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Run chapters side by side; the errors and the missed claims."""
    errors, missed = {}, {}

    def started(name: str) -> dict:
        progress.start(name)
        return run(name, again)

    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(started, name): name for name in wanted}
        while running:
            done, _ = wait(running, 1, FIRST_COMPLETED)
            for job in done:
                name = running.pop(job)
                progress.finish(name)
                try:
                    note = job.result()
                except Exception as error:  # the others run all the same
                    known = isinstance(error, ChapterFailed)
                    errors[name] = str(error) if known else f"{error!r}"
                    tqdm.write(f"FAILED {errors[name]}", file=sys.stderr)
                    continue
                tqdm.write(f"{name}: ran {note['seconds']:.0f} s")
                if note["missed"]:
                    missed[name] = note["missed"]
            progress.show()
            sys.stdout.flush()
    return errors, missed


def main() -> int:
    """Run what is stale, the longest first.

    1 where a chapter raised or a claim was missed. Both are results, which
    the site shows; it is for the caller to stop or to go on.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", nargs="*", help="as attacks/stealml")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--all", action="store_true", help="run fresh ones too"
    )
    options = parser.parse_args()
    unknown = {
        name for name in options.chapter if not (BOOK / f"{name}.py").is_file()
    }
    if unknown:
        parser.error(f"no chapter {unknown}; there are {chapters()}")
    wanted = options.chapter or chapters()
    wanted.sort(key=lambda name: -record(name).get("seconds", 1e9))
    progress = Progress(wanted, options.jobs)
    together = [name for name in wanted if name not in ALONE]
    errors, missed = _run_all(together, options.jobs, options.all, progress)
    last = [name for name in wanted if name in ALONE]
    for found, more in zip(
        (errors, missed), _run_all(last, 1, options.all, progress), strict=True
    ):
        found.update(more)
    progress.bar.close()
    if errors:
        print(f"{len(errors)} of {len(wanted)} chapters failed")
    for name, faults in missed.items():
        print(f"MISSED in {name}: {'; '.join(faults)}", file=sys.stderr)
    return int(bool(errors or missed))


if __name__ == "__main__":
    sys.exit(main())
