"""A metering gateway in front of a server of the Open Inference Protocol.

python -m mexutils.wire --upstream http://127.0.0.1:8080 --model cancer \\
    --keys keys.toml --returns label --budget 10000 --input-shape 30

The keys are read from a TOML file of lines `"KEY" = "client"`. A defense or a
monitor is named by its chapter or module, with settings in JSON where it is
made with any:

    --defense 'defenses/deceptive_perturbations:ReverseSigmoid {"beta": 1}'
    --monitor 'my_package.watching:Monitor'

A class, and whatever settings are given to, is called to make it; a function
without settings is the defense itself. Both may be given several times.
"""

import argparse
import importlib
import inspect
import json
import os
import signal
import sys
import tomllib

from mexutils import PredictionAPI, load_chapter
from mexutils.api import Ledger
from mexutils.wire.client import RemoteError, Upstream
from mexutils.wire.gateway import door_at, gateway, server_of
from mexutils.wire.ledger import DurableLedger, LedgerError

__all__ = ["main", "made"]


def made(text: str):
    """A defense or monitor from `PLACE:NAME` and JSON settings behind it.

    Raises `ValueError` that says what to write instead.
    """
    target, _, settings = text.strip().partition(" ")
    place, _, name = target.partition(":")
    if not place or not name:
        raise ValueError(
            f"{text!r} names no defense or monitor: write PLACE:NAME, as in "
            "defenses/prada_detection:Prada or package.module:Name"
        )
    try:
        load = load_chapter if "/" in place else importlib.import_module
        found = getattr(load(place), name)
    except (ImportError, FileNotFoundError, AttributeError) as error:
        raise ValueError(f"{target} is not there: {error}") from error
    except Exception as error:  # of the owner's module
        raise ValueError(
            f"{target} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not settings and not inspect.isclass(found):
        return found
    try:
        chosen = json.loads(settings or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the settings of {target} are no JSON ({error}): write them "
            f'as {target} {{"name": 1}}, in single quotes for the shell'
        ) from error
    if not isinstance(chosen, dict):
        raise ValueError(
            f"the settings of {target} must be an object of names and "
            f"values, not {settings}"
        )
    try:
        return found(**chosen)
    except (TypeError, ValueError) as error:
        wanted = inspect.signature(found)
        raise ValueError(
            f"{target} cannot be made with {chosen} ({error}): it takes "
            f"{wanted}"
        ) from error


def _guards(texts: list[str], method: str) -> list:
    """What the texts name, each of which must have that method."""
    guards = [made(text) for text in texts]
    for text, guard in zip(texts, guards, strict=True):
        if not callable(getattr(guard, method, None)):
            raise ValueError(
                f"{text} has no {method}(...): is it a defense, which changes "
                "answers, or a monitor, which watches them?"
            )
    return guards


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shape of a row: write 30, or 1,28,28"
        ) from None


def _names(text: str):
    try:
        return json.loads(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no list of names in JSON: write \'["no", '
            '"yes"]\', in single quotes for the shell'
        ) from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no port: write one from 1 to 65535, or 0 for any "
            "that is free"
        )
    return int(text)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m mexutils.wire",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--upstream", required=True, help="URL of the server to sell")
    add("--model", required=True, help="its model; the name of ours as well")
    add("--upstream-output", default="predict_proba", metavar="NAME")
    add(
        "--upstream-key",
        metavar="VARIABLE",
        help="environment variable that holds the key of that server",
    )
    add("--timeout", type=float, default=10.0, help="seconds it may take")
    add("--keys", required=True, help='TOML of lines "KEY" = "client"')
    add("--input-shape", type=_shape, help="of one row: 30, or 1,28,28")
    add("--returns", default="probabilities", help="or label, or top-3")
    add("--classes", type=_names, help="names of the columns, as JSON")
    add("--decimals", type=int)
    add("--budget", type=int, help="rows, of all clients together")
    add("--price", type=float, default=1.50, help="dollars for 1,000 rows")
    add("--defense", action="append", default=[], metavar="PLACE:NAME")
    add("--monitor", action="append", default=[], metavar="PLACE:NAME")
    add("--on-alarm", choices=("flag", "block"), default="flag")
    add("--ledger", help="SQLite file; left out, the books are in memory")
    add("--sync", action="store_true", help="wait for the disk at each call")
    add("--host", default="127.0.0.1")
    add("--port", type=_port, default=8000)
    return parser


def _keys(path: str) -> dict[str, str]:
    try:
        with open(path, "rb") as file:
            keys = tomllib.load(file)
    except (OSError, ValueError) as error:  # no TOML, or no UTF-8
        raise ValueError(
            f"the keys cannot be read from {path} ({error}): write a line "
            '"KEY" = "client" for each key'
        ) from error
    if not keys or not all(isinstance(name, str) for name in keys.values()):
        # Not shown, since what TOML takes for a table holds parts of keys.
        raise ValueError(
            f'{path} must hold a line "KEY" = "client" for each key, one '
            "at least, with quotes on both sides (a dot in a key without "
            "quotes makes a table of it) and without [sections]"
        )
    return keys


def _sold(chosen: argparse.Namespace, ledger: Ledger | None) -> PredictionAPI:
    key = None
    if chosen.upstream_key is not None:
        key = os.environ.get(chosen.upstream_key)
        if not key:
            raise ValueError(
                f"{chosen.upstream_key} is not set: put the key of "
                f"{chosen.upstream} into that environment variable"
            )
    victim = Upstream(
        chosen.upstream,
        chosen.model,
        output=chosen.upstream_output,
        timeout=chosen.timeout,
        key=key,
    )
    billed = 0 if ledger is None else ledger.queries
    if chosen.budget is not None and chosen.budget < billed:
        raise ValueError(
            f"--budget {chosen.budget} is less than the {billed} rows that "
            f"{chosen.ledger} has billed: nothing could be sold; give more"
        )
    shape = chosen.input_shape
    if shape is None:
        try:
            shape = victim.api.input_shape
        except (RemoteError, LookupError, PermissionError) as error:
            raise ValueError(
                f"no model at {chosen.upstream}: {error}"
            ) from error
    if shape is None:
        # The first caller would choose it for everybody else.
        raise ValueError(
            f"{chosen.upstream} does not say what shape a row of "
            f"{chosen.model} has: give --input-shape, as 30 or 1,28,28"
        )
    return PredictionAPI(
        victim.predict_proba,
        returns=chosen.returns,
        classes=chosen.classes,
        decimals=chosen.decimals,
        defenses=_guards(chosen.defense, "__call__"),
        monitors=_guards(chosen.monitor, "observe"),
        on_alarm=chosen.on_alarm,
        budget=chosen.budget,
        price_per_1000=chosen.price,
        ledger=ledger,
        input_shape=shape,
    )


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; 2 where something is wrong with the arguments."""
    chosen = _arguments().parse_args(arguments)
    ledger = None
    try:
        if chosen.ledger is not None:
            ledger = DurableLedger(chosen.ledger, sync=chosen.sync)
        api = _sold(chosen, ledger)
        app = gateway(api, _keys(chosen.keys), model=chosen.model)
        with door_at(chosen.host, chosen.port) as door:
            host, port = door.getsockname()[:2]
            print(
                f"{chosen.model} is sold at http://{host}:{port}", flush=True
            )
            if ledger is not None:
                print(
                    f"{ledger.path} has {ledger.queries:,} rows of "
                    f"{len(ledger.accounts)} clients and {len(ledger.alarms)} "
                    "alarms",
                    flush=True,
                )
            # The server stops gracefully at a signal, then sends it again.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            server_of(app).run([door])
    except (ValueError, LedgerError, OSError) as error:
        print(f"python -m mexutils.wire: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    finally:
        if ledger is not None:
            ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
