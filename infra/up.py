"""`daima up`: the local stack, kept running, with live traffic that every page shows."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from feature_repo.contracts.settings import Settings
from infra.contents import RowCount, online_customers
from infra.first_model import MODEL, train, wait_for, wait_for_model, wait_for_servers
from infra.http_json import NoAnswerError, exchange
from infra.live_traffic import LiveTraffic, publish_history
from infra.predict import PredictionError, ask
from infra.processes import ProcessError
from infra.progress import Reporter, reporting
from infra.servers import API, CORE, FEAST_UI, MLFLOW, PREFECT, USUAL_PORTS, VALKEY
from infra.simulate import EVENTS, TRUTH, Crowd, simulate_and_write
from infra.stack import LocalStack, refuse_own_events, remove

_SEED = 7
_CUSTOMERS = 30_000
_DAYS = 2.0
_LINE_EVERY = timedelta(seconds=5)
_POLL_S = 0.5
_STUCK = timedelta(minutes=2)


@dataclass(frozen=True)
class UpOptions:
    """What to run: `traffic` of `customers` with a history of `days`, or the servers alone."""

    home: Path | None
    traffic: bool
    customers: int | None = None
    days: float | None = None


def run_up(options: UpOptions) -> None:
    """The command; returns after Ctrl-C or SIGTERM, with everything ended.

    Raises:
        StackError: a stack is running in that folder already.
        ProcessError: a server, the dataflow or a flow failed.
    """
    home = Settings.from_env(
        {**os.environ, **({"DAIMA_HOME": str(options.home)} if options.home else {})}
    ).home
    crowd = Crowd(options.customers or _CUSTOMERS, _SEED)
    length = timedelta(days=options.days or _DAYS)
    try:
        with (
            LocalStack(home, ports=USUAL_PORTS, keep_store=not options.traffic) as stack,
            ExitStack() as at_end,
        ):
            traffic = None
            with reporting() as reporter:
                if options.traffic:
                    forget_simulated(stack)
                stack.start(*CORE)
                apply = stack.start_apply()
                if options.traffic:
                    traffic = _start_traffic(reporter, stack, crowd, length)
                    at_end.callback(traffic.stop)
                wait_for(reporter, "Applying the feature definitions", apply)
                stack.start(FEAST_UI, API)  # both read the registry that was just written
                _bootstrap(reporter, stack, simulated=options.traffic)
            _print_pages(stack)
            _watch(stack, traffic)
    except KeyboardInterrupt:
        print("daima: stopped; everything has ended", flush=True)


def forget_simulated(stack: LocalStack) -> None:
    """Start the simulated world anew: its live log lies in the store, which keeps nothing.

    Models and flow runs stay.

    Raises:
        StackError: the home holds events that nobody simulated.
    """
    refuse_own_events(stack.home)
    for name in ("simulation", "offline", "checkpoints", "valkey", "registry.db"):
        remove(stack.home / name)


def _start_traffic(
    reporter: Reporter, stack: LocalStack, crowd: Crowd, length: timedelta
) -> LiveTraffic:
    """The log filled with a history, the dataflow on it, and live traffic behind."""
    from feature_repo.contracts.feature_set import load_feature_set
    from feature_repo.stores.redis_connection import connect
    from streaming.log.valkey_streams import ValkeyLog

    now = datetime.now(UTC)
    simulation = simulate_and_write(
        reporter,
        crowd,
        now - length,
        now,
        events=stack.home / "simulation" / EVENTS,
        truth=stack.home / "simulation" / TRUTH,
        batch_table=stack.settings.batch_table,
    )
    stack.wait(VALKEY)
    feature_set = load_feature_set(stack.settings.definitions)
    log = ValkeyLog(connect(stack.settings.redis), feature_set)
    with reporter.step("Publishing the history", simulation.events.num_rows) as step:
        publish_history(simulation.events, log, step.advance)
    stack.keep_running("dataflow", "-m", "streaming", "--live")
    traffic = LiveTraffic(crowd, log, now)
    traffic.start()
    return traffic


def _bootstrap(reporter: Reporter, stack: LocalStack, *, simulated: bool) -> None:
    """Everything that must be there before the pages are worth a look."""
    if simulated:
        _wait_for_history(reporter, stack)
    wait_for_servers(reporter, stack, MLFLOW, PREFECT, FEAST_UI, API)
    if simulated:
        train(reporter, stack)
        wait_for_model(reporter, stack)
        # From now on: what the history would have been predicted is of no interest.
        stack.keep_running("score-stream", "-m", "infra.cli", "score-stream", "--from-now")
        stack.keep_running("embed-stream", "-m", "infra.cli", "embed-stream")
    stack.keep_running("deployments", "-m", "flows.deployments")


def _wait_for_history(reporter: Reporter, stack: LocalStack) -> None:
    """Until the dataflow has written the history to the offline store."""
    import pyarrow.parquet as pq

    events = stack.home / "simulation" / EVENTS
    total = pq.read_metadata(events).num_rows
    streamed = RowCount(stack.settings.events_table)
    dataflow = stack.child("dataflow")
    with reporter.step("Streaming the history", total) as step:
        done, moved_s = 0, time.monotonic()
        while done < total:
            if time.monotonic() - moved_s > _STUCK.total_seconds():
                raise ProcessError(
                    f"the dataflow stands still at {done:,} of {total:,} events",
                    action=f"see {dataflow.log} and {stack.settings.dead_letters}",
                )
            if not dataflow.running:
                dataflow.wait_done()
                raise ProcessError("dataflow ended", action=f"see {dataflow.log}")
            rows = streamed.now()
            if rows > done:
                step.advance(rows - done)
                done, moved_s = rows, time.monotonic()
            time.sleep(_POLL_S)


def _print_pages(stack: LocalStack) -> None:
    table = Table(title="daima is up; Ctrl-C ends it", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    api = stack.url(API)
    for name, url in (
        ("Prefect UI", stack.url(PREFECT)),
        ("MLflow UI", stack.url(MLFLOW)),
        ("Feast UI", stack.url(FEAST_UI)),
        ("prediction API", api),
        ("API pages", f"{api}/schema"),
        ("API metrics", f"{api}/metrics"),
        ("online store", stack.settings.redis_address),
        ("files and logs", str(stack.home)),
        ("in another shell", 'eval "$(daima env)"; daima status'),
    ):
        table.add_row(name, url)
    Console(width=None if os.isatty(1) else 120).print(table)


def _watch(stack: LocalStack, traffic: LiveTraffic | None) -> None:
    """A line every few seconds, until interrupted.

    Raises:
        ProcessError: a server or the dataflow ended by itself.
    """
    archived = RowCount(stack.settings.events_table)
    while True:
        time.sleep(_LINE_EVERY.total_seconds())
        for child in stack.ended():
            raise ProcessError(
                f"{child.name} has ended by itself", action=f"see {child.log}\n{child.tail()}"
            )
        if traffic is not None:
            if traffic.error is not None:
                raise ProcessError("live traffic ended", action=str(traffic.error))
            print(_line(stack, traffic, archived), flush=True)


def _line(stack: LocalStack, traffic: LiveTraffic, archived: RowCount) -> str:
    settings = stack.settings
    parts = [
        f"{datetime.now(UTC):%H:%M:%S}",
        f"{traffic.published:,} live events",
        f"{archived.now():,} events offline",
        f"{online_customers(settings):,} customers online",
        _served(settings, traffic),
        _flows(settings),
    ]
    return "  ".join(part for part in parts if part)


def _served(settings: Settings, traffic: LiveTraffic) -> str:
    """A prediction for a customer who is active right now."""
    if not traffic.active:
        return ""
    try:
        answer = ask(settings.api_url, MODEL, traffic.active[:1])
    except PredictionError as error:
        return str(error)
    row: dict[str, Any] = answer["predictions"][0]
    value = f"{row['prediction']:,.0f} {row['unit'] or ''}".rstrip()
    return f"{MODEL} v{answer['version']} of {row['customer']}: {value}"


def _flows(settings: Settings) -> str:
    try:
        _, runs = exchange("POST", f"{settings.prefect_url}/flow_runs/count", {}, timeout_s=5)
    except NoAnswerError:
        return "Prefect does not answer"
    return f"{runs} flow runs"
