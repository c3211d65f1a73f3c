"""A barrier once an epoch, of the partitions that were read since the one before."""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from feature_repo.contracts.features import FEATURE_SET
from feature_repo.engine.program import compile_program
from streaming.admission import Admission
from streaming.failure import Failure
from streaming.log.frames import Frame
from streaming.mapping.dead_letters import DeadLetters
from streaming.source import LogSource
from streaming.updates import Admitted, Barrier
from tests.streaming.made_events import batch_of, page_view

EPOCH = timedelta(milliseconds=80)


class _Reader:
    """One event of each of three partitions a poll; the third has them in the first poll only."""

    def __init__(self, polls: int) -> None:
        self.gone: dict[Any, int] = {}
        self._left = polls
        self._offset = 0

    def poll(self) -> list[Frame]:
        if not self._left:
            raise StopIteration
        self._left -= 1
        self._offset += 1
        time.sleep(0.002)
        partitions = (0, 1, 2) if self._offset == 1 else (0, 1)
        return [Frame("customer", at, self._offset, one_event(self._offset)) for at in partitions]

    def close(self) -> None:
        """Nothing is open."""


def one_event(number: int) -> pa.RecordBatch:
    return batch_of([page_view(number)])


def test_an_epoch_ends_for_the_partitions_that_were_read(tmp_path: Path) -> None:
    programs = {
        entity.name: compile_program(FEATURE_SET, entity) for entity in FEATURE_SET.entities
    }
    with DeadLetters(tmp_path / "letters.jsonl") as letters:
        admission = Admission(FEATURE_SET, programs, letters)
        source = LogSource(lambda: _Reader(150), admission, {}, Failure(), epoch=EPOCH)
        part = source.build_part("log", "log", None)
        items: list[Any] = []
        began_s = time.monotonic()
        try:
            while True:
                items.extend(part.next_batch())
        except StopIteration:
            epochs = (time.monotonic() - began_s) / EPOCH.total_seconds()
    barriers = [item for item in items if isinstance(item, Barrier)]
    assert set(barriers[-1].positions) == {("customer", at) for at in range(3)}
    assert barriers[-1].last
    counts = Counter(number for each in barriers[:-1] for _, number in each.positions)
    assert counts[2] == 1, "nothing was read of it afterwards"
    for busy in (0, 1):
        assert 2 <= counts[busy] <= np.ceil(epochs)
    # A barrier's position is that of what came before it.
    seen: dict[tuple[str, int], int] = {}
    for item in items:
        if isinstance(item, Admitted):
            seen[item.entity, item.partition] = item.last_offset
        elif not item.last:
            assert {
                owned: at.offset for owned, at in item.positions.items()
            }.items() <= seen.items()
