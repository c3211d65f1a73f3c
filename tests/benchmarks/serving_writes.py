"""Feature writes at a steady rate, as the stream's sink makes them: fenced states of customers.

    python -m tests.benchmarks.serving_writes RATE_PER_S CUSTOMERS

writes until its input ends; its last line is `{"written_per_s": ...}`.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import numpy as np
import pyarrow as pa

from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.settings import Settings
from feature_repo.stores.redis_connection import connect
from streaming.sinks.online import OnlineWriter
from tests.benchmarks.serving_world import events_of, fold

_EVERY_S = 0.01


def main(argv: list[str]) -> int:
    """Write until the input ends."""
    rate, customers = int(argv[0]), int(argv[1])
    folded = fold(CUSTOMER, events_of(customers, seed=2))
    writer = OnlineWriter(connect(Settings.from_env().redis))
    rng = np.random.default_rng(3)
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    print("{}", flush=True)
    each = max(int(rate * _EVERY_S), 1)
    began_s = time.monotonic()
    handed = 0
    while not ended.is_set():
        rows = pa.array(rng.choice(len(folded.keys), each, replace=False))
        writer.write(
            CUSTOMER,
            1,
            2 + handed,
            folded.keys.take(rows),
            folded.states.take(rows),
            folded.times_us[rows.to_numpy()],
        )
        handed += each
        wait_s = began_s + handed / rate - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
    writer.mark()()
    took_s = time.monotonic() - began_s
    writer.close()
    print(json.dumps({"written_per_s": round(writer.written / took_s, 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
