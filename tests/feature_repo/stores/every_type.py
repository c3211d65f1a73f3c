"""A feature of each value type that Feast 0.67 has, with values that have bitten."""

from __future__ import annotations

import decimal
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from feast import ValueType, types

_DAY = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
_LANDING = datetime(1969, 7, 20, tzinfo=UTC)
_MUMBAI = timezone(timedelta(hours=5, minutes=30))
_TIME_UUID = uuid.UUID("d9428888-122b-11e1-b85c-61cd3cbb3210")
_PAIR = types.Struct({"a": types.Int64, "b": types.String})

# Feature -> (type, values: signs, extremes, zero, empty, long).
SCALARS: dict[str, tuple[Any, list[Any]]] = {
    "an_int32": (types.Int32, [0, -1, 2**31 - 1, -(2**31)]),
    "an_int64": (types.Int64, [0, -1, 4096, 2**63 - 1, -(2**63)]),
    "a_float32": (types.Float32, [0.0, -0.5, 3.4028234663852886e38]),
    "a_float64": (types.Float64, [0.0, -273.15, 5e-324, 1.7976931348623157e308, float("inf")]),
    "a_string": (types.String, ["", "GB-NG", "größe €漢字🙂 \x00", "x" * 127, "y" * 70_000]),
    "some_bytes": (types.Bytes, [b"", b"\x00\xff\n", b"b" * 300]),
    "a_pdf": (types.PdfBytes, [b"%PDF-1.7\n"]),
    "an_image": (types.ImageBytes, [b"\x89PNG\r\n\x00"]),
    "a_bool": (types.Bool, [True, False]),
    "a_time": (types.UnixTimestamp, [_DAY, _LANDING]),
    "a_zoned_time": (types.ZonedTimestamp, [_DAY, _DAY.astimezone(_MUMBAI)]),
    "a_json": (types.Json, ['{"a": [1, null]}']),
    "a_uuid": (types.Uuid, [uuid.UUID(int=7)]),
    "a_time_uuid": (types.TimeUuid, [_TIME_UUID]),
    "a_decimal": (types.Decimal, [decimal.Decimal("-12.340")]),
}
LISTS: dict[str, tuple[Any, list[Any]]] = {
    "int32s": (types.Array(types.Int32), [[1, -2, 3], [2**31 - 1], []]),
    "int64s": (types.Array(types.Int64), [[1, -2, 2**62], [-(2**63)], []]),
    "float32s": (types.Array(types.Float32), [[0.5] * 64, [0.25], []]),
    "float64s": (types.Array(types.Float64), [[0.1, -1e300], [2.0] * 40, []]),
    "strings": (types.Array(types.String), [["a", "", "€"], ["x" * 200], []]),
    "bytestrings": (types.Array(types.Bytes), [[b"\x00", b"", b"\xff"]]),
    "bools": (types.Array(types.Bool), [[True, False, True]]),
    "times": (types.Array(types.UnixTimestamp), [[_DAY, _DAY + timedelta(days=1)], [_LANDING]]),
    "jsons": (types.Array(types.Json), [['{"a": 1}', "[]"]]),
    "uuids": (types.Array(types.Uuid), [[uuid.UUID(int=7), uuid.UUID(int=2**128 - 1)]]),
    "time_uuids": (types.Array(types.TimeUuid), [[_TIME_UUID]]),
    "decimals": (types.Array(types.Decimal), [[decimal.Decimal("1.50"), decimal.Decimal(-7)]]),
    "int64_lists": (types.Array(types.Array(types.Int64)), [[[1, 2], [3], []]]),
}
SETS: dict[str, tuple[Any, list[Any]]] = {
    "int32_set": (types.Set(types.Int32), [{1, -2}]),
    "int64_set": (types.Set(types.Int64), [{1, 2, 3}]),
    "float32_set": (types.Set(types.Float32), [{0.5, -1.0}]),
    "float64_set": (types.Set(types.Float64), [{0.1, -1e300}]),
    "string_set": (types.Set(types.String), [{"a", "b"}]),
    "bytes_set": (types.Set(types.Bytes), [{b"\x00", b"\xff"}]),
    "bool_set": (types.Set(types.Bool), [{True}]),
    "time_set": (types.Set(types.UnixTimestamp), [{_DAY}]),
    "uuid_set": (types.Set(types.Uuid), [{uuid.UUID(int=7)}]),
    "time_uuid_set": (types.Set(types.TimeUuid), [{_TIME_UUID}]),
    "decimal_set": (types.Set(types.Decimal), [{decimal.Decimal("1.5")}]),
    "set_of_lists": (types.Set(types.Array(types.Int64)), [[[1, 2], [3]]]),
}
MAPS: dict[str, tuple[Any, list[Any]]] = {
    "a_map": (types.Map, [{"a": "1", "b": "x"}]),
    "maps": (types.Array(types.Map), [[{"a": "1"}, {"b": "2"}]]),
    "a_scalar_map": (types.ScalarMap, [{1: "a", 2: 3}]),
    "a_struct": (_PAIR, [{"a": 1, "b": "x"}]),
    "structs": (types.Array(_PAIR), [[{"a": 1, "b": "x"}, {"a": -2, "b": ""}]]),
}
EVERY = SCALARS | LISTS | SETS | MAPS
# No type of a feature: what a missing value is, and what nobody has set.
NOT_A_FEATURES = {ValueType.NULL, ValueType.UNKNOWN}
