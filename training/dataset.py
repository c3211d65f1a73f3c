"""Point-in-time correct training sets: entity rows joined, through Feast, with what was known then.

A model brings rows of (entity keys, event_timestamp, anything else such as a target); the join
adds the features of its feature service as of each row's instant.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from feast import FeatureService, FeatureStore
from feast.errors import FeatureServiceNotFoundException

from feature_repo.contracts.definition import Dtype
from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH, VERSION_FEATURE
from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_inputs import ModelInput
from feature_repo.contracts.settings import Settings
from feature_repo.contracts.states import AS_OF_FIELD
from feature_repo.stores.feast_store import open_store
from training.embedding.as_inputs import vectors_as_of, without_vectors
from training.embedding.versions import EmbeddingVersion

log = logging.getLogger(__name__)

_POLARS = {Dtype.INT64: pl.Int64, Dtype.FLOAT64: pl.Float64, Dtype.STRING: pl.String}


@dataclass(frozen=True)
class Dataset:
    """Entity rows with their features.

    Attributes:
        feature_service: the service the features come from.
        inputs: its features in order, without categories (those are learnt from training rows),
            and without an embedding where there is none.
        frame: the entity rows given, by event_timestamp then customer_id, plus a column a feature
            of the service.
        absent_views: views without any offline rows; their features are null throughout.
        fingerprint: hash of the contents; equal data, equal fingerprint.
        embedding: whose vectors are among the features.
    """

    feature_service: str
    inputs: tuple[ModelInput, ...]
    frame: pl.DataFrame
    absent_views: tuple[str, ...]
    fingerprint: str
    embedding: EmbeddingVersion | None = None


@dataclass(frozen=True)
class Examples:
    """What a model is trained on.

    Attributes:
        dataset: examples with their features and targets, by time.
        window: start and end of the events that were seen.
        counts: what there was: examples, events, what was left out.
    """

    dataset: Dataset
    window: tuple[datetime, datetime]
    counts: dict[str, int]


def join_features(
    settings: Settings,
    service_name: str,
    entities: pl.DataFrame,
    embedding: EmbeddingVersion | None = None,
) -> Dataset:
    """Join a feature service to entity rows, each as of its own event_timestamp.

    Args:
        settings: where registry and offline store lie.
        service_name: a feature service of `definitions.py`.
        entities: the join keys of the service's views, `event_timestamp` (UTC) and what else the
            model needs; n rows in, n rows out.
        embedding: the version whose vectors are joined, if the service asks for vectors. Without
            one, or where nobody has a vector, there is no embedding among the inputs.

    Raises:
        DatasetError: the service is not applied, no row was given, or the store lost rows.

    Trap: a feature row at exactly the entity's instant counts as known. That is right for rows
    that describe the event itself, and a leak for a table stamped with the start of its period.
    """
    if entities.is_empty():
        raise DatasetError("entities", 0, "at least one row", "widen the window")
    began = time.perf_counter()
    store = open_store(settings)
    service = _service(store, service_name)
    inputs = _inputs(service)
    stored = [item for item in inputs if item.view != EMBEDDING_VIEW]
    absent = _absent_views(settings, store, service)
    if absent:
        log.warning(
            "no offline rows of %s: their features stay empty for this model", ", ".join(absent)
        )
    instant = pl.col("event_timestamp").dt.cast_time_unit("us")  # DuckDB refuses nanoseconds
    job = store.get_historical_features(
        entity_df=entities.with_columns(
            instant, instant.dt.epoch("us").alias(AS_OF_FIELD)
        ).to_pandas(),
        features=service
        if not absent and len(stored) == len(inputs)
        else [item.ref for item in stored if item.view not in absent],
    )
    joined = pl.from_arrow(job.to_arrow())
    if not isinstance(joined, pl.DataFrame) or joined.height != entities.height:
        raise DatasetError(
            "offline store",
            len(joined),
            f"{entities.height} rows, as many as were asked for",
            "use the offline store of feature_store.yaml: others drop rows without features",
        )
    frame = joined.select(
        *(pl.col(name).cast(dtype) for name, dtype in entities.schema.items()),
        *(
            pl.lit(None, _POLARS[Dtype(item.dtype)]).alias(item.feature)
            if item.view in absent
            else pl.col(item.feature).cast(_POLARS[Dtype(item.dtype)])
            for item in stored
        ),
    ).sort("event_timestamp", "customer_id")
    plain = fingerprint(frame)
    if len(stored) < len(inputs):
        inputs, frame = _with_vectors(settings, inputs, frame, embedding)
    embedded = any(item.view == EMBEDDING_VIEW for item in inputs)
    log.info(
        "joined %s features to %s rows in %.1f s",
        len(inputs),
        f"{frame.height:,}",
        time.perf_counter() - began,
    )
    return Dataset(
        service_name,
        inputs,
        frame,
        absent,
        fingerprint(frame) if embedded else plain,
        embedding if embedded else None,
    )


def service_inputs(settings: Settings, service_name: str) -> tuple[ModelInput, ...]:
    """The inputs of a feature service, in its order, without categories.

    Raises:
        DatasetError: the service is not applied.
    """
    return _inputs(_service(open_store(settings), service_name))


def fingerprint(frame: pl.DataFrame) -> str:
    """Hash a frame's columns, types and values, row order included (16 hex digits).

    >>> frame = pl.DataFrame({"a": [1, None], "b": ["x", "y"]})
    >>> fingerprint(frame) == fingerprint(frame.clone())
    True
    >>> fingerprint(frame) == fingerprint(frame.with_columns(b=pl.lit("x")))
    False
    """
    digest = hashlib.sha256()
    for column in frame.iter_columns():
        digest.update(f"{column.name}:{column.dtype}:{len(column)}".encode())
        plain = column.to_physical()
        if isinstance(column.dtype, pl.List):
            digest.update(column.list.len().fill_null(0).to_numpy().tobytes())
            plain = column.drop_nulls().explode()
        if column.dtype == pl.String:
            distinct = column.unique().drop_nulls().sort()
            digest.update("\0".join(distinct.to_list()).encode())
            plain = column.rank("dense").cast(pl.UInt32)
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        digest.update(plain.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def _service(store: FeatureStore, name: str) -> FeatureService:
    try:
        return store.get_feature_service(name)
    except FeatureServiceNotFoundException as error:
        raise DatasetError(
            "feature service", name, "one that is applied", "run: feast apply"
        ) from error


def _inputs(service: FeatureService) -> tuple[ModelInput, ...]:
    return tuple(
        ModelInput(view=view.name_to_use(), feature=field.name, dtype=str(field.dtype))
        for view in service.feature_view_projections
        for field in view.features
    )


def _with_vectors(
    settings: Settings,
    inputs: tuple[ModelInput, ...],
    frame: pl.DataFrame,
    embedding: EmbeddingVersion | None,
) -> tuple[tuple[ModelInput, ...], pl.DataFrame]:
    """The inputs that there are something of, and the frame with the vectors' columns."""
    asked = [item.feature for item in inputs if item.view == EMBEDDING_VIEW]
    if VERSION_FEATURE not in asked:
        raise DatasetError(
            f"features of {EMBEDDING_VIEW}",
            asked,
            f"{VERSION_FEATURE} beside the vector, by which vectors of others are told",
            "add it to the feature service",
        )
    found = without_vectors(frame.height)
    if embedding is not None:
        found = vectors_as_of(settings, embedding, frame)
    with_vectors = frame.hstack(found.select(asked))
    if embedding is None or found["embedding"].null_count() == frame.height:
        log.info("no customer embedding: it is left out of this model's inputs")
        return tuple(item for item in inputs if item.view != EMBEDDING_VIEW), with_vectors
    return tuple(_of_version(item, embedding.version) for item in inputs), with_vectors


def _of_version(item: ModelInput, version: int) -> ModelInput:
    if item.view != EMBEDDING_VIEW:
        return item
    if item.is_array:
        return msgspec.structs.replace(item, length=EMBEDDING_WIDTH)
    if item.feature == VERSION_FEATURE:
        return msgspec.structs.replace(item, only=version)
    return item


def _absent_views(
    settings: Settings, store: FeatureStore, service: FeatureService
) -> tuple[str, ...]:
    """Views whose Parquet is not there: a click log brings no profile and no financials."""
    # These are computed from the archive of events, at each row's instant.
    streamed = {view.name for view in store.list_on_demand_feature_views()}
    absent = []
    for projection in service.feature_view_projections:
        if projection.name == EMBEDDING_VIEW:  # from the archive too
            continue
        path = (
            settings.events_table
            if projection.name in streamed
            else Path(store.get_feature_view(projection.name).batch_source.path)
        )
        if not path.is_file() and next(path.rglob("*.parquet"), None) is None:
            absent.append(projection.name_to_use())
    return tuple(absent)
