"""The list of techniques: complete, and read by the pages."""

import nbformat
import pytest
import run_chapters
import techniques
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from techniques import filled, minutes

CHAPTERS = [c for c in run_chapters.chapters() if c != "setting"]
PLACES = {
    "book/techniques.yml": lambda c: c in NAMED,
    "_toc.yml": lambda c: f"- file: {c}\n" in (ROOT / "_toc.yml").read_text(),
    "tests/techniques": lambda c: (
        ROOT / "tests" / "techniques" / f"test_{c[c.index('/') + 1 :]}.py"
    ).is_file(),
}
NAMED = [technique.chapter for technique in techniques.techniques()]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_stands_wherever_it_must(chapter, place):
    assert PLACES[place](chapter), f"{chapter} is missing in {place}"


def test_the_list_names_no_chapter_that_there_is_not():
    assert sorted(NAMED) == CHAPTERS


def test_the_list_has_the_order_of_the_contents():
    contents = (ROOT / "_toc.yml").read_text()
    places = [contents.index(f"- file: {chapter}\n") for chapter in NAMED]
    assert places == sorted(places)


def test_a_part_is_a_part_of_the_list():
    attacks = techniques.techniques("attacks")
    assert {t.part for t in attacks} == {"attacks"}
    assert len(techniques.techniques(*techniques.PARTS)) == len(NAMED)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- chapter: a/b\n  name: B\n", "no entry with the fields chapter"),
        ("- chapter: a/b\n  nam: B\n  about: c\n", "no entry with the fields"),
        ("- one\n", "'one' is no entry|one is no entry"),
        (
            2 * "- {chapter: a/b, name: B, about: c}\n",
            "a/b stands there twice",
        ),
    ],
)
def test_a_bad_list_is_refused(text, error, tmp_path, monkeypatch):
    path = tmp_path / "techniques.yml"
    path.write_text(text)
    monkeypatch.setattr(techniques, "LIST", path)
    with pytest.raises(ValueError, match=error):
        techniques.techniques()


def test_links_lead_from_the_page_to_the_chapter():
    ask = "before\n<!-- techniques: map defenses -->\nafter"
    for page, link in (
        ("intro", "](defenses/bdpl.ipynb)"),
        ("defenses/index", "](bdpl.ipynb)"),
        ("comparison/arena", "](../defenses/bdpl.ipynb)"),
    ):
        text = filled(ask, page)
        assert link in text
        lines = text.splitlines()
        assert (lines[0], lines[-1]) == ("before", "after")
        widths = {line.count(" |") for line in lines[1:-1]}
        assert widths == {2}  # a table of two columns, wherever it is read


@pytest.mark.parametrize("asked", ["maps attacks", "map", "map attack"])
def test_an_unknown_table_is_refused(asked):
    with pytest.raises(ValueError, match="page: .* no table that there is"):
        filled(f"<!-- techniques: {asked} -->", "page")


def test_minutes_count_prose_and_visible_code():
    hidden = new_code_cell("x\n" * 3000, metadata={"tags": ["hide-input"]})
    cells = [
        new_markdown_cell("word " * 2000),
        new_code_cell("\n".join("x" * 75)),
        hidden,
    ]
    notebook = new_notebook(cells=cells)
    assert minutes(notebook, 29) == (
        "About 15 minutes to read; this run took less than a minute."
    )
    notebook.cells[0].source *= 2
    assert minutes(notebook, 160) == (
        "About 25 minutes to read; this run took 3 minutes."
    )


def test_every_page_s_tables_are_filled():
    source = ROOT / "_build" / "source"
    assert (source / "intro.md").is_file(), "no site: make book first"
    for page in source.rglob("*.md"):
        assert "<!--" not in page.read_text()
    for page in source.rglob("*.ipynb"):
        for cell in nbformat.read(page, 4).cells:
            if cell.cell_type == "markdown":
                assert "<!--" not in cell.source
