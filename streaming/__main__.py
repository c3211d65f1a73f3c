"""`python -m streaming`: the live dataflow as a process of its own, until SIGTERM."""

from __future__ import annotations

import sys

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from streaming.run import run_live, stop_on_signals


def main() -> int:
    """Stream the live log into both stores; exit 0 after SIGTERM or SIGINT."""
    stopped = stop_on_signals()
    try:
        report = run_live(Settings.from_env(), stopped)
    except DaimaError as error:
        print(f"daima: {error}", file=sys.stderr)
        return 2
    print(f"streamed {report.events:,} events, {report.dead_letters:,} dead letters", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
