"""The packed calls, byte for byte: what redis-py would send for the same rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection

from feature_repo.contracts.features import CORRIDOR, CUSTOMER
from feature_repo.contracts.states import state_feature, state_view
from feature_repo.stores.fenced_writes import FENCED_WRITE_SHA
from feature_repo.stores.redis_layout import (
    Fence,
    encode_bytes,
    encode_fence,
    encode_timestamp,
    entity_key_encoder,
    fence_field,
    field_name,
    timestamp_field,
)
from streaming.sinks.resp import CallPacker, Rows

PROJECT = "daima"
ROW = st.tuples(
    st.text(max_size=40),
    st.binary(max_size=300),
    st.integers(0, 4_102_444_800_000_000),
    st.integers(1, 2**63 - 1),
    st.integers(0, 2**63 - 1),
)


def rows_of(values: list[tuple[Any, ...]]) -> Rows:
    keys, states, *numbers = zip(*values, strict=True)
    times_us, generations, offsets = (np.array(column, np.int64) for column in numbers)
    return Rows(
        pa.array(keys, pa.string()), pa.array(states, pa.binary()), times_us, generations, offsets
    )


def expected(entity: Any, values: list[tuple[Any, ...]], group: int) -> bytes:
    view = state_view(entity.name)
    key_of = entity_key_encoder(entity.join_key, PROJECT)
    fields = (
        fence_field(view),
        field_name(view, state_feature(entity.name)),
        timestamp_field(view),
    )
    sent = b""
    for start in range(0, len(values), group):
        of_call = values[start : start + group]
        arguments: list[Any] = [*(key_of(value[0]) for value in of_call), *fields]
        for _, state, time_us, generation, offset in of_call:
            arguments += [
                encode_fence(Fence(generation, offset)),
                encode_bytes(state),
                encode_timestamp(time_us),
            ]
        command = ("EVALSHA", FENCED_WRITE_SHA, len(of_call), *arguments)
        sent += b"".join(Connection().pack_command(*command))
    return sent


@given(st.lists(ROW, min_size=1, max_size=12), st.integers(1, 12))
def test_calls_are_what_a_client_would_send(values: list[tuple[Any, ...]], group: int) -> None:
    packed = CallPacker(CUSTOMER, PROJECT, group).pack(rows_of(values))
    assert bytes(packed) == expected(CUSTOMER, values, group)


def test_slices_and_takes_of_rows_pack_as_the_rows_they_are() -> None:
    values = [(f"GB-{n}", bytes([n]) * n, n, 1, n) for n in range(200)]
    packer = CallPacker(CORRIDOR, PROJECT, 64)
    sliced = rows_of(values).slice(30, 150)
    assert bytes(packer.pack(sliced)) == expected(CORRIDOR, values[30:180], 64)
    taken = sliced.take(np.array([3, 149, 0]))
    assert bytes(packer.pack(taken)) == expected(CORRIDOR, [values[n] for n in (33, 179, 30)], 64)


@pytest.mark.parametrize("size", [0, 1, 9, 10, 99, 100, 126, 127, 128, 16_383, 16_384, 70_000])
def test_lengths_of_every_width(size: int) -> None:
    values = [("k" * (size % 1_000), b"\xff" * size, 0, 1, 0)]
    packed = CallPacker(CUSTOMER, PROJECT, 1).pack(rows_of(values))
    assert bytes(packed) == expected(CUSTOMER, values, 1)


def test_buffers_that_cannot_be_written_to_are_packed() -> None:
    rows = rows_of([("k", b"state", 1, 1, 1)])
    frozen = pa.StringArray.from_buffers(
        1, pa.py_buffer(np.array([0, 1], np.int32).tobytes()), pa.py_buffer(b"k")
    )
    again = Rows(frozen, rows.states, rows.times_us, rows.generations, rows.offsets)
    packer = CallPacker(CUSTOMER, PROJECT, 64)
    assert bytes(packer.pack(again)) == bytes(packer.pack(rows))
