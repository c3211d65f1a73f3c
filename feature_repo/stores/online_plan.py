"""What a request of Feast's reads: hashes and their fields, worked out once a list of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.helpers import compute_versioned_name
from feast.value_type import ValueType

from feature_repo.stores.online_columns import Column, ViewRead, columns_of, key_column, spread
from feature_repo.stores.online_keys import text_keys, whole_number_keys
from feature_repo.stores.online_link import HashFields, HashRead, HashValues
from feature_repo.stores.redis_layout import (
    encode_int64,
    encode_string,
    field_name,
    timestamp_field,
)

_MICROSECOND = timedelta(microseconds=1)
_INT64 = range(-(1 << 63), 1 << 63)


def stored_name(view: FeatureView, config: RepoConfig) -> str:
    """The name under which a view's features are stored, with its version where those count."""
    versioned = config.registry.enable_online_feature_view_versioning
    return str(compute_versioned_name(view, versioned))


class HashLayout:
    """The fields of one hash that several views of an entity take up.

    Attributes:
        fields: packed; a view's event time, then its features, then the next view's.
    """

    def __init__(
        self,
        views: Sequence[tuple[FeatureView, Sequence[str]]],
        config: RepoConfig,
        full_names: bool,
    ) -> None:
        self.views: list[ViewRead] = []
        fields: list[bytes] = []
        for view, features in views:
            stored, label = stored_name(view, config), view.projection.name_to_use()
            # Feast wants types by feature; a request may ask for one that was dropped meanwhile.
            types = {field.name: field.dtype.to_value_type() for field in view.features}
            self.views.append(
                ViewRead(
                    view.name,
                    len(fields),
                    view.ttl // _MICROSECOND if view.ttl else None,
                    tuple(f"{label}__{name}" if full_names else name for name in features),
                    tuple(types.get(name) for name in features),
                )
            )
            fields.append(timestamp_field(stored))
            fields += [field_name(stored, name) for name in features]
        self.fields = HashFields(fields)

    def columns(self, answers: Sequence[HashValues], now_us: int) -> list[list[Column]]:
        """Each view's columns, from the answers for n keys."""
        by_field: list[HashValues] = (
            list(zip(*answers, strict=True)) if answers else [()] * len(self.fields.fields)
        )
        return [columns_of(view, by_field, now_us) for view in self.views]


@dataclass(frozen=True)
class _Key:
    """How one join key's values become names of hashes, and the response's own column."""

    kind: type
    hashes: Callable[[Any], list[bytes]]
    encode: Callable[[Any], bytes]


@dataclass(frozen=True)
class _Hash:
    join_key: str
    layout: HashLayout
    places: tuple[int, ...]  # of its views in the request


@dataclass
class Asked:
    """A request that is being answered: what to read, then what came of it."""

    plan: RequestPlan
    reads: list[HashRead]
    _own: list[Column]
    _places: list[list[int] | None]

    def answered(self, answers: Sequence[Sequence[HashValues]], now_us: int) -> list[Column]:
        """The columns of the response, in Feast's order."""
        by_view: dict[int, list[Column]] = {}
        for part, places, found in zip(self.plan.hashes, self._places, answers, strict=True):
            for at, columns in zip(part.places, part.layout.columns(found, now_us), strict=True):
                by_view[at] = columns if places is None else spread(columns, places)
        columns = list(self._own)
        for at in range(len(by_view)):
            columns += by_view[at]
        return columns


class RequestPlan:
    """The short way for the common request: stored features by single join keys.

    Everything else (on-demand views, several join keys to a view, renamed join keys, views without
    an entity) takes Feast's own way: `of` returns None for it, `ask` for rows that do not fit.
    """

    def __init__(self, keys: Mapping[str, _Key], hashes: Sequence[_Hash], known: set[str]) -> None:
        self.hashes = hashes
        self._keys = keys
        self._known = known

    @classmethod
    def of(
        cls, context: Any, config: RepoConfig, project: str, full_names: bool
    ) -> RequestPlan | None:
        """The plan of a request that Feast has resolved (`utils._get_cached_request_context`)."""
        (_, on_demand, join_key_of, types, join_keys, grouped, _, request_data, entityless) = (
            context
        )
        if on_demand or request_data or entityless or config.entity_key_serialization_version != 3:
            return None
        by_key: dict[str, list[int]] = {}
        keys: dict[str, _Key] = {}
        for at, (view, _) in enumerate(grouped):
            if len(view.entities) != 1 or view.projection.join_key_map:
                return None
            join_key = join_key_of[view.entities[0]]
            key = _key(join_key, types.get(join_key), project)
            if key is None:
                return None
            keys[join_key] = key
            by_key.setdefault(join_key, []).append(at)
        hashes = [
            _Hash(
                join_key,
                HashLayout([grouped[at] for at in places], config, full_names),
                tuple(places),
            )
            for join_key, places in by_key.items()
        ]
        return cls(keys, hashes, set(join_keys) | set(join_key_of))

    def ask(self, entity_rows: Any) -> Asked | None:
        """What to read for these rows; None where Feast must look at them first."""
        rows = _columnar(entity_rows)
        if rows is None:
            return None
        own: list[Column] = []
        hashes: dict[str, list[bytes]] = {}
        for name, values in rows.items():
            key = self._keys.get(name)
            if key is None:
                if name in self._known:  # another entity's key belongs in the response too
                    return None
                continue
            if any(type(value) is not key.kind for value in values):
                return None
            try:
                hashes[name] = key.hashes(values)
                own.append(key_column(name, [key.encode(value) for value in values], None))
            except (ValueError, OverflowError):
                return None
        if len(hashes) != len(self._keys):
            return None
        reads: list[HashRead] = []
        places: list[list[int] | None] = []
        for part in self.hashes:
            asked = hashes[part.join_key]
            distinct = dict.fromkeys(asked)
            if len(distinct) == len(asked):
                places.append(None)
                reads.append((asked, part.layout.fields))
            else:
                numbers = {key: at for at, key in enumerate(distinct)}
                places.append([numbers[key] for key in asked])
                reads.append((list(distinct), part.layout.fields))
        return Asked(self, reads, own, places)


def _key(join_key: str, declared: Any, project: str) -> _Key | None:
    if declared == ValueType.STRING:
        return _Key(str, text_keys(join_key, project), encode_string)
    if declared == ValueType.INT64:
        return _Key(int, whole_number_keys(join_key, project), _encode_whole)
    return None


def _encode_whole(value: int) -> bytes:
    if value not in _INT64:
        raise OverflowError
    return encode_int64(value)


def _columnar(entity_rows: Any) -> Mapping[str, Sequence[Any]] | None:
    """Values by join key; None where the rows are uneven, none, or neither lists nor dicts."""
    if isinstance(entity_rows, list):
        if not entity_rows:
            return None
        first = entity_rows[0]
        try:
            rows = {name: [row[name] for row in entity_rows] for name in first}
        except KeyError:
            return None
        return rows if all(len(row) == len(first) for row in entity_rows) else None
    if not all(type(values) is list for values in entity_rows.values()):
        return None
    return entity_rows if len({len(values) for values in entity_rows.values()}) == 1 else None
