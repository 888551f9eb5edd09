"""The prediction API over HTTP: what it answers, refuses and bills."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import numpy as np
import pytest
from _wire import (
    KEYS,
    ROWS,
    ThirdCall,
    answer,
    free_port,
    message,
    scripted,
    victim,
)

from mexutils import (
    Accounts,
    BudgetExceeded,
    ClientBlocked,
    PredictionAPI,
)
from mexutils.wire import (
    AnswerLost,
    DurableLedger,
    RemoteAPI,
    RemoteError,
    Upstream,
    gateway,
    serve,
)
from mexutils.wire.__main__ import made, main
from mexutils.wire.gateway import door_at
from mexutils.wire.tensors import as_json, from_json, tensor_of, to_tensor

# --- numbers on the wire --------------------------------------------------


def travelled(array):
    return tensor_of(from_json(as_json({"x": to_tensor("x", array)}))["x"])


def test_every_float_travels_to_the_last_bit():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, 100_000, dtype=np.uint64).view(np.float64)
    wide = bits[np.isfinite(bits)]
    edges = [5e-324, -5e-324, 1.7976931348623157e308, -0.0, 2**53 + 1, 0.1]
    wide = np.concatenate([wide, edges, 2.0 ** np.arange(-1074, 1024)])
    back = travelled(wide)
    assert back.dtype == np.float64
    assert (back.view(np.uint64) == wide.view(np.uint64)).all()
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    narrow = bits[np.isfinite(bits)]
    back = travelled(narrow)
    assert back.dtype == np.float32
    assert (back.view(np.uint32) == narrow.view(np.uint32)).all()


@pytest.mark.parametrize(
    "array",
    [
        np.array([[True, False]]),
        np.array([[0, 255]], np.uint8),
        np.array([[-(2**63), 2**63 - 1]]),
        np.array([[2**64 - 1]], np.uint64),
        np.array([[0.5, 65504]], np.float16),
        np.array([["setosa", "Ü"]]),
        np.arange(24.0).reshape(2, 3, 4)[:, ::-1],
    ],
)
def test_arrays_travel_with_their_type(array):
    back = travelled(array)
    assert back.dtype == array.dtype and (back == array).all()


def test_what_cannot_travel_says_so():
    with pytest.raises(ValueError, match="send float64"):
        to_tensor("x", np.array([[1j]]))


def test_lists_of_rows_are_read_as_flat_ones():
    x = np.arange(12.0).reshape(2, 3, 2)
    nested = to_tensor("x", x) | {"data": x.tolist()}
    assert (tensor_of(nested) == x).all()


# --- the same answers, the same bill, the same words ----------------------


@pytest.mark.parametrize("returns", ["probabilities", "label", "top-2"])
@pytest.mark.parametrize("classes", [None, ["a", "b", "long"], [3, 5, 9]])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_the_answers_are_those_of_the_api(shop, returns, classes, dtype):
    settings = {"returns": returns, "classes": classes}
    here = PredictionAPI(victim, **settings)
    remote = shop(PredictionAPI(victim, **settings))
    x = (3 * ROWS).astype(dtype)
    mine, theirs = here.query(x), remote.query(x)
    assert mine.dtype.kind == theirs.dtype.kind
    assert mine.shape == theirs.shape and (mine == theirs).all()
    assert remote.returns == returns
    assert (remote.classes is None) == (classes is None)
    assert remote.input_shape == (4,)


def test_the_bill_is_told_and_shared_by_the_budget(shop):
    api = PredictionAPI(victim, budget=30, price_per_1000=2.0)
    eve = shop(api)
    ann = RemoteAPI(eve.base, key="k-ann")
    assert eve.remaining == 30 and eve.queries_used is None
    eve.query(ROWS[:20])
    ann.query(ROWS[:4])
    eve.query(ROWS[:1])
    assert (eve.queries_used, ann.queries_used) == (21, 4)
    assert eve.cost == 0.042
    assert eve.remaining == ann.remaining == 5
    told = eve.describe()["parameters"]
    assert told["queries_used"] == 21 and told["cost"] == 0.042
    assert api.ledger.accounts["eve"].calls == 2
    with pytest.raises(BudgetExceeded) as refusal:
        ann.query(ROWS[:6])
    with pytest.raises(BudgetExceeded) as same:
        api.query(ROWS[:6])
    assert str(refusal.value) == str(same.value)
    assert api.ledger.queries == 25


def test_several_accounts_are_several_keys(shop):
    api = PredictionAPI(
        victim, monitors=[ThirdCall()], on_alarm="block", returns="label"
    )
    one = shop(api)
    both = RemoteAPI(one.base, key={"eve": "k-eve", "ann": "k-ann"})
    attacker = Accounts(both, ["eve", "ann"], rows=5)
    assert (attacker.query(ROWS) == victim(ROWS).argmax(1)).all()
    assert attacker.returns == "label" and attacker.remaining is None
    bills = {n: b.queries for n, b in api.ledger.accounts.items()}
    assert bills == {"eve": 10, "ann": 40}
    with pytest.raises(ClientBlocked, match="'eve' is blocked since its"):
        both.query(ROWS, "eve")
    with pytest.raises(PermissionError, match="no key for the client 'bob'"):
        both.query(ROWS, "bob")


def bad_rows():
    nan = ROWS[:3].copy()
    nan[1, 2] = np.nan
    return {
        "29 features": ROWS[:2, :3],
        "a row without a batch": ROWS[0],
        "none": ROWS[:0],
        "NaN": nan,
        "words": [["a", "b", "c", "d"]],
        "infinite": np.full((1, 4), np.inf),
    }


@pytest.mark.parametrize("name", bad_rows())
def test_bad_rows_raise_what_they_raise_in_process(shop, name):
    api = PredictionAPI(victim, input_shape=(4,))
    remote = shop(api)
    with pytest.raises(ValueError) as there:
        remote.query(bad_rows()[name])
    with pytest.raises(ValueError) as here:
        api.query(bad_rows()[name])
    assert str(there.value) == str(here.value)
    assert api.ledger.queries == 0


def test_keys_models_and_urls_that_are_wrong_say_so(shop):
    api = PredictionAPI(victim)
    remote = shop(api)
    for key in (None, "k-EVE", "k-eve2"):
        with pytest.raises(PermissionError, match="no known key.*pass key="):
            RemoteAPI(remote.base, key=key).query(ROWS)
    for name in ("other", "../model", "a b/ü"):
        with pytest.raises(LookupError, match="404"):
            RemoteAPI(remote.base, name, key="k-eve").query(ROWS)
    with pytest.raises(LookupError, match="of that version"):
        RemoteAPI(remote.base, key="k-eve", version="7").query(ROWS)
    assert len(RemoteAPI(remote.base, key="k-eve", version="1").query(ROWS))
    with pytest.raises(ValueError, match="'predict_proba' is the only output"):
        RemoteAPI(remote.base, key="k-eve", output="logits").query(ROWS)
    no_urls = ["127.0.0.1:80", "ftp://a", "http://", "http://a:b:c", None, 80]
    no_urls += [f" {remote.base}", f"{remote.base}?a=1", f"{remote.base}#a"]
    for url in no_urls:
        with pytest.raises(ValueError, match="url must be as"):
            RemoteAPI(url)
    for path in ("/v2", "/v2/", "/v2/models/model", "/proxy/v2/models"):
        with pytest.raises(ValueError, match="leave out /v2 and"):
            RemoteAPI(remote.base + path)
    with pytest.raises(ValueError, match="pass key=") as refusal:
        RemoteAPI("http://ann:word@127.0.0.1")
    assert "word" not in str(refusal.value).replace("password", "")
    for model in (None, "", 7):
        with pytest.raises(ValueError, match="model must be its name"):
            RemoteAPI(remote.base, model)
    assert len(RemoteAPI(remote.base, key="k-eve", version=1).query(ROWS))
    with pytest.raises(ValueError, match="timeout"):
        RemoteAPI(remote.base, timeout=0)
    for key in ("k-eve\n", "k eve", "", {"eve": "k\r\nX: y"}, 7):
        with pytest.raises(ValueError, match="one word of ASCII"):
            RemoteAPI(remote.base, key=key)
    with pytest.raises(ValueError, match="a client at least"):
        RemoteAPI(remote.base, key={})
    assert api.ledger.calls == 2


@pytest.mark.parametrize(
    "keys",
    [
        {},
        None,
        ["k"],
        {"": "a"},
        {"a b": "c"},
        {"ü": "a"},
        {"k": ""},
        {"k": {"secret": "a"}},
        {1: "a"},
    ],
)
def test_keys_that_nobody_could_send_are_refused(keys):
    with pytest.raises(ValueError, match="key") as refusal:
        gateway(PredictionAPI(victim), keys)
    assert "secret" not in str(refusal.value)
    with pytest.raises(ValueError, match="without '/'"):
        gateway(PredictionAPI(victim), KEYS, model="a/b")


def test_names_of_classes_that_cannot_travel_are_refused():
    days = np.array(["2001-01-01", "2001-01-02"], "datetime64[D]")
    api = PredictionAPI(lambda x: [[0.5, 0.5]] * len(x), returns="label")
    api.classes = days
    with pytest.raises(ValueError, match="does not travel"):
        gateway(api, KEYS)
    api.classes = np.array(["whole", "half \ud800"])
    with pytest.raises(ValueError, match="do not travel as JSON"):
        gateway(api, KEYS)


def test_health_is_open_and_the_rest_needs_a_key(shop):
    base = shop(PredictionAPI(victim, returns="label")).base
    get = httpx.Client(base_url=base, trust_env=False).get
    for path in ("health/live", "health/ready", "models/model/ready"):
        assert get(f"/v2/{path}").status_code == 200
    for path in ("/v2", "/v2/models/model"):
        assert get(path).status_code == 401
        said = get(path, headers={"Authorization": "bearer k-eve"})
        assert said.status_code == 200
    assert said.json()["outputs"] == [
        {"name": "predict", "datatype": "INT64", "shape": [-1]}
    ]
    headers = {"Authorization": "Bearer k-eve"}
    said = httpx.post(
        f"{base}/v2/models/model/infer",
        json=message(ROWS[:2]) | {"id": "seven", "outputs": []},
        headers=headers,
        trust_env=False,
    )
    assert said.json()["id"] == "seven"
    assert said.headers["x-queries-billed"] == "2"
    assert said.headers["x-cost"] == "0.003000"
    assert "server" not in said.headers


def test_no_answer_waits_for_the_next_packet():
    with door_at("127.0.0.1", 0) as door:
        assert door.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_many_clients_at_once_are_answered_or_refused(shop):
    api = PredictionAPI(victim, budget=200)
    remote = shop(api)

    def ask(i):
        try:
            return len(remote.query(ROWS[:7]))
        except BudgetExceeded:
            return 0

    with ThreadPoolExecutor(16) as pool:
        answered = sum(pool.map(ask, range(64)))
    assert answered == api.ledger.queries == 196


# --- requests that nobody should send -------------------------------------


def malformed():
    """Requests (method, path, headers, body) that must not be answered."""
    key = {"Authorization": "Bearer k-eve"}
    here, good = "/v2/models/model/infer", message(ROWS[:2])
    rows = ROWS[:2].ravel().tolist()

    def tensor(**changes):
        return message(ROWS[:2], **changes)

    shapes = [
        *([], [2], [8], [4, 2], [2, 3], [2, 5], [1, 4], [2, 2, 2], [2, 4, 1]),
        *([0, 4], [-2, -4], [-1, 4], [2, -4], [2.0, 4], ["2", "4"], [None]),
        *("2,4", 8, None, {}, [[2, 4]], [10**9, 4], [2**63, 2], [True, 8]),
        *([10**400, 1], [2, 4, 0]),
    ]
    data = [
        *(None, {}, "abc", 3, [], rows[:-1], [*rows, 1.0], [None] * 8),
        *(["1"] * 8, [True] * 8, [*rows[:7], "x"], [*rows[:7], None]),
        *([[1.0] * 4, [1.0] * 3], [[1.0] * 4], [[1.0] * 4, 2.0], [[[1]] * 8]),
        *([{}] * 8, [rows], [[rows[:4], rows[4:]]]),
    ]
    types = [
        *("FP128", "fp64", "BF16", "", None, 64, [], {}, "BYTES", "BOOL"),
        *("INT64", "UINT8", "object"),
    ]
    messages = [tensor(shape=shape) for shape in shapes]
    messages += [tensor(data=d) for d in data]
    messages += [tensor(datatype=t) for t in types]
    messages += [
        tensor(datatype="UINT8", data=[300] * 8),
        tensor(datatype="INT64", data=[2**63] * 8),
        tensor(datatype="FP32", data=[1e300] * 8),
        tensor(datatype="FP16", data=[1e300] * 8),
        tensor(datatype="BYTES", data=["a"] * 8),
        {"inputs": []},
        {"inputs": None},
        {"inputs": {}},
        {"inputs": "x"},
        {"inputs": [None]},
        {"inputs": [[]]},
        {"inputs": good["inputs"] * 2},
        {},
        {"instances": [[1, 2, 3, 4]]},
        good | {"outputs": [{"name": "predict"}]},
        good | {"outputs": [{"name": "predict_proba"}] * 2},
        good | {"outputs": "predict_proba"},
        good | {"outputs": [None]},
        good | {"outputs": {}},
        good | {"id": 7},
        good | {"id": ["a"]},
    ]
    for part in ("shape", "datatype", "data"):
        less = {k: v for k, v in good["inputs"][0].items() if k != part}
        messages.append({"inputs": [less]})
    text = json.dumps(good)
    bodies = [json.dumps(m).encode() for m in messages]
    bodies += [
        *(b"", b" ", b"null", b"[]", b"3", b'"x"', b"{", b"\x00", b"\xff\xfe"),
        *(b"NaN", text[:-1].encode(), text[: len(text) // 2].encode()),
        *(b"[" * 100_000, b'{"inputs":' * 5000, text.encode() + b"}"),
        text.replace(str(rows[0]), "NaN").encode(),
        text.replace(str(rows[0]), "Infinity").encode(),
        text.replace(str(rows[0]), "-Infinity").encode(),
        text.replace(str(rows[0]), "1e999").encode(),
        text.replace(str(rows[0]), "1" * 5000).encode(),
        text.replace(str(rows[0]), "0x10").encode(),
        text.replace(str(rows[0]), "01").encode(),
        text.encode("utf-16"),
        text.replace("inputs", "inputs\ud800").encode("utf-8", "replace"),
        b"shape=2,4&data=1",
        b"a" * 300_000,
    ]
    cases = [("POST", here, key, body) for body in bodies]
    body = text.encode()
    cases += [
        (method, here, key, body)
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW")
    ]
    cases += [
        ("POST", here, headers, body)
        for headers in (
            {},
            {"Authorization": ""},
            {"Authorization": "k-eve"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic k-eve"},
            {"Authorization": "Bearer K-EVE"},
            {"Authorization": "Bearer k-eve k-ann"},
            {"Authorization": "Bearer k-eve\u00e9"},
            {"Authorization": f"Bearer {'k' * 10_000}"},
            {"X-Key": "k-eve"},
            key | {"Content-Encoding": "gzip"},
            key | {"Inference-Header-Content-Length": "10"},
        )
    ]
    cases += [
        ("POST", path, key, body)
        for path in (
            *("/", "/v2", "/v2/", "/v2/models", "/v2/models/model"),
            *(
                f"{here}/",
                f"/{here}",
                f"{here}/..",
                "/v1/models/model:predict",
            ),
            *("/v2/models/../infer", "/v2/models/model/../other/infer"),
            *("/v2/models/%2e%2e/infer", "/v2/models/model%00/infer"),
            *("/v2/models//infer", "/v2/models/MODEL/infer"),
            *("/v2/models/model/versions/2/infer", "/v2/models/model/Infer"),
            *("/v2/models/model/versions//infer", "/v2/models/mod el/infer"),
            *("/v2/repository/index", "/v2/repository/models/model/unload"),
            *("/v2/docs", "/docs", "/openapi.json", "/metrics", "/ledger.db"),
            *("/%2e%2e/%2e%2e/etc/passwd", "/v2/models/'; --/infer"),
            f"/v2/models/{'m' * 5000}/infer",
        )
    ]
    return cases


def test_no_malformed_request_is_answered_or_billed(shop):
    api = PredictionAPI(victim, input_shape=(4,))
    base = shop(api, largest=200_000).base
    host, port = base.removeprefix("http://").split(":")
    wrong = []
    assert len(malformed()) > 130
    for method, path, headers, body in malformed():
        status, said = raw(host, port, method, path, headers, body)
        # What is no HTTP at all is refused by the server itself, in bare text.
        words = said.get("error") or said.get("text")
        if not (400 <= status < 500 and words):
            wrong.append((status, method, path[:60], headers, body[:80], said))
    assert wrong == []
    assert api.ledger.accounts == {}
    remote = RemoteAPI(base, key="k-eve")
    assert (remote.query(ROWS) == victim(ROWS)).all()  # it serves on


def raw(host, port, method, path, headers, body):
    """Status and JSON of a request that no library has tidied up."""
    lines = [f"{method} {path.replace(' ', '%20')} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += ["Connection: close", "", ""]
    return spoken(host, port, "\r\n".join(lines).encode("latin-1") + body)


def spoken(host, port, text):
    with socket.create_connection((host, int(port)), timeout=10) as door:
        with suppress(OSError):  # it may refuse before it has heard it all
            door.sendall(text)
        said = b""
        while True:
            try:
                part = door.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    try:
        return status, json.loads(body)
    except ValueError:
        return status, {"text": body[:100]}


def test_requests_that_never_end_and_giants_are_refused(shop):
    api = PredictionAPI(victim)
    base = shop(api, largest=10_000, patience=0.3).base
    host, port = base.removeprefix("http://").split(":")
    head = (
        "POST /v2/models/model/infer HTTP/1.1\r\nHost: a\r\n"
        "Authorization: Bearer k-eve\r\nContent-Length: {}\r\n\r\n"
    )
    status, said = spoken(host, port, head.format(10**12).encode())
    assert status == 413 and "send fewer rows" in said["error"]
    status, said = spoken(host, port, head.format(100).encode() + b"{")
    assert status == 408 and "not whole" in said["error"]
    chunked = head.replace("Content-Length: {}", "Transfer-Encoding: chunked")
    chunk = b"1000\r\n" + b"a" * 4096 + b"\r\n"
    status, said = spoken(host, port, chunked.encode() + 4 * chunk)
    assert status == 413
    for text in (b"\x16\x03\x01", b"GET\r\n\r\n", head.format("x").encode()):
        status, _ = spoken(host, port, text + b"\r\n\r\n")
        assert status == 400
    with socket.create_connection((host, int(port))) as door:
        door.sendall(head.format(100).encode() + b"{")  # and hangs up
    assert api.ledger.accounts == {}


# --- servers that lie, fail or take their time ----------------------------


def replies(p, **changes):
    text = json.dumps(answer(p, **changes)).encode()
    return lambda handler, body: (200, {}, text)


def says(status, text, **headers):
    return lambda handler, body: (status, headers, text)


def hangs(handler, body):
    time.sleep(1.5)


def drips(handler, body):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(30):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def breaks_off(handler, body):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")


def hangs_up(handler, body):
    pass


GOOD = victim(ROWS[:2])
LIES = {
    "slow": (hangs, "0.4 s|Timeout"),
    "drips": (drips, "not whole after 0.4 s"),
    "breaks off": (breaks_off, "no whole answer"),
    "hangs up": (hangs_up, "no whole answer"),
    "logits": (replies(np.log(GOOD)), "are they logits"),
    "scores": (replies(3 * GOOD), "are they logits"),
    "NaN": (says(200, b'{"outputs":[{"data":[NaN]}]}'), "no JSON object"),
    "one row less": (replies(GOOD[:1]), "2 rows by 1"),
    "one row more": (replies(victim(ROWS[:3])), "2 rows by 3"),
    "labels": (replies(np.array([0.0, 1.0])), r"shape \(2,\)"),
    "one column": (replies(GOOD[:, :1]), r"shape \(2,\)"),
    "deep": (replies(GOOD[None]), "2 rows by 1"),
    "words": (replies(GOOD, datatype="BYTES", data=["a"] * 6), "no numbers"),
    "wrong shape": (replies(GOOD, shape=[2, 2]), "needs 4 numbers"),
    "no data": (replies(GOOD, data=None), "data must be a list"),
    "no outputs": (says(200, b"{}"), "one output is needed"),
    "two outputs": (
        says(200, json.dumps({"outputs": [{}, {}]}).encode()),
        "one output is needed",
    ),
    "no JSON": (says(200, b"<html>"), "no JSON object"),
    "cut off": (says(200, json.dumps(answer(GOOD)).encode()[:-9]), "no JSON"),
    "empty": (says(200, b""), "no JSON object"),
    "400": (says(400, b'{"error": "no such feature"}'), "no such feature"),
    "401": (says(401, b'{"error": "who?"}'), "who"),
    "404": (says(404, b'{"detail": "gone"}'), "gone"),
    "429": (says(429, b'{"error": "too many"}'), "too many"),
    "500": (says(500, b"Internal Server Error"), "Internal Server Error"),
    "503": (says(503, b""), "503"),
    "elsewhere": (says(307, b"", Location="http://a.b/"), "sends us to"),
}


@pytest.mark.filterwarnings("ignore:.*may have been billed")
@pytest.mark.parametrize("name", LIES)
def test_an_upstream_that_lies_or_fails_costs_nobody(shop, name, caplog):
    reply, words = LIES[name]
    with scripted(reply) as url:
        source = Upstream(url, "model", timeout=0.4, retries=1)
        api = PredictionAPI(
            source.predict_proba, input_shape=(4,), try_out=False, budget=10
        )
        remote = shop(api)
        remote._retries = 0
        with pytest.raises(RemoteError) as error:
            remote.query(ROWS[:2])
        assert "(502)" in str(error.value)
        assert re.search(words, caplog.text)  # for the owner alone
        assert not re.search(f"{words}|{url}", str(error.value))
        assert "nothing was answered or billed" in str(error.value)
        assert not isinstance(error.value, AnswerLost)
        assert api.remaining == 10 and api.ledger.accounts == {}


def test_an_upstream_that_is_gone_is_named(shop, caplog):
    source = Upstream("http://127.0.0.1:9", "model", retries=0)
    api = PredictionAPI(source.predict_proba, input_shape=(4,))
    remote = shop(api)
    with pytest.raises(RemoteError, match="502.*no answer that can be sold"):
        remote.query(ROWS)
    assert "127.0.0.1:9/v2/models/model/infer cannot be" in caplog.text
    assert api.ledger.accounts == {}


def raising(*_):
    raise RuntimeError("the owner's secret")


@pytest.mark.parametrize("part", ["monitors", "defenses"])
def test_a_monitor_or_a_defense_that_raises_refuses(shop, part, caplog):
    class Broken:
        observe = raising

    broken = [Broken()] if part == "monitors" else [raising]
    api = PredictionAPI(victim, **{part: broken}, budget=60)
    remote = shop(api)
    with pytest.raises(RemoteError, match="nothing was answered") as error:
        remote.query(ROWS)
    assert "secret" not in str(
        error.value
    )  # and the owner reads it in the log
    assert "secret" in caplog.text
    assert api.ledger.accounts == {} and api.remaining == 60


def test_a_local_victim_with_logits_is_a_502(shop, caplog):
    api = PredictionAPI(lambda x: x @ np.ones((4, 3)), try_out=False)
    with pytest.raises(RemoteError, match="502"):
        shop(api).query(ROWS)
    assert "are they logits" in caplog.text
    assert api.ledger.accounts == {}


# --- calls that are sent again --------------------------------------------


def counted(*script):
    """A server that follows the script, call by call; what it was sent."""
    sent, script = [], list(script)

    def reply(handler, body):
        sent.append(body)
        act = script.pop(0)
        return act(handler, body)

    return reply, sent


UNPAID = {"X-Queries-Billed": "0"}


def test_what_is_certainly_unpaid_is_sent_again():
    no = says(503, b'{"error": "busy"}', **UNPAID)
    reply, sent = counted(no, no, replies(GOOD))
    with scripted(reply) as url:
        remote = RemoteAPI(url, retries=2)
        assert (remote.query(ROWS[:2]) == GOOD).all()
    assert len(sent) == 3 and remote.perhaps_twice == 0


@pytest.mark.parametrize("lost", [hangs_up, breaks_off, hangs])
def test_what_may_be_paid_is_not_sent_again(lost, recwarn):
    reply, sent = counted(lost, replies(GOOD))
    with scripted(reply) as url:
        remote = RemoteAPI(url, retries=3, timeout=0.5)
        with pytest.raises(AnswerLost, match="2 rows may have been billed"):
            remote.query(ROWS[:2])
    assert len(sent) == 1 and remote.perhaps_twice == 0
    assert not [w for w in recwarn if w.category is UserWarning]


def test_a_failure_without_a_word_on_the_bill_is_not_sent_again():
    reply, sent = counted(says(503, b"busy"), replies(GOOD))
    with scripted(reply) as url, pytest.raises(RemoteError, match="busy"):
        RemoteAPI(url).query(ROWS[:2])
    assert len(sent) == 1


def test_paying_again_is_said():
    reply, sent = counted(hangs_up, hangs_up, replies(GOOD))
    with scripted(reply) as url:
        remote = RemoteAPI(url, retries=2, pay_again=True)
        with pytest.warns(UserWarning, match="may have been billed") as seen:
            assert (remote.query(ROWS[:2]) == GOOD).all()
    assert len(sent) == 3 and remote.perhaps_twice == 4
    assert sum(w.category is UserWarning for w in seen) == 2


def test_an_answer_that_was_billed_and_is_broken_says_so():
    broken = says(200, b"{", **{"X-Queries-Billed": "2"})
    reply, sent = counted(broken, replies(GOOD))
    with scripted(reply) as url, pytest.raises(RemoteError) as error:
        RemoteAPI(url).query(ROWS[:2])
    assert "2 rows were billed" in str(error.value) and len(sent) == 1


def test_a_server_that_is_not_there_yet_is_waited_for(shop):
    port = free_port()
    remote = RemoteAPI(f"http://127.0.0.1:{port}", key="k-eve", retries=5)
    found = []
    thread = threading.Thread(target=lambda: found.append(remote.query(ROWS)))
    thread.start()
    time.sleep(0.3)
    with serve(PredictionAPI(victim), KEYS, port=port):
        thread.join()
    assert (found[0] == victim(ROWS)).all()
    with pytest.raises(RemoteError, match="nothing was sent or billed"):
        RemoteAPI(f"http://127.0.0.1:{port}", retries=0).query(ROWS)


def test_the_gateway_stops_gracefully():
    inside, go = threading.Event(), threading.Event()

    def slow(x):
        inside.set()
        go.wait(5)
        return victim(x)

    api, found = PredictionAPI(slow, try_out=False), []
    with serve(api, KEYS) as url:
        thread = threading.Thread(
            target=lambda: found.append(
                RemoteAPI(url, key="k-eve").query(ROWS)
            )
        )
        thread.start()
        assert inside.wait(5)
        threading.Timer(0.3, go.set).start()
    thread.join()
    assert (found[0] == victim(ROWS)).all()
    with pytest.raises(RemoteError, match="cannot be reached"):
        RemoteAPI(url, key="k-eve", retries=0).query(ROWS)


# --- the command, and life without the extra -------------------------------


def test_defenses_and_monitors_are_found_by_name():
    watch = made('defenses/prada_detection:Prada {"delta": 0.8}')
    assert type(watch).__name__ == "Prada" and watch.delta == 0.8
    assert made("_wire:victim") is victim
    assert type(made("_wire:ThirdCall")).__name__ == "ThirdCall"


@pytest.mark.parametrize(
    "text, words",
    [
        ("prada", "write PLACE:NAME"),
        ("defenses/nothing:Prada", "no chapter is called"),
        ("no_such_module:Prada", "No module named"),
        ("defenses/prada_detection:Nobody", "is not there"),
        ("defenses/prada_detection:Prada {", "are no JSON"),
        ("defenses/prada_detection:Prada [1]", "must be an object"),
        ("defenses/prada_detection:Prada", "it takes.*delta"),
        ('defenses/prada_detection:Prada {"delta": 7}', "cannot be made"),
        ("half_written:Watch", "cannot be loaded: SyntaxError"),
        ("divides:Watch", "cannot be loaded: ZeroDivisionError"),
    ],
)
def test_a_defense_that_is_not_there_says_what_to_write(
    text, words, tmp_path, monkeypatch
):
    (tmp_path / "half_written.py").write_text("class Watch(")
    (tmp_path / "divides.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=words):
        made(text)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"--keys": "absent.toml"}, "cannot be read"),
        ({"--upstream": "nowhere"}, "url must be as"),
        ({"--returns": "all"}, "returns must be"),
        ({"--budget": "-1"}, "budget"),
        ({"--upstream-key": "NO_SUCH"}, "NO_SUCH is not set"),
        ({"--monitor": "prada"}, "write PLACE:NAME"),
        ({"--monitor": "json:JSONDecoder"}, "has no observe"),
        ({"--defense": "_wire:KEYS"}, "has no __call__"),
        ({"--keys": "dots.toml"}, "with quotes on both sides"),
        ({"--keys": "none.toml"}, "with quotes on both sides"),
        ({"--keys": "latin.toml"}, "cannot be read"),
        ({"--classes": '["a", "b", "a"]'}, "classes must be"),
        ({"--budget": "9", "--ledger": "used.db"}, "the 10 rows that used.db"),
        ({"--input-shape": None}, "no model at"),
        ({"--ledger": "keys.toml"}, "no ledger that can be read"),
    ],
)
def test_the_command_names_what_is_wrong(
    changes, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.toml").write_text('"k-eve" = "eve"\n' + "#" * 999)
    (tmp_path / "dots.toml").write_text('k.secret = "eve"')
    (tmp_path / "none.toml").touch()
    (tmp_path / "latin.toml").write_bytes(b'"k" = "Zo\xeb"')
    ledger = DurableLedger("used.db")
    ledger.bill("eve", 10)
    ledger.close()
    given = {
        "--upstream": "http://127.0.0.1:9",
        "--model": "model",
        "--keys": "keys.toml",
        "--input-shape": "4",
    } | changes
    found = [part for pair in given.items() if pair[1] for part in pair]
    assert main(found) == 2
    said = capsys.readouterr().err
    assert words in said and "secret" not in said


@pytest.mark.parametrize(
    "changes, words",
    [
        (("--port", "99999"), "is no port"),
        (("--port", "-1"), "is no port"),
        (("--classes", "no,yes"), "is no list of names in JSON"),
        (("--input-shape", "4x4"), "is no shape of a row"),
    ],
)
def test_an_argument_that_is_none_says_what_to_write(changes, words, capsys):
    given = ("--upstream", "http://a", "--model", "m", "--keys", "k.toml")
    with pytest.raises(SystemExit):
        main([*given, *changes])
    assert words in capsys.readouterr().err


def test_without_the_extra_the_error_names_it():
    code = (
        "import sys; sys.modules['starlette'] = None\n"
        "import mexutils\n"
        "try:\n    import mexutils.wire\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert "pip install mexutils[wire]" in done.stdout, done.stderr
