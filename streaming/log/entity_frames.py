"""What a batch of events means for each stream of the log: its projection, split by shard."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import SHARDS
from feature_repo.engine.program import compile_program
from feature_repo.engine.projection import key_texts, project
from streaming.log.frames import Partition, split_by_shard


class EntityFrames:
    """Splits batches of events into the frames of every (entity, shard) of a feature set.

    The first entity's frames hold whole events, so that everything else can be made from them
    again; the others hold what `feature_repo.engine.projection` leaves of them.

    Raises:
        DefinitionError: a definition cannot be compiled.
    """

    def __init__(self, feature_set: FeatureSet, shards: int = SHARDS) -> None:
        self.entities = tuple(entity.name for entity in feature_set.entities)
        self.shards = shards
        self._first, *others = feature_set.entities
        self._programs = [compile_program(feature_set, entity) for entity in others]

    def split(self, events: pa.RecordBatch) -> list[tuple[Partition, pa.RecordBatch]]:
        """The frames of n events of `EVENT_SCHEMA`, each in the batch's order; none is empty.

        Trap: an event whose first entity's key is null goes to the empty key's shard, for
        whoever reads it to set it aside: none vanishes on the way.
        """
        first = split_by_shard(events, key_texts(self._first, events), self.shards)
        frames = [((self._first.name, shard), rows) for shard, rows in first]
        for program in self._programs:
            rows = project(program, events)
            keys = key_texts(program.entity, rows)
            for shard, part in split_by_shard(rows, keys, self.shards):
                frames.append(((program.entity.name, shard), part))
        return frames


def with_missing_amounts(events: pa.RecordBatch, rates: ExchangeRates) -> pa.RecordBatch:
    """Fill the amounts in the reference currency where they are null; others stay.

    An event file's amounts were made with the rates of its ingestion, and must come out of a
    live log as they come out of the file.
    """
    if all(_worth_known(events, name) for name in ("amount", "fee")):
        return events  # in most logs: to work them out again takes longer than all the rest
    computed = rates.with_reference_amounts(events)
    if computed is events:
        return events
    columns = [
        pc.coalesce(events.column(name), computed.column(name))
        if name in ("amount_ref_minor", "fee_ref_minor")
        else events.column(name)
        for name in EVENT_SCHEMA.names
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def _worth_known(events: pa.RecordBatch, name: str) -> bool:
    """Whether all amounts stand beside their worth in the reference currency."""
    amounts, worth = events.column(f"{name}_minor"), events.column(f"{name}_ref_minor")
    if amounts.null_count == len(amounts) or not worth.null_count:
        return True
    return not pc.any(pc.and_not(pc.is_valid(amounts), pc.is_valid(worth))).as_py()
