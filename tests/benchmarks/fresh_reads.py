"""A process that reads just-produced events through plain Feast and through the API, in turns.

    python -m tests.benchmarks.fresh_reads API_PORT

Each line of its input is an event as `producer` tells it, of a customer that nobody has seen
before. It asks for that customer's number of events until there is one. Each line of its output is
JSON: `{"through": "feast" or "api", "seconds": from the append's beginning to the end of the read
that showed the event, "read_s": how long that read took, "reads": how many it took}`.

Trap: events wait while it reads another one, and the waiting counts: figures are upper bounds.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
import warnings
from collections.abc import Callable

from feature_repo.contracts.settings import Settings
from feature_repo.stores.feast_store import open_store

FEATURE = "customer_activity:lifetime_event_count"
_GIVE_UP_S = 10.0


def through_feast(settings: Settings) -> Callable[[str], int]:
    """A function from a customer to the number of its events."""
    store = open_store(settings)

    def read(customer: str) -> int:
        row = {"customer_id": customer, "as_of_us": time.time_ns() // 1000}
        found = store.get_online_features(features=[FEATURE], entity_rows=[row]).to_dict()
        return int(found[FEATURE.partition(":")[2]][0] or 0)

    return read


def through_api(port: int) -> Callable[[str], int]:
    """The same, over one connection to the API."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def read(customer: str) -> int:
        body = json.dumps({"features": [FEATURE], "customers": [customer]})
        connection.request("POST", "/v1/features", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        return int(answer["rows"][0]["values"][FEATURE] or 0)

    return read


def main(argv: list[str]) -> int:
    """Read until the input ends."""
    warnings.filterwarnings("ignore")
    ways = {"feast": through_feast(Settings.from_env()), "api": through_api(int(argv[0]))}
    for read in ways.values():
        read("nobody")  # opens what is opened once
    print("{}", flush=True)
    for number, line in enumerate(sys.stdin):
        event = json.loads(line)
        name = list(ways)[number % 2]
        reads, seen = 0, 0
        while not seen and time.monotonic() < event["at_s"] + _GIVE_UP_S:
            began_s = time.monotonic()
            seen = ways[name](event["key"])
            ended_s = time.monotonic()
            reads += 1
        found = {
            "through": name,
            "seconds": ended_s - event["at_s"] if seen else _GIVE_UP_S,
            "read_s": ended_s - began_s,
            "reads": reads,
        }
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
