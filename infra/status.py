"""`daima status`: what runs, what it holds, and how to start what does not run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from feature_repo.contracts.credentials import without_credentials
from feature_repo.contracts.settings import Settings
from infra.contents import champions, offline_rows, online_customers
from infra.http_json import NoAnswerError, exchange
from infra.processes import answers
from infra.stack_file import StackFile, settings_at


@dataclass(frozen=True)
class Part:
    """One part of the system.

    Attributes:
        name: the part.
        up: whether it works.
        where: its address.
        what: what it holds, in words; for one that is down, how to start it.
    """

    name: str
    up: bool
    where: str
    what: str


_START = "start it: daima up"


def read_status(settings: Settings, stack: StackFile | None) -> list[Part]:
    """Look at every part; none that is down makes this raise."""
    checks: list[Callable[[Settings], Part]] = [
        _store,
        _offline,
        _registry,
        _mlflow,
        _prefect,
        _api,
    ]
    parts = [check(settings) for check in checks]
    parts = [replace(part, where=without_credentials(part.where)) for part in parts]
    if stack and "feast-ui" in stack.urls:
        url = stack.urls["feast-ui"]
        parts.append(Part("Feast UI", answers(f"{url}/health"), url, ""))
    return parts


def _store(settings: Settings) -> Part:
    address = settings.redis_address
    name = "online store"
    if not answers(address):
        return Part(name, False, address, _START)
    return Part(name, True, address, f"{online_customers(settings):,} customers")


def _offline(settings: Settings) -> Part:
    rows = offline_rows(settings)
    what = ", ".join(f"{table} {count:,} rows" for table, count in rows.items())
    # An empty offline store is not a part that is down: nothing has been streamed yet.
    return Part("offline store", True, str(settings.offline), what or "empty: daima replay")


def _registry(settings: Settings) -> Part:
    registry = settings.home / "registry.db"
    there = registry.is_file()
    how = 'eval "$(daima env)"; cd feature_repo; feast apply'
    what = f"{registry.stat().st_size / 1024:.0f} kB" if there else how
    return Part("Feast registry", there, str(registry), what)


def _mlflow(settings: Settings) -> Part:
    url = settings.mlflow_url
    if not answers(f"{url}/health"):
        return Part("MLflow", False, url, _START)
    models = champions(settings)
    what = ", ".join(
        f"{model.name} v{model.version} ({model.metric} {model.value:.4g})" for model in models
    )
    return Part("MLflow", True, url, what or "no champion yet")


def _prefect(settings: Settings) -> Part:
    url = settings.prefect_url
    if not answers(f"{url}/health"):
        return Part("Prefect", False, url, _START)
    try:
        _, runs = exchange("POST", f"{url}/flow_runs/count", {})
        _, deployments = exchange("POST", f"{url}/deployments/count", {})
    except NoAnswerError as error:
        return Part("Prefect", False, url, str(error))
    return Part("Prefect", True, url, f"{runs} flow runs, {deployments} deployments")


def _api(settings: Settings) -> Part:
    url = settings.api_url
    name = "prediction API"
    try:
        status, ready = exchange("GET", f"{url}/health/ready", timeout_s=5)
    except NoAnswerError:
        return Part(name, False, url, _START)
    if status >= 400 or not isinstance(ready, dict):
        missing = ready.get("missing", []) if isinstance(ready, dict) else []
        return Part(name, False, url, "not ready: " + "; ".join(missing))
    served: dict[str, Any] = ready.get("models", {})
    what = ", ".join(f"{model} v{version}" for model, version in served.items())
    return Part(name, True, url, f"serves {what}")


def run_status(home: Path | None, *, as_json: bool) -> bool:
    """The command; returns whether everything is up."""
    settings, stack = settings_at(home, os.environ)
    parts = read_status(settings, stack)
    everything = all(part.up for part in parts)
    table = Table(title=f"daima at {settings.home}")
    for heading in ("", "part", "where", ""):
        table.add_column(heading, overflow="fold")
    for part in parts:
        mark = "[green]up[/]" if part.up else "[red]DOWN[/]"
        table.add_row(mark, part.name, part.where, part.what)
    Console(width=None if os.isatty(1) else 140).print(table)
    if as_json:
        print(json.dumps({"up": everything, "parts": [asdict(part) for part in parts]}))
    return everything
