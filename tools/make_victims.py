"""Train the embedded networks anew and say how they differ.

The new ones come from the recipes with seed 0 and lie in the cache
afterwards, so that a second call only compares. Other vector instructions,
thread counts or library versions give other weights.

usage: make_victims.py [--write] [mnist_lenet] [letters_lenet] [reuters_text]

Without a name, all are made. --write embeds the new ones: it replaces the
weights in `mexutils/data`, their checksum and their accuracy or perplexity in
`mexutils/victims.py`. Every chapter that asks the victim is stale then.
"""

import argparse
import hashlib
import re
from pathlib import Path

import numpy as np
import torch

from mexutils import datasets, metrics, training, victims

PACKAGE = Path(__file__).resolve().parents[1] / "mexutils"


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


def text_differences(old, new) -> dict[str, float]:
    """How two language models differ, on stories that neither was taught."""
    windows = torch.as_tensor(victims.text_exam(), device=training.DEVICE)
    with torch.no_grad():
        ours, theirs = (
            m(windows[:, :-1]).log_softmax(dim=-1) for m in (old, new)
        )
    pairs = zip(old.parameters(), new.parameters(), strict=True)
    surprise = [
        float(-lp.gather(-1, windows[:, 1:, None]).mean())
        for lp in (ours, theirs)
    ]
    return {
        "perplexity, embedded": float(np.exp(surprise[0])),
        "perplexity, retrained": float(np.exp(surprise[1])),
        "divergence (nats)": float(
            (ours.exp() * (ours - theirs)).sum(dim=-1).mean()
        ),
        "largest difference of a weight": max(
            float((a - b).abs().max().detach()) for a, b in pairs
        ),
    }


def embed(file: str, content: bytes, checksum: str, **scores: float) -> None:
    """Put packed weights, their checksum and scores in the package.

    checksum and the names of the scores: constants of `mexutils.victims`.
    """
    source = PACKAGE / "victims.py"
    text = source.read_text()
    digest = hashlib.sha256(content).hexdigest()
    for constant, value in {checksum: f'"{digest}"', **scores}.items():
        text, found = re.subn(
            rf"(?m)^{constant} = (\(\n.*\n\)|.*)$",
            f"{constant} = {value}",
            text,
        )
        if found != 1:
            raise SystemExit(f"{source} has no line {constant} = ...")
    (PACKAGE / "data" / file).write_bytes(content)
    source.write_text(text)


def mnist_lenet(write: bool) -> dict[str, float]:
    """Make LeNet anew, embed it where told to, and say how it differs."""
    new, test = victims.retrained(seed=0), datasets.mnist().test
    table = differences(victims.embedded(), new, test)
    if write:
        content = victims.packed(new.model)
        accuracy = table["accuracy, retrained"]
        embed(victims.WEIGHTS, content, "CHECKSUM", ACCURACY=accuracy)
    return table


def letters_lenet(write: bool) -> dict[str, float]:
    """The same of the LeNet for letters, whose body is the public encoder."""
    new, test = victims.retrained_letters(seed=0), victims.letters_test()
    table = differences(victims.embedded_letters(), new, test)
    if write:
        content = victims.packed(new.model)
        accuracy = table["accuracy, retrained"]
        file = victims.LETTERS_WEIGHTS
        checksum = "LETTERS_CHECKSUM"
        embed(file, content, checksum, LETTERS_ACCURACY=accuracy)
    return table


def reuters_text(write: bool) -> dict[str, float]:
    """The same of the language model."""
    new = victims.retrained_text(seed=0)
    table = text_differences(victims.embedded_text(), new)
    if write:
        content = victims.packed(new.half())
        perplexity = round(table["perplexity, retrained"], 4)
        embed(
            victims.TEXT_WEIGHTS,
            content,
            "TEXT_CHECKSUM",
            TEXT_PERPLEXITY=perplexity,
        )
    return table


MAKERS = {
    "mnist_lenet": mnist_lenet,
    "letters_lenet": letters_lenet,
    "reuters_text": reuters_text,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--write", action="store_true", help="embed the retrained victims"
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.names) - set(MAKERS):
        parser.error(f"no victim is called {unknown.pop()!r}: {[*MAKERS]}")
    for name in chosen.names or MAKERS:
        print(name)
        for what, value in MAKERS[name](chosen.write).items():
            print(f"{what:30} {value:.4f}")
        if chosen.write:
            print("the retrained victim is embedded now")


if __name__ == "__main__":
    main()
