"""The live stream over Kafka: it goes on after its checkpoint, with the partitions there are."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import redis

from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.contracts.settings import Settings
from streaming.live_logs import LiveLog, Source
from streaming.log.kafka import KafkaLog
from streaming.run import run_live
from tests.streaming.log.conftest import Broker
from tests.streaming.made_events import batch_of, page_view
from tests.streaming.store_reading import archived_ids, fence_of, state_of


def test_the_stream_goes_on_where_it_was(
    tmp_path: Path, broker: Broker, valkey: str, client: redis.Redis[bytes]
) -> None:
    settings = Settings.from_env({"DAIMA_HOME": str(tmp_path / "h"), "DAIMA_REDIS": valkey})
    environ = {"DAIMA_KAFKA_BOOTSTRAP_SERVERS": broker.config["bootstrap.servers"]}
    log = KafkaLog(broker.config, FEATURE_SET, shards=3)
    assert LiveLog(Source.KAFKA, settings, environ).shards(client) == 3

    def stream(count: int) -> int:
        seen: list[int] = []
        deadline_s = time.monotonic() + 30
        report = run_live(
            settings,
            lambda: sum(seen) >= count or time.monotonic() > deadline_s,
            source=Source.KAFKA,
            epoch=timedelta(seconds=0.2),
            progress=seen.append,
            environ=environ,
        )
        return report.events

    log.append(batch_of([page_view(n, f"c{n % 5}") for n in range(30)]))
    assert stream(30) == 30
    before = [state_of(client, CUSTOMER, f"c{n}") for n in range(5)]
    assert all(before)
    log.append(batch_of([page_view(n, f"c{n % 5}") for n in range(30, 50)]))
    assert stream(20) == 20
    after = [state_of(client, CUSTOMER, f"c{n}") for n in range(5)]
    assert all(a != b for a, b in zip(after, before, strict=True))
    fence = fence_of(client, CUSTOMER, "c1")
    assert fence is not None
    assert fence.generation == 1
    assert archived_ids(settings) == sorted(f"e{n}" for n in range(50))
    log.close()
