"""Where the repository is: from one place, and in no file."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime

import checkout
import jupytext
import nbformat
import pytest
import run_chapters
import yaml
from checkout import address, commit, pages_of
from conftest import ROOT

UPSTREAM, FORK = "Upstream-Inc/the-original", "Ada-L/copied.book"
CHAPTERS = run_chapters.chapters()


def git(folder, *arguments):
    command = ["git", "-C", folder, "-c", "user.name=a"]
    command += ["-c", "user.email=a@example.com", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "file").write_text("one\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "One")
    return folder


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/Ada-L/copied.book",
        "https://github.com/Ada-L/copied.book.git",
        "https://x-access-token:secret@github.com/Ada-L/copied.book.git/",
        "git@github.com:Ada-L/copied.book.git",
        "ssh://git@github.com/Ada-L/copied.book",
    ],
)
def test_the_address_is_that_of_the_remote(repository, origin):
    git(repository, "remote", "add", "origin", origin)
    found = address(repository, {})
    assert found == (FORK, "https://ada-l.github.io/copied.book/")
    assert found.url == f"https://github.com/{FORK}"


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "../elsewhere.git",
        "https://example.com/Ada-L/copied.book",
        "https://notgithub.com/Ada-L/copied.book",
        "https://github.com.example.com/Ada-L/copied.book",
    ],
)
def test_elsewhere_there_is_none(repository, origin):
    if origin:
        git(repository, "remote", "add", "origin", origin)
    assert address(repository, {}) is None


def test_github_s_own_word_comes_first(repository):
    origin = f"https://github.com/{UPSTREAM}"
    git(repository, "remote", "add", "origin", origin)
    assert address(repository, {"GITHUB_REPOSITORY": FORK})[0] == FORK


def test_a_site_may_have_a_domain_of_its_own(repository):
    said = {"GITHUB_REPOSITORY": FORK, "BOOK_SITE": "https://book.example.com"}
    assert address(repository, said).site == "https://book.example.com/"
    assert pages_of("Ada/ada.github.io") == "https://ada.github.io/"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"GITHUB_REPOSITORY": "book"}, "give owner/name"),
        ({"GITHUB_REPOSITORY": "a/b/c"}, "give owner/name"),
        ({"GITHUB_REPOSITORY": 'a/b"><x'}, "give owner/name"),
        ({"GITHUB_REPOSITORY": "a/b", "BOOK_SITE": "book"}, "give https://"),
    ],
)
def test_what_is_no_address_is_refused(repository, said, fault):
    with pytest.raises(ValueError, match=fault):
        address(repository, said)


def test_a_commit_says_when_it_was_and_whether_files_changed(repository):
    found = commit(repository)
    assert found.digest == git(repository, "rev-parse", "HEAD")
    age = datetime.now(UTC) - found.when
    assert 0 <= age.total_seconds() < 600
    assert not found.changed and found.words.startswith(found.short)
    (repository / "file").write_text("two\n")
    assert commit(repository).changed
    assert commit(repository).words.endswith(", and changes since")


def test_an_archive_inside_a_checkout_is_no_commit_of_it(repository):
    archive = repository / "archive"
    archive.mkdir()
    assert commit(archive) is None and address(archive, {}) is None


def test_no_file_of_the_book_names_an_address_of_it(project_files):
    once = "-".join(("model", "extraction", "hands", "on"))
    pattern = rf"github\.com[/:]{once}|{once}\.github\.io"
    named = [
        path
        for path in project_files
        if re.search(pattern.encode(), path.read_bytes(), re.IGNORECASE)
    ]
    assert named == []


# --- a fork ---------------------------------------------------------------

GATHER = (
    "import build_site; site = build_site.this_site(); "
    "build_site.gather(site); build_site.write_settings(site)"
)


def gathered(folder, said):
    """The texts of a checkout's pages and settings, without a run."""
    for name in CHAPTERS:
        path = folder / "_build" / "executed" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        script = jupytext.read(folder / "book" / f"{name}.py")
        nbformat.write(script, path)
        note = {"seconds": 1.0, "error": None, "missed": []}
        path.with_suffix(".json").write_text(json.dumps(note))
    known = {k: v for k, v in os.environ.items() if "GITHUB" not in k}
    path = os.pathsep.join([str(folder), str(folder / "tools")])
    done = subprocess.run(
        [sys.executable, "-c", GATHER],
        cwd=folder,
        env=known | {"PYTHONPATH": path} | said,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    build = folder / "_build"
    files = [*(build / "source").rglob("*"), build / "config.yml"]
    return {
        path.relative_to(build).as_posix(): path.read_text()
        for path in files
        if path.suffix in (".md", ".ipynb", ".yml")
    }


@pytest.fixture(scope="module")
def bare(project_files, tmp_path_factory):
    """A bare repository of these files, pushed from one with an upstream."""
    folder = tmp_path_factory.mktemp("fork")
    first = folder / "first"
    for path in project_files:
        copy = first / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    git(first, "init", "-q", "-b", "main")
    git(first, "add", "-f", ".")
    git(first, "commit", "-qm", "All")
    git(first, "remote", "add", "origin", f"https://github.com/{UPSTREAM}")
    git(folder, "clone", "-q", "--bare", first, folder / "other.git")
    return folder


def clone(bare, name):
    git(bare, "clone", "-q", bare / "other.git", bare / name)
    return bare / name


def setups(texts):
    """The first cell of code of every notebook."""
    for name in CHAPTERS:
        text = texts[f"source/{name}.ipynb"]
        cells = nbformat.reads(text, as_version=4).cells
        yield next(cell for cell in cells if cell.cell_type == "code").source


@pytest.mark.slow
def test_a_fork_names_itself_and_nobody_else(bare):
    upstream = gathered(bare / "first", {})
    assert "Upstream-Inc" in upstream["source/intro.md"]
    assert "upstream-inc.github.io" in upstream["source/setting.ipynb"]
    fork = gathered(clone(bare, "fork"), {"GITHUB_REPOSITORY": FORK})
    assert set(fork) == set(upstream)
    everything = "\n".join(fork.values())
    assert "upstream-inc" not in everything.lower()
    assert "the-original" not in everything.lower()
    version = commit(bare / "fork").short
    for setup in setups(fork):
        (url,) = re.findall(r"https?://[^\s\"]+", setup)
        assert url == (
            "https://ada-l.github.io/copied.book/downloads/"
            f"mexutils-0.1.0%2Bg{version}-py3-none-any.whl"
        )
        compile(setup, "setup", "exec")
    intro = fork["source/intro.md"]
    assert f"git clone https://github.com/{FORK} book\n" in intro
    assert "https://ada-l.github.io/copied.book/" in intro
    settings = yaml.safe_load(fork["config.yml"])
    assert settings["repository"]["url"] == f"https://github.com/{FORK}"
    assert settings["launch_buttons"]["colab_url"]


@pytest.mark.slow
def test_without_an_address_no_button_and_a_line_that_says_why(bare):
    texts = gathered(clone(bare, "nowhere"), {})
    settings = yaml.safe_load(texts["config.yml"])
    assert "launch_buttons" not in settings and "repository" not in settings
    for name in CHAPTERS:
        cells = nbformat.reads(texts[f"source/{name}.ipynb"], 4).cells
        assert "no Colab button" in cells[-1].source
        assert checkout.NONE in cells[-1].source
    assert checkout.NONE in texts["source/intro.md"]
    for setup in setups(texts):
        assert "http" not in setup
        compile(setup, "setup", "exec")
