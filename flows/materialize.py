"""The materialisation flow: bring the batch feature views' latest rows online.

The same as `feast materialize-incremental`, for the batch views that have rows; stream views get
online by the dataflow.
"""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store


@task(
    name="materialize view",
    task_run_name="materialize {view}",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def materialize_view(view: str, settings: Settings, until: datetime) -> float:
    """Write a view's rows since its last materialisation to the online store; returns seconds.

    Trap: the first time, Feast looks back one TTL from the *clock*, not from `until`: rows of a
    world simulated in the far past never get online this way.
    """
    began = time.perf_counter()
    open_store(settings).materialize_incremental(end_date=until, feature_views=[view])
    seconds = time.perf_counter() - began
    get_run_logger().info("%s is online up to %s (%.1f s)", view, f"{until:%F %T}", seconds)
    return seconds


@flow(
    name="materialize",
    description="Bring batch features online (feast materialize-incremental).",
    timeout_seconds=7_200,
    persist_result=False,
)
def materialize(until: datetime | None = None) -> list[str]:
    """Materialise every batch view that has offline rows, one after the other.

    Args:
        until: up to which event time, with time zone; now unless given.

    Returns:
        The views materialised.
    """
    settings = Settings.from_env()
    logger = get_run_logger()
    until = until or datetime.now(UTC)
    done: list[dict[str, Any]] = []
    for view in batch_views(settings):
        if not _has_rows(settings.batch_table(view)):
            logger.warning("%s has no offline rows: left out", view)
            continue
        seconds = materialize_view(view, settings, until)
        done.append({"view": view, "until": until.isoformat(), "seconds": round(seconds, 1)})
    if not done:
        logger.warning("no batch view has offline rows: nothing to bring online")
    create_table_artifact(key="materialized-views", table=done, description="Brought online")
    return [row["view"] for row in done]


def batch_views(settings: Settings) -> list[str]:
    """Names of the applied views that are tagged as batch."""
    views = open_store(settings).list_batch_feature_views()
    return sorted(view.name for view in views if view.tags.get("kind") == "batch")


def _has_rows(table: Path) -> bool:
    return next(table.rglob("*.parquet"), None) is not None
