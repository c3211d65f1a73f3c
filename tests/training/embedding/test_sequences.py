"""Sequences from events: sessions as elsewhere, snapshots apart, nothing known too early."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from feature_repo.contracts.settings import Settings
from tests.training.sessions import as_events
from training.embedding.sequences import archived_sequences, instant_us, sequences_of
from training.intent_sessions import intent_sessions
from training.intents import INTENTS

START = datetime(2025, 6, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def events(*rows: tuple[str, int, str, int | None]) -> pl.DataFrame:
    """Events from (customer, minute, type, cents)."""
    return as_events(
        pl.DataFrame(
            {
                "event_id": [f"e{number}" for number in range(len(rows))],
                "customer_id": [row[0] for row in rows],
                "event_time": [START + row[1] * MINUTE for row in rows],
                "event_type": [row[2] for row in rows],
                "page": ["home" if row[2] == "page_view" else None for row in rows],
                "amount_ref_minor": [row[3] for row in rows],
            },
            schema_overrides={"event_time": pl.Datetime("us", "UTC"), "amount_ref_minor": pl.Int64},
        )
    )


LOG = events(
    ("b", 0, "login", None),
    ("a", 1, "financial_snapshot", 500),
    ("a", 1, "login", None),
    ("b", 5, "quote", 70),
    ("a", 20, "support_contact", None),
    ("a", 40, "page_view", None),
    ("a", 40, "financial_snapshot", None),
    ("b", 90, "financial_snapshot", 900),
    ("a", 60, "page_view", None),
    ("a", 61, "financial_snapshot", 700),
    ("c", 70, "financial_snapshot", 100),
)


def test_sessions_and_snapshots_are_two_sequences() -> None:
    found = sequences_of(LOG)
    assert found.customer_id.to_list() == ["a", "b"], "who only has a balance has no session"
    assert found.offsets.tolist() == [0, 2, 3]
    sessions = found.sessions
    assert np.diff(sessions.offsets).tolist() == [1, 2, 2], "a call does not prolong a session"
    assert np.diff(sessions.snapshot_offsets).tolist() == [1, 0, 0], "of a session's end or before"
    assert sessions.snapshot_balance.tolist() == [500]
    assert sessions.amount_ref_minor[-1] == 70
    assert found.customer.tolist() == [0, 0, 1]


def test_an_event_that_comes_twice_counts_once() -> None:
    twice = sequences_of(pl.concat([LOG, LOG.with_columns(page=pl.lit("other"))]))
    once = sequences_of(LOG)
    assert twice.sessions.time_us.tolist() == once.sessions.time_us.tolist()
    assert "other" not in twice.sessions.page.names
    assert twice.sessions.snapshot_us.tolist() == once.sessions.snapshot_us.tolist()


def test_until_an_instant_only_what_was_over_is_known() -> None:
    found = sequences_of(LOG)
    early = found.until(instant_us(START + 35 * MINUTE))
    assert early.customer_id.to_list() == ["a", "b"]
    assert early.offsets.tolist() == [0, 1, 2]
    assert early.sessions.end_us.tolist() == [
        instant_us(START + MINUTE), instant_us(START + 5 * MINUTE)
    ]  # fmt: skip
    # The session of b ended at 0:05, so it could still have gone on until 0:35.
    assert found.until(instant_us(START + 34 * MINUTE)).customer_id.to_list() == ["a"]
    assert len(found.until(instant_us(START)).customer_id) == 0


def test_they_are_the_sessions_of_the_other_models(small_world: Settings) -> None:
    found = archived_sequences(small_world)
    known = intent_sessions(small_world).sort("customer_id", "started_at")
    assert found.customer_id.gather(found.customer).to_list() == known["customer_id"].to_list()
    assert found.sessions.start_us.tolist() == known["started_at"].dt.epoch("us").to_list()
    assert found.sessions.end_us.tolist() == known["last_at"].dt.epoch("us").to_list()
    assert [INTENTS[code] for code in found.intent] == known["intent"].to_list()
    assert (np.diff(found.sessions.snapshot_offsets) == 1).mean() > 0.99, "one at each login"
    # What comes after an instant changes nothing of before.
    end = START + timedelta(days=9)
    cut = archived_sequences(small_world, end).until(instant_us(end))
    whole = found.until(instant_us(end))
    assert cut.customer_id.to_list() == whole.customer_id.to_list()
    assert cut.sessions.time_us.tolist() == whole.sessions.time_us.tolist()
    assert cut.sessions.snapshot_us.tolist() == whole.sessions.snapshot_us.tolist()
    assert cut.intent.tolist() == whole.intent.tolist()
