"""What `daima doctor` looks at: each check says what it found, and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from feature_repo.contracts.credentials import without_credentials
from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from infra.http_json import NoAnswerError, exchange
from infra.processes import answers

UP = "start it: daima up (its data stay), or set {variable}"
STREAM = "start the stream: daima stream"
_LOW_DISK_BYTES = 1 << 30
_QUIET = timedelta(minutes=5)
_TIMEOUT_S = 5.0


class Level(StrEnum):
    """How bad it is: a warning is worth a look, a problem keeps something from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: what was looked at.
        found: what is there.
        mend: what to do; empty where all is well.
    """

    check: str
    level: Level
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def warning(check: str, found: str, mend: str) -> Finding:
    """Worth a look."""
    return Finding(check, Level.WARNING, found, mend)


def problem(check: str, found: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(check, Level.PROBLEM, found, mend)


Check = Callable[[Settings, Mapping[str, str]], Iterator[Finding]]


def settings_and_definitions(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The settings of the API, and the feature definitions."""
    from feature_repo.contracts.feature_set import load_feature_set
    from serving.settings import ServingSettings

    try:
        ServingSettings.from_env("127.0.0.1", 8000, environ)
        yield ok("settings", f"home {settings.home}")
    except DaimaError as error:
        yield problem("settings", str(error), error.action)
    try:
        feature_set = load_feature_set(settings.definitions)
        views = len(feature_set.views)
        yield ok("definitions", f"{feature_set.name}: {views} views of stream features")
    except DaimaError as error:
        yield problem("definitions", str(error), error.action or "correct the module")


def disk(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The home folder: there, writable, with room."""
    home = settings.home
    there = next((path for path in (home, *home.parents) if path.exists()), Path("/"))
    if not os.access(there, os.W_OK):
        mend = f"make it writable (chown, chmod), or set DAIMA_HOME to another than {home}"
        yield problem("disk", f"{there} cannot be written to", mend)
        return
    free = shutil.disk_usage(there).free
    found = f"{free / (1 << 30):.1f} GiB free at {there}"
    if free < _LOW_DISK_BYTES:
        yield problem("disk", found, "make room: remove old models, compact (daima compact)")
    else:
        yield ok("disk", found)


def kernels(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The cache of compiled kernels: without it every start compiles for a minute."""
    import numba

    import feature_repo.engine  # noqa: F401 - says where they are kept

    folder = Path(environ.get("NUMBA_CACHE_DIR") or numba.config.CACHE_DIR)
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    if not os.access(there, os.W_OK):
        mend = "set NUMBA_CACHE_DIR or XDG_CACHE_HOME to a folder that can be written to"
        yield problem("kernels", f"{folder} cannot be written to: all are compiled anew", mend)
        return
    compiled = sum(1 for _ in folder.rglob("*.nbc")) if folder.is_dir() else 0
    if compiled:
        yield ok("kernels", f"{compiled} compiled in {folder}")
    else:
        mend = "nothing to do: the first command compiles them, which takes a minute"
        yield warning("kernels", f"none compiled yet in {folder}", mend)


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


def files(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The offline store, dead letters, and forgettings that were broken off."""
    from feature_repo.stores.forgotten import ForgottenFile

    if next(settings.events_table.rglob("*.parquet"), None) is None:
        mend = "daima replay FILE --mapping M.yaml, daima stream, or daima demo"
        yield warning("offline store", f"no events in {settings.events_table}", mend)
    else:
        yield ok("offline store", str(settings.offline))
    try:
        unfinished = len(ForgottenFile(settings.offline).read().pending.tombstones)
    except DaimaError as error:
        yield problem("forgotten customers", str(error), error.action)
    else:
        if unfinished:
            mend = "run daima forget CUSTOMER again; the names stand in offline/forgotten.json"
            yield problem("forgotten customers", f"{unfinished} not done to the end", mend)
    letters = [path for path in settings.dead_letters.glob("*.jsonl") if path.stat().st_size]
    if letters:
        mend = f"see {settings.dead_letters}: each says its field, value and reason"
        yield warning("dead letters", f"{len(letters)} files", mend)


def registries(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Feast's registry, MLflow and Prefect."""
    registry = settings.home / "registry.db"
    if registry.is_file():
        yield ok("Feast registry", str(registry))
    else:
        mend = 'eval "$(daima env)"; cd feature_repo; feast apply (daima up does it)'
        yield problem("Feast registry", f"{registry} is missing", mend)
    mlflow = settings.mlflow_url
    if not mlflow.startswith("http"):
        yield ok("MLflow", mlflow.split(":", 1)[0])
    elif answers(f"{mlflow}/health"):
        yield ok("MLflow", without_credentials(mlflow))
    else:
        mend = UP.format(variable="MLFLOW_TRACKING_URI")
        found = f"{without_credentials(mlflow)} does not answer; serving keeps its models"
        yield problem("MLflow", found, mend)
    prefect = without_credentials(settings.prefect_url)
    if answers(f"{settings.prefect_url}/health"):
        yield ok("Prefect", prefect)
    else:
        mend = UP.format(variable="PREFECT_API_URL")
        yield problem("Prefect", f"{prefect} does not answer: nothing retrains", mend)


def models(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The API, what it serves and what it refuses."""
    url = without_credentials(settings.api_url)
    try:
        status, ready = exchange("GET", f"{settings.api_url}/health/ready", timeout_s=_TIMEOUT_S)
    except NoAnswerError:
        mend = f"start it: {Path(sys.executable).name} -m serving (daima up does it)"
        yield problem("prediction API", f"{url} does not answer", mend)
        return
    if not isinstance(ready, dict):
        yield problem("prediction API", f"{url} is another server", "set DAIMA_API")
        return
    for missing in ready.get("missing", []):
        yield problem("prediction API", f"not ready: {missing}", "mend what is missing")
    served: dict[str, Any] = ready.get("models", {})
    if served:
        names = ", ".join(f"{model} v{version}" for model, version in served.items())
        yield ok("models", f"served: {names}")
    elif status < 400:
        yield problem("models", "none serves", "daima demo, or the retraining flow")
    for service in ready.get("not_serving", []):
        mend = f"train one and promote it: daima promote {service} VERSION"
        yield warning("models", f"no model of the feature service {service}", mend)


CHECKS: tuple[Check, ...] = (
    settings_and_definitions,
    disk,
    kernels,
    store,
    event_log,
    files,
    registries,
    models,
)
