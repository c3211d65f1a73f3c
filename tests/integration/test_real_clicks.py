"""Real clicks, file to model: a few thousand users of the public news-portal data."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import ROOT, Settings
from streaming.mapping.dead_letters import DeadLetters
from streaming.mapping.ingest import ingest
from streaming.mapping.spec import Mapping
from streaming.run import run_file
from tests.applied import apply_definitions
from training.configuration import load_config
from training.session_duration import NAME, Config, build, train
from training.sessions import closed_sessions

CLICKS = ROOT.parent / "shared" / "data" / "clickstream_globo" / "clicks.parquet"
USERS = 40_000

pytestmark = [
    pytest.mark.skipif(not CLICKS.is_file(), reason=f"no public data at {CLICKS}"),
    pytest.mark.xdist_group("real_clicks"),
]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All clicks of the first users, imputed ones included, in the source's own order."""
    path = tmp_path_factory.mktemp("clicks") / "clicks.parquet"
    pl.scan_parquet(CLICKS).filter(pl.col("user_id") < USERS).collect().write_parquet(path)
    return path


@pytest.fixture
def settings(tmp_path: Path, valkey: str) -> Settings:
    return Settings.from_env({"DAIMA_HOME": str(tmp_path / "home"), "DAIMA_REDIS": valkey})


def sessions_of(clicks: Path) -> pl.DataFrame:
    """The sessions of the real clicks, cut after 30 minutes, straight from the definition."""
    new = (pl.col("click_ts").diff() > pl.duration(minutes=30)) | (
        pl.col("user_id") != pl.col("user_id").shift()
    )
    first = pl.col("click_ts").min()
    return (
        pl.read_parquet(clicks)
        .filter(~pl.col("ts_imputed"))
        .sort("user_id", "click_ts")
        .with_columns(session=new.fill_null(True).cum_sum())
        .group_by("session")
        .agg(
            customer_id=pl.col("user_id").first().cast(pl.String),
            event_timestamp=first.dt.cast_time_unit("us"),
            duration_s=(pl.col("click_ts").max() - first).dt.total_milliseconds() / 1000,
        )
        .drop("session")
    )


def test_real_clicks_become_sessions_and_a_model_that_beats_the_referrer(
    clicks: Path, settings: Settings
) -> None:
    events = settings.log / "clicks.parquet"
    mapping = Mapping.load(ROOT / "docs" / "examples" / "globo.yaml")
    with DeadLetters.for_source(settings.dead_letters, clicks) as letters:
        ingested = ingest(clicks, mapping, events, ExchangeRates(), letters)
    raw = pl.read_parquet(clicks)
    assert ingested.rows_read == raw.height
    assert ingested.skipped == raw["ts_imputed"].sum()
    assert ingested.dead_letters == 0

    streamed = run_file(events, settings)
    assert streamed.events == ingested.events
    assert streamed.dead_letters == 0

    found = closed_sessions(settings)
    key = ["customer_id", "event_timestamp"]
    expected = sessions_of(clicks).sort(key)
    assert found.open + found.frame.height == expected.height
    both = found.frame.join(expected, on=key, how="left", suffix="_expected")
    assert (both["duration_s"] - both["duration_s_expected"]).abs().max() == pytest.approx(
        0.0, abs=1e-6
    )

    apply_definitions(settings)
    trained = train(
        build(settings), load_config(Config, NAME, {"baseline_group": "session_channel_last"})
    )
    assert trained.beats_baseline, trained.verdict
