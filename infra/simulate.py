"""`daima simulate`, and the history with which the demo and `daima up` begin."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from infra.progress import Reporter, reporting

if TYPE_CHECKING:
    from streaming.simulator.simulation import Simulation

TRUTH = "truth"
EVENTS = "events.parquet"


@dataclass(frozen=True)
class Crowd:
    """Which customers are simulated; the same crowd acts alike in every window."""

    customers: int
    seed: int
    world: Path | None = None

    def act(
        self,
        start: datetime,
        end: datetime,
        progress: Callable[[int, int], None] | None = None,
    ) -> Simulation:
        """What the crowd does in [start, end).

        Raises:
            WorldError: the world's file, or an argument, makes no sense.
        """
        from streaming.simulator.simulation import simulate
        from streaming.simulator.world import DEFAULT_WORLD, load_world

        return simulate(
            load_world(self.world or DEFAULT_WORLD),
            customers=self.customers,
            start=start,
            end=end,
            seed=self.seed,
            progress=progress,
        )


def simulate_and_write(
    reporter: Reporter,
    crowd: Crowd,
    start: datetime,
    end: datetime,
    *,
    events: Path,
    truth: Path,
    batch_table: Callable[[str], Path],
) -> Simulation:
    """Simulate a window and write events, batch features and, apart, the truth."""
    from streaming.simulator.files import write

    with reporter.step("Simulating", None) as step:
        simulation = crowd.act(start, end, lambda done, days: step.advance(0))
        write(simulation, events, truth, batch_table)
        step.note(f"{simulation.events.num_rows:,} events of {crowd.customers:,} customers")
    return simulation


def run_simulate(
    out: Path,
    crowd: Crowd,
    days: float,
    start: datetime | None,
    *,
    as_json: bool,
    now: datetime | None = None,
) -> None:
    """The command: `out/events.parquet`, `out/truth/`, `out/offline/VIEW/` by day.

    Raises:
        WorldError: the world's file, or an argument, makes no sense.
    """
    length = timedelta(days=days)
    begin = start.replace(tzinfo=UTC) if start else (now or datetime.now(UTC)) - length
    events = out / EVENTS
    with reporting() as reporter:
        simulation = simulate_and_write(
            reporter,
            crowd,
            begin,
            begin + length,
            events=events,
            truth=out / TRUTH,
            batch_table=lambda view: out / "offline" / view,
        )
    rows = simulation.events.num_rows
    print(f"{rows:,} events in {events}; batch tables in {out / 'offline'}; truth in {out / TRUTH}")
    if as_json:
        print(json.dumps({"events": rows, "customers": crowd.customers, "file": str(events)}))
