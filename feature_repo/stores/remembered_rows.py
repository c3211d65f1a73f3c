"""Rows of a batch table as Feast pulls them, without those of forgotten customers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import ibis  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pyarrow as pa
from feast import FileSource
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import _write_data_source
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob

from feature_repo.stores.forgotten import Forgotten, ForgottenFile

_CUSTOMER = "customer_id"


def without_forgotten(job: Any, source: DataSource, timestamp_field: str) -> RetrievalJob:
    """The job itself where nobody was forgotten; else one that leaves rows out when it runs."""
    if not isinstance(source, FileSource) or "://" in source.path:
        return job
    forgotten = ForgottenFile.beside(Path(source.path)).read()
    if not forgotten or _CUSTOMER not in job.table.columns:
        return job
    table = job.table
    return RememberedRowsJob(
        lambda: _kept(table.to_pyarrow(), forgotten, timestamp_field), job.repo_path
    )


class RememberedRowsJob(IbisRetrievalJob):  # type: ignore[misc]
    """A pull that is filtered once it is there."""

    def __init__(self, read: Callable[[], pa.Table], repo_path: str) -> None:
        self._read = read
        super().__init__(
            None, [], False, metadata=None, data_source_writer=_write_data_source,
            staging_location=None, staging_location_endpoint_override=None, repo_path=repo_path,
        )  # fmt: skip

    @property
    def table(self) -> ibis.Table:
        """For the inherited writers, which think in ibis."""
        return ibis.memtable(self._read())

    @table.setter
    def table(self, _: None) -> None:
        """The parent's constructor sets what is read here."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._read()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return cast(pd.DataFrame, self._read().to_pandas())


def _kept(rows: pa.Table, forgotten: Forgotten, timestamp_field: str) -> pa.Table:
    if not len(rows):
        return rows
    customers = pa.concat_arrays(rows.column(_CUSTOMER).cast(pa.string()).chunks)
    times = rows.column(timestamp_field).cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    hidden = forgotten.hidden(customers, np.asarray(times.fill_null(0).to_numpy()))
    return rows.filter(pa.array(~hidden))
