"""MLServer, a server that nobody here wrote, in an environment of its own."""

import json
import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import httpx

from mexutils.wire.children import child

__all__ = ["environment", "mlserver"]


def environment() -> Path:
    """Where `make wire` puts MLServer's environment in a checkout."""
    return Path(__file__).resolve().parents[2] / ".wire"


@contextmanager
def mlserver(models: Mapping, patience: float = 120.0) -> Iterator[str]:
    """MLServer with models in a process of its own; gives its URL.

    models: by the name that each is served under, a fitted scikit-learn
        estimator, or the folder of a model as MLServer reads it, with a
        `model-settings.json` and what that names.
    patience: seconds that it may take to start.

    Raises `FileNotFoundError` where MLServer is not installed.
    """
    program = environment() / "bin" / "mlserver"
    if not program.exists():
        raise FileNotFoundError(
            f"MLServer is not installed in {environment()}: run make wire in "
            "a checkout, with Python 3.11 or 3.12"
        )
    with tempfile.TemporaryDirectory() as folder:
        ports = _free_ports(3)
        _write(Path(folder), models, ports)
        url = f"http://127.0.0.1:{ports[0]}"
        log = Path(folder) / "log"
        with (
            log.open("w") as file,
            child([program, "start", folder], stdout=file, stderr=file) as it,
        ):
            until = time.monotonic() + patience
            for model in models:
                _await(f"{url}/v2/models/{model}/ready", it, log, until)
            yield url


def _free_ports(n: int) -> list[int]:
    doors = [create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [door.getsockname()[1] for door in doors]
    for door in doors:
        door.close()
    return ports


def _write(folder: Path, models: Mapping, ports: list[int]) -> None:
    named = zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True)
    # No worker processes: one model on a small machine is faster without.
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings | dict(named)))
    for name, model in models.items():
        place = folder / name
        if isinstance(model, str | Path):
            shutil.copytree(model, place)
            continue
        place.mkdir()
        (place / "model.joblib").write_bytes(pickle.dumps(model))
        settings = {
            "name": name,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib", "version": "v1"},
        }
        (place / "model-settings.json").write_text(json.dumps(settings))


def _await(url: str, process, log: Path, until: float) -> None:
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(
        "MLServer ended or did not start in time; its last words: "
        f"{log.read_text()[-1000:]}"
    )
