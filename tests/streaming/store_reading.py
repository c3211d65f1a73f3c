"""What the stores hold, read without Feast."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import redis

from feature_repo.contracts.feature_set import EntityKey, FeatureSet
from feature_repo.contracts.settings import PROJECT, Settings
from feature_repo.contracts.states import state_feature, state_view
from feature_repo.engine.program import compile_program
from feature_repo.engine.read import read_states
from feature_repo.stores.redis_layout import (
    Fence,
    decode_fence,
    decode_value,
    entity_key_encoder,
    fence_field,
    field_name,
)


def state_of(client: redis.Redis[bytes], entity: EntityKey, key: str) -> bytes | None:
    """A key's online state."""
    view = state_view(entity.name)
    hashed = entity_key_encoder(entity.join_key, PROJECT)(key)
    raw: Any = client.hget(hashed, field_name(view, state_feature(entity.name)))
    value = None if raw is None else decode_value(raw)
    assert value is None or isinstance(value, bytes)
    return value


def fence_of(client: redis.Redis[bytes], entity: EntityKey, key: str) -> Fence | None:
    """A key's fence."""
    hashed = entity_key_encoder(entity.join_key, PROJECT)(key)
    raw: Any = client.hget(hashed, fence_field(state_view(entity.name)))
    return None if raw is None else decode_fence(raw)


def online_features(
    client: redis.Redis[bytes], feature_set: FeatureSet, entity: EntityKey, key: str, at_us: int
) -> dict[str, Any]:
    """A key's features as of an instant."""
    program = compile_program(feature_set, entity)
    states = [state_of(client, entity, key)]
    row: dict[str, Any] = read_states(program, states, np.array([at_us])).to_pylist()[0]
    return row


def offline_rows(settings: Settings, entity: EntityKey) -> pl.DataFrame:
    """An entity's live rows: of each key and event the last one in the log's order."""
    files = sorted(settings.features_table(entity.name).rglob("*.parquet"), key=lambda p: p.name)
    rows = pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in files])
    return rows.unique(["event_id", entity.join_key], keep="last", maintain_order=True)


def archived_ids(settings: Settings) -> list[str]:
    """Ids of the archived events, in order of their names."""
    files = sorted(settings.events_table.rglob("*.parquet"))
    return sorted(
        event_id
        for path in files
        for event_id in pl.read_parquet(path, hive_partitioning=False)["event_id"].to_list()
    )
