"""The flow that recomputes all customers' vectors, by the embedding version that serves."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.settings import Settings
from feature_repo.stores.embedding_changes import serve_version
from feature_repo.stores.embedding_rows import EmbeddingWriter
from feature_repo.stores.redis_connection import connect
from flows.outcomes import may_pass
from flows.outdated_models import tell_outdated
from training.embedding.config import NAME
from training.embedding.customers import embed_customers as recompute
from training.embedding.versions import EmbeddingVersion, load_embedding


@task(
    name="embed customers",
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=3_600,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def embed_all(
    settings: Settings, version: EmbeddingVersion, after_us: int | None = None
) -> tuple[int, int | None]:
    """Write everybody's vector and state to both stores; how many, and the latest session's end.

    Of those alone whose last session ended after `after_us`, where it is given.
    """
    rows = recompute(settings, version, after_us=after_us)
    writer = EmbeddingWriter(settings)
    try:
        written = writer.write(rows)
    finally:
        writer.close()
    get_run_logger().info("%s customers embedded by version %s", f"{written:,}", version.version)
    return written, max(rows.at_us, default=after_us)


@task(
    name="serve version",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=may_pass,
    timeout_seconds=60,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def serve(settings: Settings, version: int) -> None:
    """Let readers of vectors go over to a version; until then they keep the former one."""
    client = connect(settings.redis)
    try:
        serve_version(client, version)
    finally:
        client.close()


def re_embed(settings: Settings, version: EmbeddingVersion) -> int:
    """Everybody by one version, then let it serve, then those whose sessions ended meanwhile."""
    written, latest = embed_all(settings, version)
    serve(settings, version.version)
    more, _ = embed_all(settings, version, latest)
    total: int = written + more
    return total


@flow(
    name="embed_customers",
    flow_run_name="embed customers",
    description="Recompute all customers' vectors by the embedding version that serves.",
    timeout_seconds=7_200,
    persist_result=False,
)
def embed_customers(version: int | None = None) -> int:
    """Recompute and write all vectors; returns how many.

    Run it after a roll-back of `customer_embedding`: the former version's vectors come back, with
    the sessions that have ended since. Models whose champions were trained on another version than
    the champion of the embedding are retrained.

    Args:
        version: of `customer_embedding`; the champion by default.

    Raises:
        ModelError: there is no champion, or the registry does not answer.
    """
    settings = Settings.from_env()
    found = load_embedding(settings, version)
    if found is None:
        raise ModelError(
            f"{NAME}@champion", expected="a version", action="run retrain_embeddings first"
        )
    written = re_embed(settings, found)
    tell_outdated(settings)
    return written
