"""How far the claims move under other seeds, victims and arithmetic."""

import sys

import numpy as np
import pandas as pd
import pytest
import run_chapters
import stability
from stability import LEAST_SD, TABLE, distance, summarised

CHAPTERS = run_chapters.chapters()
REBUILT = {
    "comparison/arena",
    "comparison/attack_comparison",
    "comparison/collusion",
    "comparison/contestants",
    "comparison/defense_comparison",
    "comparison/joint_track",
    "defenses/bdpl",
    "defenses/deceptive_perturbations",
    "defenses/extraction_warning",
    "defenses/forgotten_siblings",
    "defenses/prada_detection",
    "defenses/prediction_poisoning",
    "frontier/exact_copies",
    "frontier/few_labels",
    "frontier/language_models",
    "frontier/model_guard",
    "frontier/no_data",
    "frontier/ownership",
    "frontier/priced_queries",
    "frontier/private_head",
    "practice/audit",
    "practice/on_the_wire",
}
"""Chapters of which not all variants are measured yet."""


# --- the claims of the book, against the table -----------------------------


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(TABLE)


def measured_in(table):
    """The variants that the table holds values of."""
    return [v.name for v in stability.VARIANTS if v.name in table]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_claim_stands_in_the_table(chapter, table):
    ends = stability.ranges()
    ends = ends[ends["chapter"] == chapter]
    assert len(ends), f"no run of {chapter}: make book first"
    rows = table[table["chapter"] == chapter].set_index("claim")
    assert sorted(ends["claim"]) == sorted(rows.index)
    for claim in ends.itertuples(index=False):
        row = rows.loc[claim.claim]
        assert (row["low"], row["high"]) == pytest.approx(
            (claim.low, claim.high)
        ), f"{claim.claim}: the table has another range: make stability"
        # A run on a machine too busy for a time leaves its place empty.
        assert row["runs"] == row[measured_in(table)].notna().sum()
    if chapter in REBUILT:
        assert rows["runs"].min() >= 1
        return
    # So may a time be missing, but never most claims of a variant.
    assert rows["runs"].median() == len(stability.variants_of(chapter))
    assert rows["runs"].min() >= stability.FEWEST


@pytest.mark.parametrize("chapter", sorted(REBUILT & set(CHAPTERS)))
def test_a_chapter_that_is_measured_leaves_the_list(chapter, table):
    runs = table.loc[table["chapter"] == chapter, "runs"]
    assert runs.median() < len(stability.variants_of(chapter))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_claim_lies_well_inside_its_range(chapter, table):
    close = {}
    for row in table[table["chapter"] == chapter].to_dict("records"):
        values = [row[name] for name in measured_in(table)]
        values = np.array(values, dtype=float)
        values = values[~np.isnan(values)]
        inside = (values >= row["low"]) & (values <= row["high"])
        assert inside.all(), row["claim"]
        far = distance(values, row["low"], row["high"])
        # A time that most machines were too busy for has no spread yet.
        if len(values) >= stability.FEWEST and not far >= LEAST_SD:
            close[row["claim"]] = far
    assert close == {}


# --- the variants ----------------------------------------------------------


def test_there_are_enough_variants_and_all_differ():
    variants = stability.VARIANTS
    assert len({variant.name for variant in variants}) == len(variants) >= 8
    for field, least in (("seed", 4), ("victim", 3), ("arithmetic", 3)):
        assert len({getattr(v, field) for v in variants}) >= least
    assert {v.arithmetic for v in variants} <= set(stability.ARITHMETIC)
    assert len(stability.FEW) >= 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--variants", "s7"], r"no variant \['s7'\]; there are \['s0-emb"),
        (["attacks/stealm"], r"no chapter \['attacks/stealm'\]; there are"),
    ],
)
def test_what_is_unknown_is_refused_before_anything_runs(
    words, error, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["stability.py", *words])
    monkeypatch.setattr(stability, "measure", lambda *_: pytest.fail("ran"))
    with pytest.raises(SystemExit):
        stability.main()
    assert pd.Series([capsys.readouterr().err]).str.contains(error).all()


CHAPTER = """# %% [markdown]
# # A chapter

# %% tags=["parameters"]
seed = 0

# %%
import os

from mexutils import Claims

claims = Claims()
claims.add("seed", seed, low=-1)
claims.add("victim", len(os.environ["MEXUTILS_VICTIM_SEED"]), low=-1)
claims.add("threads", int(os.environ["OMP_NUM_THREADS"]), low=-1)
claims.add("nothing", float("nan"), low=0)
claims.add("busy", 1, low=0, noisy=True)
claims.check()
"""


def test_a_variant_reaches_the_chapter(tmp_path, monkeypatch, own_cache):
    monkeypatch.setattr(stability, "BOOK", tmp_path)
    (tmp_path / "one.py").write_text(CHAPTER)
    variant = stability.Variant(300, 12, "nehalem2")
    found = stability.measured("one", "key", **variant._asdict())
    assert found["claims"] == {
        "seed": "300.0",
        "victim": "2.0",
        "threads": "2.0",
        "nothing": "nan",
        "busy": None,
    }


def test_a_run_that_broke_off_says_why(tmp_path, monkeypatch, own_cache):
    monkeypatch.setattr(stability, "BOOK", tmp_path)
    (tmp_path / "one.py").write_text(CHAPTER + "\n# %%\n1 / 0\n")
    variant = stability.Variant(0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        stability.measured("one", "key", **variant._asdict())


# --- the table -------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "low", "high", "expected"),
    [
        ([1, 2, 3], -2, np.inf, 4),
        ([1, 2, 3], -np.inf, 2.5, 0.5),
        ([1, 2, 3], 3, np.inf, -1),
        ([31, 31], 31, 31, np.inf),
        ([31, 31], 32, 40, -np.inf),
        ([5], 0, 10, np.inf),
        ([1, 2, np.inf], 0, np.inf, -np.inf),
    ],
)
def test_the_distance_is_that_to_the_nearest_end(values, low, high, expected):
    assert distance(np.array(values), low, high) == pytest.approx(expected)


def example():
    names = [variant.name for variant in stability.VARIANTS[:3]]
    values = pd.DataFrame(
        [
            ("a/b", "key", claim, name, value)
            for claim, three in {"x": (1, 2, 3), "y": (4, np.nan, 4)}.items()
            for name, value in zip(names, three, strict=True)
        ],
        columns=["chapter", "stands_on", "claim", "variant", "value"],
    )
    ends = pd.DataFrame(
        [("a/b", "x", -np.inf, 2.5), ("a/b", "y", 4, 4), ("c", "z", 0, 1)],
        columns=["chapter", "claim", "low", "high"],
    )
    return summarised(values, ends)


def test_the_table_counts_misses_and_leaves_out_what_was_too_noisy():
    first, second = example().to_dict("records")
    assert (first["claim"], first["mean"], first["sd"]) == ("x", 2, 1)
    assert (first["distance"], first["missed"], first["runs"]) == (0.5, 1, 3)
    assert first[stability.VARIANTS[2].name] == 3
    assert (second["claim"], second["missed"], second["runs"]) == ("y", 0, 2)
    assert np.isnan(second["distance"])  # two runs have no spread to speak of


def test_what_the_table_holds_is_not_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(stability, "TABLE", tmp_path / "stability.csv")
    assert stability.tabled("a/b", "key") == {}
    example().to_csv(stability.TABLE, index=False)
    known = stability.tabled("a/b", "key")
    assert list(known) == [v.name for v in stability.VARIANTS[:3]]
    name = stability.VARIANTS[0].name
    assert known[name] == [
        ("a/b", "key", "x", name, 1),
        ("a/b", "key", "y", name, 4),
    ]
    assert stability.tabled("a/b", "another key") == {}
    monkeypatch.setattr(stability, "measurement_key", lambda _: "key")
    monkeypatch.setattr(stability, "sweep", lambda cells, **_: list(cells))
    values, broken = stability.measure({"a/b": stability.VARIANTS[:3]}, 1)
    assert (len(values), broken) == (6, [])


def test_the_page_tells_what_was_varied_and_the_nearest_claim(tmp_path):
    path = tmp_path / "stability.csv"
    example().to_csv(path, index=False)
    page = stability.stability_page(path)
    assert "**2 claims, 5 measurements, 1 outside the claimed range.**" in page
    assert "“x” of a/b, 0.5 standard deviations" in page
    assert "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41" in page
    assert "≤ 2.5" in page and "1 of 3" in page
