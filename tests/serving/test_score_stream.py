"""The stream scorer: a prediction an event, features as of it, once each whatever happens."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from feature_repo.contracts.events import Event, EventType, events_to_batch
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import ROOT, Settings
from feature_repo.stores.forgotten import ForgottenFile, Tombstone, key_of
from feature_repo.stores.redis_layout import (
    Fence,
    encode_fence,
    entity_key_encoder,
    fence_field,
)
from infra.score_stream import ScoreOptions, score
from serving.catalog import Catalog
from serving.messages import PredictRequest
from serving.score_log import ScoreLog, ScoreLogError, StreamPrediction, stream_key
from serving.score_service import running_service
from serving.settings import ServingSettings
from streaming.log.valkey_streams import ValkeyLog
from streaming.run import run_live
from tests.serving.conftest import SERVICE, Training, wait_until
from tests.serving.scoring_process import MODEL, scorer

pytestmark = pytest.mark.xdist_group("serving")
SHARDS = 2
BEGIN = datetime(2025, 6, 1, tzinfo=UTC)


def made(numbers: range, kind: EventType = EventType.LOGIN) -> list[Event]:
    return [
        Event(
            event_id=f"e{number}",
            event_time=BEGIN + timedelta(seconds=number),
            customer_id=f"c{number % 20}",
            event_type=kind if number % 4 else EventType.PAGE_VIEW,
        )
        for number in numbers
    ]


def append(client: Any, numbers: range, each: int = 10) -> None:
    log = ValkeyLog(client, FEATURE_SET, shards=SHARDS)
    events = made(numbers)
    for start in range(0, len(events), each):
        log.append(events_to_batch(events[start : start + each]))


def emitted(client: Any, model: str = MODEL) -> list[StreamPrediction]:
    return [
        msgspec.json.decode(fields[b"prediction"], type=StreamPrediction)
        for shard in range(SHARDS)
        for _, fields in client.xrange(stream_key(model, shard))
    ]


def ids(client: Any) -> list[str]:
    return sorted(each.event_id for each in emitted(client))


def triggers(numbers: range) -> list[str]:
    return sorted(f"e{number}" for number in numbers if number % 4)


def run(client: Any, home: Path, until: int, wait: timedelta = timedelta(0)) -> Any:
    """Score until so many predictions are there."""

    def stopped() -> bool:
        return len(emitted(client)) >= until

    return asyncio.run(scorer(client, home, wait=wait, stopped=stopped).run(lambda: False))


def test_each_trigger_has_one_prediction_and_a_restart_goes_on(client: Any, tmp_path: Path) -> None:
    append(client, range(100))
    report = run(client, tmp_path, 75)
    assert report.emitted == {MODEL: 75}
    append(client, range(100, 140))
    run(client, tmp_path, 105)
    assert ids(client) == triggers(range(140))
    one = next(each for each in emitted(client) if each.event_id == "e7")
    assert (one.customer, one.prediction, one.at) == ("c7", 7.0, "2025-06-01T00:00:07Z")
    assert (one.request_id, one.event_type, one.model) == ("event:e7", "login", MODEL)


def test_an_event_that_a_producer_sent_twice_has_one_prediction(
    client: Any, tmp_path: Path
) -> None:
    append(client, range(40))
    append(client, range(20, 60))
    run(client, tmp_path, 45)
    assert ids(client) == triggers(range(60))


@pytest.mark.parametrize("seed", [0])
def test_killed_at_any_point_nothing_comes_twice_and_nothing_is_missing(
    client: Any, valkey: str, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    append(client, range(3_000), each=5)
    command = [sys.executable, "-m", "tests.serving.scoring_process", valkey, str(tmp_path)]
    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"scoring\n"
        time.sleep(rng.uniform(0.0, 0.15))
        process.kill()
        process.wait()
        process.stdout.close()
    run(client, tmp_path, 2_250)
    assert ids(client) == triggers(range(3_000))


def test_a_step_whose_answer_was_lost_is_done_once(client: Any) -> None:
    log = ScoreLog(client, "valkey", timedelta(days=1))
    entry = StreamPrediction(
        event_id="e1", event_type="login", customer="c1", at="", scored_at="", model=MODEL,
        partition=0, features="FRESH", request_id="event:e1",
    )  # fmt: skip
    assert log.emit(MODEL, 0, None, 5, [entry]) == 1
    assert log.emit(MODEL, 0, None, 5, [entry]) == 0
    assert client.xlen(stream_key(MODEL, 0)) == 1
    assert log.position(MODEL, 0) == 5


def test_two_at_once_are_found_out(client: Any) -> None:
    log = ScoreLog(client, "valkey", timedelta(days=1))
    log.emit(MODEL, 0, None, 5, [])
    with pytest.raises(ScoreLogError, match="another process"):
        log.emit(MODEL, 0, None, 7, [])
    assert log.position(MODEL, 0) == 5


def test_an_event_waits_for_its_features_and_not_for_ever(client: Any, tmp_path: Path) -> None:
    append(client, range(1, 2))  # one login of c1
    field = fence_field("customer_state")
    key = entity_key_encoder("customer_id", "daima")("c1")
    client.hset(key, field, encode_fence(Fence(1, 1)))
    started_s = time.monotonic()
    report = run(client, tmp_path, 1, wait=timedelta(milliseconds=200))
    assert time.monotonic() - started_s >= 0.2
    assert (report.stale, emitted(client)[0].features) == (1, "STALE")

    append(client, range(21, 22))  # its next

    def arrive() -> None:
        time.sleep(0.3)
        client.hset(key, field, encode_fence(Fence(1, (1 << 62))))

    thread = threading.Thread(target=arrive)
    thread.start()
    report = run(client, tmp_path, 2, wait=timedelta(seconds=30))
    thread.join()
    assert report.stale == 0
    assert sorted(each.features for each in emitted(client)) == ["FRESH", "STALE"]


def test_events_of_before_a_forgetting_are_not_scored(client: Any, tmp_path: Path) -> None:
    append(client, range(40))
    cuts = {"valkey": {f"customer/{shard}": 1 << 62 for shard in range(SHARDS)}}
    ForgottenFile(tmp_path / "offline").change(
        lambda found: found.update({key_of("c7"): Tombstone(1, cuts)})
    )
    run(client, tmp_path, 28)
    assert ids(client) == [each for each in triggers(range(40)) if each not in ("e7", "e27")]


def test_what_is_no_event_is_passed_over(client: Any, tmp_path: Path) -> None:
    append(client, range(10))
    client.xadd("daima:events:customer:0", {"arrow": b"no frame"})
    odd = events_to_batch(made(range(11, 12)))
    nameless = odd.set_column(0, "event_id", pa.array([""]))
    ValkeyLog(client, FEATURE_SET, shards=SHARDS).append(nameless)
    append(client, range(12, 20))
    run(client, tmp_path, 13)
    assert ids(client) == triggers(range(10)) + triggers(range(12, 20)) or set(ids(client)) == {
        *triggers(range(10)), *triggers(range(12, 20))
    }  # fmt: skip


def test_with_the_real_service_a_prediction_is_that_of_the_events_instant(  # noqa: PLR0917
    client: Any,
    settings: ServingSettings,
    catalog: Catalog,
    registry: MlflowClient,
    register: Training,
    tmp_path: Path,
) -> None:
    """The stream folds, the scorer waits for it, and asking over again gives the same number."""
    register()
    shared = replace(settings.shared, home=tmp_path / "home")
    now = datetime.now(UTC) - timedelta(minutes=1)
    events = [
        Event(
            event_id=f"p{number}",
            event_time=now + timedelta(seconds=number),
            customer_id=f"c{number % 3}",
            event_type=EventType.PAYMENT_SUBMITTED if number % 2 else EventType.PAGE_VIEW,
            send_country="GB",
            receive_country="NG",
            amount_minor=100 * number,
            currency="GBP",
        )
        for number in range(12)
    ]
    ended = threading.Event()
    seen: list[int] = []
    stream = threading.Thread(
        target=run_live, args=(shared, ended.is_set), kwargs={"progress": seen.append}
    )
    log = ValkeyLog(client, FEATURE_SET, shards=SHARDS)
    log.append(events_to_batch(events[:1]))
    stream.start()

    async def go() -> tuple[Any, list[float]]:
        async with running_service(settings, catalog, registry) as service:
            while SERVICE not in service.champions.line.models:
                await asyncio.sleep(0.05)

            def produce() -> None:
                for event in events[1:]:
                    log.append(events_to_batch([event]))

            threading.Thread(target=produce).start()
            report = await score(
                service, shared, (SERVICE,), ScoreOptions(wait=timedelta(seconds=20)),
                lambda: len(emitted(client, SERVICE)) >= 6,
            )  # fmt: skip
            again = []
            for each in emitted(client, SERVICE):
                event = next(one for one in events if one.event_id == each.event_id)
                message = PredictRequest(
                    customer=event.customer_id, corridor=event.corridor, as_of=event.event_time
                )
                answer = await service.predict(SERVICE, message, "again")
                again.append(answer.predictions[0].prediction)
            return report, again

    try:
        report, again = asyncio.run(go())
    finally:
        ended.set()
        stream.join()
    found = emitted(client, SERVICE)
    assert sorted(each.event_id for each in found) == ["p1", "p11", "p3", "p5", "p7", "p9"]
    assert [each.prediction for each in found] == pytest.approx(again, rel=1e-12)
    assert {each.features for each in found} == {"FRESH"}
    assert {(each.version, each.alias) for each in found} == {("1", "champion")}
    assert report.emitted == {SERVICE: 6}
    wait_until(lambda: sum(seen) == 12)
    assert isinstance(shared, Settings)
