"""The retraining flow: build the data set, train and judge, register, then promote or reject.

What is done lies in `training/` and `serving/release.py`; here is when, how often and for how long,
and what people see of it in the Prefect UI.
"""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlflow import MlflowClient
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.credentials import public_url
from feature_repo.contracts.errors import DaimaError, ModelError, StoreUnavailableError
from feature_repo.contracts.settings import Settings
from training import session_duration
from training.dataset import Dataset
from training.registry import register, reject
from training.session_duration import Config, Trained
from training.sessions import Sessions

# Each module has NAME, Config, build and train, in the shape of `training.session_duration`.
MODELS = {session_duration.NAME: session_duration}


@dataclass(frozen=True)
class Retrained:
    """What a run of the flow came to."""

    name: str
    version: int
    metric: str
    value: float
    promoted: bool
    verdict: str


def _may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Retry what may pass by itself: servers come back, an empty window stays empty."""
    try:
        state.result()
    except (ModelError, StoreUnavailableError):
        return True
    except DaimaError:
        return False
    except Exception:
        return True
    return False


# Data sets and models pass between tasks in memory: hashing a million rows for a cache that no one
# reads would take longer than the join.
@task(
    name="build data set",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=_may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def build_dataset(
    model: str, settings: Settings, start: datetime | None, end: datetime | None
) -> tuple[Sessions, Dataset]:
    """Closed sessions of the window with their features, point-in-time correct."""
    sessions, dataset = MODELS[model].build(settings, start, end)
    logger = get_run_logger()
    logger.info(
        "%s sessions of %s .. %s, %s inputs, data %s",
        f"{dataset.frame.height:,}",
        f"{sessions.window_start:%Y-%m-%d %H:%M}",
        f"{sessions.window_end:%Y-%m-%d %H:%M}",
        len(dataset.inputs),
        dataset.fingerprint,
    )
    if dataset.absent_views:
        logger.warning("no offline rows of %s", ", ".join(dataset.absent_views))
    return sessions, dataset


@task(
    name="train and judge",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=_may_pass,
    timeout_seconds=3_600,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_and_judge(model: str, sessions: Sessions, dataset: Dataset, config: Config) -> Trained:
    """Train on the earlier part, judge on the latest."""
    trained: Trained = MODELS[model].train(sessions, dataset, config, report=get_run_logger().info)
    return trained


@task(
    name="register",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=_may_pass,
    timeout_seconds=300,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def register_version(settings: Settings, trained: Trained) -> int:
    """Log to MLflow and create the version; a retry leaves at most an unregistered run behind."""
    version = register(settings, trained.candidate)
    get_run_logger().info(
        "registered %s version %s", trained.candidate.inputs.feature_service, version
    )
    return version


@task(
    name="promote or reject",
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=_may_pass,
    timeout_seconds=60,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def promote_or_reject(settings: Settings, trained: Trained, version: int) -> bool:
    """Make the version champion if it surely beats its baseline, else tag it rejected."""
    from serving.audit import AUDIT_FILE, Audit  # noqa: PLC0415 - heavy, and only here
    from serving.release import promote  # noqa: PLC0415

    name = trained.candidate.inputs.feature_service
    if not trained.beats_baseline:
        reject(settings, name, version, trained.verdict)
        get_run_logger().warning("%s version %s rejected: %s", name, version, trained.verdict)
        return False
    promote(
        name,
        version,
        client=MlflowClient(settings.mlflow_url),
        audit=Audit(settings.home / AUDIT_FILE),
        who="retrain flow",
        why=trained.verdict,
    )
    get_run_logger().info("%s version %s is champion", name, version)
    return True


@task(name="publish artifacts", timeout_seconds=60, cache_policy=NO_CACHE, persist_result=False)
def publish(settings: Settings, trained: Trained, outcome: Retrained) -> None:
    """Leave metrics, summary and importance picture on the run's page and the artifacts page."""
    candidate = trained.candidate
    key = outcome.name.replace("_", "-")
    create_table_artifact(
        key=f"{key}-metrics",
        table=[
            {"metric": name, "value": f"{value:,.4f}".rstrip("0").rstrip(".")}
            for name, value in candidate.metrics.items()
        ],
        description=f"{outcome.name} version {outcome.version}: {outcome.verdict}",
    )
    create_markdown_artifact(
        key=f"{key}-summary",
        markdown=summary(trained, outcome),
        description=f"{outcome.name} version {outcome.version}",
    )
    create_image_artifact(
        key=f"{key}-importance",
        image_url=_picture_url(settings, candidate.picture, outcome),
        description=f"{outcome.name} version {outcome.version}: share of gain by input",
    )


@flow(
    name="retrain",
    flow_run_name="retrain {model}",
    description="Retrain a model from the offline store; promote it if it beats its baseline.",
    timeout_seconds=7_200,
    persist_result=False,
)
def retrain(
    model: str = session_duration.NAME,
    start: datetime | None = None,
    end: datetime | None = None,
    baseline_group: str = "session_corridor_last",
    threads: int = 2,
) -> Retrained:
    """Retrain one model.

    Args:
        model: its name, as in the registry.
        start, end: window of the training data, with time zone; None for all there is.
        baseline_group: the feature whose group means are the baseline (`session_channel_last` for a
            click log without corridors).
        threads: of LightGBM; equal results need equal threads.

    Raises:
        ModelError: there is no such model, or MLflow does not answer.
        DatasetError: the window holds too little to train on.
    """
    if model not in MODELS:
        raise ModelError("model", model, f"one of {sorted(MODELS)}", "name one of them")
    settings = Settings.from_env()
    config = Config(baseline_group=baseline_group, threads=threads)
    sessions, dataset = build_dataset(model, settings, start, end)
    trained = train_and_judge(model, sessions, dataset, config)
    version = register_version(settings, trained)
    promoted = promote_or_reject(settings, trained, version)
    candidate = trained.candidate
    outcome = Retrained(
        model, version, candidate.metric_name, candidate.metric_value, promoted, trained.verdict
    )
    publish(settings, trained, outcome)
    return outcome


def summary(trained: Trained, outcome: Retrained) -> str:
    """The run in Markdown: verdict, window, counts and the leading inputs."""
    start, end = trained.candidate.window
    state = "promoted to **champion**" if outcome.promoted else "**rejected** (nothing changed)"
    lines = [
        f"# {outcome.name}, version {outcome.version}",
        f"Version {outcome.version} is {state}: {outcome.verdict}.",
        f"Trained on events from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC.",
        "",
        "| rows | count |",
        "|---|---:|",
        *(f"| {name} | {count:,} |" for name, count in trained.counts.items()),
        "",
        "| input | share of gain |",
        "|---|---:|",
        *(
            f"| {row['feature']} | {row['share']:.1%} |"
            for row in trained.candidate.importance.head(10).iter_rows(named=True)
        ),
    ]
    return "\n".join(lines)


def _picture_url(settings: Settings, picture: bytes, outcome: Retrained) -> str:
    """MLflow's copy of the picture; the picture itself where MLflow is no server.

    The Prefect UI prints the address below the picture, so an inline one is a page of letters.
    """
    if settings.mlflow_url.startswith("http"):
        client = MlflowClient(settings.mlflow_url)
        run_id = client.get_model_version(outcome.name, str(outcome.version)).run_id
        return (
            f"{public_url(settings.mlflow_url)}/get-artifact?path=importance.png&run_uuid={run_id}"
        )
    return "data:image/png;base64," + base64.b64encode(picture).decode()
