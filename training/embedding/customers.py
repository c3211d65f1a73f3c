"""All customers' vectors by one embedding version, recomputed from the archive of events."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import numpy as np

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH
from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding_sessions import segments
from feature_repo.stores.embedding_rows import EmbeddingRows
from training.embedding.sequences import archived_sequences
from training.embedding.versions import EmbeddingVersion

log = logging.getLogger(__name__)

_CUSTOMERS_AT_ONCE = 20_000


def embed_customers(
    settings: Settings,
    version: EmbeddingVersion,
    *,
    after_us: int | None = None,
    now: datetime | None = None,
) -> EmbeddingRows:
    """The vector and state of everybody with a finished session.

    Args:
        settings: where the archive lies.
        version: of the vectors.
        after_us: of those alone whose last session ended later; None: of all.
        now: what is over by then counts (default: the clock).

    Raises:
        DatasetError: there is no archive.
    """
    known = archived_sequences(settings)
    now_us = to_epoch_us(now or datetime.now(UTC))
    known = known.until(now_us)
    ends = known.sessions.end_us[known.offsets[1:] - 1] if len(known.customer_id) else np.zeros(0)
    chosen = np.flatnonzero(ends > after_us) if after_us is not None else np.arange(len(ends))
    encoder = version.encoder
    names = known.customer_id.gather(chosen).to_list()
    vectors = np.empty((len(chosen), EMBEDDING_WIDTH), dtype=np.float32)
    states: list[bytes] = []
    for at in range(0, len(chosen), _CUSTOMERS_AT_ONCE):
        some = chosen[at : at + _CUSTOMERS_AT_ONCE]
        rows, offsets = segments(known.offsets, some)
        found, last, _ = encoder.replay(offsets, known.sessions.at(rows))
        vectors[at : at + len(some)] = last
        states += [state.to_bytes() for state in found]
    log.info("%s customers embedded by version %s", f"{len(names):,}", version.version)
    return EmbeddingRows(names, vectors, ends[chosen].tolist(), states, version.version)
