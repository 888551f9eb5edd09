"""A Dask scheduler and two workers, each a process started by hand."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def cluster(folder: Path):
    """Yield the scheduler's address and the two workers' processes."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "scheduler.json"

    def start(module: str, *words) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *words],
            env=os.environ | {"PYTHONPATH": str(ROOT), "CI": "1"},
            stderr=subprocess.DEVNULL,
        )

    processes = [
        start(
            "dask_scheduler",
            *("--port", "0", "--no-dashboard", "--scheduler-file", note),
        )
    ]
    try:
        wait_for(note.is_file, "the scheduler did not start")
        address = json.loads(note.read_text())["address"]
        processes += [
            start(
                "dask_worker",
                *(address, "--nthreads", "1", "--no-dashboard", "--no-nanny"),
                *("--local-directory", folder / f"worker{n}"),
            )
            for n in range(2)
        ]
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()  # they hold nothing that would be lost
            process.wait()


def wait_for(holds, complaint: str, seconds: float = 120) -> None:
    """Return once `holds()` is true; fail with the complaint after a while."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)
