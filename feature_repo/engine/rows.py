"""Feature rows of events: kept as the kernels left them until Arrow columns are asked for.

Making the columns of a few rows takes as long as making those of a thousand: about a millisecond.
A live stream folds a few events at a time, and joins their rows before it writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.events import TIMESTAMP
from feature_repo.engine.program import Program
from feature_repo.engine.values import Outputs, Texts, feature_columns

_FEW = 4_096


@dataclass(frozen=True)
class FeatureRows:
    """Rows of one shard.

    Attributes:
        ids, keys: (n,) event ids and keys.
        times_us: (n,) instants that the rows are as of.
        outputs, order: row k is row order[k] of the outputs.
        texts: turns codes into texts.
        in_order: whether row k is row k of the outputs, and there are no others.
    """

    program: Program
    ids: pa.Array
    keys: pa.Array
    times_us: npt.NDArray[np.int64]
    outputs: Outputs
    order: npt.NDArray[np.int64]
    texts: Texts
    in_order: bool = False

    def __len__(self) -> int:
        return len(self.order)

    def trimmed(self) -> FeatureRows:
        """The same rows without the room around them, if they are few."""
        if len(self) > _FEW:
            return self
        outputs = self.outputs.taken(self.order)
        order = np.arange(len(self))
        return replace(self, outputs=outputs, order=order, in_order=True)

    def to_batch(self) -> pa.RecordBatch:
        """The rows as Arrow, of `program.row_schema`."""
        columns = self.outputs.columns(self.order)
        features = feature_columns(self.program, columns, self.times_us, self.texts)
        arrays = [self.ids, self.keys, pa.array(self.times_us).cast(TIMESTAMP), *features]
        return pa.RecordBatch.from_arrays(arrays, schema=self.program.row_schema)


def join_rows(parts: Sequence[FeatureRows]) -> FeatureRows:
    """The rows of one shard's batches, one after the other; there is at least one part."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    outputs = Outputs.joined(
        [part.outputs if part.in_order else part.outputs.taken(part.order) for part in parts]
    )
    return FeatureRows(
        first.program,
        pa.concat_arrays([part.ids for part in parts]),
        pa.concat_arrays([part.keys for part in parts]),
        np.concatenate([part.times_us for part in parts]),
        outputs,
        np.arange(sum(map(len, parts))),
        first.texts,
        in_order=True,
    )
