"""Checkpoints of one partition's features: a base, the events since, and a manifest of both.

`checkpoints/SET/ENTITY-PP/` holds

- `base-N.state`: a whole `Shard.snapshot()`;
- `delta-N.arrow`: the events folded after a base, to be folded again;
- `manifest.json`: which of them make up the state, and how far it has come in the log.

A manifest names only files that are on disk, and takes the place of the one before in one step
(write, fsync, rename, fsync of the folder): a crash between any two steps leaves one that is
whole. The chain goes back over `BASES_KEPT` bases with all events since, so a base that has gone
bad costs time and no data. What no manifest names is swept at the next start.

Trap: commit only what the stores have: the events of a checkpoint are folded at a restart without
writing anything to either store.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa

from feature_repo.contracts.errors import DaimaError
from feature_repo.engine.program import Program
from feature_repo.engine.shard import Shard
from streaming.state_file import StateFileError, read_state, write_state

FORMAT = 1
BASES_KEPT = 3
_MANIFEST = "manifest.json"
_LOCK = "lock"
# Batches of events of this size are written as they are; smaller ones joined: hundreds of small
# ones take longer to write, and to read, than to copy.
_LARGE = 4_096
RESTART = "replay the log from its beginning: daima stream --restart"


class CheckpointError(DaimaError):
    """A checkpoint that cannot be continued, with what to do."""


class Link(msgspec.Struct, frozen=True):
    """A base and the events after it, up to the next link's base.

    Attributes:
        base: file of the state it begins with; None is the empty state.
        deltas: files of the events since, in order.
        events: how many events they hold.
    """

    base: str | None = None
    deltas: tuple[str, ...] = ()
    events: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """What the files of a partition amount to.

    Attributes:
        fingerprint: of the program whose states they are.
        log: names the log that `offset` is of.
        generation: of the values in the stores.
        offset: of the last entry of the log taken in; None: none yet.
        watermark_us: newest log time so far (µs); None before the first event.
        chain: oldest link first; the last one is continued.
    """

    format: int
    fingerprint: str
    log: str
    generation: int
    offset: int | None
    watermark_us: int | None
    chain: tuple[Link, ...]


class PartitionCheckpoint:
    """The checkpoint of one entity's partition; one process at a time holds it.

    Args:
        folder: of this partition alone; made if missing.
        program: whose states they are.
        anew: whether to begin with nothing, whatever is there.

    Raises:
        CheckpointError: another process holds it, or it is of other definitions or of another
            format.
    """

    def __init__(self, folder: Path, program: Program, *, anew: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._program = program
        self._lock = _lock(folder)
        if anew:  # the manifest goes before the files that it names
            (folder / _MANIFEST).unlink(missing_ok=True)
        try:
            self.manifest = self._read_manifest()
        except BaseException:
            self._lock.close()
            raise
        self._sweep()
        chain = self.manifest.chain if self.manifest else (Link(),)
        # Not committed yet: links since the manifest.
        self._chain: list[Link] = list(chain)
        # (deltas of the last link, events after these) where the copy for the next base began.
        self._cut: tuple[int, int] | None = None
        self._number = max((_number_of(name) for name in _names(chain)), default=0)

    @property
    def events_since_base(self) -> int:
        """Events that a restart folds again."""
        return self._chain[-1].events

    @property
    def deltas_since_base(self) -> int:
        """Files of events since the last base."""
        return len(self._chain[-1].deltas)

    def restore(self) -> Shard:
        """The shard as of the manifest: the newest sound base, and the events since.

        Raises:
            CheckpointError: no base of the chain, or not all events since, can be read.
        """
        links = self._chain
        for start in range(len(links) - 1, -1, -1):
            base = links[start].base
            try:
                shard = (
                    Shard(self._program)
                    if base is None
                    else Shard.restore(self._program, read_state(self._folder / base))
                )
            except StateFileError as error:
                if start == 0:
                    raise CheckpointError(
                        str(self._folder), str(error), "a sound base", RESTART
                    ) from error
                continue
            for link in links[start:]:
                for delta in link.deltas:
                    shard.fold(self._read_delta(delta), rows=False, states=False)
            return shard
        raise CheckpointError(str(self._folder), expected="a chain of bases", action=RESTART)

    def begin_base(self) -> None:
        """The next base will hold everything added so far, and nothing added from now on."""
        self._cut = len(self._chain[-1].deltas), 0

    def add_base(self, snapshot: dict[str, Any], *, alone: bool = False) -> None:
        """Write a base that holds everything added before it was begun; named by the next `commit`.

        Without `begin_base`, everything added so far. `alone`: the events before it were not
        added, so the chain begins with it.
        """
        name = self._next_name("base", "state")
        write_state(self._folder / name, snapshot)
        last = self._chain.pop()
        deltas, events = self._cut or (len(last.deltas), 0)
        self._cut = None
        if alone:
            self._chain.clear()
        else:
            self._chain.append(Link(last.base, last.deltas[:deltas], last.events - events))
        self._chain.append(Link(name, last.deltas[deltas:], events))

    def begin_anew(self, snapshot: dict[str, Any]) -> None:
        """Write a base that holds everything so far, and let go of everything before it.

        Those files stay until a `commit`, and a `sweep` after it.
        """
        name = self._next_name("base", "state")
        write_state(self._folder / name, snapshot)
        self._cut = None
        self._chain = [Link(name)]

    def add_delta(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Write events folded after everything added before; named by the next `commit`."""
        name = self._next_name("delta", "arrow")
        columns = self._program.frame_schema.names
        # Chosen of all at once where that can be: of hundreds of batches one by one it costs more
        # than writing them.
        if not all(batch.schema.equals(batches[0].schema) for batch in batches):
            batches = [batch.select(columns) for batch in batches]
        events = pa.Table.from_batches(batches).select(columns)
        if len(events) < _LARGE * len(batches):
            events = events.combine_chunks()
        with (self._folder / name).open("wb") as file:
            with pa.ipc.new_file(file, events.schema) as writer:
                writer.write_table(events)
            file.flush()
            os.fsync(file.fileno())
        last = self._chain[-1]
        self._chain[-1] = Link(last.base, (*last.deltas, name), last.events + len(events))
        if self._cut is not None:
            self._cut = self._cut[0], self._cut[1] + len(events)

    def commit(
        self, log: str, generation: int, offset: int | None, watermark_us: int | None
    ) -> None:
        """Make what was added the checkpoint; older bases than `BASES_KEPT` are removed."""
        chain = tuple(self._chain[-BASES_KEPT:])
        manifest = Manifest(
            FORMAT, self._program.fingerprint, log, generation, offset, watermark_us, chain
        )
        if manifest == self.manifest:
            return
        write_atomically(self._folder / _MANIFEST, msgspec.json.encode(manifest))
        self.manifest = manifest
        dropped = set(_names(tuple(self._chain))) - set(_names(chain))
        self._chain = list(chain)
        for name in dropped:
            (self._folder / name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove every file that the manifest does not name; nothing may have been added since."""
        self._sweep()

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()

    def _read_manifest(self) -> Manifest | None:
        path = self._folder / _MANIFEST
        if not path.exists():
            return None
        raw = path.read_bytes()
        try:
            found = msgspec.json.decode(raw, type=Manifest)
            problem = "" if found.format == FORMAT else f"format {found.format}"
        except msgspec.MsgspecError as error:
            raise CheckpointError(str(path), str(error), f"format {FORMAT}", RESTART) from error
        if found.fingerprint != self._program.fingerprint:
            problem = "a checkpoint of other definitions"
        if problem:
            raise CheckpointError(
                str(self._folder),
                problem,
                f"format {FORMAT} and the definitions that run",
                f"start with the definitions it was made with, or {RESTART}",
            )
        return found

    def _sweep(self) -> None:
        """Remove what a crash has left: files that the manifest does not name."""
        named = {_MANIFEST, _LOCK, *_names(self.manifest.chain if self.manifest else ())}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink()

    def _next_name(self, kind: str, ending: str) -> str:
        self._number += 1
        return f"{kind}-{self._number:010d}.{ending}"

    def _read_delta(self, name: str) -> pa.RecordBatch:
        try:
            with pa.memory_map(str(self._folder / name)) as file:
                table = pa.ipc.open_file(file).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise CheckpointError(
                str(self._folder / name), str(error), "the events since the last base", RESTART
            ) from error
        return _joined(table)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step; on disk, with everything else in its folder, at return."""
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _fsync_folder(path.parent)  # the files it names come first
    unfinished.replace(path)
    _fsync_folder(path.parent)


def refuse_in_use(folder: Path) -> None:
    """Raise CheckpointError if a process has one of the partitions under a set's folder."""
    for lock in folder.glob(f"*/{_LOCK}"):
        _lock(lock.parent).close()


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> IO[bytes]:
    """Hold the folder until the file is closed or the process ends, however it ends."""
    file = (folder / _LOCK).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise CheckpointError(
            str(folder),
            "in use",
            "one process a partition of the log",
            "end the other `daima stream`, or wait for it",
        ) from None
    return file


def _joined(table: pa.Table) -> pa.RecordBatch:
    """The one batch of a table that has rows."""
    return table.combine_chunks().to_batches()[0]


def _names(chain: Sequence[Link]) -> list[str]:
    return [name for link in chain for name in (link.base, *link.deltas) if name is not None]


def _number_of(name: str) -> int:
    return int(name.partition("-")[2].partition(".")[0])
