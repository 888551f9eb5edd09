"""What the site carries for download."""

import getpass
import platform
import subprocess
import sys
import sysconfig
import zipfile
from datetime import UTC, datetime
from xml.etree import ElementTree

import book_pages
import build_site
import downloads
import machine
import nbformat
import numbering
import pytest
import site_pages
import yaml
from checkout import Address, Commit
from conftest import ROOT
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)
from pybtex.database import parse_string
from site_pages import Site, build_in_words, run_in_words, runs_in_words

COMMIT = Commit(
    "0123456789abcdef" * 2 + "01234567",
    datetime(2026, 2, 3, 4, 5, tzinfo=UTC),
    False,
)
ADDRESS = Address("Ada/book", "https://ada.github.io/book/")
SITE = Site(ADDRESS, COMMIT, downloads.wheel_name(ROOT, COMMIT))
NOWHERE = Site(None, None, downloads.wheel_name(ROOT, None))


# --- the wheel and the setup cell -----------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return downloads.build_wheel(ROOT, COMMIT, tmp_path_factory.mktemp("w"))


@pytest.mark.slow
def test_the_wheel_is_of_the_commit_and_holds_helpers_and_chapters(wheel):
    assert wheel.name == "mexutils-0.1.0+g0123456-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        chapter = archive.read("mexutils/book/setting.py")
    assert {"mexutils/api.py", "mexutils/data/reuters_text.npz"} <= names
    assert chapter == (ROOT / "book" / "setting.py").read_bytes()
    assert not [name for name in names if name.startswith("build/")]


# Stands for a notebook on a machine that has no mexutils: its pip installs
# into a folder.
BARE = """
import importlib, pathlib, subprocess, sys

class Shell:
    def run_line_magic(self, name, line):
        print(line)
        command = [sys.executable, "-m", *f"{name} {line}".split()]
        command += ["--no-index", "--target", "new"]
        subprocess.run(command, check=True)

sys.path += ["new", sys.argv[1]]  # without what is installed as a link
exec(pathlib.Path("setup.py").read_text(), {"get_ipython": Shell})
importlib.invalidate_caches()
import mexutils
print(mexutils.__file__)
"""


@pytest.mark.slow
@pytest.mark.parametrize("site", [SITE, NOWHERE])
def test_the_first_cell_installs_the_wheel_from_the_zip(wheel, tmp_path, site):
    first = new_code_cell("try:\n    import mexutils  # noqa: F401\n")
    other = new_code_cell("import mexutils")
    notebook = new_notebook(cells=[first, other])
    setup, other = build_site.with_setup(notebook, site).cells
    assert other.source == "import mexutils"
    assert setup.source.count("https://") == (site is SITE)
    path = tmp_path / "sources" / "attacks" / "one.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    target = tmp_path / "notebooks.zip"
    downloads.zip_notebooks(tmp_path / "sources", wheel, target)
    with zipfile.ZipFile(target) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "notebooks" / "attacks"
    (folder / "setup.py").write_text(setup.source)
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            BARE,
            sysconfig.get_path("purelib"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    line, where = done.stdout.splitlines()
    assert line == f"install -q --no-deps ../{wheel.name}"
    assert where.endswith("new/mexutils/__init__.py")


def test_equal_notebooks_make_an_equal_zip(tmp_path):
    sources, wheel = tmp_path / "sources", tmp_path / "a.whl"
    sources.mkdir()
    wheel.write_bytes(b"wheel")
    (sources / "one.ipynb").write_text("{}")
    made = []
    for name in ("a.zip", "b.zip"):
        downloads.zip_notebooks(sources, wheel, tmp_path / name)
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    assert names == ["notebooks/one.ipynb", "notebooks/a.whl"]


# --- what the pages say of the site ---------------------------------------


def test_the_citation_can_be_read():
    for site in (SITE, NOWHERE):
        found = parse_string(site.bibtex(), "bibtex").entries["mex_hands_on"]
        assert found.fields["title"] == f"{{{site_pages.TITLE}}}"
        assert found.fields["year"] == "2026"
        assert str(found.persons["author"][0]) == (f"{{{site_pages.AUTHORS}}}")
    assert "ada.github.io/book" in SITE.bibtex()
    assert "url" not in NOWHERE.bibtex()
    source = (ROOT / "CITATION.cff").read_text()
    assert "url" not in yaml.safe_load(source)
    whole = yaml.safe_load(SITE.cff(source))
    assert whole["url"] == ADDRESS.site
    assert whole["repository-code"] == "https://github.com/Ada/book"
    assert whole["date-released"] == "2026-02-03"
    assert whole["commit"] == COMMIT.digest


def test_a_page_says_its_commit_and_leads_to_its_source():
    foot = SITE.footer("book/intro.md")
    assert f"https://github.com/Ada/book/commit/{COMMIT.digest}" in foot
    assert "Commit 0123456 of 3 February 2026" in foot
    assert "https://github.com/Ada/book/edit/main/book/intro.md" in foot
    assert "edit" not in SITE.footer("")  # as for the scoreboard
    assert NOWHERE.footer("book/intro.md") == (
        "Source: <code>book/intro.md</code>"
    )
    assert book_pages.source_of("attacks/stealml") == "book/attacks/stealml.py"
    assert book_pages.source_of("attacks/index") == "book/attacks/index.md"
    assert book_pages.source_of("scoreboard") == ""


def test_a_piece_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="intro: .* there are browser"):
        SITE.filled("<!-- site: clon -->", "intro")
    text = SITE.filled("a\n\n<!-- site: clone -->\n\nb", "intro")
    assert "git clone https://github.com/Ada/book book" in text
    assert "ADDRESS" in NOWHERE.filled("<!-- site: clone -->", "intro")


def test_a_run_says_when_and_on_what_it_was():
    about = machine.about_now(ROOT)
    note = {"seconds": 61.5, "about": about | {"when": "2026-02-03T04:05:06"}}
    words = run_in_words(note, "", "")
    assert words.startswith("This run: 3 February 2026, 04:05 UTC, 62 s")
    assert "core" in words and "torch" in words and "Python" in words
    old = run_in_words({"seconds": 1}, "2026-02-03T04:05:06.7", "3.11.7")
    assert old == "This run: 3 February 2026, 04:05 UTC, 1 s; Python 3.11.7."
    assert run_in_words({"seconds": 1}, "", "") == "This run, 1 s."


ABOUT = {
    "when": "2026-02-03T04:05:06+00:00",
    "commit": "0123456",
    "changed": False,
    "machine": "A processor, 2 cores, Linux",
    "python": "3.11.7",
    "libraries": {"torch": "2.13.0"},
}


def test_the_runs_of_all_chapters_are_told_in_a_sentence():
    notes = [{"seconds": 61.5, "about": ABOUT}] * 2
    assert runs_in_words(notes) == (
        "The run behind the book: 2 chapters, 3 February 2026, 123 s "
        "together, of commit 0123456; A processor, 2 cores, Linux; "
        "Python 3.11.7, torch 2.13.0."
    )
    later = {"when": "2026-02-04T00:00:00+00:00", "machine": "Another"}
    notes += [{"seconds": 1, "about": ABOUT | later}, {"seconds": 1}]
    words = runs_in_words(notes)
    assert "4 chapters, 3 February 2026 to 4 February 2026, 125 s" in words
    assert "2 machines, which each chapter names; Python 3.11.7" in words
    assert runs_in_words([]) == ""


def test_the_foot_of_a_page_says_its_build_and_its_run():
    built = build_in_words(COMMIT.when)
    assert built.startswith("Built 3 February 2026, 04:05 UTC, with Python 3.")
    assert "Sphinx 7" in built
    foot = SITE.foot("book/intro.md", built, "A run & more.")
    assert foot.startswith(SITE.footer("book/intro.md"))
    assert built in foot and foot.endswith("A run &amp; more.")
    chapter, page = map(book_pages.edition, ("setting", "notation"))
    assert len(chapter) == 1 and page[0] == chapter[0] and len(page) == 2


def test_what_is_noted_of_a_machine_names_nobody():
    said = str(machine.about_now(ROOT))
    assert platform.node() not in said.split()
    assert f"/{getpass.getuser()}" not in said


# --- numbers --------------------------------------------------------------


def test_chapters_and_figures_are_numbered_in_the_order_of_the_contents(
    tmp_path,
):
    contents = tmp_path / "_toc.yml"
    contents.write_text(
        "root: a\n  - file: b/two\n  - file: b/index\n  - file: b/one\n"
    )
    names = ["b/one", "b/two", "z"]
    assert numbering.in_order(names, contents) == ["b/two", "b/one", "z"]
    assert numbering.numbers(names, contents) == {"b/two": 1, "b/one": 2}
    picture = new_output("display_data", {"image/png": "cGljdHVyZQ=="})

    def drawing(outputs):
        figure = {"figure": {"caption": "A line."}}
        meta = {"mystnb": figure}
        return new_code_cell("draw()", metadata=meta, outputs=outputs)

    cells = [new_markdown_cell("# One\n\nText."), drawing([picture])]
    cells += [drawing([]), drawing([picture])]  # one that was never drawn
    found = numbering.numbered(new_notebook(cells=cells), 2).cells
    assert found[0].source == "# 2. One\n\nText."
    captions = [c.metadata["mystnb"]["figure"]["caption"] for c in found[1:]]
    assert captions == [
        "Figure 2.1: A line.",
        "A line.",
        "Figure 2.2: A line.",
    ]


# --- what search engines and lost readers find ----------------------------


def test_the_map_names_every_page_and_no_other(tmp_path):
    for name in ("index", "intro", "404", "search", "a/one", "_static/x"):
        path = tmp_path / f"{name}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    tree = ElementTree.fromstring(downloads.sitemap(tmp_path, SITE))
    found = [place.text for place in tree.iter() if "loc" in place.tag]
    assert found == [f"{ADDRESS.site}{p}.html" for p in ("a/one", "intro")]


def test_a_lost_reader_is_led_home_from_any_depth():
    page = downloads.not_found(ADDRESS)
    assert f'href="{ADDRESS.site}intro.html"' in page
    assert "src=" not in page and "stylesheet" not in page
