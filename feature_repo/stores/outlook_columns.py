"""The part of a historical request that asks for the outlook of open sessions.

Feast would compute it from states of the past, which nobody stores: here from the archive of events
(when the open session began) and the corridor's distribution as of the row's instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from feast import FeatureView
from feast.on_demand_feature_view import OnDemandFeatureView

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.feature_set import load_feature_set
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.outlook import (
    CORRIDOR_VIEW,
    ELAPSED,
    OUTLOOK_VIEW,
    REMAINING,
    SCALE_REF,
    SESSION_START_REF,
    SHAPE_REF,
)
from feature_repo.engine.outlook import outlook
from feature_repo.stores.as_of_join import join_views
from feature_repo.stores.stream_columns import StreamColumns

_START = "__session_start_us"


@dataclass(frozen=True)
class OutlookColumns:
    """What is asked of the view.

    Attributes:
        starts: where the open session's beginning comes from.
        corridors: the view of distributions.
        names: each column's name in the result -> the feature's.
    """

    starts: StreamColumns
    corridors: FeatureView
    names: dict[str, str]

    def read(self, rows: pl.DataFrame, time_column: str) -> list[pl.Series]:
        """The columns, in the entity rows' order.

        Raises:
            DatasetError: as of `StreamColumns.read` and `join_views`.
        """
        (start,) = self.starts.read(rows, time_column)
        shape, scale = join_views(
            rows, time_column, [self.corridors], [SHAPE_REF, SCALE_REF], full_names=False
        )
        found = outlook(
            start.to_list(), rows[time_column].dt.epoch("us").to_numpy(),
            shape.to_list(), scale.to_list(),
        )  # fmt: skip
        columns = dict(zip((ELAPSED, REMAINING), found, strict=True))
        return [
            pl.Series(name, columns[feature], dtype=pl.Float64).fill_nan(None)
            for name, feature in self.names.items()
        ]


def take_outlook(
    views: Sequence[FeatureView],
    demanded: Sequence[OnDemandFeatureView],
    refs: Sequence[str],
    *,
    events: Path,
    definitions: Path | None,
    full_names: bool,
) -> tuple[list[OnDemandFeatureView], OutlookColumns | None]:
    """Split a request: the on-demand views for others, and what is ours.

    Raises:
        DatasetError: the view of distributions is not among those asked along.
    """
    ours = [view for view in demanded if view.name == OUTLOOK_VIEW]
    others = [view for view in demanded if view.name != OUTLOOK_VIEW]
    if not ours:
        return others, None
    label = ours[0].projection.name_to_use()
    names = {}
    for ref in refs:
        asked_of, _, feature = ref.partition(":")
        if asked_of == label:
            names[f"{label}__{feature}" if full_names else feature] = feature
    corridors = [view for view in views if view.name == CORRIDOR_VIEW]
    if not corridors:
        raise DatasetError(OUTLOOK_VIEW, expected=f"the view {CORRIDOR_VIEW}", action="apply it")
    feature = SESSION_START_REF.partition(":")[2]
    starts = StreamColumns(
        events, load_feature_set(definitions), {_START: feature}, {CUSTOMER.name: CUSTOMER.join_key}
    )
    return others, OutlookColumns(starts, corridors[0], names)
