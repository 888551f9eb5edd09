"""A Sphinx extension: what stands around each page of the book.

At its foot the commit, a link to the page's source, the build and the run; in
the menu of the source the same link. The theme's own button would lead to the
built notebook.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from checkout import address, commit
from run_chapters import BOOK, ROOT, chapters, record
from site_pages import TITLE, Site, build_in_words, runs_in_words


def source_of(page: str) -> str:
    """The file of a page in the repository; empty where a build makes it."""
    for suffix in (".py", ".md"):
        path = BOOK / f"{page}{suffix}"
        if path.is_file():
            return path.relative_to(ROOT).as_posix()
    return ""


@cache
def _build_and_run() -> tuple[str, str]:
    """A sentence on this build, and one on the run of all chapters."""
    notes = list(filter(None, map(record, chapters())))
    return build_in_words(datetime.now(UTC)), runs_in_words(notes)


def edition(page: str) -> tuple[str, ...]:
    """What the foot of a page says of its build and its run.

    A chapter says at its own end when and on what it ran.
    """
    build, run = _build_and_run()
    return (build,) if page in chapters() else (build, run)


def add_source(app, pagename, templatename, context, doctree) -> None:
    """Put the foot and the button into what the theme draws."""
    site = Site(address(ROOT), commit(ROOT), "")
    source = source_of(pagename)
    context["theme_extra_footer"] = site.foot(source, *edition(pagename))
    if not (source and site.address):
        return
    for button in context.get("header_buttons", []):
        if button.get("label") == "source-buttons":
            edit = {
                "type": "link",
                "url": site.edit_url(source),
                "tooltip": "Edit this page",
                "text": "Edit",
                "icon": "fas fa-pencil-alt",
                "label": "source-edit-button",
            }
            button["buttons"].insert(1, edit)


def set_last(app, config) -> None:
    """What other extensions would set otherwise.

    The book's title stands below its logo, and Sphinx numbers no figures.
    """
    logo = {"text": TITLE, "alt_text": "A model, and its copy"}
    config.html_theme_options.setdefault("logo", {}).update(logo)
    config.numfig = False  # tools/numbering.py has numbered them


def setup(app) -> dict:
    """After the theme, which sets its buttons at priority 501."""
    app.connect("config-inited", set_last, priority=900)
    app.connect("html-page-context", add_source, priority=900)
    return {"version": Path(__file__).stem, "parallel_read_safe": True}
