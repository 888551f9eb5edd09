"""What the tests share: the tools, a cache of their own, the files."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache folder in place of the reader's."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MEXUTILS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def project_files():
    """The project's files, without what is built, cached or ignored."""
    if (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True)
        names = listing.stdout.decode().split("\0")
        paths = {ROOT / name for name in names if name}
    else:
        built = {".venv", ".wire", "_build", "build", "__pycache__"}
        paths = {
            path
            for path in ROOT.rglob("*")
            if not any(
                part in built or part.endswith(("_cache", ".egg-info"))
                for part in path.relative_to(ROOT).parts
            )
        }
    return sorted(path for path in paths if path.is_file())


@pytest.fixture
def installed(monkeypatch):
    """Call it with a distribution, which then has another version."""
    true = importlib.metadata.version

    def change(name):
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda asked: "0.0" if asked == name else true(asked),
        )

    return change


@pytest.fixture
def shop():
    """Call it with an API: a client of its gateway, whose URL is `base`."""
    from _wire import KEYS

    from mexutils.wire import RemoteAPI, serve

    opened = []

    def open_one(api, key="k-eve", **settings):
        door = serve(api, KEYS, **settings)
        url = door.__enter__()
        opened.append(door)
        remote = RemoteAPI(url, key=key)
        remote.base = url
        return remote

    yield open_one
    for door in opened:
        door.__exit__(None, None, None)
