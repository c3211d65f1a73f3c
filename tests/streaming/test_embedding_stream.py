"""Finished sessions update their customers' vectors: as a recomputation would, through kills."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import redis

from feature_repo.contracts.batch_views import EMBEDDING_STATE_VIEW
from feature_repo.contracts.embeddings import EMBEDDING_VIEW, CustomerState
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding import Encoder
from feature_repo.stores.embedding_changes import serve_version, serving_version
from feature_repo.stores.embedding_rows import EmbeddingRows, EmbeddingWriter
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.forgotten import ForgottenFile, Tombstone, key_of
from streaming.embedding_stream import EmbeddingStream, Serving, embedding_positions
from streaming.log.frames import Frame, Unreadable
from tests.applied import apply_definitions
from tests.training.embedding.made import untrained_encoder
from tests.training.sessions import settings_at
from tests.training.simulated import events_of, simulated_world
from training.embedding.sequences import sequences_of

LOG = "valkey"
FRAME = 200


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    """Twenty customers' fortnight, in the order of the log."""
    return events_of(simulated_world(20, 14, seed=3))


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


class Frames:
    """A reader of one partition."""

    def __init__(self, events: pl.DataFrame, after: int | None = None) -> None:
        self.gone: dict[Any, int] = {}
        whole = events.to_arrow().combine_chunks().to_batches()[0]
        self._frames = [
            Frame("customer", 0, min(at + FRAME, len(whole)) - 1, whole.slice(at, FRAME))
            for at in range(0, len(whole), FRAME)
        ]
        self._frames = [each for each in self._frames if after is None or each.offset > after]

    def poll(self) -> Sequence[Frame | Unreadable]:
        if not self._frames:
            raise StopIteration
        return [self._frames.pop(0)]

    def close(self) -> None:
        pass


def stream(
    settings: Settings,
    client: redis.Redis[bytes],
    events: pl.DataFrame,
    *,
    encoder: Encoder | None = None,
    version: int = 1,
    writer: EmbeddingWriter | None = None,
) -> EmbeddingStream:
    positions = embedding_positions(client, LOG, 1)
    return EmbeddingStream(
        Frames(events, positions[0]),
        positions,
        lambda: Serving(version, encoder or untrained_encoder()),
        writer or EmbeddingWriter(settings),
        client,
        tombstones=ForgottenFile(settings.offline),
        log_name=LOG,
    )


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.embedding_stream._LOOK_EVERY_S", 0.0)


def stored(settings: Settings, customers: Sequence[str]) -> tuple[list[Any], list[Any]]:
    refs = [f"{EMBEDDING_VIEW}:embedding", f"{EMBEDDING_STATE_VIEW}:embedding_state"]
    rows = [{"customer_id": customer} for customer in customers]
    found = open_store(settings).get_online_features(refs, rows).to_dict()
    return found["embedding"], found["embedding_state"]


def recomputed(encoder: Encoder, events: pl.DataFrame, states: Sequence[bytes | None]) -> Any:
    """What replaying the sessions that the states have taken in gives."""
    cut = sequences_of(events)
    rows, offsets, customers = [], [0], []
    for number, customer in enumerate(cut.customer_id):
        raw = states[number]
        if raw is None:
            continue
        taken = CustomerState.from_bytes(raw).sessions
        first = int(cut.offsets[number])
        rows += list(range(first, first + taken))
        offsets.append(len(rows))
        customers.append(customer)
    vectors = encoder.replay(np.array(offsets), cut.sessions.at(np.array(rows)))[1]
    return customers, vectors


def test_vectors_are_those_of_a_recomputation(
    settings: Settings, client: redis.Redis[bytes], events: pl.DataFrame
) -> None:
    report = stream(settings, client, events).run(lambda: False)
    assert (report.repeated, report.stale) == (0, 0)
    assert report.updated > 50
    names = sequences_of(events).customer_id.to_list()
    vectors, states = stored(settings, names)
    customers, expected = recomputed(untrained_encoder(), events, states)
    assert len(customers) >= 15
    found = np.array([vectors[names.index(customer)] for customer in customers], np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    taken = sum(CustomerState.from_bytes(raw).sessions for raw in states if raw is not None)
    assert taken == report.updated, "each session once"


class Dying(EmbeddingWriter):
    """Is killed at its n-th write, before anything or after the vectors."""

    def __init__(self, settings: Settings, at: int, where: str) -> None:
        super().__init__(settings)
        self._left, self._where = at, where

    def write(self, rows: EmbeddingRows, *, online: bool = True) -> int:
        self._left -= 1
        if self._left == 0 and self._where == "before":
            raise KeyboardInterrupt
        return super().write(rows, online=online)

    def _write_online(self, view: str, frame: pl.DataFrame) -> None:
        if self._left == 0 and view == EMBEDDING_STATE_VIEW:
            raise KeyboardInterrupt
        super()._write_online(view, frame)


@pytest.mark.parametrize("where", ["before", "between"])
def test_a_kill_between_a_sessions_end_and_its_vector_loses_nothing(
    settings: Settings, client: redis.Redis[bytes], events: pl.DataFrame, where: str
) -> None:
    for at in (3, 8):
        dying = stream(settings, client, events, writer=Dying(settings, at, where))
        with pytest.raises(KeyboardInterrupt):
            dying.run(lambda: False)
    stream(settings, client, events).run(lambda: False)
    names = sequences_of(events).customer_id.to_list()
    vectors, states = stored(settings, names)
    client.flushall()
    stream(settings, client, events).run(lambda: False)
    undisturbed = stored(settings, names)
    assert states == undisturbed[1]
    assert vectors == undisturbed[0]


def test_a_state_of_another_version_is_kept_and_counted(
    settings: Settings, client: redis.Redis[bytes], events: pl.DataFrame
) -> None:
    half = events.head(events.height // 2)
    stream(settings, client, half).run(lambda: False)
    assert serving_version(client) == 1
    names = sequences_of(events).customer_id.to_list()
    before = stored(settings, names)
    serve_version(client, 2)
    other = stream(settings, client, events, encoder=untrained_encoder(2), version=2)
    report = other.run(lambda: False)
    assert report.stale > 0
    vectors, states = stored(settings, names)
    for number, raw in enumerate(before[1]):
        if raw is not None:
            assert states[number] == raw
            assert vectors[number] == before[0][number]


def test_who_was_forgotten_gets_no_vector(
    settings: Settings, client: redis.Redis[bytes], events: pl.DataFrame
) -> None:
    name = sequences_of(events).customer_id[0]
    whole = stream(settings, client, events)
    whole.run(lambda: False)
    assert stored(settings, [name])[0] != [None]
    client.flushall()
    buried = Tombstone(at_us=int(2e15), cuts={LOG: {"customer/0": events.height}}, customer=name)
    ForgottenFile(settings.offline).change(lambda found: found.update({key_of(name): buried}))
    stream(settings, client, events).run(lambda: False)
    assert stored(settings, [name])[0] == [None]


def test_without_an_encoder_sessions_pass(
    settings: Settings, client: redis.Redis[bytes], events: pl.DataFrame
) -> None:
    idle = stream(settings, client, events)
    asked: list[int] = []
    idle._load = lambda: asked.append(1)
    report = idle.run(lambda: False)
    assert (report.updated, len(asked)) == (0, 1), "the registry is not asked at each session"
    assert report.unserved > 50
    assert embedding_positions(client, LOG, 1)[0] is not None
