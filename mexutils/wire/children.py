"""Servers in processes of their own, which do not outlive who started them."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["child"]

# The pipe to it closes where its parent ends, killed or not; where a process
# that the parent has forked holds it open, there is another parent by then. On
# Linux the command ends with its guard as well.
_GUARD = """
import ctypes, os, signal, subprocess, sys, threading, time
parent = os.getppid()
def tied():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
child = subprocess.Popen(
    sys.argv[1:],
    stdin=subprocess.DEVNULL,
    preexec_fn=tied if sys.platform == "linux" else None,
)
def orphaned():
    while os.getppid() == parent:
        time.sleep(1)
def stop_after(wait):
    wait()
    child.terminate()
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
for wait in (sys.stdin.read, orphaned):
    threading.Thread(target=stop_after, args=(wait,), daemon=True).start()
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
