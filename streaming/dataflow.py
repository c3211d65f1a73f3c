"""The Bytewax dataflow, wiring only: log -> shards -> features -> both stores.

Events travel as Arrow batches and the key is a shard, never a customer; no windowing operators.
What the measurements behind this are: docs/adr/0001-shards-not-customers.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic

from feature_repo.engine.shard import Shard
from streaming.log.frames import Frame, split_by_shard
from streaming.sinks.offline import OfflineSink
from streaming.sinks.online import OnlineSink
from streaming.source import LogSource
from streaming.updates import Update

_Keyed = tuple[str, Frame]


def to_shards(frame: Frame) -> Iterable[_Keyed]:
    """Split a frame into one frame a shard, keyed by the shard."""
    for shard, events in split_by_shard(frame.events):
        yield str(shard), Frame(shard, frame.offset, events)


class ShardLogic(StatefulBatchLogic[Frame, Update, dict[str, Any]]):
    """One shard inside the dataflow."""

    def __init__(self, resume_state: dict[str, Any] | None) -> None:
        self._shard = Shard.restore(resume_state) if resume_state else Shard()

    def on_batch(self, values: list[Frame]) -> tuple[Iterable[Update], bool]:
        """Fold in the frames that have arrived; several small ones as one."""
        first = values[0]
        events = (
            first.events
            if len(values) == 1
            else pa.Table.from_batches([frame.events for frame in values])
            .combine_chunks()
            .to_batches()[0]
        )
        rows = self._shard.fold(events)
        updates = [] if rows is None else [Update(first.partition, first.offset, rows)]
        return updates, StatefulBatchLogic.RETAIN

    def snapshot(self) -> dict[str, Any]:
        """A copy of the shard as plain data."""
        return self._shard.snapshot()


def build_dataflow(source: LogSource, online: OnlineSink, offline: OfflineSink) -> Dataflow:
    """Wire a log to both stores."""
    flow = Dataflow("daima_features")
    frames = op.input("log", flow, source)
    keyed = op.flat_map("to_shards", frames, to_shards)
    updates = op.stateful_batch("features", keyed, ShardLogic)
    op.output("online", updates, online)
    op.output("offline", updates, offline)
    return flow
