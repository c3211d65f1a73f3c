"""CSV: every column as text, and no line able to swallow the ones after it.

RFC 4180 with commas: quoted values may hold commas and line ends. A quote that is never closed
would make one value of the rest of the file; here it costs its own line only, since reading
resumes at the line after.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from feature_repo.contracts.errors import InputError, MappingError
from streaming.mapping.csv_plain import plain_rows, width_reason
from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.raw import CountedStream, RawBatch, text_column
from streaming.mapping.spec import Mapping

# No sensible value spans more lines; a quote still open after them was never meant to span any.
_MAX_LINES_OF_A_ROW = 1000
_BLOCK_BYTES = 1 << 22  # about 65,000 rows
# Python's parser refuses values beyond 128 kB unless told otherwise; the plain way takes any.
_LARGEST_VALUE = 2**31 - 1


class _OpenQuoteError(Exception):
    """A row goes on for more lines than any row should."""


def csv_batches(path: Path, mapping: Mapping) -> Iterator[RawBatch]:
    """Batches of a CSV file with a header line, packed with gzip or not.

    Raises:
        InputError: the file has no header line.
        MappingError: the header lacks a column that the mapping reads, or has it twice.
    """
    with CountedStream(path) as counted:
        header = _Rows(counted.bytes, path).header
    mapping.check_columns(header)
    for column in mapping.columns:
        if header.count(column) > 1:
            raise MappingError(
                column, header.count(column), "one column of that name in the source", "rename one"
            )
    return _batches(path, mapping.columns)


def _batches(path: Path, columns: tuple[str, ...]) -> Iterator[RawBatch]:
    with CountedStream(path) as counted:
        rows = _Rows(counted.bytes, path)
        while block := rows.next_block():
            plain = plain_rows(block, rows.number, rows.header, columns)
            if plain is None:
                batch = rows.read_block(block, columns)
            else:
                batch = plain
                rows.number += plain.frame.height + len(plain.broken)
            yield replace(batch, fraction=counted.fraction)


class _Rows:
    """The rows of a CSV file, keeping the lines of each until it has turned out well.

    `number` is that of the line at which the next row starts.

    Raises:
        InputError: from the start, when there is no header line.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._again: deque[str] = deque()  # lines put back
        self._of_row: list[str] = []  # lines of the row being read
        csv.field_size_limit(_LARGEST_VALUE)  # of the process; there is no limit of one parser
        self._parser = csv.reader(self._feed(), strict=True)
        problem: Exception | None = None
        self.header: list[str] = []
        try:
            self.header = next(self._parser)
            self.header[0] = self.header[0].removeprefix("\ufeff")
        except (StopIteration, IndexError, csv.Error, _OpenQuoteError) as error:
            problem = error
        if not self.header or any("\0" in name for name in self.header):
            raise InputError(
                "source", str(path), "CSV in UTF-8 with a header line", "check format and encoding"
            ) from problem
        self.number = 1 + len(self._of_row)
        self._of_row.clear()

    def next_block(self) -> bytes:
        """The file's next lines, whole; empty at its end."""
        return self._stream.read(_BLOCK_BYTES) + self._stream.readline()

    def read_block(self, block: bytes, columns: Sequence[str]) -> RawBatch:
        """The rows that start in a block of lines; the last of them may end behind it."""
        self._again.extend(_text(line) for line in block.splitlines(keepends=True))
        width = len(self.header)
        # Tuples of texts leave Python's garbage collector alone; the parser's lists do not. The 0
        # is there because a single column would come without a tuple.
        pick = itemgetter(*(self.header.index(column) for column in columns), 0)
        picked: list[tuple[str, ...]] = []
        numbers: list[int] = []
        broken: list[DeadLetter] = []
        while self._again:
            try:
                row = next(self._parser)
            except (csv.Error, _OpenQuoteError):
                broken.append(
                    self._give_up_line("expected quotes that are closed, and doubled within")
                )
                continue
            if len(row) == width:
                picked.append(pick(row))
                numbers.append(self.number)
            elif row:  # else it is an empty line
                broken.append(self._give_up_line(width_reason(width), len(row)))
                continue
            self.number += len(self._of_row)
            self._of_row.clear()
        values = zip(*picked, strict=True) if picked else ((),) * len(columns)
        frame = pl.DataFrame(
            {name: text_column(cells) for name, cells in zip(columns, values, strict=False)}
        )
        return RawBatch(frame, np.array(numbers, np.int64), broken)

    def _feed(self) -> Iterator[str]:
        """Lines for the parser: those of the block and put back, then the file's."""
        of_row, again = self._of_row, self._again
        while line := again.popleft() if again else _text(self._stream.readline()):
            of_row.append(line)
            if len(of_row) > _MAX_LINES_OF_A_ROW:
                raise _OpenQuoteError
            yield line

    def _give_up_line(self, reason: str, found: object = None) -> DeadLetter:
        """The dead letter of the row's first line; reading resumes at the line after it."""
        first, *others = self._of_row
        text = first.rstrip("\r\n")
        letter = DeadLetter(self.number, "row", found or text, reason, text)
        self._again.extendleft(reversed(others))
        self._of_row.clear()
        self.number += 1
        self._parser = csv.reader(self._feed(), strict=True)
        return letter


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
