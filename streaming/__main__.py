"""`python -m streaming`: one process of the live stream, until SIGTERM."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from streaming.live_logs import Source
from streaming.rebase import REBASE_EVENTS
from streaming.run import EPOCH, Share, run_live, stop_on_signals
from streaming.workers import until_stdin_ends


def main(arguments: Sequence[str] | None = None) -> int:
    """Stream a share of the live log into both stores; exit 0 after SIGTERM or SIGINT."""
    asked = _parser().parse_args(arguments)
    stopped = stop_on_signals()
    if asked.while_stdin:
        stopped = until_stdin_ends(stopped)
    try:
        settings = Settings.from_env()
        if asked.definitions:
            settings = replace(settings, definitions=asked.definitions.resolve())
        report = run_live(
            settings,
            stopped,
            source=Source(asked.source),
            share=asked.worker,
            epoch=timedelta(seconds=asked.epoch_s),
            rebase_events=asked.rebase_events,
        )
    except DaimaError as error:
        print(f"daima: {error}", file=sys.stderr, flush=True)
        return 2
    print(f"streamed {report.events:,} events, {report.dead_letters:,} dead letters", flush=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m streaming")
    parser.add_argument("--live", action="store_true", help="the default, and the only way")
    parser.add_argument("--worker", type=_share, default=Share(), metavar="I/N")
    parser.add_argument("--source", choices=[str(source) for source in Source], default="valkey")
    parser.add_argument("--definitions", type=Path)
    parser.add_argument("--epoch-s", type=float, default=EPOCH.total_seconds())
    parser.add_argument("--rebase-events", type=int, default=REBASE_EVENTS)
    parser.add_argument("--while-stdin", action="store_true", help="end with standard input")
    return parser


def _share(text: str) -> Share:
    worker, _, workers = text.partition("/")
    return Share(int(worker), int(workers))


if __name__ == "__main__":
    sys.exit(main())
