# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # On the wire
#
# The attacks of this book have asked an object in their own process.
# Here they ask MLServer over HTTP, a server that nobody here wrote: they are
# not changed for it, and take away the same copies.
# Then a gateway that meters, defends and watches is put in front of the
# server, and they are tried again.
#
# :::{admonition} In this chapter
# :class: tip
# You will
# - see what a model server of today grants to anybody who can reach it;
# - run five attacks over HTTP, and compare each with the same attack in
#   process, number by number and row by row of the bill;
# - put a gateway in front, with defenses and a monitor, and steal again;
# - read depths of networks off the time that answers take over HTTP;
# - measure what the gateway costs in time.
#
# <!-- minutes -->
# Read [StealML](../attacks/stealml.ipynb) and
# [the detector of PRADA](../defenses/prada_detection.ipynb) first;
# [StealNN](../attacks/steal_nn.ipynb) for the part about time.
# :::

# %% tags=["remove-cell"]
try:
    import mexutils  # noqa: F401
except ModuleNotFoundError as error:  # the site's notebooks install it here
    raise RuntimeError("run make book first, or pip install .") from error

# %% tags=["hide-input"]
import atexit
import inspect
import json
import math
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import NamedTuple

import httpx
import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from mexutils import (
    Accounts,
    BudgetExceeded,
    Claims,
    ClientBlocked,
    PredictionAPI,
    clients,
    datasets,
    load_chapter,
    metrics,
    plotting,
    training,
    victims,
)
from mexutils.notebook import Markdown, progress
from mexutils.runs import interval
from mexutils.wire import RemoteAPI, Upstream, serve
from mexutils.wire.children import child
from mexutils.wire.gateway import door_at, server_of
from mexutils.wire.mlserver import environment, mlserver
from mexutils.wire.tensors import as_json, from_json, tensor_of, to_tensor

STEALML = load_chapter("attacks/stealml")
TREES = load_chapter("attacks/stealml_trees")
KNOCKOFF = load_chapter("attacks/knockoff_nets")
PRADA = load_chapter("attacks/prada_attack")
STEALNN = load_chapter("attacks/steal_nn")
SIGMOID = load_chapter("defenses/deceptive_perturbations")
DETECTOR = load_chapter("defenses/prada_detection")
plotting.use_style()
claims = Claims()

# %% [markdown]
# The knobs.

# %% tags=["parameters"]
seed = 0
n_sweeps = 5  # over the networks whose depth is read off the clock
sizes = [3, 10, 30, 100, 150]  # timed queries of each network
rounds = 5  # of the race between the server and its gateways
price_per_1000 = 1.50

# %% [markdown]
# ## The server
#
# An owner has three kinds of models: logistic regression on breast cancer, a
# decision tree on irises, and the LeNet on digits that other chapters attack.
# Five networks of one width and of different depths are for the clock.
#
# The server is MLServer, which speaks the Open Inference Protocol as KServe
# and Triton do.
# It reads scikit-learn's models as they are; for the LeNet the owner writes a
# runtime of a few lines, in NumPy, since MLServer's environment has no torch.
# It lives in an environment of its own, which `make wire` makes.
# Where that is absent, a server of this book stands in for it, written to
# grant what MLServer 1.7.1 grants.
# Either listens on 127.0.0.1 alone, at a free port, and one context manager
# starts and stops it.
# The folded cells hold the models; the runtime and that context manager; and
# the stand-in.

# %% tags=["hide-input"]
WIDTH, KNOWN, HIDDEN = 128, (1, 16), (4, 8, 12)
"""Networks for the clock: their width, known depths and hidden ones."""


def estimators(seed):
    """The models of scikit-learn that the owner serves, by name."""
    made = {}
    for name, kind in (
        ("breast_cancer", LogisticRegression(max_iter=1000)),
        (
            "iris",
            DecisionTreeClassifier(min_samples_leaf=5, random_state=seed),
        ),
    ):
        train, _, _ = datasets.tabular(name, seed=seed)
        made[name] = kind.fit(*train)
    digits, _, _ = datasets.tabular("digits", seed=seed)
    for depth in KNOWN + HIDDEN:
        net = MLPClassifier((WIDTH,) * depth, solver="sgd", random_state=seed)
        some = digits.x[:10], digits.y[:10]
        made[f"net-{depth}"] = net.partial_fit(*some, classes=range(10))
    return made


def lenet_proba(weights, x):
    """Probabilities (n, 10) of pictures (n, 1, 28, 28), in NumPy."""
    for name in ("0", "4"):
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        seen = sliding_window_view(x, (5, 5), axis=(2, 3))
        x = np.tensordot(seen, kernel, ([1, 4, 5], [1, 2, 3])) + bias
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
        x = np.maximum(np.moveaxis(x, 3, 1), 0)
    x = x.reshape(len(x), -1)
    x = np.maximum(x @ weights["9.weight"].T + weights["9.bias"], 0)
    z = (x @ weights["11.weight"].T + weights["11.bias"]).astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


class PlainLeNet:
    """The victim of the book without torch."""

    def __init__(self):
        state = victims.mnist_lenet().model.state_dict()
        self.weights = {k: w.cpu().numpy().copy() for k, w in state.items()}

    def predict_proba(self, x):
        """Probabilities (n, 10) of pictures (n, 1, 28, 28)."""
        return lenet_proba(self.weights, np.asarray(x, dtype=np.float32))

    def predict(self, x):
        """Labels (n,) of pictures (n, 1, 28, 28)."""
        return self.predict_proba(x).argmax(axis=1)


# %% tags=["hide-input"]
RUNTIME = """import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, NumpyRequestCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri
from numpy.lib.stride_tricks import sliding_window_view


class LeNet(MLModel):
    async def load(self):
        self.weights = dict(np.load(await get_model_uri(self._settings)))
        return True

    async def predict(self, payload):
        x = self.decode_request(payload, default_codec=NumpyRequestCodec)
        y = lenet_proba(self.weights, x.astype(np.float32))
        name = payload.outputs[0].name if payload.outputs else "predict"
        y = y if name == "predict_proba" else y.argmax(axis=1)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output(name, y)],
        )


"""


def write_lenet(place, lenet):
    """The folder of the LeNet as MLServer reads it: three files."""
    place.mkdir()
    np.savez(place / "weights.npz", **lenet.weights)
    source = RUNTIME + inspect.getsource(lenet_proba)
    (place / "runtime.py").write_text(source)
    settings = {
        "name": "digits",
        "implementation": "runtime.LeNet",
        "parameters": {"uri": "./weights.npz", "version": "v1"},
    }
    (place / "model-settings.json").write_text(json.dumps(settings))


@contextmanager
def model_server(models, lenet):
    """MLServer with models by name and a LeNet as "digits"; gives its URL.

    Where MLServer is not installed, a stand-in serves them in a thread.
    """
    if (environment() / "bin" / "mlserver").exists():
        with tempfile.TemporaryDirectory() as folder:
            write_lenet(place := Path(folder) / "digits", lenet)
            with mlserver(models | {"digits": place}) as url:
                yield url
        return
    server = server_of(StandIn(models | {"digits": lenet}).app)
    with door_at("127.0.0.1", 0) as door:
        work = threading.Thread(target=server.run, args=([door],), daemon=True)
        work.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            work.join()


# %% tags=["hide-input"]
class StandIn:
    """A server of the same protocol, open to all, with some models by name."""

    def __init__(self, models):
        self.models, self.absent = models, set()
        of_all, of_one = "/v2/repository", "/v2/models/{name}"
        change = of_all + "/models/{name}/{what}"
        self.app = Starlette(
            routes=[
                Route(f"{of_one}/infer", self.infer, methods=["POST"]),
                Route(f"{of_all}/index", self.index, methods=["POST"]),
                Route(change, self.change, methods=["POST"]),
                Route("/v2", self.about),
            ]
        )

    async def about(self, request):
        """Who answers here."""
        return _said({"name": "the stand-in", "version": "of this book"})

    async def index(self, request):
        """All models, for anybody."""
        return _said([{"name": name} for name in self.models])

    async def change(self, request):
        """Load or unload a model, for anybody."""
        name, what = (request.path_params[k] for k in ("name", "what"))
        (self.absent.add if what == "unload" else self.absent.discard)(name)
        return Response()

    async def infer(self, request):
        """The output that the request names; labels by default."""
        name = request.path_params["name"]
        if name not in self.models or name in self.absent:
            return _said({"error": f"{name} not found"}, 404)
        message = from_json(await request.body())
        (wanted,) = message.get("outputs") or [{"name": "predict"}]
        ask = getattr(self.models[name], wanted["name"])
        try:
            answer = ask(tensor_of(message["inputs"][0]))
        except ValueError:
            return _said({"error": "Internal Server Error"}, 500)
        output = to_tensor(wanted["name"], answer)
        return _said({"model_name": name, "outputs": [output]})


def _said(message, status=200):
    return Response(as_json(message), status, media_type="application/json")


# %% [markdown]
# ## At a glance
#
# The server is started, and 31 rows over HTTP take the regression away.

# %%
wire = load_chapter("practice/on_the_wire")
models, lenet = wire.estimators(seed), wire.PlainLeNet()
running = ExitStack()
atexit.register(running.close)
url = running.enter_context(wire.model_server(models, lenet))
victim = models["breast_cancer"]
remote = RemoteAPI(url, "breast_cancer", output="predict_proba")
theta = STEALML.solve_binary(remote, STEALML.uniform_rows(31, 30, seed))
error = STEALML.relative_error(theta, STEALML.theta_of(victim)[0])
print(f"relative parameter error {error:.0e}, no key, no bill")

# %% tags=["remove-input"]
about = httpx.get(f"{url}/v2", trust_env=False).json()
is_mlserver = about["name"] == "mlserver"
Markdown(
    f"**This run attacked MLServer {about['version']}.**"
    if is_mlserver
    else "**This run attacked the stand-in, a server of this book**, since "
    "MLServer is not installed on the machine of this run (`make wire`). What "
    "the server grants is then what it was written to grant."
)


# %% [markdown]
# ## The question
#
# | | |
# |---|---|
# | **sees** | what comes back over HTTP, and when |
# | **knows** | the address; later a key |
# | **has** | the attacks of this book, as they are |
# | **pays** | nothing to the server; to a gateway, for every row |
# | **wants** | the copies that it would get in process, for the same bill |
#
# The owner asks the other way round: what does an open server give away, what
# does a gateway take back, and what does it cost?
#
# ## The idea
#
# JSON writes a float64 as the shortest decimal that reads back as the same
# float64.
# So an answer $f(x)$ is the same to the last bit on both sides, and whatever
# is computed from answers alone is the same too.
# Only the clock is not: a query of a network of depth $L$ takes
#
# $$
# t = a + \tau L + \epsilon + \eta ,
# $$
#
# with the time $\tau$ of a layer and the disturbance $\epsilon$ of
# [StealNN](../attacks/steal_nn.ipynb), and the disturbance $\eta$ of the wire.
# By the bound of that chapter, the queries that tell two depths apart grow as
# $(\sigma_t / \tau)^2$, with the scale $\sigma_t$ of both disturbances.
#
# ## From scratch
#
# ### What an outsider can do
#
# A request of the protocol is an object with tensors.
# The attacker writes one by hand and looks at the status of what comes back.


# %%
def post(url, path, message=None, key=None):
    """Status and text of a POST, with a key where there is one."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with httpx.Client(trust_env=False, timeout=30) as client:
        said = client.post(url + path, json=message or {}, headers=headers)
    return said.status_code, said.text


def infer(url, model, x, output=None, key=None):
    """The same for a call with rows x, for one output or the default."""
    x = np.asarray(x, dtype=float)
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP64"}
    message = {"inputs": [tensor | {"data": x.ravel().tolist()}]}
    if output is not None:
        message["outputs"] = [{"name": output}]
    return post(url, f"/v2/models/{model}/infer", message, key)


# %% [markdown]
# The owner believes in selling labels, since that is what the server answers.
# The second line asks for another output by its name:

# %%
x = datasets.tabular("breast_cancer", seed=seed).test.x[:1]
for output in (None, "predict_proba"):
    status, text = infer(url, "breast_cancer", x, output)
    print(status, json.loads(text)["outputs"][0]["data"])

# %% [markdown]
# Six requests of a stranger, and the status of each.
# The model that was unloaded is loaded again at the end.


# %%
def outsider(url, model, x, key=None):
    """The status of each of six requests, by name: 200 where granted."""
    change = f"/v2/repository/models/{model}"
    asked = {
        "a label": lambda: infer(url, model, x, None, key),
        "probabilities": lambda: infer(url, model, x, "predict_proba", key),
        "a row too short": lambda: infer(url, model, x[:, 1:], None, key),
        "a list of all models": lambda: post(
            url, "/v2/repository/index", None, key
        ),
        "unload the model": lambda: post(url, f"{change}/unload", None, key),
        "a label, after that": lambda: infer(url, model, x, None, key),
    }
    status = {name: ask()[0] for name, ask in asked.items()}
    post(url, f"{change}/load", None, key)
    return status


# %% [markdown]
# At the server:

# %%
open_to_all = outsider(url, "breast_cancer", x)
plotting.table([open_to_all])

# %% [markdown]
# 200 is granted, 404 is a model that is not there, 500 a server that failed.
# The column of the unloaded model is everybody's answer, not only that of the
# stranger who sent the request.
#
# ### Five attacks, in process and over HTTP
#
# Each attack is a function of an API, loaded from its chapter as it is.
# The last entry makes numbers of the copy, so that two copies can be
# compared.


# %%
class Theft(NamedTuple):
    """An attack: whom it asks for what, and the numbers of its copy."""

    model: str
    returns: str
    attack: Callable
    numbers: Callable = np.asarray


# %% [markdown]
# The folded cell names them: equations, the walk along a boundary, path
# finding, KnockoffNets with 300 letters, and PRADA's attack with 200 queries
# from 100 digits.

# %% tags=["hide-input"]
PRADAS = "PRADA's attack, labels"
FEW = (0.01, 2)  # rate and passes of each of its trainings


def weights_of(network):
    """All weights of a network in one array."""
    parts = [p.detach().ravel().numpy() for p in network.parameters()]
    return np.concatenate(parts)


def corners_of(boxes):
    """All boxes of a tree in one array, in the order of the search."""
    parts = [(*box.low, *box.high, *box.answer) for box in boxes]
    return np.array(parts).ravel()


def ten_of_each(seed):
    """100 test digits, ten of each, as PRADA's attacker has them."""
    test = datasets.mnist().test
    rng = np.random.default_rng(seed)
    of_class = [np.flatnonzero(test.y == j) for j in range(10)]
    return test.x[np.concatenate([rng.choice(k, 10, False) for k in of_class])]


def walk(api, seed):
    """Lowd and Meek's walk on a model of 30 features."""
    ends = STEALML.find_both_labels(api, 30, seed)
    return STEALML.lowd_meek(api, *ends, epsilon=0.02)


def find_paths(api):
    """The leaves of a tree on four features in [-1, 1]."""
    oracle = clients.LabelAndConfidence(api.query)
    return TREES.tree_bottom_up(oracle, -np.ones(4), np.ones(4))


def thefts(seed):
    """The attacks of this page, by name."""
    rows = STEALML.uniform_rows(31, 30, seed)
    letters = datasets.letters(300, seed).x
    digits = ten_of_each(seed)
    return {
        "equations": Theft(
            "breast_cancer",
            "probabilities",
            lambda api: STEALML.solve_binary(api, rows),
        ),
        "walk, labels": Theft(
            "breast_cancer", "label", lambda api: walk(api, seed)
        ),
        "path finding": Theft("iris", "probabilities", find_paths, corners_of),
        "KnockoffNets": Theft(
            "digits",
            "probabilities",
            lambda api: KNOCKOFF.knockoff(api, letters, 300, seed),
            weights_of,
        ),
        PRADAS: Theft(
            "digits",
            "label",
            lambda api: PRADA.prada_attack(
                api, digits, 200, seed=seed, settings=FEW
            )[0],
            weights_of,
        ),
    }


# %% [markdown]
# A theft happens three times: from the model in this process; from an API in
# this process, in front of the server; and over HTTP from a gateway, which
# asks the server over HTTP.


# %%
def in_process(theft, answers):
    """A theft from an API in this process: the copy and the ledger."""
    api = PredictionAPI(answers, returns=theft.returns)
    return theft.attack(api), api.ledger


def over_http(theft, answers):
    """The same theft through a gateway: the copy and the owner's ledger."""
    api = PredictionAPI(answers, returns=theft.returns)
    with serve(api, {"k-eve": "anonymous"}) as url:
        remote = RemoteAPI(url, key="k-eve")
        copy = theft.attack(remote)
        remote.close()
    return copy, api.ledger


# %% [markdown]
# The equations first: the numbers that differ between the last two ways, and
# the largest difference.


# %%
def apart(theft, one, other):
    """How many numbers of two copies differ, and by how much at most."""
    one, other = theft.numbers(one), theft.numbers(other)
    if one.shape != other.shape:
        return max(one.size, other.size), math.inf
    return int((one != other).sum()), float(np.abs(one - other).max())


plan = thefts(seed)
source = Upstream(url, "breast_cancer").predict_proba
near, _ = in_process(plan["equations"], source)
far, _ = over_http(plan["equations"], source)
apart(plan["equations"], near, far)

# %% [markdown]
# ### A gateway as a program
#
# An owner runs the gateway in a process of its own, by one command; the
# helper writes the file of keys and reads the address off the first line.


# %%
@contextmanager
def gateway_process(upstream, model, shape, *options):
    """A gateway in front of a model, in a process; gives its URL."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.toml"
        keys.write_text('"k-eve" = "eve"\n')
        command = [sys.executable, "-m", "mexutils.wire"]
        command += ["--upstream", upstream, "--model", model, "--keys", keys]
        command += ["--input-shape", shape, "--port", 0, *options]
        with child(command, stdout=PIPE, text=True) as process:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the gateway did not start: see its words")
            yield line.split()[-1]


# %% [markdown]
# One that sells labels, 100 of them, and what the same six requests meet
# there, without a key and with one:

# %%
cheap = ("--returns", "label", "--budget", 100)
with gateway_process(url, "breast_cancer", 30, *cheap) as door:
    stranger = outsider(door, "breast_cancer", x)
    customer = outsider(door, "breast_cancer", x, "k-eve")
plotting.table(
    [("a stranger", *stranger.values()), ("a customer", *customer.values())],
    columns=["", *stranger],
)


# %% [markdown]
# 401 asks for a key, 400 refuses with words and without a bill, and 404 is a
# request that a gateway does not know.
#
# ## Does it work?
#
# ### The same copies, the same bill
#
# All five attacks, three times each:


# %%
def three_ways(theft, own, answers):
    """What a theft yields in process, before the server, and over HTTP."""
    here, _ = in_process(theft, own)
    near, near_bill = in_process(theft, answers)
    far, far_bill = over_http(theft, answers)
    differ, by = apart(theft, near, far)
    return {
        "rows": near_bill.queries,
        "rows over HTTP": far_bill.queries,
        "calls": near_bill.calls,
        "calls over HTTP": far_bill.calls,
        "numbers": theft.numbers(near).size,
        "differ": differ,
        "largest": by,
        "largest, from the model here": apart(theft, here, far)[1],
        "copy": far,
    }


# %% [markdown]
# Each theft waits for the wire once a call.

# %%
owned = models | {"digits": lenet}
found = {}
for name, theft in progress(plan.items(), "stealing"):
    answers = Upstream(url, theft.model).predict_proba
    found[name] = three_ways(theft, owned[theft.model].predict_proba, answers)

# %% [markdown]
# The table leaves out the copies; "differ" counts numbers that are not the
# same to the last bit, between the second way and the third, and "from here"
# is the largest difference from the copy of the model in this process.

# %% tags=["remove-input"]
shown = [
    {"attack": n}
    | {
        k.replace("largest, from the model here", "from here"): v
        for k, v in run.items()
        if k != "copy"
    }
    for n, run in found.items()
]
plotting.table(shown, {"largest": "{:.0e}", "from here": "{:.0e}"})

# %% tags=["remove-input"]
same_bits = sum(run["differ"] for run in found.values())
test_x = datasets.tabular("breast_cancer", seed=seed).test.x
pictures = datasets.mnist().test.x[:2000]
fidelity = {}
for name in ("KnockoffNets", PRADAS):
    guess = training.predict_proba(found[name]["copy"], pictures).argmax(1)
    fidelity[name] = metrics.fidelity(guess, lenet.predict(pictures))
beyond = max(run["largest, from the model here"] for run in found.values())
off_here = [
    np.abs(
        Upstream(url, name).predict_proba(rows)
        - owned[name].predict_proba(rows)
    ).max()
    for name, rows in (("breast_cancer", test_x), ("digits", pictures[:200]))
]
Markdown(
    f"Between process and wire {same_bits} of "
    f"{sum(r['numbers'] for r in found.values()):,} numbers differ. "
    + (
        "The server is another process, with libraries of its own: its "
        if is_mlserver
        else "The stand-in's "
    )
    + f"answers differ from those of the models here by {max(off_here):.0e} "
    f"at most, and copies by {beyond:.0e}. On 2,000 test digits the copy of "
    f"KnockoffNets answers as the victim on {fidelity['KnockoffNets']:.0%}, "
    f"that of PRADA's attack on {fidelity[PRADAS]:.0%}."
)


# %% [markdown]
# ### Defenses at the gateway
#
# The gateway defends a model that it has never seen, by what it does to
# answers.
# The attacks are the equations and the walk; their copies are judged by the
# angle between their boundary and the victim's, in radians.


# %%
def angle_of(theta, victim):
    """The angle between the boundaries of a copy and of the victim."""
    one, other = (
        np.ravel(v) / np.linalg.norm(v)
        for v in (theta, STEALML.theta_of(victim))
    )
    half = min(np.linalg.norm(one - other), np.linalg.norm(one + other)) / 2
    return float(2 * np.arcsin(half))


angle_of(theta, victim)


# %% [markdown]
# A refusal is an end as well, and may come after much was paid.


# %%
def outcome(ask, *arguments):
    """What a function returns, or the refusal that it meets."""
    try:
        return ask(*arguments)
    except (ValueError, BudgetExceeded, ClientBlocked) as refusal:
        return refusal


def attempt(attack, answers, **sold):
    """How a theft through a gateway ends: copy or refusal, rows, dollars."""
    api = PredictionAPI(answers, **sold)
    with serve(api, {"k-eve": "eve"}) as url:
        remote = RemoteAPI(url, key="k-eve")
        end = outcome(attack, remote)
        remote.close()
    return end, api.ledger.queries, api.ledger.cost


# %% [markdown]
# Five ways of selling the regression, and both attacks at each:

# %%
ways = {
    "probabilities": {},
    "two decimals": {"decimals": 2},
    "reverse sigmoid": {"defenses": [SIGMOID.ReverseSigmoid()]},
    "labels": {"returns": "label"},
    "labels, budget 200": {"returns": "label", "budget": 200},
}
again = {
    (way, name): attempt(plan[name].attack, source, **sold)
    for way, sold in ways.items()
    for name in ("equations", "walk, labels")
}

# %% tags=["remove-input"]
angles = {
    key: math.nan if isinstance(end, Exception) else angle_of(end, victim)
    for key, (end, *_) in again.items()
}
refused = {key: type(end).__name__ for key, (end, *_) in again.items()}
plotting.table(
    [
        {
            "sold": way,
            "attack": name,
            "copy": refused[way, name]
            if isinstance(end, Exception)
            else f"{angles[way, name]:.0e} rad",
            "rows": rows,
            "$": f"{cost:.3f}",
        }
        for (way, name), (end, rows, cost) in again.items()
    ]
)

# %% [markdown]
# The equations live on the digits of probabilities.
# The walk lives on labels, which rounding and this perturbation, with its
# guard, leave as they are; what can stand in its way is a budget.
#
# ### A monitor at the gateway
#
# PRADA's detector watches the LeNet, and its alarm blocks; PRADA's attack
# wants 400 labels, in process and over HTTP.
# (What an attacker does who knows the detector stands in [its
# chapter](../defenses/prada_detection.ipynb), and is the same over HTTP.)
# Afterwards the blocked client asks one row more, and another client asks one.


# %%
def watched(answers):
    """An API of labels with PRADA's detector, whose alarm blocks."""
    return PredictionAPI(
        answers,
        returns="label",
        monitors=[DETECTOR.Prada(0.95)],
        on_alarm="block",
    )


# %% [markdown]
# The attack goes on until it is done or refused:


# %%
def until_blocked(api, seeds, seed):
    """PRADA's attack for 400 labels; whether an alarm has stopped it."""
    try:
        PRADA.prada_attack(api, seeds, 400, seed=seed, settings=FEW)
    except ClientBlocked:
        return True
    return False


# %% [markdown]
# Both ways, with the query of the alarm and the rows that were billed:

# %%
answers = Upstream(url, "digits").predict_proba
digits = ten_of_each(seed)
here, there = watched(answers), watched(answers)
until_blocked(here, digits, seed)
with serve(there, {"k-eve": "anonymous", "k-ann": "ann"}) as door:
    eve, ann = RemoteAPI(door, key="k-eve"), RemoteAPI(door, key="k-ann")
    blocked = until_blocked(eve, digits, seed)
    after = [outcome(who.query, digits[:1]) for who in (eve, ann)]
for api in (here, there):
    print(api.alarms, api.ledger.accounts["anonymous"].queries, "rows billed")
print(type(after[0]).__name__, "for the blocked;", after[1], "for the other")


# %% [markdown]
# ### The clock
#
# Five networks of one width, two of known depth and three of unknown, are
# timed in turns by StealNN's stopwatch, and their depths read off between the
# two: once in this process, once over HTTP.
# Each sweep is cut after 3, 10, 30 ... rounds, and a reading beyond the two
# known depths is drawn back to them.


# %%
def depth_errors(calls, rows, sizes, sweeps):
    """Mean error of hidden depths, in layers: (sizes, sweeps).

    calls: those of the known networks first. Also all times, in seconds.
    """
    errors, times = [], []
    for s in progress(range(sweeps), "timing"):
        taken = STEALNN.latencies(calls, rows, max(sizes), s)
        cut = [STEALNN.features(taken[:, :n]) for n in sizes]
        told = [STEALNN.between(t[2:], t[0], t[1], KNOWN) for t in cut]
        errors.append([np.abs(t.clip(*KNOWN) - HIDDEN).mean() for t in told])
        times.append(taken)
    return np.array(errors).T, np.stack(times)


# %% [markdown]
# The same models in this process and behind the server:

# %%
rows = datasets.tabular("digits", seed=seed).test.x
names = [f"net-{depth}" for depth in KNOWN + HIDDEN]
inside = [PredictionAPI(models[n].predict_proba).query for n in names]
outside = [RemoteAPI(url, n, output="predict_proba").query for n in names]
clock = {
    "in process": depth_errors(inside, rows, sizes, n_sweeps),
    "over HTTP": depth_errors(outside, rows, sizes, n_sweeps),
}

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Mean error of the depths of three networks of 4 to 12 layers against timed queries of each network, in process and over HTTP; means over sweeps with 95 % intervals. The dotted line is what naming the middle depth costs."}, "image": {"alt": "Two lines with bands, error in layers against the number of timed queries on a logarithmic axis, and a dotted horizontal line."}}
guessing = np.abs(np.array(HIDDEN) - np.mean(HIDDEN)).mean()
fig, ax = plt.subplots()
for name, (errors, _) in clock.items():
    plotting.band(ax, sizes, errors, name)
ax.axhline(guessing, color="0.5", ls=":", lw=1, marker="")
ax.set(xscale="log", xlabel="timed queries of each network")
ax.set(ylabel="error (layers)", ylim=(0, None))
ax.set_xticks(sizes, sizes)
ax.legend()
plt.show()


# %% tags=["remove-input"]
def signal_of(times):
    """Time of a layer and scale of its disturbances, in microseconds."""
    middle = 1e6 * np.median(times, axis=2)
    tau = np.polyfit(KNOWN + HIDDEN, middle.T, 1)[0].mean()
    low, high = np.quantile(1e6 * times, [0.25, 0.75], axis=2)
    return tau, np.median(high - low) / 1.35


signal = {name: signal_of(times) for name, (_, times) in clock.items()}
needed = {
    name: next(
        (n for n, e in zip(sizes, errors.mean(1), strict=True) if e <= 1), None
    )
    for name, (errors, _) in clock.items()
}
ratio = {name: sigma / tau for name, (tau, sigma) in signal.items()}
clock_error = clock["over HTTP"][0][-1].mean()
told = []
for name, (tau, sigma) in signal.items():
    told.append(
        f"{name[0].upper()}{name[1:]}, a layer takes {tau:.0f} µs, and the "
        f"time of a query scatters by {sigma:.0f} µs (from the quartiles, as "
        "a standard deviation); a mean error of one layer "
        + (
            f"is reached with {needed[name]} queries."
            if needed[name]
            else f"is not reached with {sizes[-1]} queries."
        )
    )
more = (ratio["over HTTP"] / ratio["in process"]) ** 2
told.append(f"By the bound, the wire multiplies the queries by {more:.1f}.")
Markdown(" ".join(told))


# %% [markdown]
# ### What the gateway costs
#
# Gateways in processes of their own, each with one thing added, against the
# server alone; one more connection to the server shows what is noise.
# Single rows are timed in turns; batches of 100 are sent by two clients at
# once, round by round.
# Client, server and gateway compute at once, for which two cores must be
# free; the folded cell measures that too.


# %% tags=["hide-input"]
SPIN = """
import time
wall, busy = time.perf_counter(), time.process_time()
while time.process_time() - busy < 0.3:
    pass
print(0.3 / (time.perf_counter() - wall))
"""


def two_cores():
    """What share of a core each of two busy processes gets here, 0 to 1."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", SPIN]
        pair = [
            stack.enter_context(child(command, stdout=PIPE, text=True))
            for _ in range(2)
        ]
        return min(float(p.stdout.readline()) for p in pair)


def batch_rate(door, batch, calls=10):
    """Rows a second of a door, by two clients at once."""
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: door.query(batch), range(calls)))
    return calls * len(batch) / (time.perf_counter() - start)


def race(doors, rows, rounds, seed):
    """Median latency of a row, and rate of rows in batches of 100.

    doors: APIs by name. Returns two arrays (doors, rounds): seconds, and rows
    a second.
    """
    calls = [door.query for door in doors.values()]
    slow = STEALNN.latencies(calls, rows, 20 * rounds, seed)
    slow = np.median(slow.reshape(len(doors), rounds, 20), axis=2)
    rng, fast = np.random.default_rng(seed), np.empty((len(doors), rounds))
    for turn in range(rounds):
        for k in rng.permutation(len(doors)):
            batch = rows[rng.choice(len(rows), 100)]
            fast[k, turn] = batch_rate(list(doors.values())[k], batch)
    return slow, fast


# %% [markdown]
# The options as an owner writes them; every gateway keeps its ledger in a
# file.

# %%
sigmoid = "defenses/deceptive_perturbations:ReverseSigmoid"
monitor = 'defenses/prada_detection:Prada {"delta": 1e-9}'
options = {
    "gateway": (),
    "+ reverse sigmoid": ("--defense", sigmoid),
    "+ PRADA's detector": ("--monitor", monitor),
    "+ labels": ("--returns", "label"),
}

# %% [markdown]
# All of them at once, and the race:

# %%
free = [two_cores()]
with ExitStack() as stack:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    doors = {name: remote for name in ("server", "server again")}
    for name, more in options.items():
        more = (*more, "--ledger", folder / f"{len(doors)}.db")
        start = gateway_process(url, "breast_cancer", 30, *more)
        door = stack.enter_context(start)
        doors[name] = RemoteAPI(door, "breast_cancer", key="k-eve")
    slow, fast = race(doors, test_x, rounds, seed)
free.append(two_cores())

# %% tags=["remove-input"] mystnb={"figure": {"caption": "Left: latency of one row as a multiple of the server's. Right: rows a second in batches of 100 as a share of the server's. A point a round, with mean and 95 % interval."}, "image": {"alt": "Two panels of points with intervals, a line for each gateway and one for the second connection to the server."}}
slower = dict(zip(doors, slow / slow[0], strict=True))
share = dict(zip(doors, fast / fast[0], strict=True))
fig, panels = plt.subplots(1, 2, figsize=(8.6, 3.2), sharey=True)
for ax, groups, what in zip(
    panels,
    (slower, share),
    ("latency of a row, to the server's", "rows a second, to the server's"),
    strict=True,
):
    for place, values in enumerate(groups.values()):
        end = interval(values)
        ends = [[end.mean - end.low], [end.high - end.mean]]
        (dots,) = ax.plot(values, [place] * rounds, "o", alpha=0.4)
        ax.errorbar(
            end.mean, place, xerr=ends, fmt="D", color=dots.get_color()
        )
    ax.axvline(1, color="0.5", ls=":", lw=1, marker="")
    ax.set(xlabel=what, xlim=(0, None))
    ax.set_yticks(range(len(groups)), groups)
panels[0].invert_yaxis()
plt.show()


# %% tags=["remove-input"]
def in_middle(values):
    """The median of one value a round."""
    return float(np.median(values))


noise = max(
    abs(math.log(in_middle(group["server again"])))
    for group in (slower, share)
)
too_noisy = noise > math.log(1.25) or min(free) < 0.85
Markdown(
    "Medians over rounds. One row a call: the server takes "
    f"{1e3 * in_middle(slow[0]):.1f} ms, the gateway "
    f"**{in_middle(slower['gateway']):.2f}** times as long. In batches of "
    f"100: {in_middle(fast[0]):,.0f} rows a second from the server, "
    f"**{in_middle(share['gateway']):.2f}** times as many through the "
    f"gateway. The two connections to the server differ by "
    f"{math.expm1(noise):.0%}, and two busy processes got {min(free):.0%} of "
    "a core each: " + ("too noisy to tell." if too_noisy else "quiet enough.")
)

# %% [markdown]
# ## How it breaks
#
# ### The door behind the gateway
#
# The gateway guards what goes through it.
# Whoever reaches the server itself meets no key, no budget and no monitor; the
# theft of the first screen went that way, and goes on doing so.


# %%
around = STEALML.solve_binary(remote, STEALML.uniform_rows(31, 30, seed + 1))
error_around = STEALML.relative_error(around, STEALML.theta_of(victim)[0])
print(f"around the gateway: relative parameter error {error_around:.0e}")

# %% [markdown]
# The server must listen where nobody but the gateway can reach it: on
# 127.0.0.1, as here, or in a network of its own.
#
# ### The next key
#
# Monitors know clients by their keys.
# The blocked attacker takes a second key and a third, and asks under each in
# turn, 100 rows a call.

# %%
keys = {f"client {k}": f"k-{k}" for k in range(3)}
many = watched(answers)
with serve(many, {key: name for name, key in keys.items()}) as door:
    several = Accounts(RemoteAPI(door, key=keys), list(keys), rows=100)
    stopped = until_blocked(several, digits, seed)
print("blocked:", list(many.alarms), "the attack was stopped:", stopped)
print({name: bill.queries for name, bill in many.ledger.accounts.items()})

# %% [markdown]
# What a key costs is then a part of the defense;
# [Collusion](../comparison/collusion.ipynb) measures what several accounts are
# worth, linked and unlinked.
#
# ## The bill
#
# What the five thefts cost through the gateway, as its answers say in a
# header, and how many calls they make; each call waits for the wire.

# %% tags=["remove-input"]
plotting.table(
    [
        {
            "attack": name,
            "rows": run["rows over HTTP"],
            "$": f"{run['rows over HTTP'] * price_per_1000 / 1000:.2f}",
            "calls": run["calls over HTTP"],
            "rows a call": run["rows over HTTP"] / run["calls over HTTP"],
        }
        for name, run in found.items()
    ],
    {"rows a call": "{:.1f}"},
)

# %% [markdown]
# An attack that asks one row a call pays the wire each time; it is the
# latency, not the price, that holds it up.
# For the clock, each network was asked the rows of the figure, and three to
# warm up, in every sweep.
#
# ## Paper and this run
#
# There is no paper behind this page.
# What it measured of time is printed above and not claimed: it depends on what
# else a machine does.

# %% tags=["hide-input"]
claims.add(
    "five attacks: numbers of the copies that HTTP changes",
    same_bits,
    low=0,
    high=0,
)
claims.add(
    "rows and calls that HTTP adds to their bills",
    sum(
        abs(run[f"{what} over HTTP"] - run[what])
        for run in found.values()
        for what in ("rows", "calls")
    ),
    low=0,
    high=0,
)
claims.add(
    "copies without training, to those of the model here: difference",
    max(
        found[name]["largest, from the model here"]
        for name in ("equations", "walk, labels", "path finding")
    ),
    high=1e-9,
)
claims.add("equations over HTTP: relative parameter error", error, high=1e-9)
claims.add(
    "walk through the gateway: angle (rad)",
    angles["labels", "walk, labels"],
    high=0.05,
)
claims.add(
    "requests of a stranger that the server grants, of 4",
    sum(
        open_to_all[name] == 200
        for name in (
            "a label",
            "probabilities",
            "a list of all models",
            "unload the model",
        )
    ),
    low=4,
)
claims.add(
    "requests that the gateway grants, of 6: a stranger",
    sum(status == 200 for status in stranger.values()),
    low=0,
    high=0,
)
claims.add(
    "requests that the gateway grants, of 6: a customer, labels alone",
    sum(status == 200 for status in customer.values()),
    low=2,
    high=2,
)
claims.add(
    "alarm of PRADA's detector over HTTP: query, less that in process",
    there.alarms["anonymous"].query - here.alarms["anonymous"].query
    if blocked and here.alarms
    else math.nan,
    low=0,
    high=0,
)
claims.add(
    "after it: calls that the blocked client is answered, of 1",
    not isinstance(after[0], ClientBlocked),
    high=0,
)
claims.check()
running.close()

# %% [markdown]
# ## Exercises
#
# :::{admonition} Exercise 1 (short)
# :class: attention
# A float32 has 24 bits of precision.
# How many digits must JSON write so that one is read back as the same number,
# and what does the client send instead?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
number = np.float32(0.1)
print(f"{number:.9g} has nine digits and is enough: 2 ** 24 < 10 ** 8")
print(as_json(to_tensor("x", np.array([number]))).decode())
# The client sends the float64 of the same value with all its digits, so that
# nothing is rounded twice, whatever the server reads it as.

# %% [markdown]
# :::{admonition} Exercise 2 (medium)
# :class: attention
# An owner quantises response times to ticks of 5 ms at the gateway.
# By the times that were measured here, how many layers does a tick hide, and
# what does it cost a customer who asks one row a call?
# :::

# %% tags=["hide-cell"] mystnb={"code_prompt_show": "Show a solution"}
times = clock["over HTTP"][1]
late = STEALNN.quantise(times, 5e-3)
print(f"a tick is {5e3 / signal['over HTTP'][0]:.0f} layers long")
print(f"{1e3 * (late - times).mean():.1f} ms more a call, on average")
for taken in (times, late):
    x = STEALNN.features(taken, ["mean"])[..., 0].mean(axis=0)
    print("means of networks, ms:", (x / 1e3).round(2))
# What is shorter than a tick still moves the share of calls that miss it.

# %% [markdown]
# ## Recap
#
# - JSON carries float64 to the last bit: what needs only answers is the same
#   attack over HTTP, with the same copy and the same bill.
# - A model server grants its outputs, its list of models and its switch to
#   whoever reaches it; which of them is sold is nobody's decision there.
# - A gateway sells one output to the holders of keys, counts rows, and lets
#   the defenses and monitors of this book guard a model they know nothing of.
# - It guards its own door: neither the one behind it nor the next key.
# - The clock is the one thing that the wire blurs; by how much, and how many
#   repeats that costs, is up to the machine.
#
# ## References
#
# - {cite:t}`tramer2016stealing` attacked models that were sold over HTTP, of
#   BigML and Amazon.
# - {cite:t}`orekondy2019knockoff` and {cite:t}`juuti2019prada` have two of the
#   attacks, the latter the detector.
# - {cite:t}`duddu2018stealing` read depths off the clock.
