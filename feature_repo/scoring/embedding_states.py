"""Many customers' embedding states as columns, to be moved on together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feature_repo.contracts.embeddings import CustomerState, Singles
from feature_repo.contracts.errors import ModelError
from feature_repo.scoring.embedding_sessions import Floats, Ints


class Stack:
    """States of n customers as columns."""

    _INSTANTS = ("first_us", "last_us", "sessions", "snapshots", "snapshot_us")
    _LOGARITHMS = ("balance_total", "balance_last")

    def __init__(self, hidden: Singles, columns: Mapping[str, Any]) -> None:
        self.hidden = hidden
        self.first_us: Ints
        self.last_us: Ints
        self.sessions: Ints
        self.snapshots: Ints
        self.snapshot_us: Ints
        self.balance_total: Floats
        self.balance_last: Floats
        self.__dict__.update(columns)

    @classmethod
    def of(cls, states: Sequence[CustomerState | None], version: str, width: int) -> Stack:
        """From states of hidden numbers `width`; None is an empty one.

        Raises:
            ModelError: a state is of another version.
        """
        hidden = np.zeros((len(states), width), dtype=np.float32)
        columns: dict[str, Any] = {
            **{name: np.zeros(len(states), dtype=np.int64) for name in cls._INSTANTS},
            **{name: np.zeros(len(states)) for name in cls._LOGARITHMS},
        }
        for row, state in enumerate(states):
            if state is None:
                continue
            if state.version != version:
                raise ModelError(
                    "embedding version", state.version, version,
                    "re-embed the customer with the version that serves",
                )  # fmt: skip
            hidden[row] = state.hidden
            for name, column in columns.items():
                column[row] = getattr(state, name)
        return cls(hidden, columns)

    def _columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self._INSTANTS, *self._LOGARITHMS)}

    def head(self, count: int) -> Stack:
        """The first customers."""
        return Stack(
            self.hidden[:count], {name: column[:count] for name, column in self._columns().items()}
        )

    def put(self, part: Stack) -> None:
        """Take back what `head` gave."""
        count = len(part.hidden)
        self.hidden[:count] = part.hidden
        for name, column in part._columns().items():
            getattr(self, name)[:count] = column

    def states(self, version: str) -> list[CustomerState]:
        """As states again."""
        columns = {name: column.tolist() for name, column in self._columns().items()}
        return [
            CustomerState(
                version,
                hidden.copy(),
                **{name: column[row] for name, column in columns.items()},
            )
            for row, hidden in enumerate(self.hidden)
        ]
