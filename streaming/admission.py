"""What may enter the dataflow: readable, valid and timely events; the rest are set aside.

Everything that arrived together in one partition is admitted as one batch, and checked with what
arrived in the others: many small frames cost no more than a large one. The first entity's stream
carries whole events, which are held to the rules of the event schema; what is set aside there
becomes dead letters. The other streams repeat parts of the same events, so there it is only
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.errors import InputError
from feature_repo.contracts.events import (
    EARLIEST_EVENT,
    EVENT_SCHEMA,
    LATEST_EVENT,
    TIMESTAMP,
    to_epoch_us,
)
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.engine.program import Program
from streaming.lateness import LatenessGate
from streaming.log.frames import Frame, Partition, Unreadable
from streaming.mapping.dead_letters import DeadLetter, DeadLetters
from streaming.mapping.surely_valid import surely_valid
from streaming.mapping.validate import split_valid
from streaming.updates import Admitted

_EARLIEST_US, _LATEST_US = to_epoch_us(EARLIEST_EVENT), to_epoch_us(LATEST_EVENT)
_Rows = npt.NDArray[np.int64]


class Admission:
    """Lets events in, whoever has written them to the log.

    Args:
        feature_set: whose lateness holds; its first entity's stream carries whole events.
        programs: of every entity, by name.
        dead_letters: where whole events go that are not let in.
        now: the clock of a live log; None for a replay, whose events may have any age.
        watermarks_us: newest log time of each partition so far, from its checkpoint.
        admitted: called with the number of whole events let in, for counts and progress.

    Attributes:
        set_aside: events of other streams that were not let in.
    """

    def __init__(
        self,
        feature_set: FeatureSet,
        programs: Mapping[str, Program],
        dead_letters: DeadLetters,
        *,
        now: Callable[[], datetime] | None = None,
        watermarks_us: Mapping[Partition, int] | None = None,
        admitted: Callable[[int], None] = lambda events: None,
    ) -> None:
        self.set_aside = 0
        self._whole = feature_set.entities[0].name
        self._programs = programs
        self._dead_letters = dead_letters
        self._gate = LatenessGate(feature_set.lateness, now, watermarks_us)
        self._admitted = admitted

    def watermark_us(self, owned: Partition) -> int | None:
        """Newest log time of a partition (µs); None before its first event."""
        return self._gate.watermark_us(owned)

    def admit(self, entries: Sequence[Frame | Unreadable]) -> list[Admitted]:
        """The good events of entries that arrived together, one batch a partition."""
        frames: dict[str, dict[Partition, list[Frame]]] = {}
        for entry in entries:
            if isinstance(entry, Unreadable):
                self._letter(entry, entry.content, entry.reason)
            elif len(entry.events):
                groups = frames.setdefault(entry.entity, {})
                groups.setdefault((entry.entity, entry.partition), []).append(entry)
        return [batch for entity, groups in frames.items() for batch in self._enter(entity, groups)]

    def _enter(self, entity: str, groups: dict[Partition, list[Frame]]) -> Iterator[Admitted]:
        """The good events of one entity's stream."""
        together = self._all_good(entity, [frame for group in groups.values() for frame in group])
        if together is None:
            check = self._check_whole if entity == self._whole else self._check_part
            for owned, group in groups.items():
                if (found := check(group)) and (batch := self._admit(owned, group, *found)):
                    yield batch
            return
        counts = [sum(len(frame.events) for frame in group) for group in groups.values()]
        starts = [0, *accumulate(counts[:-1])]
        timely = self._gate.surely_timely(list(groups), starts, together)
        for (owned, group), start, count, good in zip(
            groups.items(), starts, counts, timely, strict=True
        ):
            events = together.slice(start, count)
            if good:
                yield self._let_in(owned, group, events)
            elif batch := self._admit(owned, group, events, _all_places(group)):
                yield batch

    def _admit(
        self, owned: Partition, frames: list[Frame], events: pa.RecordBatch, rows: _Rows
    ) -> Admitted | None:
        """The timely events of a partition's valid ones."""
        verdict = self._gate.judge(owned, events)
        kept = verdict.kept
        if not kept.all():
            for flags, reason in (
                (verdict.late, self._gate.late_reason),
                (verdict.ahead, self._gate.ahead_reason),
            ):
                self._set_aside(owned, events, rows, flags, reason)
            if not kept.any():
                return None
            events = events.filter(pa.array(kept))
        return self._let_in(owned, frames, events)

    def _let_in(self, owned: Partition, frames: list[Frame], events: pa.RecordBatch) -> Admitted:
        if owned[0] == self._whole:
            self._admitted(len(events))
        return Admitted(*owned, frames[0].offset, frames[-1].offset, events)

    def _all_good(self, entity: str, frames: list[Frame]) -> pa.RecordBatch | None:
        """The events of all frames; None unless all of them are valid.

        One check of all costs as much as one of a single frame, when they are small.
        """
        try:
            if entity == self._whole:
                if any(frame.events.schema.names != EVENT_SCHEMA.names for frame in frames):
                    return None
                whole = _concatenated([_as(EVENT_SCHEMA, frame.events) for frame in frames])
                return whole if surely_valid(whole) else None
            program = self._programs[entity]
            selected = [_select(frame.events, program.frame_schema) for frame in frames]
            parts = [part for part in selected if part is not None]
            if len(parts) < len(selected):
                return None
            together = _concatenated(parts)
            together.validate(full=True)
            return together if _complete(together, program).all() else None
        except (pa.ArrowException, ValueError):
            return None  # one of them is broken; the others are not

    def _check_whole(self, frames: list[Frame]) -> tuple[pa.RecordBatch, _Rows] | None:
        """The valid events of frames, and the place of each in the log."""
        places = _all_places(frames)
        try:
            together = pa.concat_batches([frame.events for frame in frames])
            valid, letters = split_valid(together, 0)
        except (InputError, pa.ArrowException) as error:
            # The buffers of one do not hold what they say: halving finds it in a few passes.
            if len(frames) == 1:
                self._letter(frames[0], "", str(error))
                return None
            middle = len(frames) // 2
            return _joined(map(self._check_whole, (frames[:middle], frames[middle:])))
        bad = [letter.row for letter in letters]
        self._dead_letters.extend(
            msgspec.structs.replace(letter, row=int(places[letter.row])) for letter in letters
        )
        rows = np.delete(places, bad) if bad else places
        return (_as(EVENT_SCHEMA, valid), rows) if len(valid) else None

    def _check_part(self, frames: list[Frame]) -> tuple[pa.RecordBatch, _Rows] | None:
        """As `_check_whole`, for the parts of events that another entity's features need."""
        program = self._programs[frames[0].entity]
        sound = [
            (frame, part) for frame in frames if (part := _part(frame.events, program)) is not None
        ]
        self.set_aside += sum(len(f.events) for f in frames) - sum(len(part) for _, part in sound)
        if not sound:
            return None
        events = pa.concat_batches([part for _, part in sound])
        rows = np.concatenate([_places(frame) for frame, _ in sound])
        good = _complete(events, program)
        if not good.all():
            self.set_aside += int((~good).sum())
            events, rows = events.filter(pa.array(good)), rows[good]
        return (events, rows) if len(events) else None

    def _set_aside(
        self,
        owned: Partition,
        events: pa.RecordBatch,
        rows: _Rows,
        flags: npt.NDArray[np.bool_],
        reason: str,
    ) -> None:
        places = np.flatnonzero(flags)
        if owned[0] != self._whole:
            self.set_aside += len(places)
            return
        records = events.take(pa.array(places)).to_pylist()
        self._dead_letters.extend(
            DeadLetter(
                row=int(rows[place]),
                field="event_time",
                value=record["event_time"],
                reason=reason,
                record=record,
            )
            for place, record in zip(places.tolist(), records, strict=True)
        )

    def _letter(self, entry: Frame | Unreadable, content: str, reason: str) -> None:
        place = {"entity": entry.entity, "partition": entry.partition, "offset": entry.offset}
        letter = DeadLetter(entry.offset, "row", content, reason, place)
        self._dead_letters.extend([letter])


def _joined(
    parts: Iterable[tuple[pa.RecordBatch, _Rows] | None],
) -> tuple[pa.RecordBatch, _Rows] | None:
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return (
        pa.concat_batches([events for events, _ in found]),
        np.concatenate([rows for _, rows in found]),
    )


def _concatenated(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches as one; a single one is not copied, which takes a tenth of the stream's time."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _all_places(frames: list[Frame]) -> _Rows:
    return np.concatenate([_places(frame) for frame in frames])


def _places(frame: Frame) -> _Rows:
    return np.arange(frame.offset - len(frame.events), frame.offset) + 1


def _as(schema: pa.Schema, events: pa.RecordBatch) -> pa.RecordBatch:
    """The events under a schema of the same columns: producers differ in what may be null."""
    if events.schema.equals(schema):
        return events
    return pa.RecordBatch.from_arrays(events.columns, schema=schema)


def _part(events: pa.RecordBatch, program: Program) -> pa.RecordBatch | None:
    """The columns that the features need; None unless they are all there and hold what they say.

    JSON messages have all columns of an event, whichever entity's stream they stand in.
    """
    part = _select(events, program.frame_schema)
    if part is None:
        return None
    try:
        part.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return part


def _select(events: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch | None:
    """The columns of a schema; None unless they are all there, in its types."""
    if events.schema.equals(schema):
        return events
    if not set(schema.names) <= set(events.schema.names):
        return None
    part = events.select(schema.names)
    return _as(schema, part) if part.schema.types == schema.types else None


def _complete(events: pa.RecordBatch, program: Program) -> npt.NDArray[np.bool_]:
    """Whether each event has an id, a type, a key, and an instant that can be one."""
    good = np.ones(len(events), np.bool_)
    for column in ("event_id", "event_type", "event_time", *program.entity.columns):
        if events.column(column).null_count:
            good &= events.column(column).is_valid().to_numpy(zero_copy_only=False)
    for field in events.schema:
        if field.type == TIMESTAMP:
            instants = events.column(field.name).cast(pa.int64()).fill_null(_EARLIEST_US).to_numpy()
            good &= (instants >= _EARLIEST_US) & (instants < _LATEST_US)
    return good
