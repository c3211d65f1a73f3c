"""The flow of customers' 90 days: a row a customer as of the last midnight, into both stores."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.outcomes import may_pass
from training.history import publish_history


@task(
    name="write history",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def write_history(settings: Settings, at: datetime) -> int:
    """The rows of the midnight at or before an instant, into both stores."""
    return publish_history(settings, at)


@flow(
    name="customer_history",
    description="What customers did in 90 days, as of midnight, into both stores.",
    timeout_seconds=3_600,
    persist_result=False,
)
def customer_history(at: datetime | None = None) -> int:
    """Refresh the view `customer_history`; how many customers.

    Args:
        at: an instant with time zone; None: now. A midnight that was written is written again.

    Raises:
        DatasetError: there are no events, or none before that midnight.
        StoreUnavailableError: the online store does not answer.
    """
    rows: int = write_history(Settings.from_env(), at or datetime.now(UTC))
    get_run_logger().info("wrote %s customers", rows)
    return rows
