"""Which generation of effects is in force: a counter beside the values, in the online store.

A generation is one history of values: those of one set of definitions, folded from one log. Its
number is the first half of every fence, so what a new generation writes replaces what the one
before has left, whatever the offsets. `streaming/lineage.py` decides when one begins, and sees to
it that all processes of a run agree; here they are counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from feature_repo.contracts.events import to_epoch_us

# KEYS: the counter. ARGV: fingerprints, smallest number wanted, now (µs).
_START = """
local newest = tonumber(redis.call('HGET', KEYS[1], 'number')) or 0
local number = math.max(newest + 1, tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'number', string.format('%d', number), 'fingerprints', ARGV[1],
  'started_at_us', ARGV[3])
return number
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Generation:
    """A generation of effects.

    Attributes:
        number: 1 and up.
        fingerprints: of the definitions (`Program.fingerprint`), by entity.
        started_at: when it was started.
    """

    number: int
    fingerprints: Mapping[str, str]
    started_at: datetime


def generation_key(project: str) -> str:
    """The hash that holds the counter."""
    return f"{project}:generation"


def read_generation(client: redis.Redis[bytes], project: str) -> Generation | None:
    """The generation in force; None in a store that is new, or that was lost."""
    stored: Any = client.hgetall(generation_key(project))
    if not stored:
        return None
    return Generation(
        int(stored[b"number"]),
        json.loads(stored[b"fingerprints"]),
        _EPOCH + timedelta(microseconds=int(stored[b"started_at_us"])),
    )


def start_generation(
    client: redis.Redis[bytes],
    project: str,
    fingerprints: Mapping[str, str],
    *,
    at_least: int = 1,
    now: datetime | None = None,
) -> Generation:
    """Start the next generation, in one atomic step: no number is given out twice.

    Args:
        fingerprints: of the definitions, by entity.
        at_least: numbers below were used already (checkpoints and offline files carry theirs),
            and a lost store does not know.
        now: when it starts; the clock's instant unless given.
    """
    moment = now or datetime.now(UTC)
    prints = dict(sorted(fingerprints.items()))
    answer: Any = client.eval(
        _START,
        1,
        generation_key(project),
        json.dumps(prints),
        str(at_least),
        str(to_epoch_us(moment)),
    )
    return Generation(int(answer), prints, moment)
