"""A small mapping, and ways to write sources and run them through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feature_repo.contracts.money import ExchangeRates
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import IngestReport, ingest
from streaming.mapping.spec import Mapping

PAYMENTS = """
fields:
  event_id: id
  event_time: at
  customer_id: user
  event_type: {column: type, translate: {PAY: payment_submitted, VIEW: page_view}}
  send_country: {column: from, translate: {United Kingdom: GB, Norway: NO}}
  currency: currency
  amount_minor: {column: amount, unit: major}
"""
HEADER = "id,at,user,type,from,currency,amount\n"


class Outcome:
    """A run's report, events and dead letters."""

    def __init__(self, report: IngestReport, out: Path, letters: Path) -> None:
        self.report = report
        self.out = out
        self.events: list[dict[str, Any]] = pq.read_table(out).to_pylist()
        lines = letters.read_text("utf-8").splitlines() if letters.exists() else []
        self.letters: list[dict[str, Any]] = [json.loads(line) for line in lines]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Outcome]:
    """Run a source's content (text, bytes or a path) through a mapping's text."""

    def _run(content: str | bytes | Path, mapping: str = PAYMENTS, name: str = "in.csv") -> Outcome:
        source = content if isinstance(content, Path) else tmp_path / name
        if isinstance(content, str):
            source.write_text(content, "utf-8", newline="")
        elif isinstance(content, bytes):
            source.write_bytes(content)
        (tmp_path / "mapping.yaml").write_text(mapping, "utf-8")
        out = tmp_path / "log" / "events.parquet"
        with DeadLetters.for_source(tmp_path / "dead", source) as letters:
            report = ingest(
                source, Mapping.load(tmp_path / "mapping.yaml"), out, ExchangeRates(), letters
            )
        own = report.events - report.labels
        assert report.rows_read == own + report.skipped + report.dead_letters
        assert report.dead_letters == sum(report.by_reason.values())
        assert [path.name for path in out.parent.iterdir()] == [out.name]  # nothing left behind
        outcome = Outcome(report, out, letters.path)
        assert len(outcome.letters) == report.dead_letters
        assert len(outcome.events) == report.events
        return outcome

    return _run
