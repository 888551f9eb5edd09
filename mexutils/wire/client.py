"""What asks a model over HTTP: an attacker's API, an owner's victim."""

import time
import warnings
from collections.abc import Mapping
from threading import Lock
from urllib.parse import SplitResult, quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
import numpy as np

from mexutils.api import (
    BudgetExceeded,
    ClientBlocked,
    checked_rows,
)
from mexutils.checks import is_finite, whole
from mexutils.wire.tensors import as_json, from_json, tensor_of, to_tensor

__all__ = [
    "AnswerLost",
    "RemoteAPI",
    "RemoteError",
    "Upstream",
    "UpstreamError",
]

_UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_LARGEST = 2**30  # bytes of an answer, so that no server fills our memory


class RemoteError(RuntimeError):
    """The server failed, or does not keep to the protocol."""


class AnswerLost(RemoteError):
    """The rows were sent and no answer came: they may have been billed."""


class UpstreamError(RuntimeError):
    """The model behind a gateway gave no answer that can be sold."""


class RemoteAPI:
    """A prediction API at a URL, asked as `PredictionAPI` is.

    url: of the server, without the part from `/v2` on. model, version: which
        of its models.
    key: sent as `Authorization: Bearer KEY`; a dictionary of client names to
        keys, where several accounts are asked under.
    output: the output to ask for, such as `"predict_proba"` of MLServer; the
        server's default where it is left out.
    timeout: seconds to wait at each step of a call (connecting, sending, the
        first byte) and, from its start, for the last byte of the answer.
    retries: how often a call is sent again that has certainly not been
        billed: no connection came about, or the server says that it billed
        nothing. The waits grow from 0.1 s, twofold each time.
    pay_again: whether to send again what may have been billed, because the
        answer was lost. Each time a warning says so, and its rows are counted
        in `perhaps_twice`. Without it `AnswerLost` is raised at once.

    queries_used, cost: rows and dollars that the last answer said this
    client has used so far, or None; of a server without a meter always None.

    Several threads may ask at once.
    """

    def __init__(
        self,
        url: str,
        model: str = "model",
        *,
        key: str | Mapping[str, str] | None = None,
        version: str | None = None,
        output: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        pay_again: bool = False,
    ):
        parts = _checked_url(url)
        if not (isinstance(model, str) and model):
            raise ValueError(f"model must be its name, not {model!r}")
        if not (is_finite(timeout) and timeout > 0):
            raise ValueError(f"timeout must be seconds above 0, not {timeout}")
        if isinstance(key, Mapping) and not key:
            raise ValueError("key must have a client at least, not be empty")
        for word in key.values() if isinstance(key, Mapping) else (key,):
            if word is not None and not is_key(word):
                # Not shown, since it may be a true key and a line end.
                raise ValueError(
                    "a key is one word of ASCII characters: is there a blank "
                    "or the end of a line in it?"
                )
        self._retries = whole("retries", retries, least=0)
        self._key, self._output, self._timeout = key, output, float(timeout)
        self._pay_again, self._room = pay_again, Lock()
        self.model, self.perhaps_twice = model, 0
        self.queries_used: int | None = None
        self.cost: float | None = None
        self._told: dict | None = None
        named = "" if version is None else quote(str(version), safe="")
        part = f"/versions/{named}" if named else ""
        self.url = f"{url.rstrip('/')}/v2/models/{quote(model, safe='')}{part}"
        # The transport alone: the rest of httpx.Client (cookies, redirects)
        # is not wanted here and takes as long again.
        self._http = httpx.HTTPTransport(
            verify=parts.scheme == "https",
            proxy=_proxy(parts.scheme, parts.hostname),
            # Shorter than a server keeps a connection, so that no call is
            # sent into one that is just being closed.
            limits=httpx.Limits(max_connections=None, keepalive_expiry=2.0),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- what the server tells ------------------------------------------

    def describe(self) -> dict:
        """The server's words on the model; not billed.

        Of our gateway, `parameters` has `returns`, `classes`, the price, and
        what is used (by the first of several names) and left.
        """
        several = isinstance(self._key, Mapping)
        client = next(iter(self._key)) if several else ""
        found, _ = self._exchange("GET", self.url, client, None)
        self._told = found
        return found

    def _parameters(self, now: bool = False) -> dict:
        found = self._known(now).get("parameters")
        return found if isinstance(found, dict) else {}

    def _known(self, now: bool = False) -> dict:
        if self._told is None or now:
            try:
                self.describe()
            except LookupError:  # a server that tells nothing of its models
                self._told = {}
        return self._told

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one row, where the server tells it; else None."""
        inputs = self._known().get("inputs")
        if not (isinstance(inputs, list) and len(inputs) == 1):
            return None
        shape = inputs[0].get("shape") if isinstance(inputs[0], dict) else None
        sides = shape[1:] if isinstance(shape, list) else []
        known = all(type(n) is int and n > 0 for n in sides)
        return tuple(sides) if sides and known else None

    @property
    def returns(self) -> str:
        """What is sold: "label", "probabilities", "top-3".

        Of a server that does not tell it there is no such attribute.
        """
        if "returns" not in self._parameters():
            raise AttributeError(f"{self.url} does not tell what it returns")
        return self._parameters()["returns"]

    @property
    def classes(self) -> np.ndarray | None:
        """The names that labels have, or None where they are places."""
        names = self._parameters().get("classes")
        return None if names is None else np.array(names)

    @property
    def remaining(self) -> int | None:
        """Queries left in the budget now, or None where none is told."""
        return self._parameters(now=True).get("remaining")

    # --- asking ---------------------------------------------------------

    def query(self, x, client: str = "anonymous") -> np.ndarray:
        """The answers to the rows x; each row is one query.

        x: (n, *input_shape), finite numbers. client: whose key is used,
        where there are several.
        Returns (n, c) float64 probabilities or (n,) labels, as
        `PredictionAPI.query` does.

        Raises, with nothing billed: `ValueError`, `BudgetExceeded`,
        `ClientBlocked`, `PermissionError` (key), `LookupError` (model) and
        `RemoteError`; `AnswerLost`, which is a `RemoteError`, and an answer
        that cannot be read say what may have been billed.
        """
        x = checked_rows(x, None)
        message = {"inputs": [to_tensor("x", x)]}
        if self._output is not None:
            message["outputs"] = [{"name": self._output}]
        url = f"{self.url}/infer"
        found, headers = self._exchange("POST", url, client, message, len(x))
        answer = self._answer(found, len(x), headers)
        self._note(headers)
        return answer

    def _note(self, headers: httpx.Headers) -> None:
        try:
            used = headers.get("x-queries-used")
            cost = headers.get("x-cost")
            self.queries_used = (
                self.queries_used if used is None else int(used)
            )
            self.cost = self.cost if cost is None else float(cost)
        except ValueError:
            pass  # of a server that means something else by these words

    def _answer(self, found: dict, n: int, headers) -> np.ndarray:
        outputs = found.get("outputs")
        try:
            if not (isinstance(outputs, list) and len(outputs) == 1):
                raise ValueError("one output is needed: ask for it by output=")
            answer = tensor_of(outputs[0])
        except ValueError as error:
            raise RemoteError(
                f"{self.url} answered what cannot be read ({error}); "
                f"{_billed(headers, n)}"
            ) from None
        if answer.ndim == 2 and answer.shape[1] == 1:
            answer = answer[:, 0]
        if len(answer) != n:
            raise RemoteError(
                f"{self.url} answered {n} rows by {len(answer)}; "
                f"{_billed(headers, n)}"
            )
        return answer

    def _headers(self, client: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        key = self._key
        if isinstance(key, Mapping):
            if client not in key:
                raise PermissionError(
                    f"there is no key for the client {client!r}: ask as one "
                    f"of {', '.join(map(repr, key))}"
                )
            key = key[client]
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return headers

    def _exchange(self, method, url, client, message, n=0):
        """A JSON object and the headers, or an error that says what is paid.

        n: rows that the call would be billed; 0 for a mere question.
        """
        headers = self._headers(client)
        body = None if message is None else as_json(message)
        for left in reversed(range(self._retries + 1)):
            again = left > 0
            try:
                status, said, text = self._send(method, url, headers, body)
            except _UNSENT as error:
                failure = RemoteError(
                    f"{url} cannot be reached ({_words(error)}): nothing was "
                    "sent or billed; is the server up, and the URL right?"
                )
            except (httpx.TransportError, _Lost) as error:
                failure = AnswerLost(
                    f"{url} took the call and gave no whole answer "
                    f"({_words(error)}): {n} rows may have been billed"
                    + (
                        ""
                        if self._pay_again
                        else "; pay_again=True sends such calls again"
                    )
                )
                again = again and (n == 0 or self._pay_again)
                if again and n:
                    with self._room:
                        self.perhaps_twice += n
                    warnings.warn(
                        f"{failure}, and are sent again", stacklevel=4
                    )
            else:
                if status == 200:
                    return self._read(url, text, said, n), said
                failure = _refusal(url, status, said, text)
                unpaid = n == 0 or said.get("x-queries-billed") == "0"
                again = again and status in (502, 503, 504) and unpaid
            if not again:
                raise failure
            time.sleep(0.1 * 2 ** (self._retries - left))

    def _send(self, method, url, headers, body):
        """Status, headers and body, all within the timeout."""
        deadline = time.monotonic() + self._timeout
        waits = dict.fromkeys(("read", "write", "pool"), self._timeout)
        waits["connect"] = min(5.0, self._timeout)
        answer = self._http.handle_request(
            httpx.Request(
                method,
                url,
                headers=headers,
                content=body,
                extensions={"timeout": waits},
            )
        )
        parts, size = [], 0
        try:
            for part in answer.stream:
                parts.append(part)
                size += len(part)
                if time.monotonic() > deadline:
                    raise _Lost(f"not whole after {self._timeout:g} s")
                if size > _LARGEST:
                    raise _Lost(f"more than {_LARGEST} bytes")
        finally:
            answer.close()
        return answer.status_code, answer.headers, b"".join(parts)

    def _read(self, url, text, headers, n) -> dict:
        try:
            return from_json(text)
        except ValueError as error:
            raise RemoteError(
                f"{url} answered no JSON object ({error}); "
                f"{_billed(headers, n)}"
            ) from None


def _checked_url(url) -> SplitResult:
    """The parts of a server's URL; `ValueError` for any other."""
    wrong = f"url must be as http://127.0.0.1:8080, not {url!r}"
    try:
        httpx.URL(url)
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname
    except (httpx.InvalidURL, TypeError, ValueError, AttributeError):
        fits = False
    if not fits or url.split() != [url] or parts.query or parts.fragment:
        raise ValueError(wrong)
    if parts.username is not None:
        # Not shown, since it holds a password.
        raise ValueError("url must have no name and password: pass key=")
    if "v2" in parts.path.split("/"):
        raise ValueError(f"{wrong}: leave out /v2 and what follows")
    return parts


def is_key(word) -> bool:
    """Whether it can be sent as a key: one word of visible ASCII."""
    return (
        isinstance(word, str)
        and word.isascii()
        and word.isprintable()
        and word.split() == [word]
    )


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy that the environment names; none to this machine itself."""
    if host in ("127.0.0.1", "::1", "localhost") or proxy_bypass(host):
        return None
    return getproxies().get(scheme)


class _Lost(Exception):
    """An answer that did not end in time, or not at all."""


def _words(error: Exception) -> str:
    return f"{type(error).__name__.strip('_')}: {error}".rstrip(": ")


def _billed(headers, n: int) -> str:
    billed = headers.get("x-queries-billed")
    return (
        f"{n} rows may have been billed"
        if billed is None
        else (f"{billed} rows were billed")
    )


def _refusal(url, status, headers, text) -> Exception:
    """The error that a refusal raises in process, with the server's words."""
    try:
        said = from_json(text)
        words = said.get("error", said.get("detail", said))
    except ValueError:
        words = text[:200].decode("utf-8", "replace").strip()
    words = str(words)[:1000] or f"status {status} without a word"
    if status == 401:
        return PermissionError(f"{words}: pass key=, as its owner gave it")
    if status == 403:
        return ClientBlocked(words)
    if status == 404:
        return LookupError(f"{url}: {words} (404)")
    if status == 429:
        return BudgetExceeded(words)
    if 400 <= status < 500:
        return ValueError(words)
    if 300 <= status < 400:
        where = headers.get("location", "elsewhere")
        return RemoteError(
            f"{url} sends us to {where} ({status}): give that URL yourself, "
            "so that no key goes where you did not send it"
        )
    return RemoteError(f"{url} failed ({status}): {words}")


class Upstream:
    """A model on a server without a meter, as the victim of an API.

    Takes the arguments of `RemoteAPI`; `output` is `"predict_proba"`, which
    has to be asked for by name since servers answer labels by default. A call
    whose answer was lost is sent again.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        output: str | None = "predict_proba",
        timeout: float = 10.0,
        retries: int = 2,
        **settings,
    ):
        self.api = RemoteAPI(
            url,
            model,
            output=output,
            timeout=timeout,
            retries=retries,
            pay_again=True,
            **settings,
        )

    def predict_proba(self, x) -> np.ndarray:
        """The answers to rows x, for the API to check; or `UpstreamError`."""
        try:
            answer = self.api.query(x)
            if answer.dtype.kind not in "fiu":
                raise ValueError(f"the answers are {answer.dtype}, no numbers")
            return answer
        except Exception as error:
            raise UpstreamError(f"{type(error).__name__}: {error}") from error
