from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from feature_repo.contracts.events import Event, EventType, to_epoch_us
from streaming.lateness import LatenessGate
from tests.streaming.made_events import START, batch_of, page_view

HOUR = timedelta(hours=1)
CUSTOMER = ("customer", 0)


def at(*times: datetime) -> pa.RecordBatch:
    return batch_of([page_view(number, at=time) for number, time in enumerate(times)])


def label(event_time: datetime, arrival: datetime) -> Event:
    return Event(
        event_id="l1",
        event_time=event_time,
        customer_id="c1",
        event_type=EventType.LABEL,
        label_event_id="e0",
        label_value=1.0,
        label_arrival_time=arrival,
    )


def test_what_is_as_old_as_the_lateness_is_late() -> None:
    gate = LatenessGate(HOUR)
    second = timedelta(seconds=1)
    verdict = gate.judge(CUSTOMER, at(START, START + HOUR, START + second, START, START + 3 * HOUR))
    assert verdict.late.tolist() == [False, False, False, True, False]
    assert gate.judge(CUSTOMER, at(START + 2 * HOUR)).late.tolist() == [True]
    assert gate.watermark_us(CUSTOMER) == to_epoch_us(START + 3 * HOUR)


def test_how_the_log_is_cut_into_frames_does_not_matter() -> None:
    times = [START + timedelta(minutes=33 * ((7 * n) % 5)) for n in range(40)]
    results = []
    for rows in (1, 7, 40):
        gate = LatenessGate(HOUR)
        results.append(
            [
                late
                for first in range(0, 40, rows)
                for late in gate.judge(CUSTOMER, at(*times[first : first + rows])).late.tolist()
            ]
        )
    assert results[0] == results[1] == results[2]
    assert 0 < sum(results[0]) < 40


def test_a_partition_that_is_ahead_does_not_make_the_others_late() -> None:
    gate = LatenessGate(HOUR)
    gate.judge(CUSTOMER, at(START + timedelta(days=30)))
    assert gate.judge(("customer", 1), at(START)).kept.all()
    assert gate.judge(("corridor", 0), at(START)).kept.all()
    assert not gate.judge(CUSTOMER, at(START)).kept.any()


def test_a_live_event_from_the_future_does_not_make_the_others_late() -> None:
    gate = LatenessGate(HOUR, now=lambda: START + timedelta(minutes=5))
    verdict = gate.judge(CUSTOMER, at(START, START + timedelta(days=3), START))
    assert verdict.ahead.tolist() == [False, True, False]
    assert verdict.kept.tolist() == [True, False, True]
    assert gate.watermark_us(CUSTOMER) == to_epoch_us(START)


def test_a_label_is_as_old_as_its_arrival() -> None:
    gate = LatenessGate(HOUR)
    gate.judge(CUSTOMER, at(START))
    week = timedelta(days=7)
    assert gate.judge(CUSTOMER, batch_of([label(START - week, START)])).kept.all()
    assert gate.judge(CUSTOMER, batch_of([label(START, START + week)])).kept.all()
    assert gate.judge(CUSTOMER, at(START)).late.all()


def test_a_watermark_survives_a_restart() -> None:
    gate = LatenessGate(HOUR, watermarks_us={CUSTOMER: to_epoch_us(START)})
    assert gate.judge(CUSTOMER, at(START - HOUR, START - HOUR / 2)).late.tolist() == [True, False]


def test_a_replay_may_be_of_any_age_and_the_first_event_is_never_late() -> None:
    old = datetime(2001, 1, 1, tzinfo=UTC)
    assert LatenessGate(timedelta(0)).judge(CUSTOMER, at(old)).kept.all()
    assert LatenessGate(HOUR).watermark_us(CUSTOMER) is None


def test_the_reasons_name_the_bounds() -> None:
    gate = LatenessGate(HOUR)
    assert "1h" in gate.late_reason
    assert "1h" in gate.ahead_reason
