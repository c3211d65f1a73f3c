"""Stream features as of any (key, instant), from the history of events, with the live kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.engine.program import Program
from feature_repo.engine.projection import key_texts, log_times_us, project
from feature_repo.engine.shard import Shard
from feature_repo.stores.event_history import ORDER_COLUMNS

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Spine:
    """Questions: whose features, and as of when.

    Attributes:
        keys: entity name -> (n,) its keys, null where a row asks for none.
        at_us: (n,) instants, µs since 1970; null where there is none.
    """

    keys: dict[str, pa.Array]
    at_us: pa.Array

    @classmethod
    def of(cls, feature_set: FeatureSet, rows: pa.Table, time_column: str) -> Spine:
        """The questions in a table's rows: one entity's keys a join key among its columns.

        Raises:
            DatasetError: it has no join key of the set, no instants, or keys that are no texts.
        """
        entities = [e for e in feature_set.entities if e.join_key in rows.column_names]
        if not entities:
            known = ", ".join(entity.join_key for entity in feature_set.entities)
            raise DatasetError(
                "spine", rows.column_names, f"a key column: {known}", "name it as the set does"
            )
        keys = {entity.name: _texts(rows.column(entity.join_key)) for entity in entities}
        return cls(keys, _instants(rows, time_column))


def needed_columns(programs: Iterable[Program]) -> frozenset[str]:
    """The columns of events that programs read, and those that put events in order."""
    return ORDER_COLUMNS.union(*(program.frame_schema.names for program in programs))


def features_at(
    programs: Sequence[Program],
    batches: Iterable[pa.RecordBatch],
    spine: Spine,
    progress: Progress = lambda events: None,
) -> pa.Table:
    """Features as of each of n questions: (n,) rows in their order, the programs' outputs.

    A key that is unknown has no events: its counts are 0, everything else is null. A question
    without a key or an instant has nulls only.

    Args:
        programs: of the entities whose keys the spine has.
        batches: events by log time (`read_in_log_order`), with `needed_columns`.
        progress: called with the number of events just read.

    Trap: only events of keys that are asked for are kept, so memory follows the spine.
    """
    answers = [_Answers(program, spine) for program in programs]
    for events, until_us in _with_next(batches):
        for each in answers:
            each.take(events, until_us)
        progress(len(events))
    for each in answers:
        each.take(None, None)
    columns = [column for each in answers for column in each.columns()]
    schema = pa.schema([field for each in answers for field in each.schema])
    return pa.Table.from_arrays(columns, schema=schema)


class _Answers:
    """The answers to one entity's questions, collected in the order of their instants."""

    def __init__(self, program: Program, spine: Spine) -> None:
        self._program = program
        self._shard = Shard(program)
        keys = spine.keys[program.entity.name]
        self._count = len(keys)
        asked = pc.and_(keys.is_valid(), spine.at_us.is_valid()).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(asked)
        at_us = spine.at_us.take(pa.array(rows)).to_numpy()
        order = np.argsort(at_us, kind="stable")
        self._rows, self._at_us = rows[order], at_us[order]
        self._keys = keys.take(pa.array(self._rows))
        self._known = self._keys.unique()
        self._asked = 0
        self._answers: list[pa.RecordBatch] = []

    @property
    def schema(self) -> pa.Schema:
        return self._program.feature_schema

    def take(self, events: pa.RecordBatch | None, until_us: int | None) -> None:
        """Fold in events; answer the questions before `until_us`, the next event's log time."""
        last = len(self._at_us)
        end = last if until_us is None else int(np.searchsorted(self._at_us, until_us))
        if self._asked == last:
            return
        frame = self._of_asked(events)
        if end > self._asked:
            self._answers.append(
                self._shard.ask(
                    frame,
                    self._keys.slice(self._asked, end - self._asked),
                    self._at_us[self._asked : end],
                )
            )
            self._asked = end
        elif len(frame):
            self._shard.fold(frame, rows=False, states=False)

    def columns(self) -> list[pa.Array]:
        """The answers in the order of the spine's rows."""
        place = np.full(self._count, -1)
        place[self._rows] = np.arange(len(self._rows))
        index = pa.array(place, mask=place < 0)
        answers = pa.Table.from_batches(self._answers, self.schema).combine_chunks()
        return list(answers.take(index).columns)

    def _of_asked(self, events: pa.RecordBatch | None) -> pa.RecordBatch:
        if events is None:
            return pa.RecordBatch.from_pylist([], self._program.frame_schema)
        frame = project(self._program, events)
        keys = key_texts(self._program.entity, frame)
        return frame.filter(pc.is_in(keys, self._known))


def _with_next(
    batches: Iterable[pa.RecordBatch],
) -> Iterator[tuple[pa.RecordBatch, int | None]]:
    """Each batch with the log time of the first event after it."""
    held: pa.RecordBatch | None = None
    for batch in batches:
        if not len(batch):
            continue
        if held is not None:
            yield held, int(log_times_us(batch.slice(0, 1))[0])
        held = batch
    if held is not None:
        yield held, None


def _texts(column: pa.ChunkedArray) -> pa.Array:
    return _one(column).cast(pa.string())


def _instants(rows: pa.Table, name: str) -> pa.Array:
    """µs since 1970; an instant without a zone is UTC."""
    if name not in rows.column_names:
        raise DatasetError(
            "spine", rows.column_names, f"a column of instants, {name}", "add or rename it"
        )
    column = _one(rows.column(name))
    if not pa.types.is_timestamp(column.type):
        raise DatasetError(name, str(column.type), "instants", "write ISO 8601 with a time zone")
    # Nanoseconds are cut, as everywhere else.
    return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())


def _one(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
