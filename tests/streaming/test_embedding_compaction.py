"""A finished day's vectors in one file a version: no row is lost, and no version mixed."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import Settings
from feature_repo.stores.embedding_rows import EmbeddingRows, EmbeddingWriter, latest_embeddings
from streaming.compaction import compact_tables
from streaming.embedding_compaction import compact_vectors

DAY_US = 86_400_000_000
TODAY_US = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * 1_000_000
TODAY = date(2026, 3, 2)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({"DAIMA_HOME": str(tmp_path)})


def write(settings: Settings, place: int, at_us: int, *customers: str, version: int = 1) -> None:
    """Vectors along one axis."""
    vectors = np.tile(np.eye(EMBEDDING_WIDTH, dtype=np.float32)[place], (len(customers), 1))
    rows = EmbeddingRows(
        customers, vectors, [at_us] * len(vectors), [bytes([place])] * len(vectors), version
    )
    EmbeddingWriter(settings).write(rows, online=False)


def files(settings: Settings) -> list[Path]:
    return sorted(settings.batch_table(EMBEDDING_VIEW).rglob("*.parquet"))


def axes(settings: Settings, version: int = 1) -> dict[str, int]:
    found = latest_embeddings(settings, version)
    return {
        customer: int(np.argmax(vector))
        for customer, vector in zip(found["customer_id"], found["embedding"], strict=True)
    }


def test_a_finished_days_files_become_one_a_version(settings: Settings) -> None:
    yesterday = TODAY_US - DAY_US
    write(settings, 1, yesterday + 1, "c1")
    write(settings, 2, yesterday + 2, "c1", "c2")
    write(settings, 3, yesterday + 2, "c2", "c3")  # c2 again, as of the same instant
    write(settings, 4, yesterday + 3, "c1", version=2)
    write(settings, 5, TODAY_US, "c4")
    write(settings, 6, TODAY_US + 1, "c4")
    before = axes(settings), axes(settings, 2)
    reports = compact_tables(settings, FEATURE_SET, TODAY)
    for view in (EMBEDDING_VIEW, f"{EMBEDDING_VIEW}_state"):
        found = reports[view]
        assert (found.files_before, found.files_after, found.rows_dropped) == (3, 1, 1)
    assert len(files(settings)) == 4  # one a version, and today's, which may still be added to
    assert (axes(settings), axes(settings, 2)) == before
    assert before[0] == {"c1": 2, "c2": 3, "c3": 3, "c4": 6}
    rows = pl.read_parquet(files(settings)[0])
    assert rows.sort("embedding_updated_at")["customer_id"].to_list()[0] == "c1"
    assert rows.height == 4  # the vector of each session's end stays, for reads as of the past
    again = compact_tables(settings, FEATURE_SET, TODAY)[EMBEDDING_VIEW]
    assert (again.files_before, len(files(settings))) == (0, 4)


def test_broken_off_it_is_run_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write(settings, 1, TODAY_US - 5, "c1")
    write(settings, 2, TODAY_US - 4, "c2")
    table = settings.batch_table(EMBEDDING_VIEW)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            compact_vectors(table, TODAY)
    assert len(files(settings)) == 3
    assert axes(settings) == {"c1": 1, "c2": 2}
    assert compact_vectors(table, TODAY) == (3, 1, 2)
    assert len(files(settings)) == 1
    assert axes(settings) == {"c1": 1, "c2": 2}


def test_no_vectors_are_no_report(settings: Settings) -> None:
    assert EMBEDDING_VIEW not in compact_tables(settings, FEATURE_SET, TODAY)
