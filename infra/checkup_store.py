"""What `daima doctor` looks at in the store: values, settings, generation, and the live log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from infra.finding import UP, Finding, ok, problem, warning
from infra.processes import answers

STREAM = "start the stream: daima stream"
_QUIET = timedelta(minutes=5)


def store(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The online store: it answers, keeps what it is given, and has the generation in force."""
    from redis.exceptions import RedisError

    from feature_repo.stores.redis_connection import connect

    name, address = "online store", settings.redis_address
    try:
        with connect(settings.redis) as client:
            client.ping()
            yield ok(name, address)
            yield from _store_settings(client)
            yield from _generation(client, settings)
    except RedisError as error:
        mend = UP.format(variable="DAIMA_REDIS")
        yield problem(name, f"{address} does not answer ({type(error).__name__})", mend)


def _store_settings(client: Any) -> Iterator[Finding]:
    from redis.exceptions import ResponseError

    try:
        found = client.config_get("maxmemory-policy", "appendonly", "save")
    except ResponseError:  # a server of others, which does not let us look
        return
    policy, memory = found.get("maxmemory-policy"), client.info("memory")
    if policy not in (None, "noeviction") and memory.get("maxmemory"):
        mend = "CONFIG SET maxmemory-policy noeviction: evicted states come back wrong"
        yield problem("store memory", f"maxmemory-policy is {policy}", mend)
    if found.get("appendonly") == "no":
        mend = "CONFIG SET appendonly yes, where the log or the values must outlive the server"
        yield warning("store persistence", "no append-only file: a restart loses the log", mend)


def _generation(client: Any, settings: Settings) -> Iterator[Finding]:
    import msgspec

    from feature_repo.contracts.feature_set import load_feature_set
    from feature_repo.contracts.settings import PROJECT
    from feature_repo.stores.generations import read_generation

    try:
        feature_set = load_feature_set(settings.definitions)
    except DaimaError:
        return  # told above
    path = settings.checkpoints(feature_set.name) / "lineage.json"
    if not path.is_file():
        return
    lineage = msgspec.json.decode(path.read_bytes())
    if not lineage["runs"]:
        return
    last = lineage["runs"][-1]
    found = read_generation(client, PROJECT)
    if not last["complete"]:
        mend = "run it again (daima replay FILE, daima rebuild), or daima stream --restart"
        yield problem("states", f"a run over {last['log']} did not finish", mend)
    elif found is None or found.number < last["generation"]:
        yield problem("states", "the store has lost its values", "refill it: daima rebuild")
    else:
        yield ok("states", f"generation {found.number}")


def event_log(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The live log: there, and how far the stream is behind."""
    from feature_repo.contracts.feature_set import load_feature_set

    if environ.get("DAIMA_KAFKA_BOOTSTRAP_SERVERS"):
        yield from _kafka(settings, environ)
    if not answers(settings.redis_address):
        return
    try:
        feature_set = load_feature_set(settings.definitions)
    except DaimaError:
        return
    yield from _valkey_log(settings, feature_set)


def _kafka(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    from feature_repo.contracts.feature_set import load_feature_set
    from streaming.log.kafka_settings import kafka_config, topic_partitions

    try:
        names = [entity.name for entity in load_feature_set(settings.definitions).entities]
        shards = topic_partitions(kafka_config(environ), names)
        if shards is None:
            mend = "daima produce FILE --to kafka makes them"
            yield warning("Kafka", "it answers; the log's topics are not there", mend)
        else:
            yield ok("Kafka", f"{shards} partitions an entity")
    except DaimaError as error:
        yield problem("Kafka", str(error), error.action)


def _valkey_log(settings: Settings, feature_set: Any) -> Iterator[Finding]:
    import msgspec
    from redis.exceptions import RedisError, ResponseError

    from feature_repo.stores.redis_connection import connect
    from streaming.checkpoints import Manifest
    from streaming.log.valkey_layout import offset_of, recorded_shards, stream_name, written_at

    whole = feature_set.entities[0].name
    folder = settings.checkpoints(feature_set.name)
    behind = timedelta(0)
    entries = 0
    try:
        with connect(settings.redis) as client:
            shards = recorded_shards(client)
            for shard in range(shards or 0):
                try:
                    stream: Any = client.xinfo_stream(stream_name(whole, shard))
                except ResponseError:
                    continue
                entries += stream["length"]
                last = offset_of(stream["last-generated-id"].decode())
                manifest = folder / f"{whole}-{shard:02d}" / "manifest.json"
                reached = None
                if manifest.is_file():
                    found = msgspec.json.decode(manifest.read_bytes(), type=Manifest)
                    reached = found.offset if found.log == "valkey" else None
                if last > (reached or 0) and stream["length"]:
                    behind = max(behind, datetime.now(UTC) - written_at(last))
    except (RedisError, msgspec.MsgspecError) as error:
        yield problem("event log", f"{type(error).__name__}", "see that the store is in order")
        return
    if shards is None:
        yield warning("event log", "empty", "daima produce FILE, or POST /v1/events")
    elif behind > _QUIET:
        yield problem("event log", f"events of {behind} ago are not in the features", STREAM)
    else:
        yield ok("event log", f"{entries:,} entries in {shards} partitions")
