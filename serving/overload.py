"""How much is worked on at a time: what is more is turned away at once, so that latency stays."""

from __future__ import annotations

from feature_repo.contracts.errors import DaimaError

RETRY_AFTER_S = 1
# Customers count as the work they are: a request of 1,000 is not one of 1.
CUSTOMERS_A_REQUEST = 16


class OverloadError(DaimaError):
    """There is more work at hand than the server takes on; the same request may succeed soon."""


class Gate:
    """Counts what is in flight and refuses what goes beyond a bound.

    All requests wait for the same core, so one that is let in waits for those before it: a bound on
    their number, and on the customers in them, is a bound on latency. A request that comes alone is
    always taken. Not for several threads: an event loop's own.

    Args:
        limit: requests in flight.

    Attributes:
        in_flight: requests in flight.
        refused: requests turned away so far.
        draining: the process is about to end: answers say `Connection: close`, streams end, and
            `/health/ready` says no.

    >>> gate = Gate(1)
    >>> gate.enter(); gate.in_flight
    1
    >>> gate.leave(); gate.in_flight
    0
    """

    __slots__ = ("_most_customers", "customers", "draining", "in_flight", "limit", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.customers = 0
        self.refused = 0
        self.draining = False
        self._most_customers = limit * CUSTOMERS_A_REQUEST

    def enter(self) -> None:
        """Begin a request; `leave` ends it.

        Raises:
            OverloadError: there are too many.
        """
        if self.in_flight >= self.limit:
            self.refused += 1
            raise OverloadError(
                "requests in flight",
                self.in_flight,
                f"fewer than {self.limit}",
                f"send the same again in {RETRY_AFTER_S} s, or fewer at a time",
            )
        self.in_flight += 1

    def take(self, customers: int) -> None:
        """Add the customers of a request that has entered; `leave` gives them back.

        Raises:
            OverloadError: there are too many, and others' among them.
        """
        taken = self.customers + customers
        if taken > self._most_customers and self.customers:
            self.refused += 1
            raise OverloadError(
                "customers in flight",
                taken,
                f"at most {self._most_customers}",
                f"send the same again in {RETRY_AFTER_S} s, or fewer customers at a time",
            )
        self.customers = taken

    def leave(self, customers: int = 0) -> None:
        """End a request, and give back the customers that `take` took."""
        self.in_flight -= 1
        self.customers -= customers
