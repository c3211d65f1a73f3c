"""Events handed in as JSON: the rules of files, their dead letters, and one append for many."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import redis

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.money import ExchangeRates
from streaming.log.errors import DeliveryError
from streaming.log.frames import Frame
from streaming.log.intake import DUPLICATE, Handed, Intake, check_documents, check_requests
from streaming.log.opening import open_log
from streaming.log.valkey_streams import ValkeyLogReader
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import ingest
from streaming.mapping.spec import parse_mapping
from tests.conftest import free_port
from tests.streaming.log.log_reading import FEATURE_SET, all_partitions

GOOD: dict[str, Any] = {
    "event_id": "e1",
    "event_time": "2026-03-02T12:00:00Z",
    "customer_id": "c1",
    "event_type": "page_view",
}
RATES = ExchangeRates()


def raw(*documents: Any) -> list[bytes]:
    return [document if isinstance(document, bytes) else json.dumps(document).encode()
            for document in documents]  # fmt: skip


def test_good_events_come_out_in_order_with_their_worth() -> None:
    paid = GOOD | {"event_id": "e2", "amount_minor": 100, "fee_minor": 3, "currency": "GBP"}
    handed = check_documents(raw(GOOD, paid), RATES)
    assert handed.letters == []
    assert handed.events.schema == EVENT_SCHEMA
    first, second = handed.events.to_pylist()
    assert (first["event_id"], first["amount_ref_minor"]) == ("e1", None)
    assert second["amount_ref_minor"] > 100


@pytest.mark.parametrize(
    ("document", "field", "says"),
    [
        (GOOD | {"customer_id": 5}, "customer_id", "expected text"),
        (GOOD | {"customer_id": None}, "customer_id", "a non-empty text"),
        (GOOD | {"event_id": ""}, "event_id", "a non-empty text"),
        ({}, "event_type", "one of login"),
        (GOOD | {"event_type": "transfer"}, "event_type", "one of login"),
        (GOOD | {"event_time": "2026-03-02T12:00:00"}, "event_time", "with a time zone"),
        (GOOD | {"event_time": 1772452800}, "event_time", "an instant in ISO 8601"),
        (GOOD | {"event_time": "1999-12-31T23:59:59Z"}, "event_time", "2000..2099"),
        (GOOD | {"amount_minor": "5"}, "amount_minor", "a whole number"),
        (GOOD | {"amount_minor": 5.5}, "amount_minor", "a whole number"),
        (GOOD | {"amount_minor": 10**30}, "amount_minor", "a whole number of 64 bits"),
        (GOOD | {"amount_minor": 5}, "currency", "a currency beside amount_minor"),
        (GOOD | {"amount_minor": 5, "currency": "XQX"}, "currency", "an exchange rate"),
        (GOOD | {"amount_minor": -5, "currency": "GBP"}, "amount_minor", "minor units"),
        (GOOD | {"send_country": "gb"}, "send_country", "two-letter code"),
        (GOOD | {"event_type": "label"}, "label_event_id", "label_value on every label"),
        (GOOD | {"amonut_minor": 5}, "amonut_minor", "a field of events: event_id"),
        (GOOD | {"amount_ref_minor": 5}, "amount_ref_minor", "a field of events"),
        (GOOD | {"customer_id": ["c1"]}, "customer_id", "expected text"),
        ([GOOD], "row", "an object"),
        (None, "row", "an object"),
        (b'{"label_value": NaN}', "row", "JSON"),
        (b'{"label_value": 1e400}', "row", "JSON"),
        (b'{"event_id": "\xff"}', "row", "JSON"),
        (b'{"event_id": "\\ud800"}', "row", "JSON"),
        (b'{"event_id"', "row", "JSON"),
        (b"[" * 100_000, "row", "JSON"),
        (b"", "row", "JSON"),
    ],
)
def test_what_is_no_event_is_a_letter_that_says_why(document: Any, field: str, says: str) -> None:
    handed = check_documents(raw(GOOD, document), RATES)
    assert len(handed.events) == 1, "the event beside it is none the worse"
    (letter,) = handed.letters
    assert (letter.row, letter.field) == (2, field)
    assert says in letter.reason


def test_an_id_that_stands_twice_in_a_request_is_taken_once() -> None:
    handed = check_documents(raw(GOOD, GOOD | {"page": "other"}, GOOD | {"event_id": "e2"}), RATES)
    assert handed.events.column("event_id").to_pylist() == ["e1", "e2"]
    assert [(letter.row, letter.reason) for letter in handed.letters] == [(2, DUPLICATE)]


def test_requests_are_told_apart() -> None:
    twice = raw(GOOD, GOOD | {"event_type": "nonsense", "event_id": "e2"})
    one, two, none, three = check_requests([twice, raw({}, GOOD), [], raw(GOOD)], RATES)
    ids = [item.events.column("event_id").to_pylist() for item in (one, two, none, three)]
    assert ids == [["e1"], ["e1"], [], ["e1"]], "sent again by another request: no duplicate"
    assert [[letter.row for letter in item.letters] for item in (one, two, none, three)] == [
        [2], [1], [], []
    ]  # fmt: skip


def test_files_and_requests_are_judged_alike(tmp_path: Path) -> None:
    """The same lines through a mapping that renames nothing, and through the intake."""
    documents = [
        GOOD,
        GOOD | {"event_id": "e2", "event_type": "transfer"},
        GOOD | {"event_id": "e3", "send_country": "GBR"},
        GOOD | {"event_id": "e4", "amount_minor": 5},
        GOOD | {"event_id": "e5", "amount_minor": 5, "currency": "XQX"},
        GOOD | {"event_id": "e6", "event_time": "1999-01-01T00:00:00Z"},
        GOOD | {"event_id": "e7", "customer_id": ""},
        GOOD | {"event_id": "e8", "event_type": "label"},
        GOOD | {"event_id": "e9", "amount_minor": 700, "currency": "GBP", "receive_country": "NG"},
    ]
    source = tmp_path / "events.jsonl"
    source.write_bytes(b"\n".join(raw(*documents)))
    names = {name: None for document in documents for name in document}
    fields: dict[str, Any] = {name: {"column": name} for name in names}
    fields["amount_minor"] = {"column": "amount_minor", "unit": "minor"}
    out = tmp_path / "out.parquet"
    with DeadLetters(tmp_path / "letters.jsonl") as letters:
        ingest(source, parse_mapping({"fields": fields}), out, RATES, letters)
    of_file = [
        (letter["row"], letter["field"], letter["reason"])
        for letter in map(msgspec.json.decode, letters.path.read_bytes().splitlines())
    ]
    handed = check_documents(raw(*documents), RATES)
    assert [(one.row, one.field, one.reason) for one in handed.letters] == of_file
    assert len(of_file) == 7
    kept = pa.parquet.read_table(out).to_pylist()
    assert handed.events.to_pylist() == kept


class Recording:
    """A log in memory; `away` while it refuses."""

    def __init__(self) -> None:
        self.appended: list[pa.RecordBatch] = []
        self.away = False

    def append(self, events: pa.RecordBatch) -> int:
        if self.away:
            raise DeliveryError(0, events.column("event_id").to_pylist(), "away")
        self.appended.append(events)
        return len(events)

    def close(self) -> None:
        self.away = True


def outcomes_of(intake: Intake, *requests: Sequence[bytes]) -> list[Handed]:
    found = intake.take(requests)
    assert all(isinstance(one, Handed) for one in found), found
    return [one for one in found if isinstance(one, Handed)]


def test_requests_are_appended_together_and_their_letters_written(tmp_path: Path) -> None:
    log, path = Recording(), tmp_path / "letters" / "api.jsonl"
    intake = Intake(lambda: log, path)
    one, two, three = outcomes_of(
        intake, raw(GOOD), raw({}, GOOD | {"event_id": "e2"}), raw({"event_id": b"".hex()})
    )
    assert [len(item.events) for item in (one, two, three)] == [1, 1, 0]
    assert [len(item.letters) for item in (one, two, three)] == [0, 1, 1]
    assert [len(batch) for batch in log.appended] == [2]
    assert len(path.read_bytes().splitlines()) == 2, "readable while the server runs"
    intake.close()
    assert len(path.read_bytes().splitlines()) == 2


def test_a_log_that_is_away_fails_whoever_had_events_and_writes_no_letter(tmp_path: Path) -> None:
    log, path = Recording(), tmp_path / "api.jsonl"
    log.away = True
    intake = Intake(lambda: log, path)
    mixed, bad = intake.take([raw(GOOD, {}), raw({})])
    assert isinstance(mixed, DeliveryError)
    assert isinstance(bad, Handed)
    assert len(path.read_bytes().splitlines()) == 1, "sent again, the other would be twice"
    log.away = False
    assert len(outcomes_of(intake, raw(GOOD, {}))[0].events) == 1
    intake.close()


def test_a_log_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    log, tries = Recording(), []

    def opens() -> Recording:
        tries.append(1)
        if len(tries) == 1:
            raise StoreUnavailableError("event log", expected="a server", action="start one")
        return log

    intake = Intake(opens, tmp_path / "api.jsonl")
    assert isinstance(intake.take([raw(GOOD)])[0], StoreUnavailableError)
    outcomes_of(intake, raw(GOOD))
    outcomes_of(intake, raw(GOOD))
    assert (len(tries), len(log.appended)) == (2, 2)


def test_a_disk_that_is_full_is_no_lost_letter(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    intake = Intake(Recording, blocked / "api.jsonl")
    (outcome,) = intake.take([raw({})])
    assert isinstance(outcome, StoreUnavailableError)


def test_the_log_in_valkey_has_what_was_confirmed(tmp_path: Path, valkey: str) -> None:
    intake = Intake(lambda: open_log("valkey", FEATURE_SET, valkey, {}), tmp_path / "api.jsonl")
    outcomes_of(intake, raw(GOOD), raw(GOOD | {"event_id": "e2", "customer_id": "c2"}))
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        reader = ValkeyLogReader(client, all_partitions(), stopped=lambda: False)
        found = {
            event_id
            for frame in reader.poll()
            if isinstance(frame, Frame) and frame.entity == "customer"
            for event_id in frame.events.column("event_id").to_pylist()
        }
    assert found == {"e1", "e2"}
    intake.close()


def test_a_log_that_nobody_runs_is_named() -> None:
    with pytest.raises(StoreUnavailableError, match=r"event log is '127\.0\.0\.1:"):
        open_log("valkey", FEATURE_SET, f"127.0.0.1:{free_port()},password=hush", {})
