"""The house rules: the form of a chapter, and what the files may hold."""

import ast
import os
import re
import sys
from importlib.metadata import packages_distributions

import figures
import jupytext
import nbformat
import pytest
import run_chapters
import shape
from conftest import ROOT

TEMPLATE = "_template"  # what a new chapter starts from keeps the rules too
CHAPTERS = [*run_chapters.chapters(), TEMPLATE]
TECHNIQUES = [
    c
    for c in CHAPTERS
    if c.startswith(
        ("attacks/", "defenses/", "frontier/", "practice/", TEMPLATE)
    )
]
TO_COME: set[str] = set()
"""Chapters that are still longer than a reader's patience: no new one."""


def script(chapter):
    return (ROOT / "book" / f"{chapter}.py").read_text()


def cells(chapter, kind):
    notebook = jupytext.reads(script(chapter), fmt="py:percent")
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def tagged(chapter, tag):
    code = cells(chapter, "code")
    return [c.source for c in code if tag in c.metadata.get("tags", [])]


# --- the form of a chapter ------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_fits_the_page(chapter):
    long = [
        line
        for cell in cells(chapter, "code")
        for line in cell.source.splitlines()
        if len(line) > 79
    ]
    assert long == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_cell_fits_the_screen(chapter):
    """One screen; more where the page folds the cell, as the claims'."""
    long = [
        cell.source.splitlines()[0]
        for cell in cells(chapter, "code")
        if len(cell.source.splitlines())
        > (90 if "hide-input" in cell.metadata.get("tags", []) else 35)
        and "remove-input" not in cell.metadata.get("tags", [])
    ]
    assert long == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_cell_prints_a_docstring(chapter):
    """A string at the end of a cell would be shown as its result."""
    shown = []
    for cell in cells(chapter, "code"):
        if "get_ipython" in cell.source:  # no plain Python
            continue
        last = ast.parse(cell.source).body[-1]
        if isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant):
            shown.append(cell.source.splitlines()[-1])
    assert shown == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_begins_with_its_title_and_a_plain_paragraph(chapter):
    first = cells(chapter, "markdown")[0].source.splitlines()
    assert first[0].startswith("# ")
    assert re.match(r"\w", first[2])


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_says_how_long_it_takes(chapter):
    assert "\n<!-- minutes -->\n" in cells(chapter, "markdown")[0].source


@pytest.mark.parametrize("chapter", TECHNIQUES)
def test_a_technique_has_the_parts_of_a_chapter(chapter):
    text = "\n".join(cell.source for cell in cells(chapter, "markdown"))
    headings = re.findall(r"^#{2,3} (.+)$", text, re.MULTILINE)
    wanted = [
        *("question", "idea", "scratch", "work", "break", "bill"),
        *("this run", "exercise", "recap", "references"),
    ]
    found = " | ".join(headings).lower()
    assert [part for part in wanted if part not in found] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_begins_with_the_same_setup(chapter):
    (setup,) = tagged(chapter, "remove-cell")
    assert setup == cells(chapter, "code")[0].source
    assert setup == tagged(CHAPTERS[0], "remove-cell")[0]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_one_cell_of_parameters_with_a_seed(chapter):
    (parameters,) = tagged(chapter, "parameters")
    assert re.search(r"^seed = \d+", parameters, re.MULTILINE)
    assert all(
        isinstance(node, ast.Assign) for node in ast.parse(parameters).body
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_checks_its_claims_after_the_last_of_them(chapter):
    source = script(chapter)
    (check,) = re.finditer(r"^claims\.check\(\)", source, re.MULTILINE)
    last = [match.start() for match in re.finditer(r"claims\.add\(", source)]
    assert last and max(last) < check.start()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_figure_has_words(chapter):
    wordless = [
        cell.source.splitlines()[0]
        for cell in cells(chapter, "code")
        if "plt.show()" in cell.source
        and len(
            cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        )
        < 20
    ]
    assert wordless == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_text_of_a_figure_is_large_enough_for_a_phone(chapter):
    """`figures` keeps a picture so large that this one can be read."""
    sizes = map(float, re.findall(r"fontsize=([\d.]+)", script(chapter)))
    assert [size for size in sizes if size < figures.POINTS] == []


def test_a_phone_shows_the_smallest_text_of_a_figure():
    style = (ROOT / "mexutils" / "plotting.py").read_text()
    assert f'"savefig.dpi": {figures.DPI},' in style
    assert f'"figure.dpi": {figures.DPI},' in style
    assert figures.LEAST * figures.SMALLEST >= figures.PIXELS
    sheet = (ROOT / "book" / "_static" / "page.css").read_text()
    assert f"calc({figures.LEAST} * var(--own-width))" in sheet


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if c not in TO_COME])
def test_a_chapter_is_short_and_shows_its_results_early(chapter):
    """The measures of tools/shape.py, each within its most."""
    run_chapters.run(chapter)
    path = run_chapters.EXECUTED / f"{chapter}.ipynb"
    found = shape.shape_of(nbformat.read(path, as_version=4))
    assert shape.too_much(found) == {}


@pytest.mark.parametrize("chapter", sorted(TO_COME))
def test_a_chapter_that_has_become_short_leaves_the_list(chapter):
    run_chapters.run(chapter)
    path = run_chapters.EXECUTED / f"{chapter}.ipynb"
    found = shape.shape_of(nbformat.read(path, as_version=4))
    assert shape.too_much(found) != {}


def test_the_measures_of_a_chapter_by_hand():
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    shown = [nbformat.v4.new_output("stream", text="1")]
    notebook = nbformat.v4.new_notebook(
        cells=[
            code("setup()", metadata={"tags": ["remove-cell"]}, outputs=shown),
            text("Three words here."),
            code("a = 1\n\nb = 2"),
            code("print(a)\n" + 80 * "#", outputs=shown),
            text("x" * 78),
            code("c = 3\nd = 4\ne = 5"),
            code("c", metadata={"tags": ["hide-input"]}, outputs=shown),
            text("And"),
            code('Markdown(\n    f"{e}"\n)', outputs=shown),
            text("so"),
            code("f = 6"),
        ]
    )
    found = shape.shape_of(notebook)
    assert found == shape.Shape(
        median_cell=2,
        large_cell=found.large_cell,
        first_result=4,
        longest_wait=4,
        visible_lines=11,
        code_cells=7,
        bars=1,
        unannounced=1,
        sentences=1,
        wide_lines=2,
        words=6,
    )
    assert set(shape.too_much(found)) == {
        "unannounced",
        "sentences",
        "wide_lines",
    }


# --- what the files hold --------------------------------------------------


def texts(paths):
    """Every file that is text, with its path."""
    for path in paths:
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def hits(pattern, paths):
    return [
        f"{path.relative_to(ROOT)}:{number}: {line[:100]}"
        for path, text in texts(paths)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def test_no_file_names_a_folder_of_a_machine(project_files):
    folders = "|".join(("work", "tmp", "root", "opt", "home"))
    assert hits(rf"(^|[^A-Za-z0-9_.])/({folders})/", project_files) == []


def test_no_file_names_a_package_registry(project_files):
    names = [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org")]
    hosts = "|".join(r"\.".join(name) for name in names)
    assert hits(hosts, project_files) == []


def test_no_notebook_and_no_large_file_is_kept(project_files):
    kept = [p for p in project_files if p.suffix == ".ipynb"]
    large = [p for p in project_files if p.stat().st_size > 12 * 2**20]
    assert kept + large == []


def requirements():
    """The lines of requirements.txt, without titles."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_requirement_says_what_it_is_for():
    silent = [
        line
        for line in requirements()
        if not re.fullmatch(r"[\w.-]+[=<>!][^\s#]+\s+# \S.{4,}", line)
    ]
    assert silent == []


def imported(path):
    """The top-level modules that a script imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]


def test_every_library_in_use_is_required():
    folders = ("mexutils", "book", "tools", "tests")
    scripts = [p for f in folders for p in (ROOT / f).rglob("*.py")]
    own = {path.stem for path in scripts} | set(folders)
    used = {name for path in scripts for name in imported(path)}
    distributions = packages_distributions()
    named = {
        normal(re.match(r"[\w.-]+", line).group()) for line in requirements()
    }
    missing = {
        name
        for name in used - own - set(sys.stdlib_module_names)
        if not named & {normal(d) for d in distributions.get(name, [name])}
    }
    assert missing == set()


def test_the_commands_of_the_readme_exist():
    targets = re.findall(
        r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert {"book", "test", "lint", "clean"} <= set(targets)
    readme = (ROOT / "README.md").read_text()
    assert "make book" in readme and "make test" in readme
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
