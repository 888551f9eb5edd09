"""Look whether the links to other sites lead somewhere.

Sphinx asks each address that the gathered pages name. What is broken is
printed, written to _build/links.txt, and makes the exit status 1; publishers
that turn every robot away are left out.

usage: check_links.py   (after build_site.py)
"""

import json
import subprocess
import sys
from pathlib import Path

from build_site import CONTENTS, ROOT, SETTINGS, SOURCE, with_tools

FOUND = ROOT / "_build" / "linkcheck" / "output.json"
REPORT = ROOT / "_build" / "links.txt"
ROBOTS = ("https://doi.org/", "https://colab.research.google.com/")
"""Addresses that answer a browser and refuse a robot, or need a login."""


def broken(lines: list[str]) -> list[str]:
    """The faults in Sphinx' report, one JSON object a line."""
    faults = []
    for line in lines:
        link = json.loads(line)
        if link["status"] in ("broken", "timeout") and not (
            link["uri"].startswith(ROBOTS)
        ):
            where = f"{link['filename']}:{link['lineno']}"
            faults.append(f"{where}: {link['uri']}: {link['info'][:120]}")
    return sorted(set(faults))


def main() -> int:
    """Check them all."""
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    command = [jupyter_book, "build", SOURCE, "--path-output", ROOT]
    command += ["--config", SETTINGS, "--toc", CONTENTS]
    command += ["--builder", "linkcheck", "-q"]
    # It fails for what turned a robot away, too: the report decides.
    subprocess.run(command, env=with_tools(), capture_output=True)
    if not FOUND.is_file():
        print("Sphinx has checked nothing: run make book", file=sys.stderr)
        return 1
    faults = broken(FOUND.read_text().splitlines())
    REPORT.write_text("\n".join(faults) + "\n")
    print(*faults, f"{len(faults)} links are broken", sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
