"""Events of one partition, as they came, in the order of log time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streaming.backfill.log_order import in_log_order
from tests.streaming.made_events import batch_of, page_view

LATENESS = timedelta(minutes=10)
MINUTES = st.lists(st.integers(0, 60), min_size=1, max_size=40)


@given(minutes=MINUTES, rows=st.integers(1, 7))
def test_sorted_without_the_late_ones(minutes: list[int], rows: int) -> None:
    batch = batch_of([page_view(minute, customer=f"c{n}") for n, minute in enumerate(minutes)])
    batches = [batch.slice(first, rows) for first in range(0, len(batch), rows)]
    late: list[int] = []

    def on_late(events: pa.RecordBatch, places: npt.NDArray[np.int64]) -> None:
        assert len(events) == len(places)
        late.extend(places.tolist())

    ordered = [
        name
        for events in in_log_order(batches, LATENESS, on_late)
        for name in events.column("customer_id").to_pylist()
    ]
    expected_late = [
        n for n, minute in enumerate(minutes) if minute <= max([-99, *minutes[:n]]) - 10
    ]
    assert late == expected_late
    kept = [n for n in range(len(minutes)) if n not in late]
    assert ordered == [f"c{n}" for n in sorted(kept, key=lambda n: minutes[n])]


def test_events_in_order_are_not_copied_and_not_held_for_long() -> None:
    batches = [batch_of([page_view(n * 5 + i) for i in range(5)]) for n in range(20)]
    seen = 0
    given_out = 0

    def read() -> Iterator[pa.RecordBatch]:
        nonlocal seen
        for batch in batches:
            seen += 1
            yield batch

    for events in in_log_order(read(), LATENESS, lambda *_: None):
        assert events is batches[given_out]
        given_out += 1
        assert seen - given_out <= 3
    assert given_out == 20
