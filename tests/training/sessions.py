"""Synthetic offline rows: sessions whose length depends on channel, hour, corridor and customer.

What the dataflow would have written, made directly and vectorised, so that the training tests need
neither a simulator nor a stream.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from feature_repo.contracts.features import STREAM_FEATURES, Dtype
from feature_repo.contracts.settings import Settings

START = datetime(2025, 3, 3, tzinfo=UTC)
CORRIDORS = ("GB-NG", "GB-IN", "US-MX", "US-PH", "DE-TR", "FR-MA")
CHANNELS = ("app", "web")
_TYPES = {Dtype.INT64: pl.Int64, Dtype.FLOAT64: pl.Float64, Dtype.STRING: pl.String}
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


def session_rows(
    sessions: int,
    customers: int,
    *,
    days: int = 10,
    seed: int = 1,
    corridors: bool = True,
    bounces: float = 0.15,
) -> pl.DataFrame:
    """One row an event, as of that event, with every stream feature; sorted by time.

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
    frame = pl.DataFrame(
        {
            "event_id": np.arange(len(row)),
            "customer_id": customer[row],
            "event_timestamp": event_us,
            "session_start_us": start_us[row],
            "session_start_hour": (start_us[row] // (3_600 * _US)) % 24,
            "session_start_weekday": (start_us[row] // (86_400 * _US) + 3) % 7,
            "session_duration_s": duration_s,
            "session_event_count": place + 1,
            "session_channel": channel[row],
            "session_corridor": corridor[row],
        }
    ).with_columns(
        pl.format("e{}", "event_id").alias("event_id"),
        pl.format("c{}", "customer_id").alias("customer_id"),
        pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")),
        pl.col("session_channel").replace_strict(range(2), list(CHANNELS), return_dtype=pl.String),
        pl.col("session_corridor").replace_strict(
            range(len(CORRIDORS)), list(CORRIDORS), return_dtype=pl.String
        ),
    )
    for feature in STREAM_FEATURES:
        dtype = _TYPES[feature.dtype]
        if feature.name not in frame.columns:
            values = (
                pl.lit(None, dtype)
                if feature.dtype is Dtype.STRING
                else pl.lit(rng.integers(0, 50, len(row))).cast(dtype)
            )
            frame = frame.with_columns(values.alias(feature.name))
    if not corridors:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("session_corridor"))
    names = ["event_id", "customer_id", "event_timestamp", *(f.name for f in STREAM_FEATURES)]
    return frame.select(names).sort("event_timestamp", "event_id")


def write_stream_rows(settings: Settings, rows: pl.DataFrame) -> None:
    """Write rows as the dataflow does: one folder a date."""
    for (date,), part in rows.group_by(pl.col("event_timestamp").dt.date(), maintain_order=True):
        folder = settings.stream_table / f"event_date={date}"
        folder.mkdir(parents=True, exist_ok=True)
        part.write_parquet(folder / "00000000-0000-000000000000.parquet")


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
