"""`daima embed-stream`: customers' vectors kept fresh as their sessions end."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from infra.stack_file import settings_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from feature_repo.contracts.settings import Settings
    from streaming.embedding_stream import Serving, UpdateReport


def run_embed_stream(
    home: Path | None, source: str, *, from_now: bool = False, as_json: bool = False
) -> None:
    """The command: until SIGTERM or Ctrl-C.

    Raises:
        LogGapError: the log no longer has what comes after what was taken in last.
        SettingsError: a setting is wrong.
        StoreUnavailableError: the store or the log does not answer.
    """
    settings, _ = settings_at(home, os.environ)
    os.environ.update(settings.environment())
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from streaming.run import stop_on_signals
    from streaming.setup import check_store

    check_store(settings)
    report = embed(settings, source, stop_on_signals(), from_now=from_now)
    print(
        f"sessions taken in: {report.updated:,}; before already {report.repeated:,}, "
        f"of customers with another version's state {report.stale:,}"
    )
    if as_json:
        print(msgspec.json.encode(asdict(report)).decode())


def embed(
    settings: Settings, source: str, stopped: Callable[[], bool], *, from_now: bool = False
) -> UpdateReport:
    """Update vectors from a live log until `stopped()`.

    Args:
        from_now: pass over what is in the log: after a recomputation of all (`embed_customers`).
    """
    from feature_repo.contracts.feature_set import load_feature_set
    from feature_repo.stores.embedding_rows import EmbeddingWriter
    from feature_repo.stores.forgotten import ForgottenFile
    from feature_repo.stores.redis_connection import connect
    from streaming.embedding_stream import EmbeddingStream, embedding_positions
    from streaming.live_logs import LiveLog, Source

    client: Any = connect(settings.redis)
    log = LiveLog(Source(source), settings, os.environ)
    feature_set = load_feature_set(settings.definitions)
    whole = feature_set.entities[0].name
    shards = log.shards(client, feature_set)
    positions = embedding_positions(client, source, shards)
    if from_now:
        positions |= log.ends(client, whole, shards)
    reader = log.open({(whole, each): at for each, at in positions.items()}, stopped)
    writer = EmbeddingWriter(settings)
    print(
        f"daima: embedding customers as their sessions of {source} end; Ctrl-C ends it",
        file=sys.stderr,
        flush=True,
    )
    try:
        return EmbeddingStream(
            reader,
            positions,
            lambda: _serving(settings),
            writer,
            client,
            tombstones=ForgottenFile(settings.offline),
            log_name=source,
        ).run(stopped)
    finally:
        reader.close()
        writer.close()
        client.close()


def _serving(settings: Settings) -> Serving | None:
    from streaming.embedding_stream import Serving
    from training.embedding.versions import load_embedding

    found = load_embedding(settings)
    return None if found is None else Serving(found.version, found.encoder)
