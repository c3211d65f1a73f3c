"""Run the prediction API: `python -m serving --port 8000`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import cast

from feature_repo.contracts.credentials import DiscreetFormatter
from feature_repo.contracts.errors import DaimaError
from serving.settings import ServingSettings

log = logging.getLogger(__name__)

_DEFAULTS = {
    # A registry that is away must cost seconds, not MLflow's default of minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A second series beside every counter, which nobody reads.
    "PROMETHEUS_DISABLE_CREATED_SERIES": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "FEAST_USAGE": "False",
    "DO_NOT_TRACK": "1",
}
# Importing Feast sets these, also for child processes; they would make prometheus_client keep
# every metric in files shared between processes.
_SHARED_METRICS = (
    "PROMETHEUS_MULTIPROC_DIR",
    "PROMETHEUS_MULTIPROCESS_DIR",
    "prometheus_multiproc_dir",
)
_EXAMPLE = """\
settings, from the environment:
  DAIMA_HOME, DAIMA_REDIS, MLFLOW_TRACKING_URI (daima up sets them)
  DAIMA_API_TOKEN        what every request must bear; needed for any --host but the loopback
  DAIMA_API_DEADLINE_MS  how long a request may take unless it says X-Deadline-Ms (1000)
  DAIMA_API_IN_FLIGHT    requests worked on at a time, more are told to come again (256)
  DAIMA_POLICY           the file that turns scores into decisions (policy.yaml in DAIMA_HOME)
  DAIMA_EVENTS_TO        the log that takes /v1/events: valkey or kafka (valkey)

example:
  python -m serving --port 8000 &
  curl -s http://127.0.0.1:8000/v1/predict/session_duration -d '{"customers": ["c1"]}'
"""
# A thread that computes (asking the registry, checking events) lets the event loop on after this
# long, at each call of the system that the loop makes;
# the default of 5 ms would be most of a p99.
_LOCK_WAIT = timedelta(milliseconds=0.05)
_COLLECT_AFTER = (50_000, 20, 100)
_LAST_REQUESTS = timedelta(seconds=5)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit status is 2 where a setting is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m serving",
        description="The prediction API of daima.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="address to bind (default: %(default)s; any but the loopback needs DAIMA_API_TOKEN)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="port to bind (default: 8000)")
    options = parser.parse_args(arguments)
    shown = logging.StreamHandler()
    shown.setFormatter(DiscreetFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[shown])
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in _SHARED_METRICS:
        os.environ.pop(name, None)
    try:
        return _serve(ServingSettings.from_env(options.host, options.port))
    except DaimaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _serve(settings: ServingSettings) -> int:
    # Heavy, so only now: `--help` and a wrong setting answer at once. The app comes before the
    # catalogue: see _SHARED_METRICS.
    import uvicorn  # noqa: PLC0415

    from serving.app import create_app  # noqa: PLC0415
    from serving.catalog import load_catalog  # noqa: PLC0415
    from serving.drain import DrainingServer  # noqa: PLC0415
    from serving.hot_protocol import HotProtocol  # noqa: PLC0415
    from serving.registry import open_registry  # noqa: PLC0415

    app = create_app(settings, load_catalog(settings.shared), open_registry(settings.shared))
    if settings.token is None:
        log.info("%s is the loopback: no token is asked for", settings.host)
    else:
        log.info("every request must bear the token of DAIMA_API_TOKEN (%s)", settings.host)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=cast("type[asyncio.Protocol]", partial(HotProtocol, app)),
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        ws="none",
        proxy_headers=False,  # no answer depends on who asks
        lifespan="on",
        access_log=False,
        server_header=False,
        log_level="info",
        timeout_graceful_shutdown=int(max(settings.deadline, _LAST_REQUESTS).total_seconds()),
    )
    server = DrainingServer(config, app.gate, settings.drain)
    # What was imported stays for good: no collection need look at it again.
    gc.collect()
    gc.freeze()
    # Requests leave no cycles behind; looking for some at every 700 objects took 8 % of the time.
    gc.set_threshold(*_COLLECT_AFTER)
    sys.setswitchinterval(_LOCK_WAIT.total_seconds())
    server.run([config.bind_socket()])
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main())
