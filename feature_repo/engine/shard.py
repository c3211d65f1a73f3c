"""One shard's state: what it remembers of its keys, and what a batch of events makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.errors import DefinitionError
from feature_repo.engine import assign, fold
from feature_repo.engine import opcodes as op
from feature_repo.engine.encode import Encoded, Encoding, Interner
from feature_repo.engine.folded import Folded
from feature_repo.engine.hashing import hash128
from feature_repo.engine.keyspace import Keyspace
from feature_repo.engine.program import Program
from feature_repo.engine.projection import needed, plain_texts
from feature_repo.engine.recent_ids import RecentIds
from feature_repo.engine.rows import FeatureRows
from feature_repo.engine.scratch import Scratch
from feature_repo.engine.state_copy import Snapshotting
from feature_repo.engine.state_writer import states_of_slots
from feature_repo.engine.together import fold_together
from feature_repo.engine.values import Outputs, feature_columns

SNAPSHOT_FORMAT = 3
_Words = npt.NDArray[np.int64]
_NO_WORDS = np.empty(0, np.int64)


class _Groups:
    """The items of a batch, linked key by key (see `assign`)."""

    def __init__(self, items: int) -> None:
        self.slot = np.empty(items, np.int64)
        self.first = np.empty(items, np.int64)
        self.last = np.empty(items, np.int64)
        self.following = np.empty(items, np.int64)


class Shard:
    """The keys of one shard, ready to fold events in and to be asked.

    Give every event of a key to the same shard, in the order of the log. Events may be out of
    order by up to `program.lateness`; a repeated event id of a key changes nothing.

    Trap: later events than that must have been set aside before (`streaming/lateness.py`): what
    they would change is no longer kept.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._space = Keyspace()
        self._interner = Interner()
        self._recent = RecentIds(program.lateness)
        self._scratch = Scratch(program)
        self._folded = 0
        self._batch = 0

    @property
    def keys(self) -> int:
        """How many keys the shard knows, or has known and forgotten."""
        return self._space.keys

    @property
    def nbytes(self) -> int:
        """Bytes of state in use, indexes included."""
        return self._space.nbytes + self._recent.nbytes

    def fold(self, events: pa.RecordBatch, *, rows: bool = True, states: bool = True) -> Folded:
        """Fold in a batch, the next of the log.

        Args:
            events: the columns of `program.frame_schema` at least. Events without a key, or of a
                type that no feature uses, change nothing.
            rows: whether feature rows are wanted.
            states: whether the touched keys' online values are wanted.
        """
        return fold_together([self], [events], rows=rows, states=states)[0]

    def fold_part(
        self, events: pa.RecordBatch, encoding: Encoding, start: int, *, rows: bool, states: bool
    ) -> Folded:
        """As `fold`, of events that are needed and lie in an encoding from `start` on."""
        encoded = encoding.cut(start, start + len(events), self._interner, self._folded)
        order = np.arange(len(events), dtype=np.int64)
        outputs, given = self._run(encoded, order, None, rows)
        keys, times, online = self._touched(encoded, states)
        self._remember(events, encoded)
        feature_rows, source = self._rows(events, encoded, outputs, given)
        duplicates = int(self._space.counters[assign.N_DUPLICATES])
        return Folded(feature_rows, source, keys, online, times, duplicates)

    def ask(
        self, events: pa.RecordBatch, keys: pa.Array, at_us: npt.NDArray[np.int64]
    ) -> pa.RecordBatch:
        """Fold a batch in and answer questions in between.

        Args:
            events: the next batch of the log, see `fold`; may be empty.
            keys: (q,) whose features are asked for.
            at_us: (q,) at which instant, µs since 1970, in any order.

        Returns:
            (q,) rows of `program.feature_schema`, in the order of the questions. Each sees the
            events folded before and those of this batch with a log time of at most its instant.
        """
        keep = needed(self.program, events)
        if keep is not None:
            events = events.filter(pa.array(keep))
        encoded = Encoding(self.program, events).cut(0, len(events), self._interner, self._folded)
        n, q = len(events), len(keys)
        at_us = np.array(at_us, np.int64)
        # The log is nearly ordered: a question comes behind every event known by its instant, so
        # behind the running maximum a late event would be missed. Sorted by its own log time.
        moments = np.concatenate([encoded.known, at_us])
        order = np.lexsort((np.repeat([0, 1], [n, q]), moments)).astype(np.int64)
        outputs, _ = self._run(encoded, order, (*hash128(keys), at_us), False, q)
        self._remember(events, encoded)
        given = outputs.columns(np.arange(q))
        columns = feature_columns(self.program, given, at_us, self._texts)
        return pa.RecordBatch.from_arrays(columns, schema=self.program.feature_schema)

    def states_of(self, keys: pa.Array) -> tuple[pa.Array, _Words]:
        """The (k,) online values of (k,) keys, and the newest log time folded into each (µs).

        Raises:
            KeyError: the shard has seen no event of one of them.
        """
        slots = self._space.slots_of(*hash128(keys))
        if (slots < 0).any():
            raise KeyError(keys[int(np.argmax(slots < 0))].as_py())
        return states_of_slots(
            self.program, self._space, self._scratch, self._interner, slots
        ), self._space.blocks[self._space.slot_at[slots] + 2]

    def forget(self, key: str) -> bool:
        """Remove a key and what is remembered of its events; whether it was there.

        Its next event finds an empty state. Of its old events nothing stays but 64-bit hashes of
        their ids, for the lateness: one that is sent again changes nothing, as ever. A copy in
        the making (`copying`) is spoiled.
        """
        low, high = hash128(pa.array([key], pa.string()))
        self._recent.forget(key)
        return self._space.forget(int(low[0]), int(high[0]))

    def _remember(self, events: pa.RecordBatch, encoded: Encoded) -> None:
        """Number the events; also without rows, since a late event may come after a restart."""
        if self.program.entity.hop is None:
            ids = plain_texts(events.column("event_id"))
            self._recent.add(ids, plain_texts(encoded.keys), encoded.known, self._folded)
        self._folded += len(events)

    def _texts(self, codes: _Words, rows: npt.NDArray[np.intp]) -> pa.Array:
        return self._interner.array(codes)

    def _run(
        self,
        encoded: Encoded,
        order: _Words,
        questions: tuple[_Words, _Words, _Words] | None,
        want_rows: bool,
        question_rows: int = 0,
    ) -> tuple[Outputs, tuple[_Words, _Words]]:
        program, space, scratch = self.program, self._space, self._scratch
        n = len(encoded.low)
        capacity = n + n // 16 + 64 if want_rows else 0
        outputs = Outputs(program, max(capacity, question_rows))
        source, times = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
        low, high, at_us = questions or (_NO_WORDS, _NO_WORDS, _NO_WORDS)
        groups = self._assign(encoded, order, low, high)
        reason, begin = -1, 0
        while reason != fold.DONE:
            reason, begin = fold.fold_groups(
                program.constants,
                program.passes,
                program.atoms,
                program.features,
                program.columns,
                program.settled,
                program.keeps,
                encoded.words,
                encoded.words.view(np.float64),
                at_us,
                space.slot_at,
                space.slot_words,
                space.blocks,
                space.free,
                space.counters,
                groups.slot,
                groups.first,
                groups.following,
                *scratch.unpacked,
                *scratch.running,
                scratch.counts,
                want_rows,
                *outputs.arrays,
                source,
                times,
                begin,
            )
            match reason:
                case fold.MORE_WORDS:
                    space.more_words()
                case fold.MORE_SCRATCH:
                    scratch.double()
                case fold.MORE_ROWS:
                    capacity = 2 * capacity + scratch.events
                    outputs = outputs.grown(program, capacity)
                    source = np.concatenate([source, np.empty(capacity - len(source), np.int64)])
                    times = np.concatenate([times, np.empty(capacity - len(times), np.int64)])
        rows = int(space.counters[assign.N_ROWS])
        return outputs, (source[:rows], times[:rows])

    def _assign(self, encoded: Encoded, order: _Words, q_low: _Words, q_high: _Words) -> _Groups:
        space = self._space
        space.make_room(len(encoded.low))
        space.counters[[assign.N_ROWS, assign.N_DUPLICATES]] = 0
        self._batch += 1
        groups = _Groups(len(order))
        assign.assign(
            int(self.program.constants[op.K_LATENESS]),
            order,
            encoded.low,
            encoded.high,
            encoded.ident,
            encoded.known,
            q_low,
            q_high,
            space.table,
            space.slot_low,
            space.slot_high,
            space.slot_at,
            space.slot_words,
            space.slot_group,
            space.slot_batch,
            space.counters,
            space.ids,
            space.old_ids,
            self._batch,
            groups.slot,
            groups.first,
            groups.last,
            groups.following,
        )
        self._groups = groups
        count = int(space.counters[assign.N_GROUPS])
        self._first_items = groups.first[:count].copy()
        space.before_change(groups.slot[:count], encoded.ident, groups.following)
        return groups

    def _touched(self, encoded: Encoded, states: bool) -> tuple[pa.Array, _Words, pa.Array]:
        count = int(self._space.counters[assign.N_GROUPS])
        slots = self._groups.slot[:count]
        keys = plain_texts(encoded.keys.take(pa.array(self._first_items)))
        times = self._space.blocks[self._space.slot_at[slots] + 2]
        if not states:
            return keys, times, pa.nulls(count, pa.binary())
        return (
            keys,
            times,
            states_of_slots(self.program, self._space, self._scratch, self._interner, slots),
        )

    def _rows(
        self,
        events: pa.RecordBatch,
        encoded: Encoded,
        outputs: Outputs,
        given: tuple[_Words, _Words],
    ) -> tuple[FeatureRows, npt.NDArray[np.int64]]:
        source, times = given
        place = np.full(len(events), -1)  # of each event's row: from groups back to log order
        fresh = np.flatnonzero(source >= 0)
        place[source[fresh]] = fresh
        again = np.flatnonzero(source < 0)
        fresh = place[place >= 0]
        order = np.concatenate([fresh, again]) if len(again) else fresh
        ids, keys = plain_texts(events.column("event_id")), plain_texts(encoded.keys)
        if len(fresh) < len(events):
            which = pa.array(source[fresh])
            ids, keys = ids.take(which), keys.take(which)
        if len(again):
            ids_again, keys_again = self._recent.find(-1 - source[again])
            ids, keys = pa.concat_arrays([ids, ids_again]), pa.concat_arrays([keys, keys_again])
        rows = FeatureRows(self.program, ids, keys, times[order], outputs, order, self._texts)
        return rows.trimmed(), np.concatenate([source[fresh], np.full(len(again), -1)])

    def snapshot(self) -> dict[str, Any]:
        """Plain data to build an equal shard from; shares no array with the live state."""
        copy = self.copying()
        while not copy.step(1 << 62):
            pass
        return copy.result()

    def copying(self) -> Snapshotting:
        """Begin a snapshot as of now, made in steps; events are folded in between."""
        return Snapshotting(
            self._space,
            {
                "format": SNAPSHOT_FORMAT,
                "fingerprint": self.program.fingerprint,
                "folded": self._folded,
                "texts": list(self._interner.texts),
                "recent": self._recent.snapshot(),
            },
        )

    @classmethod
    def restore(cls, program: Program, snapshot: dict[str, Any]) -> Shard:
        """Build a shard from a snapshot.

        Raises:
            DefinitionError: the snapshot is of another format or of other definitions.
        """
        found = (snapshot.get("format"), snapshot.get("fingerprint"))
        if found != (SNAPSHOT_FORMAT, program.fingerprint):
            raise DefinitionError(
                "snapshot",
                f"format {found[0]}, definitions {found[1]}",
                f"format {SNAPSHOT_FORMAT}, definitions {program.fingerprint}",
                "remove the checkpoints and replay the log",
            )
        shard = cls(program)
        shard._folded = snapshot["folded"]
        shard._interner = Interner(list(snapshot["texts"]))
        shard._recent.restore(snapshot["recent"])
        shard._space = Keyspace.restore(snapshot)
        return shard
