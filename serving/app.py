"""Putting the API together: reader, models, metrics and routes into one ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any

from litestar import Litestar
from litestar.types import Message, Scope

from serving.api import routes
from serving.catalog import Catalog, CatalogWatch
from serving.champions import Champions
from serving.messages import MAX_BODY_BYTES
from serving.metrics import Metrics
from serving.models import ModelLoader
from serving.online import OnlineReader
from serving.openapi import openapi_config
from serving.predict import Service, utc_now
from serving.problems import EXCEPTION_HANDLERS, request_id
from serving.settings import ServingSettings
from serving.store_connection import StoreConnection


def create_app(
    settings: ServingSettings,
    catalog: Catalog,
    registry: Any,
    clock: Callable[[], datetime] = utc_now,
) -> Litestar:
    """Build the API; it connects to nothing before it is started.

    Args:
        settings: store, alias and time limits.
        catalog: the features that can be served at the start (`load_catalog`); a `feast apply`
            into the settings' home replaces it.
        registry: an `mlflow.MlflowClient`.
        clock: the present, as an aware datetime.

    Trap: an app belongs to the event loop that starts it first; build another for another.
    """
    connection = StoreConnection(settings)
    reader = OnlineReader(catalog, connection)
    champions = Champions(
        ModelLoader(registry, reader, settings.alias),
        settings.reload_every,
        clock,
        CatalogWatch(settings.shared).reread,
    )
    metrics = Metrics(champions)
    service = Service(reader, champions, metrics, clock)

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        champions.start()
        try:
            yield
        finally:
            champions.stop()
            await connection.close()

    return Litestar(
        route_handlers=routes(service),
        lifespan=[running],
        middleware=[metrics.timed],
        before_send=[metrics.observe, _name_request],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(version("daima")),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
    )


async def _name_request(message: Message, scope: Scope) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [
            *message["headers"],
            (b"x-request-id", request_id(scope).encode()),
        ]
