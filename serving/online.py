"""The only online reader: features of customers and of their corridors, with status and age.

A customer's feature views share one hash, so one pipelined round trip of HMGETs answers any
number of customers; the corridor's views take a second one, which is saved where the request
names the corridor. Values follow Feast's layout (`feature_repo/stores/redis_layout.py`); statuses
bear Feast's names and tell the truth, which Feast's own read of 0.67 does not: it reports expired
values and absent entities as PRESENT.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.redis_layout import (
    decode_timestamp,
    decode_value,
    entity_key_encoder,
)
from serving.catalog import Catalog
from serving.read_plan import (
    CORRIDOR_KEY,
    CORRIDOR_REF,
    CUSTOMER_KEY,
    HashPlan,
    ReadPlan,
    plan_read,
)
from serving.store_connection import HashRead, HashValues, StoreConnection

# What decoding bytes that are no protobuf of ours raises (UnicodeDecodeError is a ValueError).
_UNREADABLE = (ValueError, IndexError, OverflowError, struct.error)

Value = int | float | str | bool | None

log = logging.getLogger(__name__)


class Status(StrEnum):
    """Feast's names of what became of a value."""

    PRESENT = "PRESENT"
    NULL_VALUE = "NULL_VALUE"
    NOT_FOUND = "NOT_FOUND"
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"


@dataclass
class FeatureRow:
    """One customer's features.

    Attributes:
        values: `view:feature` -> value; None unless its status is PRESENT.
        statuses: `view:feature` -> status.
        views: view -> status of its row; NULL_VALUE where its event time cannot be read.
        ages_s: view -> seconds from its event time to the instant asked for, where it has one.
        corridor: the corridor whose features these are, if one is known.
        unreadable: `view:feature` whose bytes in the store are no value of its type; NULL_VALUE.
    """

    values: dict[str, Value] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    views: dict[str, Status] = field(default_factory=dict)
    ages_s: dict[str, float] = field(default_factory=dict)
    corridor: str | None = None
    unreadable: list[str] = field(default_factory=list)


class OnlineReader:
    """Reads features from the online store.

    `catalog` may be replaced while requests are read: a plan keeps the one it was made from.

    Trap: the store holds the latest values only. Asking as of an instant in the past changes
    ages and expiry, not the values; a value later than that instant has a negative age.
    """

    def __init__(self, catalog: Catalog, connection: StoreConnection) -> None:
        self.catalog = catalog
        self.connection = connection
        self._customer_key = entity_key_encoder(CUSTOMER_KEY, catalog.project)
        self._corridor_key = entity_key_encoder(CORRIDOR_KEY, catalog.project)
        self._told: set[str] = set()

    def plan(self, refs: Iterable[str]) -> ReadPlan:
        """Work out how to read these references.

        Raises:
            UnknownFeatureError: a reference is unknown, not a scalar, or of an entity other than
                customer and corridor.
        """
        return plan_read(self.catalog, refs)

    async def read(
        self, plan: ReadPlan, customers: Sequence[str], as_of: datetime, corridor: str | None = None
    ) -> list[FeatureRow]:
        """Features of each customer, in order, as known at an aware instant.

        Raises:
            StoreUnavailableError: the store is away or too slow.
        """
        as_of_us = to_epoch_us(as_of)
        corridor_fields = plan.corridor.fields
        commands: list[HashRead] = []
        if plan.customer.fields:
            commands = [(self._customer_key(name), plan.customer.fields) for name in customers]
        if corridor is not None and corridor_fields:
            commands.append((self._corridor_key(corridor), corridor_fields))
        answers = await self.connection.read(commands) if commands else []

        rows = [FeatureRow(corridor=corridor) for _ in customers]
        if plan.customer.fields:
            for row, answer in zip(rows, answers, strict=False):
                _fill(row, plan.customer, answer, as_of_us)
        if corridor_fields:
            await self._join_corridors(plan, rows, corridor, answers, as_of_us)
        self._tell_unreadable(rows)
        return rows

    async def _join_corridors(
        self,
        plan: ReadPlan,
        rows: Sequence[FeatureRow],
        corridor: str | None,
        answers: Sequence[HashValues],
        as_of_us: int,
    ) -> None:
        if corridor is None:
            for row in rows:
                row.corridor = _corridor_of(row)
            by_corridor = await self._read_corridors(plan, {row.corridor for row in rows})
        else:
            by_corridor = {corridor: answers[-1]}
        absent: HashValues = [None] * len(plan.corridor.fields)
        for row in rows:
            _fill(row, plan.corridor, by_corridor.get(row.corridor, absent), as_of_us)
            for ref in plan.hidden:
                del row.values[ref], row.statuses[ref]
            for view in plan.hidden_views:
                del row.views[view]
                row.ages_s.pop(view, None)

    async def _read_corridors(
        self, plan: ReadPlan, corridors: Iterable[str | None]
    ) -> dict[str | None, HashValues]:
        names = [name for name in corridors if name is not None]
        if not names:
            return {}
        commands = [(self._corridor_key(name), plan.corridor.fields) for name in names]
        answers = await self.connection.read(commands)
        return dict(zip(names, answers, strict=True))

    def _tell_unreadable(self, rows: Sequence[FeatureRow]) -> None:
        """Log each feature once; the counter in /metrics goes on counting."""
        new = {ref for row in rows for ref in row.unreadable} - self._told
        if new:
            self._told |= new
            log.warning(
                "the online store holds what is no value of %s: read as missing; "
                "materialize or replay again",
                ", ".join(sorted(new)),
            )


def _corridor_of(row: FeatureRow) -> str | None:
    value = row.values.get(CORRIDOR_REF)
    return value if isinstance(value, str) else None


def _value(raw: bytes, text: bool) -> Value:
    value = decode_value(raw)
    if value is not None and isinstance(value, str) is not text:
        raise ValueError("a text where a number belongs, or the reverse")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError("more than 64 bits")
    return value


def _fill(row: FeatureRow, plan: HashPlan, answer: HashValues, as_of_us: int) -> None:
    values, statuses = row.values, row.statuses
    for view in plan.views:
        stamp = answer[view.at]
        # A proto Timestamp of 1970-01-01T00:00:00 is empty, which is not absent.
        if stamp is None:
            outcome = Status.NOT_FOUND
        else:
            try:
                age_us = as_of_us - decode_timestamp(stamp)
                row.ages_s[view.name] = age_us / 1e6
                expired = view.ttl_us is not None and age_us > view.ttl_us
                outcome = Status.OUTSIDE_MAX_AGE if expired else Status.PRESENT
            except _UNREADABLE:
                outcome = Status.NULL_VALUE
                row.unreadable.extend(view.refs)
        row.views[view.name] = outcome
        if outcome is not Status.PRESENT:
            for ref in view.refs:
                values[ref] = None
                statuses[ref] = outcome
            continue
        for at, (ref, text) in enumerate(zip(view.refs, view.texts, strict=True), view.at + 1):
            raw = answer[at]
            try:
                value = None if raw is None else _value(raw, text)
            except _UNREADABLE:
                value = None
                row.unreadable.append(ref)
            values[ref] = value
            if value is not None:
                statuses[ref] = Status.PRESENT
            else:
                # A field never written: a feature added since the row's last write.
                statuses[ref] = Status.NOT_FOUND if raw is None else Status.NULL_VALUE
