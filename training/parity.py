"""Whether what was served is what the offline store says of the same instants.

The feature log keeps a share of the vectors as they were fed to a model. Here the same features of
the same customers, as of the same instants, are computed from the offline store and encoded by the
same version's inputs; each column's values are counted as equal, different, missing (offline knows
a value, serving had none) or extra (the other way round).

Trap: serving cannot know an event that has not reached it; with a stream that lags, the newest
rows differ by what was under way. Judge a window that ended some minutes ago, and by a share.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import mlflow
import numpy as np
import numpy.typing as npt
import polars as pl

from feature_repo.contracts.credentials import without_credentials
from feature_repo.contracts.embeddings import EMBEDDING_VIEW, OTHER_VERSION, VERSION_FEATURE
from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.model_files import INPUTS_FILE
from feature_repo.contracts.model_inputs import REQUEST_VIEW, ModelInput, ModelInputs
from feature_repo.contracts.settings import Settings
from training.dataset import join_features
from training.embedding.as_inputs import trained_on
from training.model_files import file_of

FEATURE_LOG = "feature_log"
_CLOSE = 1e-9
# A vector that grew session by session, and one that was replayed at once, in single precision.
_VECTORS_APART = 1e-5


@dataclass(frozen=True)
class Parity:
    """What a comparison came to.

    Attributes:
        model: whose vectors.
        rows: compared.
        features: feature, version, rows, equal, different, missing, extra, share (of the rows that
            are not equal); the worst first.
    """

    model: str
    rows: int
    features: pl.DataFrame

    @property
    def share(self) -> float:
        """Of all values, those that are not equal."""
        values, equal = (int(self.features[name].sum()) for name in ("rows", "equal"))
        return 1.0 - equal / values if values else 0.0

    def alarming(self, bound: float) -> list[str]:
        """The features of which more than a share of `bound` are not equal."""
        return self.features.filter(pl.col("share") > bound)["feature"].unique().sort().to_list()


def compare(
    settings: Settings, model: str, start: datetime, end: datetime, most_rows: int = 20_000
) -> Parity:
    """Compare what was served from `start` to `end` with the offline store.

    Args:
        model: registered name.
        start, end: aware instants; by when it was served.
        most_rows: a version's latest rows that are looked at.

    Raises:
        DatasetError: nothing was logged in the window, or the offline store has no events.
        ModelError: the registry does not have a version that was logged.
    """
    logged = served_rows(settings.home / FEATURE_LOG / quote(model, safe=""), start, end)
    if logged.is_empty():
        raise DatasetError(
            "feature log",
            f"{start} .. {end}",
            f"rows of {model}",
            "serve it with DAIMA_FEATURE_LOG_SHARE above 0, or widen the window",
        )
    tables = [
        _compared(settings, model, version, rows.sort("at").tail(most_rows))
        for (version,), rows in sorted(logged.group_by("version"))
    ]
    features = pl.concat(tables).sort("share", "feature", descending=[True, False])
    return Parity(model, sum(int(table["rows"][0]) for table in tables), features)


def served_rows(folder: Path, start: datetime, end: datetime) -> pl.DataFrame:
    """The rows of a model's folder of the feature log that were served in a window; maybe none."""
    parts = [
        pl.read_parquet(file)
        for file in sorted(folder.rglob("*.parquet"))
        if not file.name.startswith(".")
    ]
    if not parts:
        return pl.DataFrame()
    text = pl.col("version", "customer", "corridor").cast(pl.String)
    # Versions have different columns; files of before have no counterparty.
    nobody = pl.DataFrame(schema={"counterparty": pl.String})
    rows = pl.concat([nobody, *(part.with_columns(text) for part in parts)], how="diagonal_relaxed")
    return rows.filter(pl.col("at").is_between(start, end, closed="left"))


def _compared(settings: Settings, model: str, version: str, rows: pl.DataFrame) -> pl.DataFrame:
    """A row a feature that comes out of a store."""
    inputs = _inputs(settings, model, version)
    entities = rows.select(
        pl.col("customer").alias("customer_id"),
        "corridor",
        pl.col("counterparty").alias("counterparty_id"),
        pl.col("as_of").alias("event_timestamp"),
        row=pl.int_range(pl.len()),
    )
    # The join gives rows by time; ours are told apart by number.
    embedding = trained_on(settings, inputs)
    known = join_features(settings, inputs.feature_service, entities, embedding).frame.sort("row")
    if embedding is not None:
        known = _without_others(known, rows, inputs)
    return pl.DataFrame(
        [
            {"feature": item.ref, "version": version, "rows": rows.height}
            | _counts(_served(rows, item), _again(known, item), _apart(item))
            for item in inputs.inputs
            if item.view != REQUEST_VIEW and item.feature in known.columns
        ]
    ).with_columns(share=1.0 - pl.col("equal") / pl.col("rows"))


def _without_others(known: pl.DataFrame, rows: pl.DataFrame, inputs: ModelInputs) -> pl.DataFrame:
    """Without the vectors that were not served, since online stood another version's."""
    said = f'"{EMBEDDING_VIEW}:{VERSION_FEATURE}":"{OTHER_VERSION}"'
    other = rows["statuses"].cast(pl.String).str.contains(said, literal=True)
    vector = [item.feature for item in inputs.inputs if item.view == EMBEDDING_VIEW]
    return known.with_columns(pl.when(~other).then(pl.col(vector)))


def _served(rows: pl.DataFrame, item: ModelInput) -> npt.NDArray[np.float64]:
    names = [f"{item.ref}[{n}]" for n in range(item.width)] if item.is_array else [item.ref]
    return rows.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def _apart(item: ModelInput) -> float:
    return _VECTORS_APART if item.is_array else 0.0


def _again(known: pl.DataFrame, item: ModelInput) -> npt.NDArray[np.float64]:
    return ModelInputs("", (item,)).matrix(known)


def _counts(
    served: npt.NDArray[np.float64], again: npt.NDArray[np.float64], apart: float
) -> dict[str, int]:
    """Rows by how they compare; an array's row is equal if all of it is, up to `apart`."""
    had, has = ~np.isnan(served).all(axis=1), ~np.isnan(again).all(axis=1)
    near = np.isclose(served, again, rtol=_CLOSE, atol=apart, equal_nan=True).all(axis=1)
    return {
        "equal": int(near.sum()),
        "different": int((~near & had & has).sum()),
        "missing": int((~near & ~had & has).sum()),
        "extra": int((~near & had & ~has).sum()),
    }


def _inputs(settings: Settings, model: str, version: str) -> ModelInputs:
    mlflow.set_tracking_uri(settings.mlflow_url)
    raw = file_of(f"models:/{model}/{version}", INPUTS_FILE)
    if raw is None:
        raise ModelError(
            f"version of {model}",
            version,
            f"one that the registry at {without_credentials(settings.mlflow_url)} has",
            "compare a window after it was deleted, or start the registry (make up)",
        )
    return ModelInputs.from_json(raw)
