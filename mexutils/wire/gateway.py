"""A `PredictionAPI` behind HTTP: keys, refusals with words, a meter."""

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

import mexutils
from mexutils.api import (
    BadAnswer,
    BadRows,
    BudgetExceeded,
    ClientBlocked,
    PredictionAPI,
)
from mexutils.wire.client import UpstreamError, is_key
from mexutils.wire.ledger import LedgerError
from mexutils.wire.tensors import as_json, from_json, tensor_of, to_tensor

__all__ = ["door_at", "gateway", "serve", "server_of"]

_LOG = logging.getLogger("mexutils.wire")
_UNPAID = "nothing was answered or billed"


def gateway(
    api: PredictionAPI,
    keys: Mapping[str, str],
    *,
    model: str = "model",
    largest: int = 64 * 2**20,
    patience: float = 30.0,
) -> Starlette:
    """An ASGI application that sells `api` to the holders of keys.

    keys: key to client name; several keys may have one name. model: the name
    under which the API is found. largest: bytes of a request, at most.
    patience: seconds that a client has to send one.

    Health is open to all; everything else needs a key. Refusals are JSON with
    an `error`, in the words of the API: 400 for rows that cannot be answered,
    401 without a key, 403 for a blocked client, 404, 405, 408, 413, 415, and
    429 beyond the budget; 502 where the victim gave no probabilities, 503
    where the ledger cannot be written, 500 where a defense or a monitor
    raises. Every answer to a call says in `X-Queries-Billed` how many rows it
    was billed; an answer with rows has `X-Queries-Used` and `X-Cost`, of this
    client so far.
    """
    desk = _Desk(api, keys, model, largest, patience)
    place = "/v2/models/{name}"
    routes = []
    for part in (place, f"{place}/versions/{{version}}"):
        routes += [
            Route(part, desk.metadata),
            Route(f"{part}/ready", desk.model_ready),
            Route(f"{part}/infer", desk.infer, methods=["POST"]),
        ]
    routes += [
        Route("/v2", desk.server),
        Route("/v2/health/live", desk.live),
        Route("/v2/health/ready", desk.ready),
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    app.router.redirect_slashes = False
    return app


def _json(message: dict, status: int = 200, headers=None) -> Response:
    return Response(as_json(message), status, headers, "application/json")


async def _refused(request: Request, error: HTTPException) -> Response:
    words = error.detail
    if error.status_code == 404 and words == "Not Found":
        words = f"there is nothing at {request.url.path[:200]!r}"
    if error.status_code == 405 and words == "Method Not Allowed":
        words = f"{request.method} is not allowed here"
    headers = {"X-Queries-Billed": "0"} | dict(error.headers or {})
    if request.method == "POST":  # whose body nobody waits for
        headers["Connection"] = "close"
    return _json({"error": words}, error.status_code, headers)


async def _failed(request: Request, error: Exception) -> Response:
    # What went wrong is the owner's to know, and what was billed unknown.
    return _json({"error": "the gateway failed"}, 500)


class _Desk:
    """What the routes share."""

    def __init__(self, api, keys, model, largest, patience):
        self.api, self.model = api, model
        self.largest, self.patience = largest, patience
        self.output = self.described()  # an error for what cannot travel
        # By its digest, so that the time of a look-up tells nothing of a key.
        self.names = {_digest(k): n for k, n in _checked(keys).items()}
        if not (isinstance(model, str) and model and "/" not in model):
            raise ValueError(
                f"model must be a name without '/', not {model!r}"
            )

    # --- who asks, and for what -----------------------------------------

    def client(self, request: Request) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(
            " "
        )
        name = self.names.get(_digest(key.strip()))
        if scheme.lower() != "bearer" or name is None:
            raise HTTPException(
                401,
                "no known key: send the header Authorization: Bearer KEY; "
                f"{_UNPAID}",
                {"WWW-Authenticate": "Bearer"},
            )
        return name

    def find(self, request: Request) -> None:
        name = request.path_params["name"]
        version = request.path_params.get("version", "1")
        if name != self.model or version != "1":
            raise HTTPException(
                404, f"there is no model {name[:100]!r} of that version here"
            )

    # --- what is told ---------------------------------------------------

    async def server(self, request: Request) -> Response:
        self.client(request)
        version = getattr(mexutils, "__version__", "0")
        return _json(
            {"name": "mexutils.wire", "version": version, "extensions": []}
        )

    async def live(self, request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        return self.readiness({"ready": True})

    async def model_ready(self, request: Request) -> Response:
        self.find(request)
        return self.readiness({"name": self.model, "ready": True})

    def readiness(self, message: dict) -> Response:
        failure = getattr(self.api.ledger, "failure", "")
        if failure:
            return _json({"ready": False, "error": failure}, 503)
        return _json(message)

    async def metadata(self, request: Request) -> Response:
        client = self.client(request)
        self.find(request)
        api = self.api
        shape = [-1] if api.input_shape is None else [-1, *api.input_shape]
        account = api.ledger.accounts.get(client)
        used = account.queries if account else 0
        return _json(
            {
                "name": self.model,
                "versions": ["1"],
                "platform": "mexutils",
                "inputs": [{"name": "x", "datatype": "FP64", "shape": shape}],
                "outputs": [self.output],
                "parameters": {
                    "returns": api.returns,
                    "classes": None
                    if api.classes is None
                    else api.classes.tolist(),
                    "price_per_1000": api.ledger.price_per_1000,
                    "queries_used": used,
                    "cost": api.ledger.price(used),
                    "remaining": api.remaining,
                },
            }
        )

    def described(self) -> dict:
        if self.api.returns != "label":
            return {
                "name": "predict_proba",
                "datatype": "FP64",
                "shape": [-1, -1],
            }
        classes = self.api.classes
        names = np.arange(1) if classes is None else classes[:1]
        datatype = to_tensor("predict", names)["datatype"]
        try:
            as_json({"names": None if classes is None else classes.tolist()})
        except TypeError as error:  # half a letter
            raise ValueError(
                f"the names of the classes do not travel as JSON: {error}"
            ) from None
        return {"name": "predict", "datatype": datatype, "shape": [-1]}

    # --- what is sold ---------------------------------------------------

    async def infer(self, request: Request) -> Response:
        client = self.client(request)
        self.find(request)
        body = await self.body(request)
        return await run_in_threadpool(self.sell, client, body)

    async def body(self, request: Request) -> bytes:
        if request.headers.get("content-encoding", "identity") != "identity":
            raise HTTPException(415, f"send plain JSON; {_UNPAID}")
        if "inference-header-content-length" in request.headers:
            raise HTTPException(
                415, f"no binary tensors here: send them as JSON; {_UNPAID}"
            )
        too_large = HTTPException(
            413,
            f"a request may have {self.largest} bytes: send fewer rows a "
            f"call; {_UNPAID}",
        )
        told = request.headers.get("content-length", "0")
        if told.isdecimal() and int(told) > self.largest:
            raise too_large
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.patience):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > self.largest:
                        raise too_large
        except TimeoutError:
            raise HTTPException(
                408,
                f"the request was not whole after {self.patience:g} s; "
                f"{_UNPAID}",
            ) from None
        except ClientDisconnect:
            raise HTTPException(400, "the request broke off") from None
        return b"".join(parts)

    def sell(self, client: str, body: bytes) -> Response:
        """The answer to one call; in a thread, since the victim may wait."""
        try:
            message = self.read(body)
            answer = self.api.query(message["x"], client)
        except BadRows as error:
            return _no(400, error)
        except ClientBlocked as error:
            return _no(403, error)
        except BudgetExceeded as error:
            return _no(429, error)
        except (UpstreamError, BadAnswer) as error:
            # The reason may name hosts, or tell of answers that nobody paid.
            _LOG.warning("%s", error)
            return _no(
                502,
                "the model behind this gateway gave no answer that can be "
                f"sold: {_UNPAID}; its owner finds the reason in the log",
            )
        except LedgerError as error:
            _LOG.error("%s", error)
            return _no(503, f"the books cannot be written: {_UNPAID}")
        except Exception:
            # A defense or a monitor: no answer without it.
            _LOG.exception("a call of %r failed", client)
            return _no(500, f"the gateway failed: {_UNPAID}")
        used = self.api.ledger.accounts[client].queries
        reply = {
            "model_name": self.model,
            "model_version": "1",
            "outputs": [to_tensor(self.output["name"], answer)],
        }
        if message["id"] is not None:
            reply["id"] = message["id"]
        return _json(
            reply,
            headers={
                "X-Queries-Billed": str(len(answer)),
                "X-Queries-Used": str(used),
                "X-Cost": f"{self.api.ledger.price(used):.6f}",
            },
        )

    def read(self, body: bytes) -> dict:
        """The rows and the id of a call; `BadRows` that says what is wrong."""
        try:
            message = from_json(body)
        except (ValueError, RecursionError) as error:
            raise BadRows(
                f"the request is no JSON object ({str(error)[:200]}): NaN and "
                f"infinite numbers do not travel; {_UNPAID}"
            ) from None
        inputs, outputs = message.get("inputs"), message.get("outputs")
        if not (isinstance(inputs, list) and len(inputs) == 1):
            raise BadRows(
                f"inputs must be a list of one tensor, the rows; {_UNPAID}"
            )
        sold = self.output["name"]
        if outputs is not None:
            wanted = [
                o.get("name") if isinstance(o, dict) else None
                for o in (outputs if isinstance(outputs, list) else [None])
            ]
            if wanted not in ([], [sold]):
                raise BadRows(
                    f"{sold!r} is the only output that is sold: ask for it "
                    f"or leave outputs out; {_UNPAID}"
                )
        x = tensor_of(inputs[0])
        if x.dtype.kind not in "fiub":
            raise BadRows(f"the rows must be numbers, not BYTES; {_UNPAID}")
        named = message.get("id")
        if named is not None and not isinstance(named, str):
            raise BadRows(f"id must be a word; {_UNPAID}")
        return {"x": x, "id": named}


def _no(status: int, words) -> Response:
    return _json({"error": str(words)}, status, {"X-Queries-Billed": "0"})


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def _checked(keys: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(keys, Mapping) or not keys:
        raise ValueError(
            "keys must be a dictionary of at least one key to the name of "
            f"its client, not {type(keys).__name__}"
        )
    for key, name in keys.items():
        if not (is_key(key) and isinstance(name, str) and name):
            raise ValueError(
                "a key is a word of ASCII characters and a client's name "
                "some text; the key of "
                f"{name if isinstance(name, str) else type(name).__name__!r} "
                "is not"
            )
    return dict(keys)


@contextmanager
def serve(
    api: PredictionAPI,
    keys: Mapping[str, str],
    *,
    model: str = "model",
    host: str = "127.0.0.1",
    port: int = 0,
    **settings,
) -> Iterator[str]:
    """A gateway in a thread of this process; gives its URL.

    port: 0 takes a free one. settings: of `gateway`. On leaving, calls under
    way are answered first. A durable ledger stays open; it is the owner's to
    close.
    """
    server = server_of(gateway(api, keys, model=model, **settings))
    with door_at(host, port) as door:
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            yield f"http://{host}:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def door_at(host: str, port: int) -> socket.socket:
    """A socket that clients can reach; `OSError` where it cannot be had."""
    door = socket.create_server((host, port))
    # Headers and rows are written apart: else each waits 40 ms for the other.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return door


def server_of(app: Starlette) -> uvicorn.Server:
    """A server that tells nobody who asked, and stops gracefully."""
    settings = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=30,
    )
    return uvicorn.Server(settings)
