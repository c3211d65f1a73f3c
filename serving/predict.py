"""A prediction: features joined online, fed to the model, statuses and ages beside the answer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from typing import NamedTuple, cast

import numpy as np
from msgspec import UNSET

from feature_repo.contracts.errors import StoreUnavailableError
from serving.catalog import Catalog
from serving.champions import Champions
from serving.feature_answers import answer_features
from serving.feature_row import Status
from serving.messages import (
    EXAMPLES,
    Contribution,
    CustomerPrediction,
    FeaturesRequest,
    FeaturesResponse,
    PredictRequest,
    PredictResponse,
    customers_of,
)
from serving.metrics import Metrics
from serving.models import ServedModel
from serving.online import OnlineReader
from serving.policy_watch import PolicyWatch
from serving.problems import RequestError
from serving.rollback import ChallengerWatch
from serving.routing import Line
from serving.scored import Observer, ScoredBatch
from serving.vectors import NO_CONTEXT, Reading, Vectors

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The clock of everything that is not told another."""
    return datetime.now(UTC)


class _Asked(NamedTuple):
    """A request for predictions, as all its parts need it."""

    name: str
    request_id: str
    line: Line
    message: PredictRequest
    customers: Sequence[str]
    corridor: str | None
    champion: ServedModel


class _Part(NamedTuple):
    """Customers of a request whom one version is to answer, and the reading that has begun."""

    served: ServedModel
    customers: Sequence[str]
    reading: Reading


class _FaultyError(Exception):
    """A version gave numbers that are none."""


@dataclass(frozen=True)
class Service:
    """What answers requests: the reader, the models, the metrics and the clock.

    `observers` are told of every scored batch once its answer is built (see `scored.Observer`);
    `policies` turn scores into decisions; `watch` judges challengers.
    """

    reader: OnlineReader
    champions: Champions
    metrics: Metrics
    clock: Callable[[], datetime]
    observers: list[Observer] = field(default_factory=list)
    policies: PolicyWatch | None = None
    watch: ChallengerWatch | None = None

    @property
    def catalog(self) -> Catalog:
        """The features that can be read now."""
        return self.reader.catalog

    async def predict(
        self,
        name: str,
        message: PredictRequest,
        request_id: str,
    ) -> PredictResponse:
        """Predictions of one model for every customer of a request.

        Raises:
            UnknownModelError: no version of that name serves.
            RequestError: the customers or the corridors are not as they should be.
            StoreUnavailableError: the online store does not answer.
        """
        began_s = perf_counter()
        line = self.champions.line
        champion = line.get(name)
        customers, corridor = customers_of(message), _corridor_of(message)
        asked = _Asked(name, request_id, line, message, customers, corridor, champion)
        if name not in line.challengers:  # one version answers all
            part = self._start(champion, asked, customers, message.as_of)
            as_of, answers = await self._answered(asked, part)
        else:
            as_of = message.as_of or self.clock()
            answers = await self._split(asked, as_of, began_s)
        return PredictResponse(
            model=name,
            version=champion.version,
            alias=champion.alias,
            request_id=request_id,
            as_of=as_of,
            predictions=answers,
        )

    async def _split(
        self, asked: _Asked, as_of: datetime, began_s: float
    ) -> list[CustomerPrediction]:
        """Answers of champion and challenger, in the order of the customers."""
        split = asked.line.split(asked.name, asked.customers)
        # All are asked in this turn of the loop, whatever the order of waiting.
        parts = [
            self._start(served, asked, [asked.customers[at] for at in places], as_of)
            for served, places in split
        ]
        found: dict[int, CustomerPrediction] = {}
        for (served, places), part in zip(split, parts, strict=True):
            if served is asked.champion:
                _, answers = await self._answered(asked, part)
            else:
                answers = await self._tried(asked, part, as_of, began_s)
            found.update(zip(places, answers, strict=True))
        return [found[at] for at in range(len(asked.customers))]

    def _start(
        self,
        served: ServedModel,
        asked: _Asked,
        customers: Sequence[str],
        as_of: datetime | None,
    ) -> _Part:
        message = asked.message
        reading = self.reader.vectors(served, self.clock).read(
            customers, as_of, asked.corridor, message.counterparty, message.context or NO_CONTEXT
        )
        return _Part(served, customers, reading)

    async def _tried(
        self, asked: _Asked, part: _Part, as_of: datetime, began_s: float
    ) -> list[CustomerPrediction]:
        """A challenger's answers, or the champion's where it failed; its judges are told.

        They are told how long the whole request took, as its client waits for it, also where a
        deadline cut it short. A store that is away is no version's doing, and not judged.
        """
        failed, judged = False, True
        try:
            try:
                return (await self._answered(asked, part))[1]
            except StoreUnavailableError:
                judged = False
                raise
            except Exception:
                failed = True
                log.exception("the challenger failed, the champion answers")
            part = self._start(asked.champion, asked, part.customers, as_of)
            return (await self._answered(asked, part))[1]
        finally:
            if judged and self.watch is not None:
                challenger = asked.line.challengers[asked.name].model
                self.watch.observe(challenger, perf_counter() - began_s, failed=failed)

    async def _answered(
        self, asked: _Asked, part: _Part
    ) -> tuple[datetime, list[CustomerPrediction]]:
        """The answers to a part once it is read; observers are told of them."""
        vectors, explain = await part.reading, asked.message.explain
        if part.served is not asked.champion and not all(map(math.isfinite, vectors.predictions)):
            raise _FaultyError(f"{part.served.name} version {part.served.version}")
        explanations = await _explanations(part.served, vectors, explain) if explain else None
        batch = self._batch(asked, part, vectors)
        answers = _answers(batch, vectors.ages_s, explanations)
        self._observe(batch)
        return vectors.as_of, answers

    def _batch(self, asked: _Asked, part: _Part, vectors: Vectors) -> ScoredBatch:
        served, customers, context = part.served, part.customers, asked.message.context
        self.metrics.count_predictions(served, len(customers))
        self.metrics.count_statuses(vectors.statuses)
        for statuses in vectors.statuses:
            if statuses.unreadable:
                self.reader.tell_unreadable(statuses.unreadable)
        if vectors.others:
            self.metrics.count_other_versions(served, vectors.others)
            self.reader.tell_other_versions(served, vectors.others)
        policy = None if self.policies is None else self.policies.current
        decisions = None
        if policy is not None:
            decisions = policy.decisions(
                asked.name,
                vectors.corridors,
                None if context is None else context.amount_minor,
                scores=vectors.scores,
                predictions=vectors.predictions,
                probabilities=vectors.probabilities,
            )
        return ScoredBatch(
            request_id=asked.request_id,
            at=vectors.as_of,
            model=asked.name,
            line=asked.line,
            served=served,
            customers=customers,
            matrix=vectors.matrix,
            statuses=vectors.statuses,
            corridors=vectors.corridors,
            context=context,
            scores=vectors.scores,
            predictions=vectors.predictions,
            probabilities=vectors.probabilities,
            decisions=decisions,
            asked_corridor=asked.corridor,
            counterparty=asked.message.counterparty,
            classes=vectors.classes,
            anomalies=vectors.anomalies,
        )

    def _observe(self, batch: ScoredBatch) -> None:
        for observer in self.observers:
            try:
                observer(batch)
            except Exception:  # an onlooker's trouble is no customer's
                log.exception("an observer failed on request %s", batch.request_id)

    async def features(self, message: FeaturesRequest, request_id: str) -> FeaturesResponse:
        """The features asked for, of every customer of a request (see `feature_answers`)."""
        return await answer_features(
            self.reader, message, request_id, message.as_of or self.clock(), self.metrics
        )


def _corridor_of(message: PredictRequest) -> str | None:
    """The corridor that the request names, on top or in its context."""
    if message.context is None or message.context.corridor is None:
        return message.corridor
    if message.corridor not in (None, message.context.corridor):
        raise RequestError(
            "context.corridor",
            message.context.corridor,
            f"the same as corridor, {message.corridor}",
            "send it once",
            example=EXAMPLES[PredictRequest],
        )
    return message.context.corridor


def _answers(
    batch: ScoredBatch,
    ages_s: Sequence[dict[str, float]],
    explanations: Sequence[list[Contribution]] | None,
) -> list[CustomerPrediction]:
    served, unit = batch.served, batch.served.unit
    version, alias = served.version, served.alias
    chances, decisions = batch.probabilities, batch.decisions
    classes, percentiles = _classes(batch), _percentiles(batch)
    return [
        CustomerPrediction(
            customer=customer,
            version=version,
            alias=alias,
            prediction=batch.predictions[at],
            unit=unit,
            score=batch.scores[at],
            probability=None if chances is None else chances[at],
            classes=UNSET if classes is None else classes[at],
            anomaly=UNSET if batch.anomalies is None else batch.anomalies[at],
            percentiles=UNSET if percentiles is None else percentiles[at],
            decision=None if decisions is None else decisions[at],
            explanation=None if explanations is None else explanations[at],
            corridor=batch.corridors[at],
            # Encoded once a pattern: msgspec puts it into the answer as it is.
            statuses=cast("dict[str, Status]", batch.statuses[at].json),
            ages_s=ages_s[at],
        )
        for at, customer in enumerate(batch.customers)
    ]


def _classes(batch: ScoredBatch) -> list[dict[str, float]] | None:
    if batch.classes is None:
        return None
    names = batch.served.answer.classes
    return [dict(zip(names, row, strict=True)) for row in batch.classes]


def _percentiles(batch: ScoredBatch) -> list[dict[str, float]] | None:
    spread = batch.served.answer.percentiles
    if spread is None:
        return None
    found = spread.at(np.array(batch.predictions)).tolist()
    return [dict(zip(spread.names, row, strict=True)) for row in found]


async def _explanations(
    served: ServedModel, vectors: Vectors, top: int
) -> list[list[Contribution]]:
    """In a thread: a thousand rows take seconds, and LightGBM lets the loop go on meanwhile."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(None, served.explain, vectors.matrix, top)
    return [[Contribution(*part) for part in parts] for parts in found]
