"""What `daima doctor` looks at: each check says what it found, and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from feature_repo.contracts.credentials import without_credentials
from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from infra.checkup_store import event_log, store
from infra.finding import UP, Check, Finding, ok, problem, warning
from infra.http_json import NoAnswerError, exchange
from infra.processes import answers

_LOW_DISK_BYTES = 1 << 30
_TIMEOUT_S = 5.0


def settings_and_definitions(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The settings of the API, and the feature definitions."""
    from feature_repo.contracts.feature_set import load_feature_set
    from serving.settings import ServingSettings

    try:
        ServingSettings.from_env("127.0.0.1", 8000, environ)
        yield ok("settings", f"home {settings.home}")
    except DaimaError as error:
        yield problem("settings", str(error), error.action)
    try:
        feature_set = load_feature_set(settings.definitions)
        views = len(feature_set.views)
        yield ok("definitions", f"{feature_set.name}: {views} views of stream features")
    except DaimaError as error:
        yield problem("definitions", str(error), error.action or "correct the module")


def disk(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The home folder: there, writable, with room."""
    home = settings.home
    there = next((path for path in (home, *home.parents) if path.exists()), Path("/"))
    if not os.access(there, os.W_OK):
        mend = f"make it writable (chown, chmod), or set DAIMA_HOME to another than {home}"
        yield problem("disk", f"{there} cannot be written to", mend)
        return
    free = shutil.disk_usage(there).free
    found = f"{free / (1 << 30):.1f} GiB free at {there}"
    if free < _LOW_DISK_BYTES:
        yield problem("disk", found, "make room: remove old models, compact (daima compact)")
    else:
        yield ok("disk", found)


def kernels(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The cache of compiled kernels: without it every start compiles for a minute."""
    import numba

    import feature_repo.engine  # noqa: F401 - says where they are kept

    folder = Path(environ.get("NUMBA_CACHE_DIR") or numba.config.CACHE_DIR)
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    if not os.access(there, os.W_OK):
        mend = "set NUMBA_CACHE_DIR or XDG_CACHE_HOME to a folder that can be written to"
        yield problem("kernels", f"{folder} cannot be written to: all are compiled anew", mend)
        return
    compiled = sum(1 for _ in folder.rglob("*.nbc")) if folder.is_dir() else 0
    if compiled:
        yield ok("kernels", f"{compiled} compiled in {folder}")
    else:
        mend = "nothing to do: the first command compiles them, which takes a minute"
        yield warning("kernels", f"none compiled yet in {folder}", mend)


def files(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The offline store, dead letters, and forgettings that were broken off."""
    from feature_repo.stores.forgotten import ForgottenFile

    if next(settings.events_table.rglob("*.parquet"), None) is None:
        mend = "daima replay FILE --mapping M.yaml, daima stream, or daima demo"
        yield warning("offline store", f"no events in {settings.events_table}", mend)
    else:
        yield ok("offline store", str(settings.offline))
    try:
        unfinished = len(ForgottenFile(settings.offline).read().pending.tombstones)
    except DaimaError as error:
        yield problem("forgotten customers", str(error), error.action)
    else:
        if unfinished:
            mend = "run daima forget CUSTOMER again; the names stand in offline/forgotten.json"
            yield problem("forgotten customers", f"{unfinished} not done to the end", mend)
    letters = [path for path in settings.dead_letters.glob("*.jsonl") if path.stat().st_size]
    if letters:
        mend = f"see {settings.dead_letters}: each says its field, value and reason"
        yield warning("dead letters", f"{len(letters)} files", mend)


def registries(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Feast's registry, MLflow and Prefect."""
    registry = settings.home / "registry.db"
    if registry.is_file():
        yield ok("Feast registry", str(registry))
    else:
        mend = 'eval "$(daima env)"; cd feature_repo; feast apply (daima up does it)'
        yield problem("Feast registry", f"{registry} is missing", mend)
    mlflow = settings.mlflow_url
    if not mlflow.startswith("http"):
        yield ok("MLflow", mlflow.split(":", 1)[0])
    elif answers(f"{mlflow}/health"):
        yield ok("MLflow", without_credentials(mlflow))
    else:
        mend = UP.format(variable="MLFLOW_TRACKING_URI")
        found = f"{without_credentials(mlflow)} does not answer; serving keeps its models"
        yield problem("MLflow", found, mend)
    prefect = without_credentials(settings.prefect_url)
    if answers(f"{settings.prefect_url}/health"):
        yield ok("Prefect", prefect)
    else:
        mend = UP.format(variable="PREFECT_API_URL")
        yield problem("Prefect", f"{prefect} does not answer: nothing retrains", mend)


def models(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The API, what it serves and what it refuses."""
    url = without_credentials(settings.api_url)
    try:
        status, ready = exchange("GET", f"{settings.api_url}/health/ready", timeout_s=_TIMEOUT_S)
    except NoAnswerError:
        mend = f"start it: {Path(sys.executable).name} -m serving (daima up does it)"
        yield problem("prediction API", f"{url} does not answer", mend)
        return
    if not isinstance(ready, dict):
        yield problem("prediction API", f"{url} is another server", "set DAIMA_API")
        return
    for missing in ready.get("missing", []):
        yield problem("prediction API", f"not ready: {missing}", "mend what is missing")
    served: dict[str, Any] = ready.get("models", {})
    if served:
        names = ", ".join(f"{model} v{version}" for model, version in served.items())
        yield ok("models", f"served: {names}")
    elif status < 400:
        yield problem("models", "none serves", "daima demo, or the retraining flow")
    for service in ready.get("not_serving", []):
        mend = f"train one and promote it: daima promote {service} VERSION"
        yield warning("models", f"no model of the feature service {service}", mend)


CHECKS: tuple[Check, ...] = (
    settings_and_definitions,
    disk,
    kernels,
    store,
    event_log,
    files,
    registries,
    models,
)
