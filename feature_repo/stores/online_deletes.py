"""Removing what the online store holds: of entities, of views, of a project.

Every hash is found by its exact name. Feast's own store takes every key that ends in the project's
name, and with `shop` deletes the rows of `workshop`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from feature_repo.stores.online_keys import entity_of, key_head
from feature_repo.stores.redis_layout import (
    created_field,
    fence_field,
    field_name,
    timestamp_field,
)

_SCANNED = 1_000  # keys a round trip
# KEYS: one entity key. ARGV: fields of a view. What is left of a hash without any view is ours
# alone, and goes with the last view.
_DROP_VIEW = """
local had = redis.call('HEXISTS', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[1], unpack(ARGV))
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 4) == '_ts:' then return had end
end
redis.call('DEL', KEYS[1])
return had
"""


def delete_keys(client: Any, keys: Iterable[bytes]) -> int:
    """Remove these hashes of one server, a round trip a thousand; how many there were."""
    return sum(
        sum(_pipelined(client, [("UNLINK", key) for key in some])) for some in _batches(keys)
    )


def find_keys(
    client: Any,
    project: str,
    join_keys: Iterable[str] = (),
    entities: Sequence[Mapping[str, str | int]] = (),
) -> Iterator[bytes]:
    """The hashes of the project's entities on one server, in no order.

    Args:
        join_keys: those of entities with exactly these; of all unless given.
        entities: those of any of these, and of what they are part of: `{"customer_id": "c1"}`
            finds the customer's own hash and those of c1's pairs with a corridor.

    Trap: it looks at every key of the server, some hundred thousand a second.
    """
    wanted = sorted(join_keys)
    pattern = _escaped(key_head(wanted) if wanted else b"") + b"*" + _escaped(project.encode())
    for key in client.scan_iter(match=pattern, count=_SCANNED):
        found = entity_of(key, project)
        if found is None or (wanted and sorted(found) != wanted):
            continue
        if not entities or any(entity.items() <= found.items() for entity in entities):
            yield key


def drop_view(
    client: Any, project: str, view: str, features: Iterable[str], join_keys: Iterable[str]
) -> int:
    """Remove a view's values from every entity on one server; how many entities had some."""
    fields = [timestamp_field(view), created_field(view), fence_field(view)]
    fields += [field_name(view, feature) for feature in features]
    return sum(
        sum(_pipelined(client, [("EVAL", _DROP_VIEW, 1, key, *fields) for key in some]))
        for some in _batches(find_keys(client, project, join_keys))
    )


def drop_entities(client: Any, project: str, join_keys: Iterable[str]) -> int:
    """Remove every entity with these join keys on one server; how many there were."""
    return delete_keys(client, find_keys(client, project, join_keys))


def _pipelined(client: Any, commands: Iterable[tuple[Any, ...]]) -> list[int]:
    with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return [int(answer) for answer in pipeline.execute()]


def _batches(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for key in keys:
        batch.append(key)
        if len(batch) == _SCANNED:
            yield batch
            batch = []
    if batch:
        yield batch


_SPECIAL: Callable[[int], bool] = frozenset(b"*?[]\\^").__contains__


def _escaped(raw: bytes) -> bytes:
    """Bytes that a pattern takes as they are: a length may happen to be a `?` or a `*`."""
    return b"".join(b"\\" + bytes((byte,)) if _SPECIAL(byte) else bytes((byte,)) for byte in raw)
