"""`daima score-stream`: a prediction for every login and payment in the event log."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from feature_repo.contracts.errors import DaimaError
from infra.stack_file import settings_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from feature_repo.contracts.settings import Settings
    from serving.predict import Service
    from serving.score_stream import ScoreReport
    from serving.settings import ServingSettings

_LOOK_S = 0.1


@dataclass(frozen=True)
class ScoreOptions:
    """What to score: models (none: all that serve), of which log, from where."""

    models: tuple[str, ...] = ()
    source: str = "valkey"
    from_now: bool = False
    wait: timedelta = timedelta(seconds=2)


def run_score_stream(home: Path | None, options: ScoreOptions, *, as_json: bool) -> None:
    """The command: until SIGTERM or Ctrl-C, then what was read is scored and emitted.

    Raises:
        LogGapError: the log no longer has what comes after what was scored last.
        ScoreLogError: another process scores the same.
        SettingsError: a setting is wrong, or no feature definitions are applied.
        StoreUnavailableError: the store or the log does not answer.
    """
    settings, _ = settings_at(home, os.environ)
    os.environ.update(settings.environment())
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from serving.settings import ServingSettings
    from streaming.run import stop_on_signals
    from streaming.setup import check_store

    check_store(settings)
    serving = replace(ServingSettings.from_env("127.0.0.1", 0), shared=settings)
    report = asyncio.run(_run(serving, options, stop_on_signals()))
    counts = ", ".join(f"{count:,} of {model}" for model, count in report.emitted.items())
    print(f"predictions emitted: {counts or 'none'}; {report.stale:,} with stale features")
    if as_json:
        print(msgspec.json.encode(asdict(report)).decode())


async def _run(
    serving: ServingSettings, options: ScoreOptions, stopped: Callable[[], bool]
) -> ScoreReport:
    from serving.catalog import load_catalog
    from serving.registry import open_registry
    from serving.score_service import running_service
    from serving.score_stream import ScoreReport

    registry = open_registry(serving.shared)
    async with running_service(serving, load_catalog(serving.shared), registry) as service:
        models = await _models(service, options.models, stopped)
        if not models:
            return ScoreReport()
        return await score(service, serving.shared, models, options, stopped)


async def score(
    service: Service,
    settings: Settings,
    models: tuple[str, ...],
    options: ScoreOptions,
    stopped: Callable[[], bool],
) -> ScoreReport:
    """Score with a service that runs, until `stopped()`."""
    from feature_repo.stores.forgotten import ForgottenFile
    from feature_repo.stores.redis_connection import connect
    from serving.score_log import ScoreLog
    from serving.score_stream import StreamScorer
    from streaming.live_logs import LiveLog, Source

    if options.source not in set(Source):
        raise DaimaError("--source", options.source, ", ".join(Source), "choose one of these")
    client: Any = connect(settings.redis)
    log = LiveLog(Source(options.source), settings, os.environ)
    feature_set = service.catalog.feature_set
    shards = log.shards(client, feature_set)
    whole = feature_set.entities[0].name
    output = ScoreLog(client, options.source, settings.log_retention)
    positions = {
        (model, shard): output.position(model, shard) for model in models for shard in range(shards)
    }
    if options.from_now:
        ends = log.ends(client, whole, shards)
        for (model, shard), before in positions.items():
            if (end := ends.get(shard)) is not None and end != before:
                output.emit(model, shard, before, end, [])
                positions[model, shard] = end
    for model in models:
        output.open(model, shards)
    reader = log.open(
        {(whole, shard): _least(positions, models, shard) for shard in range(shards)}, stopped
    )
    print(
        f"daima: scoring {', '.join(models)} for events of {options.source}; Ctrl-C ends it",
        file=sys.stderr,
        flush=True,
    )
    try:
        scorer = StreamScorer(
            service,
            models,
            output=output,
            reader=reader,
            positions=positions,
            tombstones=ForgottenFile(settings.offline),
            log_name=options.source,
            wait=options.wait,
        )
        return await scorer.run(stopped)
    finally:
        reader.close()
        client.close()


async def _models(
    service: Service, wanted: tuple[str, ...], stopped: Callable[[], bool]
) -> tuple[str, ...]:
    """The models to score for, once they serve."""
    told = False
    while not stopped():
        serving = service.champions.line.models
        missing = [name for name in wanted if name not in serving]
        if serving and not missing:
            return wanted or tuple(sorted(serving))
        if not told:
            what = ", ".join(missing) or "a model"
            print(f"daima: waiting until {what} serves", file=sys.stderr, flush=True)
            told = True
        await asyncio.sleep(_LOOK_S)
    return ()


def _least(
    positions: dict[tuple[str, int], int | None], models: tuple[str, ...], shard: int
) -> int | None:
    """From where a partition is read: where the model furthest behind has come to."""
    found = [positions[model, shard] for model in models]
    known = [offset for offset in found if offset is not None]
    return min(known) if len(known) == len(found) else None
