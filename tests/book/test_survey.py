"""The survey's sentences: each tested or excused, and judged by the run."""

import re

import pytest
import run_chapters
import survey
import yaml
from conftest import ROOT
from html_tables import SCROLLS
from survey import (
    HOLDS,
    NOT_HERE,
    OPEN,
    PARTLY,
    REFUTED,
    VERDICTS,
    judged,
    sentences,
    verdict,
)

from mexutils.claims import Claim

FOUND = sentences()
CITED = sorted({e.chapter for s in FOUND for e in s.evidence})


# --- the list --------------------------------------------------------------


def test_the_list_is_long_and_reaches_every_part_of_the_survey():
    assert len(FOUND) >= 60
    places = " | ".join(sentence.place for sentence in FOUND)
    tables = ("Table 1", "Table 2", "Table 3", "Fig. 2", "Fig. 3")
    assert [place for place in tables if place not in places] == []


def test_every_row_of_the_survey_s_tables_is_there():
    """Table 1 has 5 rows, Table 2 and Table 3 have 6 of 3 columns each."""
    for table, least in (("Table 1", 5), ("Table 2", 18), ("Table 3", 18)):
        cells = [s for s in FOUND if table in s.place]
        assert len(cells) >= least, table


def test_the_verdicts_are_not_typed():
    text = survey.LIST.read_text()
    words = ("verdict", REFUTED, PARTLY, "not testable")
    entries = text.partition("\n\n")[2]  # without the head
    assert [word for word in words if word in entries] == []
    for rows in yaml.safe_load(text).values():
        for row in rows:
            assert set(row) <= {
                *("says", "place", "for", "against", "note", "reason"),
                "chapter",
            }


def test_an_entry_without_a_claim_has_a_reason():
    silent = [s for s in FOUND if not s.evidence]
    assert silent and all(len(s.reason) > 15 for s in silent)
    assert not any(s.reason for s in FOUND if s.evidence)


def test_every_named_chapter_is_a_chapter():
    named = {*CITED, *(s.chapter for s in FOUND if s.chapter)}
    assert named <= set(run_chapters.chapters())


@pytest.fixture(scope="module")
def run():
    """The claims of the last run of the book."""
    return survey.claims_of_run()


@pytest.mark.parametrize("chapter", CITED)
def test_every_named_claim_is_made_by_the_run(chapter, run):
    made = {name for where, name in run if where == chapter}
    if not made:
        pytest.skip(f"no run of {chapter}: make book first")
    wanted = {
        e.claim for s in FOUND for e in s.evidence if e.chapter == chapter
    }
    assert sorted(wanted - made) == []


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("{says: a, place: b}", "either claims or the reason"),
        (
            "{says: a, place: b, reason: c, for: {d: [e]}}",
            "either claims or the reason",
        ),
        ("{says: a, place: b, against: {d: [e]}}", "needs a note"),
        ("{says: a, place: b, for: {d: [{claim: e, low: 1}]}}", "a note"),
        (
            "{says: a, place: b, note: n, against: {d: [{claim: e, low: 1}]}}",
            "list it under for",
        ),
        (
            "{says: a, place: b, for: {d: [e]}, chapter: f}",
            "beside those of its claims",
        ),
        ("{says: a, place: b, verdict: holds, reason: c}", "verdict"),
        ("{says: a, reason: c}", "place"),
        ("{says: a, place: b, for: {d: [{name: e}]}}", "name"),
        ("{says: a, place: b, for: [e]}", "items"),
    ],
)
def test_a_bad_entry_is_refused(entry, fault, tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "LIST", tmp_path / "survey.yml")
    survey.LIST.write_text(f"Part:\n  - {entry}\n")
    with pytest.raises(ValueError, match=fault) as error:
        sentences()
    assert "survey.yml" in str(error.value)


def test_a_sentence_stands_there_once(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "LIST", tmp_path / "survey.yml")
    survey.LIST.write_text("P:\n" + 2 * "  - {says: a, place: b, reason: c}\n")
    with pytest.raises(ValueError, match="a stands there twice"):
        sentences()


# --- the rules, on claims that are made up ---------------------------------

HELD = Claim("held", 3.0, 2.0, 4.0)
ALSO = Claim("also", 0.0, 0.0, 0.0)
MISSED = Claim("missed", 5.0, 2.0, 4.0)
NAN = Claim("nan", float("nan"), 2.0, 4.0)
NOISY = Claim("noisy", 3.0, 2.0, 4.0, noisy=True)
RUN = {("c", claim.name): claim for claim in (HELD, ALSO, MISSED, NAN, NOISY)}
RUN["other", "elsewhere"] = Claim("elsewhere", 3.0, 2.0, 4.0)


def written(text, tmp_path, monkeypatch):
    """The one sentence of a list."""
    monkeypatch.setattr(survey, "LIST", tmp_path / "survey.yml")
    survey.LIST.write_text(
        f"Part:\n  - {{says: a, place: b, note: n, {text}}}\n"
    )
    (found,) = sentences()
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("for: {c: [held]}", HOLDS),
        ("for: {c: [held, also]}", HOLDS),
        ("against: {c: [held]}", REFUTED),
        ("against: {c: [held, also]}", REFUTED),
        ("for: {c: [held]}, against: {c: [also]}", PARTLY),
        ("reason: none here", NOT_HERE),
        # What decides nothing keeps all of the entry open.
        ("for: {c: [missed]}", OPEN),
        ("against: {c: [missed]}", OPEN),
        ("for: {c: [nan]}", OPEN),
        ("for: {c: [noisy]}", OPEN),
        ("for: {c: [absent]}", OPEN),
        ("for: {c: [elsewhere]}", OPEN),
        ("for: {c: [held, noisy]}", OPEN),
        ("for: {c: [held]}, against: {c: [absent]}", OPEN),
        # The sentence's own ends, both of them included.
        ("for: {c: [{claim: held, low: 3}]}", HOLDS),
        ("for: {c: [{claim: held, high: 3}]}", HOLDS),
        ("for: {c: [{claim: held, low: 3.1}]}", REFUTED),
        ("for: {c: [{claim: held, high: 2.9}]}", REFUTED),
        ("for: {c: [{claim: also, low: 0, high: 0}]}", HOLDS),
        ("for: {c: [also, {claim: held, low: 20}]}", PARTLY),
        ("for: {c: [{claim: missed, low: 4}]}", OPEN),
        ("for: {c: [{claim: noisy, low: 3}]}", OPEN),
    ],
)
def test_a_verdict_follows_from_the_claims(
    text, expected, tmp_path, monkeypatch
):
    assert verdict(written(text, tmp_path, monkeypatch), RUN) == expected


# --- the page --------------------------------------------------------------


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "LIST", tmp_path / "survey.yml")
    survey.LIST.write_text(
        "One:\n"
        "  - {says: 1 < 2, place: Table 9, for: {setting: [held]}}\n"
        "  - {says: b, place: p, note: why, for: {setting: [noisy]},\n"
        "     against: {setting: [missed, absent]}}\n"
        "Two:\n"
        "  - {says: c, place: p, note: large, for:\n"
        "      {setting: [{claim: held, low: 20}]}}\n"
        "  - {says: d, place: p, reason: not here, chapter: defenses/bdpl}\n"
    )
    run = {("setting", claim.name): claim for _, claim in RUN.items()}
    monkeypatch.setattr(survey, "claims_of_run", lambda: run)
    return judged((ROOT / "book" / "survey.md").read_text())


def test_the_page_counts_and_shows_every_verdict(page):
    assert "<!--" not in page
    assert (
        "**4 sentences: holds 1, holds partly 0, refuted 1, open 1, "
        "not testable here 1.**"
    ) in page
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert (
        "1 &lt; 2 Table 9 holds Setting – held: 3 (accepted 2 to 4), for"
        in text
    )
    assert "– noisy: 3 (accepted 2 to 4), too noisy, undecided" in text
    assert "– missed: 5 (accepted 2 to 4), missed, undecided" in text
    assert "– absent: not in this run, undecided why " in text
    assert "– held: 3 (the sentence ≥ 20), against it" in text
    assert "d p not testable here not here BDPL" in text
    assert "all 1 0 1 1 1" in text
    assert [f"## {part}" in page for part in ("One", "Two")] == [True, True]
    assert '<a href="defenses/bdpl.html">' in page


def test_a_table_scrolls_on_a_phone_and_is_one_piece_of_html(page):
    tables = re.findall(r"^<div .*?</div>$", page, re.M | re.S)
    assert len(tables) == 3 == page.count("<table")
    for table in tables:
        assert table.startswith(SCROLLS) and "\n\n" not in table


def test_another_page_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(survey, "claims_of_run", lambda: pytest.fail("read"))
    assert judged("# A page\n") == "# A page\n"


def test_the_book_s_own_page_has_every_sentence(run, monkeypatch):
    monkeypatch.setattr(survey, "claims_of_run", lambda: run)
    text = judged((ROOT / "book" / "survey.md").read_text())
    assert text.count("<tr><td") == len(FOUND) + 1 + len(
        {sentence.part for sentence in FOUND}
    )
    assert set(re.findall(r"<td[^>]*><b>(\w[\w ]+)</b></td>", text)) <= set(
        VERDICTS
    )
