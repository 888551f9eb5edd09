"""Run every chapter in other ways, and see how far its claims move.

A claim that holds only with one seed, one victim and one processor's
arithmetic is worth little. Each variant runs a chapter whole, as the book
does, with another seed (`-p seed`), another MNIST victim
(`MEXUTILS_VICTIM_SEED`) or other arithmetic (the instruction sets that torch,
oneDNN and OpenBLAS may use, and their threads). Finished runs are kept by
`mexutils.sweep` under what they stand on; the ranges of claims are no part of
that, so that a new range costs no new run.

The table goes to benchmarks/stability.csv and onto a page of the site.

usage: stability.py [--jobs N] [--variants NAME ...] [CHAPTER ...]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
import numpy as np
import pandas as pd
from chapter_keys import measurement_key
from html_tables import SCROLLS
from run_chapters import ALONE, BOOK, EXECUTED, ROOT, chapters, claims_of

from mexutils.cache import cache_dir
from mexutils.claims import range_in_words
from mexutils.sweep import Cell, sweep

TABLE = ROOT / "benchmarks" / "stability.csv"
LEAST_SD = 4
"""A sampled claim's range ends at least so many standard deviations away."""


FEWEST = 3
"""The spread of fewer runs says nothing."""


class Variant(NamedTuple):
    """One way of running a chapter.

    seed: the chapter's parameter. The seeds lie far apart, since a chapter
        that repeats an experiment counts on from its own.
    victim: the seed of a retrained MNIST victim; None for the embedded one.
    arithmetic: one of `ARITHMETIC`.
    """

    seed: int
    victim: int | None = None
    arithmetic: str = "native"

    @property
    def name(self) -> str:
        """The variant in a few letters, as `s100-v1-native`."""
        victim = "embedded" if self.victim is None else f"v{self.victim}"
        return f"s{self.seed}-{victim}-{self.arithmetic}"


ARITHMETIC = {
    "native": {},
    "sse41": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
    },
    "nehalem2": {"OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "2"},
}
VARIANTS = [
    Variant(0),
    Variant(0, arithmetic="sse41"),
    Variant(100, 1),
    Variant(200, 2),
    Variant(300),
    Variant(300, 1),
    Variant(200),
    Variant(100, arithmetic="nehalem2"),
]
FEW = VARIANTS[:3]
"""What the chapters that run alone, on all cores, are run in."""


def variants_of(chapter: str) -> list[Variant]:
    """The variants that a chapter is run in."""
    return FEW if chapter in ALONE else VARIANTS


def measured(
    chapter: str,
    stands_on: str,
    seed: int,
    victim: int | None,
    arithmetic: str,
) -> dict:
    """The claims of one run of a chapter: name to value, and the seconds.

    stands_on: the chapter's `measurement_key`, which makes a changed
        chapter a new cell. A value is None where the chapter found the
        machine too noisy for it, and text where it is no finite number.

    Raises `RuntimeError` with the last lines of a run that broke off.
    """
    start = time.monotonic()
    environment = os.environ | {
        "CI": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "MEXUTILS_VICTIM_SEED": "" if victim is None else str(victim),
    }
    environment |= ARITHMETIC[arithmetic]
    if arithmetic != "native":  # nothing that other arithmetic has computed
        own = cache_dir() / "stability" / arithmetic
        environment["MEXUTILS_CACHE"] = str(own)
    with tempfile.TemporaryDirectory() as folder:
        script, notebook = Path(folder, "in.ipynb"), Path(folder, "out.ipynb")
        jupytext.write(
            jupytext.read(BOOK / f"{chapter}.py", fmt="py:percent"), script
        )
        command = [sys.executable, "-m", "papermill", script, notebook]
        command += ["-k", "python3", "--language", "python"]
        command += ["-p", "seed", str(seed)]
        command += ["--cwd", (BOOK / chapter).parent, "--no-progress-bar"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-12:]
            raise RuntimeError(" | ".join(line.strip() for line in last))
        found = claims_of(nbformat.read(notebook, as_version=4))
    claims = {c.name: None if c.noisy else str(c.measured) for c in found}
    return {"claims": claims, "seconds": round(time.monotonic() - start, 1)}


def measure(
    wanted: dict[str, list[Variant]], jobs: int
) -> tuple[pd.DataFrame, list[str]]:
    """One row a claim and variant: the value; and the runs that broke off.

    What the committed table holds of chapters that have not changed since is
    taken from there.
    """
    cells, places, rows, broken = [], [], [], []
    for chapter, variants in wanted.items():
        stands_on = measurement_key(chapter)
        known = tabled(chapter, stands_on)
        for variant in variants:
            if variant.name in known:
                rows += known[variant.name]
                continue
            parameters = {"chapter": chapter, "stands_on": stands_on}
            cells.append(Cell(measured, parameters | variant._asdict()))
            places.append((chapter, stands_on, variant.name))
    folder = cache_dir() / "stability" / "runs"
    outcomes = sweep(cells, folder=folder, workers=jobs, what="runs")
    for (chapter, stands_on, name), outcome in zip(
        places, outcomes, strict=True
    ):
        if outcome.error is not None:
            broken.append(f"{chapter}, {name}: {outcome.error}")
            continue
        rows += [
            (chapter, stands_on, claim, name, _number(value))
            for claim, value in outcome.value["claims"].items()
        ]
    columns = ["chapter", "stands_on", "claim", "variant", "value"]
    return pd.DataFrame(rows, columns=columns), broken


def tabled(chapter: str, stands_on: str) -> dict[str, list[tuple]]:
    """What the table holds of a chapter: variant to rows of `measure`.

    stands_on: what the chapter stands on now; nothing older is taken.
    """
    if not TABLE.is_file():
        return {}
    table = pd.read_csv(TABLE)
    table = table[
        (table["chapter"] == chapter) & (table["stands_on"] == stands_on)
    ]
    return {
        variant.name: [
            (chapter, stands_on, claim, variant.name, value)
            for claim, value in zip(
                table["claim"], table[variant.name], strict=True
            )
        ]
        for variant in variants_of(chapter)
        if variant.name in table and table[variant.name].notna().any()
    }


def _number(value: str | None) -> float:
    """NaN for what was too noisy; infinity, which nothing holds, for NaN."""
    number = np.nan if value is None else float(value)
    return np.inf if value is not None and np.isnan(number) else number


def ranges() -> pd.DataFrame:
    """The range of every claim of the book's last run."""
    rows = []
    for chapter in chapters():
        path = EXECUTED / f"{chapter}.ipynb"
        if path.is_file():
            found = claims_of(nbformat.read(path, as_version=4))
            rows += [(chapter, c.name, c.low, c.high) for c in found]
    return pd.DataFrame(rows, columns=["chapter", "claim", "low", "high"])


def distance(values: np.ndarray, low: float, high: float) -> float:
    """Standard deviations from the mean to the nearest end of the range.

    Infinite where all runs gave one value that lies in the range; negative
    where the mean lies outside; minus infinity where a value is not finite.
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all():
        return -np.inf
    room = min(values.mean() - low, high - values.mean())
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    if spread == 0:
        return np.inf if room >= 0 else -np.inf
    return room / spread


def summarised(values: pd.DataFrame, ends: pd.DataFrame) -> pd.DataFrame:
    """The table: range, mean, sd, distance, misses, and the single values."""
    wide = values.pivot(
        index=["chapter", "claim"], columns="variant", values="value"
    )
    stood = values.groupby("chapter")["stands_on"].last()
    order = [v.name for v in VARIANTS if v.name in wide.columns]
    rows = []
    for claim in ends.itertuples(index=False):
        place = (claim.chapter, claim.claim)
        if place not in wide.index:
            continue
        single = wide.loc[place, order]
        kept = single.dropna().to_numpy(dtype=float)
        held = (kept >= claim.low) & (kept <= claim.high) & np.isfinite(kept)
        rows.append(
            {
                **claim._asdict(),
                "stands_on": stood[claim.chapter],
                "mean": kept.mean() if len(kept) else np.nan,
                "sd": kept.std(ddof=1) if len(kept) > 1 else np.nan,
                "distance": distance(kept, claim.low, claim.high)
                if len(kept) >= FEWEST
                else np.nan,
                "missed": int((~held).sum()),
                "runs": len(kept),
                **single.to_dict(),
            }
        )
    return pd.DataFrame(rows)


def stability_page(table: Path = TABLE) -> str:
    """The page of the site that shows the table."""
    found = pd.read_csv(table)
    sampled = found[np.isfinite(found["distance"])]
    missed = int(found["missed"].sum())
    page = [
        "# How far can these numbers be trusted?",
        "",
        "Every machine that runs this book computes other numbers: another",
        "processor adds in another order, and a network trained there is",
        "another network.",
        "So the chapters are also run in other ways, listed below, and their",
        "claims measured again; the last column of a table counts the runs.",
        "",
        f"**{len(found)} claims, {int(found['runs'].sum()):,} measurements, "
        f"{missed} outside the claimed range.**",
        *nearest_in_words(sampled),
        "A range should end at least "
        f"{LEAST_SD} standard deviations from the mean of the runs; "
        f"{int((sampled['distance'] < LEAST_SD).sum())} do not.",
        "",
        "## What was varied",
        "",
        variants_html([v for v in VARIANTS if v.name in found]),
        "",
        "The seed is that of the chapter; the victim is the LeNet on MNIST,",
        "either the embedded one or one retrained with another seed.",
        "The arena, which takes minutes on all cores, is run in at most the",
        f"first {len(FEW)} of these ways.",
        "`make stability` measures all of it anew and keeps what is finished.",
        "The single values lie in `benchmarks/stability.csv`.",
        "",
        "## Every claim",
        "",
        "Mean and standard deviation (sd) are over the runs; the distance is",
        "that from the mean to the nearest end of the range, in standard",
        "deviations.",
        "A dash stands where all runs gave one value, or where there are too",
        "few of them.",
    ]
    for chapter, rows in found.groupby("chapter", sort=False):
        page += ["", f"### [{chapter}]({chapter}.ipynb)", ""]
        page += [f"{SCROLLS}{rows_html(rows)}</div>"]
    return "\n".join(page) + "\n"


def nearest_in_words(sampled: pd.DataFrame) -> list[str]:
    """Which claim comes nearest to the end of its range, and how near."""
    if sampled.empty:
        return [
            f"Fewer than {FEWEST} runs say nothing about a spread, so that",
            "distances are left out.",
        ]
    nearest = sampled.loc[sampled["distance"].idxmin()]
    return [
        f"Of {len(sampled)} claims whose values vary, the one nearest to the",
        f"end of its range is “{nearest.claim}” of {nearest.chapter}, "
        f"{nearest.distance:.1f} standard deviations away.",
    ]


def variants_html(variants: list[Variant]) -> str:
    """The variants as a table."""
    rows = [
        (
            variant.seed,
            "embedded"
            if variant.victim is None
            else f"retrained, seed {variant.victim}",
            " ".join(
                f"{key}={value}"
                for key, value in ARITHMETIC[variant.arithmetic].items()
            )
            or "as the processor likes it",
        )
        for variant in variants
    ]
    frame = pd.DataFrame(rows, columns=["seed", "victim", "arithmetic"])
    table = frame.to_html(index=False, border=0)
    return f"{SCROLLS}{table}</div>"


def rows_html(rows: pd.DataFrame) -> str:
    """The claims of one chapter as a table."""
    spread = rows["sd"].map(lambda sd: f"{sd:.2g}" if sd > 0 else "–")
    far = rows["distance"].map(lambda d: f"{d:.1f}" if np.isfinite(d) else "–")
    frame = pd.DataFrame(
        {
            "claim": rows["claim"],
            "accepted": [
                range_in_words(row.low, row.high) for row in rows.itertuples()
            ],
            "mean": rows["mean"].map("{:.4g}".format),
            "sd": spread,
            "distance (sd)": far,
            "missed": [f"{r.missed} of {r.runs}" for r in rows.itertuples()],
        }
    )
    return frame.to_html(index=False, border=0)


def main() -> int:
    """Measure what is wanted, write the table; 1 where a run broke off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter", nargs="*", help="as attacks/stealml")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--variants", nargs="*", metavar="NAME")
    options = parser.parse_args()
    unknown = sorted(set(options.chapter) - set(chapters()))
    if unknown:
        parser.error(f"no chapter {unknown}; there are {chapters()}")
    names = [variant.name for variant in VARIANTS]
    unknown = sorted(set(options.variants or []) - set(names))
    if unknown:
        parser.error(f"no variant {unknown}; there are {names}")
    wanted = {
        chapter: [
            variant
            for variant in variants_of(chapter)
            if options.variants is None or variant.name in options.variants
        ]
        for chapter in options.chapter or chapters()
    }
    together = {n: v for n, v in wanted.items() if n not in ALONE}
    alone = {n: v for n, v in wanted.items() if n in ALONE}
    values, broken = measure(together, options.jobs)
    more, also = measure(alone, 1)
    values, broken = pd.concat([values, more]), broken + also
    for line in broken:
        print(f"BROKE OFF {line}", file=sys.stderr)
    table = summarised(values, ranges())
    if options.chapter or options.variants is not None:
        print(table.to_string())
        return int(bool(broken))
    table.to_csv(TABLE, index=False)
    close = table[~(table["distance"] >= LEAST_SD) | (table["missed"] > 0)]
    print(f"{len(table)} claims in {TABLE.relative_to(ROOT)}")
    if len(close):
        print(f"nearer than {LEAST_SD} sd, or missed:")
        print(close.iloc[:, :8].to_string(index=False))
    return int(bool(broken) or len(close) > 0)


if __name__ == "__main__":
    # As a module that a worker process finds again.
    import stability

    sys.exit(stability.main())
