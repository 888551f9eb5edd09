"""The gateway under load, beside the server behind it, and killed.

1. One row a call and 100 rows a call: the gateway with a SQLite ledger, in a
   process of its own, against MLServer alone (a small server of ours where
   `make wire` was not run). Both are asked in turn, so that both meet the
   same machine. Median latency of one row, and rows a second in batches of
   100 sent by two clients at once.
2. 32 clients ask for a million rows in batches of 100 of a budget of 900,000,
   while the gateway is killed ten times by SIGKILL and started anew: rows
   answered, rows billed, rows that monitors saw, alarms.

usage: python benchmarks/wire.py [overhead] [killed]     (OMP_NUM_THREADS=1)
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MinMaxScaler

from mexutils import BudgetExceeded, ClientBlocked, PredictionAPI
from mexutils.wire import DurableLedger, RemoteAPI, RemoteError, serve
from mexutils.wire.mlserver import environment, mlserver

CLIENTS = 32


class Regular:
    """A monitor that raises an alarm on one client's third call."""

    def __init__(self, name="client 7"):
        self.name, self.calls = name, {}

    def observe(self, client, x, probabilities):
        from mexutils import Alarm

        self.calls[client] = self.calls.get(client, 0) + 1
        if client == self.name and self.calls[client] == 3:
            return Alarm(3, "as told")
        return None


def victim():
    """Logistic regression on breast cancer in [-1, 1], and its rows."""
    x, y = load_breast_cancer(return_X_y=True)
    x = MinMaxScaler((-1, 1)).fit_transform(x)
    return LogisticRegression(max_iter=1000).fit(x, y), x


@contextmanager
def started(upstream, folder, port, *more):
    """The gateway in a process of its own; the process, once it is ready."""
    keys = Path(folder) / "keys.toml"
    keys.write_text(
        "\n".join(f'"key-{i}" = "client {i}"' for i in range(CLIENTS))
    )
    command = [sys.executable, "-m", "mexutils.wire", "--upstream", upstream]
    command += ["--model", "cancer", "--keys", str(keys), "--port", str(port)]
    command += ["--input-shape", "30", "--ledger", f"{folder}/ledger.db"]
    here = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH')}"
    environ = os.environ | {"PYTHONPATH": here}
    process = subprocess.Popen(
        [*command, *more], env=environ, stdout=subprocess.PIPE
    )
    try:
        if not process.stdout.readline():
            raise RuntimeError("the gateway did not start")
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def free_port():
    from socket import create_server

    with create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


def latency(apis, x, calls):
    """Median seconds of a call with one row, of each API, asked in turn."""
    taken = [[] for _ in apis]
    for i in range(calls):
        for api, times in zip(apis, taken, strict=True):
            start = time.perf_counter()
            api.query(x[i % len(x)][None])
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def children_of(pid):
    """The processes that it has started and that still run."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def spent_by(pid):
    """CPU seconds so far of a process and of all that it has started."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    own = sum(map(int, fields.split()[11:13])) / 100
    return own + sum(map(spent_by, children_of(pid)))


def busy():
    """CPU seconds so far of this process and of each of its children."""
    me = os.getpid()
    parts = [spent_by(pid) for pid in children_of(me)]
    return np.array([spent_by(me) - sum(parts), *parts])


def throughput(api, x, calls, clients=2):
    """Rows a second in batches of 100, of clients that ask at once."""
    rows = np.resize(x, (100, x.shape[1]))
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda _: api.query(rows), range(calls)))
    return 100 * calls / (time.perf_counter() - start)


def overhead(rounds=9):
    """Print what the gateway adds to the server behind it."""
    model, x = victim()
    there = (environment() / "bin" / "mlserver").exists()
    if there:
        behind = mlserver({"cancer": model})
    else:
        own = PredictionAPI(model.predict_proba)
        behind = serve(own, {"none": "gateway"}, model="cancer")
    with behind as url, tempfile.TemporaryDirectory() as folder:
        key = None if there else "none"
        alone = RemoteAPI(url, "cancer", key=key, output="predict_proba")
        for sync in ([], ["--sync"]):
            more = [*sync]
            if not there:
                os.environ["UPSTREAM_KEY"] = key
                more += ["--upstream-key", "UPSTREAM_KEY"]
            port = free_port()
            with started(url, folder, port, *more):
                front = RemoteAPI(
                    f"http://127.0.0.1:{port}", "cancer", key="key-0"
                )
                assert (front.query(x) == alone.query(x)).all()
                found, spent = [], []
                for _ in range(rounds):
                    one = latency((alone, front), x, 40)
                    many, at = [], [busy()]
                    for api in (alone, front):
                        many.append(throughput(api, x, 40))
                        at.append(busy())
                    found.append([*one, *many])
                    spent.append(np.diff(at, axis=0))
                a, b, c, d = np.array(found).T
                said = "each entry waits for the disk" if sync else "default"
                print(
                    f"{'MLServer' if there else 'our server'}, {said}: one "
                    f"row {1e3 * np.median(a):.2f} ms, through the gateway "
                    f"{1e3 * np.median(b):.2f} ms, ratio "
                    f"{np.median(b / a):.2f} ({(b / a).min():.2f} to "
                    f"{(b / a).max():.2f}); 100 rows "
                    f"{np.median(c):,.0f} rows/s, through the gateway "
                    f"{np.median(d):,.0f}, ratio {np.median(d / c):.2f} "
                    f"({(d / c).min():.2f} to {(d / c).max():.2f})",
                    flush=True,
                )
                straight, through = 1e3 * np.mean(spent, axis=0) / 40
                print(
                    "CPU milliseconds of a call with 100 rows, in client, "
                    f"server, gateway: {straight.round(1)}, through the "
                    f"gateway {through.round(1)}; where the cores are full "
                    "the throughput is their ratio, "
                    f"{straight.sum() / through.sum():.2f}",
                    flush=True,
                )


def killed(asked=1_000_000, budget=900_000, kills=10, batch=100):
    """Print what is answered and billed by a gateway that is killed."""
    model, x = victim()
    own = PredictionAPI(model.predict_proba)
    rows = np.resize(x, (batch, x.shape[1]))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    os.environ["UPSTREAM_KEY"] = "none"
    more = ["--upstream-key", "UPSTREAM_KEY", "--budget", str(budget)]
    more += ["--monitor", "wire:Regular", "--on-alarm", "block"]
    answered, lost = [0] * CLIENTS, [0] * CLIENTS
    done, refused = [False] * CLIENTS, [None] * CLIENTS

    def client(i):
        remote = RemoteAPI(url, "cancer", key=f"key-{i}", timeout=60)
        for _ in range(asked // CLIENTS // batch):
            while True:
                try:
                    answered[i] += len(remote.query(rows))
                    break
                except (BudgetExceeded, ClientBlocked) as error:
                    refused[i] = error
                    done[i] = True
                    return
                except (RemoteError, httpx.TransportError):
                    lost[i] += 1
                    time.sleep(0.2)
        done[i] = True

    start = time.perf_counter()
    with (
        serve(own, {"none": "gateway"}, model="cancer") as behind,
        tempfile.TemporaryDirectory() as folder,
    ):
        threads = [
            threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for number in range(kills + 1):
            with started(behind, folder, port, *more) as process:
                goal = (number + 1) * budget / (kills + 1)
                while not all(done):
                    if number < kills and sum(answered) > goal:
                        break
                    time.sleep(0.1)
                if number < kills:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    print(
                        f"killed at {sum(answered):,} rows answered",
                        flush=True,
                    )
                else:
                    for thread in threads:
                        thread.join()
        ledger = DurableLedger(f"{folder}/ledger.db")
        seen = sum(len(x) for _, x, _ in ledger.seen())
        for i in range(CLIENTS):
            name = f"client {i}"
            assert answered[i] <= ledger.accounts[name].queries, name
        print(
            f"{CLIENTS} clients, {asked:,} rows asked in batches of {batch}, "
            f"budget {budget:,}, {kills} kills: answered {sum(answered):,}, "
            f"billed {ledger.queries:,}, seen by the monitor {seen:,}, calls "
            f"lost {sum(lost)}, alarms {sorted(ledger.alarms)}, refused "
            f"{sum(isinstance(e, BudgetExceeded) for e in refused)} for the "
            f"budget and {sum(isinstance(e, ClientBlocked) for e in refused)}"
            f" blocked; {time.perf_counter() - start:.0f} s"
        )
        alarms = list(ledger.alarms)
        ledger.close()
        assert sum(answered) <= ledger.queries <= budget
        # What was billed and not answered was on its way at one of the kills.
        on_its_way = kills * CLIENTS * batch
        assert ledger.queries - sum(answered) <= on_its_way
        assert seen >= ledger.queries
        assert alarms == ["client 7"]
        assert isinstance(refused[7], ClientBlocked)
        assert answered[7] <= 2 * batch


if __name__ == "__main__":
    for part in sys.argv[1:] or ["overhead", "killed"]:
        {"overhead": overhead, "killed": killed}[part]()
