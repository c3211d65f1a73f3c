from __future__ import annotations

import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA
from streaming.log.arrow_frames import MARKER, decode_frame, encode_frame
from tests.streaming.made_events import batch_of, payment

EVENTS = batch_of([payment(number) for number in range(5)])


@pytest.mark.parametrize(
    "events", [EVENTS, EVENTS.slice(2, 2), EVENTS.slice(0, 0), EVENTS.drop_columns(["page"])]
)
def test_a_frame_comes_back_as_it_was(events: pa.RecordBatch) -> None:
    payload = encode_frame(events)
    assert payload.startswith(MARKER)
    decoded = decode_frame(payload)
    assert isinstance(decoded, pa.RecordBatch)
    assert decoded.equals(events)


def test_a_slice_is_written_without_the_rest() -> None:
    assert len(encode_frame(EVENTS.slice(0, 1))) < len(encode_frame(EVENTS))


@pytest.mark.parametrize("payload", [b"", b"{}", MARKER, encode_frame(EVENTS)[:400]])
def test_what_is_no_frame_is_said(payload: bytes) -> None:
    assert "an Arrow stream of columns of the event schema" in str(decode_frame(payload))


def test_other_columns_are_named() -> None:
    text_amount = EVENTS.set_column(
        EVENT_SCHEMA.get_field_index("amount_minor"), "amount_minor", EVENTS.column("event_id")
    )
    assert "amount_minor: string" in str(decode_frame(encode_frame(text_amount)))
    without_time = EVENTS.drop_columns(["event_time"])
    assert "no event_time" in str(decode_frame(encode_frame(without_time)))
