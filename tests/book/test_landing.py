"""The front page, and the frames that keep figures legible on a phone."""

import base64
import io
import re

import figures
import html_tables
import landing
import pytest
from checkout import Address
from conftest import ROOT
from PIL import Image

from mexutils.claims import Claim

ADDRESS = Address("Ada/book", "https://ada.github.io/book/")
INTRO = (ROOT / "book" / "intro.md").read_text()


def claim(name, value):
    return Claim(name, value, low=0.0, high=1.0)


@pytest.fixture
def run(monkeypatch):
    """A run whose numbers no chapter has measured."""
    monkeypatch.setattr(landing, "_price", lambda: 2.5)
    names = {
        "relative accuracy, 8,000 letters, probabilities": 0.913,
        "relative accuracy, 8,000 letters, label": 0.5,
        "letters minus blots (points)": 3.0,
    }
    return {
        (landing.CHAPTER, name): claim(name, v) for name, v in names.items()
    }


def test_the_theft_is_drawn_from_the_run(run):
    html = landing.theft(run)
    assert "8,000 drawn letters" in html and "20.00 dollars" in html
    assert "from probabilities <b>91.3 %</b>" in html
    assert "from labels alone <b>50.0 %</b>" in html
    assert 'style="width: 91.3%"' in html
    assert "\n\n" not in html  # a blank line would end the HTML
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', html)
    assert len(pictures) == 1 + landing.ANSWERED
    sheet = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert sheet.size == (28 * landing.SENT // 4, 28 * 4)
    assert html.count("alt=") == len(pictures) and 'alt=""' not in html


def test_there_is_no_figure_of_a_theft_that_was_not_judged():
    assert landing.theft({}) == ""


def test_the_buttons_offer_what_there_is():
    here, nowhere = landing.begin(ADDRESS), landing.begin(None)
    place = "github/Ada/book/blob/gh-pages/_sources/setting.ipynb"
    assert f"https://colab.research.google.com/{place}" in here
    assert "Colab" not in nowhere
    for text in (here, nowhere):
        assert "practice/audit" in text and "Audit your own model" in text


def test_the_cards_count_chapters_and_claims(run):
    words = landing.count("attacks", run)
    assert re.search(r">\d+ chapters, 3 claims<", words)
    assert ">1 chapter, 0 claims<" in landing.count("setting", run)
    with pytest.raises(ValueError, match="no part 'attack'"):
        landing.count("attack", run)


def test_a_piece_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setattr(landing, "claims_of_run", dict)
    with pytest.raises(ValueError, match="there are theft, begin, count"):
        landing.landed("<!-- landing: thief -->", None)
    assert landing.landed("as it is", None) == "as it is"


def test_the_front_page_types_no_result():
    """What the figure and the cards say comes from the run alone."""
    top = INTRO.partition("## What is stolen")[0]
    assert "<!-- landing: theft -->" in top
    assert "<!-- landing: begin -->" in top
    assert not re.search(r"\d\s*%|\d+ (chapters|claims|dollars)", top)
    asked = re.findall(r"<!-- landing: count (\S+) -->", top)
    parts = {c.partition("/")[0] for c in landing.chapters()}
    assert sorted(asked) == sorted(parts)


def test_a_picture_is_framed_once_and_says_its_size(tmp_path):
    folder = tmp_path / "_images"
    folder.mkdir()
    Image.new("L", (700, 400)).save(folder / "a.png")
    (tmp_path / "part").mkdir()
    page = tmp_path / "part" / "one.html"
    page.write_text('<p><img alt="A &gt; b" src="../_images/a.png" /></p>')
    (tmp_path / "two.html").write_text('<img alt="b" src="_static/logo.svg"/>')
    assert figures.give_room(tmp_path) == 1
    html = page.read_text()
    assert 'style="--own-width: 700px"' in html
    assert (
        'alt="A &gt; b"' in html and 'width="700" height="400"/></div>' in html
    )
    assert figures.give_room(tmp_path) == 0 and page.read_text() == html


def test_a_head_without_words_goes():
    """Cells above the names of rows become ordinary, empty heads go."""
    body = "<tbody><tr><th></th><td>1</td></tr></tbody>"
    head = "<thead>\n<tr><th></th>\n<th class='a'>b</th></tr></thead>"
    mended = html_tables.with_heads(head + body)
    assert mended == head.replace("<th></th>", "<td></td>") + body
    empty = '<thead><tr><th class="head"><p></p></th></tr></thead>\n'
    assert html_tables.with_heads(empty + body) == body
    assert html_tables.with_heads(body) == body
