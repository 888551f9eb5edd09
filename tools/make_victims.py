"""Train the MNIST victim anew and say how it differs from the embedded one.

The new one comes from the recipe with seed 0 and lies in the cache
afterwards, so that a second call only compares. Other vector instructions,
thread counts or library versions give other weights.

usage: make_victims.py [--write]

--write embeds the new one: it replaces the weights in `mexutils/data`, their
checksum and their accuracy in `mexutils/victims.py`. Every chapter that asks
the victim is stale then.
"""

import argparse
import hashlib
import re
from pathlib import Path

from mexutils import datasets, metrics, victims

PACKAGE = Path(__file__).resolve().parents[1] / "mexutils"


def differences(old: victims.Victim, new: victims.Victim) -> dict[str, float]:
    """How two victims differ, on the test digits and in their weights."""
    x, y = datasets.mnist().test
    ours, theirs = (v.predict_proba(x) for v in (old, new))
    first, second = (metrics.labels_of(p) for p in (ours, theirs))
    pairs = zip(old.model.parameters(), new.model.parameters(), strict=True)
    return {
        "accuracy, embedded": metrics.accuracy(first, y),
        "accuracy, retrained": metrics.accuracy(second, y),
        "digits with the same label": metrics.fidelity(first, second),
        "mean total variation": metrics.total_variation(ours, theirs),
        "largest difference of a weight": max(
            float((a - b).abs().max().detach()) for a, b in pairs
        ),
    }


def embed(victim: victims.Victim, accuracy: float) -> None:
    """Put the victim's weights, checksum and accuracy in the package."""
    content = victims.packed(victim.model)
    source = PACKAGE / "victims.py"
    text = source.read_text()
    for constant, value in (
        ("CHECKSUM", f'"{hashlib.sha256(content).hexdigest()}"'),
        ("ACCURACY", f"{accuracy}"),
    ):
        text, found = re.subn(
            rf"(?m)^{constant} = .*$", f"{constant} = {value}", text
        )
        if found != 1:
            raise SystemExit(f"{source} has no line {constant} = ...")
    (PACKAGE / "data" / victims.WEIGHTS).write_bytes(content)
    source.write_text(text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--write", action="store_true", help="embed the retrained victim"
    )
    write = parser.parse_args(arguments).write
    old = victims.embedded()
    new = victims.retrained(seed=0)
    table = differences(old, new)
    for what, value in table.items():
        print(f"{what:30} {value:.4f}")
    if write:
        embed(new, table["accuracy, retrained"])
        print("the retrained victim is embedded now")


if __name__ == "__main__":
    main()
