"""The scoring flow: a champion's predictions for all customers, into both stores as a view."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.outcomes import may_pass, table_rows
from training.scoring import Scores, publish_scores, score_all
from training.session_duration import NAME


@task(
    name="score",
    task_run_name="score {model}",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def score_customers(model: str, settings: Settings, at: datetime | None) -> Scores:
    """The champion's predictions, features as of the instant."""
    scores = score_all(settings, model, at)
    get_run_logger().info(
        "%s customers scored by %s version %s as of %s",
        f"{scores.rows.height:,}",
        model,
        scores.version,
        f"{scores.at:%F %T}",
    )
    return scores


@task(
    name="write view",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def write_scores(settings: Settings, scores: Scores) -> int:
    """Into both stores; the same instant writes the same file again."""
    return publish_scores(settings, scores)


@flow(
    name="score",
    flow_run_name="score {model}",
    description="A champion's predictions for all customers, into both stores.",
    timeout_seconds=7_200,
    persist_result=False,
)
def score(model: str = NAME, at: datetime | None = None) -> int:
    """Score all customers seen within 90 days; returns how many.

    Args:
        model: its name, as in the registry.
        at: as of when, with time zone; None: as of the last event.

    Raises:
        ModelError: the model is not scored, or has no champion.
        DatasetError: no customer was seen.
    """
    settings = Settings.from_env()
    scores = score_customers(model, settings, at)
    written: int = write_scores(settings, scores)
    described = scores.rows.select(f"{model}_prediction", f"{model}_probability").describe()
    create_table_artifact(
        key=f"{model.replace('_', '-')}-scores",
        table=table_rows(described),
        description=f"{model} version {scores.version} as of {scores.at:%F %T}",
    )
    return written
