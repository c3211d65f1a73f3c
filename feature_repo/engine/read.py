"""Features out of online values, at an instant: what Feast's on-demand views and serving call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.errors import DefinitionError
from feature_repo.engine.program import Program
from feature_repo.engine.scratch import Scratch
from feature_repo.engine.state import OTHER_SET, READ, read_many
from feature_repo.engine.values import Outputs, feature_columns

_Words = npt.NDArray[np.int64]


def read_states(
    program: Program, states: Sequence[bytes | None] | pa.Array, as_of_us: _Words
) -> pa.RecordBatch:
    """Every feature of each key, at its instant.

    Args:
        states: (n,) online values; None (or empty) is a key without events.
        as_of_us: (n,) instants, µs since 1970. Exact from the newest event of the key on, and back
            to `program.lateness` before it.

    Returns:
        (n,) rows of `program.feature_schema`.

    Raises:
        DefinitionError: a state was written with other definitions, or is damaged.
    """
    return StateReader(program).read(states, as_of_us)


class StateReader:
    """Reads states of one program, keeping its working memory; not shared between threads."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._scratch = Scratch(program)

    def read(self, states: Sequence[bytes | None] | pa.Array, as_of_us: _Words) -> pa.RecordBatch:
        """See `read_states`."""
        columns, outcome = self._evaluate(states, as_of_us)
        bad = np.flatnonzero(outcome != READ)
        if len(bad):
            other = outcome[bad[0]] == OTHER_SET
            raise DefinitionError(
                f"state {bad[0]} of {self.program.entity.name}",
                "of other definitions" if other else "damaged",
                f"a state of the definitions {self.program.fingerprint}",
                "run daima rebuild, or read with the definitions that wrote it",
            )
        return pa.RecordBatch.from_arrays(columns, schema=self.program.feature_schema)

    def read_leniently(
        self, states: Sequence[bytes | None] | pa.Array, as_of_us: _Words
    ) -> tuple[pa.RecordBatch, npt.NDArray[np.bool_]]:
        """As `read`, with a flag for each state that says whether it could be read.

        Rows of those that could not are those of a key without events.
        """
        columns, outcome = self._evaluate(states, as_of_us)
        batch = pa.RecordBatch.from_arrays(columns, schema=self.program.feature_schema)
        return batch, outcome == READ

    def _evaluate(
        self, states: Sequence[bytes | None] | pa.Array, as_of_us: _Words
    ) -> tuple[list[pa.Array], npt.NDArray[np.int64]]:
        program, scratch = self.program, self._scratch
        count = len(states)
        if len(as_of_us) != count:
            raise DefinitionError(
                "as_of_us", f"{len(as_of_us)} instants", f"{count}, one a state", "correct it"
            )
        words, begins, ends = words_of(states)
        while len(words) and _most_events(words, begins, ends) >= scratch.events:
            scratch.double()
        outputs = Outputs(program, count)
        outcome, text_at = np.zeros(count, np.int64), np.zeros(count, np.int64)
        at_us = np.array(as_of_us, np.int64)
        read_many(
            program.constants,
            program.passes,
            program.atoms,
            program.features,
            program.columns,
            program.fingerprint_number,
            words,
            begins,
            ends,
            at_us,
            *scratch.unpacked,
            *scratch.running,
            *outputs.arrays,
            outcome,
            text_at,
        )

        def texts(codes: _Words, rows: npt.NDArray[np.intp]) -> pa.Array:
            raw = words.view(np.uint8)
            found = (
                _text(raw, int(text_at[row]), int(code)) if code else None
                for code, row in zip(codes.tolist(), rows.tolist(), strict=True)
            )
            return pa.array(list(found), pa.string())

        given = outputs.columns(np.arange(count))
        return feature_columns(program, given, at_us, texts), outcome


def words_of(states: Sequence[bytes | None] | pa.Array) -> tuple[_Words, _Words, _Words]:
    """All states' words in one array, and where each begins and ends (in words)."""
    given = states.to_pylist() if isinstance(states, pa.Array) else states
    lengths = np.array([len(state) if state else 0 for state in given], np.int64)
    whole = np.where(lengths % 8 == 0, lengths, 0)
    joined = b"".join(state for state in given if state and len(state) % 8 == 0)
    words = np.frombuffer(bytearray(joined), np.int64) if joined else np.empty(0, np.int64)
    ends = np.cumsum(whole) // 8
    begins = ends - whole // 8
    # What is no multiple of 8 bytes is no state: one word of another set stands for it.
    odd = np.flatnonzero(lengths != whole)
    if len(odd):
        stranger = np.array([0, 0], np.int64)
        begins[odd], ends[odd] = len(words), len(words) + 2
        words = np.concatenate([words, stranger])
    return words, begins, ends


def _most_events(words: _Words, begins: _Words, ends: _Words) -> int:
    """The most events that a state says to hold, never more than its words."""
    starts = begins[ends - begins > 2] + 2
    if not len(starts):
        return 0
    said = words[starts] & 0xFFFFFFFF
    longest = int((ends - begins).max())
    return min(int(said.max()), longest) + 1


def _text(raw: npt.NDArray[np.uint8], at: int, number: int) -> str:
    for _ in range(number - 1):
        at += 2 + int(raw[at]) + 256 * int(raw[at + 1])
    length = int(raw[at]) + 256 * int(raw[at + 1])
    return raw[at + 2 : at + 2 + length].tobytes().decode()
