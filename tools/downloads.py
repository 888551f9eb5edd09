"""What the site carries for download, and what search engines ask for.

The wheel of the very commit that the site shows, all notebooks in one zip
with that wheel beside them, the citation, a page for addresses that are not
there, and a map of the site.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from html import escape
from pathlib import Path

from checkout import Address, Commit
from site_pages import DOWNLOADS, TITLE, Site

FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the zip: equal content, equal bytes."""
IN_WHEEL = ("pyproject.toml", "README.md", "LICENSE", "mexutils", "book")


def wheel_version(root: Path, commit: Commit | None) -> str:
    """The version of pyproject.toml with the commit, as `0.1.0+g97f2c62`."""
    text = (root / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]
    if commit is None:
        return version
    return f"{version}+g{commit.short}" + ".changed" * commit.changed


def wheel_name(root: Path, commit: Commit | None) -> str:
    """The name of the wheel's file."""
    return f"mexutils-{wheel_version(root, commit)}-py3-none-any.whl"


def build_wheel(root: Path, commit: Commit | None, folder: Path) -> Path:
    """Build the wheel of the files as they are now; its path in `folder`.

    Raises `RuntimeError` with what pip says where it cannot be built.
    """
    version = wheel_version(root, commit)
    folder.mkdir(parents=True, exist_ok=True)
    when = int(commit.when.timestamp()) if commit else 315532800
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "source")
        for name in IN_WHEEL:
            _copy(root / name, source / name)
        project = source / "pyproject.toml"
        text = re.sub(
            r'^version = ".+"$',
            f'version = "{version}"',
            project.read_text(),
            flags=re.MULTILINE,
        )
        project.write_text(text)
        command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps"]
        command += ["--no-build-isolation", "--no-index", "-w", folder, source]
        done = subprocess.run(
            command,
            env=os.environ | {"SOURCE_DATE_EPOCH": str(when)},
            capture_output=True,
            text=True,
        )
    path = folder / wheel_name(root, commit)
    if done.returncode or not path.is_file():
        raise RuntimeError(
            f"the wheel could not be built: {done.stderr or done.stdout}"
        )
    return path


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        return
    left_out = shutil.ignore_patterns("__pycache__", "*.ipynb", ".ipynb_*")
    shutil.copytree(source, target, ignore=left_out)


def zip_notebooks(sources: Path, wheel: Path, target: Path) -> None:
    """All notebooks below `sources`, and the wheel that they install."""
    files = {
        path.relative_to(sources).as_posix(): path
        for path in sorted(sources.rglob("*.ipynb"))
    }
    files[wheel.name] = wheel
    with zipfile.ZipFile(target, "w") as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(f"notebooks/{name}", FIRST_DAY)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())


def add_downloads(built: Path, site: Site, wheel: Path, root: Path) -> None:
    """Put all of it into the built site."""
    folder = built / DOWNLOADS
    folder.mkdir(exist_ok=True)
    shutil.copy(wheel, folder / wheel.name)
    zip_notebooks(built / "_sources", wheel, folder / "notebooks.zip")
    (folder / "book.bib").write_text(site.bibtex())
    citation = (root / "CITATION.cff").read_text()
    (folder / "CITATION.cff").write_text(site.cff(citation))
    (built / "404.html").write_text(not_found(site.address))
    if site.address:  # a map needs whole addresses
        (built / "sitemap.xml").write_text(sitemap(built, site))


NOT_FOUND = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="description" content="There is no page at this address.">
<title>No such page: {title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem;
  margin: 15vh auto; padding: 0 1.5rem; }}
</style>
</head>
<body>
<main>
<h1>There is no such page</h1>
<p>The address may be of an older edition: chapters are renamed now and then.
</p>
<ul>
<li><a href="{home}intro.html">{title}</a>, with the map of all chapters</li>
<li><a href="{home}search.html">Search the book</a></li>
<li><a href="{home}scoreboard.html">All claims of all chapters</a></li>
</ul>
</main>
</body>
</html>
"""


def not_found(address: Address | None) -> str:
    """A page of its own: it is shown at any depth, so it loads nothing."""
    home = escape(address.site) if address else ""
    return NOT_FOUND.format(title=TITLE, home=home)


def sitemap(built: Path, site: Site) -> str:
    """The addresses of all pages, as search engines want them."""
    pages = sorted(
        path.relative_to(built).as_posix()
        for path in built.rglob("*.html")
        if not path.relative_to(built).parts[0].startswith("_")
        and path.name not in ("404.html", "search.html", "genindex.html")
    )
    date = ""
    if site.commit:
        date = f"<lastmod>{site.commit.when.date().isoformat()}</lastmod>"
    lines = [
        f"<url><loc>{escape(site.address.site + page)}</loc>{date}</url>"
        for page in pages
        if page != "index.html"  # sends on to intro.html
    ]
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    space = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
    return "\n".join([head, f"<urlset {space}>", *lines, "</urlset>", ""])
