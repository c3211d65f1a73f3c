"""`daima demo`: the main job from events to predictions, on a stack of its own."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from feature_repo.contracts.settings import Settings
from infra.contents import Champion, champions, online_customers
from infra.first_model import (
    MODEL,
    train_with_embeddings,
    wait_for,
    wait_for_model,
    wait_for_servers,
)
from infra.predict import PredictionError, ask, prediction_table
from infra.progress import Reporter, reporting
from infra.servers import API, CORE, MLFLOW, PREFECT, VALKEY
from infra.similar import nearest, similar_table
from infra.simulate import EVENTS, TRUTH, Crowd, simulate_and_write
from infra.stack import LocalStack, clear_home
from infra.streaming_steps import stream_file

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_SHOWN = 5
_LATEST = 50  # whose like are asked for; those of the one with most events are shown
_INDEXED_WITHIN = timedelta(seconds=60)
_POLL_S = 0.2


@dataclass(frozen=True)
class DemoOptions:
    """How big a demo: `customers` over `days`, drawn with `seed`, under `home`."""

    home: Path | None
    customers: int
    days: float
    seed: int


@dataclass(frozen=True)
class DemoResult:
    """What the demo did; its last line, as JSON.

    Attributes:
        similar: the API's answer for one customer, and of many customers' nearest the share that
            has the customer's planted persona; None where no embeddings were promoted.
        map: the file with the map of customers; None where no embeddings were trained.
    """

    events: int
    events_per_s: float
    customers_online: int
    models: list[dict[str, Any]]
    prediction: dict[str, Any]
    similar: dict[str, Any] | None
    map: str | None
    seconds: float


@dataclass(frozen=True)
class _Like:
    """Customers' nearest: the API's answers, and what was planted in whom."""

    answers: list[dict[str, Any]]
    personas: dict[str, str]

    @property
    def same_persona(self) -> float:
        """The share of all the nearest that were planted as the one they are near to."""
        pairs = [(each["customer"], row["customer"]) for each in self.answers
                 for row in each["similar"]]  # fmt: skip
        return sum(self.personas[one] == self.personas[other] for one, other in pairs) / len(pairs)

    @property
    def by_chance(self) -> float:
        """The same share, were the nearest drawn from all customers."""
        counts = Counter(self.personas.values())
        own = [counts[self.personas[each["customer"]]] for each in self.answers]
        return sum(own) / len(own) / len(self.personas)

    def table(self) -> Table:
        """The first answer for people; below it, what holds for all."""
        table = similar_table(self.answers[0], self.personas)
        one = self.answers[0]["customer"]
        table.caption = (
            f"{one} was planted as {self.personas[one]}. Of the nearest of {len(self.answers)}"
            f" customers {self.same_persona:.0%} were planted alike, by chance {self.by_chance:.0%}"
        )
        return table

    def as_json(self) -> dict[str, Any]:
        """For the demo's last line."""
        first = self.answers[0]
        rows = [{**row, "similarity": round(row["similarity"], 3)} for row in first["similar"]]
        return {
            **first,
            "similar": rows,
            "same_persona": round(self.same_persona, 3),
            "same_persona_by_chance": round(self.by_chance, 3),
        }


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
        # Its imports take longer than anything that it does: beside the training.
        stack.start(API)
        embeddings = train_with_embeddings(reporter, stack)
        wait_for_servers(reporter, stack, API)
        wait_for_model(reporter, stack)
        latest = latest_customers(simulation.events, _LATEST)
        answer = ask(stack.settings.api_url, MODEL, latest[:_SHOWN])
        like = None
        if embeddings["promoted"]:
            latest = by_events(simulation.events, latest)
            like = _like(reporter, stack, latest, simulation.truth.customers)
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
        similar=None if like is None else like.as_json(),
        map=embeddings.get("map"),
        seconds=round(time.monotonic() - started_s, 1),
    )
    _show(result, models, home, embeddings["verdict"])
    console = _console()
    console.print(prediction_table(answer))
    if like is not None:
        console.print(like.table())
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


def by_events(events: pa.Table, customers: list[str]) -> list[str]:
    """Customers by how many events they have, most first: of them most can be known."""
    import pyarrow.compute as pc

    column = events.column("customer_id")
    counts = {each: pc.sum(pc.equal(column, each)).as_py() or 0 for each in customers}
    return sorted(customers, key=lambda each: -counts[each])


def _like(
    reporter: Reporter,
    stack: LocalStack,
    customers: list[str],
    people: pl.DataFrame,
) -> _Like:
    """The nearest to each of these customers who has a vector.

    Raises:
        PredictionError: none has one, or the API has no index of nearest customers in time.
    """
    deadline_s = time.monotonic() + _INDEXED_WITHIN.total_seconds()
    personas = dict(people.select("customer_id", "persona").iter_rows())
    with reporter.step("Asking for similar customers") as step:
        while True:
            answers = []
            for customer in customers:
                try:
                    answers.append(nearest(stack.settings.api_url, customer))
                except PredictionError:  # this one has no vector, or the index is being built
                    if not answers and time.monotonic() > deadline_s:
                        raise
            if answers:
                return _Like(answers, personas)
            step.advance(0)
            time.sleep(_POLL_S)


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


def _console() -> Console:
    return Console(width=None if os.isatty(1) else 120)


def _show(result: DemoResult, models: list[Champion], home: Path, embedded: str) -> None:
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
    if result.similar is None:
        table.add_row("customer embeddings", f"none serve: {embedded}")
    if result.map is not None:
        table.add_row("map of customers", result.map)
    table.add_row("everything written to", str(home))
    table.add_row("seconds in all", f"{result.seconds:.1f}")
    _console().print(table)
