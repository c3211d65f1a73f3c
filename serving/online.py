"""The only online reader: features of customers and of their corridors, with status and age.

A customer's feature views share one hash, so one pipelined round trip of HMGETs answers any
number of customers; the corridor's views take a second one, which is saved where the request
names the corridor. Values follow Feast's layout (`feature_repo/stores/redis_layout.py`); statuses
bear Feast's names and tell the truth, which Feast's own read of 0.67 does not: it reports expired
values and absent entities as PRESENT.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.features import SESSION_VIEW
from feature_repo.stores.redis_layout import (
    decode_timestamp,
    decode_value,
    entity_key_encoder,
    field_name,
    timestamp_field,
)
from serving.catalog import Catalog, UnknownFeatureError
from serving.store_connection import HashRead, HashValues, StoreConnection

CUSTOMER_KEY = "customer_id"
CORRIDOR_KEY = "corridor"
# Where a customer's corridor comes from when the request does not name it, best first.
CORRIDOR_REFS = (f"{SESSION_VIEW}:session_corridor", "customer_profile:main_corridor")
# What `decode_value` reads; arrays and bytes are no model input.
_SCALARS = frozenset({"Int32", "Int64", "Float32", "Float64", "String", "Bool"})

Value = int | float | str | bool | None


class Status(StrEnum):
    """Feast's names of what became of a value."""

    PRESENT = "PRESENT"
    NULL_VALUE = "NULL_VALUE"
    NOT_FOUND = "NOT_FOUND"
    OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"


@dataclass(frozen=True)
class ViewPlan:
    """One view's part of a hash read: its event time at `at`, its values after it."""

    name: str
    ttl_us: int | None
    refs: tuple[str, ...]
    at: int


@dataclass(frozen=True)
class HashPlan:
    """The fields to ask of one entity's hash, and the views they make up."""

    fields: tuple[bytes, ...]
    views: tuple[ViewPlan, ...]


@dataclass(frozen=True)
class ReadPlan:
    """What to read for an ordered list of feature references, worked out once a model.

    `hidden` is read in order to find the corridor and left out of the rows.
    """

    refs: tuple[str, ...]
    customer: HashPlan
    corridor: HashPlan
    hidden: tuple[str, ...]
    hidden_views: tuple[str, ...]


@dataclass
class FeatureRow:
    """One customer's features.

    Attributes:
        values: `view:feature` -> value; None unless its status is PRESENT.
        statuses: `view:feature` -> status.
        views: view -> status of its row: PRESENT, NOT_FOUND or OUTSIDE_MAX_AGE.
        ages_s: view -> seconds from its event time to the instant asked for, where it has one.
        corridor: the corridor whose features these are, if one is known.
    """

    values: dict[str, Value] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    views: dict[str, Status] = field(default_factory=dict)
    ages_s: dict[str, float] = field(default_factory=dict)
    corridor: str | None = None


class OnlineReader:
    """Reads features from the online store.

    Trap: the store holds the latest values only. Asking as of an instant in the past changes
    ages and expiry, not the values; a value later than that instant has a negative age.
    """

    def __init__(self, catalog: Catalog, connection: StoreConnection) -> None:
        self.catalog = catalog
        self.connection = connection
        self._customer_key = entity_key_encoder(CUSTOMER_KEY, catalog.project)
        self._corridor_key = entity_key_encoder(CORRIDOR_KEY, catalog.project)

    def plan(self, refs: Iterable[str]) -> ReadPlan:
        """Work out how to read these references.

        Raises:
            UnknownFeatureError: a reference is unknown, not a scalar, or of an entity other than
                customer and corridor.
        """
        refs = tuple(dict.fromkeys(refs))
        self.catalog.check_refs(refs)
        grouped = self._by_join_key(refs)
        hidden: tuple[str, ...] = ()
        if grouped[CORRIDOR_KEY]:
            known = {f"{view.name}:{name}" for view in self.catalog.views.values()
                     for name in view.features}  # fmt: skip
            hidden = tuple(ref for ref in CORRIDOR_REFS if ref in known and ref not in refs)
        shown_views = {_view_of(ref) for ref in refs}
        return ReadPlan(
            refs=refs,
            customer=self._hash_plan(self._by_join_key(refs + hidden)[CUSTOMER_KEY]),
            corridor=self._hash_plan(grouped[CORRIDOR_KEY]),
            hidden=hidden,
            hidden_views=tuple({_view_of(ref) for ref in hidden} - shown_views),
        )

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
        if not corridor_fields:
            return rows
        if corridor is None:
            for row in rows:
                row.corridor = _corridor_of(row)
            by_corridor = await self._read_corridors(plan, {row.corridor for row in rows})
        else:
            by_corridor = {corridor: answers[-1]}
        absent: HashValues = [None] * len(corridor_fields)
        for row in rows:
            _fill(row, plan.corridor, by_corridor.get(row.corridor, absent), as_of_us)
            for ref in plan.hidden:
                del row.values[ref], row.statuses[ref]
            for view in plan.hidden_views:
                del row.views[view]
                row.ages_s.pop(view, None)
        return rows

    async def _read_corridors(
        self, plan: ReadPlan, corridors: Iterable[str | None]
    ) -> dict[str | None, HashValues]:
        names = [name for name in corridors if name is not None]
        if not names:
            return {}
        commands = [(self._corridor_key(name), plan.corridor.fields) for name in names]
        answers = await self.connection.read(commands)
        return dict(zip(names, answers, strict=True))

    def _by_join_key(self, refs: Iterable[str]) -> dict[str, list[str]]:
        grouped: dict[str, list[str]] = {CUSTOMER_KEY: [], CORRIDOR_KEY: []}
        for ref in refs:
            view = self.catalog.views[_view_of(ref)]
            dtype = view.features[ref.partition(":")[2]]
            if dtype not in _SCALARS:
                raise UnknownFeatureError("features", ref, "a scalar", f"it is {dtype}")
            if view.join_key not in grouped:
                raise UnknownFeatureError(
                    "features", ref, f"a feature joined by {sorted(grouped)}", "leave it out"
                )
            grouped[view.join_key].append(ref)
        return grouped

    def _hash_plan(self, refs: Iterable[str]) -> HashPlan:
        by_view: dict[str, list[str]] = {}
        for ref in refs:
            by_view.setdefault(_view_of(ref), []).append(ref)
        fields: list[bytes] = []
        views = []
        for name, view_refs in by_view.items():
            ttl = self.catalog.views[name].ttl
            ttl_us = None if ttl is None else ttl // timedelta(microseconds=1)
            views.append(ViewPlan(name, ttl_us, tuple(view_refs), at=len(fields)))
            fields.append(timestamp_field(name))
            fields.extend(field_name(name, ref.partition(":")[2]) for ref in view_refs)
        return HashPlan(tuple(fields), tuple(views))


def _view_of(ref: str) -> str:
    return ref.partition(":")[0]


def _corridor_of(row: FeatureRow) -> str | None:
    for ref in CORRIDOR_REFS:
        value = row.values.get(ref)
        if isinstance(value, str):
            return value
    return None


def _fill(row: FeatureRow, plan: HashPlan, answer: HashValues, as_of_us: int) -> None:
    values, statuses = row.values, row.statuses
    for view in plan.views:
        stamp = answer[view.at]
        # A proto Timestamp of 1970-01-01T00:00:00 is empty, which is not absent.
        if stamp is None:
            outcome = Status.NOT_FOUND
        else:
            age_us = as_of_us - decode_timestamp(stamp)
            row.ages_s[view.name] = age_us / 1e6
            expired = view.ttl_us is not None and age_us > view.ttl_us
            outcome = Status.OUTSIDE_MAX_AGE if expired else Status.PRESENT
        row.views[view.name] = outcome
        if outcome is not Status.PRESENT:
            for ref in view.refs:
                values[ref] = None
                statuses[ref] = outcome
            continue
        for at, ref in enumerate(view.refs, view.at + 1):
            raw = answer[at]
            value = None if raw is None else decode_value(raw)
            values[ref] = value
            if value is not None:
                statuses[ref] = Status.PRESENT
            else:
                # A field never written: a feature added since the row's last write.
                statuses[ref] = Status.NOT_FOUND if raw is None else Status.NULL_VALUE
