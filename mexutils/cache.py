"""A folder of files that are expensive to make: made once, checked when read.

Every file carries the SHA-256 of its content in its first line, so that a
damaged or half-written one is noticed and made anew. A lock lets two
processes that want the same file make it once.
"""

import hashlib
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import get_ident

from filelock import FileLock

__all__ = ["cache_dir", "cached", "writable", "write_whole"]


def cache_dir() -> Path:
    """The folder for what the book keeps between runs, made if absent.

    `MEXUTILS_CACHE` names another one; the default is
    `~/.cache/mexutils`.

    Raises `RuntimeError` with the remedy where the folder cannot be written.
    """
    chosen = os.environ.get("MEXUTILS_CACHE")
    folder = Path(chosen) if chosen else Path.home() / ".cache" / "mexutils"
    return writable(folder)


def writable(folder: Path) -> Path:
    """The folder, made if absent.

    Raises `RuntimeError` with the remedy where it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RuntimeError(
            f"the cache folder {folder} cannot be written ({error}); "
            "set MEXUTILS_CACHE to a folder that you may write to"
        ) from error
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears under its name only when it is complete.

    A run that is killed, or a full disk, leaves an earlier file as it was.

    Raises `RuntimeError` with the remedy where the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.{get_ident()}.part")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise RuntimeError(
            f"{path} cannot be written ({error}); make room, or set "
            "MEXUTILS_CACHE to a folder that you may write to"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def cached(name: str, make: Callable[[], bytes]) -> bytes:
    """The content of the cache file `name`; `make()` builds it if need be.

    A file whose checksum does not fit is reported with a warning and made
    anew.
    """
    path = cache_dir() / name
    with FileLock(f"{path}.lock"):
        content = _read(path)
        if content is None:
            content = make()
            digest = hashlib.sha256(content).hexdigest().encode()
            write_whole(path, digest + b"\n" + content)
        return content


def _read(path: Path) -> bytes | None:
    """What the file holds, or None where it is absent or damaged."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest().encode() == digest:
        return content
    warnings.warn(
        f"the cache file {path} is damaged or half-written; it is made anew",
        stacklevel=3,
    )
    return None
