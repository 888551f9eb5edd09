"""What the run of a chapter stands on."""

import os
import subprocess
import sys
import threading
from types import ModuleType

import pytest
import scipy.stats
from chapter_keys import chapter_key, measurement_key
from conftest import ROOT

from mexutils import chapters, datasets, plotting
from mexutils.keys import key_of


def double(x):
    return 2 * x


FINE = '''# %% [markdown]
# # A fine chapter

# %% tags=["remove-cell"]
import numpy as np
from mexutils import Claims, datasets, metrics

claims = Claims()

# %% tags=["parameters"]
seed = 0

# %%
WINDOW = 25
LATER = 1


# %%
def used(x):
    """Half of x."""
    return x[:WINDOW] / 2  # half


def left(x):
    return datasets.letters(x)


# %% mystnb={"image": {"alt": "A figure of the experiment"}}
found = used(np.arange(30.0) + seed)
found.mean()

# %%
claims.add("the mean", found.mean(), low=5, high=7, paper="six")
claims.check()
'''
LOADING = """# %%
from mexutils import datasets, load_chapter
from mexutils.notebook import progress

FINE = load_chapter("part/fine")

# %%
whole = list(progress(range(3), "steps"))
FINE.used(datasets.noise(30, (1,)))
"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    folder = tmp_path / "book"
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "fine.py").write_text(FINE)
    (folder / "loading.py").write_text(LOADING)
    monkeypatch.setattr(chapters, "book_dir", lambda: folder)
    return folder


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


BOTH = {"part/fine", "loading"}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        # Prose, captions, tags, comments and docstrings are no code.
        ("A fine chapter", "A finer chapter", set()),
        ("# %%\nWINDOW", "# %% [markdown]\n# Why?\n\n# %%\nWINDOW", set()),
        ("of the experiment", "of something", set()),
        ("remove-cell", "hide-input", set()),
        ("# half", "# one half", set()),
        ("Half of x", "One half of x", set()),
        ("    return datasets", '    """Rows."""\n    return datasets', set()),
        # Experiments, the number of cells and what they show are its own.
        ("30.0", "31.0", {"part/fine"}),
        ("seed = 0", "seed = 1", {"part/fine"}),
        ("found.mean()\n", "found.mean()\n\n# %%\n", {"part/fine"}),
        ("found.mean()\n", "\n# %%\nfound.mean()\n", {"part/fine"}),
        ("found.mean()\n", "found.mean();\n", {"part/fine"}),
        ("low=5", "low=4", {"part/fine"}),
        # So are definitions that no other chapter uses.
        ("LATER = 1", "LATER = 2", {"part/fine"}),
        ("letters(x)", "letters(x + 1)", {"part/fine"}),
        # The others count where they are used.
        ("WINDOW = 25", "WINDOW = 26", BOTH),
        ("/ 2 ", "/ 3 ", BOTH),
    ],
)
def test_a_chapter_s_key_follows_its_code(book, old, new, changed):
    before = {name: chapter_key(name) for name in BOTH}
    edited(book / "part" / "fine.py", old, new)
    assert {n for n in BOTH if before[n] != chapter_key(n)} == changed


def test_a_measurement_does_not_stand_on_its_range(book):
    path, before = book / "part" / "fine.py", measurement_key("part/fine")
    edited(path, "low=5, high=7", "high=8")
    edited(path, 'paper="six"', 'paper="5.9"')
    assert measurement_key("part/fine") == before
    edited(path, "found.mean(),", "found.max(),")
    assert measurement_key("part/fine") != before


def test_a_measurement_does_not_stand_on_how_it_is_shown(book, monkeypatch):
    path = book / "part" / "fine.py"
    edited(path, "Claims, datasets", "Claims, datasets, plotting")
    edited(path, "seed = 0\n", "seed = 0\nplotting.use_style()\n")
    before = chapter_key("part/fine"), measurement_key("part/fine")
    monkeypatch.setattr(plotting, "use_style", double)
    after = chapter_key("part/fine"), measurement_key("part/fine")
    assert after[0] != before[0] and after[1] == before[1]


def test_a_chapter_stands_on_the_helpers_that_it_uses(book, monkeypatch):
    before = {name: chapter_key(name) for name in BOTH}

    def changed():
        return {n for n in BOTH if before[n] != chapter_key(n)}

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "TABULAR", ())
        assert changed() == set()
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "LETTERS", "AB")  # of `left`, not of `used`
        assert changed() == {"part/fine"}
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "_count", double)
        assert changed() == BOTH


def test_a_chapter_stands_on_the_libraries_that_it_uses(book, installed):
    before = {name: chapter_key(name) for name in BOTH}
    installed("scipy")
    assert {name: chapter_key(name) for name in BOTH} == before
    installed("tqdm")  # of the helper `progress`
    assert chapter_key("part/fine") == before["part/fine"]
    assert chapter_key("loading") != before["loading"]


@pytest.mark.parametrize(
    "load",
    [
        'fine = load_chapter("part/fine")\nfine.used([1])',
        'def late():\n    return load_chapter("part/fine").used([1])',
        'print(load_chapter("part/fine").used([1]))',
        'import mexutils\n\nfine = mexutils.load_chapter("part/fine")',
    ],
)
def test_a_chapter_counts_however_it_is_loaded(book, load):
    path = book / "loading.py"
    path.write_text(f"# %%\nfrom mexutils import load_chapter\n\n{load}\n")
    before = chapter_key("loading")
    edited(book / "part" / "fine.py", "30.0", "31.0")
    assert chapter_key("loading") == before
    edited(book / "part" / "fine.py", "/ 2 ", "/ 3 ")
    assert chapter_key("loading") != before


@pytest.mark.parametrize(
    "text",
    [
        *("# %%\nvalue = (\n", "# %%\nimport absent_library\n"),
        *("# %%\nONE = 1 / 0\n", '# %%\n"""\n', "# %%\n!pip list\n"),
        '# %%\nfrom mexutils import load_chapter\nA = load_chapter("b")\n',
    ],
)
def test_a_broken_chapter_has_a_key(book, text):
    path = book / "broken.py"
    path.write_text(text)
    before = chapter_key("broken")
    assert before == chapter_key("broken")
    path.write_text(text.replace("# %%", "# %%\n2", 1))
    assert chapter_key("broken") not in (before, chapter_key("loading"))


def test_an_unknown_chapter_is_refused(book):
    with pytest.raises(FileNotFoundError, match="loading, part/fine"):
        chapter_key("part/fin")


def test_reading_keys_leaves_the_loaded_chapters_alone(book):
    before = {n: m for n, m in sys.modules.items() if "mexutils" in n}
    chapter_key("loading")
    assert before == {n: m for n, m in sys.modules.items() if "mexutils" in n}


def test_another_thread_may_import_meanwhile(book):
    # papermill imports what it needs in the threads that run chapters.
    done, faults = threading.Event(), []

    def import_and_forget():
        while not done.is_set():
            for n in range(2000):
                sys.modules[f"coming{n}"] = ModuleType(f"coming{n}")
            for n in range(2000):
                del sys.modules[f"coming{n}"]

    other = threading.Thread(target=import_and_forget)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    other.start()
    try:
        for _ in range(20):
            chapter_key("loading")
            key_of(scipy.stats.norm)
    except RuntimeError as error:
        faults.append(error)
    finally:
        done.set()
        other.join()
        sys.setswitchinterval(interval)
    assert not faults


@pytest.mark.slow
def test_a_chapter_has_one_key_in_every_process():
    """`scipy.stats.norm`, which this one uses, holds sets."""
    code = "from chapter_keys import chapter_key; print(chapter_key({!r}))"
    path = f"{ROOT}:{ROOT / 'tools'}"
    found = {
        subprocess.run(
            [sys.executable, "-c", code.format("defenses/forgotten_siblings")],
            env=os.environ
            | {
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": path,
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


SETUP = """# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:
    raise RuntimeError("run make book") from error

"""


def test_what_the_first_cell_installs_is_no_part_of_a_run(book):
    path = book / "part" / "fine.py"
    path.write_text(SETUP + FINE)
    before = chapter_key("part/fine"), measurement_key("part/fine")
    edited(path, "run make book", "install the wheel")
    assert before == (chapter_key("part/fine"), measurement_key("part/fine"))
    edited(path, "import mexutils  #", "import mexutils\n    x = 1  #")
    assert chapter_key("part/fine") != before[0]  # it does more than look
    edited(path, "import mexutils", "import numpy")
    assert chapter_key("part/fine") != before[0]
