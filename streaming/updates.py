"""What flows from the shards to the sinks."""

from __future__ import annotations

from dataclasses import dataclass

from feature_repo.engine.shard import FeatureRows


@dataclass(frozen=True)
class Update:
    """The feature rows that one frame changed in one shard.

    `offset` is the log position of the frame; (shard, offset) names the update for ever.
    """

    shard: int
    offset: int
    rows: FeatureRows
