"""Vectors and states: in both stores, fenced, told to searchers, not lost by a kill on the way."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import redis

from feature_repo.contracts.batch_views import EMBEDDING_STATE_VIEW
from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH
from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from feature_repo.stores import embedding_changes as changes
from feature_repo.stores import embedding_rows
from feature_repo.stores.embedding_changes import Change, Gap, Reload
from feature_repo.stores.embedding_rows import EmbeddingRows, EmbeddingWriter, latest_embeddings
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.forgotten import ForgottenFile, Tombstone, key_of
from tests.applied import apply_definitions
from tests.training.sessions import settings_at

NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("applied")
    apply_definitions(settings_at(home))
    return home


@pytest.fixture
def settings(applied: Path, valkey: str) -> Settings:
    found = settings_at(applied, redis=valkey)
    shutil.rmtree(found.offline, ignore_errors=True)
    return found


@pytest.fixture
def client(settings: Settings) -> Any:
    host, port = settings.redis.split(":")
    with redis.Redis(host=host, port=int(port)) as found:
        yield found


def unit(*parts: float) -> list[float]:
    """A vector of length 1 that begins with these."""
    vector = np.zeros(EMBEDDING_WIDTH, np.float32)
    vector[: len(parts)] = parts
    return list(vector / np.linalg.norm(vector))


def rows(
    vectors: dict[str, list[float]], at_us: int = NOW_US, version: int = 1, state: bytes = b"state"
) -> EmbeddingRows:
    matrix = np.array(list(vectors.values()), np.float32).reshape(-1, EMBEDDING_WIDTH)
    return EmbeddingRows(
        list(vectors), matrix, [at_us] * len(vectors), [state] * len(vectors), version
    )


def online(settings: Settings, customer: str) -> dict[str, Any]:
    names = ("embedding", "embedding_version", "embedding_updated_at")
    refs = [f"{EMBEDDING_VIEW}:{name}" for name in names]
    refs.append(f"{EMBEDDING_STATE_VIEW}:embedding_state")
    found = open_store(settings).get_online_features(refs, [{"customer_id": customer}]).to_dict()
    return {name: values[0] for name, values in found.items()}


def told(client: Any) -> list[Any]:
    return [each for _, each in changes.changes_after(client, changes.START)]


def test_a_vector_is_in_both_stores_and_told(settings: Settings, client: Any) -> None:
    given = rows({"c1": unit(1, 2), "c2": unit(3)})
    assert EmbeddingWriter(settings).write(given) == 2
    found = online(settings, "c1")
    np.testing.assert_array_equal(np.float32(found["embedding"]), given.vectors[0])
    assert (found["embedding_version"], found["embedding_updated_at"]) == (1, NOW_US)
    assert found["embedding_state"] == b"state"
    assert online(settings, "c3")["embedding"] is None
    asked = pl.DataFrame(
        {
            "customer_id": ["c1", "c1"],
            "event_timestamp": [
                datetime.fromtimestamp(NOW_US / 1e6, UTC) + timedelta(seconds=seconds)
                for seconds in (-1, 1)
            ],
        }
    ).to_pandas()
    history = open_store(settings).get_historical_features(
        asked, [f"{EMBEDDING_VIEW}:embedding", f"{EMBEDDING_STATE_VIEW}:embedding_state"]
    )
    before, after = history.to_df()["embedding"]
    assert before is None  # what was not known yet is not read
    np.testing.assert_array_equal(np.float32(after), given.vectors[0])
    one, two = told(client)
    assert (one.customer, one.version, one.at_us, two.customer) == ("c1", 1, NOW_US, "c2")
    np.testing.assert_array_equal(one.vector, given.vectors[0])
    assert changes.serving_version(client) == 1


def test_an_older_vector_never_replaces_a_newer_one(settings: Settings) -> None:
    writer = EmbeddingWriter(settings)
    writer.write(rows({"c1": unit(0, 1)}, NOW_US, state=b"new"))
    writer.write(rows({"c1": unit(1), "c2": unit(1)}, NOW_US - HOUR_US, state=b"old"))
    found = online(settings, "c1")
    assert found["embedding"] == unit(0, 1)
    assert (found["embedding_updated_at"], found["embedding_state"]) == (NOW_US, b"new")
    assert online(settings, "c2")["embedding_state"] == b"old"
    # At the same instant the later write lands: so does another version's.
    writer.write(rows({"c1": unit(0, 0, 1)}, NOW_US, version=2, state=b"other"))
    found = online(settings, "c1")
    assert (found["embedding"], found["embedding_version"]) == (unit(0, 0, 1), 2)
    assert found["embedding_state"] == b"other"
    # Offline, the latest by the session's end is the latest, in whatever order they came.
    (latest,) = latest_embeddings(settings, 1).filter(pl.col("customer_id") == "c1").to_dicts()
    assert latest["embedding"] == unit(0, 1)


@pytest.mark.parametrize("killed_at", ["_write_online", "_tell"])
def test_what_a_killed_writer_left_is_done_again(
    settings: Settings, client: Any, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    writer = EmbeddingWriter(settings)
    writer.write(rows({"c1": unit(1)}, NOW_US - HOUR_US, state=b"before"))

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingWriter, killed_at, die)
        with pytest.raises(KeyboardInterrupt):
            writer.write(rows({"c1": unit(0, 1)}, state=b"after"))
    # The state still says that the session has not been taken in.
    assert online(settings, "c1")["embedding_state"] == b"before"
    again = EmbeddingWriter(settings)
    again.write(rows({"c1": unit(0, 1)}, state=b"after"))
    found = online(settings, "c1")
    assert (found["embedding"], found["embedding_state"]) == (unit(0, 1), b"after")
    assert told(client)[-1].at_us == NOW_US
    assert len(list(settings.batch_table(EMBEDDING_VIEW).rglob("*.parquet"))) == 2
    assert latest_embeddings(settings, 1)["embedding"].to_list() == [unit(0, 1)]


def test_a_version_that_does_not_serve_yet_is_written_offline_alone(
    settings: Settings, client: Any
) -> None:
    writer = EmbeddingWriter(settings)
    writer.write(rows({"c1": unit(1)}))
    writer.write(rows({"c1": unit(0, 1)}, NOW_US + 1, version=2), online=False)
    assert online(settings, "c1")["embedding_version"] == 1
    assert latest_embeddings(settings, 1)["embedding"].to_list() == [unit(1)]
    assert latest_embeddings(settings, 2)["embedding"].to_list() == [unit(0, 1)]
    assert latest_embeddings(settings, 3).is_empty()
    assert len(told(client)) == 1
    changes.serve_version(client, 2)
    assert changes.serving_version(client) == 2
    assert told(client)[-1] == Reload(2)


def test_many_vectors_are_told_as_one_reload(
    settings: Settings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_rows, "_RELOAD_FROM", 3)
    monkeypatch.setattr(embedding_rows, "_ONLINE_ROWS", 2)
    EmbeddingWriter(settings).write(rows({f"c{n}": unit(n + 1, 1) for n in range(5)}))
    assert told(client) == [Reload(1)]
    assert online(settings, "c4")["embedding"] == unit(5, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (rows({"c1": [0.0] * EMBEDDING_WIDTH}), "length 1"),
        (rows({"c1": [float("nan")] * EMBEDDING_WIDTH}), "length 1"),
        (EmbeddingRows(["c1", "c1"], np.array([unit(1)] * 2), [1, 1], [b"", b""], 1), "each once"),
        (EmbeddingRows(["c1"], np.ones((1, 3), np.float32), [1], [b""], 1), r"\(1, 64\)"),
        (EmbeddingRows(["c1"], np.array([unit(1)]), [], [b""], 1), "as many"),
    ],
)
def test_what_does_not_fit_is_not_written(
    settings: Settings, client: Any, given: EmbeddingRows, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        EmbeddingWriter(settings).write(given)
    assert not settings.batch_table(EMBEDDING_VIEW).exists()
    assert told(client) == []


def test_the_forgotten_are_not_read(settings: Settings) -> None:
    EmbeddingWriter(settings).write(rows({"c1": unit(1), "c2": unit(2, 1)}))
    ForgottenFile(settings.offline).change(
        lambda found: found.update({key_of("c1"): Tombstone(NOW_US)})
    )
    assert latest_embeddings(settings, 1)["customer_id"].to_list() == ["c2"]


def test_who_has_fallen_behind_is_told_so(client: Any, valkey: str) -> None:
    assert changes.last_change(client) == changes.START
    made = [Change(f"c{n}", 1, n, np.array(unit(1), np.float32)) for n in range(5)]
    changes.tell_changes(client, made)
    entries = changes.changes_after(client, changes.START, most=2)
    assert [each.customer for _, each in entries if isinstance(each, Change)] == ["c0", "c1"]
    position = entries[-1][0]
    assert [each.customer for _, each in changes.changes_after(client, position)] == [  # type: ignore[union-attr]
        "c2", "c3", "c4",
    ]  # fmt: skip
    client.xtrim(changes.STREAM, maxlen=1, approximate=False)
    for behind in (changes.START, position):
        with pytest.raises(Gap):
            changes.changes_after(client, behind)
    assert changes.changes_after(client, changes.last_change(client)) == []


def test_a_customers_changes_are_deleted(client: Any, valkey: str) -> None:
    vector = np.array(unit(1), np.float32)
    made = [Change(name, 1, 1, vector) for name in ("c1", "c2", "c1", "c10")]
    changes.tell_changes(client, made)
    assert changes.forget_changes(client, "c1") == 2
    assert changes.forget_changes(client, "c1") == 0
    assert [fields[b"customer"] for _, fields in client.xrange(changes.STREAM)] == [b"c2", b"c10"]
