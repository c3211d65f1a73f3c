"""Putting the API together: reader, models, metrics and routes into one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.metadata import version
from typing import Any

from litestar import Litestar
from litestar.types import Message, Scope

from feature_repo.stores.forgotten import ForgottenFile
from serving.api import routes
from serving.auth import TokenGuard
from serving.catalog import Catalog
from serving.champions import open_champions
from serving.customer_api import customer_routes
from serving.deadlines import Deadlines
from serving.edge import Edge
from serving.feature_log import open_feature_log
from serving.forgotten_watch import watch_forgotten
from serving.ingest import open_intake
from serving.messages import MAX_BODY_BYTES
from serving.metrics import Metrics
from serving.online import OnlineReader
from serving.openapi import example_model, openapi_config
from serving.overload import Gate
from serving.policy_watch import PolicyWatch
from serving.predict import Service, utc_now
from serving.problems import EXCEPTION_HANDLERS, request_id
from serving.profile import Profiles, RecentPredictions
from serving.rollback import ChallengerWatch
from serving.settings import ServingSettings
from serving.shadow import Shadow, shadow_fetch
from serving.similar_api import similar_routes
from serving.similar_index import SimilarIndex
from serving.store_connection import StoreConnection
from serving.watch import Watchers
from serving.watch_api import watch_routes


def create_app(
    settings: ServingSettings,
    catalog: Catalog,
    registry: Any,
    clock: Callable[[], datetime] = utc_now,
) -> Edge:
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
    champions = open_champions(settings, reader, registry, clock)
    metrics = Metrics(champions)
    policies = PolicyWatch(settings.policy_file, settings.kept_policy, clock)
    policies.load()
    watch = ChallengerWatch(lambda: champions.line, champions.withdraw, clock)
    service = Service(reader, champions, metrics, clock, policies=policies, watch=watch)
    shadow = Shadow(fetch=shadow_fetch(reader, clock))
    shadow.show(metrics)
    service.observers.append(shadow)
    recent = RecentPredictions(settings.recent_customers)
    service.observers.append(recent)
    intake = open_intake(settings, catalog.feature_set, metrics)
    feature_log = open_feature_log(settings, clock)
    service.observers.append(feature_log)
    shadow.observers.append(feature_log)
    metrics.watch(
        "daima_feature_log_rows",
        "Rows in the feature log",
        lambda: feature_log.written,
        rising=True,
    )
    metrics.watch(
        "daima_feature_log_dropped_rows",
        "Rows that the feature log had no room for",
        lambda: feature_log.dropped,
        rising=True,
    )
    gate = Gate(settings.in_flight)
    watchers = Watchers(settings.shared.redis, lambda: gate.draining)
    metrics.watch("daima_stream_watchers", "Watchers of predictions", lambda: watchers.count)
    metrics.watch(
        "daima_stream_dropped_watchers",
        "Watchers let go since they read too slowly",
        lambda: watchers.dropped,
        rising=True,
    )
    metrics.watch_gate(gate)
    similar = SimilarIndex(settings.shared)
    metrics.watch(
        "daima_similar_customers", "Customers whose nearest are known", lambda: similar.size
    )
    metrics.watch(
        "daima_similar_ignored_vectors",
        "Vectors of another embedding version than the index of nearest customers",
        lambda: similar.ignored,
        rising=True,
    )

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        champions.start()
        feature_log.start()
        shadow.start()
        similar.start()
        watching = asyncio.create_task(policies.run(settings.policy_every))
        forgetting = asyncio.create_task(
            watch_forgotten(ForgottenFile(settings.shared.offline), recent.forget)
        )
        try:
            yield
        finally:
            watching.cancel()
            forgetting.cancel()
            champions.stop()
            await asyncio.to_thread(shadow.stop)  # it may be reading on this loop
            await intake.close()
            await watchers.close()
            feature_log.stop()
            await asyncio.to_thread(similar.stop)
            await connection.close()

    inner = Litestar(
        route_handlers=[
            *routes(service, gate),
            *customer_routes(intake, Profiles(service, recent), policies),
            *watch_routes(service, watchers),
            *similar_routes(similar),
        ],
        lifespan=[running],
        middleware=[metrics.timed],
        before_send=[metrics.observe, _name_request],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(
            version("daima"),
            lambda: example_model(champions.line.models),
            asks_token=settings.token is not None,
        ),
        request_max_body_size=MAX_BODY_BYTES,
        logging_config=None,
    )
    return Edge(
        inner,
        service,
        TokenGuard(settings.token),
        gate,
        Deadlines(settings.deadline),
    )


async def _name_request(message: Message, scope: Scope) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [
            *message["headers"],
            (b"x-request-id", request_id(scope).encode()),
        ]
