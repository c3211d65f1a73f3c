"""Features without a model: what `POST /v1/features` and profiles answer."""

from __future__ import annotations

from datetime import datetime

from serving.messages import (
    EXAMPLES,
    CustomerFeatures,
    FeaturesRequest,
    FeaturesResponse,
    customers_of,
)
from serving.metrics import Metrics
from serving.online import OnlineReader
from serving.problems import RequestError


async def answer_features(
    reader: OnlineReader,
    message: FeaturesRequest,
    request_id: str,
    as_of: datetime,
    metrics: Metrics,
) -> FeaturesResponse:
    """The features asked for, of every customer of a request, as of an aware instant.

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
            action=f"feature services are {sorted(reader.catalog.services)}",
            example=EXAMPLES[FeaturesRequest],
        )
    if message.feature_service is not None:
        inputs = reader.catalog.service_inputs(message.feature_service).inputs
        refs = [item.ref for item in inputs]
    else:
        refs = message.features or []
    plan = reader.plan(refs)
    rows = await reader.read(plan, customers, as_of, message.corridor, message.counterparty)
    metrics.count_rows(rows)
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
