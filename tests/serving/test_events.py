"""POST /v1/events: answered once the log has them; what is no event is a dead letter."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import redis
from litestar import Litestar
from litestar.testing import TestClient

from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import SHARDS
from serving.ingest import EXAMPLE, MAX_EVENTS, EventIntake, NoEventError
from serving.metrics import Metrics
from serving.overload import OverloadError
from serving.settings import ServingSettings
from streaming.log.errors import DeliveryError
from streaming.log.frames import Frame
from streaming.log.intake import Handed, check_documents
from streaming.log.valkey_streams import ValkeyLogReader
from tests.serving.test_bad_input import problem

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

Api = TestClient[Litestar]
EVENTS = "/v1/events"


def event(number: int, **fields: Any) -> dict[str, Any]:
    return EXAMPLE | {"event_id": f"e{number}"} | fields


def logged(valkey: str) -> list[dict[str, Any]]:
    """The whole events that stand in the log."""
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        partitions = {("customer", shard): None for shard in range(SHARDS)}
        frames = ValkeyLogReader(client, partitions, stopped=lambda: False).poll()
    return [row for frame in frames if isinstance(frame, Frame) for row in frame.events.to_pylist()]


def test_a_single_event_is_in_the_log_when_it_is_answered(api: Api, valkey: str) -> None:
    answer = api.post(EVENTS, json=EXAMPLE)
    assert answer.status_code == 200
    assert answer.json() == {
        "request_id": answer.headers["x-request-id"],
        "accepted": 1,
        "dead_letters": [],
    }
    (row,) = logged(valkey)
    assert row["event_id"] == EXAMPLE["event_id"]
    assert row["amount_ref_minor"] > row["amount_minor"], "worth more in dollars"


def test_a_batch_is_taken_but_for_what_is_no_event(
    api: Api, valkey: str, settings: ServingSettings
) -> None:
    letters = settings.event_letters
    before = len(letters.read_bytes().splitlines()) if letters.exists() else 0
    body = [event(1), event(2, event_type="transfer"), event(3), event(3), {"event_id": "e4"}]
    answer = api.post(EVENTS, json=body)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 2
    assert [(one["row"], one["field"]) for one in answer.json()["dead_letters"]] == [
        (2, "event_type"),
        (4, "event_id"),
        (5, "event_type"),
    ]
    assert {row["event_id"] for row in logged(valkey)} == {"e1", "e3"}
    written = [msgspec.json.decode(line) for line in letters.read_bytes().splitlines()[before:]]
    assert written[0] == {
        "row": 2,
        "field": "event_type",
        "value": "transfer",
        "reason": answer.json()["dead_letters"][0]["reason"],
        "record": body[1],
    }
    counted = api.get("/metrics").text
    assert 'daima_events_total{outcome="accepted"}' in counted
    assert 'daima_events_total{outcome="dead_letter"}' in counted


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "an event, or a list"),
        (b" \n", "an event, or a list"),
        (b"[]", "length >= 1"),
        (b"[", "truncated"),
        (b"nonsense", "JSON"),
        (b"5", "an object"),
        (b"\xff\xfe", "JSON"),
        (b'{"event_id": "\xff"}', "JSON"),
        (b"[" * 100_000, "recursion"),
        (json.dumps([event(n) for n in range(MAX_EVENTS + 1)]).encode(), "length <= 1000"),
        (json.dumps(event(1, amount_minor="5")).encode(), "a whole number"),
        (json.dumps(event(1, colour="red")).encode(), "a field of events"),
        (json.dumps([event(1, customer_id=""), {}]).encode(), "2 of 2 are dead letters"),
        (b'{"event_id": "e1", "label_value": NaN}', "JSON"),
        (b'{"event_id": "e1", "label_value": Infinity}', "JSON"),
    ],
)
def test_a_request_without_an_event_is_told_what_one_is(
    api: Api, valkey: str, body: bytes, says: str
) -> None:
    document = problem(api.post(EVENTS, content=body), 400)
    assert says in document["detail"]
    assert logged(valkey) == []
    assert api.post(EVENTS, json=document["example"]).status_code == 200


def test_a_body_of_10_mb_is_too_large(api: Api) -> None:
    problem(api.post(EVENTS, content=b" " * 10_000_000), 413)


class Held:
    """An intake that works when it is told to; stands for the thread's side."""

    def __init__(self) -> None:
        self.may_work = threading.Event()
        self.groups: list[int] = []
        self.failure: Exception | None = None
        self.closed = False

    def take(self, requests: Sequence[Sequence[Any]]) -> list[Handed | Exception]:
        self.may_work.wait(10)
        self.groups.append(len(requests))
        if self.failure is not None:
            return [self.failure] * len(requests)
        return [check_documents(documents, RATES) for documents in requests]

    def close(self) -> None:
        self.closed = True


RATES = ExchangeRates()
PLAIN = {name: EXAMPLE[name] for name in ("event_time", "customer_id", "event_type")}


def test_requests_that_wait_go_together_and_too_many_are_refused() -> None:
    async def main() -> None:
        held = Held()
        intake = EventIntake(held, Metrics(None), most_waiting=3)  # type: ignore[arg-type]

        def post(number: int) -> Any:
            body = msgspec.json.encode(PLAIN | {"event_id": f"e{number}"})
            return asyncio.create_task(intake.take(body, f"r{number}"))

        tasks = [post(0)]
        await asyncio.sleep(0.01)  # the thread is at work on the first
        tasks += [post(1), post(2)]
        await asyncio.sleep(0)
        assert intake.waiting == 3
        with pytest.raises(OverloadError, match="events waiting for the log is 3"):
            await post(3)
        tasks[2].cancel()  # its deadline passed; the others are none the worse
        held.may_work.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [getattr(one, "accepted", None) for one in answers] == [1, 1, None]
        assert held.groups == [1, 2]
        assert intake.waiting == 0

        held.failure = DeliveryError(0, ["e5"], "away")
        with pytest.raises(DeliveryError):
            await post(5)
        held.failure = None
        with pytest.raises(NoEventError, match="an object"):
            await intake.take(b"5", "r6")
        await intake.close()
        assert held.closed

    asyncio.run(main())


def test_the_schema_is_that_of_the_log() -> None:
    assert set(EXAMPLE) <= set(EVENT_SCHEMA.names)
