"""`daima demo`: the main job from events to predictions, on a stack of its own."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from feature_repo.contracts.settings import Settings
from infra.contents import Champion, champions, online_customers
from infra.first_model import MODEL, train, wait_for, wait_for_model, wait_for_servers
from infra.predict import ask, prediction_table
from infra.progress import reporting
from infra.servers import API, CORE, MLFLOW, PREFECT, VALKEY
from infra.simulate import EVENTS, TRUTH, Crowd, simulate_and_write
from infra.stack import LocalStack, clear_home
from infra.streaming_steps import stream_file

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN = 5


@dataclass(frozen=True)
class DemoOptions:
    """How big a demo: `customers` over `days`, drawn with `seed`, under `home`."""

    home: Path | None
    customers: int
    days: float
    seed: int


@dataclass(frozen=True)
class DemoResult:
    """What the demo did; its last line, as JSON."""

    events: int
    events_per_s: float
    customers_online: int
    models: list[dict[str, Any]]
    prediction: dict[str, Any]
    seconds: float


def run_demo(options: DemoOptions, now: datetime | None = None) -> None:
    """The command.

    Raises:
        StackError: a demo is running in that folder.
        ProcessError: a server or a flow failed; the message shows the end of its log.
    """
    started_s = time.monotonic()
    home = (options.home or Settings.from_env(os.environ).home / "demo").resolve()
    clear_home(home)
    end = now or datetime.now(UTC)
    with reporting() as reporter, LocalStack(home) as stack:
        stack.start(*CORE)
        apply = stack.start_apply()
        simulation = simulate_and_write(
            reporter,
            Crowd(options.customers, options.seed),
            end - timedelta(days=options.days),
            end,
            events=home / "simulation" / EVENTS,
            truth=home / "simulation" / TRUTH,
            batch_table=stack.settings.batch_table,
        )
        stack.wait(VALKEY)
        streamed = stream_file(reporter, home / "simulation" / EVENTS, stack.settings)
        wait_for(reporter, "Applying the feature definitions", apply)
        wait_for_servers(reporter, stack, MLFLOW, PREFECT)
        train(reporter, stack)
        stack.start(API)
        wait_for_servers(reporter, stack, API)
        wait_for_model(reporter, stack)
        answer = ask(stack.settings.api_url, MODEL, latest_customers(simulation.events, _SHOWN))
        models = champions(stack.settings)
        customers = online_customers(stack.settings)
        with reporter.step("Ending the servers"):
            stack.stop()
    result = DemoResult(
        events=streamed.events,
        events_per_s=round(streamed.events_per_s, 1),
        customers_online=customers,
        models=[_model(model) for model in models],
        prediction=_prediction(answer),
        seconds=round(time.monotonic() - started_s, 1),
    )
    _show(result, models, answer, home)
    print(json.dumps(asdict(result)))


def latest_customers(events: pa.Table, count: int) -> list[str]:
    """The customers of the latest session events, latest first, each once."""
    from feature_repo.contracts.events import OUTSIDE_SESSION

    tail = events.slice(max(0, events.num_rows - 1000))
    kinds = tail.column("event_type").to_pylist()
    people = tail.column("customer_id").to_pylist()
    pairs = zip(reversed(kinds), reversed(people), strict=True)
    inside = (person for kind, person in pairs if kind not in OUTSIDE_SESSION)
    return list(dict.fromkeys(inside))[:count]


def _model(model: Champion) -> dict[str, Any]:
    value = model.value if math.isfinite(model.value) else None
    return {
        "name": model.name,
        "version": model.version,
        "metric": model.metric,
        "value": value if value is None else round(value, 5),
    }


def _prediction(answer: dict[str, Any]) -> dict[str, Any]:
    first = answer["predictions"][0]
    statuses = list(first["statuses"].values())
    return {
        "model": answer["model"],
        "version": answer["version"],
        "customer": first["customer"],
        "value": round(first["prediction"], 3),
        "unit": first["unit"],
        "corridor": first["corridor"],
        "features_present": statuses.count("PRESENT"),
        "features": len(statuses),
    }


def _show(result: DemoResult, models: list[Champion], answer: dict[str, Any], home: Path) -> None:
    console = Console(width=None if os.isatty(1) else 120)
    table = Table(title="daima demo", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    rate = f"{result.events:,} ({result.events_per_s:,.0f} events/s)"
    table.add_row("events streamed into both stores", rate)
    table.add_row("customers in the online store", f"{result.customers_online:,}")
    for model in models:
        table.add_row(
            f"model {model.name}, version {model.version}",
            f"{model.metric} {model.value:.4f}, registered and promoted",
        )
    table.add_row("everything written to", str(home))
    table.add_row("seconds in all", f"{result.seconds:.1f}")
    console.print(table)
    console.print(prediction_table(answer))
