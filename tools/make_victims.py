"""Train the embedded networks anew and say how they differ.

They are the MNIST victim and the LeNet for letters, whose body is the public
encoder. The new ones come from the recipe with seed 0 and lie in the cache
afterwards, so that a second call only compares. Other vector instructions,
thread counts or library versions give other weights.

usage: make_victims.py [--write]

--write embeds the new ones: it replaces the weights in `mexutils/data`, their
checksums and their accuracies in `mexutils/victims.py`. Every chapter that
asks one of them is stale then.
"""

import argparse
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mexutils import datasets, metrics, victims

PACKAGE = Path(__file__).resolve().parents[1] / "mexutils"


class Embedded(NamedTuple):
    """A network of the package, and how it is made anew.

    prefix: of its constants in `mexutils/victims.py`.
    """

    what: str
    prefix: str
    file: str
    old: Callable[[], victims.Victim]
    new: Callable[[int], victims.Victim]
    test: Callable[[], datasets.Sample]


def networks() -> list[Embedded]:
    """The embedded networks."""
    return [
        Embedded(
            *("MNIST victim", "", victims.WEIGHTS),
            *(victims.embedded, victims.retrained),
            lambda: datasets.mnist().test,
        ),
        Embedded(
            *("LeNet for letters", "LETTERS_", victims.LETTERS_WEIGHTS),
            *(victims.embedded_letters, victims.retrained_letters),
            victims.letters_test,
        ),
    ]


def differences(
    old: victims.Victim, new: victims.Victim, test: datasets.Sample
) -> dict[str, float]:
    """How two victims differ, on test pictures and in their weights."""
    x, y = test
    ours, theirs = (v.predict_proba(x) for v in (old, new))
    first, second = (metrics.labels_of(p) for p in (ours, theirs))
    pairs = zip(old.model.parameters(), new.model.parameters(), strict=True)
    return {
        "accuracy, embedded": metrics.accuracy(first, y),
        "accuracy, retrained": metrics.accuracy(second, y),
        "pictures with the same label": metrics.fidelity(first, second),
        "mean total variation": metrics.total_variation(ours, theirs),
        "largest difference of a weight": max(
            float((a - b).abs().max().detach()) for a, b in pairs
        ),
    }


def embed(network: Embedded, new: victims.Victim, accuracy: float) -> None:
    """Put a network's weights, checksum and accuracy in the package."""
    content = victims.packed(new.model)
    source = PACKAGE / "victims.py"
    text = source.read_text()
    for constant, value in (
        ("CHECKSUM", f'"{hashlib.sha256(content).hexdigest()}"'),
        ("ACCURACY", f"{accuracy}"),
    ):
        text, found = re.subn(
            rf"(?m)^({network.prefix}{constant} = (?:\(\s+)?)[^\s(]+$",
            rf"\g<1>{value}",
            text,
        )
        if found != 1:
            raise SystemExit(
                f"{source} has no line {network.prefix}{constant} = ..."
            )
    (PACKAGE / "data" / network.file).write_bytes(content)
    source.write_text(text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--write", action="store_true", help="embed the retrained networks"
    )
    write = parser.parse_args(arguments).write
    for network in networks():
        new = network.new(0)
        table = differences(network.old(), new, network.test())
        print(network.what)
        for what, value in table.items():
            print(f"  {what:30} {value:.4f}")
        if write:
            embed(network, new, table["accuracy, retrained"])
            print(f"the retrained {network.what} is embedded now")


if __name__ == "__main__":
    main()
