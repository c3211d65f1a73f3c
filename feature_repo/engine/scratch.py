"""The kernels' working memory: one key's unpacked events, the atoms, the sets of values."""

from __future__ import annotations

import numpy as np

from feature_repo.engine import opcodes as op
from feature_repo.engine.program import Program


class Scratch:
    """Working memory for keys of up to `events` events; not shared between threads."""

    def __init__(self, program: Program, events: int = 256) -> None:
        self._program = program
        atoms = max(len(program.atoms), 1)
        settled = int(program.constants[op.K_SETTLED])
        filters = int(program.constants[op.K_FILTERS])
        columns = max(len(program.stored), 1)
        self.settled = np.zeros(settled, np.int64)
        self.atom_ints = np.zeros((atoms, 3), np.int64)
        self.atom_floats = np.zeros((atoms, 3), np.float64)
        self.lanes = np.zeros(-(-filters // op.LANES_A_WORD), np.int64)
        self.begins = np.zeros(len(program.features), np.int64)
        self.clock = np.zeros(1, np.int64)
        self.counts = np.zeros(columns, np.int64)
        self.grow(events)

    def grow(self, events: int) -> None:
        """Make room for keys of this many events."""
        columns = max(len(self._program.stored), 1)
        places = 1 << (2 * events - 1).bit_length()
        sets = max(self._program.sets, 1)
        self.events = events
        self.times = np.zeros(events, np.int64)
        self.bits = np.zeros(events, np.int64)
        self.values = np.zeros((columns, events), np.int64)
        self.lane_sums = np.zeros((events + 1, 2 * len(self.lanes)), np.int64)
        self.sessions = np.zeros((events, 2), np.int64)
        self.links = np.zeros((len(self._program.passes), events), np.int64)
        self.set_values = np.zeros((sets, places), np.int64)
        self.set_stamps = np.zeros((sets, places), np.int64)
        self.local_texts = np.zeros(3 * columns * events + len(self._program.settled), np.int64)

    def double(self) -> None:
        """Twice the room."""
        self.grow(2 * self.events)

    @property
    def unpacked(self) -> tuple[np.ndarray, ...]:
        """Times, bits, values (as words and as floats), settled (likewise): one key."""
        return (
            self.times,
            self.bits,
            self.values,
            self.values.view(np.float64),
            self.settled,
            self.settled.view(np.float64),
        )

    @property
    def running(self) -> tuple[np.ndarray, ...]:
        """Atoms, counters, sums and sets of one scan."""
        return (
            self.atom_ints,
            self.atom_floats,
            self.lanes,
            self.lane_sums,
            self.links,
            self.sessions,
            self.begins,
            self.set_values,
            self.set_stamps,
            self.clock,
        )
