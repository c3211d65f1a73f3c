"""After the embedding has changed: models that were trained on another version are retrained.

Until then they answer as if nobody had a vector.
"""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.events import EMBEDDING_CHANGED, tell
from flows.outcomes import may_pass
from training.embedding.dependents import outdated


@task(
    name="retrain outdated models",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=60,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def tell_outdated(settings: Settings) -> dict[str, int]:
    """Tell of each model whose champion was trained on another embedding version than serves.

    The event `daima.embedding.changed` of the model starts its retraining, where it is deployed.

    Returns:
        Model -> the version that its champion was trained on.
    """
    found: dict[str, int] = outdated(settings)
    for model, version in found.items():
        get_run_logger().warning(
            "%s was trained on embedding version %s, which serves no more: it answers without "
            "vectors until its retraining, which is asked for",
            model,
            version,
        )
        tell(EMBEDDING_CHANGED, model, {"trained_on": version})
    return found
