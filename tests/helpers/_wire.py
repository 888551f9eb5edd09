"""What the tests of the wire share: a victim, servers that misbehave."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server

import numpy as np
from scipy.special import softmax

from mexutils import Alarm

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3))
ROWS = np.random.default_rng(1).normal(size=(50, 4))
KEYS = {"k-ann": "ann", "k-eve": "eve"}


def victim(x):
    """Softmax regression on four features, three classes."""
    return softmax(x @ WEIGHTS, axis=1)


class ThirdCall:
    """A monitor that raises an alarm on a client's third call."""

    def __init__(self, name="eve"):
        self.name, self.calls, self.rows = name, {}, []

    def observe(self, client, x, probabilities):
        self.calls[client] = self.calls.get(client, 0) + 1
        self.rows.append((client, x, probabilities))
        if client == self.name and self.calls[client] == 3:
            return Alarm(3, "third call")
        return None


def message(x, **changes):
    """A call of the protocol as a dictionary; changes of its tensor."""
    x = np.asarray(x)
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP64"}
    return {"inputs": [tensor | {"data": x.ravel().tolist()} | changes]}


def answer(p, **changes):
    """An answer of the protocol, with probabilities p."""
    p = np.asarray(p)
    output = {"name": "predict_proba", "shape": list(p.shape)}
    output |= {"datatype": "FP64", "data": p.ravel().tolist()} | changes
    return {"model_name": "model", "outputs": [output]}


@contextmanager
def scripted(reply):
    """A server whose POSTs are answered by `reply(handler, body)`; its URL.

    reply gives a status, headers and bytes, or None where it has written the
    answer (or none) itself.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            length = int(self.headers["Content-Length"])
            said = reply(self, json.loads(self.rfile.read(length)))
            if said is None:
                self.close_connection = True
                return
            status, headers, text = said
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port():
    with create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


@contextmanager
def command(*arguments):
    """`python -m mexutils.wire` in a process; the process, once it serves."""
    folder = Path(__file__).resolve().parent
    here = os.pathsep.join([str(folder.parents[1]), str(folder)])
    environ = os.environ | {"PYTHONPATH": here, "UPSTREAM_KEY": "k-ann"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mexutils.wire", *map(str, arguments)],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert "is sold at" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def until(true, seconds=20.0):
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


class Regular(ThirdCall):
    """The same, on another client."""

    def __init__(self):
        super().__init__("client 5")
