"""What a result stands on, as a key: code, parameters, data, versions.

A cell of a sweep and a trained victim are kept under such a key, and made anew
when it changes; so is a chapter's run, by `tools/chapter_keys.py`. It changes
with

- the code that is reached: the byte code of every function, class and
  constant of this book, and of what you wrote yourself, that a function uses,
  however many calls deep;
- the values that it is called with;
- the version of every library that is reached, and Python's own;
- the embedded data, whose checksums are constants of `mexutils.datasets`.

It does not change with prose, captions, tags, comments or docstrings, nor
with the module that a function stands in: the same function has one key in a
notebook and in a loaded chapter.

A module of ours that is used by a computed name, as in
`getattr(module, name)`, counts as a whole.
"""

import builtins
import copyreg
import dis
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import sys
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path, PurePath
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, NamedTuple

import numpy as np
import torch
from dask.tokenize import tokenize as dask_token

from mexutils import chapters

__all__ = ["Reading", "code_digest", "key_of", "short_digest"]

LENGTH = 24
"""Hexadecimal digits of a key."""


def key_of(*things: Any) -> str:
    """The key of functions, classes, values and objects, as 24 hex digits.

    Equal values of one type have one key, in every process; other values, and
    equal values of another type (1, 1.0, True), have another one. The order
    of a dictionary's items does not count, as it does not for `==`. An object
    counts with its class and with what pickle would keep of it. A path that
    is a value counts as text; one that the code holds in a global does not,
    since where a file lies changes no result.

    Raises `ValueError` that names the kind of a value which no other process
    could tell again, such as a generator or an open file.
    """
    try:
        parts = [Reading().of(thing) for thing in things]
    except RecursionError as error:
        raise ValueError(
            "a value has no key that is nested as deeply as this one: pass a "
            "flat one, as an array"
        ) from error
    return short_digest(" ".join(parts).encode())


def short_digest(content: bytes) -> str:
    """The first digits of a digest of the content, as many as a key has."""
    return hashlib.sha256(content).hexdigest()[:LENGTH]


# --- values ---------------------------------------------------------------

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
_CACHED = type(functools.cache(lambda: 0))
_SLOTS = (GetSetDescriptorType, MemberDescriptorType)
_STATELESS = {"_thread", "weakref", "_weakref"}  # locks, weak references
_UNSEEN = {"__module__", "__qualname__", "__annotate__", "__annotate_func__"}


def _spelled(value) -> str:
    """A literal in one way only; of a code object, its digest."""
    kind = type(value)
    if kind is CodeType:
        return code_digest(value)
    if kind is int:
        return f"int {value:x}"  # repr refuses very long ones
    if kind in (tuple, frozenset):
        items = list(map(_spelled, value))
        items = sorted(items) if kind is frozenset else items
        return f"{kind.__name__} {items}"
    return f"{kind.__name__} {value!r}"


class Reading:
    """One thing, read with all that it reaches, into one digest.

    Every piece goes in with its kind and length, so that no two readings
    run into each other. Functions, classes and modules of ours get a number
    when they are met and are read after what met them: they may use each
    other in circles.
    """

    def __init__(self, around: tuple[int, ...] = (), behind: bool = False):
        self.digest = hashlib.sha256()
        self.around = list(around)  # the values inside which we are
        self.behind = behind  # a global of ours, not a parameter
        self.met: dict[int, tuple[int, Any]] = {}
        self.todo: deque = deque()
        self.libraries: set[str] = set()
        self.files: set[str] = set()
        self.put("python", str(sys.version_info[:2]))

    def of(self, thing) -> str:
        """The digest of the thing and of all that it reaches."""
        self.value(thing)
        return self.result()

    def result(self) -> str:
        """The digest, after all that was met has been read."""
        while self.todo:
            self.definition(self.todo.popleft())
        return self.digest.hexdigest()

    def put(self, kind: str, content: str | bytes = b"") -> None:
        """Add one piece."""
        if isinstance(content, str):
            content = content.encode(errors="surrogatepass")
        self.digest.update(f"{kind} {len(content)} ".encode() + content)

    def value(self, thing) -> None:
        """Add any value, whatever it holds."""
        if type(thing) in _PLAIN:
            self.put("plain", _spelled(thing))
        elif id(thing) in self.around:  # a list that holds itself
            self.put("again", str(self.around.index(id(thing))))
        else:
            self.around.append(id(thing))
            self.parts(thing)
            self.around.pop()

    def parts(self, thing) -> None:
        """Add a value that may hold others."""
        kind = type(thing)
        if _is_definition(thing):
            if id(thing) not in self.met:
                self.met[id(thing)] = len(self.met), thing
                self.todo.append(thing)
            self.put("definition", str(self.met[id(thing)][0]))
        elif kind is CodeType:
            self.put("code", code_digest(thing))
        elif kind in (list, tuple):
            self.items(kind.__name__, thing)
        elif isinstance(thing, set | frozenset):
            self.value(kind)
            self.items("set", sorted(map(self.apart, thing)))
            self.value(getattr(thing, "__dict__", None))
        elif kind in (dict, MappingProxyType):
            names = list(thing)
            if not self.behind:  # code may go through its globals in order
                names.sort(key=self.apart)
            self.items(kind.__name__, [(name, thing[name]) for name in names])
        elif kind is np.ndarray or isinstance(thing, np.generic):
            self.array(thing)
        elif isinstance(thing, torch.Tensor) and _is_dense(thing):
            self.tensor(thing)
        elif isinstance(thing, PurePath):
            self.put("path", "" if self.behind else f"{kind} {thing}")
        elif isinstance(thing, property):
            self.items("property", (thing.fget, thing.fset, thing.fdel))
        elif isinstance(thing, staticmethod | classmethod | _CACHED):
            self.items(kind.__name__, [thing.__wrapped__])
        elif isinstance(thing, functools.cached_property):
            self.items("cached property", [thing.func])
        elif isinstance(thing, MethodType):
            self.items("method", (thing.__func__, thing.__self__))
        elif isinstance(thing, ModuleType) or _has_a_name(thing):
            self.named(thing)
        elif kind.__module__ in _STATELESS:
            self.put("stateless", kind.__qualname__)
        else:
            self.object(thing)

    def apart(self, thing) -> str:
        """A text of its own, to put things into an order by it."""
        if type(thing) in _PLAIN:
            return _spelled(thing)
        return Reading(tuple(self.around), self.behind).of(thing)

    def items(self, kind: str, things) -> None:
        """Add several values in this order."""
        self.put(kind, str(len(things)))
        for thing in things:
            self.value(thing)

    def array(self, thing: np.ndarray | np.generic) -> None:
        """Add an array by its cells; gaps between them are never read."""
        self.value(type(thing))
        self.put("array", repr((thing.dtype, thing.shape)))
        if thing.dtype.names:
            self.items("fields", [thing[name] for name in thing.dtype.names])
        elif thing.dtype.hasobject:
            self.value(thing.tolist())
        else:
            self.put("cells", thing.tobytes())

    def tensor(self, thing: torch.Tensor) -> None:
        """Add a tensor by its cells, wherever it lies."""
        self.value(type(thing))
        about = (thing.dtype, tuple(thing.shape), thing.device.type)
        self.put("tensor", repr((*about, thing.requires_grad)))
        cells = thing.detach().cpu().resolve_conj().resolve_neg()
        cells = cells.reshape(-1).view(torch.uint8)
        self.put("cells", cells.numpy().tobytes())

    def named(self, thing) -> None:
        """Add what a library calls by a name, with the library's version."""
        if isinstance(thing, ModuleType):
            self.put("module", thing.__name__)
            self.library(thing.__name__)
            return
        owner = getattr(thing, "__self__", None)
        if owner is not None and not isinstance(owner, ModuleType):
            self.items("bound", (thing.__name__, owner))  # as [1].append
            return
        where = getattr(thing, "__objclass__", thing)  # as str.upper
        module = getattr(where, "__module__", None) or ""
        self.put("named", f"{module}.{thing.__qualname__}")
        self.library(module)

    def library(self, module: str) -> None:
        """Add the version of the library that the module belongs to."""
        top = module.partition(".")[0]
        if top not in self.libraries and _is_library(top):
            self.libraries.add(top)
            self.put("library", _version(top, importlib.metadata.version))

    def object(self, thing) -> None:
        """Add an object: its class, and what pickle would keep of it."""
        kind = type(thing)
        if self.behind and (name := _name_in_library(thing)):
            self.put("named", name)
            self.library(name)
            return
        self.value(kind)
        reduce = copyreg.dispatch_table.get(kind)
        try:
            if kind is object:
                raise TypeError("it holds nothing to know it by")
            kept = reduce(thing) if reduce else thing.__reduce_ex__(4)
        except Exception as error:
            self.put("dask", _token(thing, error))
            return
        if isinstance(kept, str):  # the name of a global
            module = getattr(thing, "__module__", None) or kind.__module__
            self.put("named", f"{module}.{kept}")
            self.library(module)
            return
        make, how, state, items, pairs = (*kept, None, None, None)[:5]
        items = None if items is None else list(items)
        pairs = None if pairs is None else list(pairs)
        if pairs and kind.__name__ != "OrderedDict":
            pairs = dict(pairs)
        self.items("object", (make, how, state, items, pairs))

    # --- code -------------------------------------------------------------

    def definition(self, thing) -> None:
        """Add a function, a class or a module of ours, and what it uses."""
        name = getattr(thing, "__qualname__", "")
        self.put("defined", name)
        if isinstance(thing, FunctionType):
            self.behind = False
            self.items("defaults", (thing.__defaults__, thing.__kwdefaults__))
            self.items("closure", list(map(_content, thing.__closure__ or ())))
            self.value(vars(thing))
            self.put("code", code_digest(thing.__code__))
            if _is_ours(thing.__module__):
                self.uses(thing.__code__, thing.__globals__)
            return
        self.behind = "<locals>" not in name
        if isinstance(thing, type):
            self.value(type(thing))
            self.items("bases", thing.__bases__)
            held = {k: v for k, v in vars(thing).items() if _counts(k, v)}
        else:
            held = {
                k: v
                for k, v in vars(thing).items()
                if not _is_dunder(k) and not isinstance(v, ModuleType)
            }
        for name, inner in sorted(held.items()):
            self.items("holds", (name, inner))

    def uses(self, code: CodeType, known: dict[str, Any]) -> None:
        """Add what the code looks up among the known names."""
        found = _lookups(code)
        reached = {}
        for head, *rest in found.names:
            if head in known and not _is_dunder(head):
                here, value = _followed(head, known[head], rest)
                if not (hasattr(builtins, head) and _is_of_ipython(value)):
                    reached[here] = value
        for chapter, name in found.chapters:
            if not isinstance(known.get(name), ModuleType):
                reached[chapter] = chapters.load_chapter(chapter)
        for module in sorted(found.libraries):
            self.library(module)
        for module in sorted(found.imports):
            self.file(module)
        self.behind = True
        for name in sorted(reached):
            try:
                self.items("uses", (name, reached[name]))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    def file(self, module: str) -> None:
        """Add what a function imports when it runs, without importing it."""
        if _is_library(module.partition(".")[0]):
            self.library(module)
        elif module not in self.files and (code := _code_of(module)):
            self.files.add(module)
            self.put("file", code_digest(code))
            found = _lookups(code)
            for inner in sorted(found.libraries | found.imports):
                self.file(inner)


def _code_of(module: str) -> CodeType | None:
    """The code of a module's file; None where there is no such script."""
    spec = _spec(module)
    if spec is None or not str(spec.origin).endswith(".py"):
        return None
    content = Path(spec.origin).read_bytes()
    return compile(content, spec.origin, "exec", dont_inherit=True)


def _spec(module: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module is found; unlike `find_spec` it imports no package."""
    package, _, _ = module.rpartition(".")
    if not package:
        try:
            return importlib.util.find_spec(module)
        except ValueError:  # a script, or made by hand
            return None
    above = _spec(package)
    places = above and above.submodule_search_locations
    find = importlib.machinery.PathFinder.find_spec
    return find(module, places) if places else None


def _followed(name: str, value, attributes: list[str]) -> tuple[str, Any]:
    """What the attributes lead to, as far as they go through our modules."""
    for attribute in attributes:
        if not (isinstance(value, ModuleType) and _is_ours(value.__name__)):
            break
        if attribute not in vars(value) or _is_dunder(attribute):
            break
        name, value = f"{name}.{attribute}", vars(value)[attribute]
    return name, value


def _token(thing, error: Exception) -> str:
    """Dask's word for what pickle does not know; it refuses the rest."""
    try:
        return dask_token(thing, ensure_deterministic=True)
    except Exception:
        kind = f"{type(thing).__module__}.{type(thing).__qualname__}"
        raise ValueError(
            f"a {kind} has no key that another process would know again "
            f"({error}): pass what it is made from instead, as numbers, text "
            "or arrays"
        ) from error


def _name_in_library(thing) -> str:
    """By which name a library holds an object of its own, as scipy its norm.

    Empty where it holds none.
    """
    top = type(thing).__module__.partition(".")[0]
    if top == "builtins" or not _is_library(top):
        return ""
    # Copies: another thread may import something meanwhile.
    modules = [
        (name, dict(getattr(module, "__dict__", {})))
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == top
    ]
    names = [
        f"{module}.{name}"
        for module, held in modules
        for name, value in held.items()
        if value is thing
    ]
    return min(names, default="")


def _is_dense(thing: torch.Tensor) -> bool:
    return thing.layout == torch.strided and not thing.is_quantized


def _has_a_name(thing) -> bool:
    """Whether it is a function, a class or a slot: known by its place."""
    if not callable(thing) and not isinstance(thing, _SLOTS):
        return False  # as a generator, which has its function's name
    return any("__qualname__" in vars(base) for base in type(thing).__mro__)


def _content(cell):
    """What a variable of a closure holds; nothing if it is not yet set."""
    try:
        return cell.cell_contents
    except ValueError:
        return "nothing yet"


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _counts(name: str, value) -> bool:
    """Whether an attribute of a class changes what the class does."""
    if name in _UNSEEN or name == "_abc_impl":
        return False
    if not _is_dunder(name) or name == "__dataclass_fields__":
        return True
    return callable(value) or isinstance(value, property | classmethod)


# --- whose code it is -----------------------------------------------------


def _is_definition(thing) -> bool:
    """Whether it is read itself: known by no library's name and version."""
    if isinstance(thing, FunctionType):
        nameless = "<" in thing.__qualname__  # a lambda, or made by a call
        return nameless or _is_ours(thing.__module__)
    if isinstance(thing, type):
        return _is_ours(thing.__module__)
    return isinstance(thing, ModuleType) and _is_ours(thing.__name__)


_KEEPING = {"mexutils.keys", "mexutils.cache", "mexutils.sweep"}
"""How a result is kept changes no result."""


def _is_ours(module: str | None) -> bool:
    if module in _KEEPING:
        return False
    return not _is_library((module or "").partition(".")[0])


def _is_of_ipython(value) -> bool:
    """Whether it stands in a notebook for what Python calls the same."""
    return str(getattr(value, "__module__", "")).startswith("IPython")


@functools.cache
def _is_library(top: str) -> bool:
    """Whether a top-level module is the standard library's or installed.

    A package that is installed as a link to its sources is not: its code may
    change under one version.
    """
    if top == "mexutils" or top == "__main__":
        return False
    if top in sys.stdlib_module_names:
        return True
    spec = _spec(top)
    if spec is None:
        return False
    places = [spec.origin, *(spec.submodule_search_locations or ())]
    return any(
        part in ("site-packages", "dist-packages")
        for place in places
        for part in PurePath(place or "").parts
    )


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return importlib.metadata.packages_distributions()


@functools.cache
def _version(top: str, version: Callable[[str], str]) -> str:
    """Name and version of what the top-level module was installed with."""
    if top in sys.stdlib_module_names:
        return "Python's"
    names = sorted(set(_distributions().get(top, ())))
    found = ", ".join(f"{name} {version(name)}" for name in names)
    return found or str(getattr(sys.modules.get(top), "__version__", ""))


# --- byte code ------------------------------------------------------------


class _Lookups(NamedTuple):
    """What code looks up beyond itself.

    names: globals with the attributes asked of them, as `datasets.mnist`.
    imports: modules that a function imports when it runs; of `from a import
        b` both a and a.b, which may be one.
    libraries: modules that other code imports, as that of a chapter's cell.
    chapters: every chapter that is loaded, and the name that it is given.
    """

    names: frozenset[tuple[str, ...]]
    imports: frozenset[str]
    libraries: frozenset[str]
    chapters: frozenset[tuple[str, str]]


_GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_JUMPS = {*dis.hasjrel, *dis.hasjabs}
_STORES = ("STORE_NAME", "STORE_GLOBAL")
_UNSAID = ("EXTENDED_ARG", "PUSH_NULL", "PRECALL", "KW_NAMES", "CALL")
_KINDS_OF_FUNCTION = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)


@functools.cache
def code_digest(code: CodeType) -> str:
    """The digest of what byte code does: no lines, no docstrings.

    Calls of `np.log` are compiled in one of two ways, by whether the import
    stands in the same file or in another cell; here they are one.
    """
    steps, nth = [], {}
    for step in dis.get_instructions(code):
        nth[step.offset] = len(steps)
        if step.opname not in ("PUSH_NULL", "EXTENDED_ARG", "NOP"):
            steps.append(step)
    pieces = [
        code.co_name,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        (code.co_varnames, code.co_cellvars, code.co_freevars),
        code.co_flags & _KINDS_OF_FUNCTION,
        [
            (nth[entry.start], nth.get(entry.end), nth[entry.target])
            for entry in dis.Bytecode(code).exception_entries
        ],
    ]
    for step, after in zip(steps, [*steps[1:], steps[-1]], strict=True):
        if _is_note(step) or _is_note(after):
            continue
        name = "LOAD_ATTR" if step.opname in _ATTRIBUTES else step.opname
        goal = nth[step.argval] if step.opcode in _JUMPS else None
        pieces.append((name, goal or _spelled(step.argval)))
    return hashlib.sha256(repr(pieces).encode()).hexdigest()


def _is_note(step: dis.Instruction) -> bool:
    """Whether a class notes what it has loaded: its docstring, its line."""
    notes = ("__doc__", "__firstlineno__")
    return step.opname == "STORE_NAME" and step.argval in notes


@functools.cache
def _lookups(code: CodeType) -> _Lookups:
    """What the code, and the code inside it, looks up."""
    found = _Lookups(*(set() for _ in _Lookups._fields))
    steps = [s for s in dis.get_instructions(code) if s.opname not in _UNSAID]
    for place, step in enumerate(steps):
        after = iter(steps[place + 1 :])
        if step.opname in _GLOBALS:
            name = [step.argval]
            for other in after:
                if other.opname not in _ATTRIBUTES:
                    break
                name.append(other.argval)
            found.names.add(tuple(name))
            literal = other.opname == "LOAD_CONST" and other.argval
            if name[-1] == "load_chapter" and isinstance(literal, str):
                other = next(after)
                given = other.argval if other.opname in _STORES else ""
                found.chapters.add((literal, given))
        elif step.opname != "IMPORT_NAME" or steps[place - 2].argval != 0:
            continue
        elif not code.co_flags & inspect.CO_OPTIMIZED:
            found.libraries.add(step.argval)
        else:
            module = step.argval
            its = takewhile(lambda s: s.opname != "IMPORT_NAME", after)
            names = [s.argval for s in its if s.opname == "IMPORT_FROM"]
            found.imports.update([module, *(f"{module}.{n}" for n in names)])
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            for mine, its in zip(found, _lookups(inner), strict=True):
                mine |= its
    return _Lookups(*map(frozenset, found))
