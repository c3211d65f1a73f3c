"""How to reach Kafka, and the topics of the log there.

Settings are librdkafka's own properties; those of a process stand in its environment as
`DAIMA_KAFKA_*`, upper case, with underscores for dots:

    DAIMA_KAFKA_BOOTSTRAP_SERVERS=broker-1:9093,broker-2:9093
    DAIMA_KAFKA_SECURITY_PROTOCOL=SASL_SSL
    DAIMA_KAFKA_SASL_MECHANISM=SCRAM-SHA-512
    DAIMA_KAFKA_SASL_USERNAME=daima
    DAIMA_KAFKA_SASL_PASSWORD=...
    DAIMA_KAFKA_SSL_CA_LOCATION=/etc/ssl/kafka-ca.pem
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from feature_repo.contracts.errors import SettingsError, StoreUnavailableError

ANSWER_TIMEOUT_S = 10.0
_PREFIX = "DAIMA_KAFKA_"
_SERVERS = "bootstrap.servers"
_TOPIC = "daima.events."


def kafka_config(environ: Mapping[str, str]) -> dict[str, str]:
    """The properties that an environment holds.

    Raises:
        SettingsError: it does not say where Kafka is.

    >>> kafka_config({"DAIMA_KAFKA_BOOTSTRAP_SERVERS": "k:9092", "HOME": "/"})
    {'bootstrap.servers': 'k:9092'}
    """
    config = {
        name.removeprefix(_PREFIX).lower().replace("_", "."): value
        for name, value in environ.items()
        if name.startswith(_PREFIX)
    }
    if not config.get(_SERVERS):
        raise SettingsError(
            f"{_PREFIX}BOOTSTRAP_SERVERS",
            expected="Kafka's host:port[,host:port...]",
            action="set it; other settings of librdkafka likewise, such as "
            f"{_PREFIX}SECURITY_PROTOCOL=SASL_SSL",
        )
    return config


def topic_of(entity: str) -> str:
    """The topic that holds the events of an entity kind; its partitions are the shards."""
    return f"{_TOPIC}{entity}"


def unavailable(config: Mapping[str, str], error: object) -> StoreUnavailableError:
    """The error of a Kafka that does not answer; secrets are left out."""
    return StoreUnavailableError(
        "Kafka",
        config.get(_SERVERS),
        f"a broker that answers ({error})",
        f"start it, or correct {_PREFIX}*",
    )


@contextmanager
def checked_settings() -> Iterator[None]:
    """Around the making of a client: a property that librdkafka refuses is a SettingsError."""
    try:
        yield
    except (KafkaException, TypeError, ValueError) as error:
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        raise SettingsError(
            f"{_PREFIX}*", expected=f"librdkafka's properties ({text})", action="correct them"
        ) from error


def topic_partitions(config: Mapping[str, str], entities: Iterable[str]) -> int | None:
    """With how many partitions the log was created; None if none of its topics is there.

    Raises:
        StoreUnavailableError: Kafka does not answer.
    """
    found = _topics(config, _admin(config))
    counts = [len(found[topic].partitions) for topic in map(topic_of, entities) if topic in found]
    return counts[0] if counts else None


def create_topics(config: Mapping[str, str], entities: Iterable[str], shards: int) -> None:
    """Create the log's topics where they are missing; replication is the broker's default.

    Raises:
        SettingsError: a topic is there with another number of partitions, or a setting is wrong.
        StoreUnavailableError: Kafka does not answer, or does not let us.
    """
    admin = _admin(config)
    found = _topics(config, admin)
    missing = []
    for topic in map(topic_of, entities):
        if topic not in found:
            missing.append(NewTopic(topic, shards, -1))
        elif (partitions := len(found[topic].partitions)) != shards:
            raise SettingsError(
                f"partitions of {topic}",
                shards,
                f"{partitions}, with which it was created",
                f"say {partitions}, or replay the events into new topics: "
                "a key's partition never changes",
            )
    if not missing:
        return
    for future in admin.create_topics(missing).values():
        try:
            future.result(ANSWER_TIMEOUT_S)
        except KafkaException as error:
            # Another process was faster.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise unavailable(config, error) from error


def _admin(config: Mapping[str, str]) -> AdminClient:
    with checked_settings():
        return AdminClient(dict(config))


def _topics(config: Mapping[str, str], admin: AdminClient) -> dict[str, Any]:
    try:
        return dict(admin.list_topics(timeout=ANSWER_TIMEOUT_S).topics)
    except KafkaException as error:
        raise unavailable(config, error.args[0].str()) from error


def last_offsets(config: Mapping[str, str], entities: Iterable[str]) -> dict[tuple[str, int], int]:
    """Offset of the last message of each (entity, partition) that has had one.

    Raises:
        StoreUnavailableError: Kafka does not answer.
    """
    found = _topics(config, _admin(config))
    with checked_settings():
        consumer = Consumer({"group.id": "daima", **config})
    last = {}
    try:
        for entity in entities:
            topic = topic_of(entity)
            for partition in found[topic].partitions if topic in found else ():
                place = TopicPartition(topic, partition)
                _, high = consumer.get_watermark_offsets(place, timeout=ANSWER_TIMEOUT_S)
                if high > 0:
                    last[entity, partition] = high - 1
    except KafkaException as error:
        raise unavailable(config, error.args[0].str()) from error
    finally:
        consumer.close()
    return last
