"""Online states made of single events, and stored as the dataflow stores them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from feature_repo.contracts.events import Event, events_to_batch
from feature_repo.contracts.feature_set import EntityKey, FeatureSet
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.money import ExchangeRates
from feature_repo.contracts.settings import PROJECT
from feature_repo.contracts.states import state_feature, state_view
from feature_repo.engine.program import compile_program
from feature_repo.engine.projection import project
from feature_repo.engine.shard import Shard
from feature_repo.stores import redis_layout as layout


def states_of(
    events: Sequence[Event], feature_set: FeatureSet = FEATURE_SET
) -> Iterator[tuple[EntityKey, str, bytes, int]]:
    """Each key's state after the events: entity, key, state, event time of the latest (µs)."""
    batch = ExchangeRates().with_reference_amounts(events_to_batch(events))
    for entity in feature_set.entities:
        program = compile_program(feature_set, entity)
        folded = Shard(program).fold(project(program, batch), rows=False)
        for key, state, at_us in zip(
            folded.keys.to_pylist(), folded.states.to_pylist(), folded.times_us, strict=True
        ):
            yield entity, key, state, int(at_us)


def store_states(
    client: Any, events: Sequence[Event], feature_set: FeatureSet = FEATURE_SET
) -> None:
    """Fold the events of keys without any, and write all entities' states."""
    for entity, key, state, at_us in states_of(events, feature_set):
        store_state(client, entity, key, state, at_us)


def store_state(client: Any, entity: EntityKey, key: str, state: bytes, at_us: int) -> None:
    """Write one state in Feast's layout."""
    view = state_view(entity.name)
    client.hset(
        layout.entity_key_encoder(entity.join_key, PROJECT)(key),
        mapping={
            layout.field_name(view, state_feature(entity.name)): layout.encode_bytes(state),
            layout.timestamp_field(view): layout.encode_timestamp(at_us),
        },
    )
