from __future__ import annotations

import pyarrow as pa
import pytest

from feature_repo.contracts.events import EVENT_SCHEMA
from streaming.log import arrow_frames
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


def ids(payload: bytes) -> list[str] | str:
    found = decode_frame(payload)
    return found if isinstance(found, str) else found.column("event_id").to_pylist()


def stream(*batches: pa.RecordBatch) -> bytes:
    """Any number of batches in one stream, as another producer may write them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EVENT_SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def test_what_follows_a_known_schema_is_read_as_if_it_was_not_known() -> None:
    payload = encode_frame(EVENTS)
    assert payload == stream(EVENTS)
    assert ids(payload) == ids(payload) == EVENTS.column("event_id").to_pylist()
    assert ids(stream()) == []
    assert ids(stream(EVENTS.slice(0, 2), EVENTS.slice(2))) == ids(payload)
    assert ids(payload[:-8]) == ids(payload)  # the end of a stream may be left out
    assert ids(payload + b"more") == ids(payload)
    assert "an Arrow stream of columns" in ids(payload[:-100])
    batch_at = len(EVENT_SCHEMA.serialize())
    assert "an Arrow stream of columns" in ids(payload[:batch_at] + b"\xff" * 200)


def test_schemas_of_others_are_not_kept_without_end() -> None:
    for number in range(200):
        other = EVENTS.replace_schema_metadata({"number": str(number)})
        assert isinstance(decode_frame(encode_frame(other)), pa.RecordBatch)
    assert len(arrow_frames._KNOWN) <= arrow_frames._MOST_KNOWN


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
