"""The map of vectors: near stays near, colours say groups, the same vectors draw the same bytes."""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.embeddings import Singles
from feature_repo.contracts.errors import DatasetError
from training.embedding.picture import map_picture, placed

GROUPS = pl.Series([*["brief"] * 20, *["usual"] * 20, *[None] * 20], dtype=pl.String)
BLUE, ORANGE, GREEN, GREY = "0072b2", "e69f00", "009e73", "c3cbd3"


@pytest.fixture(scope="module")
def vectors() -> Singles:
    """Three clusters of twenty."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 64))
    found = np.repeat(centres, 20, axis=0) + 0.1 * rng.normal(size=(60, 64))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found, dtype=np.float32)


def has(png: bytes, colour: str) -> bool:
    """Whether a picture has pixels of a colour."""
    pixels = np.rint(255 * matplotlib.image.imread(io.BytesIO(png))[..., :3]).astype(int)
    return bool((pixels == list(bytes.fromhex(colour))).all(axis=-1).any())


def test_who_is_near_lies_near(vectors: Singles) -> None:
    found = placed(vectors)
    np.testing.assert_array_equal(found.chosen, np.arange(60))
    apart = np.linalg.norm(found.plane[:, None] - found.plane[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(axis=1)
    np.testing.assert_array_equal(nearest // 20, np.arange(60) // 20)


def test_groups_have_colours_and_who_has_none_is_grey(vectors: Singles) -> None:
    found = placed(vectors)
    picture = found.picture(GROUPS, "Customers")
    assert picture.startswith(b"\x89PNG")
    assert [has(picture, colour) for colour in (BLUE, ORANGE, GREEN, GREY)] == [
        True, True, False, True
    ]  # fmt: skip
    whole = found.picture(GROUPS.fill_null("long"), "Customers")
    assert [has(whole, colour) for colour in (BLUE, ORANGE, GREEN, GREY)] == [
        True, True, True, False
    ]  # fmt: skip


def test_the_same_vectors_draw_the_same_bytes(vectors: Singles) -> None:
    picture = map_picture(vectors, GROUPS, "Customers")
    assert picture == map_picture(vectors, GROUPS, "Customers")
    some = placed(vectors, most=30)
    assert (len(some.chosen), some.plane.shape) == (30, (30, 2))
    assert picture != some.picture(GROUPS, "Customers")


def test_a_few_vectors_make_no_map() -> None:
    with pytest.raises(DatasetError, match="at least 10"):
        map_picture(np.zeros((3, 64), np.float32), pl.Series(["a"] * 3), "Customers")
