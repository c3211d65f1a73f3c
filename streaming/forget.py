"""Forgets a customer everywhere: the right to be forgotten.

1. A tombstone is written: from here on nothing of before is let in or read again, whoever reads.
2. States and checkpoints are freed of the customer, partition by partition: by the stream that has
   them, in its flow, or here where none has. Whoever does it deletes what stands online.
3. The rows go out of every file under daima's home.
4. The tombstone loses the name: what stays is a hash.

It may be broken off anywhere, and is then run again. Events that come after it start anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import redis
from redis.exceptions import RedisError, ResponseError

from feature_repo.contracts.errors import DaimaError, StoreUnavailableError
from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.settings import PROJECT, SHARDS, Settings
from feature_repo.stores.embedding_changes import forget_changes
from feature_repo.stores.forgotten import (
    ForgottenFile,
    Tombstone,
    Tombstones,
    key_of,
    place_of,
)
from feature_repo.stores.generations import read_generation
from feature_repo.stores.redis_connection import connect
from feature_repo.stores.redis_layout import entity_key_encoder
from streaming.checkpoints import CheckpointError, PartitionCheckpoint
from streaming.forget_values import delete_predictions, delete_values
from streaming.forgetting import CUSTOMER, partitions_of
from streaming.live_logs import Source
from streaming.log.frames import Partition
from streaming.log.kafka_settings import kafka_config, last_offsets
from streaming.log.valkey_layout import offset_of, recorded_shards, stream_name
from streaming.offline_files import rewriting
from streaming.purge import Later, purge
from streaming.setup import Setup

WAIT = timedelta(seconds=90)
_POLL_S = 0.1


class ForgetError(DaimaError):
    """A customer is not forgotten everywhere yet; it says what is left to do."""


@dataclass
class ForgetReport:
    """What was forgotten.

    Attributes:
        known: whether anything was found of the customer.
        online: keys deleted here from the online store; a stream deletes those that it owns.
        by_stream: partitions that a running stream freed of the customer.
        here: partitions freed here.
        files, rows: files rewritten, and rows taken out of them.
        seconds: wall-clock time.
    """

    known: bool = False
    online: int = 0
    by_stream: list[str] = field(default_factory=list)
    here: list[str] = field(default_factory=list)
    files: int = 0
    rows: int = 0
    seconds: float = 0.0


def forget(
    settings: Settings,
    customer: str,
    *,
    feature_set: FeatureSet | None = None,
    environ: Mapping[str, str] = os.environ,
    wait: timedelta = WAIT,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Callable[[str, int], None] = lambda step, done: None,
) -> ForgetReport:
    """Forget a customer: online values, states, checkpoints, files; a stream may go on meanwhile.

    Args:
        feature_set: whose states; the one that the settings name unless given.
        environ: says where Kafka is, if there is one.
        wait: how long a running stream may take.
        progress: told a step and how much more of it is done.

    Raises:
        StoreUnavailableError: the online store or Kafka does not answer.
        ForgetError: a running stream has not answered in time, or states of other definitions
            are still there.
        PurgeError: a file cannot be read.
    """
    started_s = time.monotonic()
    report = ForgetReport()
    tombstones = ForgottenFile(settings.offline)
    with _answering(settings) as client:
        setup = Setup(settings, feature_set, recorded_shards(client) or SHARDS)
        if setup.folder.is_dir():
            setup.shards = setup.lineage(client).known_shards() or setup.shards
        key = key_of(customer)
        _write(tombstones, key, customer, to_epoch_us(now()), _ends(client, setup, environ))
        work = _Forgetting(setup, client, tombstones, customer, key, report)
        work.free_partitions(wait)
        progress("partitions", len(report.by_stream) + len(report.here))
        report.online += delete_values(client, customer) + delete_predictions(client, customer)
        report.online += forget_changes(client, customer)
        _refuse_other_sets(setup, tombstones, key)
        settings.offline.mkdir(parents=True, exist_ok=True)
        with rewriting(settings.offline):
            purged = purge(
                settings.home, customer, work.later(), lambda files: progress("files", files)
            )
        report.files, report.rows = purged.files, purged.rows
    _finish(tombstones, key)
    report.known = report.known or bool(report.online or report.rows)
    report.seconds = time.monotonic() - started_s
    return report


class _Forgetting:
    """The partitions that may name the customer, freed one by one."""

    def __init__(  # noqa: PLR0917 - what a forgetting works on
        self,
        setup: Setup,
        client: redis.Redis[bytes],
        tombstones: ForgottenFile,
        customer: str,
        key: str,
        report: ForgetReport,
    ) -> None:
        self._setup = setup
        self._client = client
        self._tombstones = tombstones
        self._customer = customer
        self._key = key
        self._report = report
        self._own: Partition | None = None

    def free_partitions(self, wait: timedelta) -> None:
        """Free those that nobody holds, and wait for those that a stream holds."""
        left = dict(partitions_of(self._customer, self._setup.programs, self._setup.shards))
        if not any(left.values()):  # a set without an entity of customers
            self._delete_online()
        deadline_s = time.monotonic() + wait.total_seconds()
        while left:
            for owned, own in list(left.items()):
                if own:
                    self._own = owned
                if place_of(*owned) in self._applied():
                    self._report.by_stream.append(place_of(*owned))
                    self._report.known = True
                    del left[owned]
                elif self._freed(owned, own):
                    self._report.here.append(place_of(*owned))
                    del left[owned]
            if left and time.monotonic() > deadline_s:
                places = ", ".join(place_of(*owned) for owned in left)
                raise ForgetError(
                    "stream",
                    f"{places} not done after {wait.total_seconds():g} s",
                    "a stream that frees its states of the customer",
                    "see that it runs (it must be of this version), then run this again; nothing "
                    "of before is let in or read any more",
                )
            if left:
                time.sleep(_POLL_S)

    def later(self) -> Later | None:
        """Files that a stream has written since; None where none has."""
        if self._own is None or place_of(*self._own) not in self._report.by_stream:
            return None
        generation = read_generation(self._client, PROJECT)
        log = self._setup.lineage(self._client).current_log()
        cuts = self._tombstones.read().tombstones[self._key].cuts.get(log or "", {})
        if generation is None or place_of(*self._own) not in cuts:
            return None
        return Later(self._own[1], generation.number, cuts[place_of(*self._own)])

    def _applied(self) -> tuple[str, ...]:
        found = self._tombstones.read().tombstones[self._key]
        return found.applied.get(self._setup.feature_set.name, ())

    def _freed(self, owned: Partition, own: bool) -> bool:
        """Free one partition, unless a stream holds it."""
        entity, shard = owned
        folder = self._setup.folder / f"{entity}-{shard:02d}"
        if not folder.is_dir():
            if own:
                self._delete_online()
            return True
        try:
            checkpoint = PartitionCheckpoint(folder, self._setup.programs[entity])
        except CheckpointError as error:
            if error.value == "in use":
                return False
            raise
        try:
            manifest = checkpoint.manifest
            if manifest is not None:
                states = checkpoint.restore()
                known = own and states.forget(self._customer)
                self._report.known = self._report.known or known
                checkpoint.begin_anew(states.snapshot())
                checkpoint.commit(
                    manifest.log, manifest.generation, manifest.offset, manifest.watermark_us
                )
                checkpoint.sweep()
            if own:
                self._delete_online()
            self._tombstones.mark_applied(
                self._setup.feature_set.name, place_of(*owned), [self._key]
            )
        finally:
            checkpoint.close()
        return True

    def _delete_online(self) -> None:
        key = entity_key_encoder(CUSTOMER, PROJECT)(self._customer)
        self._report.online += int(self._client.delete(key))


def _write(
    tombstones: ForgottenFile,
    key: str,
    customer: str,
    at_us: int,
    ends: dict[str, dict[str, int]],
) -> None:
    def change(found: Tombstones) -> None:
        cuts = dict(found[key].cuts) if key in found else {}
        for log, places in ends.items():
            cuts[log] = cuts.get(log, {}) | places  # a log that was emptied counts from its start
        found[key] = Tombstone(at_us, cuts, {}, customer)

    tombstones.change(change)


def _finish(tombstones: ForgottenFile, key: str) -> None:
    def change(found: Tombstones) -> None:
        found[key] = msgspec.structs.replace(found[key], customer=None)

    tombstones.change(change)


def _answering(settings: Settings) -> redis.Redis[bytes]:
    client = connect(settings.redis)
    try:
        client.ping()
    except RedisError as error:
        client.close()
        raise StoreUnavailableError(
            "online store",
            settings.redis_address,
            "a Valkey or Redis server, whose values are to be deleted too",
            "start it (daima up --no-traffic), then run this again",
        ) from error
    return client


def _ends(
    client: redis.Redis[bytes], setup: Setup, environ: Mapping[str, str]
) -> dict[str, dict[str, int]]:
    """Where the live logs end now: log -> `entity/partition` -> offset of the last entry."""
    partitions = setup.partitions(range(setup.shards))
    ends = {str(Source.VALKEY): _ends_in_valkey(client, partitions)}
    if environ.get("DAIMA_KAFKA_BOOTSTRAP_SERVERS"):
        offsets = last_offsets(kafka_config(environ), list(setup.programs))
        ends[str(Source.KAFKA)] = {place_of(*owned): last for owned, last in offsets.items()}
    return ends


def _ends_in_valkey(client: redis.Redis[bytes], partitions: list[Partition]) -> dict[str, int]:
    ends = {}
    for owned in partitions:
        try:
            stream = client.xinfo_stream(stream_name(*owned))
        except ResponseError:  # no such stream
            continue
        ends[place_of(*owned)] = offset_of(stream["last-generated-id"].decode())
    return ends


def _refuse_other_sets(setup: Setup, tombstones: ForgottenFile, key: str) -> None:
    """Raise ForgetError if states of other definitions may still hold the customer."""
    applied = tombstones.read().tombstones[key].applied
    folder: Path = setup.folder.parent
    others = sorted(
        each.name
        for each in (folder.iterdir() if folder.is_dir() else ())
        if each.name != setup.feature_set.name
        and each.name not in applied
        and any(each.glob("*/manifest.json"))
    )
    if others:
        raise ForgetError(
            "checkpoints",
            ", ".join(others),
            "no states of other definitions",
            "run this with --definitions of each of them as well, or remove "
            f"{folder}/NAME if they are no longer needed",
        )
