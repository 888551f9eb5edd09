"""Processes that do not outlive who started them."""

import os
import signal
import subprocess
import sys
from subprocess import PIPE

import pytest
from _wire import until

from mexutils.wire import RemoteAPI, RemoteError
from mexutils.wire.children import child
from mexutils.wire.mlserver import environment

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


def test_a_child_ends_though_a_fork_of_its_killed_parent_lives_on(tmp_path):
    """Such a fork, of a pool perhaps, holds the pipe to the guard open."""
    fork = "import os, time; os.fork() or time.sleep(8) or os._exit(0)"
    inside = PARENT.replace("    print(", f"    exec({fork!r})\n    print(")
    parent = subprocess.Popen(
        [sys.executable, "-c", inside], stdout=PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not is_there(pid), 5)
    parent.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can")
def test_a_child_ends_where_its_guard_is_killed():
    tells = [sys.executable, "-c", TELLS]
    with child(tells, stdout=PIPE, text=True) as guard:
        pid = int(guard.stdout.readline())
        guard.kill()
        until(lambda: not is_there(pid))


SELLS = """
import time
from sklearn.linear_model import LogisticRegression
from mexutils.wire.mlserver import mlserver
model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
with mlserver({"one": model}) as url:
    print(url, flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_mlserver_ends_where_its_owner_is_killed():
    """As a kernel is killed; the port is free again and nobody answers."""
    if not (environment() / "bin" / "mlserver").exists():
        pytest.skip("MLServer is not installed: run make wire")
    owner = subprocess.Popen(
        [sys.executable, "-c", SELLS], stdout=PIPE, text=True
    )
    remote = RemoteAPI(owner.stdout.readline().strip(), "one", retries=0)
    assert remote.query([[1.0]]) == [1]
    owner.kill()
    owner.wait()
    owner.stdout.close()

    def is_gone():
        try:
            remote.query([[1.0]])
        except RemoteError:
            return True
        return False

    until(is_gone, 40)


def test_a_child_that_ends_by_itself_says_how():
    with child([sys.executable, "-c", "raise SystemExit(3)"]) as process:
        assert process.wait(20) == 3
