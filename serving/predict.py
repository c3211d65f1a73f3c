"""A prediction: features joined online, fed to the model, statuses and ages beside the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from serving.catalog import Catalog
from serving.champions import Champions
from serving.feature_row import FeatureRow
from serving.messages import (
    EXAMPLES,
    CustomerFeatures,
    CustomerPrediction,
    FeaturesRequest,
    FeaturesResponse,
    PredictRequest,
    PredictResponse,
    customers_of,
)
from serving.metrics import Metrics
from serving.online import OnlineReader
from serving.problems import RequestError
from serving.read_plan import ReadPlan


def utc_now() -> datetime:
    """The clock of everything that is not told another."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Service:
    """What answers requests: the reader, the models, the metrics and the clock."""

    reader: OnlineReader
    champions: Champions
    metrics: Metrics
    clock: Callable[[], datetime]

    @property
    def catalog(self) -> Catalog:
        """The features that can be read now."""
        return self.reader.catalog

    async def predict(self, name: str, message: PredictRequest, request_id: str) -> PredictResponse:
        """Predictions of one model for every customer of a request.

        Raises:
            UnknownModelError: no version of that name serves.
            RequestError: the customers are not as they should be.
            StoreUnavailableError: the online store does not answer.
        """
        customers = customers_of(message)
        model = self.champions.get(name)
        as_of = message.as_of or self.clock()
        rows = await self._read(model.plan, customers, as_of, message)
        scores, predictions = model.score(rows)
        self.metrics.count_predictions(model, len(rows))
        unit = model.unit
        return PredictResponse(
            model=model.name,
            version=model.version,
            alias=model.alias,
            request_id=request_id,
            as_of=as_of,
            predictions=[
                CustomerPrediction(
                    customer=customer,
                    prediction=prediction,
                    unit=unit,
                    score=score,
                    corridor=row.corridor,
                    statuses=row.statuses,
                    ages_s=row.ages_s,
                )
                for customer, row, score, prediction in zip(
                    customers, rows, scores.tolist(), predictions.tolist(), strict=True
                )
            ],
        )

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
        rows = await self._read(self.reader.plan(refs), customers, as_of, message)
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
        message: PredictRequest | FeaturesRequest,
    ) -> list[FeatureRow]:
        rows = await self.reader.read(
            plan, customers, as_of, message.corridor, message.counterparty
        )
        self.metrics.count_rows(rows)
        return rows
