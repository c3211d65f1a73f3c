"""Rows of a model's matrix, read out of the store for all requests of one turn of the event loop.

Requests that come in one turn are read in one round trip, decoded in one call of each kernel and
scored in one call of the model: what a call costs by itself is paid once. A request that comes
alone is answered the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING

from serving.messages import Context
from serving.statuses import StatusTable
from serving.store_connection import StoreConnection
from serving.vector_memory import Scratch, warm_kernels
from serving.vector_plan import VectorPlan, plan_vectors
from serving.vector_request import NO_CONTEXT, Reading, ScoringError, Vectors, Wanted
from serving.vector_turn import Turn

if TYPE_CHECKING:
    from serving.models import ServedModel

__all__ = [
    "NO_CONTEXT",
    "Keys",
    "Reading",
    "ScoringError",
    "VectorReader",
    "Vectors",
    "warm_kernels",
]

Encode = Callable[[str], bytes]

# How long requests wait for an answer on its way, to go out together with what comes until then:
# longer than a healthy store takes, and short beside the wait for one that is not.
_HOLD_S = 0.0005
_MOST_REMEMBERED = 50_000


@dataclass(frozen=True)
class Keys:
    """Functions from an entity's name to its key in the store."""

    customer: Encode
    corridor: Encode
    counterparty: Encode


class VectorReader:
    """Reads and scores for one model version.

    Args:
        served: the version.
        connection: of the event loop on which it is used.
        keys: of the project.
        clock: the present.
    """

    def __init__(
        self,
        served: ServedModel,
        connection: StoreConnection,
        keys: Keys,
        clock: Callable[[], datetime],
    ) -> None:
        self.served = served
        self.plan: VectorPlan = plan_vectors(served.plan, served.inputs)
        self.connection = connection
        self.keys = keys
        self.clock = clock
        self.statuses = StatusTable(self.plan.refs, self.plan.views)
        self.scratch = Scratch()
        # The corridor each customer was last seen on the way to: read along with the customer it
        # saves the second round trip, where it still is that one.
        self.last_corridors: dict[str, str] = {}
        self._turn: Turn | None = None
        self._under_way = 0
        self._sent_s = 0.0

    def read(
        self,
        customers: Sequence[str],
        as_of: datetime | None = None,
        corridor: str | None = None,
        counterparty: str | None = None,
        context: Context = NO_CONTEXT,
    ) -> Reading:
        """Rows of the customers, scored; `as_of` is now unless given.

        The future fails with StoreUnavailableError, or with ScoringError.
        """
        loop = asyncio.get_running_loop()
        turn = self._turn
        if turn is None:
            turn = self._turn = Turn(self)
            loop.call_soon(self._send)
        elif turn.held and perf_counter() - self._sent_s > _HOLD_S:
            turn.held = False
            loop.call_soon(self._send)
        done: Reading = loop.create_future()
        wanted = Wanted(customers, as_of, corridor, counterparty, context, turn.rows, done)
        turn.wanted.append(wanted)
        turn.rows += len(customers)
        return done

    def _send(self) -> None:
        """Send this turn's requests, or have them wait for the answer that is on its way."""
        turn = self._turn
        if turn is None:
            return
        if self._under_way and perf_counter() - self._sent_s < _HOLD_S:
            turn.held = True
            return
        self._turn = None
        self._under_way += 1
        self._sent_s = perf_counter()
        turn.send()

    def ended(self) -> None:
        """A turn has its answers: send what has come meanwhile."""
        self._under_way -= 1
        if self._turn is not None and self._turn.held:
            self._send()

    def remember_corridor(self, customer: str, corridor: str | None) -> None:
        """Note where a customer is on the way to."""
        known = self.last_corridors
        if corridor is None:
            known.pop(customer, None)
            return
        if len(known) >= _MOST_REMEMBERED and customer not in known:
            del known[next(iter(known))]
        known[customer] = corridor
