"""`daima stream`: an event file, or the live log by one or more processes, into both stores."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from infra.progress import reporting
from infra.replay import print_counts, stream_counts
from infra.stack_file import settings_at
from infra.store_choice import online_store
from infra.streaming_steps import stream_file


@dataclass(frozen=True)
class LiveOptions:
    """How to stream the live log: by how many processes, from where, and whether from scratch."""

    workers: int = 1
    source: str = "valkey"
    restart: bool = False


def run_stream_file(
    events: Path, home: Path | None, definitions: Path | None, *, embedded: bool, as_json: bool
) -> None:
    """`daima stream EVENTS`: an event file into both stores.

    Raises:
        InputError: it is no event file.
        DefinitionError: the definitions are wrong.
    """
    from streaming.log.files import open_event_file

    open_event_file(events).close()  # before a store is started for it
    with online_store(home, embedded=embedded) as found, reporting() as reporter:
        settings = _with_definitions(found, definitions)
        report = stream_file(reporter, events, settings)
    print_counts(stream_counts(report), settings, as_json=as_json)


def run_stream_live(home: Path | None, definitions: Path | None, options: LiveOptions) -> None:
    """`daima stream`: the live log into both stores, until SIGTERM or Ctrl-C.

    Raises:
        StoreUnavailableError: the online store does not answer.
        CheckpointError: the checkpoints cannot be continued; it says what to do.
        WorkerError: a process keeps dying.
    """
    found, _ = settings_at(home, os.environ)
    settings = _with_definitions(found, definitions)
    from feature_repo.stores.redis_connection import connect
    from streaming.live_logs import LiveLog, Source
    from streaming.run import restart, run_live, stop_on_signals
    from streaming.setup import check_store
    from streaming.workers import run_workers, worker_commands

    try:
        source = Source(options.source)
    except ValueError as error:
        known = ", ".join(Source)
        raise DaimaError("--source", options.source, known, "choose one of these") from error
    check_store(settings)
    if options.restart:
        restart(settings)
    stopped = stop_on_signals()
    if options.workers == 1:
        report = run_live(settings, stopped, source=source)
        print_counts(stream_counts(report), settings, as_json=False)
        return
    with connect(settings.redis) as client:
        shards = LiveLog(source, settings, os.environ).shards(client)
    commands = worker_commands(options.workers, shards, "--source", str(source))
    print(f"daima: {options.workers} processes stream the live log; Ctrl-C ends them", flush=True)
    run_workers(commands, stopped, environ={**os.environ, **settings.environment()})


def _with_definitions(settings: Settings, definitions: Path | None) -> Settings:
    return replace(settings, definitions=definitions.resolve()) if definitions else settings
