"""The service of the API without HTTP: what the stream scorer makes its predictions with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from serving.catalog import Catalog
from serving.champions import open_champions
from serving.feature_log import open_feature_log
from serving.metrics import Metrics
from serving.online import OnlineReader
from serving.policy_watch import PolicyWatch
from serving.predict import Service, utc_now
from serving.rollback import ChallengerWatch
from serving.settings import ServingSettings
from serving.shadow import Shadow, shadow_fetch
from serving.store_connection import StoreConnection


@asynccontextmanager
async def running_service(
    settings: ServingSettings,
    catalog: Catalog,
    registry: Any,
    clock: Callable[[], datetime] = utc_now,
) -> AsyncIterator[Service]:
    """A service whose models and policy are kept level, and whose feature log is written.

    Args:
        catalog: the features that can be served.
        registry: an `mlflow.MlflowClient`.
        clock: the present.
    """
    connection = StoreConnection(settings)
    champions = open_champions(
        settings, reader := OnlineReader(catalog, connection), registry, clock
    )
    policies = PolicyWatch(settings.policy_file, settings.kept_policy, clock)
    policies.load()
    watch = ChallengerWatch(lambda: champions.line, champions.withdraw, clock)
    service = Service(reader, champions, Metrics(champions), clock, policies=policies, watch=watch)
    feature_log = open_feature_log(settings, clock)
    shadow = Shadow([feature_log], shadow_fetch(reader, clock))
    service.observers.extend([shadow, feature_log])
    champions.start()
    feature_log.start()
    shadow.start()
    watching = asyncio.create_task(policies.run(settings.policy_every))
    try:
        yield service
    finally:
        watching.cancel()
        champions.stop()
        await asyncio.to_thread(shadow.stop)  # it may be reading on this loop
        feature_log.stop()
        await connection.close()
