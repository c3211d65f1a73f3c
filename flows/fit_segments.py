"""The segments' flow: fit corridors' distributions, place customers, and refresh both views."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.outcomes import inline_picture, may_pass, table_rows
from training.configuration import load_config
from training.segments import NAME, Config, Segments, fit_segments, publish, survival_pictures
from training.sessions import Observed, observed_sessions


@task(
    name="observe sessions",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def observe(settings: Settings, start: datetime | None, end: datetime | None) -> Observed:
    """The window's sessions, open ones included."""
    found = observed_sessions(settings, start, end)
    get_run_logger().info(
        "%s sessions, %s of them open", f"{found.frame.height:,}", (~found.frame["ended"]).sum()
    )
    return found


@task(name="fit", timeout_seconds=1_800, cache_policy=NO_CACHE, persist_result=False)
def fit(observed: Observed, config: Config) -> Segments:
    """All corridors' distributions, and every customer's place."""
    found = fit_segments(observed, config)
    for what, count in found.left_out.items():
        if count:
            get_run_logger().info("%s sessions %s are left out", f"{count:,}", what)
    return found


@task(
    name="write views",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def write_views(settings: Settings, segments: Segments, at: datetime) -> dict[str, int]:
    """Both views into both stores; the same window writes the same files again."""
    return publish(settings, segments, at)


@task(name="publish artifacts", timeout_seconds=300, cache_policy=NO_CACHE, persist_result=False)
def show(segments: Segments) -> None:
    """Tables and pictures on the run's page."""
    for name, found in segments.quantities.items():
        create_table_artifact(
            key=f"segments-{name.replace('_', '-')}",
            table=table_rows(found.table.sort("values", descending=True)),
            description=f"Weibull distributions of {name} by corridor",
        )
    counts = segments.customers["segment"].value_counts(sort=True).to_dicts()
    create_table_artifact(key="segments-customers", table=counts, description="Customers")
    for name, picture in survival_pictures(segments).items():
        create_image_artifact(
            key=name.removesuffix(".png").replace("_", "-"),
            image_url=inline_picture(picture),
            description="Survival and hazard of the busiest corridors",
        )


@flow(
    name="fit_segments",
    description="Weibull distributions by corridor and customers' segments, into both stores.",
    timeout_seconds=7_200,
    persist_result=False,
)
def fit_segments_flow(
    start: datetime | None = None,
    end: datetime | None = None,
    changes: dict[str, Any] | None = None,
) -> dict[str, int]:
    """Refresh the views `corridor_durations` and `customer_segment`.

    Args:
        start: of the sessions' window, with time zone; None for the first event there is.
        end: of that window; None for the last event.
        changes: other values of `configs/segments.yaml`.

    Returns:
        Rows by view.

    Raises:
        DatasetError: the window holds no session of a known corridor that lasts.
    """
    settings = Settings.from_env()
    config = load_config(Config, NAME, changes)
    observed = observe(settings, start, end)
    segments = fit(observed, config)
    written: dict[str, int] = write_views(settings, segments, observed.window_end)
    show(segments)
    get_run_logger().info("wrote %s", written)
    return written
