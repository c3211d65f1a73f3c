"""The quick way through plain CSV: blocks without quotes, in which every line is a row.

Measured on 2 M rows of 9 columns: 0.3 s of processor time against 6 s row by row. Anything that
is not plain is left to `csv_rows`, whose reading this one must equal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc

from streaming.mapping.dead_letters import DeadLetter
from streaming.mapping.raw import RawBatch


def width_reason(width: int) -> str:
    """The reason given for a row with another number of values than the header has."""
    return f"expected {width} values, as the header has"


def plain_rows(
    block: bytes, first_line: int, header: Sequence[str], columns: Sequence[str]
) -> RawBatch | None:
    """The rows of whole lines of CSV, or None where they are not plain.

    `first_line` is the number of the block's first line; columns are texts.
    """
    if not _is_plain(block):
        return None
    broken: list[DeadLetter] = []

    def keep_apart(row: pc.InvalidRow) -> str:
        number = first_line + row.number - 1
        broken.append(
            DeadLetter(number, "row", row.actual_columns, width_reason(len(header)), row.text)
        )
        return "skip"

    names = [str(place) for place in range(len(header))]
    wanted = [names[header.index(column)] for column in columns]
    table = pc.read_csv(
        io.BytesIO(block),
        pc.ReadOptions(use_threads=False, column_names=names, block_size=len(block) + 1),
        pc.ParseOptions(quote_char=False, invalid_row_handler=keep_apart),
        pc.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), include_columns=wanted),
    )
    lines = np.arange(first_line, first_line + block.count(b"\n") + (not block.endswith(b"\n")))
    rows = np.setdiff1d(lines, [letter.row for letter in broken], assume_unique=True)
    frame = pl.DataFrame(
        {
            column: cast(pl.Series, pl.from_arrow(table.column(name)))
            for column, name in zip(columns, wanted, strict=True)
        }
    )
    return RawBatch(frame, rows.astype(np.int64), broken)


def _is_plain(block: bytes) -> bool:
    """UTF-8 without quotes, empty lines (they count for nothing), line ends but \\n and \\r\\n."""
    if (
        not block
        or b'"' in block
        or b"\n\n" in block
        or b"\n\r" in block
        or block.startswith((b"\n", b"\r"))
        or block.count(b"\r") != block.count(b"\r\n")
    ):
        return False
    try:
        # Arrow would say so too late: its row handler gets the text of a bad row decoded.
        return block.isascii() or bool(block.decode())
    except UnicodeDecodeError:
        return False
