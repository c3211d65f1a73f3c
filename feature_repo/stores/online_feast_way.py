"""Reads in Feast's own terms: its entity keys, its response that is filled view by view.

This is the way of requests with on-demand views, several join keys to a view, or renamed ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from feast import FeatureView, RepoConfig, utils
from feast.protos.feast.types.Value_pb2 import Value

from feature_repo.stores.online_columns import PRESENT, Column, response_bytes, spread
from feature_repo.stores.online_keys import ProtoKeys
from feature_repo.stores.online_link import HashRead, HashValues
from feature_repo.stores.online_plan import HashLayout
from feature_repo.stores.redis_layout import decode_timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Row = tuple[datetime | None, dict[str, Any] | None]


@dataclass(frozen=True)
class _Part:
    """Views that share their hashes: where they stand in the request, and which row is whose."""

    layout: HashLayout
    read: HashRead
    places: tuple[int, ...]
    rows: list[int]


class FeastRead:
    """One call of Feast's `_read_features_per_fv`.

    Raises:
        KeyError: join keys are missing (Feast's own check).
    """

    def __init__(
        self, config: RepoConfig, grouped_refs: Any, values: Any, join_key_of: Any, full_names: bool
    ) -> None:
        self._grouped = grouped_refs
        groups: dict[Any, list[int]] = {}
        for at, (view, _) in enumerate(grouped_refs):
            renamed = tuple(view.projection.join_key_map.items())
            groups.setdefault((tuple(view.entities), renamed), []).append(at)
        self._parts = []
        for places in groups.values():
            entities, indexes, count = utils._get_unique_entities(
                grouped_refs[places[0]][0], values, join_key_of
            )
            key = ProtoKeys(config.project)
            keys = [key(proto) for proto in utils._get_entity_key_protos(entities)]
            rows = [0] * count
            for number, some in enumerate(indexes):
                for row in some:
                    rows[row] = number
            layout = HashLayout([grouped_refs[at] for at in places], config, full_names)
            self._parts.append(_Part(layout, (keys, layout.fields), tuple(places), rows))

    @property
    def reads(self) -> list[HashRead]:
        """What to ask the store for."""
        return [part.read for part in self._parts]

    def fill(
        self, response: Any, answers: Sequence[Sequence[HashValues]], now_us: int, versions: bool
    ) -> None:
        """Add the answers to Feast's response, in the order of its views."""
        by_view: dict[int, list[Column]] = {}
        for part, found in zip(self._parts, answers, strict=True):
            for at, columns in zip(part.places, part.layout.columns(found, now_us), strict=True):
                by_view[at] = spread(columns, part.rows)
        for at, (view, _) in enumerate(self._grouped):
            response.MergeFromString(response_bytes(by_view[at]))
            if versions:
                _tell_version(response, view)
            if is_metered():
                _count(view, by_view[at])


class SingleRead:
    """One call of Feast's `online_read`: one view, rows without statuses."""

    def __init__(
        self,
        config: RepoConfig,
        view: FeatureView,
        entity_keys: Sequence[Any],
        features: Sequence[str] | None,
    ) -> None:
        self._names = list(features or [field.name for field in view.features])
        self._layout = HashLayout([(view, self._names)], config, full_names=False)
        key = ProtoKeys(config.project)
        self.read: HashRead = [key(proto) for proto in entity_keys], self._layout.fields

    def rows(self, answers: Sequence[HashValues], now_us: int) -> list[_Row]:
        """Event time and values of each entity; None twice where there is none."""
        columns = self._layout.columns(answers, now_us)[0]
        rows: list[_Row] = []
        for at, answer in enumerate(answers):
            stamp = answer[0]
            if stamp is None:
                rows.append((None, None))
                continue
            values = [Value.FromString(column.values[at]) for column in columns]
            moment = _EPOCH + timedelta(microseconds=decode_timestamp(stamp))
            rows.append((moment, dict(zip(self._names, values, strict=True))))
        return rows


def is_metered() -> bool:
    """Whether Feast's metrics count reads; nobody has switched on what nobody has imported."""
    metrics = sys.modules.get("feast.metrics")
    return metrics is not None and bool(metrics._config.online_features)


def _count(view: FeatureView, columns: Sequence[Column]) -> None:
    metrics = sys.modules["feast.metrics"]
    found = [column.statuses for column in columns]
    total = sum(len(column.values) for column in columns)
    absent = sum(len(each) - each.count(PRESENT) for each in found if each is not None)
    metrics.track_feature_statuses(view.name, total - absent, absent)


def _tell_version(response: Any, view: FeatureView) -> None:
    name = view.projection.name_alias or view.projection.name
    told = response.metadata.feature_view_metadata
    if name not in {each.name for each in told}:
        told.add(name=name, version=getattr(view, "current_version_number", 0) or 0)
