"""Which logs a feature set's states come from, and the generation that its values carry.

`checkpoints/SET/lineage.json`, shared by all processes of the set. A run over a log is named by
the log: `valkey`, `kafka`, or a file with its path and its content. The states of a set come from
a chain of runs, each with a generation of its own:

- The live log continues whatever is there. After a replayed file it takes a new generation, so
  that its values win over the file's, and begins at its own first entry.
- A file begins a new chain: from nothing, with a new generation. A file that is part of the chain
  already keeps its generation, so running it again changes nothing online and replaces its own
  offline files; what the live log has added since stays.

Trap: generations of one store only rise; the store counts them (`stores.generations`). A count
higher than ours was started by a rebuild: the live log goes on with it where it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from streaming.checkpoints import RESTART, CheckpointError, refuse_in_use, write_atomically

_FILE = "lineage.json"
_FORMAT = 1


class Generations(Protocol):
    """Counts the generations of a store."""

    def in_force(self) -> int | None:
        """The newest generation; None in a store that holds nothing of ours.

        Raises:
            CheckpointError: it is of other definitions.
        """

    def start(self, at_least: int) -> int:
        """Begin a new one, numbered `at_least` or higher."""


class LogRun(msgspec.Struct, frozen=True):
    """One log that the states come from.

    Attributes:
        log: names it.
        content: fingerprint of a file; empty for a live log.
        generation: of the values it has written.
        complete: whether the next log may continue from it.
    """

    log: str
    content: str
    generation: int
    complete: bool


class _Lineage(msgspec.Struct):
    format: int
    shards: int
    fingerprints: dict[str, str]
    runs: list[LogRun] = []
    # The last generation of every file ever replayed: its offline files are still there.
    replayed: dict[str, int] = {}
    # Given out so far; also without the store's own count, no number comes twice.
    newest: int = 0


@dataclass(frozen=True)
class Replay:
    """How to run a file.

    Attributes:
        run: the run to finish with `Lineage.finish`.
        fresh: whether its states become the set's; no, where a live log has gone on from them.
        stale_generation: of an earlier run of this file, whose offline files are to go.
    """

    run: LogRun
    fresh: bool
    stale_generation: int | None


class Lineage:
    """The lineage of one feature set in one home folder.

    Args:
        folder: the set's folder of checkpoints.
        fingerprints: of the set's programs, by entity.
        shards: partitions of the log.
        generations: of the online store.
    """

    def __init__(
        self,
        folder: Path,
        fingerprints: Mapping[str, str],
        shards: int,
        generations: Generations,
    ) -> None:
        self._folder = folder
        self._fingerprints = dict(fingerprints)
        self._shards = shards
        self._generations = generations

    def continue_live(self, log: str) -> LogRun:
        """Join or begin a live run; every process of the set gets the same one.

        Raises:
            CheckpointError: the states are of other definitions, of another number of
                partitions, or of a file whose replay did not finish; or the store has lost its
                values.
        """
        with self._held() as lineage:
            self._refuse_other(lineage)
            last = lineage.runs[-1] if lineage.runs else None
            if last is not None and not last.complete:
                raise CheckpointError(
                    last.log,
                    "a replay or a rebuild that did not finish",
                    "all of its events",
                    f"run it again, or {RESTART}",
                )
            if last is not None and last.log == log:
                return self._continued(lineage, last)
            run = LogRun(log, "", self._next(lineage), complete=True)
            lineage.runs.append(run)
            return run

    def known_shards(self) -> int | None:
        """Partitions of the log that the states come from; None without states."""
        with self._held() as lineage:
            return lineage.shards if lineage.runs else None

    def current_log(self) -> str | None:
        """The log that the states come from last; None without states."""
        with self._held() as lineage:
            return lineage.runs[-1].log if lineage.runs else None

    def begin_rebuild(self, log: str) -> tuple[int, LogRun]:
        """Begin to make all states anew; the live log goes on from them after `finish`.

        Returns the generation of the rebuilt values, and the run that continues, in the one after
        it: an entry at the very offset of a rebuilt value still wins.
        """
        with self._held() as lineage:
            values = self._next(lineage)
            run = LogRun(log, "", self._next(lineage), complete=False)
            lineage.fingerprints, lineage.shards = self._fingerprints, self._shards
            lineage.runs = [run]
            return values, run

    def begin_replay(self, path: Path) -> Replay:
        """Begin the run of a file."""
        log, content = f"file:{path.resolve()}", fingerprint_of(path)
        with self._held() as lineage:
            if not self._fits(lineage):
                lineage.runs.clear()
            known = [run for run in lineage.runs if (run.log, run.content) == (log, content)]
            if known:
                in_force = self._generations.in_force()
                if in_force is None or in_force < known[0].generation:  # another store, or lost
                    self._generations.start(known[0].generation)
                return Replay(known[0], fresh=known[0] is lineage.runs[-1], stale_generation=None)
            run = LogRun(log, content, self._next(lineage), complete=False)
            replay = Replay(run, fresh=True, stale_generation=lineage.replayed.get(log))
            lineage.fingerprints, lineage.shards = self._fingerprints, self._shards
            lineage.runs = [run]
            lineage.replayed[log] = run.generation
            return replay

    def finish(self, run: LogRun) -> None:
        """Mark a file's run, or a rebuild, as complete."""
        with self._held() as lineage:
            lineage.runs = [
                msgspec.structs.replace(each, complete=True) if each == run else each
                for each in lineage.runs
            ]

    def restart(self) -> None:
        """Forget all states; the next run begins a new generation at the start of its log.

        Raises:
            CheckpointError: a process has them.
        """
        with self._held() as lineage:
            refuse_in_use(self._folder)
            lineage.runs.clear()
            lineage.fingerprints, lineage.shards = self._fingerprints, self._shards
            for entry in self._folder.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)

    def _continued(self, lineage: _Lineage, last: LogRun) -> LogRun:
        in_force = self._generations.in_force()
        if in_force is None or in_force < last.generation:
            raise CheckpointError(
                "online store",
                f"generation {in_force}",
                f"generation {last.generation}, as the checkpoints say: it has lost its values",
                f"refill it: daima rebuild; or {RESTART}",
            )
        if in_force == last.generation:
            return last
        run = msgspec.structs.replace(last, generation=in_force)
        lineage.newest = in_force
        lineage.runs[-1] = run
        return run

    def _next(self, lineage: _Lineage) -> int:
        lineage.newest = self._generations.start(lineage.newest + 1)
        return lineage.newest

    def _fits(self, lineage: _Lineage) -> bool:
        return lineage.fingerprints == self._fingerprints and lineage.shards == self._shards

    def _refuse_other(self, lineage: _Lineage) -> None:
        if lineage.runs and not self._fits(lineage):
            changed = sorted(
                entity
                for entity in {**lineage.fingerprints, **self._fingerprints}
                if lineage.fingerprints.get(entity) != self._fingerprints.get(entity)
            )
            raise CheckpointError(
                str(self._folder),
                f"states of other definitions of {', '.join(changed)}"
                if changed
                else f"states of {lineage.shards} partitions",
                "the definitions and the number of partitions that run",
                f"start with those, or {RESTART}",
            )
        lineage.fingerprints, lineage.shards = self._fingerprints, self._shards

    @contextmanager
    def _held(self) -> Iterator[_Lineage]:
        """The lineage, held for this process alone, and written afterwards if it changed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / _FILE
        with (self._folder / "lineage.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = path.read_bytes() if path.exists() else b""
            try:
                lineage = (
                    msgspec.json.decode(before, type=_Lineage)
                    if before
                    else _Lineage(_FORMAT, self._shards, self._fingerprints)
                )
            except msgspec.MsgspecError as error:
                raise CheckpointError(
                    str(path), str(error), f"format {_FORMAT}", f"remove {self._folder}"
                ) from error
            yield lineage
            after = msgspec.json.encode(lineage)
            if after != before:
                write_atomically(path, after)


def fingerprint_of(path: Path) -> str:
    """An event file's content, or that of a folder of them: 16 hex digits of SHA-256 (1.5 GB/s)."""
    whole = hashlib.sha256()
    for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        with file.open("rb") as content:
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()[:16]
