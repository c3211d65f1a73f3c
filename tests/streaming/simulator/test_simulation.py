from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA, Event, EventType
from feature_repo.contracts.features import SESSION_GAP
from streaming.simulator import Simulation, World, WorldError, simulate
from streaming.simulator.files import TRUTH_TABLES
from tests.streaming.simulator.conftest import CUSTOMERS, SEED, START, inside


@pytest.fixture(scope="module")
def events(simulation: Simulation) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(simulation.events))


def test_events_fit_the_schema_sorted_in_the_window_with_ids_of_their_own(
    simulation: Simulation, events: pl.DataFrame
) -> None:
    assert simulation.events.schema.equals(EVENT_SCHEMA)
    simulation.events.validate(full=True)
    known = events.select(pl.coalesce("label_arrival_time", "event_time")).to_series()
    assert known.is_sorted()
    assert known.min() >= START  # type: ignore[operator]
    assert known.max() < simulation.end  # type: ignore[operator]
    assert events["event_time"].min() < START  # type: ignore[operator]  # of labels
    assert events["event_id"].n_unique() == events.height
    required = [field.name for field in EVENT_SCHEMA if not field.nullable]
    assert all(events[name].null_count() == 0 for name in required)


def test_every_event_carries_corridor_channel_device_and_ip(events: pl.DataFrame) -> None:
    by_phone = events["event_type"].is_in(["support_contact", "fraud_reported"])
    phoned, events = events.filter(by_phone), events.filter(~by_phone)
    assert phoned["channel"].unique().to_list() == ["phone"]
    assert phoned.height == phoned["device"].null_count() == phoned["ip_country"].null_count()
    assert phoned["send_country"].null_count() == phoned["receive_country"].null_count() == 0
    for name in ("send_country", "receive_country", "channel", "device", "ip_country", "page"):
        assert events[name].null_count() == 0, name
    assert set(events["channel"].unique()) == {"app", "web"}
    app = (events["channel"] == "app").mean()
    assert 0.5 < app < 0.7  # type: ignore[operator]
    # The desktop is a device of the web alone.
    assert events.filter(pl.col("device") == "desktop")["channel"].unique().to_list() == ["web"]
    at_home = events["ip_country"] == events["send_country"]
    assert 0.95 < at_home.mean() < 1  # type: ignore[operator]


def test_single_events_pass_validation(events: pl.DataFrame) -> None:
    fields = [name for name in Event.__struct_fields__ if name in events.columns]
    some = pl.concat(
        [
            of_type.select(fields).sample(min(of_type.height, 50), seed=1)
            for of_type in events.partition_by("event_type", maintain_order=True)
        ]
    )
    assert set(some["event_type"]) == set(EventType)
    for row in some.iter_rows(named=True):
        event = Event(**{**row, "event_type": EventType(row["event_type"])})
        assert event.validated() is event


def test_default_size_gives_two_hundred_thousand_events_in_three_days(
    world: World, events: pl.DataFrame
) -> None:
    assert events.height / CUSTOMERS * world.default_customers >= 200_000


def test_same_arguments_same_table_other_seed_other_table(world: World) -> None:
    window = {"start": START, "end": START + timedelta(hours=8)}
    first, again, other = (
        simulate(world, customers=300, seed=seed, **window)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert first.events.equals(again.events)
    for name in TRUTH_TABLES:
        assert getattr(first.truth, name).equals(getattr(again.truth, name))
    assert not first.events.equals(other.events)
    ids = [set(item.events["event_id"].to_pylist()) for item in (first, other)]
    assert ids[0].isdisjoint(ids[1])


def test_touching_windows_make_the_joint_window(world: World) -> None:
    # The cuts lie inside days and inside sessions.
    cuts = [START + timedelta(hours=hours) for hours in (0, 5.5, 24, 31.25, 48)]
    parts = [
        simulate(world, customers=3_000, start=start, end=end, seed=3)
        for start, end in pairwise(cuts)
    ]
    whole = simulate(world, customers=3_000, start=cuts[0], end=cuts[-1], seed=3)
    joined = pa.concat_tables([part.events for part in parts]).combine_chunks()
    assert joined.equals(whole.events.combine_chunks())
    sessions = pl.concat([part.truth.sessions for part in parts])
    assert sessions.equals(whole.truth.sessions)
    payments = pl.concat([part.truth.payments for part in parts])
    assert payments.equals(whole.truth.payments)
    # Some sessions do run across a cut: else this test would show less than it says.
    length = pl.duration(microseconds=(pl.col("duration_s") * 1e6).cast(pl.Int64))
    ends = sessions.select(pl.col("start_time") + length).to_series()
    assert any(((sessions["start_time"] < cut) & (ends >= cut)).any() for cut in cuts[1:-1])


def test_sessions_in_the_events_are_the_planted_ones(
    simulation: Simulation, events: pl.DataFrame
) -> None:
    ordered = (
        inside(events)
        .sort("customer_id", "event_time", maintain_order=True)
        .with_columns(gap=pl.col("event_time").diff().over("customer_id"))
    )
    starts = ordered.filter(pl.col("gap").is_null() | (pl.col("gap") > SESSION_GAP))
    planted = set(simulation.truth.sessions["first_event_id"])
    found = set(starts["event_id"])
    # The window's start cuts sessions of the day before; two sessions seldom touch at midnight.
    assert len(planted - found) / len(planted) < 0.001
    assert len(found - planted) / len(planted) < 0.005
    first = ordered.filter(pl.col("event_id").is_in(planted))
    assert first["event_type"].unique().to_list() == ["login"]


def test_planted_durations_are_first_to_last_event(
    simulation: Simulation, events: pl.DataFrame
) -> None:
    gap = pl.col("event_time").diff().over("customer_id")
    seen = (
        inside(events)
        .sort("customer_id", "event_time", maintain_order=True)
        .with_columns(session=(gap.is_null() | (gap > SESSION_GAP)).cum_sum())
        .group_by("session", maintain_order=True)
        .agg(
            pl.col("event_id").first().alias("first_event_id"),
            seen_s=(
                pl.col("event_time").last() - pl.col("event_time").first()
            ).dt.total_microseconds()
            / 1e6,
            seen_events=pl.len(),
        )
    )
    whole = simulation.truth.sessions.filter(
        pl.col("start_time") < simulation.end - timedelta(hours=3)
    ).join(seen, on="first_event_id")
    same = (whole["duration_s"] - whole["seen_s"]).abs() < 1e-5
    # All but the few that touch the customer's next session across midnight.
    assert same.mean() > 0.998  # type: ignore[operator]
    matched = whole.filter(same)
    assert (matched["event_count"] == matched["seen_events"]).all()


def test_people_come_at_their_hours(simulation: Simulation) -> None:
    sessions = simulation.truth.sessions.join(
        simulation.truth.customers.select("customer_id", "peak_hour"), on="customer_id"
    )
    offsets = {c.code: c.utc_offset_hours for c in simulation.world.countries}
    offset = sessions["corridor"].str.slice(0, 2).replace_strict(offsets, return_dtype=pl.Float64)
    hour = sessions["start_time"].dt.hour() + sessions["start_time"].dt.minute() / 60 + offset
    away = ((hour - sessions["peak_hour"] + 12) % 24 - 12).abs()
    assert (away < 3).mean() > 0.7  # type: ignore[operator]


def test_duration_depends_on_what_the_first_event_shows(simulation: Simulation) -> None:
    sessions = (
        simulation.truth.sessions.sort("customer_id", "start_time")
        .with_columns(log_s=pl.col("duration_s").log1p())
        .with_columns(before=pl.col("log_s").shift().over("customer_id"))
        .drop_nulls("before")
    )
    correlation = np.corrcoef(sessions["log_s"], sessions["before"])[0, 1]
    assert correlation > 0.2
    by_channel = dict(sessions.group_by("channel").agg(pl.col("log_s").mean()).iter_rows())
    assert by_channel["web"] > by_channel["app"] + 0.2


def test_nobody_acts_before_the_sign_up(simulation: Simulation) -> None:
    world, as_of = simulation.world, simulation.world.people.as_of
    start = datetime(as_of.year, as_of.month, as_of.day, tzinfo=UTC) - timedelta(days=300)
    early = simulate(world, customers=500, start=start, end=start + timedelta(days=1), seed=SEED)
    day = (start.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
    active = {int(name[1:]) for name in early.events["customer_id"].to_pylist()}
    assert active
    assert (early.people.signed_up_day[list(active)] <= day).all()
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    usd_only = simulate_usd(world)
    empty = simulate(
        usd_only, customers=50, start=long_ago, end=long_ago + timedelta(days=1), seed=1
    )
    assert empty.events.num_rows == 0
    assert empty.truth.sessions.height == 0
    assert empty.batch_features(long_ago.date())["customer_profile"].height == 0


def simulate_usd(world: World) -> World:
    """The world's corridors from the United States: exchange rates reach back for ever."""
    return msgspec.structs.replace(
        world, corridors=tuple(c for c in world.corridors if c.send == "US")
    )


def test_progress_counts_the_days(world: World) -> None:
    seen: list[tuple[int, int]] = []
    simulate(
        world,
        customers=20,
        start=START,
        end=START + timedelta(days=2),
        seed=1,
        progress=lambda done, total: seen.append((done, total)),
    )
    # Eleven days before run into the window: the labels of their payments do.
    assert seen == [(done, 13) for done in range(1, 14)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"customers": 0}, "customers"),
        ({"seed": -1}, "seed"),
        ({"start": datetime(2025, 6, 2)}, "start"),  # noqa: DTZ001
        ({"end": START}, "end"),
        ({"end": datetime(2222, 1, 1, tzinfo=UTC)}, "end"),
        # The exchange rates start in 2017 for most currencies.
        ({"start": datetime(2016, 1, 1, tzinfo=UTC)}, "countries.currency"),
    ],
)
def test_bad_arguments_are_named(world: World, change: dict[str, object], field: str) -> None:
    arguments = {"customers": 5, "start": START, "end": START + timedelta(hours=1), "seed": 1}
    with pytest.raises(WorldError) as caught:
        simulate(world, **{**arguments, **change})  # type: ignore[arg-type]
    assert caught.value.field == field
