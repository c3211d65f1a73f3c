"""The retraining flow: build the data set, train and judge, register, then promote or reject.

What is done lies in `training/` and `serving/release.py`; here is when, how often and for how long,
and what people see of it in the Prefect UI.
"""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.credentials import public_url
from feature_repo.contracts.settings import Settings
from flows.outcomes import inline_picture, may_pass, table_rows
from training.champion import load_champion
from training.configuration import load_config
from training.dataset import Examples
from training.evaluation.gate import Decision
from training.judging import Trained, judge
from training.model_card import model_card
from training.models import model_named
from training.registry import register, registered, reject, tags_of
from training.retraining import identity
from training.session_duration import NAME


@dataclass(frozen=True)
class Retrained:
    """What a run of the flow came to; `known`: the version was there before."""

    name: str
    version: int
    promoted: bool
    verdict: str
    known: bool = False


# Data sets and models pass between tasks in memory: hashing a million rows for a cache that no one
# reads would take longer than the join.
@task(
    name="build data set",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def build_dataset(
    model: str, settings: Settings, start: datetime | None, end: datetime | None, config: Any
) -> Examples:
    """The examples of the window with their features, point-in-time correct."""
    examples = model_named(model).build(settings, start, end, config)
    logger, dataset = get_run_logger(), examples.dataset
    first, last = examples.window
    logger.info(
        "%s of %s .. %s, %s inputs, data %s",
        ", ".join(f"{name} {count:,}" for name, count in examples.counts.items()),
        f"{first:%Y-%m-%d %H:%M}",
        f"{last:%Y-%m-%d %H:%M}",
        len(dataset.inputs),
        dataset.fingerprint,
    )
    if dataset.absent_views:
        logger.warning("no offline rows of %s", ", ".join(dataset.absent_views))
    return examples


@task(
    name="train and judge",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=3_600,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_and_judge(
    model: str, settings: Settings, examples: Examples, config: Any
) -> tuple[Trained, Decision]:
    """Train on the earlier part, judge on the latest: against the champion, if there is one."""
    trained = model_named(model).train(examples, config, get_run_logger().info)
    return trained, judge(trained, load_champion(settings, model))


@task(
    name="register",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=300,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def register_version(settings: Settings, trained: Trained, decision: Decision, same: str) -> int:
    """Log to MLflow and create the version; a retry leaves at most an unregistered run behind."""
    version = register(settings, trained.candidate, decision, same)
    get_run_logger().info("registered %s version %s", trained.candidate.name, version)
    return version


@task(
    name="promote or reject",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=60,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def promote_or_reject(settings: Settings, name: str, version: int) -> bool:
    """Do what the version's tags say was decided, unless it is done; whether it was promoted.

    From the tags, not from memory: a run that was killed after registering is completed by the
    next one.
    """
    from serving.audit import AUDIT_FILE, Audit  # noqa: PLC0415 - heavy, and only here
    from serving.release import promote  # noqa: PLC0415

    tags = tags_of(settings, name, version)
    verdict = tags["decision_reasons"]
    if tags["decision"] != "promoted":
        if "rejected" not in tags:
            reject(settings, name, version, verdict)
            get_run_logger().warning("%s version %s rejected: %s", name, version, verdict)
        return False
    if "promoted_at" in tags:
        get_run_logger().info("%s version %s was promoted before", name, version)
        return True
    promote(
        name,
        version,
        client=MlflowClient(settings.mlflow_url),
        audit=Audit(settings.home / AUDIT_FILE),
        who="retrain flow",
        why=verdict,
    )
    get_run_logger().info("%s version %s is champion", name, version)
    return True


@task(name="publish artifacts", timeout_seconds=60, cache_policy=NO_CACHE, persist_result=False)
def publish(settings: Settings, trained: Trained, decision: Decision, outcome: Retrained) -> None:
    """Leave metrics, model card, slices and pictures on the run's page and the artifacts page."""
    candidate = trained.candidate
    key = outcome.name.replace("_", "-")
    create_table_artifact(
        key=f"{key}-metrics",
        table=[
            {"metric": name, "value": f"{value:,.4f}".rstrip("0").rstrip(".")}
            for name, value in candidate.metrics.items()
        ],
        description=f"{outcome.name} version {outcome.version}: {outcome.verdict}",
    )
    create_markdown_artifact(
        key=f"{key}-card",
        markdown=model_card(candidate, decision),
        description=f"{outcome.name} version {outcome.version}",
    )
    if decision.slices:
        create_table_artifact(
            key=f"{key}-slices",
            table=table_rows(decision.table()),
            description=f"{decision.metric} of version {outcome.version} and {decision.against}",
        )
    for name, picture in candidate.pictures.items():
        create_image_artifact(
            key=f"{key}-{Path(name).stem.replace('_', '-')}",
            image_url=_picture_url(settings, name, picture, outcome),
            description=f"{outcome.name} version {outcome.version}: {Path(name).stem}",
        )


@flow(
    name="retrain",
    flow_run_name="retrain {model}",
    description="Retrain a model from the offline store; promote it if it holds.",
    timeout_seconds=7_200,
    persist_result=False,
)
def retrain(
    model: str = NAME,
    start: datetime | None = None,
    end: datetime | None = None,
    changes: dict[str, Any] | None = None,
) -> Retrained:
    """Retrain one model; the same window, data and configuration make no second version.

    Args:
        model: its name, as in the registry.
        start: of the training data's window, with time zone; None for the first event there is.
        end: of that window; None for the last event.
        changes: other values of the model's configuration (`{"baseline_group":
            "session_channel_last"}` for a click log without corridors).

    Raises:
        ModelError: there is no such model or configuration, or MLflow does not answer.
        DatasetError: the window holds too little to train on.
    """
    settings = Settings.from_env()
    config = load_config(model_named(model).Config, model, changes)
    examples = build_dataset(model, settings, start, end, config)
    same = identity(model, examples, config)
    known = registered(settings, model, same)
    if known is not None:
        get_run_logger().info("version %s was trained on these data already", known)
        promoted = promote_or_reject(settings, model, known)
        verdict = tags_of(settings, model, known)["decision_reasons"]
        return Retrained(model, known, promoted, verdict, known=True)
    trained, decision = train_and_judge(model, settings, examples, config)
    version = register_version(settings, trained, decision, same)
    promoted = promote_or_reject(settings, model, version)
    outcome = Retrained(model, version, promoted, decision.verdict)
    publish(settings, trained, decision, outcome)
    return outcome


def _picture_url(settings: Settings, name: str, picture: bytes, outcome: Retrained) -> str:
    """MLflow's copy of the picture; the picture itself where MLflow is no server.

    The Prefect UI prints the address below the picture, so an inline one is a page of letters.
    """
    if settings.mlflow_url.startswith("http"):
        client = MlflowClient(settings.mlflow_url)
        run_id = client.get_model_version(outcome.name, str(outcome.version)).run_id
        return (
            f"{public_url(settings.mlflow_url)}/get-artifact?path={quote(name)}&run_uuid={run_id}"
        )
    return inline_picture(picture)
