"""Rows of Feast's as calls of the ordered write: many rows of a view a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import Any

from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.fenced_writes import FENCED_WRITE, FENCED_WRITE_SHA
from feature_repo.stores.online_keys import ProtoKeys
from feature_repo.stores.online_link import Command, Script
from feature_repo.stores.redis_layout import (
    created_field,
    encode_created,
    encode_timestamp,
    field_name,
    timestamp_field,
)

SCRIPT = Script(FENCED_WRITE, FENCED_WRITE_SHA)
# Entity key, values by feature, event time, created time; naive instants are UTC.
Row = tuple[Any, dict[str, Any], datetime, datetime | None]


class RowPacker:
    """Packs rows of one view.

    Args:
        view: the name under which its features are stored.
        rows_per_call: rows of one call of the script; it holds up others for as long.
    """

    def __init__(self, view: str, project: str, rows_per_call: int) -> None:
        self._head = [timestamp_field(view), created_field(view)]
        self._view = view
        self._key = ProtoKeys(project)
        self._rows_per_call = rows_per_call

    def calls(self, rows: Sequence[Row]) -> Iterator[Command]:
        """The calls that write the rows, in their order."""
        source = iter(rows)
        while some := list(islice(source, self._rows_per_call)):
            for names, group in groupby(some, key=_feature_names):
                yield self._call(names, list(group))

    def _call(self, names: tuple[str, ...], rows: Sequence[Row]) -> Command:
        serialize = Value.SerializeToString
        keys: list[bytes] = []
        times: list[tuple[bytes, bytes]] = []
        values: list[list[bytes]] = []
        last: datetime | None = None
        stamp = b""
        for entity_key, features, at, created in rows:
            if at is not last:
                last, stamp = at, encode_timestamp(_epoch_us(at))
            keys.append(self._key(entity_key))
            times.append((stamp, b"" if created is None else encode_created(_epoch_us(created))))
            values.append(list(map(serialize, features.values())))
        fields = [field_name(self._view, name) for name in names]
        shared = len(set(times)) == 1
        arguments = [*self._head, b"%d" % len(fields), b"%d" % shared, *fields]
        if shared:
            arguments += times[0]
            for row in values:
                arguments += row
        else:
            for both, row in zip(times, values, strict=True):
                arguments += both
                arguments += row
        return SCRIPT.call(keys, arguments)


def _feature_names(row: Row) -> tuple[str, ...]:
    return tuple(row[1])


def _epoch_us(instant: datetime) -> int:
    return to_epoch_us(instant if instant.tzinfo else instant.replace(tzinfo=UTC))
