"""A customer's profile: features, segment, embedding, and what was predicted of them last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.forgotten import Forgotten
from serving.catalog import Catalog, UnknownFeatureError
from serving.feature_row import Status, Value
from serving.messages import Decision, FeaturesRequest
from serving.predict import Service
from serving.problems import RequestError
from serving.read_plan import CUSTOMER_KEY
from serving.routing import SHADOW
from serving.scored import ScoredBatch

# The features of customers' views that are these: `customer_embedding:embedding`, for one.
SEGMENT, EMBEDDING = "segment", "embedding"
_PREDICTIONS = 5  # remembered of a customer
_SCALARS = frozenset({"Int32", "Int64", "Float32", "Float64", "String", "Bool"})
_VECTORS = frozenset({"Array(Float32)", "Array(Float64)"})
_LONGEST_ID = 256


class PastPrediction(msgspec.Struct, kw_only=True):
    """A prediction that this server has answered."""

    model: str
    version: str
    alias: str
    at: datetime
    request_id: str
    prediction: float
    unit: str | None
    score: float
    probability: float | None
    corridor: str | None
    decision: Decision | None


class ProfileResponse(msgspec.Struct, kw_only=True):
    """What is known of a customer.

    Attributes:
        features: view:feature -> value, of every feature view of customers; null unless its
            status is PRESENT.
        statuses: as in a prediction; ages_s likewise.
        segment: null while no view has it, or the customer is in none.
        embedding: likewise.
        predictions: the last that this server process has made of the customer, newest first.
    """

    customer: str
    request_id: str
    as_of: datetime
    features: dict[str, Value]
    statuses: dict[str, Status]
    ages_s: dict[str, float]
    segment: str | int | None
    embedding: list[float] | None
    predictions: list[PastPrediction]


class RecentPredictions:
    """The last predictions of the customers seen most recently; an observer of the service.

    Args:
        most_customers: remembered; the one seen longest ago makes room.

    Trap: it knows what this process has answered, since its start, and nothing else.
    """

    def __init__(self, most_customers: int) -> None:
        self._most = most_customers
        self._of: OrderedDict[str, list[tuple[Any, ...]]] = OrderedDict()

    def __call__(self, batch: ScoredBatch) -> None:
        """Take note of a batch: about 1 µs a customer."""
        served = batch.served
        if served.alias == SHADOW:
            return  # never returned to anybody
        of, most = self._of, self._most
        same = (batch.model, served.version, served.alias, batch.at, batch.request_id, served.unit)
        probabilities, decisions = batch.probabilities, batch.decisions
        for row, customer in enumerate(batch.customers):
            known = of.get(customer)
            if known is None:
                if len(of) >= most:
                    of.popitem(last=False)
                known = of[customer] = []
            else:
                of.move_to_end(customer)
                del known[: 1 - _PREDICTIONS]
            known.append(
                (
                    same,
                    batch.predictions[row],
                    batch.scores[row],
                    None if probabilities is None else probabilities[row],
                    batch.corridors[row],
                    None if decisions is None else decisions[row],
                )
            )

    def forget(self, forgotten: Forgotten) -> None:
        """Drop what was predicted of customers before they were forgotten."""
        if not forgotten or not self._of:
            return
        names = list(self._of)
        latest_us = [to_epoch_us(self._of[name][-1][0][3]) for name in names]
        hidden = forgotten.hidden(pa.array(names, pa.string()), np.array(latest_us, np.int64))
        for at in np.flatnonzero(hidden).tolist():
            self._of.pop(names[at], None)

    def of(self, customer: str) -> list[PastPrediction]:
        """Newest first; empty for whom nothing is known."""
        found = []
        for same, prediction, score, probability, corridor, decision in reversed(
            self._of.get(customer, ())
        ):
            model, version, alias, at, request_id, unit = same
            found.append(
                PastPrediction(
                    model=model,
                    version=version,
                    alias=alias,
                    at=at,
                    request_id=request_id,
                    prediction=float(prediction),
                    unit=unit,
                    score=float(score),
                    probability=None if probability is None else float(probability),
                    corridor=corridor,
                    decision=decision,
                )
            )
        return found


class Profiles:
    """Answers `GET /v1/profile/{customer}`.

    Args:
        service: reads the features.
        recent: the last predictions.
    """

    def __init__(self, service: Service, recent: RecentPredictions) -> None:
        self._service = service
        self._recent = recent
        self._catalog: Catalog | None = None
        self._refs: list[str] = []

    async def of(self, customer: str, request_id: str) -> ProfileResponse:
        """All that is known of a customer; of one whom nobody knows, nothing.

        Raises:
            RequestError: the id is longer than any customer's.
            StoreUnavailableError: the online store does not answer.
        """
        if not 1 <= len(customer) <= _LONGEST_ID:
            raise RequestError(
                "customer", expected=f"an id of 1 to {_LONGEST_ID} characters", action="shorten it"
            )
        as_of = self._service.clock()
        values: dict[str, Any] = {}
        statuses: dict[str, Status] = {}
        ages_s: dict[str, float] = {}
        refs = self._known_refs()
        if refs:
            message = FeaturesRequest(features=refs, customer=customer, as_of=as_of)
            answer = await self._service.features(message, request_id)
            row = answer.rows[0]
            values, statuses, ages_s = dict(row.values), dict(row.statuses), dict(row.ages_s)
        segment = _take(values, SEGMENT)
        embedding = _take(values, EMBEDDING)
        return ProfileResponse(
            customer=customer,
            request_id=request_id,
            as_of=as_of,
            features=values,
            statuses=statuses,
            ages_s=ages_s,
            segment=segment,
            embedding=embedding,
            predictions=self._recent.of(customer),
        )

    def _known_refs(self) -> list[str]:
        """The features of every customer's view, worked out once a catalogue."""
        catalog = self._service.catalog
        if catalog is not self._catalog:
            try:
                self._refs = _customer_refs(catalog, _SCALARS | _VECTORS)
                self._service.reader.plan(self._refs)
            except UnknownFeatureError:  # a kind of vector that the reader cannot decode
                self._refs = _customer_refs(catalog, _SCALARS)
            self._catalog = catalog
        return self._refs


def _customer_refs(catalog: Catalog, kinds: frozenset[str]) -> list[str]:
    return [
        f"{view.name}:{feature}"
        for view in catalog.views.values()
        if view.join_key == CUSTOMER_KEY
        for feature, dtype in view.features.items()
        if dtype in kinds
    ]


def _take(values: dict[str, Any], feature: str) -> Any:
    """Move a feature of that name out of the others; its value, None where none has it."""
    found = [ref for ref in values if ref.partition(":")[2] == feature]
    taken: Sequence[Any] = [values.pop(ref) for ref in found]
    return next((value for value in taken if value is not None), None)
