"""`daima replay` and `daima stream`: files into both stores, with every row accounted for."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from infra.cli import app

ROWS = """\
id,when,who,what,amount
1,2026-01-05T10:00:00Z,ann,view,
2,2026-01-05T10:00:30Z,ann,pay,12.50
3,2026-01-05T10:01:00Z,bob,view,
4,yesterday,bob,view,
5,2026-01-05T10:02:00Z,bob,dance,
6,2026-01-05T10:03:00Z,cat,test,
"""
MAPPING = """\
source:
  skip_where: {what: test}
fields:
  event_id: id
  event_time: when
  customer_id: who
  event_type:
    column: what
    translate: {view: page_view, pay: payment_submitted}
  amount_minor: {column: amount, unit: major}
  currency: {constant: USD}
"""


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valkey: str) -> CliRunner:
    """Runs commands on an empty home and an empty store."""
    monkeypatch.setenv("DAIMA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAIMA_REDIS", valkey)
    (tmp_path / "rows.csv").write_text(ROWS)
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return CliRunner()


def test_a_replay_accounts_for_every_row(runner: CliRunner, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "rows.csv"), "--mapping", str(tmp_path / "mapping.yaml")]
    result = runner.invoke(app, ["replay", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout.splitlines()[-1])
    assert (counts["rows"], counts["events"], counts["skipped"]) == (6, 3, 1)
    assert counts["dead_letters"] == 2
    fields = [letter["field"] for letter in counts["dead_letters_by_reason"]]
    assert sorted(fields) == ["event_time", "event_type"]
    letters = Path(counts["dead_letter_file"]).read_text().splitlines()
    assert [json.loads(letter)["value"] for letter in letters] == ["yesterday", "dance"]
    assert counts["events_per_s"] > 0
    offline = pl.read_parquet(tmp_path / "home" / "offline" / "events" / "**/*.parquet")
    assert sorted(offline["event_id"]) == ["1", "2", "3"]
    # People see the same.
    assert counts["dead_letter_file"].rsplit("/", 1)[1] in result.stdout
    assert "rows skipped as the mapping says" in result.stdout
    assert "Streaming into both stores" in result.stderr


def test_the_ingested_file_streams_again(runner: CliRunner, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "rows.csv"), "--mapping", str(tmp_path / "mapping.yaml")]
    runner.invoke(app, ["replay", *arguments])
    result = runner.invoke(app, ["stream", str(tmp_path / "home/log/rows.parquet"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["events"] == 3
    offline = pl.read_parquet(tmp_path / "home" / "offline" / "events" / "**/*.parquet")
    assert offline.height == 3
