"""Writing a simulation down: the events, the daily batch features, and, apart, the truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from streaming.simulator.knob_types import WorldError
from streaming.simulator.simulation import Simulation

ROW_GROUP_ROWS = 65_536
TRUTH_TABLES = ("sessions", "payments", "pages", "customers")
BATCH_VIEWS = ("customer_profile", "customer_financials", "corridor_costs")


def write_events(simulation: Simulation, path: Path) -> None:
    """Write the events to one Parquet file in the order of the log, replacing it as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    pq.write_table(simulation.events, unfinished, row_group_size=ROW_GROUP_ROWS, compression="zstd")
    unfinished.replace(path)


def write_batch_features(simulation: Simulation, batch_table: Callable[[str], Path]) -> None:
    """Write `<batch_table(view)>/event_date=YYYY-MM-DD/<view>.parquet` for each of the days."""
    for day in simulation.batch_days():
        for view, frame in simulation.batch_features(day).items():
            folder = batch_table(view) / f"event_date={day.isoformat()}"
            folder.mkdir(parents=True, exist_ok=True)
            _write_frame(frame, folder / f"{view}.parquet")


def write_truth(simulation: Simulation, folder: Path) -> None:
    """Write the truth, a Parquet file a table, to a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TRUTH_TABLES:
        _write_frame(getattr(simulation.truth, name), folder / f"{name}.parquet")


def write(
    simulation: Simulation,
    events_path: Path,
    truth_dir: Path,
    batch_table: Callable[[str], Path],
) -> None:
    """Write events, batch features and truth.

    `batch_table` names a view's folder, such as `Settings.batch_table`.

    Raises:
        WorldError: the truth would lie where the events or the batch features do, so that code
            which reads those could read it.
    """
    truth = truth_dir.resolve()
    tables = [batch_table(view).resolve() for view in BATCH_VIEWS]
    readers = {events_path.resolve().parent, *(table.parent for table in tables)}
    if truth in readers or any(truth.is_relative_to(table) for table in tables):
        raise WorldError(
            "truth_dir",
            str(truth_dir),
            "a folder apart from those of the events and of the batch features",
            "name another",
        )
    write_events(simulation, events_path)
    write_batch_features(simulation, batch_table)
    write_truth(simulation, truth_dir)


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    unfinished = path.with_name(path.name + ".part")
    frame.write_parquet(unfinished)
    unfinished.replace(path)
