"""A process that reads just-produced events through plain Feast and through the API, in turns.

    python -m tests.benchmarks.fresh_reads API_PORT

Each line of its input is an event as `producer` tells it, of a customer that nobody has seen
before; every other one is for Feast, the others are for the API. As long as there are some, it
asks for the number of events of all customers that it waits for, in one read each way, 2 ms after
the reads before: a reader that asks for one after the other lets the others wait, one without a
pause takes the core from what it measures. Each line of its output is JSON: `{"through": "feast"
or "api", "seconds": from the append's beginning to the end of the read that showed the event,
"read_s": how long that read took, "reads": how many it took}`.
"""

from __future__ import annotations

import http.client
import json
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store

FEATURE = "customer_activity:lifetime_event_count"
_GIVE_UP_S = 10.0
_PAUSE_S = 0.002
# From customers to the number of events of each.
Read = Callable[[Sequence[str]], list[int]]


def through_feast(settings: Settings) -> Read:
    """Reads of plain Feast."""
    store = open_store(settings)

    def read(customers: Sequence[str]) -> list[int]:
        now_us = time.time_ns() // 1000
        rows = [{"customer_id": customer, "as_of_us": now_us} for customer in customers]
        found = store.get_online_features(features=[FEATURE], entity_rows=rows).to_dict()
        return [int(value or 0) for value in found[FEATURE.partition(":")[2]]]

    return read


def through_api(port: int) -> Read:
    """The same, over one connection to the API."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def read(customers: Sequence[str]) -> list[int]:
        body = json.dumps({"features": [FEATURE], "customers": list(customers)})
        connection.request("POST", "/v1/features", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        return [int(row["values"][FEATURE] or 0) for row in answer["rows"]]

    return read


@dataclass
class _Awaited:
    key: str
    at_s: float
    reads: int = 0


class Way:
    """One way to read, and the events that it waits for."""

    def __init__(self, name: str, read: Read) -> None:
        self.waiting: list[_Awaited] = []
        self._name = name
        self._read = read

    def look(self) -> None:
        """Read once, if there is something to wait for; print what has come."""
        if not self.waiting:
            return
        began_s = time.monotonic()
        counts = self._read([event.key for event in self.waiting])
        ended_s = time.monotonic()
        left = []
        for event, count in zip(self.waiting, counts, strict=True):
            event.reads += 1
            passed_s = ended_s - event.at_s
            if not count and passed_s < _GIVE_UP_S:
                left.append(event)
                continue
            found = {
                "through": self._name,
                "seconds": passed_s if count else _GIVE_UP_S,
                "read_s": ended_s - began_s,
                "reads": event.reads,
            }
            print(json.dumps(found), flush=True)
        self.waiting = left


def _events_of(lines: IO[str]) -> queue.SimpleQueue[dict[str, Any] | None]:
    """The events, as they come; None at the end."""
    events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def read() -> None:
        for line in lines:
            events.put(json.loads(line))
        events.put(None)

    threading.Thread(target=read, daemon=True).start()
    return events


def main(argv: list[str]) -> int:
    """Read until the input ends."""
    warnings.filterwarnings("ignore")
    reads = {"feast": through_feast(Settings.from_env()), "api": through_api(int(argv[0]))}
    for read in reads.values():
        read(["nobody"])  # opens what is opened once
    ways = [Way(name, read) for name, read in reads.items()]
    print("{}", flush=True)
    events = _events_of(sys.stdin)
    number, ended = 0, False
    while not ended or any(way.waiting for way in ways):
        while not ended and (not any(way.waiting for way in ways) or not events.empty()):
            event = events.get()
            if event is None:
                ended = True
            else:
                ways[number % len(ways)].waiting.append(_Awaited(event["key"], event["at_s"]))
                number += 1
        for way in ways:
            way.look()
        time.sleep(_PAUSE_S)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
