"""A Cluster behind the same face as one server's connection: redis-py routes by key.

It is slower than one server's wire (answers become objects and bytes again); what reads them is
the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import numpy as np

from serving.store_wire import Ask, Lost, encode_answer, parse_answers


class ClusterWire:
    """Sends asks to the nodes that hold their keys.

    Args:
        client: a `redis.asyncio.RedisCluster` whose answers are bytes.

    Attributes:
        unanswered, lost: as `StoreWire` has them.
    """

    def __init__(self, client: Any) -> None:
        self.unanswered: deque[Ask] = deque()
        self.lost: Lost | None = None
        self._client = client
        self._open = True
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent."""
        return self._open

    def send(self, asks: deque[Ask]) -> None:
        """Send each ask's commands, each to its key's node."""
        self.unanswered.extend(asks)
        for ask in asks:
            self._start(self._answer(ask))

    def abandon(self) -> deque[Ask]:
        """Drop the connections; the asks that are without an answer."""
        asks, self.unanswered = self.unanswered, deque()
        self.lost = None
        for task in self._tasks:
            task.cancel()
        self.close()
        return asks

    def close(self) -> None:
        """Close the connections."""
        if self._open:
            self._open = False
            self._start(close_client(self._client))

    async def wait_closed(self) -> None:
        """Wait until nothing is open any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, ask: Ask) -> None:
        commands = parse_answers(ask.payload, ask.answers)  # a command is written as an answer is
        try:
            answers = await self._execute(commands)
        except Exception as error:  # RedisError, OSError; whatever it is, whoever waits is told
            if ask in self.unanswered:
                self.unanswered.remove(ask)
                self._lose(ask, error)
            return
        if ask not in self.unanswered:
            return
        self.unanswered.remove(ask)
        raw = b"".join(map(encode_answer, answers))
        try:
            ask.take(np.frombuffer(raw, np.uint8), 0, len(raw))
        except Exception as error:
            ask.fail(error)

    async def _execute(self, commands: list[list[bytes]]) -> list[Any]:
        if commands == [[b"PING"]]:
            await self._client.ping()
            return [b"PONG"]
        pipeline = self._client.pipeline()
        for command in commands:
            pipeline.execute_command(command[0].decode(), *command[1:])
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    def _lose(self, ask: Ask, error: Exception) -> None:
        if self.lost is not None and self._open:
            lost, self.lost = self.lost, None
            asks, self.unanswered = self.unanswered, deque()
            asks.appendleft(ask)
            self.close()
            lost(asks, error)
        else:
            ask.fail(error)


async def close_client(client: Any) -> None:
    """Close a Cluster's client, and what it leaves open where it never got to know the Cluster."""
    await client.aclose()
    nodes = client.nodes_manager
    for kept in ("nodes_cache", "startup_nodes"):
        await nodes.aclose(kept)
    # It closes nodes that left the Cluster in tasks that nobody else waits for.
    if closing := set(getattr(nodes, "_background_tasks", ())):
        await asyncio.wait(closing)
