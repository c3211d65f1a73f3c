"""POST /v1/events into Kafka: in the log when it is answered, 503 while there is no broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from mlflow import MlflowClient

from feature_repo.contracts.settings import SHARDS
from serving.app import create_app
from serving.catalog import Catalog
from serving.edge import Edge
from serving.settings import ServingSettings
from streaming.log.frames import Frame
from streaming.log.kafka import KafkaLogReader
from tests.serving.conftest import wait_until
from tests.serving.test_bad_input import problem
from tests.serving.test_events import EVENTS, event
from tests.streaming.log.conftest import Broker, start_broker
from tests.streaming.log.log_reading import read_until

pytestmark = pytest.mark.xdist_group("serving")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = start_broker(tmp_path / "broker.log")
    yield started
    started.kill()


@pytest.fixture
def kafka_api(  # noqa: PLR0917 - fixtures
    broker: Broker,
    settings: ServingSettings,
    catalog: Catalog,
    registry: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[TestClient[Edge]]:
    """An API whose events go to Kafka; no model is needed for that."""
    monkeypatch.setenv("DAIMA_KAFKA_BOOTSTRAP_SERVERS", broker.config["bootstrap.servers"])
    shared = replace(settings.shared, home=tmp_path)
    to_kafka = replace(settings, shared=shared, events_to="kafka")
    with TestClient(create_app(to_kafka, catalog, registry)) as client:
        yield client


def logged(broker: Broker, expected: int) -> list[dict[str, Any]]:
    """The whole events that stand in Kafka."""
    owned = {("customer", shard): None for shard in range(SHARDS)}
    reader = KafkaLogReader(broker.config, owned, lambda: False)
    try:
        entries = read_until(reader, expected)
    finally:
        reader.close()
    return [row for each in entries if isinstance(each, Frame) for row in each.events.to_pylist()]


def taken(kafka_api: TestClient[Edge], body: Any) -> dict[str, Any]:
    """The answer once the log has it: as a client does, it sends again whatever is not answered."""
    answers: list[Any] = []

    def is_taken() -> bool:
        answers.append(kafka_api.post(EVENTS, json=body))
        assert answers[-1].status_code in {200, 503, 504}, answers[-1].text
        return bool(answers[-1].status_code == 200)

    wait_until(is_taken)
    found: dict[str, Any] = answers[-1].json()
    return found


def test_events_are_in_kafka_when_they_are_answered(
    kafka_api: TestClient[Edge], broker: Broker, tmp_path: Path
) -> None:
    assert taken(kafka_api, event(0))["accepted"] == 1
    body = [event(1), event(2, event_type="transfer"), event(3, customer_id="c2")]
    answer = taken(kafka_api, body)
    assert (answer["accepted"], [one["row"] for one in answer["dead_letters"]]) == (2, [2])
    rows = logged(broker, 3)
    assert {row["event_id"] for row in rows} == {"e0", "e1", "e3"}
    assert all(row["amount_ref_minor"] > row["amount_minor"] for row in rows)
    assert b"transfer" in (tmp_path / "dead_letters" / "api.jsonl").read_bytes()


def test_a_broker_that_is_killed_gives_503_and_says_so(
    kafka_api: TestClient[Edge], broker: Broker
) -> None:
    taken(kafka_api, event(0))
    broker.kill()
    answer = kafka_api.post(EVENTS, json=event(1), headers={"x-deadline-ms": "30000"})
    assert "event log" in problem(answer, 503)["title"]
    assert answer.headers["retry-after"] == "1"
