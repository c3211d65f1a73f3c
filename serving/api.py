"""The routes of the API."""

from __future__ import annotations

from typing import Any

from litestar import MediaType, Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, RawBody
from litestar.response import Redirect

from feature_repo.contracts.errors import StoreUnavailableError
from serving.messages import (
    FeaturesRequest,
    FeaturesResponse,
    Liveness,
    ModelInfo,
    ModelsResponse,
    PredictRequest,
    PredictResponse,
    Readiness,
    RefusedVersion,
    read_message,
)
from serving.openapi import operation_with_body, problem_answers
from serving.overload import Gate
from serving.predict import Service
from serving.problems import request_id

AnyRequest = Request[Any, Any, Any]


def routes(service: Service, gate: Gate) -> list[HTTPRouteHandler]:
    """The handlers, answering with this service, ready until the gate drains."""

    @post(
        "/v1/predict/{model:str}",
        status_code=200,
        operation_class=operation_with_body(PredictRequest),
        responses=problem_answers(400, 401, 404, 413, 429, 503, 504),
    )
    async def predict(model: FromPath[str], body: RawBody, request: AnyRequest) -> PredictResponse:
        """Predict for 1 to 1000 customers; one that nobody knows gets a prediction too."""
        message = read_message(body, PredictRequest)
        return await service.predict(model, message, request_id(request.scope))

    @post(
        "/v1/features",
        status_code=200,
        operation_class=operation_with_body(FeaturesRequest),
        responses=problem_answers(400, 401, 413, 429, 503, 504),
    )
    async def features(body: RawBody, request: AnyRequest) -> FeaturesResponse:
        """Read features with their statuses and ages, by feature service or by view:feature."""
        message = read_message(body, FeaturesRequest)
        return await service.features(message, request_id(request.scope))

    @get("/v1/models")
    async def models() -> ModelsResponse:
        """List the versions that serve, and those refused with the reason."""
        line = service.champions.line
        return ModelsResponse(
            models=[
                ModelInfo(
                    name=model.name,
                    version=model.version,
                    alias=model.alias,
                    share=line.share_of(model),
                    golden_rows=model.golden_rows,
                    feature_service=model.inputs.feature_service,
                    features=tuple(item.ref for item in model.inputs.inputs),
                    schema_fingerprint=model.inputs.fingerprint,
                    loaded_at=model.loaded_at,
                    # The list of features stands above, whole.
                    tags={key: tag for key, tag in model.tags.items() if key != "features"},
                )
                for model in line.served()
            ],
            refused=[
                RefusedVersion(
                    name=slot.name,
                    version=refusal.version,
                    alias=slot.alias,
                    reason=refusal.reason,
                )
                for slot, refusal in line.refused.items()
            ],
            registry_error=line.registry_error,
        )

    @get("/health/live")
    async def live() -> Liveness:
        """Whether the process runs."""
        return Liveness()

    @get("/health/ready", responses={503: ResponseSpec(Readiness, generate_examples=False)})
    async def ready() -> Response[Readiness]:
        """Whether predictions can be had: the store answers and a model serves; else 503."""
        line = service.champions.line
        missing = []
        try:
            await service.reader.connection.ping()
        except StoreUnavailableError as error:
            missing.append(str(error))
        if gate.draining:
            missing.append("time: the process is about to end")
        if not line.models:
            missing.append("a model: none serves; run the retraining flow, or see /v1/models")
        served = {model.inputs.feature_service for model in line.models.values()}
        body = Readiness(
            ready=not missing,
            missing=missing,
            models={name: model.version for name, model in line.models.items()},
            not_serving=sorted(set(service.catalog.services) - served),
        )
        return Response(body, status_code=503 if missing else 200)

    @get("/metrics", media_type=MediaType.TEXT)
    async def metrics() -> Response[bytes]:
        """Prometheus metrics, as text."""
        return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4")

    @get("/", include_in_schema=False)
    async def home() -> Redirect:
        return Redirect("/schema")

    return [predict, features, models, live, ready, metrics, home]
