"""The flow of customer embeddings: train, judge, register, re-embed everybody, then promote.

What is done lies in `training/embedding/` and `serving/release.py`.
"""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.embed_customers import re_embed
from flows.outcomes import inline_picture, may_pass
from flows.outdated_models import tell_outdated
from flows.retrain import Retrained, promote_or_reject
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.retraining import EmbeddingExamples, build, identity, train_and_judge
from training.embedding.versions import (
    EmbeddingCandidate,
    EmbeddingVersion,
    load_embedding,
    register_embedding,
)
from training.evaluation.gate import Decision
from training.registry import registered, tags_of


@task(
    name="build sequences",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def build_sequences(settings: Settings, end: datetime | None) -> EmbeddingExamples:
    """All customers' sessions, and the financial snapshots beside them."""
    examples = build(settings, end)
    sequences = examples.challenge.sequences
    get_run_logger().info(
        "%s sessions of %s customers, %s events",
        f"{len(sequences.sessions):,}",
        f"{len(sequences.customer_id):,}",
        f"{len(sequences.sessions.time_us):,}",
    )
    return examples


@task(
    name="train and judge embeddings",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=7_200,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_embeddings(
    examples: EmbeddingExamples, config: EmbeddingConfig, champion: EmbeddingVersion | None
) -> tuple[EmbeddingCandidate, Decision]:
    """From the champion on, where there is one; judged on the sessions that came later."""
    return train_and_judge(examples, config, champion, get_run_logger().info)


@task(
    name="register embeddings",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=300,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def register_version(
    settings: Settings, candidate: EmbeddingCandidate, decision: Decision, same: str
) -> int:
    """Log to MLflow and create the version."""
    return register_embedding(settings, candidate, decision, same)


@flow(
    name="retrain_embeddings",
    description="Retrain customer embeddings; re-embed everybody and promote them if they hold.",
    timeout_seconds=14_400,
    persist_result=False,
)
def retrain_embeddings(
    end: datetime | None = None, changes: dict[str, Any] | None = None
) -> Retrained:
    """Retrain the embeddings; the same sessions and configuration make no second version.

    Everybody is embedded anew before the alias moves, so that no reader sees two versions mixed.
    Models whose champions were trained on another version are retrained after it.

    Args:
        end: of the training data, with time zone; None for all there is.
        changes: other values of the configuration.

    Raises:
        ModelError: a configuration is wrong, torch is missing, or MLflow does not answer.
        DatasetError: the window holds too little.
    """
    settings = Settings.from_env()
    config = load_config(EmbeddingConfig, NAME, changes)
    examples = build_sequences(settings, end)
    same = identity(examples, config)
    version = registered(settings, NAME, same)
    known = version is not None
    if version is None:
        champion = load_embedding(settings)
        candidate, decision = train_embeddings(examples, config, champion)
        version = register_version(settings, candidate, decision, same)
        create_image_artifact(
            key="customer-embedding-map",
            image_url=inline_picture(candidate.pictures["map.png"]),
            description=f"{NAME} version {version}: a map of customers",
        )
        create_table_artifact(
            key="customer-embedding-metrics",
            table=[
                {"metric": name, "value": f"{value:,.4f}"}
                for name, value in candidate.metrics.items()
            ],
            description=f"{NAME} version {version}: {decision.verdict}",
        )
    tags = tags_of(settings, NAME, version)
    if tags["decision"] == "promoted" and "promoted_at" not in tags:
        found = load_embedding(settings, version)
        if found is not None:
            re_embed(settings, found)
    promoted = promote_or_reject(settings, NAME, version)
    if promoted:
        tell_outdated(settings)
    return Retrained(NAME, version, promoted, tags["decision_reasons"], known)
