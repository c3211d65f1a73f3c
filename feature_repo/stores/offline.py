"""A Feast offline store whose point-in-time join is polars' as-of join, deterministic at ties.

Feast's DuckDB store numbers the candidate rows of each entity row and keeps the first; where two
rows of a customer carry the same instant (two clicks within a millisecond) either may win, and
which one changes from run to run: on 200,000 sessions that start with such a pair, three runs gave
three data sets. Here the last row wins, as it does online, so training sees what serving will see
and a data set comes out the same twice. It is also faster (see docs/models.md).

Everything but the join (materialisation, pulls, writes) is the DuckDB store's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import ibis  # type: ignore[import-untyped]
import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView, FileSource, RepoConfig
from feast.data_format import ParquetFormat
from feast.infra.offline_stores.duckdb import (
    DuckDBOfflineStore,
    DuckDBOfflineStoreConfig,
    _write_data_source,
)
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_repo.contracts.errors import DatasetError

_ROW, _AT, _MATCH = "__row", "__at_us", "__match"


class PolarsOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    """Configuration, as `feature_store.yaml` names it."""

    type: Literal["feature_repo.stores.offline.PolarsOfflineStore"] = (
        "feature_repo.stores.offline.PolarsOfflineStore"
    )


class PolarsOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """The DuckDB offline store with a point-in-time join of its own."""

    @staticmethod
    def get_historical_features(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """Join the latest feature rows at or before each entity row's instant, within the TTL.

        Keeps every entity row, in its order. A null join key, a key without rows, rows only in the
        future and rows older than the view's TTL all give null features; a row exactly as old as
        the TTL still counts, and of rows at one instant the last one stored wins.

        Sources other than Parquet files, and anything that orders rows by a created timestamp, go
        to the DuckDB store.

        Raises:
            DatasetError: a view's Parquet files are absent (on reading the job's result).
        """
        demanded = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        if not (
            isinstance(entity_df, pd.DataFrame)
            and all(_is_plain_parquet(view) for view in feature_views)
            and all(view.mode != "substrait" for view in demanded)
        ):
            return DuckDBOfflineStore.get_historical_features(
                config,
                feature_views,
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
            )
        time_column = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        return PolarsRetrievalJob(
            lambda: _join_views(
                entity_df, time_column, feature_views, feature_refs, full_feature_names
            ),
            demanded,
            full_feature_names,
            RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entity_df.columns if name != time_column],
                min_event_timestamp=pd.to_datetime(entity_df[time_column], utc=True).min(),
                max_event_timestamp=pd.to_datetime(entity_df[time_column], utc=True).max(),
            ),
            config,
        )


class PolarsRetrievalJob(IbisRetrievalJob):  # type: ignore[misc]
    """A join that runs when its result is first read, then keeps it."""

    def __init__(
        self,
        join: Callable[[], pl.DataFrame],
        on_demand_feature_views: list[OnDemandFeatureView],
        full_feature_names: bool,
        metadata: RetrievalMetadata,
        config: RepoConfig,
    ) -> None:
        self._join = join
        super().__init__(
            None,
            on_demand_feature_views,
            full_feature_names,
            metadata=metadata,
            data_source_writer=_write_data_source,
            staging_location=config.offline_store.staging_location,
            staging_location_endpoint_override=(
                config.offline_store.staging_location_endpoint_override
            ),
            repo_path=str(config.repo_path),
        )

    @cached_property
    def _result(self) -> pa.Table:
        return self._join().to_arrow()

    @property
    def table(self) -> ibis.Table:
        """The result for the inherited writers (`persist`), which think in ibis."""
        return ibis.memtable(self._result)

    @table.setter
    def table(self, _: None) -> None:
        """The parent's constructor sets what is computed here."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._result

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return cast(pd.DataFrame, self._result.to_pandas())


def _is_plain_parquet(view: FeatureView) -> bool:
    source = view.batch_source
    return (
        isinstance(source, FileSource)
        and (source.file_format is None or isinstance(source.file_format, ParquetFormat))
        and "://" not in source.path
        and not source.created_timestamp_column
    )


def _join_views(
    entity_df: pd.DataFrame,
    time_column: str,
    views: Sequence[FeatureView],
    refs: Sequence[str],
    full_names: bool,
) -> pl.DataFrame:
    instants = pd.to_datetime(entity_df[time_column], utc=True)
    entities = pl.from_pandas(entity_df.assign(**{time_column: instants})).with_columns(
        pl.col(time_column).dt.cast_time_unit("us")
    )
    columns: list[pl.Series] = []
    for view in views:
        prefix = f"{view.projection.name_to_use()}:"
        names = [ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix)]
        label = view.projection.name_alias or view.name
        for column in _as_of(entities, time_column, view, names):
            columns.append(column.alias(f"{label}__{column.name}") if full_names else column)
    return entities.hstack(columns)


def _as_of(
    entities: pl.DataFrame, time_column: str, view: FeatureView, names: Sequence[str]
) -> list[pl.Series]:
    """The view's features at each entity row, in the entities' order.

    The join runs on keys and instants alone and yields row numbers; the features are gathered
    once, in place, so that wide views cost one copy of what is asked for.
    """
    keys = view.projection.join_key_map or {
        column.name: column.name for column in view.entity_columns
    }
    at_us = entities[time_column].dt.epoch("us")
    source = _read_rows(view, list(keys), names, at_us)
    by = list(keys)
    left = entities.select(
        at_us.alias(_AT),
        # A key that is null throughout comes from pandas without a type of its own.
        *(pl.col(ours).cast(source.schema[theirs]).alias(theirs) for theirs, ours in keys.items()),
    ).with_row_index(_ROW)
    right = source.select(_AT, *by).with_row_index(_MATCH)
    # Stable sorts: rows at one instant stay in stored order, and the as-of join takes the last.
    matched = (
        left.drop_nulls()
        .sort(_AT, maintain_order=True)
        .join_asof(
            right.drop_nulls().sort(_AT, maintain_order=True),
            on=_AT,
            by=by or None,
            strategy="backward",
            tolerance=_ttl_us(view),
            check_sortedness=False,  # it cannot check by groups and warns instead
        )
        .select(_ROW, _MATCH)
    )
    rows = left.select(_ROW).join(matched, on=_ROW, how="left", maintain_order="left")[_MATCH]
    return [source[name].gather(rows) for name in names]


def _ttl_us(view: FeatureView) -> int | None:
    # A TTL of zero means none, in Feast.
    return round(view.ttl.total_seconds() * 1e6) if view.ttl else None


def _read_rows(
    view: FeatureView, keys: Sequence[str], names: Sequence[str], at_us: pl.Series
) -> pl.DataFrame:
    """The view's rows that any of the instants can see, in stored order."""
    source = view.batch_source
    path = Path(source.path)
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path] * path.is_file()
    if not files:
        raise DatasetError(
            view.name, str(path), "Parquet files", "stream or simulate events first, then retry"
        )
    rows = pl.scan_parquet(files, hive_partitioning=False).rename(
        dict(source.field_mapping), strict=False
    )
    moment = pl.col(source.timestamp_field)
    latest, earliest = at_us.max(), at_us.min()
    if isinstance(latest, int) and isinstance(earliest, int):
        ttl_us = _ttl_us(view)
        oldest = earliest - ttl_us if ttl_us else None
        rows = rows.filter(moment <= _instant(latest))
        if oldest is not None:
            rows = rows.filter(moment >= _instant(oldest))
    try:
        return rows.select(moment.dt.epoch("us").alias(_AT), *keys, *names).collect()
    except pl.exceptions.PolarsError as error:
        raise DatasetError(
            view.name,
            str(path),
            f"Parquet with {source.timestamp_field}, {', '.join([*keys, *names])}",
            f"write the table again; reading it failed: {error}",
        ) from error


def _instant(us: int) -> pl.Expr:
    return pl.lit(us).cast(pl.Datetime("us", "UTC"))
