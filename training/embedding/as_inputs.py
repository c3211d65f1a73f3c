"""Customers' vectors as inputs of a model: as of each example's instant, all of one version.

Not out of the offline store, where rows of former versions lie and a new version has each
customer's last vector alone: the archive is replayed through the encoder, without torch.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, Singles
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding import Encoder
from feature_repo.scoring.embedding_sessions import segments
from training.champion import champion_version
from training.embedding.config import NAME
from training.embedding.sequences import Sequences, archived_events, sequences_of
from training.embedding.versions import EmbeddingVersion, load_embedding

log = logging.getLogger(__name__)

_CUSTOMERS_AT_ONCE = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = {
    "embedding": pl.List(pl.Float32),
    "embedding_version": pl.Int64(),
    "embedding_updated_at": pl.Int64(),
}


def vectors_as_of(
    settings: Settings, version: EmbeddingVersion, entities: pl.DataFrame
) -> pl.DataFrame:
    """What the view `customer_embedding` holds of customers at instants, by one version.

    Args:
        settings: where the archive lies.
        version: whose vectors.
        entities: customer_id and event_timestamp (UTC), a row an example.

    Returns:
        embedding (64 numbers), embedding_version and embedding_updated_at (µs), a row an example in
        the order given; null where no session was over. A session counts as known half an hour
        after its last event: until then it may go on, and the stream writes nothing.

    Raises:
        DatasetError: there is no archive.
    """
    began = time.perf_counter()
    at_us = entities["event_timestamp"].dt.epoch("us")
    latest = at_us.max()
    if not isinstance(latest, int):
        return without_vectors(entities.height)
    end = _EPOCH + timedelta(microseconds=latest + 1)
    known = sequences_of(archived_events(settings, end, entities["customer_id"])).until(latest)
    sessions = pl.DataFrame(
        {
            "embedding": pl.Series(_after(version.encoder, known)),
            "embedding_version": np.full(len(known.sessions), version.version, np.int64),
            "embedding_updated_at": known.sessions.end_us,
            "over_us": known.over_us,
            "customer_id": known.customer_id.gather(known.customer),
        }
    )
    found = (
        entities.select("customer_id", at_us=at_us, row=pl.int_range(pl.len()))
        .sort("at_us")
        .join_asof(
            sessions.sort("over_us", maintain_order=True),
            left_on="at_us",
            right_on="over_us",
            by="customer_id",
            strategy="backward",
            check_sortedness=False,  # by customer it cannot be; both are sorted just here
        )
        .sort("row")
        .select(pl.col(name).cast(dtype) for name, dtype in _COLUMNS.items())
    )
    log.info(
        "vectors of version %s for %s of %s rows, from %s sessions, in %.1f s",
        version.version,
        f"{found.height - found['embedding'].null_count():,}",
        f"{found.height:,}",
        f"{len(known.sessions):,}",
        time.perf_counter() - began,
    )
    return found


def trained_on(settings: Settings, inputs: ModelInputs) -> EmbeddingVersion | None:
    """The embedding version that a model version was trained on; None where it is fed none.

    Raises:
        ModelError: the registry does not answer, or no longer has it.
    """
    wanted = inputs.embedding_version
    return None if wanted is None else load_embedding(settings, wanted)


def served_to(settings: Settings, inputs: ModelInputs) -> EmbeddingVersion | None:
    """The same, as long as it is the one that serves: else the model is fed no vector.

    Raises:
        ModelError: the registry does not answer.
    """
    wanted = inputs.embedding_version
    if wanted is None:
        return None
    champion = champion_version(settings, NAME)
    serves = champion is not None and int(champion.version) == wanted
    return load_embedding(settings, wanted) if serves else None


def without_vectors(rows: int) -> pl.DataFrame:
    """The columns of the view for examples of which nothing is known."""
    return pl.DataFrame(
        {name: pl.repeat(None, rows, dtype=dtype, eager=True) for name, dtype in _COLUMNS.items()}
    )


def _after(encoder: Encoder, known: Sequences) -> Singles:
    """The vector after each session: (sessions, 64)."""
    after = np.empty((len(known.sessions), EMBEDDING_WIDTH), np.float32)
    for at in range(0, len(known.customer_id), _CUSTOMERS_AT_ONCE):
        some = np.arange(at, min(at + _CUSTOMERS_AT_ONCE, len(known.customer_id)))
        rows, offsets = segments(known.offsets, some)
        _, _, after[rows] = encoder.replay(offsets, known.sessions.at(rows))
    return after
