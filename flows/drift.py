"""The drift flow: what a champion is fed today against what it was trained on, and an alarm."""

# Prefect is not followed by mypy (pyproject.toml), so its decorators look untyped.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from feature_repo.contracts.settings import Settings
from flows.events import DRIFT_ALARM, tell
from flows.outcomes import inline_picture, may_pass, table_rows
from training.drift import INPUT_BOUND, LEAST_ROWS, OUTPUT_BOUND, Drift
from training.drift import drift as drift_of
from training.session_duration import NAME


@task(
    name="compare with training",
    task_run_name="compare {model} with its training",
    retries=2,
    retry_delay_seconds=10,
    retry_condition_fn=may_pass,
    timeout_seconds=1_800,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def compare_with_training(
    model: str, settings: Settings, start: datetime | None, end: datetime | None, least_rows: int
) -> Drift:
    """Stability of every input and prediction."""
    found = drift_of(settings, model, start, end, least_rows)
    get_run_logger().info(
        "%s rows of the %s, %s .. %s, against %s rows that %s version %s was trained on",
        f"{found.rows:,}",
        found.source,
        f"{found.start:%F %T}",
        f"{found.end:%F %T}",
        f"{found.reference.rows:,}",
        model,
        found.version,
    )
    return found


@task(name="publish artifacts", timeout_seconds=60, cache_policy=NO_CACHE, persist_result=False)
def show(found: Drift, alarming: list[str]) -> None:
    """The table and the picture on the run's page."""
    key = found.model.replace("_", "-")
    said = (
        f"{found.model} version {found.version}: {found.rows} rows of the {found.source} from "
        f"{found.start:%F %T} to {found.end:%F %T}"
    )
    create_table_artifact(key=f"{key}-drift", table=table_rows(found.columns), description=said)
    create_image_artifact(
        key=f"{key}-drift-picture",
        image_url=inline_picture(found.picture(alarming)),
        description=said,
    )


@flow(
    name="drift",
    flow_run_name="drift {model}",
    description="Compare what a champion is fed, and what it predicts, with what it was trained "
    "on; an alarm starts its retraining.",
    timeout_seconds=3_600,
    persist_result=False,
)
def drift(  # noqa: PLR0917 - whose, which window, and what counts as drift
    model: str = NAME,
    start: datetime | None = None,
    end: datetime | None = None,
    input_bound: float = INPUT_BOUND,
    output_bound: float = OUTPUT_BOUND,
    least_rows: int = LEAST_ROWS,
) -> list[str]:
    """Compare a window; returns the inputs and predictions that have drifted.

    Where there are some, the event `daima.drift.alarm` of the model is emitted, which starts its
    retraining.

    Args:
        model: its name, as in the registry.
        start: of the window, with time zone; by default a week before its end.
        end: of the window; by default now, or the last event there is.
        input_bound: population stability index beyond which an input has drifted.
        output_bound: the same of a prediction.
        least_rows: fewer rows than so many are an error.

    Raises:
        ModelError: the model is not watched, has no champion, or the registry does not answer.
        DatasetError: too few rows, in the window or in the champion's training window.
    """
    settings = Settings.from_env()
    found: Drift = compare_with_training(model, settings, start, end, least_rows)
    alarming = found.alarming(input_bound, output_bound)
    show(found, alarming)
    if alarming:
        get_run_logger().warning("drifted: %s", ", ".join(alarming))
        tell(
            DRIFT_ALARM,
            model,
            {
                "columns": alarming,
                "version": found.version,
                "input_bound": input_bound,
                "output_bound": output_bound,
            },
        )
    return alarming
