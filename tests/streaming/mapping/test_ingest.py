"""A file of one's own, from its rows to the file log and the dead letters."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.errors import DaimaError, InputError, MappingError
from feature_repo.contracts.events import EVENT_SCHEMA
from feature_repo.contracts.money import ExchangeRates
from streaming.mapping import csv_rows, event_file
from streaming.mapping import ingest as ingest_module
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.event_file import DUPLICATE
from streaming.mapping.ingest import ingest
from streaming.mapping.spec import Mapping
from tests.streaming.mapping.conftest import HEADER, PAYMENTS, Outcome

Run = Callable[..., Outcome]
GOOD = "e1,2024-05-01T10:00:00Z,u1,PAY,United Kingdom,GBP,19.99\n"
MINIMAL = """
fields:
  event_id: id
  event_time: at
  customer_id: user
  event_type: {constant: page_view}
"""


def test_a_row_becomes_an_event_with_its_amount_in_the_reference_currency(run: Run) -> None:
    outcome = run(HEADER + GOOD)
    (event,) = outcome.events
    assert {name: value for name, value in event.items() if value is not None} == {
        "event_id": "e1",
        "event_time": datetime(2024, 5, 1, 10, tzinfo=UTC),
        "customer_id": "u1",
        "event_type": "payment_submitted",
        "send_country": "GB",
        "amount_minor": 1999,
        "currency": "GBP",
        "amount_ref_minor": 2555,  # 1.278 USD a GBP in 2024
    }
    assert pq.read_schema(outcome.out).equals(EVENT_SCHEMA)
    assert outcome.report.first_event_time == outcome.report.last_event_time == event["event_time"]
    assert not outcome.letters


COLUMN_OF = {
    "event_id": "id",
    "event_time": "at",
    "customer_id": "user",
    "event_type": "type",
    "send_country": "from",
    "currency": "currency",
    "amount_minor": "amount",
}
# One bad input each: column of HEADER to change, its value, and the dead letter expected.
BAD_ROWS = {
    "no event id": ("id", "", "event_id", "a non-empty text"),
    "no customer": ("user", "", "customer_id", "a non-empty text"),
    "no time": ("at", "", "event_time", "an instant"),
    "no type": ("type", "", "event_type", "one of login"),
    "a time that is none": ("at", "yesterday", "event_time", "an instant in ISO 8601"),
    "a day that is none": ("at", "2024-02-30", "event_time", "an instant in ISO 8601"),
    "a time too early": ("at", "1999-12-31T23:59:59Z", "event_time", "an instant in 2000..2099"),
    "a time too late": ("at", "2100-01-01", "event_time", "an instant in 2000..2099"),
    "an unknown type": ("type", "REFUND", "event_type", "a value that the mapping translates"),
    "an unknown country": ("from", "Narnia", "send_country", "a value that the mapping translates"),
    "a currency that is none": ("currency", "pounds", "currency", "an ISO 4217 code"),
    "no currency": ("currency", "", "currency", "a currency beside amount_minor"),
    "a currency without rate": ("currency", "XXX", "currency", "an exchange rate on that day"),
    "a day before the first rate": ("at", "2001-01-01", "currency", "an exchange rate on that day"),
    "an amount that is none": ("amount", "a lot", "amount_minor", "a number"),
    "an amount that is not a number": ("amount", "nan", "amount_minor", "a number"),
    "a negative amount": ("amount", "-0.01", "amount_minor", "0..1000000000000000 minor units"),
    "an amount too big": ("amount", "1e14", "amount_minor", "0..1000000000000000 minor units"),
    "too many decimals": ("amount", "19.999", "amount_minor", "no more decimals than"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_a_dead_letter_and_the_others_go_on(run: Run, case: str) -> None:
    column, value, field, reason = BAD_ROWS[case]
    names, good = HEADER.strip().split(","), GOOD.strip().split(",")
    bad = [value if name == column else cell for name, cell in zip(names, good, strict=True)]
    outcome = run(HEADER + GOOD + ",".join(bad) + "\n" + GOOD.replace("e1", "e2"))
    assert [event["event_id"] for event in outcome.events] == ["e1", "e2"]
    (letter,) = outcome.letters
    assert (letter["row"], letter["field"]) == (3, field)
    assert letter["reason"].startswith("expected ")
    assert reason in letter["reason"]
    assert letter["value"] == bad[names.index(COLUMN_OF[field])]  # as the source has it
    assert letter["record"][column] == value
    assert outcome.report.by_reason == {(field, letter["reason"]): 1}


def test_a_row_has_one_letter_for_its_first_fault(run: Run) -> None:
    outcome = run(HEADER + ",yesterday,,?,?,?,?\n" + GOOD)
    assert [(letter["row"], letter["field"]) for letter in outcome.letters] == [(2, "event_time")]


def test_rows_that_cannot_be_read_are_dead_letters(run: Run) -> None:
    outcome = run((HEADER + "a,b\n" + GOOD).encode() + b"e3,2024-05-01,caf\xe9,VIEW,,,\n")
    assert [(letter["row"], letter["field"]) for letter in outcome.letters] == [
        (2, "row"),
        (4, "customer_id"),
    ]
    assert outcome.letters[1]["value"] == "caf\\xe9"
    assert outcome.report.events == 1


def test_a_file_of_bad_rows_only_is_an_empty_log(run: Run) -> None:
    outcome = run(HEADER + "a,b\n")
    assert (outcome.report.events, outcome.report.dead_letters) == (0, 1)
    assert outcome.report.first_event_time is None
    assert pq.read_schema(outcome.out).equals(EVENT_SCHEMA)


def test_a_file_without_rows_is_an_empty_log(run: Run) -> None:
    outcome = run(HEADER)
    assert outcome.report.rows_read == 0
    assert outcome.report.empty_columns == (
        "id",
        "at",
        "user",
        "type",
        "from",
        "currency",
        "amount",
    )


def test_columns_that_never_held_a_value_are_named(run: Run) -> None:
    outcome = run(HEADER + "e1,2024-05-01,u1,VIEW,,,\n")
    assert outcome.report.empty_columns == ("from", "currency", "amount")


def test_defaults_stand_in_for_missing_and_untranslated_values(run: Run) -> None:
    mapping = MINIMAL + (
        "  channel: {column: c, translate: {1: app, 2: ''}, default: web}\n"
        "  device: {column: d, default: unknown}\n"
        "  page: {column: p, translate: {x: home}, default: ''}\n"
    )
    rows = ["1,d,x", "2,,y", "3,d,", ",d,x"]
    text = "id,at,user,c,d,p\n" + "".join(f"e{n},2024-05-01,u,{r}\n" for n, r in enumerate(rows))
    outcome = run(text, mapping)
    assert [event["channel"] for event in outcome.events] == ["app", None, "web", "web"]
    assert [event["device"] for event in outcome.events] == ["d", "unknown", "d", "d"]
    assert [event["page"] for event in outcome.events] == ["home", None, None, "home"]


def test_ids_can_be_joined_or_counted(run: Run) -> None:
    text = "id,at,user\na,2024-05-01,u\nb,2024-05-01,\n\nc,2024-05-01,v\n"
    joined = run(text, MINIMAL.replace("event_id: id", "event_id: {columns: [user, id]}"))
    assert [event["event_id"] for event in joined.events] == ["u-a", "v-c"]
    (letter,) = joined.letters
    assert (letter["field"], letter["value"]) == ("event_id", ["", "b"])
    counted = run(text, MINIMAL.replace("event_id: id", "event_id: {row_number: true}"), "x.csv.gz")
    assert [event["event_id"] for event in counted.events] == ["x-2", "x-5"]


def test_constants_of_any_kind(run: Run) -> None:
    mapping = MINIMAL.replace("page_view", "label") + (
        "  label_event_id: id\n  label_value: {constant: 1}\n  currency: {constant: JPY}\n"
        "  fee_minor: {constant: 500, unit: major}\n  ip_country: {constant: NO}\n"
    )
    (event,) = run("id,at,user\ne,2024-05-01,u\n", mapping).events
    assert (event["label_value"], event["fee_minor"], event["ip_country"]) == (1.0, 500, "NO")


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet"])
def test_rows_that_are_no_events_are_skipped_before_all_else(
    run: Run, tmp_path: Path, name: str
) -> None:
    mapping = "source: {skip_where: {test: true, kind: 7}}\n" + MINIMAL
    rows: list[dict[str, object]] = [
        {"id": "e1", "at": "2024-05-01", "user": "u", "test": True, "kind": 7},
        {"id": "e2", "at": "2024-05-01", "user": "u", "test": True, "kind": 8},
        {"id": "e3", "at": "2024-05-01", "user": "u", "test": False, "kind": 7},
        {"id": "e4", "at": "2024-05-01", "user": "u", "test": None, "kind": 7},
        {"id": "", "at": "never", "user": "", "test": True, "kind": 7},
    ]
    source = tmp_path / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), source)
    elif name.endswith("jsonl"):
        source.write_text("\n".join(map(json.dumps, rows)))
    else:
        cells = [[json.dumps(v).strip('"').replace("null", "") for v in r.values()] for r in rows]
        source.write_text("\n".join(map(",".join, [list(rows[0]), *cells])))
    outcome = run(source, mapping)
    assert [event["event_id"] for event in outcome.events] == ["e2", "e3", "e4"]
    assert (outcome.report.rows_read, outcome.report.skipped) == (5, 2)


def test_typed_columns_of_parquet(run: Run, tmp_path: Path) -> None:
    at = [datetime(2024, 5, 1, tzinfo=UTC), None]
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int8()),
            "at": pa.array(at, pa.timestamp("ms", "Asia/Tokyo")),
            "user": pa.array([7.0, 8.0]),
            "amount": pa.array([12.34, 1.0], pa.float32()),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    mapping = (
        MINIMAL + "  amount_minor: {column: amount, unit: major}\n  currency: {constant: EUR}\n"
    )
    outcome = run(tmp_path / "in.parquet", mapping)
    (event,) = outcome.events
    assert (event["event_id"], event["customer_id"], event["amount_minor"]) == ("1", "7", 1234)
    assert event["event_time"] == at[0]
    assert (outcome.letters[0]["row"], outcome.letters[0]["field"]) == (2, "event_time")


def test_timestamps_beyond_the_calendar_never_stop_a_run(run: Run, tmp_path: Path) -> None:
    at = pa.array([0, 2**63 - 1, -(2**63) + 1, 1_714_557_600_000_000]).cast(pa.timestamp("us"))
    pq.write_table(pa.table({"at": at, "user": ["u"] * 4}), tmp_path / "in.parquet")
    outcome = run(tmp_path / "in.parquet", MINIMAL.replace("event_id: id", "event_id: at"))
    assert [letter["row"] for letter in outcome.letters] == [1, 2, 3]
    assert outcome.letters[1]["value"] == str(2**63 - 1)
    assert {letter["reason"] for letter in outcome.letters} == {"expected an instant in 2000..2099"}


def test_events_are_sorted_by_time_and_then_by_row(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr(event_file, "ROW_GROUP", 1000)
    rng = np.random.default_rng(7)
    start = datetime(2024, 5, 1, tzinfo=UTC)
    seconds = rng.integers(0, 300, 5000).tolist()
    text = "".join(
        f"e{n},{(start + timedelta(seconds=s)).isoformat()},u{s % 7}\n"
        for n, s in enumerate(seconds)
    )
    outcome = run("id,at,user\n" + text, MINIMAL)
    expected = sorted(range(5000), key=lambda n: (seconds[n], n))
    assert [event["event_id"] for event in outcome.events] == [f"e{n}" for n in expected]
    assert outcome.report.first_event_time == outcome.events[0]["event_time"]
    assert outcome.report.last_event_time == outcome.events[-1]["event_time"]
    groups = pq.ParquetFile(outcome.out).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [1000] * 5


def test_of_rows_with_the_same_event_id_the_first_stays(run: Run) -> None:
    text = "id,at,user\ne1,2024-05-03,u\ne2,2024-05-02,u\ne1,2024-05-01,v\ne1,2024-05-03,u\n"
    outcome = run(text, MINIMAL)
    assert [(e["event_id"], e["customer_id"]) for e in outcome.events] == [("e2", "u"), ("e1", "u")]
    assert [(letter["row"], letter["value"]) for letter in outcome.letters] == [
        (4, "e1"),
        (5, "e1"),
    ]
    assert outcome.letters[0]["record"]["customer_id"] == "v"
    assert outcome.report.by_reason == {("event_id", DUPLICATE): 2}


def test_a_rerun_gives_the_same_bytes(run: Run) -> None:
    first = run(HEADER + GOOD + GOOD).out.read_bytes()
    assert run(HEADER + GOOD + GOOD).out.read_bytes() == first


@pytest.mark.parametrize("span_s", [0, 3, 10_000_000])
def test_sorting_in_many_ranges_is_sorting(
    run: Run, monkeypatch: pytest.MonkeyPatch, span_s: int
) -> None:
    monkeypatch.setattr(event_file, "RANGE_BYTES", 20_000)
    monkeypatch.setattr(event_file, "ROW_GROUP", 500)
    monkeypatch.setattr(csv_rows, "_BLOCK_BYTES", 4096)
    rng = np.random.default_rng(7)
    seconds = (1_700_000_000 + rng.integers(0, span_s + 1, 6000)).tolist()
    rows = [f"e{n % 5900},{second},u" for n, second in enumerate(seconds)]
    mapping = MINIMAL.replace("event_time: at", "event_time: {column: at, unit: s}")
    outcome = run("id,at,user\n" + "\n".join(rows), mapping)
    expected = sorted(range(5900), key=lambda n: (seconds[n], n))
    assert [event["event_id"] for event in outcome.events] == [f"e{n}" for n in expected]
    assert [letter["row"] for letter in outcome.letters] == list(range(5902, 6002))
    groups = pq.ParquetFile(outcome.out).metadata
    sizes = [groups.row_group(n).num_rows for n in range(groups.num_row_groups)]
    assert sizes == [500] * 11 + [400]


def test_an_amount_whose_worth_does_not_fit_is_a_dead_letter(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text("date,currency,usd_per_unit\n2000-01-01,XBT,1e300\n")
    source, out = tmp_path / "in.csv", tmp_path / "events.parquet"
    source.write_text(
        HEADER
        + "e1,2024-05-01,u,PAY,Norway,XBT,1000000\n"
        + "e2,2024-05-01,u,PAY,Norway,XBT,0\n"
        + "e3,2024-05-01,u,VIEW,Norway,,\n"
    )
    (tmp_path / "m.yaml").write_text(PAYMENTS)
    rates = ExchangeRates(tmp_path / "rates.csv")
    with DeadLetters(tmp_path / "dead.jsonl") as letters:
        report = ingest(source, Mapping.load(tmp_path / "m.yaml"), out, rates, letters)
    assert (report.events, report.dead_letters) == (2, 1)
    letter = json.loads(letters.path.read_text())
    assert (letter["row"], letter["field"], letter["value"]) == (2, "amount_minor", "1000000")
    assert letter["reason"].startswith("expected an amount worth at most 9007199254740992 USD")
    assert pq.read_table(out)["amount_ref_minor"].to_pylist() == [0, None]


# -- runs that fail ---------------------------------------------------------------------------


def failing(tmp_path: Path, source: Path, out: Path, error: type[BaseException]) -> None:
    (tmp_path / "m.yaml").write_text(MINIMAL)
    mapping = Mapping.load(tmp_path / "m.yaml")
    letters = DeadLetters.for_source(tmp_path / "dead", source)
    with pytest.raises(error), letters:
        ingest(source, mapping, out, ExchangeRates(), letters)


def test_nothing_half_written_is_left_behind(tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv.gz", tmp_path / "log" / "events.parquet"
    rows = "".join(f"e{n},2024-05-01,u\n" for n in range(300_000))
    source.write_bytes(gzip.compress(("id,at,user\nbad\n" + rows).encode(), 1)[:-9])
    out.parent.mkdir()
    out.write_bytes(b"of the run before")
    failing(tmp_path, source, out, InputError)
    assert [path.name for path in out.parent.iterdir()] == ["events.parquet"]
    assert out.read_bytes() == b"of the run before"
    # The letters so far are, under a name that says so.
    assert [path.name for path in (tmp_path / "dead").iterdir()] == ["in.failed.jsonl"]


def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ingest_module, "map_batch", interrupt)
    source, out = tmp_path / "in.csv", tmp_path / "log" / "events.parquet"
    source.write_text("id,at,user\ne1,2024-05-01,u\n")
    failing(tmp_path, source, out, KeyboardInterrupt)
    assert not list(out.parent.iterdir())


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,at,user\ne1,2024-05-01,u\n")
    failing(tmp_path, source, source, InputError)
    failing(tmp_path, source, tmp_path / "absent" / ".." / "in.csv", InputError)
    assert source.read_text().startswith("id,at,user")


def test_a_mapping_that_does_not_fit_writes_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "log" / "events.parquet"
    source.write_text('{"id": 1, "time": "2024-05-01", "user": "u"}\n')
    failing(tmp_path, source, out, MappingError)
    assert not list(out.parent.iterdir())
    assert issubclass(MappingError, DaimaError)


def test_progress_runs_through_both_stages(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text(HEADER + GOOD)
    (tmp_path / "m.yaml").write_text(PAYMENTS)
    seen: list[tuple[str, float]] = []
    with DeadLetters(tmp_path / "dead.jsonl") as letters:
        ingest(
            source,
            Mapping.load(tmp_path / "m.yaml"),
            tmp_path / "out.parquet",
            ExchangeRates(),
            letters,
            progress=lambda stage, fraction: seen.append((stage, fraction)),
        )
    assert seen == [("mapping", 1.0), ("sorting", 0.0), ("sorting", 1.0)]
