"""Servers in processes of their own, which do not outlive who started them."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["child"]

# The pipe to it closes whenever the parent ends, killed or not.
_GUARD = """
import subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def stop():
    sys.stdin.read()
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
threading.Thread(target=stop, daemon=True).start()
sys.exit(child.wait())
"""


@contextmanager
def child(command: Sequence, **settings) -> Iterator[subprocess.Popen]:
    """A process that runs the command until this block is left.

    It ends as well where this process is killed meanwhile, and an interrupt
    from the keyboard is not its own. settings: of `subprocess.Popen`.
    """
    guarded = [sys.executable, "-c", _GUARD, *map(str, command)]
    process = subprocess.Popen(
        guarded, stdin=subprocess.PIPE, start_new_session=True, **settings
    )
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
