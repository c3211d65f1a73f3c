"""A challenger that fails or is slow is taken off; a good one, and bad luck, are not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from serving.orders import Order
from serving.rollback import FEWEST_FOR_ERRORS, RECENT, ChallengerWatch
from serving.routing import CHALLENGER, Bounds, Challenger, Line, Slot
from tests.serving.conftest import NOW
from tests.serving.test_routing import version

CHAMPION_MODEL = version("m", "1")
CHALLENGER_MODEL = version("m", "2", CHALLENGER)


class Server:
    """A line with a challenger, and the orders that it was given."""

    def __init__(self, bounds: Bounds) -> None:
        self.line = Line({"m": CHAMPION_MODEL}, {"m": Challenger(CHALLENGER_MODEL, 0.5, bounds)})
        self.orders: list[Order] = []
        self.watch = ChallengerWatch(lambda: self.line, self.withdraw, lambda: NOW)

    def withdraw(self, order: Order) -> bool:
        self.orders.append(order)
        self.line = self.line.without(Slot(order.name, order.alias), order.leaves[0])
        return True


@pytest.fixture
def server() -> Server:
    return Server(Bounds(error_rate=0.05, p99=timedelta(milliseconds=10)))


def test_one_that_always_fails_is_off_after_a_handful(server: Server) -> None:
    for _ in range(50):
        server.watch.observe(CHALLENGER_MODEL, 0.001, failed=True)
    (order,) = server.orders
    assert (order.name, order.alias, order.leaves, order.to) == ("m", "challenger", ("2",), None)
    assert order.why == "6 of its latest 6 requests failed; at most 5.00% may"
    assert (order.who, order.at) == ("serving", NOW.isoformat())


def test_an_error_rate_above_the_bound_is_off_and_one_below_stays(server: Server) -> None:
    for number in range(5_000):
        server.watch.observe(CHALLENGER_MODEL, 0.001, failed=number % 25 == 0)
    assert server.orders == [], "four of a hundred are within five"
    for number in range(RECENT):
        server.watch.observe(CHALLENGER_MODEL, 0.001, failed=number % 14 == 0)
    assert len(server.orders) == 1


def test_a_slow_one_is_off_and_one_slow_in_a_thousand_stays(server: Server) -> None:
    for number in range(5_000):
        server.watch.observe(CHALLENGER_MODEL, 0.5 if number % 1000 == 0 else 0.001)
    assert server.orders == []
    for number in range(RECENT):
        server.watch.observe(CHALLENGER_MODEL, 0.011 if number % 50 == 0 else 0.001)
    (order,) = server.orders
    assert "took longer than 10 ms, which 99 % must keep within" in order.why


def test_a_first_failure_proves_nothing(server: Server) -> None:
    for _ in range(int(0.05 * FEWEST_FOR_ERRORS)):
        server.watch.observe(CHALLENGER_MODEL, 0.001, failed=True)
    assert server.orders == []


def test_the_champion_and_a_version_that_is_gone_are_not_judged(server: Server) -> None:
    for _ in range(1_000):
        server.watch.observe(CHAMPION_MODEL, 9.0, failed=True)
        server.watch.observe(version("m", "9", CHALLENGER), 9.0, failed=True)
    assert server.orders == []


def test_a_new_split_begins_anew(server: Server) -> None:
    for _ in range(5):
        server.watch.observe(CHALLENGER_MODEL, 0.001, failed=True)
    bounds = Bounds(error_rate=0.05, p99=timedelta(milliseconds=20))
    server.line = Line({"m": CHAMPION_MODEL}, {"m": Challenger(CHALLENGER_MODEL, 0.9, bounds)})
    for _ in range(5):
        server.watch.observe(CHALLENGER_MODEL, 0.001, failed=True)
    assert server.orders == []
