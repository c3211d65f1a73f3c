"""Answers of the store as the columns of Feast's response: values still encoded, statuses true.

A row's view is NOT_FOUND where it has no event time, OUTSIDE_MAX_AGE where that is further back
than the view's TTL, and PRESENT otherwise; a feature of a present view is NULL_VALUE where a null
is stored and NOT_FOUND where nothing is (a feature added since). Only a PRESENT value is shown:
an expired one is a null, as it is in historical features.

Columns become Feast's protobufs in one piece, as bytes that are parsed at once: an object a value
takes five times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

from feature_repo.stores.online_link import HashValues
from feature_repo.stores.redis_layout import decode_timestamp

PRESENT, NULL, NOT_FOUND, EXPIRED = (
    int(FieldStatus.Value(name))
    for name in ("PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE")
)
_NULL = b"\x98\x01\x00"  # a Value with null_val set; one with nothing set is empty
_instant_us = lru_cache(maxsize=4096)(decode_timestamp)  # rows of one run often share theirs
_LENGTHS = tuple(bytes((0x0A, length)) for length in range(128))


@dataclass(frozen=True)
class ViewRead:
    """A view's part of a hash read: its event time at `at`, its features after it.

    Attributes:
        name: of the view, as Feast's metrics want it.
        ttl_us: how old a value may be, None for ever.
        names: of the features in the response.
        types: Feast's value type of each feature, None where the view declares none.
    """

    name: str
    at: int
    ttl_us: int | None
    names: tuple[str, ...]
    types: tuple[object, ...]


@dataclass
class Column:
    """A feature of all n rows: encoded values (empty where null), statuses, event times.

    `statuses` is None where all are PRESENT.
    """

    name: str
    values: Sequence[bytes]
    statuses: bytes | None
    times: Sequence[bytes]
    type: object = None


def columns_of(view: ViewRead, fields: Sequence[HashValues], now_us: int) -> list[Column]:
    """The view's columns.

    Args:
        fields: what was read, a field at a time, shape (fields, n).
        now_us: the instant of the request, µs since 1970.
    """
    stamps = fields[view.at]
    outcomes = _outcomes(view, stamps, now_us)
    times: Sequence[bytes] = stamps  # type: ignore[assignment]  # checked just below
    if outcomes is not None:
        times = [stamp or b"" for stamp in stamps]
    columns = []
    for at, name in enumerate(view.names):
        raw = fields[view.at + 1 + at]
        if outcomes is None and None not in raw and b"" not in raw and _NULL not in raw:
            columns.append(Column(name, raw, None, times, view.types[at]))  # type: ignore[arg-type]
            continue
        statuses = bytearray(outcomes or bytes((PRESENT,)) * len(raw))
        values = [b""] * len(raw)
        for row, value in enumerate(raw):
            if statuses[row] != PRESENT:
                continue
            if value is None:
                statuses[row] = NOT_FOUND
            elif not value or value == _NULL:
                statuses[row] = NULL
            else:
                values[row] = value
        columns.append(Column(name, values, bytes(statuses), times, view.types[at]))
    return columns


def _outcomes(view: ViewRead, stamps: HashValues, now_us: int) -> bytes | None:
    """A status a row; None where all are PRESENT."""
    ttl_us = view.ttl_us
    if ttl_us is None:
        if None not in stamps:
            return None
        return bytes([NOT_FOUND if stamp is None else PRESENT for stamp in stamps])
    oldest_us = now_us - ttl_us
    outcomes = bytes(
        [
            NOT_FOUND if stamp is None else EXPIRED if _instant_us(stamp) < oldest_us else PRESENT
            for stamp in stamps
        ]
    )
    return None if outcomes.count(PRESENT) == len(outcomes) else outcomes


def spread(columns: Sequence[Column], places: Sequence[int]) -> list[Column]:
    """Columns of distinct entities as columns of rows: `places` says of each row which it is."""
    return [
        Column(
            column.name,
            [column.values[at] for at in places],
            column.statuses and bytes([column.statuses[at] for at in places]),
            [column.times[at] for at in places],
            column.type,
        )
        for column in columns
    ]


def key_column(name: str, values: Sequence[bytes], type: object) -> Column:
    """A column of the request's own, which has no event times."""
    return Column(name, values, None, [b""] * len(values), type)


def response_bytes(columns: Sequence[Column]) -> bytes:
    """A serialised `GetOnlineFeaturesResponse` of these columns.

    Source: feast 0.67, `protos/feast/serving/ServingService.proto`.
    """
    names = b"".join(_field(0x0A, column.name.encode()) for column in columns)
    parts = [_field(0x0A, _field(0x0A, names))]
    times_of: dict[int, bytes] = {}
    for column in columns:
        times = times_of.get(id(column.times))
        if times is None:
            times = b"".join([_field(0x1A, time) for time in column.times])
            times_of[id(column.times)] = times
        statuses = column.statuses or bytes((PRESENT,)) * len(column.values)
        values = b"".join(
            [
                _LENGTHS[len(raw)] + raw if len(raw) < 128 else _field(0x0A, raw)
                for raw in column.values
            ]
        )
        parts.append(_field(0x12, values + _field(0x12, statuses) + times))
    return b"".join(parts)


def _field(tag: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    length = len(content)
    out = bytearray((tag,))
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out) + content
