"""The parity flow: served vectors against the offline store, and an alarm where they differ."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.events import PARITY_ALARM, tell
from flows.outcomes import may_pass, table_rows
from training.parity import Parity, compare
from training.session_duration import NAME

# What is still under way to the stores is not judged.
SETTLED = timedelta(minutes=15)


@task(
    name="compare",
    task_run_name="compare {model}",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def compare_served(model: str, settings: Settings, start: datetime, end: datetime) -> Parity:
    """Count what is equal, different, missing and extra, by feature."""
    found = compare(settings, model, start, end)
    get_run_logger().info(
        "%s rows of %s: %.3f %% of their values are not equal",
        f"{found.rows:,}",
        model,
        100 * found.share,
    )
    return found


@flow(
    name="parity",
    flow_run_name="parity {model}",
    description="Compare served features with the offline store at the same instants.",
    timeout_seconds=3_600,
    persist_result=False,
)
def parity(
    model: str = NAME,
    start: datetime | None = None,
    end: datetime | None = None,
    bound: float = 0.01,
) -> float:
    """Compare a window; returns the share of values that are not equal.

    A feature of which more than `bound` are not equal raises an alarm: the event
    `daima.parity.alarm` of the model, which starts its retraining.

    Args:
        model: its name, as in the registry.
        start: of the window, with time zone; by default a day before its end.
        end: of the window; by default 15 minutes ago.
        bound: share of a feature's rows.

    Raises:
        DatasetError: nothing was logged in the window.
    """
    settings = Settings.from_env()
    end = end or datetime.now(UTC) - SETTLED
    start = start or end - timedelta(days=1)
    found: Parity = compare_served(model, settings, start, end)
    create_table_artifact(
        key=f"{model.replace('_', '-')}-parity",
        table=table_rows(found.features),
        description=f"{found.rows} served rows of {model} from {start:%F %T} to {end:%F %T}",
    )
    alarming = found.alarming(bound)
    if alarming:
        get_run_logger().warning("not equal in more than %.1f %%: %s", 100 * bound, alarming)
        tell(PARITY_ALARM, model, {"features": alarming, "share": found.share, "bound": bound})
    return found.share
