"""The local stack: Valkey, MLflow, Prefect, Feast's UI and the API, on loopback ports.

Nothing is installed as a service: every server comes from the locked Python packages, keeps its
data under one folder, and ends with the process that owns the stack.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import REPO_PATH, ROOT, Settings
from infra.flow_runs import MAP_FILE
from infra.processes import LOOPBACK, Child, free_port
from infra.servers import API, CORE, MLFLOW, PREFECT, USUAL_PORTS, VALKEY, server_of
from infra.stack_file import STACK_FILE, StackFile, now_iso, read_stack_file

# What a run writes to a home folder of its own; `clear_home` removes these and nothing else.
_HOME_ENTRIES = (
    "valkey", "mlflow", "prefect", "offline", "checkpoints", "logs", "simulation", "registry.db",
    MAP_FILE, STACK_FILE,
)  # fmt: skip
# Settings of somebody's own Prefect or MLflow must not leak into the local ones.
_FOREIGN_PREFIXES = ("PREFECT_", "MLFLOW_", "_MLFLOW_", "FEAST_", "PROMETHEUS_MULTIPROC")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "FEAST_USAGE": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
_LOCAL_CLIENTS = {
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "PYTHONUNBUFFERED": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class StackError(DaimaError):
    """The local stack cannot start, or something asked of it is not running."""


class LocalStack:
    """The servers of one home folder; a context manager that ends all it started.

    Args:
        home: folder of everything the stack writes.
        ports: preferred ports by server name; a free one is taken where they are not free.
        keep_store: whether Valkey writes its data to disk and finds it again at the next start.
        environ: environment that the children inherit.

    Raises:
        StackError: on entering, another stack runs at `home`.
        ProcessError: from `wait` and `apply`, with the end of the server's log.

    Trap: `start` returns at once, and the address of a server is known before it answers; `wait`
    for a server before the first use of it.
    """

    def __init__(
        self,
        home: Path,
        *,
        ports: Mapping[str, int] | None = None,
        keep_store: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.home = home.resolve()
        self.ports: dict[str, int] = {}
        for name in USUAL_PORTS:  # one after the other: two servers never get the same port
            port = free_port((ports or {}).get(name))
            while port in self.ports.values():
                port = free_port()
            self.ports[name] = port
        self.settings = Settings(
            home=self.home,
            redis=f"{LOOPBACK}:{self.ports[VALKEY]}",
            mlflow_url=self.url(MLFLOW),
            prefect_url=f"{self.url(PREFECT)}/api",
            api_url=self.url(API),
            definitions=Settings.from_env(
                {"DAIMA_DEFINITIONS": environ.get("DAIMA_DEFINITIONS", "")}
            ).definitions,
        )
        self._keep_store = keep_store
        self._environ = environ
        self._children: dict[str, Child] = {}
        self._ready: set[str] = set()
        self._lasting: set[str] = set()

    def url(self, name: str) -> str:
        """Base URL of a server."""
        return f"http://{LOOPBACK}:{self.ports[name]}"

    def environment(self) -> dict[str, str]:
        """What a shell must export so that every client finds this stack."""
        return client_environment(self.settings)

    def child_environment(self) -> dict[str, str]:
        """The whole environment of a child process of this stack."""
        inherited = {
            name: value
            for name, value in self._environ.items()
            if not name.startswith(_FOREIGN_PREFIXES)
        }
        return {**inherited, **_LOCAL_CLIENTS, **self.environment()}

    def __enter__(self) -> LocalStack:
        refuse_used_home(self.home)
        self.home.mkdir(parents=True, exist_ok=True)
        self._started = now_iso(datetime.now(UTC))
        self._write_stack_file()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self, *names: str) -> None:
        """Start servers side by side, without waiting for them."""
        for name in names:
            server = server_of(name, self.settings, self.ports[name], keep_store=self._keep_store)
            self._children[name] = Child(
                name,
                server.command,
                log=self.log(name),
                environ={**self.child_environment(), **server.environ},
                cwd=server.folder,
                ready=server.ready,
            )
        self._write_stack_file()

    def wait(self, *names: str) -> None:
        """Return once these servers answer.

        Raises:
            ProcessError: one ended or did not answer in time.
            StackError: one was never started.
        """
        for name in names:
            child = self._children.get(name)
            if child is None:
                raise StackError(name, expected="a started server", action=f"start({name!r})")
            if name not in self._ready:
                child.wait_ready()
                self._ready.add(name)

    def run(
        self, name: str, command: Sequence[str], *, cwd: Path = ROOT, grace_s: float = 8.0
    ) -> Child:
        """Run one more command beside the servers, under the stack's environment."""
        child = Child(
            name,
            command,
            log=self.log(name),
            environ=self.child_environment(),
            cwd=cwd,
            grace=timedelta(seconds=grace_s),
        )
        self._children[name] = child
        self._write_stack_file()
        return child

    def run_python(self, name: str, *arguments: str) -> Child:
        """Run this interpreter beside the servers, such as `-m infra.flow_runs`."""
        return self.run(name, [sys.executable, *arguments])

    def keep_running(self, name: str, *arguments: str) -> Child:
        """As `run_python`, for what is to run as long as the stack: `-m streaming --live`."""
        self._lasting.add(name)
        return self.run_python(name, *arguments)

    def start_apply(self) -> Child:
        """Begin `feast apply` of the feature repository (about 7 s, most of it imports)."""
        return self.run(
            "feast-apply", [sys.executable, "-m", "feast.cli.cli", "apply"], cwd=REPO_PATH
        )

    def apply(self) -> None:
        """`feast apply`, to its end."""
        self.start_apply().wait_done()

    def child(self, name: str) -> Child:
        """A server or command of this stack.

        Raises:
            StackError: it was never started.
        """
        if name not in self._children:
            raise StackError(name, expected="a started server", action=f"start({name!r})")
        return self._children[name]

    def ended(self) -> list[Child]:
        """What was to run until the end and has ended by itself: servers, `keep_running`."""
        return [
            child
            for name, child in self._children.items()
            if (name in USUAL_PORTS or name in self._lasting) and not child.running
        ]

    def log(self, name: str) -> Path:
        """Log file of a server or command."""
        return self.home / "logs" / f"{name}.log"

    def stop(self) -> None:
        """End everything: first what uses the servers, then the servers. Repeatable."""
        core = [child for name, child in self._children.items() if name in CORE]
        rest = [child for name, child in self._children.items() if name not in CORE]
        for group in (rest, core):
            for child in group:
                child.request_stop()
            for child in group:
                child.stop()
        self._children.clear()
        self._ready.clear()
        (self.home / STACK_FILE).unlink(missing_ok=True)

    def _write_stack_file(self) -> None:
        urls = {name: self.url(name) for name in self._children if name in USUAL_PORTS}
        urls.pop(VALKEY, None)
        StackFile(
            pid=os.getpid(),
            started=self._started,
            environment=self.environment(),
            urls=urls,
            pids={name: child.pid for name, child in self._children.items()},
        ).write(self.home)


def client_environment(settings: Settings) -> dict[str, str]:
    """What every client of these settings needs in its environment, analytics off."""
    return {
        **settings.environment(),
        **_QUIET,
        "PREFECT_HOME": str(settings.home / "prefect"),
    }


def clear_home(home: Path) -> None:
    """Remove what earlier simulated runs wrote to a home folder; anything else stays.

    Raises:
        StackError: a stack is running there, or it holds events that nobody simulated.
    """
    refuse_used_home(home)
    refuse_own_events(home)
    for name in _HOME_ENTRIES:
        remove(home / name)


def refuse_used_home(home: Path) -> None:
    """Raise StackError if a stack is running at a home folder."""
    other = read_stack_file(home)
    if other is not None:
        raise StackError(
            "home",
            str(home),
            "a folder that no running stack uses",
            f"stop process {other.pid}, or choose another --home",
        )


def refuse_own_events(home: Path) -> None:
    """Raise StackError if a home folder holds streamed events that nobody simulated."""
    rows = next((home / "offline").rglob("*.parquet"), None)
    if rows is not None and not (home / "simulation").is_dir():
        raise StackError(
            "home",
            str(home),
            "a folder without events of your own, since simulating starts anew",
            "run: daima up --no-traffic, or name another --home",
        )


def remove(entry: Path) -> None:
    """Remove a file or a folder with all in it; nothing to do where there is none."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry)
    else:
        entry.unlink(missing_ok=True)
