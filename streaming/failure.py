"""What ends a run early, kept until the dataflow has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Failure:
    """The first error of a run; the source stops at it, and nothing is taken any more.

    Trap: an error that leaves one of our functions inside the dataflow becomes a panic of Bytewax,
    with pages of output, and a second one while that unwinds aborts the process.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keep an error instead of letting it out."""
        try:
            yield
        except Exception as error:  # raised again by `check`
            self.note(error)

    def note(self, error: Exception) -> None:
        """Keep an error, if it is the first."""
        self.error = self.error or error

    def check(self) -> None:
        """Raise the error, if there was one."""
        if self.error is not None:
            raise self.error
