"""Tombstones: whom they hide, and that no read of the offline store brings them back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from feature_repo.contracts.events import to_epoch_us
from feature_repo.stores.forgotten import (
    FILE,
    Forgotten,
    ForgottenFile,
    Tombstone,
    TombstoneError,
    key_of,
)
from tests.feature_repo.stores.test_offline import OURS, START, at, store

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")


def test_rows_of_a_file_are_hidden_up_to_the_forgetting() -> None:
    some = Forgotten({key_of("c1"): Tombstone(10), key_of("c2"): Tombstone(20)})
    names = pa.array(["c1", "c1", "c2", "c2", "c3", None])
    times = np.array([10, 11, 20, 21, 0, 0])
    expected = [True, False, True, False, False, False]
    assert some.hidden(names, times).tolist() == expected
    assert some.hidden(names.dictionary_encode(), times).tolist() == expected
    assert some.hidden(names.slice(2), times[2:]).tolist() == expected[2:]
    assert not Forgotten().hidden(names, times).any()


def test_entries_of_a_log_are_cut_by_their_offset() -> None:
    cuts = {"valkey": {"customer/3": 7}}
    some = Forgotten({key_of("c1"): Tombstone(10, cuts)})
    names = pa.array(["c1", "c2"])
    assert some.cut(names, 7, "valkey", "customer", 3).tolist() == [True, False]
    assert some.cut(names, 8, "valkey", "customer", 3).tolist() == [False, False]
    assert some.cut(names, 7, "valkey", "customer", 2).tolist() == [False, False]
    assert some.cut(names, 7, "kafka", "customer", 3).tolist() == [False, False]
    assert some.cut(pa.array(["c1", "c1"]), np.array([7, 8]), "valkey", "customer", 3).tolist() == [
        True,
        False,
    ]


def test_the_name_does_not_stand_in_the_file_once_it_is_done(tmp_path: Path) -> None:
    file = ForgottenFile(tmp_path)
    assert not file.read()
    file.change(lambda found: found.update({key_of("carla"): Tombstone(1, customer="carla")}))
    assert list(file.read().pending.tombstones) == [key_of("carla")]
    file.change(lambda found: found.update({key_of("carla"): Tombstone(1)}))
    assert not file.read().pending
    assert b"carla" not in (tmp_path / FILE).read_bytes()


def test_what_has_not_changed_is_the_same_object(tmp_path: Path) -> None:
    # Who watches compares by identity, and does nothing while nobody was forgotten.
    file = ForgottenFile(tmp_path)
    nobody = file.read()
    assert file.read() is nobody
    file.change(lambda found: found.update({key_of("c1"): Tombstone(1)}))
    one = file.read()
    assert one
    assert file.read() is one
    (tmp_path / FILE).unlink()
    assert not file.read()
    assert file.read() is file.read()


def test_many_may_change_it_at_a_time(tmp_path: Path) -> None:
    file = ForgottenFile(tmp_path)
    file.change(lambda found: found.update({key_of("c1"): Tombstone(1, customer="c1")}))

    def mark(shard: int) -> None:
        ForgottenFile(tmp_path).mark_applied("default", f"customer/{shard}", [key_of("c1")])
        ForgottenFile(tmp_path).raise_cut([key_of("c1")], "valkey", "customer/0", shard)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(mark, range(16)))
    (tombstone,) = file.read().tombstones.values()
    assert len(tombstone.applied["default"]) == 16
    assert tombstone.cuts == {"valkey": {"customer/0": 15}}


def test_a_damaged_file_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(TombstoneError, match="restore the file"):
        ForgottenFile(tmp_path).read()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A batch view with rows of before and after c1 was forgotten, delivered once more."""
    rows = pl.DataFrame(
        {
            "customer_id": ["c1", "c2", "c1", "c2"],
            "event_timestamp": [at(0), at(0), at(20), at(20)],
            "visits_total": [1, 2, 3, 4],
            "rate": [0.1, 0.2, 0.3, 0.4],
        }
    ).with_columns(pl.col("event_timestamp").cast(pl.Datetime("us", "UTC")))
    (tmp_path / "forever").mkdir()
    rows.head(2).write_parquet(tmp_path / "forever" / "a.parquet")
    rows.tail(2).write_parquet(tmp_path / "forever" / "b.parquet")
    ForgottenFile(tmp_path).change(
        lambda found: found.update({key_of("c1"): Tombstone(to_epoch_us(at(10)))})
    )
    return tmp_path


def test_a_historical_read_does_not_see_what_was_before(home: Path) -> None:
    asked = pd.DataFrame(
        {
            "customer_id": ["c1", "c2", "c1", "c2"],
            "event_timestamp": [at(15), at(15), at(30), at(30)],
        }
    )
    found = store(home, OURS).get_historical_features(asked, ["forever:visits_total"]).to_df()
    assert found["visits_total"].fillna(-1).tolist() == [-1, 2, 3, 4]


def test_materialising_does_not_take_it_online(home: Path) -> None:
    opened = store(home, OURS)
    key = [{"customer_id": "c1"}, {"customer_id": "c2"}]
    opened.materialize(START - timedelta(days=1), at(15), feature_views=["forever"])
    read = opened.get_online_features(["forever:visits_total"], key).to_dict()
    assert read["visits_total"] == [None, 2]
    opened.materialize(START - timedelta(days=1), at(30), feature_views=["forever"])
    read = opened.get_online_features(["forever:visits_total"], key).to_dict()
    assert read["visits_total"] == [3, 4]
