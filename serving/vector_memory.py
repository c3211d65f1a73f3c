"""The memory into which the store's answers are decoded, and the kernels made ready to do it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from serving import stored_kernel as kernel
from serving.vector_plan import VectorPlan


class Scratch:
    """Working memory of the kernels, kept from turn to turn."""

    def __init__(self) -> None:
        self.words = np.zeros(1 << 12, np.int64)
        self.raw = self.words.view(np.uint8)
        self.begins = np.zeros(64, np.int64)
        self.ends = np.zeros(64, np.int64)
        self.corridor_at = np.zeros((64, 2), np.int64)
        self.bits = np.zeros(1, np.int64)
        self.bits_as_double = self.bits.view(np.float64)
        self.bits_as_single = self.bits.view(np.float32)

    def fit(self, rows: int, size: int) -> None:
        """Make room for so many rows and bytes."""
        if size // 8 + 1 > len(self.words):
            self.words = np.zeros(2 * (size // 8 + 1), np.int64)
            self.raw = self.words.view(np.uint8)
        if rows > len(self.begins):
            self.begins = np.zeros(2 * rows, np.int64)
            self.ends = np.zeros(2 * rows, np.int64)
            self.corridor_at = np.zeros((2 * rows, 2), np.int64)


class Rows:
    """Matrix, marks and ages of some rows, to be filled by `stored_kernel.decode`."""

    __slots__ = ("ages", "marks", "matrix")

    def __init__(self, plan: VectorPlan, rows: int) -> None:
        self.matrix = np.empty((rows, plan.width))
        self.marks = np.empty((rows, plan.mark_count), np.uint8)
        self.ages = np.empty((rows, plan.view_count), np.int64)

    def fill_absent(self) -> None:
        """Rows of which nothing is found."""
        self.matrix.fill(np.nan)
        self.marks.fill(kernel.NOT_FOUND)
        self.ages.fill(kernel.NO_AGE)


@lru_cache(maxsize=1)
def warm_kernels() -> None:
    """Compile the kernels, or load them from disk: the first request must not wait for that."""
    scratch, words, none = Scratch(), np.zeros(1, np.int64), np.zeros(0, np.int64)
    table = np.zeros((0, 8), np.int64)
    matrix, marks = np.zeros((1, 1)), np.zeros((1, 1), np.uint8)
    ages = np.zeros((1, 1), np.int64)
    buffer = np.frombuffer(b"*0\r\n", np.uint8).copy()
    kernel.skip_answers(buffer, 0, 4, 1)
    kernel.decode(
        buffer, 0, 4, 1, table[:, :6].copy(), none, 1, buffer, words, words,
        matrix, marks, ages, scratch.words, scratch.begins, scratch.ends,
        scratch.bits, scratch.bits_as_double, scratch.bits_as_single,
    )  # fmt: skip
    kernel.spread(
        table, 0, 0, 1, words, words, ages, matrix, marks, scratch.raw, buffer, words, -1,
        matrix, marks, ages, scratch.corridor_at,
    )  # fmt: skip
    kernel.share(
        none, none, none, none, none, matrix, marks, ages, matrix, marks, ages
    )  # fmt: skip
