"""Roll-backs on disk: whole files, chains, and what overtakes them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from serving.assignments import Assignment
from serving.orders import Order, Orders

FIRST = Order("m", "champion", ("3",), "2", "ana", "errors", "2026-03-01T08:00:00+00:00")


def test_an_order_outlives_the_process(tmp_path: Path) -> None:
    Orders(tmp_path / "rollbacks").give(FIRST)
    assert Orders(tmp_path / "rollbacks").open() == [FIRST]
    assert Orders(tmp_path / "elsewhere").open() == []


def test_a_second_rollback_still_leaves_what_the_first_left(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    orders.give(FIRST)
    second = orders.give(msgspec.structs.replace(FIRST, leaves=("2",), to="1"))
    assert second.leaves == ("3", "2")
    assert orders.open() == [second]
    said = Assignment(0, {"champion": "3", "shadow": "3"})
    assert said.after(orders.open(), "m").versions == {"champion": "1", "shadow": "3"}
    assert said.after(orders.open(), "n") == said
    back = orders.give(msgspec.structs.replace(FIRST, leaves=("1",), to="3"))
    assert back.leaves == ("2", "1"), "what it returns to is not left"


def test_an_order_is_gone_once_told_and_stays_while_telling_fails(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    orders.give(FIRST)

    def away(order: Order) -> None:
        raise ConnectionError(order.name)

    with pytest.raises(ConnectionError):
        orders.carry_out(FIRST, away)
    assert orders.open() == [FIRST]
    told: list[Order] = []
    orders.carry_out(FIRST, told.append)
    assert (told, orders.open()) == ([FIRST], [])
    orders.carry_out(FIRST, told.append)  # another process was first


def test_an_order_given_anew_while_the_former_is_told_stays(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    orders.give(FIRST)
    newer = msgspec.structs.replace(FIRST, why="still errors")
    orders.carry_out(FIRST, lambda _: orders.give(newer))
    assert orders.open() == [newer]


def test_a_file_that_is_no_order_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orders = Orders(tmp_path)
    orders.give(FIRST)
    (tmp_path / "broken.json").write_text("{")
    assert orders.open() == [FIRST]
    assert "broken.json is no order" in caplog.text


def test_a_newer_decision_takes_an_order_away_and_names_need_not_be_file_names(
    tmp_path: Path,
) -> None:
    orders = Orders(tmp_path)
    odd = msgspec.structs.replace(FIRST, name="../a/b c@d")
    orders.give(odd)
    orders.give(FIRST)
    assert sorted(path.parent for path in tmp_path.rglob("*.json")) == [tmp_path, tmp_path]
    orders.drop(odd.name, "shadow")
    orders.drop(odd.name, "champion")
    assert orders.open() == [FIRST]
