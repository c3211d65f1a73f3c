"""The only online reader: features of customers, corridors and payees, with status and age.

A customer's feature views share one hash, so one pipelined round trip of HMGETs answers any
number of customers; the corridor's views take a second one, which is saved where the request
names the corridor. Statuses bear Feast's names and tell the truth, which Feast's own read of 0.67
does not: it reports expired values and absent entities as PRESENT.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.redis_layout import entity_key_encoder
from serving.catalog import Catalog
from serving.feature_row import FeatureRow, Status
from serving.hash_reading import fill, fill_absent
from serving.outlook import add_outlook
from serving.read_plan import (
    CORRIDOR_KEY,
    CORRIDOR_REF,
    COUNTERPARTY_KEY,
    CUSTOMER_KEY,
    HashPlan,
    ReadPlan,
    plan_read,
)
from serving.store_connection import HashRead, HashValues, StoreConnection
from serving.vectors import Keys, VectorReader, warm_kernels

if TYPE_CHECKING:
    from serving.models import ServedModel

log = logging.getLogger(__name__)

_MOST_VERSIONS = 64
_MOST_PLANS = 256
_TELL_EVERY_S = 60.0


class OnlineReader:
    """Reads features from the online store.

    `catalog` may be replaced while requests are read: a plan keeps the one it was made from.

    Trap: the store holds the latest values only. Asking as of an instant before a key's latest
    event changes ages and expiry; its features are those of the events that the state still has.
    """

    def __init__(self, catalog: Catalog, connection: StoreConnection) -> None:
        self.catalog = catalog
        self.connection = connection
        self._customer_key = entity_key_encoder(CUSTOMER_KEY, catalog.project)
        self._corridor_key = entity_key_encoder(CORRIDOR_KEY, catalog.project)
        self._counterparty_key = entity_key_encoder(COUNTERPARTY_KEY, catalog.project)
        self._keys = Keys(self._customer_key, self._corridor_key, self._counterparty_key)
        self._vectors: dict[int, VectorReader] = {}
        self._plans: dict[tuple[str, ...], ReadPlan] = {}
        self._planned_for = catalog
        self._told: set[str] = set()
        self._tell_again_s: dict[str, float] = {}
        warm_kernels()

    def plan(self, refs: Iterable[str]) -> ReadPlan:
        """Work out how to read these references.

        Raises:
            UnknownFeatureError: a reference is unknown, not a scalar, or of an entity other than
                customer, corridor and counterparty.
        """
        refs = tuple(refs)
        if self._planned_for is not self.catalog or len(self._plans) > _MOST_PLANS:
            self._planned_for, self._plans = self.catalog, {}
        found = self._plans.get(refs)
        if found is None:
            found = self._plans[refs] = plan_read(self.catalog, refs)
        return found

    def vectors(self, served: ServedModel, clock: Callable[[], datetime]) -> VectorReader:
        """What reads and scores rows of a version's matrix; the same as long as it serves."""
        found = self._vectors.get(id(served))
        if found is None or found.served is not served:
            if len(self._vectors) >= _MOST_VERSIONS:  # those of former versions
                self._vectors.clear()
            found = VectorReader(served, self.connection, self._keys, clock)
            self._vectors[id(served)] = found
        return found

    async def read(
        self,
        plan: ReadPlan,
        customers: Sequence[str],
        as_of: datetime,
        corridor: str | None = None,
        counterparty: str | None = None,
    ) -> list[FeatureRow]:
        """Features of each customer, in order, as of an aware instant.

        `corridor` and `counterparty` hold for all customers; a corridor that is not given is that
        of each customer's session.

        Raises:
            StoreUnavailableError: the store is away or too slow.
        """
        as_of_us = to_epoch_us(as_of)
        wanted: list[HashRead] = []
        if plan.customer.fields:
            wanted = [(self._customer_key(name), plan.customer.fields) for name in customers]
        if corridor is not None and plan.corridor.fields:
            wanted.append((self._corridor_key(corridor), plan.corridor.fields))
        if counterparty is not None and plan.counterparty.fields:
            wanted.append((self._counterparty_key(counterparty), plan.counterparty.fields))
        answers = iter(await self.connection.read(wanted) if wanted else ())

        rows = [
            FeatureRow(
                # In the order asked for, whichever hash a value comes from.
                values=dict.fromkeys(plan.refs),
                statuses=dict.fromkeys(plan.refs, Status.NOT_FOUND),
                corridor=corridor,
            )
            for _ in customers
        ]
        if plan.customer.fields:
            fill(rows, plan.customer, [next(answers) for _ in rows], as_of_us)
        if plan.corridor.fields:
            if corridor is None:
                await self._join_own_corridors(plan, rows, as_of_us)
            else:
                _join(rows, plan.corridor, next(answers), as_of_us)
        if plan.counterparty.fields:
            answer = None if counterparty is None else next(answers)
            _join(rows, plan.counterparty, answer, as_of_us)
        self.tell_unreadable(ref for row in rows for ref in row.unreadable)
        if plan.derived:
            add_outlook(rows, plan.derived, as_of_us)
        for row in rows:
            _hide(row, plan)
        return rows

    async def _join_own_corridors(
        self, plan: ReadPlan, rows: Sequence[FeatureRow], as_of_us: int
    ) -> None:
        """Add to each row the features of its session's corridor."""
        for row in rows:
            value = row.values.get(CORRIDOR_REF)
            row.corridor = value if isinstance(value, str) else None
        names = list({row.corridor for row in rows if row.corridor is not None})
        parts: dict[str | None, FeatureRow] = {name: FeatureRow() for name in names}
        if names:
            fields = plan.corridor.fields
            answers = await self.connection.read(
                [(self._corridor_key(name), fields) for name in names]
            )
            fill(list(parts.values()), plan.corridor, answers, as_of_us)
        parts[None] = FeatureRow()
        fill_absent(parts[None], plan.corridor)
        for row in rows:
            row.add(parts[row.corridor])

    def tell_other_versions(self, served: ServedModel, rows: int) -> None:
        """Log that vectors are left out, once a minute and model; the counter in /metrics counts
        all."""
        now_s = monotonic()
        if now_s < self._tell_again_s.get(served.name, now_s):
            return
        self._tell_again_s[served.name] = now_s + _TELL_EVERY_S
        log.warning(
            "%s version %s was trained on embedding version %s, and %s customers have vectors of "
            "another: it answers without them until it is retrained",
            served.name,
            served.version,
            served.inputs.embedding_version,
            rows,
        )

    def tell_unreadable(self, refs: Iterable[str]) -> None:
        """Log each feature once; the counter in /metrics goes on counting."""
        new = set(refs) - self._told
        if new:
            self._told |= new
            log.warning(
                "the online store holds what is no value of %s: read as missing; "
                "materialize again, or run daima rebuild",
                ", ".join(sorted(new)),
            )


def _join(
    rows: Sequence[FeatureRow], plan: HashPlan, answer: HashValues | None, as_of_us: int
) -> None:
    """Add to each row the features of one key; None: there is no key."""
    part = FeatureRow()
    if answer is None:
        fill_absent(part, plan)
    else:
        fill([part], plan, [answer], as_of_us)
    for row in rows:
        row.add(part)


def _hide(row: FeatureRow, plan: ReadPlan) -> None:
    for ref in plan.hidden:
        del row.values[ref], row.statuses[ref]
    for view in plan.hidden_views:
        del row.views[view]
        row.ages_s.pop(view, None)
