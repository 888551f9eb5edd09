"""Run notebooks as Colab does: with its own libraries and nothing of ours.

The first cell of each must bring mexutils by itself. Needs nothing but what
Colab's image holds: nbformat and nbconvert or nbclient.

usage: colab_run.py FOLDER [NOTEBOOK ...]
"""

import subprocess
import sys
import time
from pathlib import Path

import nbformat

CELL_LIMIT_S = 7200


def fault_of(path: Path) -> str:
    """What a run of the notebook raises; empty where it goes through."""
    from nbclient import NotebookClient

    # As on Colab, where every notebook begins on a bare machine.
    remove = [sys.executable, "-m", "pip", "uninstall", "-qy", "mexutils"]
    subprocess.run(remove, capture_output=True)
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_LIMIT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except Exception as error:  # whatever a cell or the kernel raises
        return str(error) or repr(error)
    return ""


def main() -> int:
    """Run all; 1 where one raised."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    paths = [folder / name for name in names]
    paths = paths or sorted(folder.rglob("*.ipynb"))
    if not paths:
        print(f"no notebook in {folder}", file=sys.stderr)
        return 1
    faults = {}
    for path in paths:
        start = time.monotonic()
        fault = fault_of(path)
        name = path.relative_to(folder)
        words = "FAILED" if fault else "ran"
        print(f"{name}: {words}, {time.monotonic() - start:.0f} s", flush=True)
        if fault:
            faults[name] = fault
    for name, fault in faults.items():
        last = fault.strip().splitlines()[-12:]
        print(f"--- {name}", *last, sep="\n")
    print(f"{len(faults)} of {len(paths)} notebooks failed")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
