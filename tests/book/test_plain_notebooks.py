"""The notebooks for download: nothing that only the site understands."""

import build_site
import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)
from plain_notebooks import captioned, joined, make_plain, reference
from pybtex.database import parse_file

BIBLIOGRAPHY = r"""
@inproceedings{one, author = {Tram{\`e}r, Florian and van der Berg, Jan},
  title = {A}, booktitle = {B}, year = {2016}, url = {https://example.com/a}}
@article{three, author = {{\'A}vila, A. and Li, B. and Wu, C.}, title = {C},
  journal = {D}, year = {2020}, doi = {10.1/2}}
"""


@pytest.fixture
def made(tmp_path):
    (tmp_path / "references.bib").write_text(BIBLIOGRAPHY)
    caption = {
        "figure": {"caption": "Errors, after {cite:t}`one`."},
        "image": {"alt": "Two lines & a < b."},
    }
    cells = [
        new_markdown_cell("See {cite:t}`one` and {cite:p}`three`."),
        new_markdown_cell(":::{admonition} Exercise 1\n:class: a\nDo.\n:::"),
        new_markdown_cell(
            ":::{list-table}\n:header-rows: 1\n\n"
            "* - A\n  - B\n* - c\n  - d\n:::"
        ),
        new_code_cell(
            "draw()",
            metadata={"mystnb": caption},
            outputs=[
                new_output("display_data", {"image/png": "cGljdHVyZQ=="})
            ],
        ),
        new_code_cell("x = 1", metadata={"tags": ["hide-cell"]}),
        new_code_cell("y = 2", metadata={"tags": ["remove-input"]}),
        new_code_cell("z = 3"),
    ]
    path = tmp_path / "one.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    make_plain(tmp_path, tmp_path / "references.bib")
    return nbformat.read(path, as_version=4).cells


def test_citations_become_links_with_every_letter_of_a_name(made):
    assert made[0].source == (
        "See [Tram\u00e8r and van der Berg (2016)](https://example.com/a) and "
        "([\u00c1vila et al., 2020](https://doi.org/10.1/2))."
    )


def test_callouts_become_quotations(made):
    assert made[1].source == "> **Exercise 1**\n>\n> Do."


def test_a_table_of_lists_becomes_one_of_pipes(made):
    assert made[2].source == "| A | B |\n| --- | --- |\n| c | d |"


def test_caption_and_description_stand_under_their_figure(made):
    assert made[3].source == "draw()"
    assert made[4].source == (
        "*Figure: Errors, after "
        "[Tram\u00e8r and van der Berg (2016)](https://example.com/a).*\n\n"
        "<details><summary>The figure in words</summary>"
        "Two lines &amp; a &lt; b.</details>"
    )
    picture = made[3].outputs[0].metadata["image/png"]
    assert picture == {"alt": "Two lines & a < b."}


def test_a_numbered_caption_keeps_its_number():
    figure = {"figure": {"caption": "Figure 3.2: Errors."}}
    cell = new_code_cell("draw()", metadata={"mystnb": figure})
    assert captioned(cell)[1].source == "*Figure 3.2: Errors.*"


def test_a_solution_has_a_title_in_colab(made):
    assert made[5].source == "# @title Solution\nx = 1"
    assert made[6].source == "y = 2"


def test_a_caption_belongs_to_the_picture_of_its_cell_alone():
    def shown(kind, value):
        return new_output("display_data", {kind: value})

    outputs = [
        shown("text/markdown", "before"),
        shown("image/png", "cGljdHVyZQ=="),
        shown("text/html", "a table"),
        shown("text/markdown", "after"),
    ]
    figure = {"figure": {"caption": "A."}, "image": {"alt": "a"}}
    whole = new_code_cell(
        "draw()",
        outputs=outputs,
        execution_count=3,
        metadata={"tags": ["hide-input"], "mystnb": figure},
    )
    cells = [new_code_cell("1"), whole]
    parts = build_site.with_figures_apart(new_notebook(cells=cells)).cells
    assert [len(part.outputs) for part in parts] == [0, 1, 1, 2]
    assert [part.source for part in parts] == ["1", "draw()", "#", "#"]
    assert ["mystnb" in part.metadata for part in parts] == [
        *(False, False, True, False)
    ]
    hidden = [part.metadata.get("tags") for part in parts]
    assert hidden == [None, ["hide-input"], *2 * [["remove-input"]]]
    assert len({part.id for part in parts}) == 4
    assert joined(parts) == cells


def test_what_the_site_folds_is_folded(made):
    solution, sentence, shown = (cell.metadata for cell in made[5:])
    assert solution["jupyter"] == {
        "source_hidden": True,
        "outputs_hidden": True,
    }
    assert sentence["jupyter"] == {"source_hidden": True}
    assert solution["cellView"] == sentence["cellView"] == "form"
    assert "jupyter" not in shown and "cellView" not in shown


def test_every_work_in_the_list_has_an_address():
    path = ROOT / "book" / "references.bib"
    entries = parse_file(str(path), bib_format="bibtex").entries
    assert [k for k, e in entries.items() if not reference(e)[2]] == []
