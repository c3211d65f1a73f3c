"""Where forgetting deletes a customer: pairs, predictions, vectors, files of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH
from feature_repo.contracts.settings import PROJECT, Settings
from feature_repo.stores.embedding_changes import STREAM, Change, tell_changes
from feature_repo.stores.embedding_rows import EmbeddingRows, EmbeddingWriter, latest_embeddings
from feature_repo.stores.online_keys import hash_key
from streaming.forget import forget
from streaming.log.frames import shard_of
from streaming.purge import PurgeReport, purge
from tests.streaming.test_forget import WHO, names_in


@pytest.fixture
def settings(tmp_path: Path, valkey: str) -> Settings:
    return Settings.from_env({"DAIMA_HOME": str(tmp_path / "home"), "DAIMA_REDIS": valkey})


def test_values_of_pairs_go_too(client: Any, settings: Settings) -> None:
    def stored(**keys: str) -> bytes:
        proto = EntityKey(
            join_keys=list(keys), entity_values=[Value(string_val=key) for key in keys.values()]
        )
        key = hash_key(proto, PROJECT)
        client.hset(key, "field", "value")
        return key

    stored(customer_id=WHO, device_id="d1")
    stored(customer_id=WHO, device_id="d2")
    others = {stored(customer_id="c4", device_id="d1"), stored(device_id=WHO)}
    assert forget(settings, WHO).online == 2
    left = set(client.scan_iter())
    assert {key for key in left if WHO.encode() in key or b"device_id" in key} == others


def test_predictions_are_deleted(client: Any, settings: Settings) -> None:
    stream_key = f"daima:predictions:{{m:{shard_of(WHO)}}}"
    for customer in (WHO, "c4", WHO):
        client.xadd(stream_key, {"customer": customer})
    assert forget(settings, WHO).online == 2
    assert [fields[b"customer"] for _, fields in client.xrange(stream_key)] == [b"c4"]


def test_changes_of_vectors_are_deleted(client: Any, settings: Settings) -> None:
    vector = np.eye(1, EMBEDDING_WIDTH, dtype=np.float32)[0]
    tell_changes(client, [Change(name, 1, 5, vector) for name in (WHO, "c4", WHO)])
    rows = EmbeddingRows([WHO, "c4"], np.stack([vector] * 2), [5, 5], [b"", b""], 1)
    EmbeddingWriter(settings).write(rows, online=False)
    assert names_in(settings.home)
    report = forget(settings, WHO)
    assert (report.online, report.rows) == (2, 2)  # a vector and a state offline
    assert [fields[b"customer"] for _, fields in client.xrange(STREAM)] == [b"c4"]
    assert names_in(settings.home) == []
    assert latest_embeddings(settings, 1)["customer_id"].to_list() == ["c4"]


def test_files_of_any_kind_are_purged(tmp_path: Path) -> None:
    (tmp_path / "offline" / "customer_profile").mkdir(parents=True)
    table = tmp_path / "offline" / "customer_profile" / "day.parquet"
    frame = pl.DataFrame({"customer_id": ["c3", "c30", None], "age": [1, 2, 3]})
    frame.write_parquet(table)
    letters = tmp_path / "dead.jsonl"
    letters.write_bytes(
        b'{"row":1,"record":{"customer_id":"c3"}}\n'
        b'{"row":2,"record":{"customer_id":"c30"}}\n'
        b'{"row":3,"record":"2025,c3,login"}\n'
        b"not json, c3\n"
    )
    report = purge(tmp_path, "c3")
    assert (report.files, report.rows) == (2, 4)
    assert pl.read_parquet(table).rows() == [("c30", 2), (None, 3)]
    assert letters.read_bytes() == b'{"row":2,"record":{"customer_id":"c30"}}\n'
    assert purge(tmp_path, "c3") == PurgeReport()
