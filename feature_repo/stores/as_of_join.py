"""The point-in-time join of entity rows with views of Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
from feast import FeatureView

from feature_repo.contracts.errors import DatasetError
from feature_repo.stores.forgotten import ForgottenFile

_CUSTOMER = "customer_id"
_ROW, _AT, _MATCH = "__row", "__at_us", "__match"


def join_views(
    entities: pl.DataFrame,
    time_column: str,
    views: Sequence[FeatureView],
    refs: Sequence[str],
    full_names: bool,
) -> list[pl.Series]:
    """The views' features at each entity row: (n,) columns named as in the result.

    Args:
        entities: (n,) rows with their keys, and their instants in `time_column`.
        refs: `view:feature`; those of other views are passed over.

    Raises:
        DatasetError: a view's Parquet files are absent, or lack a column.
    """
    columns: list[pl.Series] = []
    for view in views:
        prefix = f"{view.projection.name_to_use()}:"
        names = [ref.removeprefix(prefix) for ref in refs if ref.startswith(prefix)]
        label = view.projection.name_alias or view.name
        for column in _as_of(entities, time_column, view, names):
            columns.append(column.alias(f"{label}__{column.name}") if full_names else column)
    return columns


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
        found = rows.select(moment.dt.epoch("us").alias(_AT), *keys, *names).collect()
    except pl.exceptions.PolarsError as error:
        raise DatasetError(
            view.name,
            str(path),
            f"Parquet with {source.timestamp_field}, {', '.join([*keys, *names])}",
            f"write the table again; reading it failed: {error}",
        ) from error
    forgotten = ForgottenFile.beside(path).read()
    if not forgotten or _CUSTOMER not in keys or found.is_empty():
        return found
    hidden = forgotten.hidden(_texts(found[_CUSTOMER]), found[_AT].to_numpy())
    return found.filter(~pl.Series(hidden))


def _texts(keys: pl.Series) -> pa.Array:
    return pa.concat_arrays([keys.cast(pl.String).to_arrow().cast(pa.string())])


def _instant(us: int) -> pl.Expr:
    return pl.lit(us).cast(pl.Datetime("us", "UTC"))
