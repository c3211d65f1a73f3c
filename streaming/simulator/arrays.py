"""Dataclasses of arrays that belong together, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from streaming.simulator.randomness import Ints


@dataclass(frozen=True)
class Arrays:
    """Base of dataclasses whose fields are arrays (or `Arrays`) with the same number of rows."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def at(self, rows: Ints) -> Self:
        """The given rows, which may repeat."""
        return type(self)(
            **{
                item.name: value.at(rows) if isinstance(value, Arrays) else value[rows]
                for item in fields(self)
                for value in [getattr(self, item.name)]
            }
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        columns = {item.name: [getattr(part, item.name) for part in parts] for item in fields(cls)}
        return cls(
            **{
                name: type(column[0]).joined(column)
                if isinstance(column[0], Arrays)
                else np.concatenate(column)
                for name, column in columns.items()
            }
        )
