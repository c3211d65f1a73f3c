"""A prediction: features joined online, fed to the model, statuses and ages beside the answer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, cast

from serving.catalog import Catalog
from serving.champions import Champions
from serving.feature_row import FeatureRow, Status
from serving.messages import (
    EXAMPLES,
    Contribution,
    CustomerFeatures,
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
from serving.read_plan import ReadPlan
from serving.rollback import ChallengerWatch
from serving.routing import Line
from serving.scored import Observer, ScoredBatch
from serving.vectors import NO_CONTEXT, Reading, ScoringError, Vectors

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
        line = self.champions.line
        champion = line.get(name)
        asked = _Asked(
            name, request_id, line, message, customers_of(message), _corridor_of(message)
        )
        if name not in line.challengers:  # one version answers all
            vectors = await self._start(champion, asked, asked.customers, message.as_of)
            batch = self._batch(asked, champion, asked.customers, vectors)
            answers = await self._answers(batch, vectors.ages_s, message.explain)
            self._observe(batch)
            as_of = vectors.as_of
        else:
            as_of = message.as_of or self.clock()
            answers = await self._split(asked, champion, as_of)
        return PredictResponse(
            model=name,
            version=champion.version,
            alias=champion.alias,
            request_id=request_id,
            as_of=as_of,
            predictions=answers,
        )

    async def _split(
        self, asked: _Asked, champion: ServedModel, as_of: datetime
    ) -> list[CustomerPrediction]:
        """Answers of champion and challenger, in the order of the customers."""
        parts = [
            (served, places, [asked.customers[at] for at in places])
            for served, places in asked.line.split(asked.name, asked.customers)
        ]
        # All are asked in this turn of the loop, whatever the order of waiting.
        started = [self._start(served, asked, customers, as_of) for served, _, customers in parts]
        found: dict[int, CustomerPrediction] = {}
        for (who, places, customers), reading in zip(parts, started, strict=True):
            vectors = await (reading if who is champion else self._tried(who, reading))
            served = who
            if vectors is None:
                served = champion
                vectors = await self._start(champion, asked, customers, as_of)
            batch = self._batch(asked, served, customers, vectors)
            answers = await self._answers(batch, vectors.ages_s, asked.message.explain)
            found.update(zip(places, answers, strict=True))
            self._observe(batch)
        return [found[at] for at in range(len(asked.customers))]

    def _start(
        self,
        served: ServedModel,
        asked: _Asked,
        customers: Sequence[str],
        as_of: datetime | None,
    ) -> Reading:
        message = asked.message
        return self.reader.vectors(served, self.clock).read(
            customers, as_of, asked.corridor, message.counterparty, message.context or NO_CONTEXT
        )

    async def _tried(self, challenger: ServedModel, reading: Reading) -> Vectors | None:
        """What a challenger made of its rows, and its judges told; None where it failed."""
        try:
            vectors = await reading
        except ScoringError:
            log.exception("the challenger failed, the champion answers")
            failed, took_s = True, 0.0
        else:
            failed = not all(map(math.isfinite, vectors.predictions))
            took_s = vectors.scoring_s
        if self.watch is not None:
            self.watch.observe(challenger, took_s, failed=failed)
        return None if failed else vectors

    def _batch(
        self, asked: _Asked, served: ServedModel, customers: Sequence[str], vectors: Vectors
    ) -> ScoredBatch:
        context = asked.message.context
        self.metrics.count_predictions(served, len(customers))
        self.metrics.count_statuses(vectors.statuses)
        for statuses in vectors.statuses:
            if statuses.unreadable:
                self.reader.tell_unreadable(statuses.unreadable)
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
        )

    async def _answers(
        self, batch: ScoredBatch, ages_s: Sequence[dict[str, float]], explain: int
    ) -> list[CustomerPrediction]:
        served, unit = batch.served, batch.served.unit
        version, alias = served.version, served.alias
        chances, decisions = batch.probabilities, batch.decisions
        explanations = await _explanations(batch, explain) if explain else None
        return [
            CustomerPrediction(
                customer=customer,
                version=version,
                alias=alias,
                prediction=batch.predictions[at],
                unit=unit,
                score=batch.scores[at],
                probability=None if chances is None else chances[at],
                decision=None if decisions is None else decisions[at],
                explanation=None if explanations is None else explanations[at],
                corridor=batch.corridors[at],
                # Encoded once a pattern: msgspec puts it into the answer as it is.
                statuses=cast("dict[str, Status]", batch.statuses[at].json),
                ages_s=ages_s[at],
            )
            for at, customer in enumerate(batch.customers)
        ]

    def _observe(self, batch: ScoredBatch) -> None:
        for observer in self.observers:
            try:
                observer(batch)
            except Exception:  # an onlooker's trouble is no customer's
                log.exception("an observer failed on request %s", batch.request_id)

    async def features(self, message: FeaturesRequest, request_id: str) -> FeaturesResponse:
        """The features asked for, of every customer of a request.

        Raises:
            RequestError: neither or both of `feature_service` and `features`.
            UnknownFeatureError: the registry does not hold what is asked for.
            StoreUnavailableError: the online store does not answer.
        """
        customers = customers_of(message)
        if (message.feature_service is None) == (not message.features):
            raise RequestError(
                "features",
                expected="either feature_service or features (a list of view:feature)",
                action=f"feature services are {sorted(self.catalog.services)}",
                example=EXAMPLES[FeaturesRequest],
            )
        if message.feature_service is not None:
            inputs = self.catalog.service_inputs(message.feature_service).inputs
            refs = [item.ref for item in inputs]
        else:
            refs = message.features or []
        as_of = message.as_of or self.clock()
        rows = await self._read(
            self.reader.plan(refs), customers, as_of, message.corridor, message.counterparty
        )
        return FeaturesResponse(
            request_id=request_id,
            as_of=as_of,
            rows=[
                CustomerFeatures(
                    customer=customer,
                    corridor=row.corridor,
                    values=row.values,
                    statuses=row.statuses,
                    ages_s=row.ages_s,
                )
                for customer, row in zip(customers, rows, strict=True)
            ],
        )

    async def _read(
        self,
        plan: ReadPlan,
        customers: Sequence[str],
        as_of: datetime,
        corridor: str | None,
        counterparty: str | None,
    ) -> list[FeatureRow]:
        rows = await self.reader.read(plan, customers, as_of, corridor, counterparty)
        self.metrics.count_rows(rows)
        return rows


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


async def _explanations(batch: ScoredBatch, top: int) -> list[list[Contribution]]:
    """In a thread: a thousand rows take seconds, and LightGBM lets the loop go on meanwhile."""
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(None, batch.served.explain, batch.matrix, top)
    return [[Contribution(*part) for part in parts] for parts in found]
