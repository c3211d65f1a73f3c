"""The same round trips from event loops (`online_link`); each loop has connections of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from feature_repo.contracts.redis_address import RedisAddress
from feature_repo.stores.fenced_writes import KEYS_PER_CALL
from feature_repo.stores.online_link import (
    Command,
    HashRead,
    HashValues,
    Script,
    unavailable,
)
from feature_repo.stores.redis_connection import open_async_client

_IN_FLIGHT = 256  # commands to a Cluster at a time


class AsyncLinks:
    """Links to one address, a loop each: connections cannot be shared among loops."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._links: WeakKeyDictionary[Any, AsyncServerLink | AsyncClusterLink] = (
            WeakKeyDictionary()
        )

    def here(self) -> AsyncServerLink | AsyncClusterLink:
        """The link of the loop that runs."""
        loop = asyncio.get_running_loop()
        link = self._links.get(loop)
        if link is None:
            client, opened = open_async_client(self._address)
            kind = AsyncClusterLink if self._address.kind == "cluster" else AsyncServerLink
            link = self._links[loop] = kind(client, str(self._address), opened)
        return link

    async def close(self) -> None:
        """Close the connections of the loop that runs."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.close()


class AsyncServerLink:
    """One server, or the master that Sentinels name."""

    keys_per_call = KEYS_PER_CALL

    def __init__(self, client: Any, address: str, opened: Sequence[Any]) -> None:
        self._client = client
        self._address = address
        self._opened = opened
        self._pool = client.connection_pool

    async def read(self, reads: Sequence[HashRead]) -> list[list[HashValues]]:
        """The values of every key's fields, for each read."""
        request = b"".join([fields.pack(keys) for keys, fields in reads])
        counts = [len(keys) for keys, _ in reads]

        async def exchange(connection: Any) -> list[Any]:
            await connection.send_packed_command(request, check_health=False)
            return [await connection.read_response() for _ in range(sum(counts))]

        answers, ends, found = await self._attempt(exchange), 0, []
        for count in counts:
            found.append(answers[ends : ends + count])
            ends += count
        return found

    async def run(self, script: Script, calls: Callable[[], Iterator[Command]]) -> list[Any]:
        """The answers to a script's calls; they are made again where they have to be sent again."""

        async def send(connection: Any) -> list[Any]:
            count = 0
            for call in calls():
                packed = hiredis.pack_command(call)
                await connection.send_packed_command(packed, check_health=False)
                count += 1
            answers: list[Any] = []
            for _ in range(count):
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:  # the answers behind it belong to the others
                    answers.append(error)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

        try:
            return await self._attempt(send)
        except NoScriptError:
            try:
                await self._client.script_load(script.source)
            except (RedisError, OSError) as error:
                raise unavailable(self._address, error) from error
            return await self._attempt(send)

    async def close(self) -> None:
        """Close every connection."""
        for client in self._opened:
            await client.aclose()

    async def _attempt(self, action: Callable[[Any], Awaitable[list[Any]]]) -> list[Any]:
        error: Exception
        for _ in range(2):
            connection = None
            try:
                connection = await self._pool.get_connection()
                return await action(connection)
            except NoScriptError:
                raise
            except RedisConnectionError as dropped:
                error = dropped
                if connection is not None:
                    await connection.disconnect()
            except (RedisError, OSError) as refused:
                if connection is not None:
                    await connection.disconnect()
                raise unavailable(self._address, refused) from refused
            except BaseException:  # cancelled: answers may still be on their way
                if connection is not None:
                    await connection.disconnect(nowait=True)
                raise
            finally:
                if connection is not None:
                    await self._pool.release(connection)
        raise unavailable(self._address, error) from error


class AsyncClusterLink:
    """A Cluster: redis-py's client finds the nodes and follows redirections; commands overlap."""

    keys_per_call = 1

    def __init__(self, client: Any, address: str, opened: Sequence[Any]) -> None:
        self._client = client
        self._address = address
        self._opened = opened

    async def read(self, reads: Sequence[HashRead]) -> list[list[HashValues]]:
        """The values of every key's fields, for each read."""
        commands = [("HMGET", key, *fields.fields) for keys, fields in reads for key in keys]
        answers = iter(await self._all(commands))
        return [[next(answers) for _ in keys] for keys, _ in reads]

    async def run(self, script: Script, calls: Callable[[], Iterator[Command]]) -> list[Any]:
        """The answers to a script's calls."""
        return await self._all([("EVAL", script.source, *call[2:]) for call in calls()])

    async def close(self) -> None:
        """Close every connection."""
        for client in self._opened:
            await client.aclose()

    async def _all(self, commands: Sequence[Any]) -> list[Any]:
        answers: list[Any] = []
        try:
            await self._client.initialize()
            for start in range(0, len(commands), _IN_FLIGHT):
                some = commands[start : start + _IN_FLIGHT]
                answers += await asyncio.gather(
                    *(self._client.execute_command(*command) for command in some)
                )
        except (RedisError, RedisClusterException, OSError) as error:
            raise unavailable(self._address, error) from error
        return answers
