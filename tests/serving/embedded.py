"""Customers with vectors, as the flows and the stream write them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH
from feature_repo.contracts.settings import Settings
from feature_repo.stores.embedding_changes import serve_version
from feature_repo.stores.embedding_rows import EmbeddingRows, EmbeddingWriter
from feature_repo.stores.redis_connection import connect

AT_US = 1_700_000_000_000_000


def embed(
    settings: Settings,
    directions: Mapping[str, Sequence[float]],
    *,
    version: int = 1,
    at_us: int = AT_US,
    online: bool = True,
) -> None:
    """Give each customer the vector that begins with these numbers, brought to length 1."""
    vectors = np.zeros((len(directions), EMBEDDING_WIDTH), np.float32)
    for row, numbers in enumerate(directions.values()):
        vectors[row, : len(numbers)] = numbers
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = EmbeddingRows(
        list(directions), vectors, [at_us] * len(vectors), [b"state"] * len(vectors), version
    )
    writer = EmbeddingWriter(settings)
    writer.write(rows, online=online)
    writer.close()


def embed_two(settings: Settings) -> None:
    """Give c1 a neighbour, whatever other tests have left behind."""
    without_embeddings(settings)
    embed(settings, {"c1": (1, 0), "c2": (1, 0.1)})
    with connect(settings.redis) as client:
        serve_version(client, 1)


def without_embeddings(settings: Settings) -> None:
    """Empty the offline tables that the index is built from."""
    for view in (EMBEDDING_VIEW, f"{EMBEDDING_VIEW}_state", "customer_profile", "customer_segment"):
        shutil.rmtree(settings.batch_table(view), ignore_errors=True)
