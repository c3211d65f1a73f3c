"""Small batches of several shards, encoded as one: what a poll of a live log brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from feature_repo.engine.encode import Encoding
from feature_repo.engine.folded import Folded
from feature_repo.engine.projection import needed

if TYPE_CHECKING:
    from feature_repo.engine.shard import Shard

_FEW = 4_096  # events that are worth putting together


def fold_together(
    shards: Sequence[Shard],
    batches: Sequence[pa.RecordBatch],
    *,
    rows: bool = True,
    states: bool = True,
) -> list[Folded]:
    """Fold each batch into its shard, one after the other; all are of one program and schema.

    Encoding a few events takes as long as encoding a thousand: small batches are encoded as one.
    """
    if len(batches) > 1 and sum(map(len, batches)) > _FEW:
        return [
            shard.fold(batch, rows=rows, states=states)
            for shard, batch in zip(shards, batches, strict=True)
        ]
    program = shards[0].program
    together = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
    keep = needed(program, together)
    if keep is not None:
        together = together.filter(pa.array(keep))
    encoding = Encoding(program, together)
    made, begin, start = [], 0, 0
    for shard, batch in zip(shards, batches, strict=True):
        kept = None if keep is None else np.flatnonzero(keep[begin : begin + len(batch)])
        events = together.slice(start, len(batch) if kept is None else len(kept))
        folded = shard.fold_part(events, encoding, start, rows=rows, states=states)
        if kept is not None:
            source = folded.source
            folded = replace(folded, source=np.where(source < 0, source, kept[source]))
        made.append(folded)
        begin += len(batch)
        start += len(events)
    return made
