"""What a batch of events makes of a shard."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.engine.rows import FeatureRows


@dataclass(frozen=True)
class Folded:
    """What a batch of n events made of a shard.

    Attributes:
        feature_rows: a row an event, in log order, as of that event. After late events, behind
            them, rows of the events that these changed, again: of rows with one event id the last
            one holds. `rows` are the same as Arrow.
        source: (rows,) the row's position in the batch; -1 for rows given again.
        keys: (k,) the keys that the batch touched, each once.
        states: (k,) their online values.
        times_us: (k,) newest log time folded into each.
        duplicates: events left out because their key and id had come before.
    """

    feature_rows: FeatureRows
    source: npt.NDArray[np.int64]
    keys: pa.Array
    states: pa.Array
    times_us: npt.NDArray[np.int64]
    duplicates: int

    @cached_property
    def rows(self) -> pa.RecordBatch:
        """The feature rows, of `program.row_schema`."""
        return self.feature_rows.to_batch()
