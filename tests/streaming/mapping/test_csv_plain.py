"""The quick way through CSV reads what the careful way reads."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.mapping.csv_plain import plain_rows
from streaming.mapping.csv_rows import _Rows
from streaming.mapping.raw import RawBatch

HEADER = b"a,b,c\n"
values = st.text(st.sampled_from("xyz01 ;'\t\\é\x00"), max_size=4)
lines = st.lists(
    st.tuples(st.lists(values, min_size=1, max_size=5).map(",".join), st.sampled_from("\n\r")),
    max_size=8,
)


def seen(batch: RawBatch) -> object:
    letters = [(bad.row, bad.field, bad.value, bad.reason, bad.record) for bad in batch.broken]
    return batch.frame.rows(), batch.rows.tolist(), letters


@settings(max_examples=150, deadline=None, derandomize=True)
@given(lines, st.booleans(), st.permutations(["a", "b", "c"]))
def test_plain_blocks_are_read_alike(
    rows: list[tuple[str, str]], end: bool, columns: list[str]
) -> None:
    text = "".join(line + ("\r\n" if mark == "\r" else "\n") for line, mark in rows)
    block = (text if end else text.rstrip("\r\n")).encode()
    plain = plain_rows(block, 2, ["a", "b", "c"], columns[:2])
    if plain is None:  # an empty line: left to the careful way
        return
    careful = _Rows(io.BytesIO(HEADER + block), Path("x.csv"))
    assert seen(plain) == seen(careful.read_block(careful.next_block(), columns[:2]))


def test_what_is_not_plain_is_left_alone() -> None:
    for block in (b'1,"2",3\n', b"1,2,3\n\n4,5,6\n", b"1,2\r3\n", b"\n1,2,3\n", b"1,2,\xe9\n"):
        assert plain_rows(block, 2, ["a", "b", "c"], ["a"]) is None
