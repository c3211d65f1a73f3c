"""JSON lines: one object a line; any other line is a dead letter with its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import polars as pl

from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.raw import BATCH_ROWS, CountedStream, RawBatch, text_column
from streaming.mapping.spec import Mapping

_BOM = b"\xef\xbb\xbf"
_NESTED = (dict, list)
_decode_any = msgspec.json.Decoder(dict[str, object]).decode


def json_batches(path: Path, mapping: Mapping) -> Iterator[RawBatch]:
    """Batches of a file of JSON lines, packed with gzip or not; empty lines count for nothing.

    An object without a column is a row in which that column is missing.

    Raises:
        MappingError: no object of the first batch has a column without which no row can be an
            event. (The other columns may be rare: ingestion reports those never seen.)
    """
    columns = mapping.columns
    decode = _decoder(columns)
    sample: bytes | None = None
    objects: list[object] = []
    numbers: list[int] = []
    broken: list[DeadLetter] = []
    with CountedStream(path) as counted:

        def batch() -> RawBatch:
            frame, kept = _frame(objects, numbers, broken, columns)
            return RawBatch(frame, np.array(kept, np.int64), broken, counted.fraction)

        for number, line in enumerate(counted.bytes, start=1):
            content = line.removeprefix(_BOM) if number == 1 else line
            if not content.strip():
                continue
            try:
                objects.append(decode(content))
                numbers.append(number)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                text = content.rstrip(b"\r\n")
                broken.append(DeadLetter(number, "row", text, "expected one JSON object a line", text))
            else:
                sample = sample or content
            if len(objects) + len(broken) == BATCH_ROWS:
                _check(objects, sample, mapping)
                sample = sample and b"{}"  # the first objects have been checked
                yield batch()
                objects, numbers, broken = [], [], []
        if objects or broken:
            _check(objects, sample, mapping)
            yield batch()
