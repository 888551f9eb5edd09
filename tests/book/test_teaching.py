"""Pages for owners, teachers and students: made from the lists and the run."""

import re

import _browser
import checklist
import course
import frameworks
import glossary
import nbformat
import pandas as pd
import pytest
import run_chapters
import slides
import survey
import teaching
import techniques
import yaml
from conftest import ROOT
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)

from mexutils.claims import Claim, claims_html

NAMED = ["setting", *(t.chapter for t in techniques.techniques())]
LINES = checklist.lines()
CITED = sorted({chapter for line in LINES for chapter, _ in line.claims})

# --- the checklist ----------------------------------------------------------


def known_claims():
    table = pd.read_csv(ROOT / "benchmarks" / "stability.csv")
    return set(zip(table.chapter, table.claim, strict=True))


def test_every_line_rests_on_claims_that_the_book_makes():
    gone = [pair for ln in LINES for pair in ln.claims]
    assert [pair for pair in gone if pair not in known_claims()] == []
    assert len(LINES) >= 12 and len(CITED) >= 8


@pytest.mark.parametrize("chapter", CITED)
def test_every_claim_of_the_checklist_is_made_by_the_run(chapter):
    made = {n for where, n in survey.claims_of_run() if where == chapter}
    if not made:
        pytest.skip(f"no run of {chapter}: make book first")
    wanted = {n for ln in LINES for where, n in ln.claims if where == chapter}
    assert sorted(wanted - made) == []


def test_no_number_of_a_result_is_typed_into_the_checklist():
    advice = " ".join(line.advice for line in LINES)
    assert re.findall(r"\d", advice) == []
    page = (ROOT / "book" / "practice" / "checklist.md").read_text()
    assert re.findall(r"\d", page) == []


def test_the_places_of_claims_are_their_own():
    pairs = known_claims()
    assert len({checklist.place_of(*pair) for pair in pairs}) == len(pairs)


def test_values_and_verdicts_come_from_the_run():
    line = checklist.Line("One", "Do <this>.", (("setting", "a < b"),))
    held = {("setting", "a < b"): Claim("a < b", 0.5, 0.25, 1.0)}
    for run, borne, words in (
        (held, 1, "<b>0.5</b> (accepted 0.25 to 1)"),
        ({("setting", "a < b"): Claim("a < b", 2, 0.25, 1)}, 0, "<b>2</b>"),
        ({}, 0, "a &lt; b: not in this run"),
    ):
        page = checklist.checklist([line], run)
        assert f"1 lines, {borne} borne out" in page
        assert words in page and "Do &lt;this&gt;." in page
        assert ("Open in this run" in page) == (not borne)
    assert "../scoreboard.html#claim-setting-a-b" in checklist.checklist(
        [line], held
    )


def test_the_rows_of_the_scoreboard_get_their_places(monkeypatch):
    claims = [Claim("one", 1, 0, 2), Claim("two", 3, 0, 2)]
    run = {("setting", claim.name): claim for claim in claims}
    monkeypatch.setattr(teaching, "claims_of_run", lambda: run)
    board = f"# Scoreboard\n\n## [S](setting.ipynb)\n\n{claims_html(claims)}\n"
    text = teaching.with_anchors(board)
    assert re.findall(r'<tr id="([\w-]+)"', text) == [
        "claim-setting-one",
        "claim-setting-two",
    ]
    assert re.sub(r' id="[\w-]+"', "", text).split() == board.split()


@pytest.mark.parametrize(
    "entry",
    [{"do": "x"}, {"do": "x", "because": {}}, {"because": {"a/b": ["c"]}}],
)
def test_a_line_without_a_claim_is_refused(entry, tmp_path, monkeypatch):
    path = tmp_path / "checklist.yml"
    path.write_text(yaml.safe_dump({"One": [entry]}))
    monkeypatch.setattr(checklist, "LIST", path)
    with pytest.raises(ValueError, match="at least one claim|needs `do`"):
        checklist.lines()


# --- the frameworks ---------------------------------------------------------


def test_every_chapter_has_a_line_in_the_frameworks():
    places = frameworks.frameworks().places
    assert [place.chapter for place in places] == NAMED
    assert all(place.techniques and place.does for place in places)


def test_every_identifier_is_one_and_is_used():
    found = frameworks.frameworks()
    for known, field, form in (
        (found.techniques, "techniques", r"AML\.T\d{4}(\.\d{3})?"),
        (found.mitigations, "mitigations", r"AML\.M\d{4}"),
    ):
        assert [i for i in known if not re.fullmatch(form, i)] == []
        used = {i for place in found.places for i in getattr(place, field)}
        assert used == set(known)
    page = frameworks.by_chapter(found) + frameworks.by_name(found)
    assert "https://atlas.mitre.org/techniques/AML.T0024.002" in page
    assert "https://atlas.mitre.org/mitigations/AML.M0019" in page


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda k: k["chapters"].pop("setting"), "no line for setting"),
        (lambda k: k["techniques"].pop("AML.T0040"), "names AML.T0040"),
        (lambda k: k["chapters"]["setting"].pop("does"), "setting"),
    ],
)
def test_a_bad_list_of_frameworks_is_refused(
    change, words, tmp_path, monkeypatch
):
    kept = yaml.safe_load(frameworks.LIST.read_text())
    change(kept)
    path = tmp_path / "frameworks.yml"
    path.write_text(yaml.safe_dump(kept))
    monkeypatch.setattr(frameworks, "LIST", path)
    with pytest.raises(ValueError, match=words):
        frameworks.frameworks()


# --- the course -------------------------------------------------------------


def test_every_chapter_has_its_prerequisites_and_a_box():
    found = course.before()
    assert list(found) == NAMED
    depth, place = course.depths(found), course.places(found)
    for chapter, needed in found.items():
        assert all(depth[one] < depth[chapter] for one in needed)
        assert (chapter == "setting") == (not needed)
    assert len(set(place.values())) == len(place)
    drawn = course.figure(found)
    assert drawn.count("<rect ") == len(NAMED)
    assert drawn.count("<path ") == sum(map(len, found.values()))
    # Its boxes are links, which what has the role of a picture would hide.
    assert 'role="group"' in drawn and "<title" in drawn


def test_a_prerequisite_is_linked_in_the_chapter_or_implied():
    """What the list names, the chapter names as well, directly or not."""
    found = course.before()
    silent = []
    for chapter, needed in found.items():
        text = (ROOT / "book" / f"{chapter}.py").read_text()
        for one in needed:
            name = one.rpartition("/")[2]
            if f"{name}.ipynb" not in text and f"{one}" not in text:
                silent.append((chapter, one))
    assert silent == []


def test_a_circle_of_prerequisites_is_refused():
    with pytest.raises(ValueError, match="a, b wait in a circle"):
        course.depths({"s": (), "a": ("b",), "b": ("a",)})


def sessions(heading):
    """The chapters of each row of a course of the page."""
    page = (ROOT / "book" / "course.md").read_text()
    part = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    return [re.findall(r"\]\(([\w/]+)\.ipynb\)", row) for row in rows[2:]]


@pytest.mark.parametrize(
    "heading", ["One seminar", "One week", "One semester"]
)
def test_a_course_teaches_nothing_before_its_prerequisites(heading):
    """In the seminar only the order counts: most of it is shown, not read."""
    found, seen = course.before(), set()
    rows = sessions(heading)
    assert sum(map(len, rows)) >= 4
    taught = {chapter for row in rows for chapter in row}
    for row in rows:
        seen |= set(row)
        for chapter in row:
            needed = set(found[chapter])
            if heading == "One seminar":
                needed &= taught
            assert needed <= seen, chapter


def test_every_exercise_says_what_it_takes():
    found = course.exercises()
    assert len(found) > 40
    wrong = [e for e in found if e.grade not in course.GRADES]
    assert wrong == [], "write (short), (medium) or (long) behind its title"
    assert {e.grade for e in found} == set(course.GRADES)
    table = course.table_of_exercises().splitlines()
    total = [int(n) for n in re.findall(r"\d+", table[-1])]
    assert sum(total) == len(found)


def test_a_page_gets_what_it_asks_for_and_no_other_changes():
    text = "a\n<!-- course: slides -->\nb"
    decks = {"setting": "_static/slides/setting.html"}
    assert course.taught(text, decks) == (
        'a\n- Setting: <a href="_static/slides/setting.html">The setting</a>'
        "\nb"
    )
    assert course.taught("plain", decks) == "plain"


# --- the slides -------------------------------------------------------------


def sample():
    figure = {"figure": {"caption": "What $x$ is."}, "image": {"alt": "A dot"}}
    return new_notebook(
        cells=[
            new_markdown_cell("# A & title\n\nA paragraph.\n\nMore."),
            new_code_cell("setup()", metadata={"tags": ["remove-cell"]}),
            new_markdown_cell("## At a glance\n\nTwo *rows* of $a_1 * b_1$."),
            new_code_cell(
                "a < b",
                outputs=[
                    new_output("stream", text="4 < 5\n"),
                    new_output("stream", name="stderr", text="warning"),
                ],
            ),
            new_code_cell(
                "secret", metadata={"tags": ["remove-input"]}, outputs=[]
            ),
            new_markdown_cell("## The idea\n\nElse."),
            new_code_cell(
                "plot()",
                metadata={"mystnb": figure},
                outputs=[
                    new_output("display_data", data={"image/png": "AA\n=="})
                ],
            ),
            new_markdown_cell(
                "## Recap\n\n- See [the idea](x.ipynb).\n\n## References\n\n-"
            ),
        ]
    )


def test_a_deck_is_glance_figure_and_recap():
    deck = slides.slides(sample(), "attacks/x")
    parts = re.findall(r"<section.*?</section>", deck, re.S)
    assert len(parts) == 4
    title, glance, figure, recap = parts
    assert "<h1>A &amp; title</h1>" in title and "More" not in title
    assert "a &lt; b" in glance and "4 &lt; 5" in glance
    assert "<em>rows</em> of \\(a_1 * b_1\\)" in glance
    assert "secret" not in deck and "warning" not in deck
    assert 'alt="A dot" src="data:image/png;base64,AA=="' in figure
    assert "What \\(x\\) is." in figure
    assert "See the idea." in recap and "References" not in recap
    assert 'href="../../attacks/x.html"' in deck
    assert "mathjax" in deck


def test_a_deck_without_formulas_needs_no_other_file():
    notebook = sample()
    notebook.cells = [c for c in notebook.cells if "$" not in str(c)]
    deck = slides.slides(notebook, "setting")
    assert "mathjax/" not in deck
    assert re.findall(r'src="(?!data:)', deck) == []
    assert 'href="../../setting.html"' in deck


@pytest.mark.parametrize("chapter", run_chapters.chapters())
def test_a_chapter_has_slides(chapter):
    path = run_chapters.EXECUTED / f"{chapter}.ipynb"
    if not path.is_file():
        pytest.skip(f"no run of {chapter}: make book first")
    deck = slides.slides(nbformat.read(path, as_version=4), chapter)
    assert deck.count("<section") >= 3
    assert "At a glance" in deck and "Recap" in deck
    assert re.findall(r":::|\{cite|<!-- ", deck) == []
    assert '<img alt=""' not in deck


# --- the words of the notation ----------------------------------------------


def page(body):
    return (
        f'<html><body><nav>fidelity</nav><article class="x">{body}</article>'
    )


def linked(body):
    html, count = glossary.with_links(
        page(body), glossary.words(), "../notation.html"
    )
    links = re.findall(r'<a class="glossary"[^>]*>([^<]+)</a>', html)
    assert len(links) == count
    assert html.startswith("<html><body><nav>fidelity</nav>")
    assert re.sub(r'<a class="glossary"[^>]*>([^<]+)</a>', r"\1", html) == (
        page(body)
    )
    return html, links


def test_a_word_is_linked_where_it_first_occurs():
    html, links = linked("<p>Its fidelity; Fidelity.</p><p>fidelity</p>")
    assert links == ["fidelity"]
    assert 'href="../notation.html#word-fidelity" title="The share of' in html


def test_the_longest_word_is_the_one_that_is_meant():
    _, links = linked(
        "<p>The relative\naccuracy. Relative accuracy, accuracy.</p>"
    )
    assert links == ["relative\naccuracy", "accuracy"]
    assert linked("<p>Three monitors and queries.</p>")[1] == [
        "monitors",
        "queries",
    ]


@pytest.mark.parametrize(
    "body",
    [
        "<h2>Fidelity</h2>",
        "<p><code>fidelity</code></p>",
        '<p><a href="x">the <b>fidelity</b></a></p>',
        '<span class="math notranslate">fidelity</span>',
        "<pre>fidelity<br>fidelity</pre>",
        '<img alt="fidelity">',
        "<p>high-fidelity infidelity fidelity_of</p>",
        "<!-- fidelity -->",
        "<table><tr><td>fidelity</td></tr></table>",
    ],
)
def test_a_word_is_left_alone_where_a_link_would_be_wrong(body):
    assert linked(body)[1] == []


def test_after_a_barred_part_words_are_linked_again():
    body = "<div><pre>x<br>y</pre><img src='a'></div><p>fidelity</p>"
    assert linked(body)[1] == ["fidelity"]


def test_a_page_is_linked_once():
    once, _ = linked("<p>fidelity</p>")
    assert glossary.with_links(once, glossary.words(), "n") == (once, 0)


def test_a_word_that_the_notation_lost_is_named():
    with pytest.raises(ValueError, match="no entry 'Victim'"):
        glossary.anchored("<dl></dl>", glossary.words())


def test_words_left_out_are_words_of_the_notation():
    text = (ROOT / "book" / "notation.md").read_text()
    heads = set(re.findall(r"^(.+)\n: ", text, re.M))
    assert glossary.UNLINKED | glossary.ALONE | set(glossary.ALSO) <= heads


def test_the_site_links_its_words():
    site = ROOT / "_build" / "html"
    if not (site / "index.html").is_file():
        pytest.skip("run make book first")
    anchors = set(
        re.findall(r'id="(word-[\w-]+)"', (site / "notation.html").read_text())
    )
    assert anchors == {word.anchor for word in glossary.words()}
    for name in ("setting", "attacks/knockoff_nets", "outlook"):
        html = (site / f"{name}.html").read_text()
        used = re.findall(r'notation\.html#(word-[\w-]+)"', html)
        assert used and len(set(used)) == len(used)
        assert set(used) <= anchors


# --- what a reader sees -----------------------------------------------------

KINDS = [(w, s) for w in (1280, 390) for s in ("light", "dark")]


@pytest.fixture(scope="module")
def windows():
    """The built site in Chromium, in each width and colour scheme."""
    site = ROOT / "_build" / "html"
    if _browser.CHROMIUM is None:
        pytest.skip("no Chromium found")
    if not (site / "index.html").is_file():
        pytest.skip("run make book first")
    with _browser.serving(site) as address, _browser.views(KINDS) as views:
        yield address, views


def test_the_checklist_is_one_page_of_paper(windows):
    address, views = windows
    view = views[KINDS[0]]
    view.open(f"{address}/practice/checklist.html")
    paper = view.page.pdf(format="A4", prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page[^s]", paper)) == 1


@pytest.mark.parametrize("chapter", run_chapters.chapters())
def test_slides_look_right_in_chromium(windows, chapter):
    address, views = windows
    for (width, scheme), view in views.items():
        view.open(f"{address}/{slides.address(chapter)}")
        seen = f"{chapter} at {width} pixels, {scheme}"
        count = view.page.locator("section").count()
        for number in range(1, count + 1):
            shown = view.page.locator("section:visible")
            assert shown.count() == 1, seen
            label = shown.first.get_attribute("aria-label")
            assert label == f"Slide {number} of {count}", seen
            wide = view.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{seen}, slide {number}: {wide} wide"
            view.page.keyboard.press("ArrowRight")
        assert view.faults == [], seen
        raw = view.page.evaluate("document.querySelector('main').textContent")
        assert "\\(" not in raw and "\\[" not in raw, seen
