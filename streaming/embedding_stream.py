"""Customers' vectors, kept fresh: each finished session updates its customer's, through ONNX.

Reads the live log beside the dataflow. Nothing is kept but open sessions: the encoder's state of a
customer comes from the online store and goes back there with the new vector, state last, so that a
session counts as taken in once its state stands. A killed process goes on where the oldest open
session began; what was taken in before is told by its start and passed over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from redis.exceptions import RedisError

from feature_repo.contracts.batch_views import EMBEDDING_STATE_VIEW
from feature_repo.contracts.embeddings import CustomerState
from feature_repo.contracts.errors import ModelError, StoreUnavailableError
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.settings import PROJECT
from feature_repo.scoring.embedding import Encoder
from feature_repo.scoring.embedding_sessions import Sessions
from feature_repo.stores.embedding_changes import serving_version
from feature_repo.stores.embedding_rows import EmbeddingRows, EmbeddingWriter
from feature_repo.stores.forgotten import Forgotten, ForgottenFile
from feature_repo.stores.redis_layout import decode_value, entity_key_encoder, field_name
from streaming.finished_sessions import FinishedSession, FinishedSessions
from streaming.log.frames import Frame, LogReader

log = logging.getLogger(__name__)

# Sessions are over to the half hour: looking once a second is soon enough.
_LOOK_EVERY_S = 1.0
_IDLE_S = 0.05
_RETRY_S = 0.5
# While no encoder serves, the registry is asked so often.
_ASK_EVERY_S = 10.0
_POSITIONS = "daima:embedding_positions"
_STATE_FIELD = field_name(EMBEDDING_STATE_VIEW, "embedding_state")


@dataclass(frozen=True)
class Serving:
    """The encoder that serves, under its number in the registry."""

    version: int
    encoder: Encoder


@dataclass
class UpdateReport:
    """What became of finished sessions.

    Attributes:
        updated: taken into their customers' vectors.
        repeated: taken in before, or late.
        stale: whose customer's state is another version's: re-embedding mends it.
        unserved: that were over before any encoder served.
    """

    updated: int = 0
    repeated: int = 0
    stale: int = 0
    unserved: int = 0


class EmbeddingStream:
    """Updates vectors from some partitions of the log.

    Args:
        reader: of the whole events' partitions, after `positions`.
        positions: partition -> where reading went on.
        load: the encoder that serves now; None while there is none.
        writer: writes to both stores.
        client: of the online store, responses as bytes.
        tombstones: events of before somebody was forgotten do not count.
        log_name: the event log, as positions and tombstones call it.
        now_us: the clock, µs since 1970.
    """

    def __init__(
        self,
        reader: LogReader,
        positions: Mapping[int, int | None],
        load: Callable[[], Serving | None],
        writer: EmbeddingWriter,
        client: Any,
        *,
        tombstones: ForgottenFile,
        log_name: str,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self.report = UpdateReport()
        self._reader = reader
        self._sessions = {each: FinishedSessions(at) for each, at in positions.items()}
        self._noted = dict(positions)
        self._load = load
        self._serving: Serving | None = None
        self._ask_again_s = 0.0
        self._writer = writer
        self._client = client
        self._tombstones = tombstones
        self._log = log_name
        self._now_us = now_us
        self._key = entity_key_encoder(CUSTOMER.join_key, PROJECT)

    def run(self, stopped: Callable[[], bool]) -> UpdateReport:
        """Update until the reader ends, or `stopped()`.

        Raises:
            LogGapError: the log no longer has what comes after the positions.
            ModelError: the encoder that serves cannot be loaded.
        """
        looked_s = 0.0
        while not stopped():
            try:
                entries = self._reader.poll()
            except StopIteration:
                break
            forgotten = self._tombstones.read()
            for entry in entries:
                if isinstance(entry, Frame) and entry.entity == CUSTOMER.name:
                    kept = _kept(entry, forgotten, self._log)
                    self._sessions[entry.partition].take(kept, entry.offset)
            if time.monotonic() - looked_s >= _LOOK_EVERY_S:
                # Read to its end: from now on the clock says as well what is over.
                self._update(None if entries else self._now_us(), stopped)
                looked_s = time.monotonic()
            if not entries:
                time.sleep(_IDLE_S)
        self._update(None, stopped)
        return self.report

    def _update(self, now_us: int | None, stopped: Callable[[], bool]) -> None:
        """Take in what is over, however long the store is away; then note the positions."""
        found = [each for some in self._sessions.values() for each in some.finished(now_us)]
        while True:
            try:
                if found:
                    self._take_in(found)
                self._note_positions()
                return
            except (StoreUnavailableError, RedisError) as error:
                log.warning("embeddings wait: %s", error)
                if stopped():  # what is not noted comes again
                    return
                time.sleep(_RETRY_S)

    def _take_in(self, found: Sequence[FinishedSession]) -> None:
        serving = self._current()
        if serving is None:
            self.report.unserved += len(found)
            return
        for some in _rounds(found):
            self._take_round(serving, some)

    def _take_round(self, serving: Serving, found: Sequence[FinishedSession]) -> None:
        """One session a customer at most."""
        customers, states, sessions = [], [], []
        for each, raw in zip(found, self._states([one.customer for one in found]), strict=True):
            try:
                state = raw and CustomerState.from_bytes(raw, serving.encoder.version)
            except ModelError as error:
                self.report.stale += 1
                log.warning("%s keeps the former vector: %s", each.customer, error)
                continue
            if state and int(each.session.start_us[0]) <= state.last_us:
                self.report.repeated += 1
                continue
            customers.append(each.customer)
            states.append(state or None)
            sessions.append(each.session)
        if not customers:
            return
        joined = Sessions.joined(sessions)
        updated, vectors = serving.encoder.update_many(states, joined)
        rows = EmbeddingRows(
            customers,
            vectors,
            joined.end_us.tolist(),
            [state.to_bytes() for state in updated],
            serving.version,
        )
        self.report.updated += self._writer.write(rows)

    def _states(self, customers: Sequence[str]) -> list[bytes | None]:
        with self._client.pipeline(transaction=False) as pipeline:
            for customer in customers:
                pipeline.hget(self._key(customer), _STATE_FIELD)
            answers = pipeline.execute()
        values = [None if raw is None else decode_value(raw) for raw in answers]
        return [value if isinstance(value, bytes) else None for value in values]

    def _current(self) -> Serving | None:
        version = serving_version(self._client)
        if self._serving is not None:
            if version is not None and self._serving.version != version:
                self._serving = self._load()
        elif time.monotonic() >= self._ask_again_s:
            self._serving = self._load()
            if self._serving is None:
                if not self._ask_again_s:
                    log.warning("no encoder serves yet: run the flow retrain_embeddings")
                self._ask_again_s = time.monotonic() + _ASK_EVERY_S
        return self._serving

    def _note_positions(self) -> None:
        for partition, sessions in self._sessions.items():
            position = sessions.position
            if position is not None and position != self._noted[partition]:
                self._client.hset(_POSITIONS, f"{self._log}:{partition}", str(position))
                self._noted[partition] = position


def embedding_positions(client: Any, log_name: str, partitions: int) -> dict[int, int | None]:
    """Where each partition of a log is to be read on; None: from its beginning."""
    found = client.hmget(_POSITIONS, [f"{log_name}:{each}" for each in range(partitions)])
    return {each: None if raw is None else int(raw) for each, raw in enumerate(found)}


def _rounds(found: Sequence[FinishedSession]) -> list[list[FinishedSession]]:
    """Sessions in turns, each with one a customer at most, a customer's own in their order.

    >>> [len(turn) for turn in _rounds([FinishedSession(c, None) for c in "aab"])]
    [2, 1]
    """
    turns: list[list[FinishedSession]] = []
    taken: dict[str, int] = {}
    for each in found:
        turn = taken.get(each.customer, 0)
        taken[each.customer] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(each)
    return turns


def _kept(frame: Frame, forgotten: Forgotten, log_name: str) -> pa.RecordBatch:
    """A frame's events but for those of customers who were forgotten after them."""
    if not forgotten or CUSTOMER.join_key not in frame.events.schema.names:
        return frame.events
    gone = forgotten.cut(
        frame.events.column(CUSTOMER.join_key),
        frame.offset,
        log_name,
        frame.entity,
        frame.partition,
    )
    return frame.events.filter(pa.array(~gone))
