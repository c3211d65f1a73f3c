from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from feature_repo.contracts.errors import SettingsError, StoreUnavailableError
from feature_repo.contracts.events import Event
from streaming.log import kafka
from streaming.log.entity_frames import EntityFrames
from streaming.log.errors import DeliveryError, LogGapError
from streaming.log.frames import Frame, Partition, Unreadable, shard_of
from streaming.log.kafka import KafkaLog, KafkaLogReader, Payload
from streaming.log.kafka_settings import create_topics, kafka_config, topic_of, topic_partitions
from tests.conftest import free_port
from tests.streaming.log.conftest import Broker
from tests.streaming.log.log_reading import (
    FEATURE_SET,
    all_partitions,
    frames_of,
    ids_by_partition,
    last_offsets,
    read_until,
    rows_in_log,
    rows_of,
)
from tests.streaming.made_events import batch_of, page_view, payment

C1: Partition = ("customer", shard_of("c1"))
PAYLOADS: tuple[Payload, ...] = ("arrow", "json")


def made_events(first: int, count: int) -> list[Event]:
    return [
        payment(number, f"c{number % 11}") if number % 3 else page_view(number, f"c{number % 11}")
        for number in range(first, first + count)
    ]


def by_partition(events: list[Event]) -> dict[Partition, list[str]]:
    split = EntityFrames(FEATURE_SET).split(batch_of(events))
    return {key: rows.column("event_id").to_pylist() for key, rows in split}


@contextmanager
def reading(
    broker: Broker, partitions: dict[Partition, int | None] | None = None
) -> Iterator[KafkaLogReader]:
    reader = KafkaLogReader(
        broker.config, all_partitions() if partitions is None else partitions, lambda: False
    )
    try:
        yield reader
    finally:
        reader.close()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_is_appended_is_read_and_reading_resumes(broker: Broker, payload: Payload) -> None:
    events = made_events(0, 60)
    log = KafkaLog(broker.config, FEATURE_SET, payload=payload)
    assert log.append(batch_of(events[:40])) == 40
    with reading(broker) as reader:
        entries = read_until(reader, rows_in_log(batch_of(events[:40])))
        assert reader.gone == {}
    assert ids_by_partition(entries) == by_partition(events[:40])
    whole = pa.Table.from_batches([batch_of(events[:40])]).sort_by("event_id")
    assert rows_of(entries).equals(whole)
    assert {"event_id", "send_country"} <= set(
        frames_of(entries, "corridor")[0].events.schema.names
    )
    assert log.append(batch_of(events[40:])) == 20
    log.close()
    with reading(broker, all_partitions(last_offsets(entries))) as reader:
        later = read_until(reader, rows_in_log(batch_of(events[40:])))
    assert ids_by_partition(later) == by_partition(events[40:])


def test_a_killed_consumer_resumes_where_it_was(broker: Broker) -> None:
    events = made_events(0, 200)
    log = KafkaLog(broker.config, FEATURE_SET)
    log.append(batch_of(events[:100]))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.streaming.log.kafka_consumer", json.dumps(broker.config)],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        seen: dict[Partition, list[str]] = {}
        offsets: dict[Partition, int] = {}
        for _ in range(3):  # it is killed before it has read all
            entity, partition, offset, ids = json.loads(process.stdout.readline())
            seen.setdefault((entity, partition), []).extend(ids)
            offsets[entity, partition] = offset
    finally:
        process.kill()
        process.communicate()
    log.append(batch_of(events[100:]))
    rest = rows_in_log(batch_of(events)) - sum(map(len, seen.values()))
    with reading(broker, all_partitions(offsets)) as reader:
        for key, ids in ids_by_partition(read_until(reader, rest)).items():
            seen.setdefault(key, []).extend(ids)
    assert seen == by_partition(events)


def test_what_is_no_event_is_set_aside_in_its_place(broker: Broker) -> None:
    log = KafkaLog(broker.config, FEATURE_SET, payload="json")
    log.append(batch_of([page_view(0, "c1")]))
    producer = Producer(broker.config)
    topic, shard = topic_of(C1[0]), C1[1]
    for value in (b"nonsense", b"\xff\xff\xff\xff not Arrow", None, b'{"event_id": 5}'):
        producer.produce(topic, value, partition=shard)
    assert producer.flush(10) == 0
    KafkaLog(broker.config, FEATURE_SET, payload="arrow").append(batch_of([page_view(1, "c1")]))
    log.append(batch_of([page_view(2, "c1")]))
    with reading(broker) as reader:
        entries = read_until(reader, 7)
    last_offsets(entries)
    bad = [entry for entry in entries if isinstance(entry, Unreadable)]
    assert [(entry.offset, entry.content) for entry in bad] == [
        (1, "b'nonsense'"),
        (2, "b'\\xff\\xff\\xff\\xff not Arrow'"),
        (3, "b''"),
        (4, "b'{\"event_id\": 5}'"),
    ]
    assert ["JSON" in entry.reason for entry in bad] == [True, False, True, True]
    assert rows_of(entries).column("event_id").to_pylist() == ["e0", "e1", "e2"]


def test_a_frame_too_large_for_a_message_becomes_several(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "MESSAGE_BYTES", 5_000)
    events = [page_view(number, "c1") for number in range(100)]
    KafkaLog(broker.config, FEATURE_SET).append(batch_of(events))
    with reading(broker, {C1: None}) as reader:
        entries = read_until(reader, 100)
    assert ids_by_partition(entries) == {C1: [event.event_id for event in events]}
    assert last_offsets(entries)[C1] > 3


def test_an_expired_log_is_a_stop_with_the_gaps_size(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tests' broker never expires anything: its low watermark is said to be another.
    class Expired(Consumer):
        def get_watermark_offsets(self, *arguments: object, **named: object) -> tuple[int, int]:
            return 12, 20

    log = KafkaLog(broker.config, FEATURE_SET, payload="json")
    log.append(batch_of([page_view(number, "c1") for number in range(20)]))
    monkeypatch.setattr(kafka, "Consumer", Expired)
    with pytest.raises(LogGapError, match=r"customer/\d: .*offset 4; 7 entries are gone") as caught:
        KafkaLogReader(broker.config, {C1: 4}, lambda: False)
    assert caught.value.missing == 7
    with reading(broker, {C1: 11}) as reader:  # 12 comes next: nothing is missing
        assert ids_by_partition(read_until(reader, 8))[C1] == [f"e{n}" for n in range(12, 20)]
    with reading(broker, {C1: None}) as reader:
        assert reader.gone == {C1: 12}


@pytest.mark.parametrize(("low", "missing"), [(9, 4), (0, None)])
def test_a_log_that_expires_while_it_is_read_is_a_stop_too(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, low: int, missing: int | None
) -> None:
    """The broker's answer `offset out of range`, which librdkafka passes on as this error."""

    class Refusal:
        def error(self) -> KafkaError:
            return KafkaError(KafkaError._AUTO_OFFSET_RESET)

        def topic(self) -> str:
            return topic_of(C1[0])

        def partition(self) -> int:
            return C1[1]

    class Expiring(Consumer):
        expired = False

        def get_watermark_offsets(self, *arguments: object, **named: object) -> tuple[int, int]:
            return (low if self.expired else 0), 20

        def consume(self, *arguments: object, **named: object) -> Any:
            self.expired = True
            return [Refusal()]

    KafkaLog(broker.config, FEATURE_SET).append(batch_of([page_view(0, "c1")]))
    monkeypatch.setattr(kafka, "Consumer", Expiring)
    monkeypatch.setattr(kafka, "Message", Refusal)
    with reading(broker, {C1: 4}) as reader, pytest.raises(LogGapError) as caught:
        reader.poll()
    assert caught.value.missing == missing


def test_expired_offsets_and_commits_are_not_a_matter_of_settings(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    class Recorder(Consumer):
        def __init__(self, config: dict[str, object]) -> None:
            seen.update(config)
            super().__init__(config)

    create_topics(broker.config, ["customer"], 8)
    monkeypatch.setattr(kafka, "Consumer", Recorder)
    wanted = {"auto.offset.reset": "earliest", "enable.auto.commit": "true", "client.id": "mine"}
    KafkaLogReader({**broker.config, **wanted}, {C1: None}, lambda: False).close()
    assert seen["auto.offset.reset"] == "error"
    assert seen["enable.auto.commit"] == "false"
    assert seen["client.id"] == "mine"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_undelivered_events_are_reported(broker: Broker, payload: Payload) -> None:
    config = broker.config | {"message.timeout.ms": "1000"}
    log = KafkaLog(config, FEATURE_SET, payload=payload)
    for _ in range(20):  # on a busy machine a second may pass before the first connection
        with suppress(DeliveryError):
            log.append(batch_of([page_view(0)]))
            break
    broker.kill()
    with pytest.raises(DeliveryError, match=r"8 events confirmed; 8 were not.*'e\d'") as caught:
        log.append(batch_of([page_view(number) for number in range(1, 9)]))
    assert sorted(caught.value.event_ids) == [f"e{number}" for number in range(1, 9)]
    assert caught.value.confirmed == 0


def test_a_broker_that_is_away_is_named() -> None:
    nobody = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "log_level": "0"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streaming.log.kafka.ANSWER_TIMEOUT_S", 0.5)
        patch.setattr("streaming.log.kafka_settings.ANSWER_TIMEOUT_S", 0.5)
        with pytest.raises(StoreUnavailableError, match=nobody["bootstrap.servers"]):
            KafkaLog(nobody, FEATURE_SET)
        with pytest.raises(StoreUnavailableError, match=nobody["bootstrap.servers"]):
            KafkaLogReader(nobody, {C1: None}, lambda: False)


def test_a_broker_that_goes_away_for_too_long_is_named(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "RETRY_FOR_S", 0.2)
    create_topics(broker.config, ["customer"], 8)
    with reading(broker, {C1: None}) as reader:
        assert reader.poll() == []
        broker.kill()
        with pytest.raises(StoreUnavailableError, match="Kafka"):
            read_until(reader, 1)


def test_another_number_of_partitions_is_refused(broker: Broker) -> None:
    assert topic_partitions(broker.config, ["customer"]) is None
    KafkaLog(broker.config, FEATURE_SET, shards=3)
    assert topic_partitions(broker.config, ["unknown", "customer"]) == 3
    with pytest.raises(SettingsError, match="is 4: expected 3, with which it was created"):
        KafkaLog(broker.config, FEATURE_SET)


def test_a_stopped_reader_ends(broker: Broker) -> None:
    create_topics(broker.config, ["customer"], 8)
    reader = KafkaLogReader(broker.config, {C1: None}, stopped=lambda: True)
    with pytest.raises(StopIteration):
        reader.poll()
    reader.close()


def test_settings_come_from_the_environment() -> None:
    environ = {
        "DAIMA_KAFKA_BOOTSTRAP_SERVERS": "k:9093",
        "DAIMA_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "DAIMA_KAFKA_SASL_PASSWORD": "secret",
        "DAIMA_HOME": "/x",
    }
    assert kafka_config(environ) == {
        "bootstrap.servers": "k:9093",
        "security.protocol": "SASL_SSL",
        "sasl.password": "secret",
    }
    with pytest.raises(SettingsError, match="DAIMA_KAFKA_BOOTSTRAP_SERVERS"):
        kafka_config({"DAIMA_KAFKA_SASL_PASSWORD": "secret"})


def test_messages_are_resumable_one_by_one(broker: Broker) -> None:
    log = KafkaLog(broker.config, FEATURE_SET, payload="json")
    log.append(batch_of([page_view(number, "c1") for number in range(10)]))
    for offset in (0, 4, 9):
        with reading(broker, {C1: offset}) as reader:
            frames = [entry for entry in read_until(reader, 9 - offset) if isinstance(entry, Frame)]
        names = [name for frame in frames for name in frame.events.column("event_id").to_pylist()]
        assert names == [f"e{number}" for number in range(offset + 1, 10)]


def test_a_property_that_is_none_is_refused(broker: Broker) -> None:
    wrong = broker.config | {"sasl.mechanism.of.choice": "x"}
    with pytest.raises(SettingsError, match=r"sasl\.mechanism\.of\.choice"):
        KafkaLog(wrong, FEATURE_SET)
    with pytest.raises(SettingsError, match=r"sasl\.mechanism\.of\.choice"):
        KafkaLogReader(wrong, {C1: None}, lambda: False)
