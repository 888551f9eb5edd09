"""Processes that do not outlive who started them."""

import os
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest
from _wire import until

from mexutils.wire.children import child

TELLS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
PARENT = f"""
import time
from subprocess import PIPE
from mexutils.wire.children import child
with child([{sys.executable!r}, "-c", {TELLS!r}], stdout=PIPE, text=True) as p:
    print(p.stdout.readline(), flush=True)
    time.sleep(60)
"""


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_ends_with_its_block_and_after_an_error():
    pids = []
    with (
        pytest.raises(KeyError),
        child(
            [sys.executable, "-c", TELLS], stdout=PIPE, text=True
        ) as process,
    ):
        pids.append(int(process.stdout.readline()))
        assert is_there(pids[0])
        raise KeyError
    until(lambda: not is_there(pids[0]))
    assert process.returncode is not None


def test_a_child_ends_where_its_parent_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until(lambda: not is_there(pid))


def test_a_child_that_ends_by_itself_says_how():
    with child([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        assert process.wait(20) == 3
