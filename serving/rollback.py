"""Rolling back: a challenger by itself once it passes a bound; here first, then in the registry."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from feature_repo.contracts.errors import ModelError
from serving import release
from serving.audit import Audit, Change
from serving.orders import Order, Orders
from serving.routing import CHALLENGER, Challenger, Line

if TYPE_CHECKING:  # it brings LightGBM: a second that `daima rollback` need not wait
    from serving.models import ServedModel

log = logging.getLogger(__name__)

WHO = "serving"
RECENT = 1_000  # requests of a challenger by which it is judged
# Fewer than these prove nothing: a first request that failed is not an error rate of one.
FEWEST_FOR_ERRORS = 100
FEWEST_FOR_P99 = 200


class Rollbacks:
    """Roll-backs of one home: written down, obeyed here, and told to the registry when it answers.

    Args:
        orders: those that the registry has not heard of.
        client: an `mlflow.MlflowClient`.
        audit: where changes are recorded.
    """

    def __init__(self, orders: Orders, client: Any, audit: Audit) -> None:
        self._orders = orders
        self._client = client
        self._audit = audit
        self._told: dict[Order, str] = {}

    def open(self) -> list[Order]:
        """Those that the registry has not heard of."""
        return self._orders.open()

    def give(self, order: Order) -> Order:
        """Write a roll-back down: it holds on this machine from now on, also after a restart.

        Raises:
            OSError: the disk does not take it.
        """
        order = self._orders.give(order)
        self._audit.write(
            Change(
                at=order.at,
                who=order.who,
                model=order.name,
                action="rollback ordered",
                alias=order.alias,
                from_=order.leaves[-1],
                to=order.to,
                why=order.why,
            )
        )
        return order

    def tell_registry(self) -> None:
        """Have the registry say what the orders say; those that it has heard of are done.

        Raises:
            mlflow.exceptions.MlflowException: the registry is away.
        """
        for order in self.open():
            try:
                self._orders.carry_out(
                    order,
                    lambda each: release.carry_out(each, client=self._client, audit=self._audit),
                )
            except ModelError as error:  # it cannot be carried out: it goes on holding here
                if self._told.get(order) != str(error):
                    self._told[order] = str(error)
                    log.error("a roll-back holds on this machine alone: %s", error)


class ChallengerWatch:
    """Judges challengers by their latest requests, and rolls back one that passes its bounds.

    For the event loop alone: `observe` costs about 2 µs.

    Args:
        line: the models that serve now.
        withdraw: takes a challenger off at once (`Champions.withdraw`).
        clock: the present.
    """

    def __init__(
        self,
        line: Callable[[], Line],
        withdraw: Callable[[Order], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._line = line
        self._withdraw = withdraw
        self._clock = clock
        self._recent: dict[str, _Recent] = {}

    def observe(self, model: ServedModel, took_s: float, *, failed: bool = False) -> None:
        """Note one request that it answered a part of: how long it took, and whether it failed.

        It failed where the version raised, or gave a number that is none. The time is that of the
        whole request.
        """
        if model.alias != CHALLENGER:
            return
        challenger = self._line().challengers.get(model.name)
        if challenger is None or challenger.model.version != model.version:
            return  # rolled back or replaced since the request began
        recent = self._recent.get(model.name)
        # By the object: a split anew of the same version begins anew.
        if recent is None or recent.bounds is not challenger.bounds:
            recent = self._recent[model.name] = _Recent(challenger)
        recent.add(failed=failed, slow=took_s > recent.p99_s)
        why = recent.verdict()
        if why is None:
            return
        del self._recent[model.name]
        self._withdraw(
            Order(
                name=model.name,
                alias=CHALLENGER,
                leaves=(model.version,),
                to=None,
                who=WHO,
                why=why,
                at=self._clock().isoformat(),
            )
        )


class _Recent:
    """A challenger's latest requests: how many failed, how many were slower than its bound."""

    def __init__(self, challenger: Challenger) -> None:
        self.bounds = challenger.bounds
        self.p99_s = challenger.bounds.p99.total_seconds()
        self._outcomes: deque[tuple[bool, bool]] = deque()
        self._failed = self._slow = 0

    def add(self, *, failed: bool, slow: bool) -> None:
        self._outcomes.append((failed, slow))
        self._failed += failed
        self._slow += slow
        if len(self._outcomes) > RECENT:
            former_failed, former_slow = self._outcomes.popleft()
            self._failed -= former_failed
            self._slow -= former_slow

    def verdict(self) -> str | None:
        """What it has done wrong, if anything."""
        count = len(self._outcomes)
        # Against at least so many: the bound is passed for certain, whatever the next ones do.
        if self._failed > self.bounds.error_rate * max(count, FEWEST_FOR_ERRORS):
            return (
                f"{self._failed} of its latest {count} requests failed; "
                f"at most {self.bounds.error_rate:.2%} may"
            )
        # The 99th percentile lies above the bound once more than one of a hundred does.
        if self._slow > 0.01 * max(count, FEWEST_FOR_P99):
            return (
                f"{self._slow} of its latest {count} requests took longer than "
                f"{self.p99_s * 1000:g} ms, which 99 % must keep within"
            )
        return None
