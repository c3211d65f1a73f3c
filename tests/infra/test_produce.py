"""`daima produce`: files into the live logs, with every event accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import redis

from feature_repo.contracts.errors import (
    DaimaError,
    InputError,
    SettingsError,
    StoreUnavailableError,
)
from infra import produce as produce_command
from infra.produce import ProduceOptions, produce, run_produce
from streaming.log import opening
from streaming.log.errors import DeliveryError
from streaming.log.kafka import KafkaLogReader
from streaming.log.valkey_layout import recorded_shards
from streaming.log.valkey_streams import ValkeyLogReader
from tests.conftest import free_port
from tests.infra.test_replay import MAPPING, ROWS
from tests.streaming.log.conftest import start_broker
from tests.streaming.log.log_reading import all_partitions, read_until, rows_in_log, rows_of
from tests.streaming.made_events import batch_of, page_view, payment, write_events

EVENTS = [payment(n, f"c{n}") if n % 2 else page_view(n, f"c{n}") for n in range(50)]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return write_events(EVENTS, tmp_path / "events.parquet")


@pytest.fixture
def environ(tmp_path: Path, valkey: str) -> dict[str, str]:
    return {"DAIMA_HOME": str(tmp_path / "home"), "DAIMA_REDIS": valkey}


def client_of(environ: dict[str, str]) -> redis.Redis[bytes]:
    host, port = environ["DAIMA_REDIS"].split(":")
    return redis.Redis(host=host, port=int(port))


def test_an_event_file_goes_into_valkey_as_it_is(
    events: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_produce(ProduceOptions(events), as_json=True, environ=environ)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "50 events confirmed by valkey"
    assert json.loads(lines[-1]) | {"seconds": 0} == {"events": 50, "to": "valkey", "seconds": 0}
    with client_of(environ) as client:
        read = read_until(
            ValkeyLogReader(client, all_partitions(), lambda: False), rows_in_log(batch_of(EVENTS))
        )
    whole = pa.Table.from_batches([batch_of(EVENTS)]).sort_by("event_id")
    assert rows_of(read).equals(whole)


def test_a_file_of_ones_own_goes_through_its_mapping(
    tmp_path: Path, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    options = ProduceOptions(tmp_path / "rows.csv", mapping=tmp_path / "mapping.yaml", shards=4)
    run_produce(options, as_json=False, environ=environ)
    out = capsys.readouterr().out
    assert "2 rows are no events" in out
    assert "3 events confirmed by valkey" in out
    with client_of(environ) as client:
        assert recorded_shards(client) == 4
        partitions = all_partitions(shards=4)
        read = read_until(ValkeyLogReader(client, partitions, lambda: False), 3)
    assert rows_of(read).column("amount_ref_minor").to_pylist() == [None, 1250, None]
    assert not list((tmp_path / "home" / "log").iterdir())  # nothing is left over
    run_produce(  # into the log as it was created
        ProduceOptions(options.file, mapping=options.mapping), as_json=False, environ=environ
    )


@pytest.mark.parametrize("payload", ["arrow", "json"])
def test_an_event_file_goes_into_kafka(
    events: Path, environ: dict[str, str], tmp_path: Path, payload: produce_command.Payload
) -> None:
    broker = start_broker(tmp_path / "broker.log")
    try:
        environ["DAIMA_KAFKA_BOOTSTRAP_SERVERS"] = broker.config["bootstrap.servers"]
        options = ProduceOptions(events, to="kafka", payload=payload)
        run_produce(options, as_json=False, environ=environ)
        reader = KafkaLogReader(broker.config, all_partitions(), lambda: False)
        read = read_until(reader, rows_in_log(batch_of(EVENTS)))
        reader.close()
    finally:
        broker.kill()
    whole = pa.Table.from_batches([batch_of(EVENTS)]).sort_by("event_id")
    assert rows_of(read).equals(whole)


class Recorder:
    """A log that notes when how much came, by a clock of its own."""

    def __init__(self, confirms: int = 10**9) -> None:
        self.now_s = 100.0
        self.appended: list[tuple[float, int]] = []
        self._confirms = confirms

    def append(self, events: pa.RecordBatch) -> int:
        self.appended.append((self.now_s, len(events)))
        if sum(count for _, count in self.appended) > self._confirms:
            raise DeliveryError(1, events.column("event_id").to_pylist()[1:], "it is full")
        return len(events)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def close(self) -> None:
        self.appended.append((self.now_s, -1))


def test_a_rate_is_kept_in_small_steps(events: Path) -> None:
    log = Recorder()
    done = list(produce(events, log, 100.0, lambda: log.now_s, log.sleep))
    assert sum(done) == 50
    assert max(done) == 2  # 20 ms of events at a time
    for number, (at_s, _) in enumerate(log.appended):
        assert at_s == pytest.approx(100 + 0.02 * number)


def test_what_is_not_confirmed_is_an_error_that_says_how_many(
    events: Path,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Recorder(confirms=30)
    monkeypatch.setattr(opening, "open_log", lambda *_, **__: log)
    monkeypatch.setattr(produce_command, "_ROWS", 20)
    with pytest.raises(DeliveryError, match=r"19 were not \(it is full\)"):
        run_produce(ProduceOptions(events), as_json=True, environ=environ)
    assert capsys.readouterr().out.splitlines() == ["21 of 50 events confirmed by valkey"]
    assert log.appended[-1][1] == -1  # closed


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"rate": 0.0}, SettingsError, "--rate"),
        ({"payload": "json"}, SettingsError, "--to kafka"),
        ({"to": "kafka"}, SettingsError, "DAIMA_KAFKA_BOOTSTRAP_SERVERS"),
        ({"file": Path("nowhere.parquet")}, InputError, "nowhere.parquet"),
        ({"definitions": Path("nowhere.py")}, DaimaError, "nowhere.py"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    events: Path,
    environ: dict[str, str],
    changes: dict[str, object],
    error: type[DaimaError],
    says: str,
) -> None:
    options = ProduceOptions(**{"file": events, **changes})  # type: ignore[arg-type]
    with pytest.raises(error, match=says):
        run_produce(options, as_json=False, environ=environ)
    with client_of(environ) as client:
        assert client.keys() == []


def test_a_log_that_is_away_is_named(events: Path, tmp_path: Path) -> None:
    environ = {"DAIMA_HOME": str(tmp_path), "DAIMA_REDIS": f"127.0.0.1:{free_port()}"}
    with pytest.raises(StoreUnavailableError, match="event log is '127"):
        run_produce(ProduceOptions(events), as_json=False, environ=environ)
