"""Every chapter runs without error, and what runs them can be trusted."""

import re
import sys

import build_site
import pytest
import run_chapters
from conftest import ROOT
from run_chapters import ChapterFailed, fingerprint, record, run

CHAPTERS = run_chapters.chapters()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What a run sets for its kernels ends with the test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CI", "1")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs(chapter):
    last = record(chapter)
    if last.get("fingerprint") == fingerprint(chapter) and last["error"]:
        pytest.fail(last["error"], pytrace=False)
    try:
        run(chapter)
    except ChapterFailed as error:
        pytest.fail(str(error), pytrace=False)


# --- the contents ---------------------------------------------------------


def listed_files():
    """Every page that the table of contents lists."""
    text = (ROOT / "_toc.yml").read_text()
    return re.findall(r"^\s*(?:- file|root): (\S+)", text, re.MULTILINE)


def test_the_contents_list_every_page_once_and_no_other():
    book = ROOT / "book"
    pages = [
        path.relative_to(book).with_suffix("").as_posix()
        for path in [*book.rglob("*.py"), *book.rglob("*.md")]
        if ".ipynb_checkpoints" not in path.parts
    ]
    built = ["scoreboard"]  # from the claims, with the site
    assert sorted(listed_files()) == sorted(pages + built)


# --- what runs the chapters, on a book of its own --------------------------

FINE = """# %% [markdown]
# # A fine chapter

# %%
from pathlib import Path
print("ran in", Path.cwd().name)
"""
FAILING = """# %% [markdown]
# # A failing chapter

# %%
value = 1

# %%
# This divides.
value / 0
"""
CLAIMING = """# %% [markdown]
# # A claiming chapter

# %%
from mexutils import Claims

claims = Claims()
claims.add("at least", 3, low=2, paper="4")
claims.add("at most", 0.25, high=1)
claims.add("between", 31, low=31, high=31)
claims.check()
"""
LOADING = """# %%
from mexutils import load_chapter

fine = load_chapter("part/fine")
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """An empty book, whose runs land beside it."""
    folder, executed = tmp_path / "book", tmp_path / "executed"
    (folder / "part").mkdir(parents=True)
    for tool in (run_chapters, build_site):
        monkeypatch.setattr(tool, "BOOK", folder)
        monkeypatch.setattr(tool, "EXECUTED", executed)
    return folder


@pytest.fixture
def never_executed(monkeypatch):
    """Call it, and every later execution fails the test."""

    def refuse(*_):
        raise AssertionError("a fresh chapter was run again")

    return lambda: monkeypatch.setattr(run_chapters, "_execute", refuse)


def main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run_chapters.py", *arguments])
    return run_chapters.main()


def test_a_failing_chapter_names_cell_and_error_and_stops_the_site(
    book, monkeypatch, capsys
):
    (book / "part" / "fine.py").write_text(FINE)
    (book / "side").mkdir()
    (book / "side" / "also.py").write_text(FINE)
    (book / "failing.py").write_text(FAILING)
    assert main(monkeypatch, "--jobs", "3") == 1
    said = capsys.readouterr()
    assert "part/fine: " in said.out and "side/also: " in said.out
    assert "1 of 3 chapters failed" in said.err
    error = record("failing")["error"]
    assert error in said.err
    head, *rest = error.splitlines()
    assert head == (
        "book/failing.py, cell 2: ZeroDivisionError: division by zero"
    )
    assert rest[:2] == ["    # This divides.", "    value / 0"]
    for name in ("part/fine", "side/also"):
        notebook = (run_chapters.EXECUTED / f"{name}.ipynb").read_text()
        assert f"ran in {name[:4]}" in notebook

    monkeypatch.setattr(build_site, "gather", lambda: pytest.fail("built"))
    assert build_site.main() == 1
    assert "no site without a faultless run of failing:" in (
        capsys.readouterr().err
    )
    with pytest.raises(ChapterFailed, match=r"failing.py, cell 2: Zero"):
        run("failing")


def test_a_fresh_chapter_is_not_run_again(book, never_executed):
    (book / "fine.py").write_text(FINE)
    first = run("fine")
    assert first["error"] is None
    assert first["fingerprint"] == fingerprint("fine")
    never_executed()
    assert run("fine") == first
    with pytest.raises(AssertionError, match="run again"):
        run("fine", again=True)


@pytest.fixture
def loading_book(book):
    (book / "part" / "fine.py").write_text(FINE)
    (book / "other.py").write_text(FINE)
    (book / "loading.py").write_text(LOADING)
    return book


@pytest.mark.parametrize("changed", ["loading.py", "part/fine.py"])
def test_a_change_to_a_chapter_or_one_it_loads_makes_it_stale(
    loading_book, changed
):
    before = fingerprint("loading")
    path = loading_book / changed
    path.write_text(path.read_text() + "\n# %%\n")
    assert fingerprint("loading") != before


def test_a_change_to_another_chapter_does_not_make_it_stale(loading_book):
    before = fingerprint("loading")
    (loading_book / "other.py").write_text(FAILING)
    assert fingerprint("loading") == before


def test_a_change_to_the_helpers_makes_every_chapter_stale(
    book, tmp_path, monkeypatch
):
    (book / "fine.py").write_text(FINE)
    monkeypatch.setattr(run_chapters, "ROOT", tmp_path)
    (tmp_path / "mexutils").mkdir()
    helper = tmp_path / "mexutils" / "api.py"
    helper.write_text("ONE = 1\n")
    before = fingerprint("fine")
    helper.write_text("ONE = 2\n")
    assert fingerprint("fine") != before


def test_an_unknown_chapter_is_refused(book, monkeypatch, capsys):
    (book / "fine.py").write_text(FINE)
    with pytest.raises(SystemExit):
        main(monkeypatch, "fin")
    assert "no chapter {'fin'}; there are ['fine']" in capsys.readouterr().err


def test_the_scoreboard_shows_the_claims_of_the_run(book):
    (book / "claiming.py").write_text(CLAIMING)
    run("claiming")
    page = build_site.scoreboard()
    assert "## [A claiming chapter](claiming.ipynb)" in page
    text = re.sub(r"<[^>]+>|\n", " ", page)
    rows = " ".join(text.split())
    assert "at least 4 3 ≥ 2 yes" in rows
    assert "at most – 0.25 ≤ 1 yes" in rows
    assert "between – 31 = 31 yes" in rows
