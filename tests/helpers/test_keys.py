"""Keys: what they tell apart, and what they take for the same."""

import ast
import datetime
import decimal
import enum
import fractions
import functools
import importlib.metadata
import json
import operator
import os
import re
import subprocess
import sys
import threading
import uuid
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from dataclasses import field as of
from itertools import combinations
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from conftest import ROOT
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from mexutils import cache, chapters, datasets, victims
from mexutils.cache import write_whole
from mexutils.keys import key_of

# --- values ---------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Ordinary:
    def __init__(self, size):
        self.size = size

    def grown(self, by):
        return self.size + by

    @classmethod
    def small(cls):
        return cls(1)


class Slotted:
    __slots__ = ("size",)

    def __init__(self, size):
        self.size = size


class Count(int):
    pass


class Row(list):
    pass


class Pair(NamedTuple):
    first: int
    second: int = 2


class Other(NamedTuple):
    first: int
    second: int = 2


@dataclass(frozen=True)
class Recipe:
    steps: int
    rates: list = of(default_factory=list)


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(2, width)

    def forward(self, x):
        return self.inner(x).relu()


def double(x):
    return 2 * x


def triple(x):
    return 3 * x


def adder(n):
    return lambda x: x + n


def circle(depth):
    """A list that holds itself, that many lists down."""
    inner = whole = []
    for _ in range(depth):
        inner.append([])
        inner = inner[0]
    inner.append(whole)
    return whole


def ring(*sizes):
    """Objects that know each other through sets."""
    parts = [Ordinary(size) for size in sizes]
    for part, after in zip(parts, parts[1:] + parts[:1], strict=True):
        part.beside = {after}
    return parts[0]


def net(width=3, seed=0):
    torch.manual_seed(seed)
    return Net(width)


def drawn(rng, n=1):
    rng.random(n) if isinstance(rng, np.random.Generator) else rng.rand(n)
    return rng


def fitted(learner, shift=0.0):
    x = np.linspace(0, 1, 24).reshape(12, 2) + shift
    return learner.fit(x * [1, -1], [0, 1, 1, 0] * 3)


def frame(**columns):
    return pd.DataFrame(columns)


def objects(*values):
    made = np.empty(len(values), object)
    made[:] = values
    return made


def mixed(a, b):
    made = np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True))
    made["a"], made["b"] = a, b
    return made


KINDS = {
    "numbers": lambda: [
        *(0, 1, -1, 2, 1.0, True, False, 1 + 0j, -0.0, 0.0, 10**6000),
        *(float("inf"), float("nan"), Count(1), Level.LOW, Level.HIGH),
        *(fractions.Fraction(1), fractions.Fraction(1, 2)),
        *(decimal.Decimal("1"), decimal.Decimal("1.0")),
    ],
    "none": lambda: [None, ..., NotImplemented, (), [], {}, set(), "", b""],
    "text": lambda: ["1", b"1", bytearray(b"1"), "1 ", "\ud800", "None"],
    "NumPy's numbers": lambda: [
        *(np.int64(1), np.int64(2), np.int32(1), np.uint64(1), np.bool_(1)),
        *(np.bool_(0), np.float32(1), np.float64(1), np.float16(1)),
        *(np.float32(0.1), np.float32(0.5), np.complex64(1), np.str_("1")),
        *(np.bytes_(b"1"), np.datetime64("2020-01-01"), np.datetime64(1, "D")),
        *(np.timedelta64(1, "D"), np.timedelta64(1, "s"), np.array(1)),
    ],
    "arrays": lambda: [
        *(np.zeros(4), np.zeros((2, 2)), np.zeros((4, 1)), np.zeros(4, "f4")),
        *(np.arange(4), np.arange(4)[::-1], np.zeros(0), np.zeros((0, 2))),
        *(np.array(["a", "b"]), np.array([b"a", b"b"]), np.eye(2, k=1)),
        *(np.dtype("f4"), np.dtype("f8"), np.zeros(2).view(np.recarray)),
    ],
    "masked arrays": lambda: [
        np.ma.masked_array([1, 2], mask) for mask in ([0, 0], [0, 1], [1, 0])
    ],
    "arrays of objects": lambda: [
        *(objects("a-b", "c"), objects("a", "b-c"), objects(1, 1.0)),
        *(objects(1, True), objects([1], 2), objects(double, triple)),
    ],
    "structured arrays": lambda: [
        *(mixed(1, 2), mixed(2, 1), mixed(1, 3), mixed(1, 2)["b"]),
    ],
    "sparse matrices": lambda: [
        *(scipy.sparse.csr_matrix(np.eye(2)), scipy.sparse.csr_array([[1]])),
        *(scipy.sparse.csc_matrix(np.eye(2)), scipy.sparse.csr_matrix([[1]])),
        *(scipy.sparse.coo_matrix(np.eye(2)), scipy.sparse.csr_matrix([[2]])),
    ],
    "tensors": lambda: [
        *(torch.zeros(4), torch.zeros(2, 2), torch.ones(4), torch.arange(4)),
        *(torch.zeros(4, dtype=torch.float64), torch.tensor(0.0)),
        *(torch.zeros(4, dtype=torch.bfloat16), torch.zeros(4).bool()),
        *(torch.zeros(4, requires_grad=True), torch.eye(2).to_sparse()),
        *(nn.Parameter(torch.zeros(4)), torch.float32, torch.device("cpu")),
    ],
    "networks": lambda: [
        *(net(), net(4), net(seed=1), net().eval(), net().inner, nn.ReLU()),
        *(nn.Sequential(net()), nn.Sequential(net(), nn.ReLU())),
        *(nn.Linear(2, 3).requires_grad_(False), nn.Dropout(), nn.Dropout(0)),
        *(net().state_dict(), net(seed=1).state_dict()),
    ],
    "random generators": lambda: [
        *(np.random.default_rng(0), np.random.default_rng(1)),
        *(drawn(np.random.default_rng(0)), np.random.SeedSequence(1)),
        *(np.random.RandomState(0), drawn(np.random.RandomState(0))),
        *(np.random.RandomState(1), torch.Generator().manual_seed(0)),
        torch.Generator().manual_seed(1),
    ],
    "tables": lambda: [
        *(frame(a=[1, 2], b=[3, 4]), frame(a=[1, 2], b=[3, 5])),
        *(frame(b=[1, 2], a=[3, 4]), frame(a=[1.0, 2], b=[3, 4])),
        *(frame(a=[1], b=[2.0]), frame(b=[1], a=[2.0])[["a", "b"]]),
        *(frame(a=[1, 2]), frame(a=["x-y", "z"]), frame(a=["x", "y-z"])),
        frame(a=[1, 2]).set_index("a"),
    ],
    "series": lambda: [
        *(pd.Series([1, 2]), pd.Series([1, 3]), pd.Series([1, 2], name="a")),
        *(pd.Series([1, 2], index=["a", "b"]), pd.Series(["1", "2"])),
        *(pd.Series([1.0, 2]), pd.Series(["a", "b"], dtype="category")),
        pd.Series(pd.to_datetime(["2020-01-01", "2020-01-02"])),
    ],
    "indices": lambda: [
        *(pd.Index([1, 2]), pd.Index([1, 3]), pd.Index([1, 2], name="a")),
        *(pd.RangeIndex(3), pd.RangeIndex(4), pd.Timestamp(0)),
        *(pd.MultiIndex.from_tuples([(1, 2)], names=["a", None]), pd.NaT),
        *(pd.MultiIndex.from_tuples([(1, 2)], names=["a", "b"]), pd.NA),
    ],
    "estimators": lambda: [
        *(LogisticRegression(), LogisticRegression(C=2)),
        *(fitted(LogisticRegression()), fitted(LogisticRegression(C=2))),
        *(DecisionTreeClassifier(), DecisionTreeClassifier(random_state=0)),
        fitted(DecisionTreeClassifier(random_state=0)),
        fitted(DecisionTreeClassifier(random_state=0, max_depth=1)),
    ],
    "pipelines": lambda: [
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), LogisticRegression(C=2)),
        make_pipeline(FunctionTransformer(double)),
        make_pipeline(FunctionTransformer(triple)),
        fitted(make_pipeline(StandardScaler(), LogisticRegression())),
        fitted(make_pipeline(StandardScaler(), LogisticRegression()), 1.0),
    ],
    "times": lambda: [
        *(datetime.date(2020, 1, 2), datetime.date(2020, 2, 1)),
        *(datetime.datetime(2020, 1, 2), datetime.time(1), datetime.time(2)),
        datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        *(datetime.timedelta(1), datetime.timedelta(0, 1)),
    ],
    "enumerations": lambda: [*Colour, re.I, re.I | re.M, re.M],
    "ranges": lambda: (
        [range(3), range(4), range(0, 3, 2), slice(3)]
        + [slice(0, 3), slice(None)]
    ),
    "queues": lambda: [
        *(deque([1, 2]), deque([2, 1]), deque([1, 2], 2), array("i", [1, 2])),
        *(array("l", [1, 2]), Row([1, 2]), [1, 2], (1, 2)),
    ],
    "dictionaries": lambda: [
        *({1: 2}, {2: 1}, {1: 2, 3: 4}, {1: 4, 3: 2}, {1: {2: 3}}, {"1": 2}),
        *(OrderedDict({1: 2}), OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
        *(defaultdict(int, {1: 2}), defaultdict(list, {1: 2}), Counter([1])),
        *(MappingProxyType({1: 2}), SimpleNamespace(a=1), {1: [2]}, {(1, 2)}),
    ],
    "sets": lambda: (
        [{1, 2}, {1, 3}, frozenset({1, 2}), {"1", "2"}, {(1,), 2}]
        + [{frozenset({1}), 2}, {frozenset({1, 2})}]
    ),
    "names": lambda: [
        *(
            uuid.UUID(int=1),
            uuid.UUID(int=2),
            re.compile("a"),
            re.compile("b"),
        ),
        *(re.compile("a", re.I), re.compile(b"a"), Path("a"), Path("b")),
        *(PurePosixPath("a"), Path("a/b")),
    ],
    "getters": lambda: [
        *(operator.attrgetter("a"), operator.attrgetter("b")),
        *(operator.itemgetter(0), operator.itemgetter(1)),
        *(operator.methodcaller("a"), operator.methodcaller("a", 1)),
        operator.itemgetter(0, 1),
    ],
    "partials": lambda: [
        *(functools.partial(double), functools.partial(triple)),
        *(functools.partial(double, 1), functools.partial(double, x=1)),
        functools.partial(double, Path("a")),
        functools.partial(double, Path("b")),
    ],
    "methods": lambda: [
        *(Ordinary(1).grown, Ordinary(2).grown, Ordinary.small, [1].append),
        *([2].append, [1].extend, "a".upper, str.upper, dict.fromkeys),
        *(Ordinary.grown, functools.cache(double), functools.cache(triple)),
    ],
    "functions": lambda: [
        *(double, triple, adder(1), adder(2), lambda: 1, lambda: 2),
        *(lambda x=1: x, lambda x=2: x, lambda *, x=1: x, lambda x: x + 1),
        *(len, max, np.sin, np.cos, np.mean, torch.relu, torch.sigmoid),
        *(nn.functional.relu, nn.functional.gelu, json.dumps, json.loads),
    ],
    "classes": lambda: (
        [int, float, bool, nn.Linear, nn.Conv2d, Ordinary]
        + [Slotted, Recipe, Pair, Other, Row, list[int], list[str], int | None]
    ),
    "objects": lambda: [
        *(Ordinary(1), Ordinary(2), Ordinary([1]), Slotted(1), Slotted(2)),
        *(Pair(1), Pair(2), Pair(1, 3), Other(1), Row([1]), Count(2)),
        *(Recipe(1), Recipe(2), Recipe(1, [1]), ValueError("a")),
        *(ValueError("b"), KeyError("a"), ring(1, 2), ring(1, 3)),
    ],
    "nested": lambda: [
        *([1, [2]], [[1], 2], [[1, 2]], [1, 2, []], [[1], [2]], ([1], 2)),
        *([(1, 2)], [(1,), (2,)], ["ab"], ["a", "b"], ["a", ["b"]]),
        *(circle(0), circle(1), circle(2), [None], [[]], [{}], [()]),
    ],
}
TWO_PROCESSES = """
import json, sys
sys.path[:0] = sys.argv[1:]
from test_keys import KINDS, key_of
print(json.dumps({kind: list(map(key_of, make()))
                  for kind, make in KINDS.items()}))
"""


@pytest.fixture(scope="module")
def known():
    """Kind to the keys of its values, made twice."""
    return {
        kind: [list(map(key_of, make())) for _ in range(2)]
        for kind, make in KINDS.items()
    }


def test_no_two_values_have_one_key(known):
    places = {
        (kind, place): key
        for kind, (found, _) in known.items()
        for place, key in enumerate(found)
    }
    assert len(places) > 300
    assert len({len(key) for key in places.values()}) == 1
    same = [
        pair
        for pair in combinations(places, 2)
        if places[pair[0]] == places[pair[1]]
    ]
    assert same == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_is_made_twice_has_one_key(known, kind):
    first, second = known[kind]
    assert first == second


@pytest.mark.slow
def test_two_processes_agree(known):
    tests = ROOT / "tests"
    folders = [str(tests / "helpers"), str(tests), str(ROOT / "tools")]
    for seed in ("1", "2"):
        output = subprocess.run(
            [sys.executable, "-c", TWO_PROCESSES, *folders],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert json.loads(output) == {k: v[0] for k, v in known.items()}


def test_the_order_of_names_does_not_count():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of(1, 2) != key_of((1, 2)) != key_of(2, 1)


def test_where_values_lie_does_not_count():
    whole = np.arange(12.0).reshape(3, 4)
    assert key_of(whole[:, 1]) == key_of(whole[:, 1].copy())
    assert key_of(np.asfortranarray(whole)) == key_of(whole)
    tensor = torch.from_numpy(whole)
    assert key_of(tensor.T) == key_of(tensor.T.contiguous())
    parts = [1, 2]
    assert key_of([parts, parts]) == key_of([[1, 2], [1, 2]])


def yielding():
    yield 1


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (yielding(), "generator"),
        (object(), "object"),
        ([{"deep": yielding()}], "generator"),
        (Ordinary(yielding()), "generator"),
        (functools.partial(double, yielding()), "generator"),
    ],
)
def test_what_no_other_process_would_know_is_refused(thing, kind):
    with pytest.raises(
        ValueError, match=rf"builtins\.{kind} has no key.*pass"
    ):
        key_of(thing)


def test_what_is_nested_too_deeply_is_refused():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested as deeply"):
        key_of(deep)


def test_a_lock_holds_no_value():
    first, second = Ordinary(1), Ordinary(1)
    first.lock, second.lock = threading.Lock(), threading.Lock()
    assert key_of(first) == key_of(second)


# --- code -----------------------------------------------------------------


def defined(text, name="mexutils.book.x"):
    """The names that the text defines, as a module of that name would."""
    scope = {"__name__": name}
    exec(text, scope)
    return scope


BASE = '''
import functools
import numpy as np
from pathlib import Path
SCALE = {scale}
TABLE = {{"a": 1, "b": {table}}}
PLACE = Path({place!r})
def deep(x, by={default}):
    """{doc}"""
    return SCALE * x {sign} by
def helper(x):
    return deep(x) + TABLE["b"]
def noted(function):
    @functools.wraps(function)
    def called(*values):
        return {around} * function(*values)
    return called
class Base:
    step = {step}
class Thing(Base):
    """{doc}"""
    def go(self, x):
        self.beside = x, PLACE
        return helper(self.beside)
    @property
    def cost(self):
        return {cost}
    @noted
    def rest(self, x):
        class Inner:
            """{doc}"""
        return [np.log(i) for i in x if i > {limit}]
def run(x):
    # {doc}
    try:
        return {{"y": Thing().go(x)}}
    except {error}:
        return None
@functools.cache
def unused():
    return {unused}
beside = {beside}
'''
SETTINGS = {
    **{"scale": 2, "table": 3, "place": "a", "default": 1, "doc": "one"},
    **{"sign": "+", "around": 1, "step": 1, "cost": 1, "limit": 0},
    **{"error": "KeyError", "unused": 0, "beside": 0},
}


def run_key(name="mexutils.book.x", **changes):
    return key_of(defined(BASE.format(**SETTINGS | changes), name)["run"])


@pytest.mark.parametrize(
    "change",
    [
        *({"scale": 3}, {"table": 4}, {"default": 2}, {"sign": "-"}),
        *({"around": 2}, {"step": 2}, {"cost": 2}, {"limit": 1}),
        *({"scale": 2.0}, {"scale": True}, {"error": "ValueError"}),
    ],
)
def test_what_is_reached_counts(change):
    assert run_key(**change) != run_key()


@pytest.mark.parametrize(
    "change",
    [
        *({}, {"doc": "another word"}, {"unused": 5}, {"beside": 5}),
        *({"place": "b"}, {"name": "__main__"}),
    ],
)
def test_what_changes_nothing_does_not_count(change):
    assert run_key(**change) == run_key()


def test_only_what_stands_on_a_change_changes():
    before, after = (
        defined(BASE.format(**SETTINGS | {"default": default}))
        for default in (1, 2)
    )
    changed = {
        name
        for name in ("deep", "helper", "noted", "Base", "Thing", "run")
        if key_of(before[name]) != key_of(after[name])
    }
    assert changed == {"deep", "helper", "Thing", "run"}


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    {}\n    return [x, 'a']\n",
        "def f():\n    class A:\n        {}\n        x = 1\n    return A\n",
        "class f:\n    {}\n    def go(self):\n        {}\n",
    ],
)
def test_an_added_docstring_does_not_count(text):
    silent = defined(text.replace("{}", "pass"))["f"]
    assert key_of(silent) == key_of(defined(text.replace("{}", "'Why.'"))["f"])


def test_the_order_of_a_constant_counts():
    first = defined("ALL = {'a': 1, 'b': 2}\ndef f(): return list(ALL)")
    other = defined("ALL = {'b': 2, 'a': 1}\ndef f(): return list(ALL)")
    assert key_of(first["f"]) != key_of(other["f"])


def test_functions_that_call_each_other():
    text = "def f(x): return g(x)\ndef g(x): return f(x) + {}\n"
    keys_of = [
        [key_of(defined(text.format(n))[name]) for name in "fg"]
        for n in (1, 1, 2)
    ]
    assert keys_of[0] == keys_of[1]
    assert not set(keys_of[0]) & set(keys_of[2])
    assert len(set(keys_of[0])) == 2


def test_a_module_counts_with_what_is_used_of_it(monkeypatch):
    scope = defined(
        "from mexutils import datasets\n"
        "def one(n): return datasets.noise(n, (2,))\n"
        "def any(name): return getattr(datasets, name)\n"
    )
    one, any_ = key_of(scope["one"]), key_of(scope["any"])
    monkeypatch.setattr(datasets, "TABULAR", ("iris",))
    assert key_of(scope["one"]) == one
    assert key_of(scope["any"]) != any_
    monkeypatch.setattr(datasets, "_count", double)  # two calls deep
    assert key_of(scope["one"]) != one


def test_what_is_imported_in_a_function_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "of_mine.py"
    use = defined(
        "def use():\n    from of_mine import one\n    return one()\n"
    )
    found = []
    for text in ("def one(): return 1", "def one(): return 2", "# a\n"):
        path.write_text(text)
        importlib.invalidate_caches()
        found.append(key_of(use["use"]))
    assert len(set(found)) == 3
    assert "of_mine" not in sys.modules


def test_an_embedded_file_counts_where_it_is_read(monkeypatch):
    digits, noise = key_of(datasets.mnist), key_of(datasets.noise)
    name = "train-images-idx3-ubyte.gz"
    monkeypatch.setitem(datasets.CHECKSUMS, name, "0" * 64)
    assert key_of(datasets.mnist) != digits
    assert key_of(datasets.noise) == noise


def test_a_function_of_ours_counts_inside_a_library_s_object():
    made = [
        key_of(make_pipeline(FunctionTransformer(scope["f"])))
        for scope in (defined("def f(x): return x"), defined("def f(x): pass"))
    ]
    assert made[0] != made[1]


# --- versions -------------------------------------------------------------


def test_a_changed_library_changes_what_stands_on_it(installed):
    scope = defined(
        "import numpy as np\nimport torch\n"
        "from sklearn.tree import DecisionTreeClassifier\n"
        "def plain(x): return x\n"
        "def rows(x): return np.asarray(plain(x))\n"
        "def deep(x): return torch.tensor(rows(x))\n"
        "def late(x):\n    import scipy.linalg\n    scipy.linalg.inv(x)\n"
        "def tree(): return DecisionTreeClassifier()\n"
    )
    things = {name: scope[name] for name in scope if callable(scope[name])}
    things |= {"learner": LogisticRegression(), "tensor": torch.zeros(1)}
    things |= {"number": np.int64(1), "int": 1}

    def changed_by(name):
        before = {thing: key_of(things[thing]) for thing in things}
        installed(name)
        after = {thing: key_of(things[thing]) for thing in things}
        installed(None)
        return {thing for thing in things if before[thing] != after[thing]}

    assert changed_by("numpy") == {"rows", "deep", "number"}
    assert changed_by("torch") == {"deep", "tensor"}
    assert changed_by("scipy") == {"late"}
    assert changed_by("scikit-learn") == {
        *("tree", "DecisionTreeClassifier", "learner"),
    }
    assert changed_by("pandas") == set()


def test_python_s_version_counts(monkeypatch):
    before = key_of(1)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    assert key_of(1) != before


def test_how_a_result_is_kept_does_not_count(monkeypatch):
    before = key_of(victims.mnist_lenet)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_read", double)
        assert key_of(victims.mnist_lenet) == before
    monkeypatch.setattr(victims, "CHECKSUM", "0" * 64)
    assert key_of(victims.mnist_lenet) != before


def test_a_notebook_and_a_loaded_chapter_agree():
    """Cell by cell, as a kernel compiles them, and as one file."""
    name = "attacks/knockoff_nets"
    loaded, notebook = chapters.load_chapter(name), {"__name__": "__main__"}
    text = (chapters.book_dir() / f"{name}.py").read_text()
    for cell in re.split(r"^# %%.*$", text, flags=re.MULTILINE):
        tree = ast.parse(cell)
        tree.body = [node for node in tree.body if chapters._defines(node)]
        exec(compile(tree, "cell", "exec"), notebook)
    functions = [
        function
        for function in vars(loaded).values()
        if getattr(function, "__module__", "") == loaded.__name__
    ]
    assert len(functions) > 10
    for function in functions:
        assert key_of(function) == key_of(notebook[function.__name__])


# --- files ----------------------------------------------------------------


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told_with_the_remedy(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.json"
    write_whole(path, b"one")

    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RuntimeError, match="No space left.*MEXUTILS_CACHE"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(RuntimeError, match="MEXUTILS_CACHE"):
        cache.writable(path / "below a file")
