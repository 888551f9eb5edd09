"""MLServer, a server that nobody here wrote, in an environment of its own."""

import json
import pickle
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import create_server

import httpx

__all__ = ["environment", "mlserver"]


def environment() -> Path:
    """Where `make wire` puts MLServer's environment in a checkout."""
    return Path(__file__).resolve().parents[2] / ".wire"


@contextmanager
def mlserver(
    estimator, model: str = "model", patience: float = 120.0
) -> Iterator[str]:
    """MLServer with a fitted scikit-learn estimator; gives its URL.

    model: the name that it is served under. patience: seconds that it may
    take to start. Raises `FileNotFoundError` where MLServer is not installed.
    """
    program = environment() / "bin" / "mlserver"
    if not program.exists():
        raise FileNotFoundError(
            f"MLServer is not installed in {environment()}: run make wire in "
            "a checkout, with Python 3.11 or 3.12"
        )
    with tempfile.TemporaryDirectory() as folder:
        ports = _free_ports(3)
        _write(Path(folder), estimator, model, ports)
        url = f"http://127.0.0.1:{ports[0]}"
        log = Path(folder) / "log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [program, "start", folder], stdout=file, stderr=file
            )
        try:
            _await(f"{url}/v2/models/{model}/ready", process, log, patience)
            yield url
        finally:
            process.terminate()
            process.wait()


def _free_ports(n: int) -> list[int]:
    doors = [create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [door.getsockname()[1] for door in doors]
    for door in doors:
        door.close()
    return ports


def _write(folder: Path, estimator, model: str, ports: list[int]) -> None:
    named = zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True)
    # No worker processes: one model on a small machine is faster without.
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(settings | dict(named)))
    place = folder / model
    place.mkdir()
    (place / "model.joblib").write_bytes(pickle.dumps(estimator))
    settings = {
        "name": model,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "version": "v1"},
    }
    (place / "model-settings.json").write_text(json.dumps(settings))


def _await(url: str, process, log: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(
        f"MLServer did not start within {patience:g} s; its last words: "
        f"{log.read_text()[-1000:]}"
    )
