"""The watch on labels: tells when enough have arrived for a model to be retrained."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.events import LABELS_ARRIVED, tell
from flows.outcomes import may_pass
from training.new_labels import LABELLED, NewLabels, new_labels


@task(
    name="count labels",
    task_run_name="count labels of {model}",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def count_labels(model: str, settings: Settings) -> NewLabels:
    """Labels that arrived since the champion was trained."""
    return new_labels(settings, model)


@flow(
    name="watch_labels",
    description="Start a model's retraining once enough labels have arrived since its last one.",
    timeout_seconds=1_800,
    persist_result=False,
)
def watch_labels(enough: int = 10_000) -> dict[str, int]:
    """Count each model's new labels; returns them, by model.

    Where there are `enough`, the event `daima.labels.arrived` of the model is emitted, which starts
    its retraining. A new champion counts anew; while candidates are rejected, each look tells
    again.

    Args:
        enough: labels.

    Raises:
        DatasetError: there is no archive of events.
    """
    settings = Settings.from_env()
    counts: dict[str, int] = {}
    for model in LABELLED:
        found: NewLabels = count_labels(model, settings)
        counts[model] = found.count
        get_run_logger().info("%s: %s labels since %s", model, f"{found.count:,}", found.since)
        if found.count >= enough:
            tell(LABELS_ARRIVED, model, {"labels": found.count, "enough": enough})
    return counts
