"""Customers' vectors and encoder states, into both stores: the one way in for flows and streams.

The order makes a kill harmless. The state is written last: a session counts as taken in once its
state stands there, so what a killed writer has not finished is done again from the former state,
and gives the same. Everything is fenced by event time, the end of the customer's last session: a
vector of an earlier one never replaces a later one's, and the same written again lands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
from redis.exceptions import RedisError

from feature_repo.contracts.batch_views import EMBEDDING_STATE_VIEW
from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH, Singles
from feature_repo.contracts.errors import DatasetError, StoreUnavailableError
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.settings import Settings
from feature_repo.stores.embedding_changes import Change, tell_changes, tell_reload
from feature_repo.stores.forgotten import ForgottenFile
from feature_repo.stores.redis_connection import connect
from feature_repo.stores.view_rows import EVENT_TIMESTAMP

if TYPE_CHECKING:
    import redis
    from feast import FeatureStore

# More vectors at once than this are told as one reload: reading them back is faster than following.
_RELOAD_FROM = 20_000
_ONLINE_ROWS = 50_000  # a frame of pandas at a time
_LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class EmbeddingRows:
    """Vectors of n customers, of one version.

    Attributes:
        customers: (n,) ids, each once.
        vectors: (n, EMBEDDING_WIDTH) float32, each of length 1.
        at_us: (n,) the ends of their last sessions, µs since 1970.
        states: (n,) the encoder's states, as bytes.
        version: the embedding version: the registry's number of the encoders.
    """

    customers: Sequence[str]
    vectors: Singles
    at_us: Sequence[int]
    states: Sequence[bytes]
    version: int

    def check(self) -> None:
        """Refuse what does not fit.

        Raises:
            DatasetError: naming it.
        """
        count = len(self.customers)
        if not count == len(self.at_us) == len(self.states) == len(self.vectors):
            raise DatasetError("embedding rows", count, "as many vectors, instants and states")
        if len(set(self.customers)) != count:
            raise DatasetError("embedding rows", "customers", "each once", "keep the latest")
        if self.vectors.shape != (count, EMBEDDING_WIDTH):
            raise DatasetError(
                "embedding", self.vectors.shape, f"({count}, {EMBEDDING_WIDTH})",
                "write what the encoder gives",
            )  # fmt: skip
        lengths = np.linalg.norm(self.vectors, axis=1)
        if not np.all(np.abs(lengths - 1) <= _LENGTH_TOLERANCE):  # of NaN too
            raise DatasetError(
                "embedding", "length", "vectors of length 1",
                "a customer without sessions has no row; normalise the others",
            )  # fmt: skip

    def frame(self) -> pl.DataFrame:
        """The columns of both views."""
        at_us = np.asarray(self.at_us, np.int64)
        return pl.DataFrame(
            {
                CUSTOMER.join_key: pl.Series(self.customers, dtype=pl.String),
                "embedding": _lists(self.vectors),
                "embedding_version": pl.Series(np.full(len(at_us), self.version), dtype=pl.Int64),
                "embedding_updated_at": pl.Series(at_us, dtype=pl.Int64),
                "embedding_state": pl.Series(self.states, dtype=pl.Binary),
                EVENT_TIMESTAMP: pl.Series(at_us).cast(pl.Datetime("us", "UTC")),
            }
        )


_VIEWS = {
    EMBEDDING_VIEW: ("embedding", "embedding_version", "embedding_updated_at"),
    EMBEDDING_STATE_VIEW: ("embedding_state",),
}


class EmbeddingWriter:
    """Writes vectors; keeps its connections between writes.

    Args:
        settings: whose stores.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def write(self, rows: EmbeddingRows, *, online: bool = True) -> int:
        """Write vectors and states to both stores, and tell the searchers; how many there were.

        Args:
            online: False writes the offline rows alone: of a version that does not serve yet.

        Raises:
            DatasetError: rows do not fit; nothing is written then.
            StoreUnavailableError: the online store does not answer. Write the same again.
        """
        rows.check()
        if not len(rows.customers):
            return 0
        frame = rows.frame()
        for view in _VIEWS:
            self._write_offline(view, frame, rows.version)
        if online:
            self._write_online(EMBEDDING_VIEW, frame)
            self._tell(rows)
            self._write_online(EMBEDDING_STATE_VIEW, frame)
        return frame.height

    def close(self) -> None:
        """Close the connection to the stream of changes."""
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _store(self) -> FeatureStore:
        from feature_repo.stores.feast_store import open_store  # noqa: PLC0415  (imports Feast)

        return open_store(self._settings)

    @cached_property
    def _client(self) -> redis.Redis[bytes]:
        return connect(self._settings.redis)

    def _write_offline(self, view: str, frame: pl.DataFrame, version: int) -> None:
        latest = frame.select(pl.col(EVENT_TIMESTAMP).max().dt.strftime("%Y-%m-%d")).item()
        folder = self._settings.batch_table(view) / f"event_date={latest}"
        folder.mkdir(parents=True, exist_ok=True)
        # Named by what is in it: the same written again takes its own place.
        path = folder / f"{_prefix(view, version)}{_digest(frame)}.parquet"
        unfinished = path.with_name(f".{path.name}.part")
        frame.select(CUSTOMER.join_key, *_VIEWS[view], EVENT_TIMESTAMP).write_parquet(unfinished)
        unfinished.replace(path)

    def _write_online(self, view: str, frame: pl.DataFrame) -> None:
        columns = frame.select(CUSTOMER.join_key, *_VIEWS[view], EVENT_TIMESTAMP)
        for some in columns.iter_slices(_ONLINE_ROWS):
            self._store.write_to_online_store(view, df=some.to_pandas())

    def _tell(self, rows: EmbeddingRows) -> None:
        try:
            if len(rows.customers) >= _RELOAD_FROM:
                tell_reload(self._client, rows.version)
                return
            tell_changes(
                self._client,
                [
                    Change(customer, rows.version, int(at_us), vector)
                    for customer, at_us, vector in zip(
                        rows.customers, rows.at_us, rows.vectors, strict=True
                    )
                ],
            )
        except RedisError as error:
            raise StoreUnavailableError(
                "online store", self._settings.redis_address, "a server that answers",
                "write the same vectors again",
            ) from error  # fmt: skip


def latest_embeddings(settings: Settings, version: int) -> pl.DataFrame:
    """The latest offline vector of each customer, of one version, of nobody forgotten.

    Returns:
        `customer_id`, `embedding`, `embedding_updated_at`.

    Raises:
        DatasetError: the table cannot be read.
    """
    folder = settings.batch_table(EMBEDDING_VIEW)
    key, at = CUSTOMER.join_key, "embedding_updated_at"
    schema: dict[str, Any] = {key: pl.String, "embedding": pl.List(pl.Float32), at: pl.Int64}
    try:
        # The version stands in the files' names: those of others are not even opened. As of one
        # instant the vector written last counts, as online.
        files = sorted(
            folder.rglob(f"{_prefix(EMBEDDING_VIEW, version)}*.parquet"),
            key=lambda path: path.stat().st_mtime_ns,
        )
        if not files:
            return pl.DataFrame(schema=schema)
        rows = pl.scan_parquet(files, hive_partitioning=False).filter(
            pl.col("embedding_version") == version
        )
        found = (
            rows.select(*schema)
            .sort(at, maintain_order=True)
            .unique(key, keep="last", maintain_order=True)
            .collect()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError(
            EMBEDDING_VIEW, str(folder), "readable Parquet of vectors", f"read it again: {error}"
        ) from error
    return without_the_forgotten(settings, found, at)


def without_the_forgotten(settings: Settings, rows: pl.DataFrame, at: str) -> pl.DataFrame:
    """Rows of customers, known at an instant each (µs since 1970), but for the forgotten ones'."""
    forgotten = ForgottenFile(settings.offline).read()
    if not forgotten or rows.is_empty():
        return rows
    names = pa.concat_arrays([rows[CUSTOMER.join_key].to_arrow().cast(pa.string())])
    return rows.filter(~pl.Series(forgotten.hidden(names, rows[at].to_numpy())))


def _lists(vectors: Singles) -> pl.Series:
    """A list of numbers a row, without an object a number."""
    rows = np.ascontiguousarray(vectors, np.float32).reshape(-1, EMBEDDING_WIDTH)
    return pl.Series(rows, dtype=pl.Array(pl.Float32, EMBEDDING_WIDTH)).arr.to_list()


def _prefix(view: str, version: int) -> str:
    """How files of a version begin; they sort by version, as rows of one instant do then."""
    return f"{view}-v{version:06d}-"


def _digest(frame: pl.DataFrame) -> str:
    names = "\n".join(frame[CUSTOMER.join_key])
    at_us = frame["embedding_updated_at"].to_numpy().tobytes()
    return hashlib.blake2b(names.encode() + b"\0" + at_us, digest_size=8).hexdigest()
