"""Synthetic events: sessions whose length depends on channel, hour, corridor and customer.

The archive as the dataflow would have written it, made directly and vectorised, so that the
training tests need neither a simulator nor a stream.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from feature_repo.contracts.events import EVENT_SCHEMA, EventType
from feature_repo.contracts.settings import Settings

START = datetime(2025, 3, 3, tzinfo=UTC)
CORRIDORS = ("GB-NG", "GB-IN", "US-MX", "US-PH", "DE-TR", "FR-MA")
CHANNELS = ("app", "web")
_US = 1_000_000


def settings_at(home: Path, *, redis: str = "127.0.0.1:1") -> Settings:
    """Settings for a home folder; servers that are not given are never reached."""
    return Settings(
        home=home,
        redis=redis,
        mlflow_url=f"sqlite:///{home}/mlflow.db",
        prefect_url="http://127.0.0.1:1/api",
        api_url="http://127.0.0.1:1",
    )


def session_events(
    sessions: int,
    customers: int,
    *,
    days: int = 10,
    seed: int = 1,
    corridors: bool = True,
    bounces: float = 0.15,
) -> pl.DataFrame:
    """Events of the event schema, sorted by time.

    `corridors=False` gives a click log: no corridor, no money. A share of `bounces` ends with its
    first event.
    """
    rng = np.random.default_rng(seed)
    customer = rng.integers(0, customers, sessions)
    # Sessions of one customer are kept apart by slots of two hours, within which they may start
    # anywhere in the first half.
    slots = days * 12
    slot = rng.integers(0, slots, sessions)
    taken = np.unique(customer.astype(np.int64) * slots + slot)
    customer, slot = taken // slots, taken % slots
    sessions = len(taken)
    channel = rng.integers(0, 2, sessions)
    corridor = rng.integers(0, len(CORRIDORS), sessions)
    hour_effect = np.sin(slot % 12 / 12 * 2 * np.pi)
    habit = np.random.default_rng(seed + 1).normal(0, 0.5, customers)[customer]
    scale = np.exp(4.0 + 1.2 * channel + 0.5 * hour_effect + 0.2 * corridor + habit)
    events = 1 + rng.geometric(0.55, sessions).clip(max=20) * (rng.random(sessions) >= bounces)
    length_s = np.minimum(scale * rng.weibull(0.9, sessions), 3_000.0)
    start_us = (
        int(START.timestamp()) * _US + slot * 7_200 * _US + rng.integers(0, 3_000 * _US, sessions)
    )

    row = np.repeat(np.arange(sessions), events)
    place = np.arange(len(row)) - np.repeat(np.cumsum(events) - events, events)
    share = place / np.maximum(events[row] - 1, 1)
    duration_s = np.round(length_s[row] * share, 6)
    event_us = start_us[row] + np.round(duration_s * _US).astype(np.int64)
    kinds = [EventType.PAGE_VIEW, EventType.QUOTE, EventType.ADD_RECIPIENT]
    pages = rng.integers(0, 5, len(row))
    send, receive = (
        [name.split("-")[side] if corridors else None for name in CORRIDORS] for side in (0, 1)
    )
    frame = pl.DataFrame(
        {
            "event_id": [f"e{number}" for number in range(len(row))],
            "event_time": pl.Series(event_us).cast(pl.Datetime("us", "UTC")),
            "customer_id": np.array([f"c{number}" for number in range(customers)])[customer[row]],
            "event_type": np.array(kinds)[rng.choice(3, len(row), p=(0.8, 0.15, 0.05))],
            "page": np.array([f"page_{number}" for number in range(5)])[pages],
            "send_country": np.array(send)[corridor[row]],
            "receive_country": np.array(receive)[corridor[row]],
            "channel": np.array(CHANNELS)[channel[row]],
        }
    )
    return as_events(frame).sort("event_time", "event_id")


def as_events(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with all columns of the event schema; those that it lacks are null."""
    schema = pl.DataFrame(pl.from_arrow(EVENT_SCHEMA.empty_table())).schema
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in schema.items()
    )


def write_archive(settings: Settings, events: pl.DataFrame) -> None:
    """Write events as the dataflow archives them: one folder a date."""
    by_date = events.group_by(pl.col("event_time").dt.date(), maintain_order=True)
    for first, ((date,), part) in enumerate(by_date):
        folder = settings.events_table / f"event_date={date}"
        folder.mkdir(parents=True, exist_ok=True)
        part.write_parquet(folder / f"0000000001-00-{first:020d}.parquet")


def write_batch_tables(settings: Settings, customers: int, *, days: int = 10) -> None:
    """Daily rows of the three batch views, as of each midnight."""
    rng = np.random.default_rng(7)
    for day in range(days):
        instant = START + timedelta(days=day)
        at = pl.lit(instant).cast(pl.Datetime("us", "UTC")).alias("event_timestamp")
        ids = pl.Series("customer_id", [f"c{number}" for number in range(customers)])

        def numbers(
            high: int, count: int = customers
        ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
            return rng.integers(0, high, count)

        tables = {
            "customer_profile": pl.DataFrame(
                {
                    "customer_id": ids,
                    "tenure_days": numbers(900) + day,
                    "age_band": rng.choice(["18-24", "25-34", "55+"], customers),
                    "home_country": rng.choice(["GB", "US"], customers),
                    "main_corridor": rng.choice(CORRIDORS, customers),
                    "preferred_channel": rng.choice(CHANNELS, customers),
                    "kyc_level": numbers(3),
                    "recipient_count": numbers(6),
                }
            ),
            "customer_financials": pl.DataFrame(
                {
                    "customer_id": ids,
                    "balance_ref_minor": numbers(90_000),
                    "monthly_income_ref_minor": numbers(400_000),
                    "sent_30d_ref_minor": numbers(90_000),
                    "transfers_30d": numbers(9),
                    "failed_30d": numbers(3),
                }
            ),
            "corridor_costs": pl.DataFrame(
                {
                    "corridor": CORRIDORS,
                    "cost_pct_usd200": rng.random(len(CORRIDORS)) * 8,
                    "cost_pct_usd500": rng.random(len(CORRIDORS)) * 6,
                    "fx_margin_pct": rng.random(len(CORRIDORS)) * 3,
                    "providers": numbers(12, len(CORRIDORS)),
                }
            ),
        }
        for name, table in tables.items():
            folder = settings.batch_table(name) / f"event_date={instant.date()}"
            folder.mkdir(parents=True, exist_ok=True)
            table.with_columns(at).write_parquet(folder / f"{name}.parquet")
