"""A `PredictionAPI` over HTTP: its clients, its gateway, its books.

It speaks the Open Inference Protocol (version 2, REST and JSON), as MLServer,
KServe and Triton do, so that either side also meets servers and clients that
nobody here wrote. It needs `pip install mexutils[wire]`.

An owner sells a victim, for a test or for good::

    from mexutils import PredictionAPI
    from mexutils.wire import DurableLedger, RemoteAPI, serve

    api = PredictionAPI(
        victim.predict_proba,
        returns="label",
        budget=10_000,
        ledger=DurableLedger("ledger.db"),  # left out: books in memory
    )
    with serve(api, keys={"k-alice": "alice", "k-eve": "eve"}) as url:
        ...

A client asks it as it asks the API itself, and an attack that needs only
answers runs unchanged::

        remote = RemoteAPI(url, key="k-eve")
        labels = remote.query(x)
        stealml = load_chapter("attacks/stealml_labels")
        w = stealml.lowd_meek(remote, positive, negative)
        remote.queries_used, remote.cost  # as the last answer said
        api.ledger.table(), api.alarms  # the owner's side of it

What is refused raises what it raises in process: `ValueError` for rows that
cannot be answered, `BudgetExceeded`, `ClientBlocked`; further, over the wire
alone, `PermissionError` for an unknown key, `LookupError` for an unknown
model, `RemoteError` for a server that fails, and `AnswerLost` where the rows
may have been billed although no answer came. Several accounts are several
keys: `RemoteAPI(url, key={"ann": "k-ann", "bob": "k-bob"})` asks under the
name that `query(x, client="bob")` gives, as `mexutils.Accounts` does.

In front of a server that meters nothing (MLServer, say)::

    python -m mexutils.wire --upstream http://127.0.0.1:8080 --model cancer \\
        --keys keys.toml --returns label --budget 10000 --input-shape 30 \\
        --monitor 'defenses/prada_detection:Prada {"delta": 0.9}' \\
        --on-alarm block --ledger ledger.db

`keys.toml` has a line `"KEY" = "client"` for each key. In process, such a
server is a victim as any other:
`PredictionAPI(Upstream(url, "cancer").predict_proba, input_shape=(30,))`.

What the gateway promises. The budget is taken before the victim is asked and
given back where the call fails, as in process. A call's rows and what its
monitors saw are in the file of a `DurableLedger` before the answer is sent, so
that a process which is killed has billed all that it answered: it may have
billed an answer that it could not send any more, and never the reverse. A new
process on the same file goes on with the bills, the budget, the alarms and the
blocked names, and shows the monitors again, in order, what they saw; a monitor
that goes by that alone has the state it had, and one that raises an error at
it keeps the API from starting. Calls that were refused because a monitor
raised an error are not shown again. With `sync=True` all this also holds where
the machine loses its power, for a wait on the disk at each call.

What it does not promise. Defenses are not kept: one that remembers its answers
begins anew. Keys and rows travel in the clear: where they leave the machine,
put a server with TLS in front.
"""

try:
    from mexutils.wire.client import (
        AnswerLost,
        RemoteAPI,
        RemoteError,
        Upstream,
        UpstreamError,
    )
    from mexutils.wire.gateway import gateway, serve
except ModuleNotFoundError as error:
    raise ImportError(
        f"mexutils.wire needs {error.name}, which is not installed: "
        "pip install mexutils[wire]"
    ) from error
from mexutils.wire.ledger import DurableLedger, LedgerError

__all__ = [
    "AnswerLost",
    "DurableLedger",
    "LedgerError",
    "RemoteAPI",
    "RemoteError",
    "Upstream",
    "UpstreamError",
    "gateway",
    "serve",
]
