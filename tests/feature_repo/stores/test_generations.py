from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import redis

from feature_repo.stores.generations import Generation, read_generation, start_generation

PROJECT = "daima"
PRINTS = {"customer": "aaaa", "corridor": "bbbb"}
NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def test_an_empty_store_has_none(client: Any) -> None:
    assert read_generation(client, PROJECT) is None


def test_the_newest_is_in_force(client: Any) -> None:
    start_generation(client, PROJECT, {"customer": "before"})
    started = start_generation(client, PROJECT, PRINTS, now=NOW)
    assert started == Generation(2, PRINTS, NOW)
    assert read_generation(client, PROJECT) == started


def test_a_lost_store_does_not_give_out_a_number_again(client: Any) -> None:
    assert start_generation(client, PROJECT, PRINTS, at_least=8).number == 8
    assert start_generation(client, PROJECT, PRINTS, at_least=3).number == 9


def test_projects_count_by_themselves(client: Any) -> None:
    start_generation(client, PROJECT, PRINTS, at_least=5)
    assert start_generation(client, "other", PRINTS).number == 1


def test_processes_that_start_at_once_get_different_numbers(client: Any, valkey: str) -> None:
    host, port = valkey.split(":")
    found: list[int] = []
    ready = threading.Barrier(8)

    def start() -> None:
        with redis.Redis(host=host, port=int(port)) as mine:
            mine.ping()
            ready.wait()
            found.append(start_generation(mine, PROJECT, PRINTS).number)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 9))
    newest = read_generation(client, PROJECT)
    assert newest is not None
    assert newest.number == 8
