"""What a function returned is kept on disk, for other processes too."""

import pickle
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mexutils.cache import cache_dir, cached, writable
from mexutils.keys import key_of

__all__ = ["kept"]


def kept(function: Callable, *arguments: Any) -> Any:
    """What `function(*arguments)` returned before, or returns now.

    It is kept under the code of the function and of any functions among the
    arguments, and under the values of the others, as a sweep keeps its cells.
    The function must depend on nothing else, and return what can be pickled.

    Raises `ValueError` for an argument that has no key.
    """
    folder = writable(cache_dir() / "kept")
    things = [_code(a) if callable(a) else a for a in (function, *arguments)]
    content = cached(
        f"{folder.name}/{key_of(*things)}",
        lambda: pickle.dumps(function(*arguments)),
    )
    return pickle.loads(content)


@lru_cache(maxsize=500)
def _code(function: Callable) -> str:
    """The key of a function, read once."""
    return key_of(function)
