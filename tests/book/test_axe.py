"""axe-core finds nothing on the built pages but what is the theme's own."""

import os

import _browser
import pytest
from conftest import ROOT

SITE = ROOT / "_build" / "html"
# Noted before any test can set it.
IN_CI = bool(os.environ.get("CI"))
PAGES = (
    *("intro", "course", "attacks/stealml", "comparison/arena"),
    *("scoreboard", "survey", "stability"),
    *("practice/checklist", "practice/frameworks"),
)
KINDS = [(1280, "light"), (1280, "dark"), (390, "light")]
OF_THE_THEME = {
    "region": [
        ".sidebar-primary__section a.navbar-brand img",
        ".sidebar-primary__section a.navbar-brand p.title",
    ],
}
"""Rule to the places where the theme breaks it, on every page.

The logo and the title of the book stand outside of the page's landmarks.
"""
THEIRS = """([rule, targets, known]) => targets.map(target => {
    const node = document.querySelector(target);
    return known.findIndex(place => node.matches(place));
})"""


@pytest.fixture(scope="module")
def seen():
    """A function: what axe finds on a page, in a window of some kind."""
    playing = pytest.importorskip(
        "axe_playwright_python.sync_playwright",
        reason="axe-playwright-python of requirements.txt is not installed",
    )
    if _browser.CHROMIUM is None:
        pytest.skip("no Chromium found")
    if not (SITE / "index.html").is_file():
        (pytest.fail if IN_CI else pytest.skip)("run make book first")
    axe = playing.Axe()

    def look(view, page, change=None):
        view.open(f"{address}/{page}.html")
        if change:
            view.page.evaluate(change)
        only = {"resultTypes": ["violations"]}
        return axe.run(view.page, options=only).response["violations"]

    with _browser.serving(SITE) as address, _browser.views(KINDS) as views:
        yield lambda kind, page, *change: split(
            views[kind].page, look(views[kind], page, *change)
        )


def split(page, violations):
    """What is ours, in words, and which entries of `OF_THE_THEME` occur."""
    ours, theirs = [], set()
    for found in violations:
        known = OF_THE_THEME.get(found["id"], [])
        for node in found["nodes"]:
            target = node["target"][-1]
            place = page.evaluate(THEIRS, [found["id"], [target], known])[0]
            if place >= 0:
                theirs.add((found["id"], known[place]))
            else:
                why = " ".join(node["failureSummary"].split())
                ours.append(f"{found['id']} at {target}: {why}")
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS, ids="{0[0]}-{0[1]}".format)
@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing_but_what_is_the_theme_s(seen, page, kind):
    ours, theirs = seen(kind, page)
    assert ours == []
    if kind[0] == 1280:  # a phone folds the sidebar away
        every = {(rule, p) for rule, ps in OF_THE_THEME.items() for p in ps}
        assert theirs == every, "entries that nothing needs have to go"


def test_axe_finds_a_picture_without_words(seen):
    """The same look fails where a picture has lost its words."""
    change = "document.querySelector('main img').removeAttribute('alt')"
    ours, _ = seen(KINDS[0], "intro", change)
    assert [words for words in ours if words.startswith("image-alt at ")]
    assert len(ours) == 1
