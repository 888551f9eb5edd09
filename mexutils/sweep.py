"""A grid of independent cells, computed by worker processes and kept.

A cell is a function and the parameters that it is called with. Dask runs the
cells, on this machine or on the cluster of a scheduler's address. Each
finished cell is written to a folder under a key of what it stands on, so that
a sweep that was killed goes on where it stopped, and a changed function makes
only its own cells anew.
"""

import functools
import json
import os
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

from mexutils.cache import cache_dir, writable, write_whole
from mexutils.keys import key_of
from mexutils.notebook import progress

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
        processes of one thread are started here and stopped at the end;
        where Dask's processes are not installed, as on Colab, this process
        computes one cell after another.
    what: the caption of the progress bar.

    Equal cells are computed once. A cell that raises is reported with its
    error, is not kept, and does not end the sweep. A worker that dies is
    replaced and its cell repeated once.

    Raises, before anything is computed, `ValueError` for what is no list of
    cells and for a parameter that has no key, and `RuntimeError` with the
    remedy where the folder cannot be written.
    """
    _check(cells, workers)
    keys = _cell_keys(cells)
    folder = writable(Path(folder or cache_dir() / "sweep"))
    found = {key: _read(folder / f"{key}.json") for key in set(keys)}
    done = {
        key: Outcome(value, kept=True)
        for key, value in found.items()
        if value is not None
    }
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
                    content = json.dumps(outcome.value).encode()
                    write_whole(folder / f"{key}.json", content)
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
    if scheduler is None and find_spec("distributed") is None:
        for key, cell in wanted.items():
            yield key, Outcome(*_call(cell))
        return
    from distributed import KilledWorker, as_completed

    with _client(scheduler, workers) as client:
        todo, running, keys = deque(wanted), as_completed(), {}
        deaths, packed = Counter(), {}

        def start() -> None:
            """No more cells than threads: none waits on a worker that dies."""
            while todo and len(keys) < _threads(client):
                key = todo.popleft()
                name = f"{key}-{deaths[key]}-{os.getpid()}"
                cell = _parcel(wanted[key], packed)
                future = client.submit(_call, cell, key=name)
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


class _Packed(NamedTuple):
    """A pickled function."""

    content: bytes


def _parcel(cell: Cell, packed: dict[int, tuple[Callable, _Packed]]) -> Cell:
    """The cell as it travels, each function pickled once for all cells.

    A function of a notebook is pickled with all that it uses, which takes a
    tenth of a second. packed: what was pickled so far.
    """
    from distributed.protocol.pickle import dumps

    def pack(thing):
        if not isinstance(thing, FunctionType | functools.partial):
            return thing
        if id(thing) not in packed:
            packed[id(thing)] = thing, _Packed(dumps(thing))
        return packed[id(thing)][1]

    parameters = {name: pack(value) for name, value in cell.parameters.items()}
    return Cell(pack(cell.function), parameters)


@functools.lru_cache(maxsize=500)
def _unpacked(content: bytes) -> Callable:
    from distributed.protocol.pickle import loads

    return loads(content)


def _opened(thing):
    """A function as it was; anything else as it is."""
    return _unpacked(thing.content) if isinstance(thing, _Packed) else thing


def _call(cell: Cell) -> tuple[dict | None, str | None]:
    """What the cell returns, or its error as one line."""
    try:
        function = _opened(cell.function)
        value = function(**{k: _opened(v) for k, v in cell.parameters.items()})
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
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def cell_key(cell: Cell) -> str:
    """The name under which a cell is kept: of its function and parameters.

    Everything counts that the result stands on: the code that the function
    reaches, its parameters by value, and the versions of Python and of the
    libraries that are used. See `mexutils.keys`.

    Raises `ValueError` for a parameter that cannot be told from others of
    its kind, such as a generator.
    """
    (key,) = _cell_keys([cell])
    return key


class _Code(NamedTuple):
    """A function among the parameters, by its key."""

    key: str


def _cell_keys(cells: Sequence[Cell]) -> list[str]:
    """The key of every cell; the code of each function is read once."""
    read: dict[int, str] = {}

    def code_of(function: Callable) -> str:
        if id(function) not in read:
            read[id(function)] = key_of(function)
        return read[id(function)]

    def known(value):
        is_code = isinstance(value, FunctionType | functools.partial)
        return _Code(code_of(value)) if is_code else value

    keys = []
    for place, cell in enumerate(cells):
        try:
            about = {n: known(value) for n, value in cell.parameters.items()}
            keys.append(key_of(code_of(cell.function), about))
        except ValueError as error:
            raise ValueError(f"cell {place}: {error}") from error
    return keys
