"""The output folder: parts written whole, and what they were made from."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.contracts.errors import InputError
from streaming.backfill.flat_parquet import FlatWriter, flat_parquet, is_flat
from streaming.offline_files import ID_COLUMNS, sync, write_options

# Events a part: the more, the fewer files; a restart computes a part that was not finished anew.
PART_EVENTS = 1 << 20
_FORMAT = 1
_MANIFEST = "_backfill.json"
_LOCK = ".lock"


class Job(msgspec.Struct, frozen=True):
    """What the parts of a folder are made from, and how.

    Attributes:
        source: fingerprint of the events.
        definitions: entity -> fingerprint of its program.
        spine: fingerprint of the spine; empty for a row an event.
        processes: into how many files each part is split.
    """

    source: str
    definitions: dict[str, str]
    spine: str = ""
    processes: int = 1
    part_events: int = PART_EVENTS
    format: int = _FORMAT


class Parts:
    """A job's parts in a folder.

    Args:
        folder: where they are.
        job: what they are made from.
        which: of the job's processes.
    """

    def __init__(self, folder: Path, job: Job, which: int = 0) -> None:
        self._folder = folder
        self.job = job
        self.which = which

    def path(self, first: int) -> Path:
        """The file of the part that begins with the source's event `first`, in log order."""
        share = f"-{self.which}of{self.job.processes}" if self.job.processes > 1 else ""
        return self._folder / f"part-{first:012d}{share}.parquet"

    def expected(self, events: int) -> int:
        """How many parts a source of so many events has."""
        return -(-max(events, 1) // self.job.part_events)

    def missing(self, events: int) -> list[int]:
        """First events of the parts that are not there, of a source of so many events."""
        firsts = (number * self.job.part_events for number in range(self.expected(events)))
        return [first for first in firsts if not self.path(first).exists()]

    def unfinished(self, first: int) -> Path:
        """The file to write the part to; it is none of the parts before `finish`."""
        path = self.path(first)
        return path.with_name(f".{path.name}.part")

    def finish(self, first: int) -> None:
        """Make a written part appear, once all of it is on disk."""
        unfinished, path = self.unfinished(first), self.path(first)
        sync([unfinished])
        unfinished.replace(path)
        sync([path.parent])


@contextmanager
def rows_file(path: Path, schema: pa.Schema) -> Iterator[FlatWriter | pq.ParquetWriter]:
    """A writer of feature rows, one row group a batch."""
    if is_flat(schema):
        with flat_parquet(path, schema, ID_COLUMNS) as flat:
            yield flat
    else:
        with table_file(path, schema) as writer:
            yield writer


def table_file(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of rows with any columns."""
    # Without Arrow's own schema: a dictionary here is a plain text to every reader.
    return pq.ParquetWriter(path, schema, **write_options(schema), store_schema=False)


@contextmanager
def held(folder: Path, job: Job) -> Iterator[None]:
    """Hold an output folder for a job: a new one, or one in which the same job was interrupted.

    Raises:
        InputError: it holds something else, or another process works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "out", str(folder), "a folder that no other backfill writes to", "wait for it"
            ) from None
        _claim(folder, job)
        yield


def _claim(folder: Path, job: Job) -> None:
    manifest = folder / _MANIFEST
    if not manifest.exists():
        if any(folder.glob("*.parquet")):
            raise _refusal(folder, "Parquet files of something else", "an empty or a new folder")
        unfinished = folder / f".{_MANIFEST}.part"
        unfinished.write_bytes(msgspec.json.encode(job))
        sync([unfinished])
        unfinished.replace(manifest)
        return
    try:
        found = msgspec.json.decode(manifest.read_bytes(), type=Job)
    except msgspec.MsgspecError as error:
        raise _refusal(folder, str(error), "a manifest of a backfill") from error
    if found == job:
        return
    for name, what in (
        ("source", "other events, or events that have changed since"),
        ("definitions", "other definitions"),
        ("spine", "another spine"),
        ("processes", f"{found.processes} processes"),
    ):
        if getattr(found, name) != getattr(job, name):
            raise _refusal(folder, f"a backfill of {what}", "one of this very job, or none")
    raise _refusal(folder, f"a backfill of format {found.format}", f"format {job.format}")


def _refusal(folder: Path, holds: str, expected: str) -> InputError:
    return InputError(
        "out",
        f"{folder}, which holds {holds}",
        expected,
        "name another folder, or remove this one",
    )
