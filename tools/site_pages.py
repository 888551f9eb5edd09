"""What the pages say of the site itself: where it is, which commit, which run.

A page asks for such a piece by a line of its own, `<!-- site: NAME -->` with
one of `PIECES`. No source file holds an address: it comes from `checkout`.
"""

import importlib.metadata
import platform
import re
from datetime import datetime
from html import escape

from checkout import NONE, Address, Commit, day

TITLE = "Model Extraction, Hands On"
AUTHORS = "The authors of Model Extraction, Hands On"
DOWNLOADS = "downloads"
"""The folder of the site with the wheel, all notebooks, the citation."""


class Site:
    """What a build of the site knows of itself.

    address: where it will be, or None. commit: what it shows, or None.
    wheel: the name of the wheel that it carries. pdf: whether it carries the
    book as a PDF.
    """

    def __init__(
        self,
        address: Address | None,
        commit: Commit | None,
        wheel: str,
        pdf: bool = False,
    ):
        self.address, self.commit = address, commit
        self.wheel, self.pdf = wheel, pdf

    @property
    def wheel_url(self) -> str:
        """Where the wheel can be installed from; its name where unknown."""
        if self.address is None:
            return self.wheel
        name = self.wheel.replace("+", "%2B")
        return f"{self.address.site}{DOWNLOADS}/{name}"

    # --- the pieces -------------------------------------------------------

    def browser(self) -> str:
        """How a chapter is opened in Colab, or why it cannot be."""
        if self.address is None:
            return (
                "This copy of the site has no Colab button, since Colab "
                f"opens what is on GitHub and {NONE}.\n"
                "Where there is one, each chapter has a rocket at the top of "
                "its page."
            )
        return (
            "Each chapter has a rocket at the top of its page; it opens the "
            "notebook in\nGoogle Colab.\n"
            "Its first cell, which this site hides, installs the book's "
            "helpers there,\nfrom the wheel that this site carries."
        )

    def clone(self) -> str:
        """The commands that fetch and build the book."""
        url = self.address.url if self.address else "ADDRESS"
        lines = [f"git clone {url} book", "cd book", "make book"]
        text = "\n".join(["```bash", *lines, "```"])
        if self.address is None:
            text += f"\n\n`ADDRESS` is for you to fill in: {NONE}."
        return text

    def install(self) -> str:
        """The command that installs the helpers from the site's wheel."""
        lines = ["pip install --no-deps \\", f"  '{self.wheel_url}'"]
        text = "\n".join(["```bash", *lines, "```"])
        if self.address is None:
            text += (
                f"\n\nThe wheel lies in the folder `{DOWNLOADS}` of the site."
            )
        return text

    def citation(self) -> str:
        """How to cite the book, as BibTeX."""
        return f"```bibtex\n{self.bibtex().strip()}\n```"

    def downloads(self) -> str:
        """Links to what the site carries for download."""
        links = [
            ("notebooks.zip", "all chapters as notebooks, with the wheel"),
            (self.wheel, "the helpers and chapters as a Python wheel"),
            ("book.bib", "how to cite the book, as BibTeX"),
            ("CITATION.cff", "the same for reference managers"),
        ]
        if self.pdf:
            links.insert(1, ("book.pdf", "the book for paper, as a PDF"))
        rows = [
            f'<li><a href="{DOWNLOADS}/{name.replace("+", "%2B")}" download>'
            f"{name}</a>: {words}</li>"
            for name, words in links
        ]
        return "\n".join(["<ul>", *rows, "</ul>"])

    # --- the citation -----------------------------------------------------

    def bibtex(self) -> str:
        """The book as an entry of BibTeX."""
        fields = {
            "title": f"{{{TITLE}}}",
            "author": f"{{{AUTHORS}}}",
            "year": str(self.commit.when.year) if self.commit else "2026",
        }
        if self.commit:
            fields["note"] = f"Commit {self.commit.words}"
        if self.address:
            fields["url"] = self.address.site
        width = max(map(len, fields))
        lines = [f"  {k:<{width}} = {{{v}}}," for k, v in fields.items()]
        return "\n".join(["@misc{mex_hands_on,", *lines, "}"]) + "\n"

    def cff(self, source: str) -> str:
        """CITATION.cff with what only a build knows.

        source: the repository's own, which names no address.
        """
        added = ""
        if self.address:
            added += f"repository-code: {self.address.url}\n"
            added += f"url: {self.address.site}\n"
        if self.commit:
            added += f"commit: {self.commit.digest}\n"
            date = self.commit.when.date().isoformat()
            source = re.sub(
                r"^date-released: .*$",
                f'date-released: "{date}"',
                source,
                flags=re.MULTILINE,
            )
        return source.rstrip("\n") + "\n" + added

    # --- what stands below every page -------------------------------------

    def footer(self, source: str) -> str:
        """The line at the foot of a page, as HTML.

        source: the page's file in the repository; empty where it is made by
        the build.
        """
        parts = []
        if self.commit:
            words = f"Commit {self.commit.words}"
            if self.address and not self.commit.changed:
                url = f"{self.address.url}/commit/{self.commit.digest}"
                words = f'<a href="{url}">{words}</a>'
            parts.append(words)
        if source and self.address:
            url = self.edit_url(source)
            parts.append(f'<a href="{url}">Edit this page</a>')
        elif source:
            parts.append(f"Source: <code>{source}</code>")
        return " · ".join(parts)

    def foot(self, source: str, *sentences: str) -> str:
        """`footer` and below it what is said of the build and of the run."""
        lines = [self.footer(source), *map(escape, sentences)]
        return "<br/>\n".join(filter(None, lines))

    def edit_url(self, source: str) -> str:
        """Where GitHub lets a reader change a file and propose it."""
        return f"{self.address.url}/edit/main/{source}"

    def filled(self, text: str, page: str) -> str:
        """The text of a page with the pieces that it asks for.

        Raises `ValueError` that names the page for a piece there is not.
        """

        def piece(match: re.Match) -> str:
            if match[1] not in PIECES:
                raise ValueError(
                    f"{page}: {match[0]} asks for no piece that there is; "
                    f"there are {', '.join(PIECES)}"
                )
            return PIECES[match[1]](self)

        return re.sub(r"^<!-- site: (.*) -->$", piece, text, flags=re.M)


PIECES = {
    "browser": Site.browser,
    "clone": Site.clone,
    "install": Site.install,
    "citation": Site.citation,
    "downloads": Site.downloads,
}
"""Name to what makes the piece."""


BUILT_WITH = {
    "Jupyter Book": "jupyter-book",
    "Sphinx": "sphinx",
    "MyST-NB": "myst-nb",
    "its theme": "sphinx-book-theme",
}
"""What makes the pages, by the name that they say."""


def build_in_words(when: datetime) -> str:
    """A sentence on the build of the site: when, and with which versions."""
    versions = {"Python": platform.python_version()} | {
        name: importlib.metadata.version(package)
        for name, package in BUILT_WITH.items()
    }
    listed = ", ".join(f"{n} {v}" for n, v in versions.items())
    return f"Built {day(when)}, {when:%H:%M} UTC, with {listed}."


def runs_in_words(notes: list[dict]) -> str:
    """A sentence on the runs of all chapters, which every page stands on.

    notes: their records. Commits, machines and versions are named where they
    are the same for all, and counted where they are not.
    """
    if not notes:
        return ""
    abouts = [note["about"] for note in notes if note.get("about")]
    seconds = sum(note["seconds"] for note in notes)
    words = f"The run behind the book: {len(notes)} chapters"
    if abouts:
        days = [datetime.fromisoformat(about["when"]) for about in abouts]
        ends = list(dict.fromkeys([day(min(days)), day(max(days))]))
        words += f", {' to '.join(ends)}"
    words += f", {seconds:,.0f} s together"
    words += _common(", of commit ", _commits(abouts), "commits")
    machines = [about["machine"] for about in abouts]
    words += _common("; ", machines, "machines")
    versions = [
        ", ".join(
            f"{name} {version}"
            for name, version in (
                {"Python": about["python"]} | about["libraries"]
            ).items()
        )
        for about in abouts
    ]
    return words + _common("; ", versions, "sets of versions") + "."


def _commits(abouts: list[dict]) -> list[str]:
    return [
        about["commit"] + " with changes" * about["changed"]
        for about in abouts
        if about["commit"]
    ]


def _common(before: str, values: list[str], what: str) -> str:
    """The one value that there is, or how many there are."""
    found = set(values)
    if len(found) > 1:
        return f"; {len(found)} {what}, which each chapter names"
    return "".join(before + value for value in found)


def run_in_words(note: dict, started: str, python: str) -> str:
    """A sentence on a chapter's run: when, how long, on what.

    note: the run's record. started, python: what the notebook itself says,
    for a record that was written before machines were noted.
    """
    about = note.get("about", {})
    when = about.get("when") or started
    words = "This run"
    if when:
        then = datetime.fromisoformat(when)
        words += f": {day(then)}, {then:%H:%M} UTC"
    words += f", {note['seconds']:,.0f} s"
    if about.get("commit"):
        changed = " with changes" * about["changed"]
        words += f", of commit {about['commit']}{changed}"
    words += f"; {about['machine']}" if about else ""
    versions = {"Python": about.get("python") or python}
    versions |= about.get("libraries", {})
    listed = ", ".join(f"{n} {v}" for n, v in versions.items() if v)
    return f"{words}; {listed}." if listed else f"{words}."
