"""What observers are told of a prediction."""

from __future__ import annotations

import asyncio
import math

import msgspec
import pytest
from mlflow import MlflowClient

from serving.app import create_app
from serving.catalog import Catalog
from serving.messages import Context, PredictRequest, PredictResponse
from serving.scored import ScoredBatch
from serving.settings import ServingSettings
from tests.serving.conftest import NOW, SERVICE, Training, Write

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]


def test_observers_see_what_was_scored_and_harm_no_answer(  # noqa: PLR0917 - fixtures
    settings: ServingSettings,
    catalog: Catalog,
    registry: MlflowClient,
    register: Training,
    write: Write,
    caplog: pytest.LogCaptureFixture,
) -> None:
    register()
    write("customer_profile", "c1", {"tenure_days": 400})
    seen: list[ScoredBatch] = []

    def broken(batch: ScoredBatch) -> None:
        raise RuntimeError("full disk")

    async def predict() -> PredictResponse:
        service = create_app(settings, catalog, registry, clock=lambda: NOW).service
        await asyncio.to_thread(service.champions.refresh)
        service.observers[:] = [broken, seen.append]
        asked = PredictRequest(customers=["c1", "c2"], context=Context(amount_minor=7))
        try:
            return await service.predict(SERVICE, asked, "id-1")
        finally:
            await service.reader.connection.close()

    answer = asyncio.run(predict())
    (batch,) = seen
    assert "an observer failed on request id-1" in caplog.text
    assert (batch.request_id, batch.at) == ("id-1", NOW)
    assert (batch.model, batch.version, batch.alias) == (SERVICE, answer.version, "champion")
    assert list(batch.customers) == ["c1", "c2"]
    assert batch.context == Context(amount_minor=7)
    inputs = catalog.service_inputs(SERVICE).inputs
    column = [item.ref for item in inputs].index("customer_profile:tenure_days")
    assert batch.matrix[0, column] == 400
    assert math.isnan(batch.matrix[1, column])
    shown = msgspec.json.decode(msgspec.json.encode(answer))["predictions"]
    for at, row in enumerate(shown):
        assert (row["score"], row["prediction"]) == (batch.scores[at], batch.predictions[at])
        assert row["statuses"] == {ref: str(s) for ref, s in batch.statuses[at].by_ref.items()}
