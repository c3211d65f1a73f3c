"""A Feast offline store whose point-in-time join is polars' as-of join, deterministic at ties.

Feast's DuckDB store numbers the candidate rows of each entity row and keeps the first; where two
rows of a customer carry the same instant (two clicks within a millisecond) either may win, and
which one changes from run to run: on 200,000 sessions that start with such a pair, three runs gave
three data sets. Here the last row wins, as it does online, so training sees what serving will see
and a data set comes out the same twice. It is also faster (see docs/models.md).

Stream features are computed from the archive of events (`stream_columns`). Everything but the join
(materialisation, pulls, writes) is the DuckDB store's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import ibis  # type: ignore[import-untyped]
import pandas as pd
import polars as pl
import pyarrow as pa
from feast import FeatureView, FileSource, RepoConfig
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
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
from feature_repo.stores.as_of_join import join_views
from feature_repo.stores.outlook_columns import OutlookColumns, take_outlook
from feature_repo.stores.remembered_rows import without_forgotten
from feature_repo.stores.stream_columns import StreamColumns, take_stream_views


class PolarsOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    """Configuration, as `feature_store.yaml` names it.

    Attributes:
        events: folder of the archive of events; empty: the store has no stream features.
        definitions: module of the feature set; empty for the default one.
    """

    type: Literal["feature_repo.stores.offline.PolarsOfflineStore"] = (
        "feature_repo.stores.offline.PolarsOfflineStore"
    )
    events: str = ""
    definitions: str = ""


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

        Features of the stream are those of the row's own instant, computed from the events.

        Sources other than Parquet files, and anything that orders rows by a created timestamp, go
        to the DuckDB store.

        Raises:
            DatasetError: a view's Parquet files or the events are absent, or `as_of_us` is not the
                row's own instant (on reading the job's result).
        """
        demanded = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        streamed: list[StreamColumns | OutlookColumns] = []
        if events := _filled_in(config.offline_store.events):
            definitions = _filled_in(config.offline_store.definitions)
            demanded, outlook = take_outlook(
                feature_views, demanded, feature_refs,
                events=events, definitions=definitions, full_names=full_feature_names,
            )  # fmt: skip
            feature_views, demanded, ours = take_stream_views(
                feature_views, demanded, feature_refs,
                events=events, definitions=definitions, full_names=full_feature_names,
                without_states=outlook is not None,
            )  # fmt: skip
            streamed = [each for each in (ours, outlook) if each is not None]
        if not (
            isinstance(entity_df, pd.DataFrame)
            and all(_is_plain_parquet(view) for view in feature_views)
            and all(view.mode != "substrait" for view in demanded)
        ):
            if streamed:
                raise DatasetError(
                    "stream features",
                    expected="entity rows in a DataFrame, and beside them views of Parquet files",
                    action="ask for the other views apart",
                )
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
            lambda: _join_all(
                entity_df,
                time_column,
                lambda rows: join_views(
                    rows, time_column, feature_views, feature_refs, full_feature_names
                ),
                streamed,
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

    @staticmethod
    def pull_latest_from_table_or_query(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """What `feast materialize` takes online: the latest row a key, of nobody forgotten."""
        job = DuckDBOfflineStore.pull_latest_from_table_or_query(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field,
            created_timestamp_column, start_date, end_date,
        )  # fmt: skip
        return without_forgotten(job, data_source, timestamp_field)

    @staticmethod
    def pull_all_from_table_or_query(  # noqa: PLR0917 - Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows of some time, of nobody forgotten."""
        job = DuckDBOfflineStore.pull_all_from_table_or_query(
            config, data_source, join_key_columns, feature_name_columns, timestamp_field,
            created_timestamp_column, start_date, end_date,
        )  # fmt: skip
        return without_forgotten(job, data_source, timestamp_field)


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


def _filled_in(setting: str) -> Path | None:
    """A path of the configuration; None where its variable was not set when Feast read it."""
    return Path(setting) if setting and not setting.startswith("$") else None


def _is_plain_parquet(view: FeatureView) -> bool:
    source = view.batch_source
    return (
        isinstance(source, FileSource)
        and (source.file_format is None or isinstance(source.file_format, ParquetFormat))
        and "://" not in source.path
        and not source.created_timestamp_column
    )


def _join_all(
    entity_df: pd.DataFrame,
    time_column: str,
    join: Callable[[pl.DataFrame], list[pl.Series]],
    streamed: Sequence[StreamColumns | OutlookColumns],
) -> pl.DataFrame:
    instants = pd.to_datetime(entity_df[time_column], utc=True)
    rows = pl.from_pandas(entity_df.assign(**{time_column: instants})).with_columns(
        pl.col(time_column).dt.cast_time_unit("us")
    )
    found = [column for each in streamed for column in each.read(rows, time_column)]
    return rows.hstack([*join(rows), *found])
