"""Fenced writes: a value is stored only if its fence is later than the stored one's.

One function on the server compares and writes in one atomic step, for the stream and for Feast
alike; what they differ in is the order.

The log is read at least once, so after a crash the same values are written again, older ones
first. Each value therefore carries its place in the history of effects, (generation, offset),
beside it in the entity's hash. A replay changes nothing, nobody sees a value go back, and late
events land, as their offset is a later one. What Feast writes (`materialize`, `push`) has no place
in the log: its fence is its event time, then its created time, and a correction lands.

Every key of a call stands in KEYS, and a call with one key works on a Cluster too. Measured on one
connection to Valkey 9.1 with values of 700 bytes, rows a second and server CPU a row: plain HSET
320,000 and 3.1 µs; this script with 64 keys a call 210,000-235,000 and 4.5 µs; with one key a call
140,000-160,000 and 6.5 µs. A function (FCALL) is no faster than a script.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from feature_repo.stores.redis_layout import Fence, decode_fence, fence_field

# A call keeps the server from answering others for about 0.3 ms.
KEYS_PER_CALL = 64

# One function for every writer. KEYS: entity keys; returns how many of them were written. ARGV
# begins with the field whose value orders the rows, and that says which order it is:
#
# `_fence:view`, places in the log (the stream). ARGV: fence field, value field, timestamp field;
# then fence, value and timestamp of each key. Only a later fence lands. Fences are compared as
# three whole numbers, which a Lua number holds exactly: Lua compares strings by the server's
# locale.
#
# `_ts:view`, event times, and at one event time created times (Feast's writes). ARGV: timestamp
# field, created field, number of values of a row, `1` if all rows have one timestamp and created
# time, fields of the values; then timestamp and created time (8 bytes big endian, or nothing), once
# or before each row, and the values of each key. An earlier event time is refused; at the same one
# only an earlier created time is. A created time is kept with the timestamp it belongs to: a store
# that knows nothing of it may have put another row there since. A fence stays as it is, so that a
# replay of the log is refused as before.
#
# With 12 values a row the second takes 7-8 us a row, HSET alone 4-5; values in one msgpack string a
# row, which cmsgpack.unpack would hand on to HSET, are as slow, and so are fields beside values.
FENCED_WRITE = b"""
local call, unpack, byte, sub = redis.call, unpack, string.byte, string.sub
local numbers = struct.unpack
local written = 0

if sub(ARGV[1], 1, 7) == '_fence:' then
  local fence_field, value_field, time_field = ARGV[1], ARGV[2], ARGV[3]
  local at = 4
  for i = 1, #KEYS do
    local key, fence = KEYS[i], ARGV[at]
    local stored = call('HGET', key, fence_field)
    local later = true
    if stored then
      local a, b, c = numbers('>I6I6I4', stored)
      local x, y, z = numbers('>I6I6I4', fence)
      later = x > a or x == a and (y > b or y == b and z > c)
    end
    if later then
      call('HSET', key, value_field, ARGV[at + 1], time_field, ARGV[at + 2], fence_field, fence)
      written = written + 1
    end
    at = at + 3
  end
  return written
end

local time_field, created_field, width = ARGV[1], ARGV[2], tonumber(ARGV[3])
local shared = ARGV[4] == '1'

-- Seconds and nanoseconds of a protobuf Timestamp; seconds before 1970 have ten bytes.
local function instant(stamp)
  local seconds, nanos, at, length = 0, 0, 1, #stamp
  while at <= length do
    local tag, value, unit, count = byte(stamp, at), 0, 1, 0
    local complement = 0
    repeat
      at = at + 1
      count = count + 1
      local digit = byte(stamp, at)
      local low = digit % 128
      value = value + low * unit
      if count < 10 then complement = complement + (127 - low) * unit end
      unit = unit * 128
    until digit < 128
    at = at + 1
    if count == 10 then value = -complement - 1 end
    if tag == 8 then seconds = value else nanos = value end
  end
  return seconds, nanos
end

local row = {0, time_field}
for i = 1, width do row[2 * i + 2] = ARGV[4 + i] end
local plain, marked = 2 * width + 3, 2 * width + 5
-- Before the values of the next row; before its times, where it has some of its own.
local first = 4 + width
local stamp, created
if shared then
  stamp, created = ARGV[first + 1], ARGV[first + 2]
  first = first + 2
end
-- Rows of one run often have one timestamp: it is parsed once.
local parsed, seconds, nanos, parsed_stored, stored_seconds, stored_nanos
for i = 1, #KEYS do
  local key = KEYS[i]
  if not shared then
    stamp, created = ARGV[first + 1], ARGV[first + 2]
    first = first + 2
  end
  local stored = call('HGET', key, time_field)
  local lands = true
  if stored and stored ~= stamp then
    if parsed ~= stamp then
      parsed = stamp
      seconds, nanos = instant(stamp)
    end
    if parsed_stored ~= stored then
      parsed_stored = stored
      stored_seconds, stored_nanos = instant(stored)
    end
    lands = seconds > stored_seconds or seconds == stored_seconds and nanos >= stored_nanos
  elseif stored and created ~= '' then
    local mark = call('HGET', key, created_field)
    if mark and sub(mark, 9) == stamp then
      local a, b = numbers('>I4I4', mark)
      local x, y = numbers('>I4I4', created)
      lands = x > a or x == a and y >= b
    end
  end
  if lands then
    row[1], row[3] = key, stamp
    for j = 1, width do row[2 * j + 3] = ARGV[first + j] end
    if created == '' then
      call('HSET', unpack(row, 1, plain))
    else
      row[plain + 1], row[marked] = created_field, created .. stamp
      call('HSET', unpack(row, 1, marked))
    end
    written = written + 1
  end
  first = first + width
end
return written
"""
# What EVALSHA wants: the name under which the server keeps the script once it is loaded.
FENCED_WRITE_SHA = hashlib.sha1(FENCED_WRITE, usedforsecurity=False).hexdigest()


def keys_per_call(client: redis.Redis[bytes]) -> int:
    """How many keys a call may have: on a Cluster one, since each may live on another node."""
    clustered: Any = client.info("cluster").get("cluster_enabled")
    return 1 if clustered else KEYS_PER_CALL


def read_fences(
    client: redis.Redis[bytes], keys: Iterable[bytes], view: str
) -> Sequence[Fence | None]:
    """The fence of each entity key (as `entity_key_encoder` makes it); None where there is none."""
    field = fence_field(view)
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hget(key, field)
        return [None if raw is None else decode_fence(raw) for raw in pipeline.execute()]
