"""A grid of independent cells, computed by worker processes and kept.

A cell is a function and the parameters that it is called with. Dask runs the
cells, on this machine or on the cluster of a scheduler's address. Each
finished cell is written to a folder under a key of its parameters and of its
code, so that a sweep that was killed goes on where it stopped, and a changed
function makes only its own cells anew.
"""

import dis
import functools
import hashlib
import json
import os
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from mexutils.cache import cache_dir
from mexutils.training import progress

__all__ = ["Cell", "Outcome", "cell_key", "sweep"]

REPEATS = 1
"""How often a cell is repeated whose worker died."""


class Cell(NamedTuple):
    """One call of a sweep.

    function: returns a dictionary of numbers, strings and lists of them;
        found again by a worker process, so no lambda of a script.
    parameters: what it is called with, by name. A function among them
        counts with its code, as `function` itself does.
    """

    function: Callable[..., dict]
    parameters: dict[str, Any]


class Outcome(NamedTuple):
    """What became of a cell.

    value: what the function returned; None where it failed.
    error: the last line of the error; None where it went well.
    kept: whether the value was read from the folder, not computed now.
    """

    value: dict | None
    error: str | None = None
    kept: bool = False


def sweep(
    cells: Sequence[Cell],
    *,
    folder: Path | str | None = None,
    scheduler: str | None = None,
    workers: int = 2,
    what: str = "cells",
) -> list[Outcome]:
    """Every cell computed, or read where it is kept; in the given order.

    folder: where finished cells are kept; `cache_dir() / "sweep"` unless
        given.
    scheduler: the address of a Dask scheduler, as `"tcp://host:8786"`; its
        workers must be able to import mexutils. Without one, `workers`
        processes of one thread are started here and stopped at the end.
    what: the caption of the progress bar.

    Equal cells are computed once. A cell that raises is reported with its
    error, is not kept, and does not end the sweep. A worker that dies is
    replaced and its cell repeated once.

    Raises `ValueError` for what is no list of cells, before anything is
    computed.
    """
    _check(cells, workers)
    folder = Path(folder or cache_dir() / "sweep")
    folder.mkdir(parents=True, exist_ok=True)
    keys = [cell_key(cell) for cell in cells]
    found = {key: _read(folder / f"{key}.json") for key in set(keys)}
    done = {k: Outcome(v, kept=True) for k, v in found.items() if v}
    wanted = {
        key: cell
        for key, cell in zip(keys, cells, strict=True)
        if key not in done
    }
    if wanted:
        with closing(_computed(wanted, scheduler, workers)) as finished:
            for _ in progress(range(len(wanted)), what):
                key, outcome = next(finished)
                done[key] = outcome
                if outcome.error is None:
                    _write(folder / f"{key}.json", outcome.value)
    return [done[key] for key in keys]


def _check(cells: Sequence[Cell], workers: int) -> None:
    for place, cell in enumerate(cells):
        if not (isinstance(cell, Cell) and callable(cell.function)):
            raise ValueError(
                f"cell {place} is {type(cell).__name__}: give "
                "Cell(function, parameters) throughout"
            )
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")


def _computed(
    wanted: dict[str, Cell], scheduler: str | None, workers: int
) -> Iterator[tuple[str, Outcome]]:
    """Key and outcome of every wanted cell, as they become ready."""
    from distributed import KilledWorker, as_completed

    with _client(scheduler, workers) as client:
        todo, running, keys = deque(wanted), as_completed(), {}
        deaths = Counter()

        def start() -> None:
            """No more cells than threads: none waits on a worker that dies."""
            while todo and len(keys) < _threads(client):
                key = todo.popleft()
                name = f"{key}-{deaths[key]}-{os.getpid()}"
                future = client.submit(_call, wanted[key], key=name)
                keys[future] = key
                running.add(future)

        start()
        for future in running:
            key, error = keys.pop(future), future.exception()
            if isinstance(error, KilledWorker) and deaths[key] < REPEATS:
                deaths[key] += 1
                todo.append(key)
            elif error is None:
                yield key, Outcome(*future.result())
            else:
                words = str(error).partition(". ")[0]
                yield key, Outcome(None, f"{type(error).__name__}: {words}")
            future.release()
            start()


def _threads(client) -> int:
    """Threads of all workers; 1 while there are none, to wait for one."""
    return max(1, sum(client.nthreads().values()))


@contextmanager
def _client(scheduler: str | None, workers: int):
    """A client of the scheduler, or of a cluster that lives as long."""
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        with Client(scheduler, timeout="30s") as client:
            yield client
        return
    settings = {
        "distributed.scheduler.allowed-failures": 0,  # repeated by us
        # A dead worker is replaced, however slowly a busy machine does it.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        "distributed.comm.timeouts.connect": "120 s",
        # Dask's own list has workers give memory back at once, which makes
        # torch on a CPU about half as fast.
        "distributed.worker.profile.enabled": False,
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), 1
        ),
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,
            dashboard_address=":0",  # any free port
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _call(cell: Cell) -> tuple[dict | None, str | None]:
    """What the cell returns, or its error as one line."""
    try:
        value = cell.function(**cell.parameters)
        json.dumps(value)
        if not isinstance(value, dict):
            raise TypeError(f"a cell returns a dict, not {type(value)}")
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{type(error).__name__}: {error}"
        return None, f"{line} ({where.name}, line {where.lineno})"
    return value, None


def _read(path: Path) -> dict | None:
    """The kept value; None where it is absent or damaged."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, value: dict) -> None:
    """Under its name only when it is complete."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(value))
    partial.replace(path)


def cell_key(cell: Cell) -> str:
    """The name under which a cell is kept: of its parameters and its code.

    The code is that of the function and of every function, class and
    constant of this book that it reaches. Comments, docstrings and prose do
    not count, nor does which module a function stands in. Libraries count
    with nothing: empty the folder after an update of theirs.
    """
    digest = hashlib.sha256()
    _hash(tuple(cell), digest, set())
    return digest.hexdigest()[:24]


def _hash(thing, digest, seen: set[int]) -> None:
    """Feed the digest with what the thing does when it is used."""
    if isinstance(thing, functools.partial):
        thing = ("partial", thing.func, thing.args, thing.keywords)
    thing = getattr(thing, "__wrapped__", thing)
    if isinstance(thing, (property, staticmethod, classmethod)):
        thing = getattr(thing, "fget", None) or thing.__func__
    kind = type(thing).__name__
    digest.update(f"<{kind}>".encode())
    if isinstance(thing, (FunctionType, type)) and _ours(thing):
        if id(thing) in seen:
            digest.update(thing.__qualname__.encode())
            return
        seen.add(id(thing))
        walk = _hash_class if isinstance(thing, type) else _hash_function
        walk(thing, digest, seen)
    elif isinstance(thing, CodeType):
        _hash_code(thing, digest, seen, None)
    elif isinstance(thing, dict):
        for name in sorted(thing, key=repr):
            _hash(name, digest, seen)
            _hash(thing[name], digest, seen)
    elif isinstance(thing, (list, tuple)):
        for item in thing:
            _hash(item, digest, seen)
    elif isinstance(thing, (set, frozenset)):
        digest.update(repr(sorted(thing, key=repr)).encode())
    elif isinstance(thing, np.ndarray):
        digest.update(repr((thing.dtype, thing.shape)).encode())
        digest.update(np.ascontiguousarray(thing).tobytes())
    elif isinstance(thing, (str, bytes, int, float, complex, type(None))):
        digest.update(repr(thing).encode())
    elif isinstance(thing, Path):
        digest.update(b"path")  # where a file lies changes no result
    elif hasattr(thing, "__qualname__"):  # a library's function or class
        digest.update(f"{thing.__module__}.{thing.__qualname__}".encode())
    elif _ours(type(thing)):  # an object: its class, and what it holds
        _hash(type(thing), digest, seen)
        _hash(getattr(thing, "__dict__", {}), digest, seen)


def _ours(thing) -> bool:
    module = thing.__module__ or ""
    return module == "__main__" or module.partition(".")[0] == "mexutils"


def _hash_function(function: FunctionType, digest, seen: set[int]) -> None:
    digest.update(function.__qualname__.encode())
    _hash(function.__defaults__, digest, seen)
    _hash(function.__kwdefaults__, digest, seen)
    for cell in function.__closure__ or ():
        _hash(cell.cell_contents, digest, seen)
    _hash_code(function.__code__, digest, seen, function.__doc__)
    names, known = _names(function.__code__), function.__globals__
    for name in sorted(_looked_up(function.__code__) & set(known)):
        _hash_global(known[name], names, digest, seen)


def _hash_global(value, names: set[str], digest, seen: set[int]) -> None:
    """What a global name stands for; of a module, what is used of it."""
    if not isinstance(value, ModuleType):
        _hash(value, digest, seen)
    elif value.__name__.partition(".")[0] == "mexutils":
        for name in sorted(names & set(vars(value))):
            inner = vars(value)[name]
            if not isinstance(inner, ModuleType):
                _hash(inner, digest, seen)


def _names(code: CodeType) -> set[str]:
    """Every global and attribute that the code and the code inside it use."""
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


@functools.cache
def _looked_up(code: CodeType) -> frozenset[str]:
    """The globals among these names."""
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    own = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return frozenset(own.union(*map(_looked_up, inner)))


def _hash_code(code: CodeType, digest, seen: set[int], doc) -> None:
    digest.update(code.co_code)
    _hash((code.co_names, code.co_varnames), digest, seen)
    for constant in code.co_consts:
        if doc is None or constant is not doc:
            _hash(constant, digest, seen)


def _hash_class(thing: type, digest, seen: set[int]) -> None:
    digest.update(thing.__qualname__.encode())
    _hash([base for base in thing.__bases__], digest, seen)
    for name, value in sorted(vars(thing).items()):
        if not name.startswith("__") or callable(value):
            _hash((name, value), digest, seen)
