"""Whether what a champion is fed today, and what it says of it, is still what it was trained on.

Today's rows are those that were served, from the feature log; where too few of the champion's were
logged, the moments of the latest days at which it would have been asked, from the offline store.
What it was trained on is kept beside the version, described by shares of bins; a version without
it gets it from the offline store, over its training window.

Trap: features that count over a long time grow while an archive is young (90 days for
`customer_history`). That is drift, and retraining mends it; it is no fault of anybody's.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import mlflow
import numpy as np
import polars as pl
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from feature_repo.contracts.credentials import first_line, without_credentials
from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import Settings
from training.asked import asked, last_event
from training.champion import Champion, load_champion
from training.dataset import join_features
from training.embedding.as_inputs import served_to, trained_on
from training.embedding.versions import EmbeddingVersion
from training.evaluation.stability import (
    Floats,
    Reference,
    effective_rows,
    stability,
    stability_picture,
)
from training.history import VIEW as HISTORY
from training.history import fill_history, midnights
from training.model_files import add_to_model, file_of
from training.parity import FEATURE_LOG, served_rows

log = logging.getLogger(__name__)

REFERENCE_FILE = "reference.json"
# A week: what people do on a Sunday is no drift against a month.
LATEST = timedelta(days=7)
# Rows that describe a window well enough; more cost time alone.
MOST_ROWS = 20_000
LEAST_ROWS = 500
# On simulated worlds of 400 customers, an archive older than all windows, four weekly windows after
# training and all models: no prediction's index exceeded 0.00, no input's 0.36 (tenure, which grows
# as nobody new comes). Twice as many sessions gave 0.69, ten times as many failures 0.68 to 0.81.
INPUT_BOUND = 0.5
# Siddiqi's bound of a small shift.
OUTPUT_BOUND = 0.1
_SEED = 0
_OUTPUT = "prediction"


@dataclass(frozen=True)
class Drift:
    """What a comparison came to.

    Attributes:
        model, version: whose.
        source: of today's rows, `feature log` or `offline store`.
        start, end: their window.
        rows: of them.
        columns: as `training.evaluation.stability.stability` gives them, an input or a prediction
            each, with `importance`: the share of all gain of an input, null of a prediction.
        inputs, reference, matrix: what was compared.
    """

    model: str
    version: int
    source: str
    start: datetime
    end: datetime
    rows: int
    columns: pl.DataFrame
    inputs: ModelInputs
    reference: Reference
    matrix: Floats

    def alarming(self, inputs: float = INPUT_BOUND, output: float = OUTPUT_BOUND) -> list[str]:
        """The inputs and predictions beyond the bounds of their indices, the worst first."""
        is_output = pl.col("column").str.starts_with(_OUTPUT)
        bound = pl.when(is_output).then(output).otherwise(inputs)
        moved = pl.col("real") & (pl.col("psi") > bound)
        return self.columns.filter(moved)["column"].to_list()

    def picture(self, alarming: Sequence[str]) -> bytes:
        """The least stable columns, then and now, as a PNG; some in red."""
        title = f"{self.model} version {self.version}: {self.rows:,} rows of the {self.source}"
        return stability_picture(
            self.columns,
            self.reference,
            self.matrix,
            marked=alarming,
            categories={item.feature: item.categories for item in self.inputs.inputs},
            title=title,
        )


def drift(
    settings: Settings,
    model: str,
    start: datetime | None = None,
    end: datetime | None = None,
    least_rows: int = LEAST_ROWS,
) -> Drift:
    """Compare a window with what the champion was trained on.

    Args:
        settings: where stores and registry are.
        model: its name, as in the registry.
        start, end: aware instants; by default the latest week, up to now for what was served, and
            up to the last event for the offline store.
        least_rows: fewer than so many say nothing.

    Raises:
        ModelError: the model is not watched, has no champion, or the registry does not answer.
        DatasetError: too few rows, in the window or in the champion's training window.
    """
    champion = load_champion(settings, model)
    if champion is None:
        raise ModelError(f"{model}@champion", expected="a version", action="retrain it first")
    now = end or datetime.now(UTC)
    served = _served(settings, champion, start or now - LATEST, now)
    if served.height >= least_rows:
        source, first, last = "feature log", start or now - LATEST, now
        matrix, customers = _columns(served, champion), served["customer"]
    else:
        last = min(now, last_event(settings))
        source, first = "offline store", start or last - LATEST
        embedding = served_to(settings, champion.inputs)
        matrix, customers = _moments(settings, champion, first, last, embedding)
    if len(matrix) < least_rows:
        raise DatasetError(
            "window",
            f"{first} .. {last}",
            f"at least {least_rows} moments at which {model} is asked, it has {len(matrix)}",
            "widen it, stream more events, or serve with a higher DAIMA_FEATURE_LOG_SHARE",
        )
    reference = reference_of(settings, champion, least_rows)
    fed = _with_predictions(champion, matrix)
    found = stability(reference, fed, effective_rows(customers))
    return Drift(
        model, champion.version, source, first, last, len(matrix),
        _with_importance(settings, champion, found), champion.inputs, reference, fed,
    )  # fmt: skip


def reference_of(settings: Settings, champion: Champion, least_rows: int = LEAST_ROWS) -> Reference:
    """What a champion was trained on: the file beside it, written now if it is not there yet.

    Raises:
        DatasetError: the offline store has too few rows of its training window.
        ModelError: the file is none, or the registry does not take it.
    """
    uri = f"models:/{champion.name}/{champion.version}"
    raw = file_of(uri, REFERENCE_FILE)
    if raw is not None:
        return Reference.from_json(raw)
    start, end = (
        datetime.fromisoformat(champion.tags[f"training_window_{side}"])
        for side in ("start", "end")
    )
    embedding = trained_on(settings, champion.inputs)
    matrix, customers = _moments(settings, champion, start, end, embedding)
    if len(matrix) < least_rows:
        raise DatasetError(
            f"training window of {champion.name} version {champion.version}",
            f"{start} .. {end}",
            f"at least {least_rows} moments at which it is asked, it has {len(matrix)}",
            "retrain it on what the offline store holds",
        )
    made = Reference.of(
        _with_predictions(champion, matrix),
        names_of(champion),
        champion.inputs.categorical,
        effective_rows(customers),
    )
    _keep(settings, champion, made)
    log.info("%s: described by %s rows of its training window", uri, f"{made.rows:,}")
    return made


def names_of(champion: Champion) -> tuple[str, ...]:
    """The columns that are compared: the inputs', then a prediction's, or one a class."""
    outputs = [f"{_OUTPUT}[{name}]" for name in champion.outputs.answer.classes] or [_OUTPUT]
    return (*champion.inputs.columns, *outputs)


def _with_predictions(champion: Champion, matrix: Floats) -> Floats:
    scores, _ = champion.scorer.score(matrix)
    return np.column_stack([matrix, champion.outputs.judged(scores, matrix)])


def _moments(
    settings: Settings,
    champion: Champion,
    start: datetime,
    end: datetime,
    embedding: EmbeddingVersion | None,
) -> tuple[Floats, pl.Series]:
    """A sample of a window's moments as the champion is fed them, and whose they are.

    `embedding` is whose vectors there are.
    """
    moments = asked(settings, champion.name, start, end)
    if moments.height > MOST_ROWS:
        moments = moments.sample(MOST_ROWS, seed=_SEED).sort("event_timestamp", "customer_id")
    if any(item.view == HISTORY for item in champion.inputs.inputs):
        times = moments["event_timestamp"]
        fill_history(settings, midnights(times[0], times[-1]))
    frame = join_features(settings, champion.inputs.feature_service, moments, embedding).frame
    return champion.fed(frame), frame["customer_id"]


def _served(settings: Settings, champion: Champion, start: datetime, end: datetime) -> pl.DataFrame:
    """The logged rows of the champion's version: as they were fed."""
    folder = settings.home / FEATURE_LOG / quote(champion.name, safe="")
    rows = served_rows(folder, start, end)
    if rows.is_empty():
        return rows
    own = rows.filter(pl.col("version") == str(champion.version))
    return own.sample(MOST_ROWS, seed=_SEED) if own.height > MOST_ROWS else own


def _columns(rows: pl.DataFrame, champion: Champion) -> Floats:
    names = [
        f"{item.ref}[{place}]" if item.is_array else item.ref
        for item in champion.inputs.inputs
        for place in range(item.width)
    ]
    return rows.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def _with_importance(settings: Settings, champion: Champion, found: pl.DataFrame) -> pl.DataFrame:
    """With each input's share of all gain, as its run says; null where it says nothing."""
    run_id = _version(settings, champion).run_id
    raw = file_of(f"runs:/{run_id}", "importance.csv")
    if raw is None:
        return found.with_columns(importance=pl.lit(None, pl.Float64))
    shares = pl.read_csv(raw).select(
        pl.col("feature").alias("column"), pl.col("share").cast(pl.Float64).alias("importance")
    )
    return found.join(shares, on="column", how="left", maintain_order="left")


def _keep(settings: Settings, champion: Champion, reference: Reference) -> None:
    # The registry says `models:/ID` of where a version comes from, and leaves its model_id empty.
    model_id = str(_version(settings, champion).source).rpartition("/")[2]
    client = mlflow.MlflowClient(settings.mlflow_url)
    try:
        add_to_model(client, model_id, REFERENCE_FILE, reference.to_json())
    except MlflowException as error:
        raise _refused(settings, error) from error


def _version(settings: Settings, champion: Champion) -> ModelVersion:
    client = mlflow.MlflowClient(settings.mlflow_url)
    try:
        return client.get_model_version(champion.name, str(champion.version))
    except MlflowException as error:
        raise _refused(settings, error) from error


def _refused(settings: Settings, error: MlflowException) -> ModelError:
    return ModelError(
        "MLflow",
        without_credentials(settings.mlflow_url),
        f"a registry that answers and takes {REFERENCE_FILE}",
        f"start it (make up), then retry: {first_line(error)}",
    )
