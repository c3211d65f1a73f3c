"""Durations (or amounts) of many groups, in the form that all fits take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import DatasetError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Samples:
    """n values of g groups.

    Attributes:
        value: (n,) above 0, such as seconds.
        ended: (n,) whether the value is whole; False: right-censored, it is at least so much.
        group: (n,) 0 to groups - 1.
        groups: how many.
    """

    value: Floats
    ended: Bools
    group: Ints
    groups: int

    @classmethod
    def of(cls, value: Floats, ended: Bools, group: Ints, groups: int) -> Samples:
        """Check and take.

        Raises:
            DatasetError: a value is not above 0 or not finite; there is none.

        Trap: a value of exactly 0 (a session of one event) has no place on a scale of logarithms.
        Leave such out and say how many, or measure them otherwise.
        """
        if not len(value):
            raise DatasetError("durations", 0, "at least one", "widen the window")
        wrong = ~(np.isfinite(value) & (value > 0))
        if wrong.any():
            raise DatasetError(
                "durations",
                float(value[wrong][0]),
                "finite values above 0",
                f"leave out what has no length ({int(wrong.sum())} of {len(value)})",
            )
        return cls(value, ended, group, groups)

    def total(self, weights: Floats) -> Floats:
        """Sums by group: (groups,)."""
        sums = np.bincount(self.group, weights=weights, minlength=self.groups)
        return np.asarray(sums, dtype=np.float64)

    @property
    def count(self) -> Floats:
        """Values a group."""
        return np.bincount(self.group, minlength=self.groups).astype(np.float64)

    @property
    def ends(self) -> Floats:
        """Whole values a group."""
        return self.total(self.ended.astype(np.float64))

    def grouped(self, parent: Ints, groups: int) -> Samples:
        """The same values in coarser groups: `parent` (groups,) names each group's."""
        return Samples(self.value, self.ended, parent[self.group], groups)
