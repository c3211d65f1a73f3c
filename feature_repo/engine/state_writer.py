"""Writes the online values of a shard's keys."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.errors import DefinitionError
from feature_repo.engine.encode import Interner
from feature_repo.engine.keyspace import Keyspace
from feature_repo.engine.program import Program
from feature_repo.engine.scratch import Scratch
from feature_repo.engine.state import NO_ROOM, STATE_HEAD, write_states


def states_of_slots(
    program: Program,
    space: Keyspace,
    scratch: Scratch,
    interner: Interner,
    slots: npt.NDArray[np.int64],
) -> pa.Array:
    """The (k,) online values of the keys in (k,) slots, as binary.

    Raises:
        DefinitionError: they take 2 GB or more in all.
    """
    texts = np.array([stored.kind == "texts" for stored in program.stored], np.bool_)
    # A state is at most its block, whatever it replaces, and its texts.
    room = int(space.slot_words[slots].sum()) + 8 * len(slots) * (STATE_HEAD + 1)
    out = np.empty(room, np.int64)
    ends = np.zeros(len(slots) + 1, np.int64)
    reason, begin = NO_ROOM, 0
    while reason == NO_ROOM:
        reason, begin = write_states(
            program.constants,
            program.columns,
            program.settled,
            program.fingerprint_number,
            slots,
            space.slot_at,
            space.blocks,
            scratch.times,
            scratch.bits,
            scratch.values,
            scratch.settled,
            scratch.counts,
            scratch.local_texts,
            *interner.layout(),
            texts,
            out,
            ends,
            begin,
        )
        if reason == NO_ROOM:
            out = np.concatenate([out, np.empty(len(out) + 4096, np.int64)])
    used = int(ends[-1])
    if used * 8 < 2**31:
        offsets = pa.py_buffer((ends * 8).astype(np.int32))
        return pa.Array.from_buffers(
            pa.binary(), len(slots), [None, offsets, pa.py_buffer(out[:used])]
        )
    raise DefinitionError(
        "batch", len(slots), "states of less than 2 GB in all", "fold smaller batches"
    )
