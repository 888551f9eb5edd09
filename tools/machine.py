"""On what a run ran: the processor, the system, the versions."""

import importlib.metadata
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from checkout import commit

LIBRARIES = (
    *("torch", "torchvision", "numpy", "scipy", "scikit-learn"),
    *("pandas", "matplotlib"),
)
"""What the numbers of most chapters come from."""


def about_now(root: Path) -> dict:
    """What is noted of a run that starts now.

    when: ISO time, UTC. commit: the first digits, empty where there is none.
    changed: whether files differ from it. machine, python: in words.
    libraries: name to version. Holds no name of the machine or its user.
    """
    now = commit(root)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": now.short if now else "",
        "changed": bool(now and now.changed),
        "machine": machine(),
        "python": platform.python_version(),
        "libraries": {
            name: importlib.metadata.version(name) for name in LIBRARIES
        },
    }


def machine() -> str:
    """The processor, how many cores this process has, and the system."""
    system = f"{platform.system()} {platform.machine()}".strip()
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    cores = "1 core" if count == 1 else f"{count} cores"
    return ", ".join(filter(None, [_processor(), cores, system]))


def _processor() -> str:
    """The processor's name; empty where the system does not tell."""
    try:
        found = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*:\s*(.+)$", found, re.MULTILINE)
    return " ".join(match[1].split()) if match else ""
