"""Stand-ins for what the dataflow writes to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyarrow as pa


class Journal:
    """What happened, in order, for all stubs of a test."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def note(self, *entry: Any) -> None:
        self.entries.append(entry)


class Rows:
    """An offline writer."""

    def __init__(self, journal: Journal, name: str) -> None:
        self._journal = journal
        self._name = name

    def write(self, partition: int, first_offset: int, rows: pa.RecordBatch) -> None:
        self._journal.note("write", self._name, partition, first_offset, len(rows))

    def flush(self, partitions: Collection[int]) -> None:
        self._journal.note("flush", self._name, *partitions)


class Checkpoint:
    """A partition's checkpoint."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def begin_base(self) -> None:
        self._journal.note("begin")

    def add_base(self, snapshot: dict[str, Any], *, alone: bool = False) -> None:
        self._journal.note("base", alone)

    def add_delta(self, batches: list[pa.RecordBatch]) -> None:
        self._journal.note("delta", sum(len(batch) for batch in batches))

    def commit(
        self, log: str, generation: int, offset: int | None, watermark_us: int | None
    ) -> None:
        self._journal.note("commit", log, generation, offset, watermark_us)


class States:
    """An online writer."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, entity: Any, generation: int, offset: int, *parts: Any) -> None:
        self._journal.note("online", entity.name, generation, offset)

    def forget(self, entity: Any, keys: Iterable[str]) -> None:
        self._journal.note("forgotten", entity.name, *keys)

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def mark(self) -> Callable[[], None]:
        return lambda: self._journal.note("acknowledged")

    def close(self) -> None:
        self._journal.note("online closed")
