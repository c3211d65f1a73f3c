"""The states of all keys of a feature set: folded from whole events, listed at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.engine.program import Program
from feature_repo.engine.projection import key_texts, log_times_us, project
from feature_repo.engine.shard import Shard
from streaming.log.frames import Partition, split_by_shard

# States listed at once: 8 MB of them.
_LISTED = 16_384


class KeyStates:
    """Folds whole events into the shards of every entity, and remembers the keys.

    Args:
        programs: by entity.
        shards: one a partition of each entity.
        count: partitions of each entity.

    Attributes:
        watermarks_us: newest log time of each partition that has had events.
    """

    def __init__(
        self, programs: Mapping[str, Program], shards: Mapping[Partition, Shard], count: int
    ) -> None:
        self.watermarks_us: dict[Partition, int] = {}
        self._programs = programs
        self._shards = shards
        self._count = count
        self._keys = {owned: _DistinctTexts() for owned in shards}

    def fold(self, events: pa.RecordBatch) -> None:
        """Fold in whole events, the next in the order of the log."""
        for name, program in self._programs.items():
            frame = project(program, events)
            keys = key_texts(program.entity, frame)
            for number, part in split_by_shard(frame, keys, self._count):
                owned = (name, number)
                folded = self._shards[owned].fold(part, rows=False, states=False)
                self._keys[owned].add(folded.keys)
                newest = int(log_times_us(part).max())
                self.watermarks_us[owned] = max(newest, self.watermarks_us.get(owned, newest))

    def all(
        self,
    ) -> Iterator[tuple[Partition, pa.StringArray, pa.BinaryArray, npt.NDArray[np.int64]]]:
        """Every key once: its partition, keys, states and event times (µs), piece by piece."""
        for owned, shard in self._shards.items():
            keys = self._keys[owned].texts()
            for start in range(0, len(keys), _LISTED):
                some = keys.slice(start, _LISTED)
                yield owned, some, *shard.states_of(some)


class _DistinctTexts:
    def __init__(self) -> None:
        self._parts: list[pa.StringArray] = []
        self._added = self._distinct = 0

    def add(self, texts: pa.Array) -> None:
        self._parts.append(texts if texts.type == pa.string() else texts.cast(pa.string()))
        self._added += len(texts)
        # Sifted each time the repeats could be as many as the rest: memory follows the keys.
        if self._added > 2 * self._distinct + _LISTED:
            self.texts()

    def texts(self) -> pa.StringArray:
        together = pa.concat_arrays(self._parts) if self._parts else pa.array([], pa.string())
        found = pc.unique(together)
        self._parts, self._added, self._distinct = [found], len(found), len(found)
        return found
