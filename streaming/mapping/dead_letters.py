"""Dead letters: the rows that are no events, with what was wrong, so that they can be mended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec


class DeadLetter(msgspec.Struct, frozen=True):
    """One row that is no event.

    Attributes:
        row: where it stands in its source: the line in a text file (the header is line 1), the
            row counted from 1 in Parquet.
        field: the event field that does not fit, or `row` when the row cannot be read at all.
        value: the offending value, as the source has it.
        reason: what was expected, or that the event is a duplicate; texts few enough to be counted.
        record: the columns that the mapping reads, or the raw text of a row that cannot be read.
    """

    row: int
    field: str
    value: object
    reason: str
    record: object


class DeadLetters:
    """Writes dead letters as JSON lines and counts them by (field, reason).

    The file comes into being with the first letter, under a temporary name, and gets its own at
    `close`; a rerun replaces it, and a rerun without bad rows removes it. Use as a context manager:
    leaving it through an exception keeps the file of the run before, and the letters so far in
    `failed_path` beside it.

    Args:
        path: the file of letters.
        live: of a run without an end: letters are appended to the file itself, can be read there
            after each `extend`, and stay whatever happens.

    Trap: records are copies of customers' data: guard the folder as you guard the source.
    """

    def __init__(self, path: Path, *, live: bool = False) -> None:
        self.path = path
        self.failed_path = path.with_name(f"{path.stem}.failed.jsonl")
        self._live = live
        self.by_reason: Counter[tuple[str, str]] = Counter()
        self._partial = path.with_name(f".{path.name}.partial")
        self._file: BinaryIO | None = None

    @classmethod
    def for_source(cls, folder: Path, source: Path) -> DeadLetters:
        """Letters of one source file, in `folder`.

        >>> DeadLetters.for_source(Path("dead"), Path("in/clicks.csv.gz")).path.as_posix()
        'dead/clicks.jsonl'
        """
        return cls(folder / f"{source_stem(source)}.jsonl")

    @property
    def count(self) -> int:
        """Letters written so far."""
        return self.by_reason.total()

    def extend(self, letters: Iterable[DeadLetter]) -> None:
        """Write letters and count them; any value can be written, also bytes and NaN."""
        for letter in letters:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab") if self._live else self._partial.open("wb")
            self.by_reason[letter.field, letter.reason] += 1
            line = {name: _plain(getattr(letter, name)) for name in letter.__struct_fields__}
            self._file.write(msgspec.json.encode(line, enc_hook=str) + b"\n")
        if self._live and self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Put the finished file in place of the one of the run before; a live one stays."""
        if not self._close_file(self.path) and not self._live:
            self.path.unlink(missing_ok=True)

    def _close_file(self, finished: Path) -> bool:
        """Close the file, if there is one, and give it its name."""
        if self._file is None:
            return False
        self._file.close()
        self._file = None
        if not self._live:
            self._partial.replace(finished)
        return True

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._close_file(self.failed_path)


def source_stem(source: Path) -> str:
    """A source's file name without its endings.

    >>> source_stem(Path("in/clicks.csv.gz")), source_stem(Path("2024.06.parquet"))
    ('clicks', '2024.06')
    """
    return Path(source.name.removesuffix(".gz")).stem


def _plain(value: object) -> object:
    """The value as JSON can hold it; what it cannot becomes a text that still shows it."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {str(_plain(key)): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value
