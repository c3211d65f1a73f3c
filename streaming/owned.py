"""The partitions that a process owns: their checkpoints, and their states as of these."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from feature_repo.engine.program import Program
from feature_repo.engine.shard import Shard
from streaming.checkpoints import PartitionCheckpoint
from streaming.lineage import LogRun
from streaming.log.frames import Partition


@dataclass
class OwnedPartitions:
    """States and positions of partitions.

    Attributes:
        shards: the state of each.
        offsets: of the last entry of the log in each state; None: none yet.
        watermarks_us: newest log time of each that has had events.
        checkpoints: of each; empty where nothing is to be continued.
        generations: under which each has written after the checkpoint, as far as it may have.
    """

    shards: dict[Partition, Shard] = field(default_factory=dict)
    offsets: dict[Partition, int | None] = field(default_factory=dict)
    watermarks_us: dict[Partition, int] = field(default_factory=dict)
    checkpoints: dict[Partition, PartitionCheckpoint] = field(default_factory=dict)
    generations: dict[Partition, set[int]] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, programs: Mapping[str, Program], partitions: Iterable[Partition]
    ) -> OwnedPartitions:
        """States of nothing, without checkpoints."""
        keys = list(partitions)
        shards = {key: Shard(programs[key[0]]) for key in keys}
        return cls(shards, dict.fromkeys(keys))

    def open(
        self,
        folder: Path,
        programs: Mapping[str, Program],
        partitions: Iterable[Partition],
        run: LogRun,
        *,
        anew: bool = False,
    ) -> None:
        """Take hold of the partitions' checkpoints and restore their states.

        Args:
            folder: the set's checkpoints.
            run: the log that is read next; positions in another one do not count.
            anew: whether to begin with nothing, whatever is there.

        Raises:
            CheckpointError: see `PartitionCheckpoint`; close what was opened all the same.
        """
        for key in partitions:
            entity, shard = key
            checkpoint = PartitionCheckpoint(
                folder / f"{entity}-{shard:02d}", programs[entity], anew=anew
            )
            self.checkpoints[key] = checkpoint
            self.offsets[key] = None
            self.generations[key] = {run.generation}
            manifest = checkpoint.manifest
            if manifest is None:
                continue
            if manifest.watermark_us is not None:
                self.watermarks_us[key] = manifest.watermark_us
            if manifest.log == run.log:
                self.offsets[key] = manifest.offset
                self.generations[key].add(manifest.generation)
        # Reading, checking and folding leave the interpreter to others most of the time.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            restored = pool.map(PartitionCheckpoint.restore, self.checkpoints.values())
            self.shards.update(zip(self.checkpoints, restored, strict=True))

    @property
    def events_since_base(self) -> dict[Partition, int]:
        """Events of each partition that a restart would fold again."""
        return {key: each.events_since_base for key, each in self.checkpoints.items()}

    def close(self) -> None:
        """Let other processes have the checkpoints."""
        for checkpoint in self.checkpoints.values():
            checkpoint.close()
