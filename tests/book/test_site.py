"""The built website: links, words for pictures, notebooks, and its looks."""

import os
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import _browser
import checkout
import figures
import nbformat
import numbering
import pytest
import run_chapters
import yaml
from checkout import NONE, commit
from conftest import ROOT

SITE = ROOT / "_build" / "html"
SETTINGS = ROOT / "_build" / "config.yml"
# Noted before any test can set it.
IN_CI = bool(os.environ.get("CI"))
CHAPTERS = run_chapters.chapters()
NUMBERS = numbering.numbers(CHAPTERS, ROOT / "_toc.yml")
PAGES = re.findall(
    r"^\s*(?:- file|root): (\S+)", (ROOT / "_toc.yml").read_text(), re.M
)
# The references of `link` that a browser fetches.
FETCHED = {"stylesheet", "icon", "preload", "modulepreload", "manifest"}


@pytest.fixture(autouse=True)
def site():
    """The folder of the built site; without it there is nothing to test."""
    if not (SITE / "index.html").is_file():
        (pytest.fail if IN_CI else pytest.skip)("run make book first")
    return SITE


class Page(HTMLParser):
    """The parts of a page that the tests ask about."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.anchors, self.links, self.resources = set(), [], []
        self.images, self.meta = [], {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name")} - {None}
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        elif tag == "link":
            if set(attrs.get("rel", "").split()) & FETCHED:
                self.resources.append(attrs["href"])
        elif tag != "a" and attrs.get("src"):
            self.resources.append(attrs["src"])
        if tag == "img":
            self.images.append(attrs)
        if tag == "meta" and "name" in attrs:
            self.meta[attrs["name"]] = attrs.get("content", "")


@cache
def parsed(path):
    return Page(path)


def html_pages():
    """The site's pages; what the theme keeps in _static is no page."""
    paths = sorted(SITE.rglob("*.html"))
    return [parsed(p) for p in paths if SITE / "_static" not in p.parents]


def is_external(address):
    parts = urlsplit(address)
    return parts.scheme not in ("", "data") or bool(parts.netloc)


def target(page, address):
    """The file that an internal address names, and the place in it."""
    parts = urlsplit(address)
    base = page.path.relative_to(SITE).as_posix()
    below = urljoin(f"/{base}", unquote(parts.path)).lstrip("/")
    path = SITE / below
    return (path / "index.html" if path.is_dir() else path), parts.fragment


# --- what a page links to and loads ---------------------------------------


def test_every_listed_page_is_there():
    missing = [page for page in PAGES if not (SITE / f"{page}.html").is_file()]
    assert missing == []
    assert (SITE / ".nojekyll").is_file()


def test_no_internal_link_is_broken():
    broken = []
    for page in html_pages():
        for address in page.links + page.resources:
            if is_external(address) or address.startswith("data:"):
                continue
            path, place = target(page, address)
            found = path.is_file()
            if found and place and path.suffix == ".html":
                found = unquote(place) in parsed(path).anchors
            if not found:
                broken.append(f"{page.path.relative_to(SITE)}: {address}")
    assert broken == []


def test_no_page_loads_anything_from_elsewhere():
    outside = [
        f"{page.path.relative_to(SITE)}: {address}"
        for page in html_pages()
        for address in page.resources
        if is_external(address)
    ]
    for sheet in SITE.rglob("*.css"):
        addresses = re.findall(
            r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)",
            sheet.read_text(encoding="utf-8"),
        )
        outside += [f"{sheet.relative_to(SITE)}: {a}" for a in addresses]
    assert outside == []


# --- what machines and people who cannot see it read -----------------------


def test_every_image_has_words():
    wordless = [
        f"{page.path.relative_to(SITE)}: {image.get('src', '')[:60]}"
        for page in html_pages()
        for image in page.images
        if not (image.get("alt") or "").strip()
    ]
    assert wordless == []


def draws(chapter):
    return "plt.show()" in (ROOT / "book" / f"{chapter}.py").read_text()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_words_of_a_figure_describe_it(chapter):
    if not draws(chapter):
        return
    figures = [
        image
        for image in parsed(SITE / f"{chapter}.html").images
        if "_images/" in image["src"]
    ]
    assert figures
    short = [f["alt"] for f in figures if len(f.get("alt") or "") < 20]
    assert short == []
    assert len({figure["alt"] for figure in figures}) == len(figures)
    own_file = [f for f in figures if Path(f["src"]).name in f["alt"]]
    assert own_file == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_caption_stands_under_one_figure(chapter):
    if not draws(chapter):
        return
    page = (SITE / f"{chapter}.html").read_text(encoding="utf-8")
    figures = re.findall(r"<figcaption>.*?</figcaption>", page, re.S)
    captions = [re.sub(r"<[^>]+>|#", "", f).strip() for f in figures]
    number = NUMBERS[chapter]
    for count, caption in enumerate(captions, 1):
        assert caption.startswith(f"Figure {number}.{count}: "), caption
    assert captions and "caption-number" not in "".join(figures)
    images = parsed(SITE / f"{chapter}.html").images
    drawn = [image for image in images if "_images/" in image["src"]]
    assert len(captions) <= len(drawn)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_page_shows_every_picture_and_table_of_the_run(chapter):
    outputs = [
        output.data
        for cell in notebook(chapter).cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    page = (SITE / f"{chapter}.html").read_text(encoding="utf-8")
    images = parsed(SITE / f"{chapter}.html").images
    drawn = [image for image in images if "_images/" in image["src"]]
    assert len(drawn) == sum("image/png" in data for data in outputs)
    made = "".join(data.get("text/html", "") for data in outputs)
    frame = 'class="dataframe"'
    assert page.count(frame) == made.count(frame)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_describes_itself(page):
    description = parsed(SITE / f"{page}.html").meta.get("description", "")
    assert len(description) >= 20
    assert "{" not in description and "$" not in description


# --- the notebooks that the site offers ------------------------------------


@cache
def notebook(chapter):
    path = SITE / "_sources" / f"{chapter}.ipynb"
    return nbformat.read(path, as_version=4)


def test_the_site_offers_every_chapter_and_no_other_notebook():
    sources = SITE / "_sources"
    offered = {
        path.relative_to(sources).with_suffix("").as_posix()
        for path in sources.rglob("*.ipynb")
    }
    assert offered == set(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_an_offered_notebook_is_valid_and_executed(chapter):
    nbformat.validate(notebook(chapter))
    cells = [c for c in notebook(chapter).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert "import mexutils" in cells[0].source
    assert "--no-deps" in cells[0].source
    errors = [
        output.ename
        for cell in cells
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert errors == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_an_offered_notebook_reads_well_without_the_site(chapter):
    left = [
        line
        for cell in notebook(chapter).cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if re.search(r":::|\{[a-z][a-z:]*\}`|^```\{", line)
    ]
    assert left == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_an_offered_notebook_names_no_folder_of_the_machine(chapter):
    text = (SITE / "_sources" / f"{chapter}.ipynb").read_text()
    folders = "|".join(("work", "tmp", "root", "home", "opt"))
    found = re.findall(rf"(?<![\w.:/-])/(?:{folders})/.{{,40}}", text)
    assert found == []
    assert str(ROOT) not in text


def built_for():
    """`owner/name` that the site was built for; None where it had none."""
    url = yaml.safe_load(SETTINGS.read_text()).get("repository", {}).get("url")
    return url and url.removeprefix("https://github.com/")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_colab_opens_the_notebook_that_the_site_offers(chapter):
    page = parsed(SITE / f"{chapter}.html")
    found = {
        link
        for link in page.links
        if link.startswith("https://colab.research.google.com/")
    }
    if built_for() is None:
        assert not found
        words = re.sub("<[^>]+>", "", page.path.read_text("utf-8"))
        assert NONE.replace("`", "") in " ".join(words.split())
        return
    assert found == {
        f"https://colab.research.google.com/github/{built_for()}"
        f"/blob/gh-pages/_sources/{chapter}.ipynb"
    }


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_first_cell_installs_the_wheel_of_the_site(chapter):
    setup = next(c for c in notebook(chapter).cells if c.cell_type == "code")
    addresses = re.findall(r"https?://[^\s\"]+", setup.source)
    (wheel,) = (SITE / "downloads").glob("mexutils-*.whl")
    if built_for() is None:
        assert addresses == []
    else:
        (url,) = addresses
        assert unquote(url).endswith(f"/downloads/{wheel.name}")


def test_the_site_is_of_one_address_alone():
    """Whoever forks it owns every address that installs or opens something."""
    said = {"GITHUB_REPOSITORY": built_for() or ""}
    here = " ".join(map(str, checkout.address(ROOT, said) or ())).lower()
    # An embedded picture is one long word: begin at its start alone.
    pattern = r"github\.com/[\w.-]+/[\w.-]+|\b[\w-]+\.github\.io/[\w.-]*"
    ours = "/(commit|edit|issues)/|/blob/gh-pages/|git clone|/downloads/"
    strange = {
        line.strip()[:200]
        for path in [*SITE.rglob("*.html"), *SITE.rglob("*.ipynb")]
        if SITE / "_static" not in path.parents
        for line in path.read_text("utf-8").splitlines()
        if "github" in line
        for match in re.finditer(pattern, line)
        if re.search(ours, line[max(0, match.start() - 20) : match.end() + 20])
        and match[0].lower().removeprefix("github.com/") not in here
    }
    assert strange == set()


# --- what the site says of itself ------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_its_commit_and_leads_to_its_source(page):
    text = (SITE / f"{page}.html").read_text("utf-8")
    foot = re.search(r'class="extra_footer">(.*?)</div>', text, re.S)[1]
    if commit(ROOT):
        assert re.search(r"Commit [0-9a-f]{7} of \d+ \w+ \d{4}", foot)
    assert re.search(
        r"Built \d+ \w+ \d{4}, \d\d:\d\d UTC, with Python 3", foot
    )
    assert re.search(r"Sphinx \d", foot)
    if page not in CHAPTERS:  # a chapter has its own run at its end
        run = (
            rf"{len(CHAPTERS)} chapters, \d+ \w+ \d{{4}}.*, [\d,]+ s together"
        )
        assert re.search(f"{run}.*core.*Python 3", foot)
    made = ("scoreboard", "stability")
    if built_for() and page not in made:
        (link,) = re.findall(r'href="([^"]+/edit/main/[^"]+)"', foot)
        source = link.partition("/edit/main/")[2]
        assert (ROOT / source).is_file() and page in source


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_says_when_and_on_what_it_ran(chapter):
    last = notebook(chapter).cells[-1].source
    assert re.search(
        r"This run: \d+ \w+ \d{4}, \d\d:\d\d UTC, [\d,]+ s.*Python 3\.", last
    )
    title = notebook(chapter).cells[0].source
    assert title.startswith(f"# {NUMBERS[chapter]}. ")


def test_the_site_carries_what_its_front_page_offers():
    links = parsed(SITE / "intro.html").links
    offered = {link for link in links if link.startswith("downloads/")}
    assert len(offered) >= 4  # that they are there: no link is broken
    for name in ("404.html", "_static/social.png", "_static/logo.svg"):
        assert (SITE / name).is_file()
    assert (SITE / "sitemap.xml").is_file() == bool(built_for())


# --- what a reader sees ---------------------------------------------------

KINDS = [
    (width, scheme) for width in (1280, 390) for scheme in ("light", "dark")
]
FORMULAS = """() => {
    const formulas = [...document.querySelectorAll('.math')];
    const copy = document.querySelector('main').cloneNode(true);
    const apart = 'pre, code, script, style, mjx-container';
    copy.querySelectorAll(apart).forEach(part => part.remove());
    return {
        raw: formulas.filter(f => !f.querySelector('mjx-container'))
            .map(f => f.textContent),
        wrong: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')]
            .map(f => f.textContent),
        left: copy.textContent.match(
            /.{0,20}(\\$\\$|\\\\\\(|\\\\\\[).{0,20}/g),
    };
}"""
TEXT = f"""() => {{
    const pictures = [...document.querySelectorAll('.wide-figure img')]
        .map(i => i.width / i.naturalWidth * {figures.SMALLEST});
    const words = [...document.querySelectorAll('main svg text')].map(
        t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a);
    return [...pictures, ...words].filter(size => size < {figures.PIXELS});
}}"""
BENT = """() => [...document.querySelectorAll('.wide-figure img')]
    .map(i => i.width / i.height / (i.naturalWidth / i.naturalHeight))
    .filter(ratio => Math.abs(ratio - 1) > 0.02)"""
"""Pictures that are drawn in another shape than their own."""
WIDTHS = """() => {
    const page = document.documentElement;
    return [page.scrollWidth, page.clientWidth];
}"""


@pytest.fixture(scope="module")
def windows():
    """One window for each width and colour scheme, and the site's address."""
    if _browser.CHROMIUM is None:
        pytest.skip("no Chromium found")
    if not SITE.is_dir():
        pytest.skip("run make book first")
    with (
        _browser.serving(SITE) as address,
        _browser.views(KINDS) as views,
    ):
        yield address, views


@pytest.mark.parametrize("page", PAGES)
def test_a_page_looks_right_in_chromium(windows, page):
    address, views = windows
    for (width, scheme), view in views.items():
        seen = f"{page} at {width} pixels, {scheme}"
        view.open(f"{address}/{page}.html")
        formulas = view.page.evaluate(FORMULAS)
        wide, room = view.page.evaluate(WIDTHS)
        assert view.faults == [], seen
        assert wide <= room, f"{seen}: {wide} pixels wide"
        assert not any(formulas.values()), f"{seen}: {formulas}"
        theme = view.page.evaluate("document.documentElement.dataset.theme")
        assert theme == scheme, seen
        assert view.page.evaluate(BENT) == [], f"{seen}: a bent figure"
        if width == 390:
            small = view.page.evaluate(TEXT)
            assert small == [], f"{seen}: figures with text of {small} pixels"


def test_a_figure_on_a_phone_scrolls_by_keyboard(windows):
    address, views = windows
    view = views[390, "dark"]
    page = next(p for p in CHAPTERS if "wide-figure" in html_of(p))
    view.open(f"{address}/{page}.html")
    frame = view.page.locator(".wide-figure").first
    assert frame.get_attribute("tabindex") == "0"
    frame.focus()
    view.page.keyboard.press("ArrowRight")
    view.page.wait_for_function(
        "document.querySelector('.wide-figure').scrollLeft > 0"
    )


def html_of(page):
    return (SITE / f"{page}.html").read_text("utf-8")


def shown(page):
    return page.locator("table.claims tbody tr:visible").count()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_claims_can_be_filtered_by_keyboard(windows, width, scheme):
    address, views = windows
    view = views[width, scheme]
    view.open(f"{address}/scoreboard.html")
    page = view.page
    every = shown(page)
    words = page.get_by_label("Words in the claim")
    words.focus()
    page.keyboard.type("relative accuracy")
    some = shown(page)
    assert 0 < some < every
    assert f"{some} of {every} claims shown" in page.text_content("output")
    for wanted in ("claims-chapter", "claims-verdict", "claims-paper"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == wanted
    page.keyboard.press("Space")
    papers = shown(page)
    assert papers < some
    assert "words=relative+accuracy&paper=1" in page.url
    page.reload()  # a link to what was chosen
    assert shown(page) == papers
    page.get_by_role("button", name="Show all").press("Enter")
    page.wait_for_function(
        "document.getElementById('claims-words').value === ''"
    )
    assert shown(page) == every
    view.open(f"{address}/scoreboard.html?words=no-such-words")
    assert shown(page) == 0
    link = page.locator("table.counts a").last
    link.press("Enter")
    assert shown(page) == every
    chapter = link.get_attribute("href").removeprefix("#")
    assert page.url.endswith(f"#{chapter}")
    table = f"document.querySelector('table[data-chapter={chapter}]')"
    place = f"{table}.getBoundingClientRect().top"
    page.wait_for_function(f"0 < {place} && {place} < 900")  # in the window
    wide, room = page.evaluate(WIDTHS)
    assert wide <= room and view.faults == []


def test_a_row_of_claims_is_a_card_on_a_phone(windows):
    address, views = windows
    view = views[390, "light"]
    view.open(f"{address}/scoreboard.html")
    row = view.page.locator("table.claims tbody tr").first
    cells = row.locator("td, th").all()
    boxes = [cell.bounding_box() for cell in cells]
    assert len({box["x"] for box in boxes}) == 1
    assert all(b["x"] + b["width"] <= 390 for b in boxes)
