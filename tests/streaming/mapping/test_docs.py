"""docs/mapping.md shows the shipped examples and exactly what comes of them."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import ROOT
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import IngestReport, ingest
from streaming.mapping.spec import REQUIRED, TARGETS, Mapping

DOCS = ROOT / "docs"
TEXT = (DOCS / "mapping.md").read_text("utf-8")
BLOCK = re.compile(r"<!-- (\w+): (\S+) -->\n```\w*\n(.*?)```\n", re.DOTALL)


def replayed(name: str, folder: Path) -> tuple[IngestReport, Path, Path]:
    """Report, events and dead letters of an example."""
    source, out = DOCS / name, folder / "events.parquet"
    with DeadLetters.for_source(folder, source) as letters:
        mapping = Mapping.load(source.with_suffix(".yaml"))
        return ingest(source, mapping, out, ExchangeRates(), letters), out, letters.path


def expected(kind: str, name: str, folder: Path) -> str:
    """What a block of the document must say."""
    if kind == "file":
        return (DOCS / name).read_text("utf-8")
    _, out, letters = replayed(name, folder)
    lines = []
    if kind == "letters":
        for line in letters.read_text("utf-8").splitlines():
            letter = json.loads(line)
            value = json.dumps(letter["value"])
            lines.append(f"row {letter['row']:<3}{letter['field']} is {value}: {letter['reason']}")
    else:
        for event in pq.read_table(out).to_pylist():
            event["event_time"] = event["event_time"].strftime("%H:%M:%SZ")
            names = ["event_time", "event_id", "customer_id", "event_type", "send_country"]
            names += ["receive_country", "amount_minor", "currency", "amount_ref_minor"]
            lines.append(" ".join(str(event[name]) for name in names if event[name] is not None))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("kind", "name", "shown"), BLOCK.findall(TEXT))
def test_what_the_document_shows_is_so(kind: str, name: str, shown: str, tmp_path: Path) -> None:
    assert shown == expected(kind, name, tmp_path)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("examples/payments.csv", (15, 5, 1, 9)), ("examples/visits.jsonl", (8, 3, 1, 4))],
)
def test_the_counts_that_the_document_gives(
    name: str, counts: tuple[int, ...], tmp_path: Path
) -> None:
    report, _, _ = replayed(name, tmp_path)
    found = (report.rows_read, report.events, report.skipped, report.dead_letters)
    assert found == counts
    assert f"{report.rows_read} rows" in " ".join(TEXT.split())
    assert len(BLOCK.findall(TEXT)) == 5


def test_every_field_is_named() -> None:
    for name in (*TARGETS, *REQUIRED):
        assert f"`{name}`" in TEXT


def test_the_label_shown_is_the_one_of_the_example() -> None:
    line = "label: {value: TX_FRAUD, after: 6d}"
    example = DOCS / "examples" / "card_fraud" / "mapping.yaml"
    assert f"```yaml\n{line}\n```" in TEXT
    assert line in example.read_text("utf-8").splitlines()
    label = Mapping.load(example).label
    assert label is not None
    assert (label.value, label.after) == ("TX_FRAUD", timedelta(days=6))
