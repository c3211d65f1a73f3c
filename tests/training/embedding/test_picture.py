"""The map of vectors: near stays near, and the same vectors draw the same bytes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from training.embedding.picture import map_picture


def test_a_map_of_groups() -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 64))
    vectors = np.repeat(centres, 20, axis=0) + 0.1 * rng.normal(size=(60, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    groups = pl.Series([*["brief"] * 20, *["usual"] * 20, *[None] * 20], dtype=pl.String)
    found = map_picture(vectors, groups, "Customers")
    assert found.startswith(b"\x89PNG")
    assert found == map_picture(vectors, groups, "Customers")
    assert found != map_picture(vectors, groups, "Customers", most=30)


def test_a_few_vectors_make_no_map() -> None:
    with pytest.raises(DatasetError, match="at least 10"):
        map_picture(np.zeros((3, 64), np.float32), pl.Series(["a"] * 3), "Customers")
