"""Write constraints.txt: the versions that this environment has installed.

Only what requirements.txt asks for, directly or through others. What goes with
one system alone (NVIDIA's libraries, triton) is left out, as is the part of a
version that names a build, such as `+cpu`: the lock serves Linux and macOS.

usage: lock.py
"""

import importlib.metadata
import re
import sys
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "constraints.txt"
HEAD = """\
# The versions that the book was last run with, on Python {python}.
# make book installs them, and goes without where they cannot be had; make lock
# writes this file anew.
"""
OF_ONE_SYSTEM = re.compile(r"nvidia-|cuda-|triton$|pywin|appnope|colorama")


def normal(name: str) -> str:
    """The name of a package, spelled in one way."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(wanted: list[str]) -> dict[str, str]:
    """Name to installed version of these requirements and what they need."""
    found, todo = {}, [(Requirement(line), "") for line in wanted]
    seen = set()
    while todo:
        requirement, extra = todo.pop()
        name = normal(requirement.name)
        around = default_environment() | {"extra": extra}
        if requirement.marker and not requirement.marker.evaluate(around):
            continue
        key = (name, tuple(sorted(requirement.extras)))
        if key in seen or OF_ONE_SYSTEM.match(name):
            continue
        seen.add(key)
        try:
            about = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = about.version.partition("+")[0]
        for line in about.requires or ():
            for part in ("", *requirement.extras):
                todo.append((Requirement(line), part))
    return dict(sorted(found.items()))


def wanted() -> list[str]:
    """The lines of requirements.txt, without what they are for."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    bare = (line.partition("#")[0].strip() for line in lines)
    return [line for line in bare if line]


def main() -> int:
    """Write the lock."""
    python = ".".join(map(str, sys.version_info[:2]))
    lines = [f"{name}=={v}" for name, v in closure(wanted()).items()]
    LOCK.write_text(HEAD.format(python=python) + "\n".join(lines) + "\n")
    print(f"{len(lines)} versions are in {LOCK.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
