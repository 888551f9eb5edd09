"""Print the built site as one PDF, with the headless Chromium that there is.

All pages are put into one document, in the order of the contents: links
between pages lead inside it, what folds open on the site stands open, and what
only a screen needs goes. No LaTeX is needed.

usage: print_book.py   (after make book; make pdf does both)
"""

import posixpath
import re
import shutil
import sys
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup
from site_pages import AUTHORS, DOWNLOADS, TITLE, Site

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ON_SCREEN = (
    "a.headerlink, .copybtn, .tb-print-wrapper, script, form, "
    "details.hide.above-input > summary, .onlyprint"
)
"""What paper has no use for."""
SHEET = """
@page { size: A4; margin: 18mm 16mm 20mm; }
html { font-size: 10pt; color-scheme: light; }
body { padding: 0; background: white; }
section.page { break-before: page; }
h1, h2, h3, h4 { break-after: avoid; }
figure, img, .admonition-title { break-inside: avoid; }
pre { white-space: pre-wrap; font-size: 7.5pt; break-inside: auto; }
.cell_output table { font-size: 8pt; }
img { max-width: 100%; height: auto; }
nav.contents a { text-decoration: none; }
nav.contents li { margin: 0.15rem 0; }
.front { height: 240mm; display: flex; flex-direction: column;
  justify-content: center; }
"""
FOOT = """<div style="font-size: 8px; width: 100%; text-align: center;">
<span class="pageNumber"></span></div>"""


def browser() -> str:
    """The Chromium of this machine.

    Raises `FileNotFoundError` that names what was looked for.
    """
    for name in BROWSERS:
        found = shutil.which(name)
        if found:
            return found
    raise FileNotFoundError(
        f"a PDF needs one of {', '.join(BROWSERS)} on the PATH: install one"
    )


def print_book(built: Path, pages: list[str], site: Site) -> Path:
    """Write the PDF into the built site's downloads; its path.

    pages: their paths below the site, without suffix, in order.
    """
    from playwright.sync_api import sync_playwright

    program = browser()
    document = built / "_print.html"
    target = built / DOWNLOADS / "book.pdf"
    target.parent.mkdir(exist_ok=True)
    document.write_text(one_document(built, pages, site))
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=program, args=["--no-sandbox"]
            )
            page = chromium.new_page(color_scheme="light")
            page.set_default_timeout(900_000)
            page.goto(document.as_uri(), wait_until="load")
            page.evaluate("() => window.MathJax?.startup?.promise")
            page.pdf(
                path=target,
                prefer_css_page_size=True,
                print_background=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=FOOT,
                outline=True,
                tagged=True,
            )
            chromium.close()
    finally:
        document.unlink()
    return target


def one_document(built: Path, pages: list[str], site: Site) -> str:
    """All pages as one, with a title page and the contents."""
    texts = {page: (built / f"{page}.html").read_text() for page in pages}
    soup = BeautifulSoup(texts[pages[0]], "html.parser")
    sheets = "\n".join(
        str(link) for link in soup.head.find_all("link", rel="stylesheet")
    )
    math = "\n".join(
        str(script)
        for script in soup.head.find_all("script")
        if "mathjax" in str(script).lower()
    )
    titles, parts = {}, []
    for page, text in texts.items():
        titles[page], part = _part(page, text, set(pages))
        parts.append(part)
    edition = f"Commit {site.commit.words}" if site.commit else ""
    where = site.address.site if site.address else ""
    rows = "\n".join(
        f'<li><a href="#{_slug(page)}">{escape(title)}</a></li>'
        for page, title in titles.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head>
<meta charset="utf-8">
<title>{TITLE}</title>
{sheets}
<style>{SHEET}</style>
{math}
</head>
<body>
<div class="front">
<h1>{TITLE}</h1>
<p>{AUTHORS}</p>
<p>{escape(edition)}</p>
<p>{escape(where)}</p>
</div>
<nav class="contents"><h2>Contents</h2><ul>{rows}</ul></nav>
{"".join(parts)}
</body>
</html>
"""


def _slug(page: str) -> str:
    return "page-" + re.sub(r"[^a-z0-9]+", "-", page.lower())


def _part(page: str, text: str, pages: set[str]) -> tuple[str, str]:
    """The title of a page, and its content as a part of the whole."""
    article = BeautifulSoup(text, "html.parser").select_one("article")
    for tag in article.select(ON_SCREEN):
        tag.decompose()
    for fold in article.select("details"):
        fold["open"] = ""
    for tag in article.find_all(id=True):
        tag["id"] = f"{_slug(page)}--{tag['id']}"
    for link in article.find_all("a", href=True):
        link["href"] = _inside(page, link["href"], pages)
    for image in article.find_all("img", src=True):
        if not re.match(r"[a-z]+:", image["src"]):
            folder = posixpath.dirname(page)
            path = posixpath.join(folder, image["src"])
            image["src"] = posixpath.normpath(path)
        image.attrs.pop("loading", None)
    title = article.find("h1").get_text(" ", strip=True)
    body = article.decode_contents()
    return title, f'<section class="page" id="{_slug(page)}">{body}</section>'


def _inside(page: str, address: str, pages: set[str]) -> str:
    """Where a link of a page leads within the whole document."""
    if re.match(r"[a-z]+:", address):
        return address
    path, _, place = address.partition("#")
    folder = posixpath.dirname(page)
    other = posixpath.normpath(posixpath.join(folder, path)) if path else page
    other = other.removesuffix(".html")
    if other not in pages:
        return address
    return f"#{_slug(other)}--{place}" if place else f"#{_slug(other)}"


def main() -> int:
    """Print the site that stands there."""
    from build_site import SITE, in_contents, this_site

    if not (SITE / "index.html").is_file():
        print("there is no site: run make book first", file=sys.stderr)
        return 1
    print(print_book(SITE, in_contents(), this_site()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
