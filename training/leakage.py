"""Proof on a sample that no feature of a data set knows the future: computed again without it.

Some examples are drawn. For each, everything that was not known at its instant is taken away
(events and labels of the archive by when the log knew them, rows of batch tables by their time),
its features are computed afresh from what is left, one example by itself, and must be those of the
data set. A feature with one future event in it differs, and the data set is not built.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore, FeatureView

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, VERSION_FEATURE
from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, load_feature_set
from feature_repo.contracts.model_inputs import REQUEST_VIEW
from feature_repo.contracts.settings import Settings
from feature_repo.engine.program import compile_program
from feature_repo.engine.projection import key_texts, log_times_us
from feature_repo.stores.event_history import concat, read_in_log_order
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.forgotten import ForgottenFile
from feature_repo.stores.stream_history import Spine, features_at, needed_columns
from training.dataset import Dataset
from training.embedding.sequences import archived_events, instant_us, sequences_of
from training.embedding.versions import EmbeddingVersion

log = logging.getLogger(__name__)

_TIME = "event_timestamp"
# Sums of floats differ in their last bits by the order in which they were taken.
_RELATIVE = 1e-9
# Vectors are of single precision.
_VECTORS_APART = 1e-5


def check_leakage(settings: Settings, dataset: Dataset, *, sample: int = 24, seed: int = 0) -> None:
    """Compute a sample's features again, each without what came after its instant, and compare.

    Args:
        settings: where archive and batch tables lie.
        dataset: of `join_features`; what came with the request is not checked.
        sample: how many examples to draw; a data set of fewer is checked whole.
        seed: of the draw.

    Raises:
        DatasetError: a feature differs; names it, the example and both values.
    """
    frame = dataset.frame
    places = np.random.default_rng(seed).permutation(frame.height)[:sample]
    rows = frame[np.sort(places)]
    again = _Again(settings, dataset, rows)
    for row in rows.iter_rows(named=True):
        for feature, expected in again.features(row).items():
            if not _equal(row[feature], expected):
                raise DatasetError(
                    f"feature {feature} of {row['customer_id']} at {row[_TIME]}",
                    row[feature],
                    f"{expected!r}, as from what was known at that instant",
                    "it knows something of later; mend how it is computed",
                )
    log.info("no feature of %s of %s examples knows the future", rows.height, f"{frame.height:,}")


class _Again:
    """Features of single examples, from what was known at their instants."""

    def __init__(self, settings: Settings, dataset: Dataset, rows: pl.DataFrame) -> None:
        feature_set = load_feature_set(settings.definitions)
        entity_of = {view.name: view.entity for view in feature_set.views}
        stored = [
            item
            for item in dataset.inputs
            if item.view != REQUEST_VIEW and item.view not in dataset.absent_views
        ]
        streamed: dict[EntityKey, list[str]] = {}
        joined: dict[str, list[str]] = {}
        for item in stored:
            if item.view == EMBEDDING_VIEW:
                continue
            if item.view in entity_of:
                streamed.setdefault(entity_of[item.view], []).append(item.feature)
            else:
                joined.setdefault(item.view, []).append(item.feature)
        self._streamed = [
            _Streamed(settings, feature_set, entity, names, rows)
            for entity, names in streamed.items()
        ]
        store = open_store(settings)
        self._joined = [_Joined(store, view, names, rows) for view, names in joined.items()]
        self._embedded = (
            None if dataset.embedding is None else _Embedded(settings, dataset.embedding, rows)
        )

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for streamed in self._streamed:
            found |= streamed.features(row)
        for joined in self._joined:
            found |= joined.features(row)
        if self._embedded is not None:
            found |= self._embedded.features(row)
        return found


class _Streamed:
    """One entity's stream features, from the events of its key up to the instant alone."""

    def __init__(
        self,
        settings: Settings,
        feature_set: FeatureSet,
        entity: EntityKey,
        names: list[str],
        rows: pl.DataFrame,
    ) -> None:
        self._set, self._entity, self._names = feature_set, entity, names
        self._program = compile_program(feature_set, entity)
        columns = needed_columns([self._program]) | set(entity.columns)
        asked = rows[entity.join_key].drop_nulls().unique().to_list()
        latest = rows[_TIME].dt.epoch("us").max()
        self._batches: list[pa.RecordBatch] = []
        for batch in read_in_log_order(
            settings.events_table, columns, until_us=latest if isinstance(latest, int) else None
        ):
            of_asked = pc.is_in(key_texts(entity, batch), pa.array(asked, pa.string()))
            if pc.any(of_asked).as_py():
                self._batches.append(batch.filter(of_asked))

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        key, at = row[self._entity.join_key], row[_TIME]
        if key is None:
            return dict.fromkeys(self._names)
        at_us = int(pl.Series([at]).dt.epoch("us")[0])
        known = [self._known(batch, key, at_us) for batch in self._batches]
        question = pa.table(
            {self._entity.join_key: [key], _TIME: pa.array([at_us], pa.timestamp("us", "UTC"))}
        )
        spine = Spine.of(self._set, question, _TIME)
        batches = [batch for batch in known if len(batch)] or [known[0]]
        answers = features_at([self._program], [concat(batches)], spine)
        return {name: answers.column(name)[0].as_py() for name in self._names}

    def _known(self, batch: pa.RecordBatch, key: str, at_us: int) -> pa.RecordBatch:
        of_key = pc.equal(key_texts(self._entity, batch), key)
        return batch.filter(pc.and_(of_key, pa.array(log_times_us(batch) <= at_us)))


class _Joined:
    """A batch view's features: its latest row up to the instant, and not older than its TTL."""

    def __init__(
        self, store: FeatureStore, view: str, names: list[str], rows: pl.DataFrame
    ) -> None:
        self._names = names
        self._view: FeatureView = store.get_feature_view(view)
        source = self._view.batch_source
        (self._key,) = self._view.join_keys
        self._time = source.timestamp_field
        path = Path(source.path)
        files = path / "**/*.parquet" if path.is_dir() else path
        table = (
            pl.scan_parquet(files, hive_partitioning=False)
            .select(self._key, self._time, *names)
            .filter(pl.col(self._key).is_in(rows[self._key].drop_nulls().unique().to_list()))
            .collect()
        )
        forgotten = ForgottenFile.beside(path).read()
        if forgotten and self._key == "customer_id":
            keys = pa.concat_arrays([table[self._key].to_arrow().cast(pa.string())])
            table = table.filter(
                ~pl.Series(forgotten.hidden(keys, table[self._time].dt.epoch("us").to_numpy()))
            )
        self._table = table

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        at, ttl = row[_TIME], self._view.ttl
        known = self._table.filter(
            (pl.col(self._key) == row[self._key]) & (pl.col(self._time) <= at)
        )
        if ttl:
            known = known.filter(pl.col(self._time) >= at - ttl)
        if known.is_empty():
            return dict.fromkeys(self._names)
        newest = known.filter(pl.col(self._time) == pl.col(self._time).max()).row(-1, named=True)
        return {name: newest[name] for name in self._names}


class _Embedded:
    """A customer's vector, by replaying what had happened by the instant alone."""

    def __init__(self, settings: Settings, version: EmbeddingVersion, rows: pl.DataFrame) -> None:
        self._number, self._encoder = version.version, version.encoder
        self._events = archived_events(settings, customers=rows["customer_id"])

    def features(self, row: Mapping[str, Any]) -> dict[str, Any]:
        at = row[_TIME]
        happened = self._events.filter(
            (pl.col("customer_id") == row["customer_id"]) & (pl.col("event_time") <= at)
        )
        known = sequences_of(happened).until(instant_us(at))
        if not len(known.customer_id):
            return {"embedding": None, VERSION_FEATURE: None}
        _, vectors, _ = self._encoder.replay(known.offsets, known.sessions)
        return {"embedding": vectors[0].tolist(), VERSION_FEATURE: self._number}


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(found, list) and isinstance(expected, list):
        return np.allclose(found, expected, rtol=0.0, atol=_VECTORS_APART)
    if isinstance(found, float) and isinstance(expected, int | float):
        return math.isclose(found, expected, rel_tol=_RELATIVE, abs_tol=1e-9) or (
            math.isnan(found) and math.isnan(expected)
        )
    return bool(found == expected)
