"""How long the log in Valkey is kept: for a declared time, and while a checkpoint needs it."""

from __future__ import annotations

from datetime import datetime, timedelta

import redis

from feature_repo.contracts.events import to_epoch_us
from streaming.log.frames import Positions
from streaming.log.valkey_layout import entry_id, offset_of, stream_name


def trim(
    client: redis.Redis[bytes], retention: timedelta, resume_offsets: Positions, now: datetime
) -> int:
    """Remove entries older than `retention`, of the partitions named, in one round trip.

    Args:
        client: a redis client whose responses are bytes.
        retention: entries younger than this stay; their age is by the server's clock.
        resume_offsets: partition -> the offset after which its newest checkpoint resumes. That
            entry and later ones stay, whatever their age; a partition of None stays whole.
        now: the present instant, UTC.

    Returns:
        How many entries went.
    """
    oldest = offset_of(f"{to_epoch_us(now - retention) // 1_000}-0")
    with client.pipeline(transaction=False) as pipeline:
        for partition, offset in resume_offsets.items():
            if offset is not None:
                first_kept = entry_id(min(oldest, offset))
                pipeline.xtrim(stream_name(*partition), minid=first_kept, approximate=False)
        return sum(pipeline.execute())
