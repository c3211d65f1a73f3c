"""Watching the stream scorer: its output log as server-sent events, for several at a time.

One task a model reads the log while somebody watches, and hands each prediction to everybody's own
bounded queue. A watcher whose queue is full has not read for a while: it is let go, and counted;
the others do not notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from redis.exceptions import RedisError

from feature_repo.contracts.redis_address import parse_address
from feature_repo.contracts.settings import SHARDS
from feature_repo.stores.redis_connection import open_async_client
from serving.overload import OverloadError
from serving.score_log import PREDICTION, ROOT, partition_of, stream_key

log = logging.getLogger(__name__)

MOST_WATCHERS = 64
QUEUED = 512  # predictions that a watcher may be behind
_LOOK_S = 0.05
_RETRY_S = 1.0
_READ = 500  # entries a stream and look
KEEP_ALIVE = timedelta(seconds=10)
_NOTHING = b": nothing new\n\n"
_TOO_SLOW = b'event: dropped\ndata: {"reason":"read too slowly; connect again"}\n\n'
_HELLO = b"retry: 2000\n: watching\n\n"


@dataclass(eq=False)
class _Watcher:
    queue: asyncio.Queue[bytes]
    dropped: bool = False


@dataclass
class _Audience:
    """A model's watchers, and the task that reads for them."""

    watchers: set[_Watcher] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Watchers:
    """The watchers of one server.

    Args:
        connection_string: of the store that holds the output log.
        ending: asked now and then; once true, streams end.
        most: watchers at a time.
        queued: predictions that one may be behind.

    Attributes:
        dropped: watchers let go because they were too slow.

    Trap: belongs to the event loop that first watches.
    """

    def __init__(
        self,
        connection_string: str,
        ending: Callable[[], bool] = lambda: False,
        most: int = MOST_WATCHERS,
        queued: int = QUEUED,
    ) -> None:
        self.dropped = 0
        self._address = parse_address(connection_string)
        self._ending = ending
        self._most = most
        self._queued = queued
        self._audiences: dict[str, _Audience] = {}
        self._client: Any = None
        self._opened: list[Any] = []

    @property
    def count(self) -> int:
        """How many watch now."""
        return sum(len(audience.watchers) for audience in self._audiences.values())

    def check_room(self) -> None:
        """Refuse a watcher too many.

        Raises:
            OverloadError: there are `most` already.
        """
        if self.count >= self._most:
            raise OverloadError(
                "watchers", self.count, f"fewer than {self._most}", "close one, or come again"
            )

    async def watch(self, model: str) -> AsyncIterator[bytes]:
        """Server-sent events of a model's predictions from now on, until the client goes.

        Yields whole events (`event: prediction`, `data:` the JSON of a `StreamPrediction`, `id:`
        partition and entry), and a comment every `KEEP_ALIVE` when there is nothing.
        """
        watcher = _Watcher(asyncio.Queue(self._queued))
        audience = self._audiences.setdefault(model, _Audience())
        audience.watchers.add(watcher)
        if audience.task is None:
            audience.task = asyncio.create_task(self._read(model, audience))
        try:
            yield _HELLO
            silent_s = 0.0
            while not self._ending():
                if watcher.dropped:
                    yield _TOO_SLOW
                    return
                try:
                    async with asyncio.timeout(0.5):
                        event = await watcher.queue.get()
                except TimeoutError:
                    silent_s += 0.5
                    if silent_s >= KEEP_ALIVE.total_seconds():
                        silent_s = 0.0
                        yield _NOTHING
                else:
                    silent_s = 0.0
                    yield event
        finally:
            self._leave(model, audience, watcher)

    async def close(self) -> None:
        """End the reading and close the connection."""
        for audience in self._audiences.values():
            if audience.task is not None:
                audience.task.cancel()
        self._audiences.clear()
        opened, self._opened, self._client = self._opened, [], None
        for client in opened:
            await client.aclose()

    def _leave(self, model: str, audience: _Audience, watcher: _Watcher) -> None:
        audience.watchers.discard(watcher)
        if not audience.watchers and self._audiences.get(model) is audience:
            if audience.task is not None:
                audience.task.cancel()
            del self._audiences[model]

    async def _read(self, model: str, audience: _Audience) -> None:
        """Read the model's streams from now on, for as long as somebody watches."""
        positions: dict[str, bytes] = {}
        while True:
            try:
                if self._client is None:
                    self._client, self._opened = open_async_client(self._address)
                if not positions:
                    positions = await self._ends(model)
                for event in await self._news(positions):
                    self._hand_out(audience, event)
            except (RedisError, OSError) as error:
                log.warning("the output log cannot be read: %s", type(error).__name__)
                await asyncio.sleep(_RETRY_S)
            else:
                await asyncio.sleep(_LOOK_S)

    async def _ends(self, model: str) -> dict[str, bytes]:
        """The last entry of each of a model's streams: what is there already is not news."""
        recorded = await self._client.hget(ROOT, model)
        partitions = SHARDS if recorded is None else int(recorded)
        streams = [stream_key(model, partition) for partition in range(partitions)]
        async with self._client.pipeline(transaction=False) as pipeline:
            for stream in streams:
                pipeline.xrevrange(stream, count=1)
            answers = await pipeline.execute()
        return {
            stream: entries[0][0] if entries else b"0-0"
            for stream, entries in zip(streams, answers, strict=True)
        }

    async def _news(self, positions: dict[str, bytes]) -> list[bytes]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for stream, last in positions.items():
                pipeline.xrange(stream, b"(" + last, b"+", count=_READ)
            answers = await pipeline.execute()
        events = []
        for stream, entries in zip(list(positions), answers, strict=True):
            for entry, fields in entries:
                events.append(_event(stream, entry, fields.get(PREDICTION, b"null")))
            if entries:
                positions[stream] = entries[-1][0]
        return events

    def _hand_out(self, audience: _Audience, event: bytes) -> None:
        for watcher in list(audience.watchers):
            try:
                watcher.queue.put_nowait(event)
            except asyncio.QueueFull:
                watcher.dropped = True
                audience.watchers.discard(watcher)
                self.dropped += 1


def _event(stream: str, entry: bytes, prediction: bytes) -> bytes:
    _, partition = partition_of(stream)
    return b"id: %d/%b\nevent: prediction\ndata: %b\n\n" % (partition, entry, prediction)
