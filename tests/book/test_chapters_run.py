"""Every chapter runs without error, and what runs them can be trusted."""

import re
import sys

import build_site
import nbformat
import pytest
import run_chapters
from conftest import ROOT
from run_chapters import ChapterFailed, is_fresh, record, run, run_key

from mexutils import chapters

CHAPTERS = run_chapters.chapters()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What a run sets for its kernels ends with the test."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CI", "1")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter_runs(chapter):
    last = record(chapter)
    if is_fresh(chapter) and last["error"]:
        pytest.fail(last["error"], pytrace=False)
    try:
        missed = run(chapter)["missed"]
    except ChapterFailed as error:
        pytest.fail(str(error), pytrace=False)
    if missed:
        pytest.fail(f"claims missed: {'; '.join(missed)}", pytrace=False)


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
        and not path.name.startswith("_")  # the template
    ]
    built = ["scoreboard", "stability"]  # with the site
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


@pytest.fixture
def book(tmp_path, monkeypatch):
    """An empty book, whose runs land beside it."""
    folder, executed = tmp_path / "book", tmp_path / "executed"
    (folder / "part").mkdir(parents=True)
    for tool in (run_chapters, build_site):
        monkeypatch.setattr(tool, "BOOK", folder)
        monkeypatch.setattr(tool, "EXECUTED", executed)
    monkeypatch.setattr(build_site, "SOURCE", tmp_path / "source")
    monkeypatch.setattr(build_site, "stability_page", lambda: "# Stability")
    monkeypatch.setattr(chapters, "book_dir", lambda: folder)
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
    assert "1 of 3 chapters failed" in said.out
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

    with pytest.raises(ChapterFailed, match=r"failing.py, cell 2: Zero"):
        run("failing")


def test_a_chapter_that_broke_off_shows_how_far_it_got(book):
    (book / "failing.py").write_text(FAILING.replace("value = 1", "5 + 4"))
    with pytest.raises(ChapterFailed):
        run("failing")
    build_site.gather()
    page = nbformat.read(build_site.SOURCE / "failing.ipynb", as_version=4)
    title, first, *_ = page.cells
    assert title.source.startswith("# A failing chapter\n")
    assert "This chapter broke off" in title.source
    assert "cell 2: NameError: name 'value' is not defined" in title.source
    assert [o.data["text/plain"] for o in first.outputs] == ["9"]
    assert "papermill-error" not in nbformat.writes(page)
    assert "broke off before the end" in build_site.scoreboard()
    assert build_site.verdict() == (
        "0 of 0 claims missed; 1 of 1 chapters broke off (failing). The site "
        "shows it; make test fails until it is mended"
    )


def test_a_missed_claim_is_counted_and_shown(book, monkeypatch, capsys):
    missing = CLAIMING.replace("low=2", "low=4")
    (book / "missing.py").write_text(missing + "\n# %%\nprint('went on')\n")
    (book / "claiming.py").write_text(CLAIMING)
    assert main(monkeypatch) == 1
    fault = "at least: 3 is not in ≥ 4"
    assert f"MISSED in missing: {fault}" in capsys.readouterr().err
    assert record("missing")["missed"] == [fault]
    assert run("missing")["error"] is None  # a result, kept like any other
    build_site.gather()
    page = (build_site.SOURCE / "missing.ipynb").read_text()
    assert "went on" in page and "Claims missed in this run: 1" in page
    board = build_site.scoreboard()
    assert board.count('<tr class="missed"') == 1
    assert "**6 claims, 1 missed.**" in board
    assert build_site.verdict() == (
        "1 of 6 claims missed (1 in missing); 0 of 2 chapters broke off. The "
        "site shows it; make test fails until it is mended"
    )


def test_a_figure_is_kept_whatever_draws_elsewhere(book, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # as the tests have it
    drawing = (
        "import matplotlib.pyplot as plt\n\nplt.plot([1, 2])\nplt.show()\n"
    )
    (book / "drawing.py").write_text(f"{FINE}\n# %%\n{drawing}")
    run("drawing")
    notebook = nbformat.read(
        run_chapters.EXECUTED / "drawing.ipynb", as_version=4
    )
    shown = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in shown)


def test_new_prose_is_put_around_the_last_outputs(book, never_executed):
    path = book / "fine.py"
    path.write_text(FINE + "\n# %%\n# Why so.\n7 * 6\n")
    first = run("fine")
    never_executed()
    changed = path.read_text()
    changed = changed.replace("A fine chapter", "A finer chapter")
    path.write_text(changed.replace("# Why so.", "# For a better reason."))
    again = run("fine")
    assert again == first | {"text": again["text"]}
    notebook = nbformat.read(
        run_chapters.EXECUTED / "fine.ipynb", as_version=4
    )
    assert notebook.cells[0].source == "# A finer chapter"
    last = notebook.cells[-1]
    assert last.source == "# For a better reason.\n7 * 6"
    assert last.outputs[0].data["text/plain"] == "42"
    path.write_text(path.read_text().replace("7 * 6", "7 * 7"))
    with pytest.raises(AssertionError, match="run again"):
        run("fine")


def test_another_victim_makes_a_run_stale(book, monkeypatch):
    (book / "fine.py").write_text(FINE)
    before = run_key("fine")
    monkeypatch.setenv("MEXUTILS_VICTIM_SEED", "3")
    assert run_key("fine") != before


def test_a_fresh_chapter_is_not_run_again(book, never_executed):
    (book / "fine.py").write_text(FINE)
    first = run("fine")
    assert first["error"] is None
    assert first["key"] == run_key("fine")
    never_executed()
    assert run("fine") == first
    with pytest.raises(AssertionError, match="run again"):
        run("fine", again=True)


def test_a_run_that_is_killed_leaves_the_last_result(book, monkeypatch):
    (book / "fine.py").write_text(FINE)
    before = run("fine")
    notebook = run_chapters.EXECUTED / "fine.ipynb"
    text = notebook.read_text()

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_chapters.papermill, "execute_notebook", killed)
    with pytest.raises(KeyboardInterrupt):
        run("fine", again=True)
    assert (record("fine"), notebook.read_text()) == (before, text)


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


def test_a_site_stands_on_its_pages(book, monkeypatch, tmp_path):
    monkeypatch.setattr(build_site, "BUILT", tmp_path / "html.key")
    (book / "part" / "fine.py").write_text(FINE)
    assert main(monkeypatch) == 0
    build_site.gather()
    key = build_site.stands_on()
    assert not build_site.is_built_from(key)
    build_site.BUILT.write_text(key)
    build_site.gather()  # the same pages anew
    assert build_site.is_built_from(build_site.stands_on())
    (book / "page.md").write_text("# A new page\n")
    build_site.gather()
    assert not build_site.is_built_from(build_site.stands_on())
