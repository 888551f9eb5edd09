"""Chapters as modules: what `load_chapter` gives, and who uses whom."""

import ast
import builtins
import dis
import inspect
import multiprocessing
import pickle
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from types import CodeType

import pytest
import run_chapters
from conftest import ROOT

from mexutils import cache, chapters, load_chapter, training, victims

CHAPTERS = run_chapters.chapters()
PACKAGE = "mexutils.book"


@pytest.fixture
def forgotten(monkeypatch):
    """Chapters are read anew within the test, and as before after it."""
    names = [name for name in sys.modules if name.startswith(PACKAGE)]
    kept = {name: sys.modules.pop(name) for name in names}
    yield
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
    sys.modules.update(kept)


PROBE = '''# ---
# jupyter: {}
# ---

# %% [markdown]
# # A probe

# %%
import math
from collections import OrderedDict

claims = print("an experiment ran")

# %% tags=["parameters"]
seed = 1 / 0

# %%
LIMIT: int = 3
LOW, HIGH = -1, math.inf
mixed, UPPER = 1 / 0, 2
LATER: int


def halve(x):
    """Half of x."""
    return x / 2


class Copy:
    """A copy."""

    size = LIMIT

    def fail(self):
        """Always raise."""
        return OrderedDict()["absent"]


# %%
for step in range(3):
    raise RuntimeError("an experiment ran")

if True:
    hidden = 1 / 0

halve(1 / 0)
'''


@pytest.fixture
def probe(forgotten, tmp_path, monkeypatch):
    """A book of two chapters, and the module of the one in a part."""
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "probe.py").write_text(PROBE)
    (tmp_path / "setting.py").write_text("# %%\nONE = 1\n")
    monkeypatch.setattr(chapters, "book_dir", lambda: tmp_path)
    return load_chapter("part/probe")


def test_only_definitions_are_executed(probe, capsys):
    public = {name for name in vars(probe) if not name.startswith("__")}
    assert public == {
        *("math", "OrderedDict", "LIMIT", "LOW", "HIGH", "halve", "Copy")
    }
    assert (3, -1, float("inf")) == (probe.LIMIT, probe.LOW, probe.HIGH)
    assert probe.halve(3) == 1.5
    assert capsys.readouterr().out == ""


def test_docstrings_and_sources_are_kept(probe):
    assert probe.halve.__doc__ == "Half of x."
    assert probe.Copy.__doc__ == "A copy."
    assert probe.Copy.fail.__doc__ == "Always raise."
    assert inspect.getsource(probe.halve) in PROBE


def test_an_error_points_at_its_line_of_the_chapter(probe, tmp_path):
    with pytest.raises(KeyError) as failure:
        probe.Copy().fail()
    last = traceback.extract_tb(failure.value.__traceback__)[-1]
    assert last.filename == str(tmp_path / "part" / "probe.py")
    assert last.line == 'return OrderedDict()["absent"]'
    assert PROBE.splitlines()[last.lineno - 1].strip() == last.line


def test_a_chapter_is_loaded_once(probe):
    assert load_chapter("part/probe") is probe
    assert load_chapter("part/probe.py") is probe
    assert probe.__name__ == f"{PACKAGE}.part.probe"


def test_a_chapter_leaves_no_file_behind(probe, tmp_path):
    assert sorted(p.name for p in tmp_path.rglob("*.py*")) == [
        *("probe.py", "setting.py")
    ]


@pytest.mark.parametrize("name", ["part/prob", "../setting", "part", ""])
def test_an_unknown_chapter_is_refused_with_a_list(probe, name):
    with pytest.raises(FileNotFoundError, match="part/probe, setting"):
        load_chapter(name)


def test_a_technique_in_several_chapters_is_found_in_the_first(
    probe, tmp_path
):
    follows = "# %%\nfrom mexutils import load_chapter\n"
    follows += 'PROBE = load_chapter("part/probe")\n\n\n'
    follows += "def twice(x):\n    return 4 * PROBE.halve(x)\n"
    (tmp_path / "part" / "probe_more.py").write_text(follows)
    assert probe.twice(3) == 6.0
    assert probe.twice is load_chapter("part/probe_more").twice
    assert "twice" in dir(probe) and "halve" in dir(probe)
    with pytest.raises(AttributeError, match="probe defines no 'thrice'"):
        probe.thrice  # noqa: B018
    assert not hasattr(probe, "__wrapped__")
    with pytest.raises(AttributeError, match="probe_more defines no 'halve'"):
        load_chapter("part/probe_more").halve  # noqa: B018


# --- the chapters of this book --------------------------------------------


@pytest.mark.parametrize(
    "name", ["lowd_meek", "tree_top_down", "tree_bottom_up", "predict_boxes"]
)
def test_stealml_leads_on_to_its_other_chapters(name):
    assert callable(getattr(load_chapter("attacks/stealml"), name))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_loading_a_chapter_runs_no_experiment(chapter, forgotten, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("loading the chapter runs an experiment")

    monkeypatch.setattr(training, "fit", refuse)
    monkeypatch.setattr(victims, "cached", refuse)
    monkeypatch.setattr(cache, "cached", refuse)
    monkeypatch.setattr("matplotlib.pyplot.show", refuse)
    start = time.monotonic()
    load_chapter(chapter)
    assert time.monotonic() - start < 5


def functions_and_classes(module):
    """What the chapter itself defines."""
    return [
        value
        for value in vars(module).values()
        if inspect.isfunction(value) or inspect.isclass(value)
        if value.__module__ == module.__name__
    ]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_a_chapter_defines_can_be_pickled(chapter):
    for value in functions_and_classes(load_chapter(chapter)):
        assert pickle.loads(pickle.dumps(value)) is value


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if "/" in c])
def test_what_a_technique_offers_is_documented(chapter):
    silent = [
        value.__name__
        for value in functions_and_classes(load_chapter(chapter))
        if not value.__name__.startswith("_") and not value.__doc__
    ]
    assert silent == []


def test_a_worker_process_can_use_what_chapters_define():
    values = [
        value
        for chapter in CHAPTERS
        for value in functions_and_classes(load_chapter(chapter))
    ]
    if not values:
        pytest.skip("no chapter defines anything yet")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        sources = list(pool.map(inspect.getsource, values, timeout=120))
    assert sources == list(map(inspect.getsource, values))


def global_names(code: CodeType):
    """Every global name that the code or code inside it looks up."""
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            yield step.argval
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from global_names(inner)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_functions_use_only_names_that_a_loaded_chapter_has(chapter):
    module = load_chapter(chapter)
    code = module.__spec__.loader.get_code(module.__name__)
    known = vars(module).keys() | vars(builtins).keys()
    unknown = {
        part.co_name: set(global_names(part)) - known
        for part in code.co_consts
        if isinstance(part, CodeType)
    }
    assert {name: names for name, names in unknown.items() if names} == {}


# --- who uses whom --------------------------------------------------------

FLOORS = [
    *("", "attacks/", "defenses/"),
    "defenses/prediction_poisoning",  # it looks at an earlier one beside it
    "frontier/",
    "comparison/",
    ("comparison/defense_comparison", "comparison/joint_track"),
    "comparison/arena",
    "practice/",
]


def floor(chapter):
    fits = [i for i, start in enumerate(FLOORS) if chapter.startswith(start)]
    return max(fits)


def uses(path):
    """The modules that the script imports and the chapters that it loads."""
    imported, loaded = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Call) and "load_chapter" in (
            getattr(node.func, "id", ""),
            getattr(node.func, "attr", ""),
        ):
            loaded |= {
                name.value  # keys loads a chapter by the name it is given
                for name in node.args
                if isinstance(name, ast.Constant)
            }
    return imported, loaded


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_uses_only_the_floors_below(chapter):
    imported, loaded = uses(ROOT / "book" / f"{chapter}.py")
    assert not {name for name in imported if name.startswith(PACKAGE)}
    assert not {name for name in imported if name.startswith(("tools", "."))}
    assert loaded <= set(CHAPTERS)
    below = {other for other in loaded if floor(other) < floor(chapter)}
    # "At a glance" loads its own chapter; a technique in several chapters,
    # as stealml and stealml_labels, begins in the first of them.
    own = {other for other in loaded if f"{chapter}_".startswith(f"{other}_")}
    assert loaded == below | own


def test_the_helpers_know_no_chapter():
    for path in (ROOT / "mexutils").glob("*.py"):
        imported, loaded = uses(path)
        assert not loaded, path
        assert not {n for n in imported if n.startswith((PACKAGE, "book"))}
