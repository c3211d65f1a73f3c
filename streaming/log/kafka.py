"""Kafka as a log: a topic an entity kind, a partition a shard; JSON events or Arrow frames.

At least once. The reader assigns its partitions itself (no consumer group): which offset has been
worked through is written in the checkpoints, not in Kafka.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import pyarrow as pa
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import SHARDS
from streaming.log.arrow_frames import encode_frame
from streaming.log.entity_frames import EntityFrames, with_missing_amounts
from streaming.log.errors import DeliveryError, LogGapError
from streaming.log.frames import Frame, Partition, Positions, Unreadable
from streaming.log.json_events import encode_events
from streaming.log.kafka_entries import decode_messages
from streaming.log.kafka_settings import (
    ANSWER_TIMEOUT_S,
    checked_settings,
    create_topics,
    topic_of,
    unavailable,
)

# A broker takes messages of up to 1 MiB unless it is told otherwise.
MESSAGE_BYTES = 900_000
RETRY_FOR_S = 30.0
_MESSAGES_A_POLL = 10_000
_PRODUCER = {
    "acks": "all",
    "enable.idempotence": "true",
    "compression.type": "lz4",
    "linger.ms": "5",
    "message.timeout.ms": "30000",
}
_CONSUMER = {
    "group.id": "daima",
    "queued.max.messages.kbytes": "8192",
    # Once that much is queued nothing is fetched for so long: with a second, as it comes, a stream
    # that catches up has worked the queue through long before.
    "fetch.queue.backoff.ms": "5",
}
# Not a matter of taste: an expired log must stop the reader, and offsets are the checkpoints'.
_FIXED = {"auto.offset.reset": "error", "enable.auto.commit": "false"}
_EXPIRED = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
_DENIED = (
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
)
Payload = Literal["arrow", "json"]


class KafkaLog:
    """Appends events to the topics of every entity; the topics are made if they are missing.

    The amounts in the reference currency are added here, from the dated exchange rates.

    Args:
        config: librdkafka's properties (`kafka_config` reads them from the environment); they
            win over our own for producers.
        feature_set: whose entities the log serves.
        shards: partitions of each topic.
        rates: dated exchange rates; the ones that come with daima unless given.
        payload: `arrow`, a frame a message; or `json`, an event a message.

    Raises:
        SettingsError: topics exist with another number of partitions.
        StoreUnavailableError: Kafka does not answer.
    """

    def __init__(
        self,
        config: Mapping[str, str],
        feature_set: FeatureSet,
        shards: int = SHARDS,
        rates: ExchangeRates | None = None,
        payload: Payload = "arrow",
    ) -> None:
        self._frames = EntityFrames(feature_set, shards)
        self._rates = rates or ExchangeRates()
        self._payload = payload
        create_topics(config, self._frames.entities, shards)
        with checked_settings():
            self._producer = Producer({**_PRODUCER, **config})

    def append(self, events: pa.RecordBatch) -> int:
        """Append a batch of `EVENT_SCHEMA`; returns its number of events once the log has them.

        Raises:
            DeliveryError: Kafka did not confirm some messages within `message.timeout.ms`; it
                says which events were in them.
        """
        lost: dict[str, str] = {}  # event id -> why
        waiting = 0

        def delivered(names: pa.Array, error: KafkaError | None, _: Message) -> None:
            nonlocal waiting
            waiting -= 1
            if error is not None:
                lost.update(dict.fromkeys(names.to_pylist(), error.str()))

        for partition, rows in self._frames.split(with_missing_amounts(events, self._rates)):
            for message, names in self._messages(rows):
                waiting += 1
                if error := self._produce(partition, message, partial(delivered, names)):
                    waiting -= 1
                    lost.update(dict.fromkeys(names.to_pylist(), error))
        while waiting:  # each message ends by its callback, at the latest after its time-out
            self._producer.flush(1.0)
        if lost:
            reason = ", ".join(sorted(set(lost.values())))
            raise DeliveryError(len(events) - len(lost), list(lost), reason)
        return len(events)

    def close(self) -> None:
        """Nothing waits between appends."""
        self._producer.flush(ANSWER_TIMEOUT_S)

    def _messages(self, rows: pa.RecordBatch) -> Iterator[tuple[bytes, pa.Array]]:
        """Messages of a partition, each with the ids of its events."""
        names = rows.column("event_id")
        if self._payload == "json":
            for at, text in enumerate(encode_events(rows)):
                yield text, names.slice(at, 1)
            return
        frame = encode_frame(rows)
        if len(frame) <= MESSAGE_BYTES or len(rows) == 1:
            yield frame, names
            return
        middle = len(rows) // 2
        yield from self._messages(rows.slice(0, middle))
        yield from self._messages(rows.slice(middle))

    def _produce(
        self, partition: Partition, message: bytes, delivered: Callable[..., None]
    ) -> str | None:
        """Hand a message over, once the queue has room; why it was refused at once, if it was."""
        entity, shard = partition
        while True:
            try:
                self._producer.produce(
                    topic_of(entity), message, partition=shard, on_delivery=delivered
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                return str(error.args[0].str())
            else:
                self._producer.poll(0)
                return None


class KafkaLogReader:
    """Reads some partitions of the log, each from its own position.

    Args:
        config: librdkafka's properties; they win over our own for consumers, except that an
            expired offset is an error and that nothing is committed.
        partitions: which, and after which offset; None: from the oldest message kept.
        stopped: asked at each poll; once true, the log counts as ended.

    Attributes:
        gone: see `LogReader`.

    Raises:
        LogGapError: messages after an offset to resume after have expired.
        StoreUnavailableError: Kafka does not answer, or lacks a topic.
    """

    def __init__(
        self, config: Mapping[str, str], partitions: Positions, stopped: Callable[[], bool]
    ) -> None:
        self.gone: dict[Partition, int] = {}
        self._config = config
        self._stopped = stopped
        self._positions = dict(partitions)
        self._assigned = {(topic_of(entity), at): (entity, at) for entity, at in partitions}
        self._away_since_s: float | None = None
        self._denied: KafkaError | None = None
        with checked_settings():
            self._consumer = Consumer({**_CONSUMER, **config, **_FIXED, "error_cb": self._on_error})
        try:
            self._assign()
        except BaseException:
            self._consumer.close()
            raise

    def poll(self) -> list[Frame | Unreadable]:
        """What has arrived since the last poll, decoded a partition at a time.

        Raises:
            StopIteration: `stopped()`.
            LogGapError: messages that were to be read next have expired.
            StoreUnavailableError: Kafka has been away for `RETRY_FOR_S`, or denies access.
        """
        if self._stopped():
            raise StopIteration
        messages = self._consumer.consume(_MESSAGES_A_POLL, 0)
        # A method of the class mapped over messages costs a third of a call in a loop.
        if any(map(Message.error, messages)):
            messages = list(self._without_errors(messages))
        if not messages:
            self._check_presence()
            return []
        self._away_since_s = None
        topics: Any = map(Message.topic, messages)
        places: Any = zip(topics, map(Message.partition, messages), strict=True)
        partitions = list(map(self._assigned.__getitem__, places))
        offsets: Any = list(map(Message.offset, messages))
        values: Any = list(map(Message.value, messages))
        if None in values:
            values = [value or b"" for value in values]
        read = list(decode_messages(partitions, offsets, values))
        for entry in read:
            self._positions[entry.entity, entry.partition] = entry.offset
        return read

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _assign(self) -> None:
        assigned = []
        for partition, offset in self._positions.items():
            low = self._first_kept(partition)
            if offset is None:
                if low:
                    self.gone[partition] = low
            elif low > offset + 1:
                raise LogGapError(*partition, offset, low - offset - 1)
            start = OFFSET_BEGINNING if offset is None else offset + 1
            assigned.append(TopicPartition(topic_of(partition[0]), partition[1], start))
        self._consumer.assign(assigned)

    def _first_kept(self, partition: Partition) -> int:
        """The offset of a partition's oldest message."""
        place = TopicPartition(topic_of(partition[0]), partition[1])
        try:
            low, _ = self._consumer.get_watermark_offsets(place, timeout=ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise unavailable(self._config, f"{place.topic}: {error.args[0].str()}") from error
        return int(low)

    def _without_errors(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            if (error := message.error()) is None:
                yield message
            else:
                self._refuse(error, message)

    def _refuse(self, error: KafkaError, message: Message) -> None:
        """Stop for good where going on would skip events; everything else librdkafka repeats."""
        topic, shard = message.topic(), message.partition()
        if error.code() in _EXPIRED and topic is not None and shard is not None:
            partition = self._assigned[topic, shard]
            offset = self._positions[partition]
            at = -1 if offset is None else offset
            missing = self._first_kept(partition) - at - 1
            # Not expired, then: the log ends before the offset, so it is another log.
            raise LogGapError(*partition, at, missing if missing > 0 else None)
        if error.fatal() or error.code() in _DENIED:
            raise unavailable(self._config, error.str())

    def _on_error(self, error: KafkaError) -> None:
        """Called by librdkafka, within `consume`, of what concerns no single partition."""
        if error.fatal() or error.code() in _DENIED:
            self._denied = error
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and self._away_since_s is None:
            self._away_since_s = time.monotonic()

    def _check_presence(self) -> None:
        if self._denied is not None:
            raise unavailable(self._config, self._denied.str())
        if self._away_since_s is None or time.monotonic() - self._away_since_s < RETRY_FOR_S:
            return
        try:
            self._consumer.list_topics(timeout=1.0)
        except KafkaException as error:
            raise unavailable(self._config, error.args[0].str()) from error
        self._away_since_s = None  # it has come back, with nothing new in it
