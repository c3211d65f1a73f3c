"""Many commands to the online store in one round trip, over one server or a Cluster.

redis-py packs commands and takes connections out of its pool one by one, which for a read of one
row costs more than the row. Here requests are packed beforehand, in one piece, and idle
connections wait in a stack. A connection that the server has dropped is replaced once and the
request sent again: reads change nothing, and the fences refuse what had arrived.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import hiredis
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisClusterException, RedisError, ResponseError

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.redis_address import RedisAddress
from feature_repo.stores.fenced_writes import KEYS_PER_CALL
from feature_repo.stores.redis_connection import open_client

HashValues = Sequence[bytes | None]
# A command's parts.
Command = tuple[Any, ...]
# Commands of the Redis protocol, and how many they are.
Packed = tuple[Any, int]


class HashFields:
    """Fields to ask of hashes, packed once."""

    def __init__(self, fields: Sequence[bytes]) -> None:
        self.fields = tuple(fields)
        self._head = b"*%d\r\n$5\r\nHMGET\r\n" % (len(fields) + 2)
        self._tail = b"".join(b"\r\n$%d\r\n%b" % (len(field), field) for field in fields) + b"\r\n"

    def pack(self, keys: Iterable[bytes]) -> bytes:
        """An HMGET a key."""
        head, tail = self._head, self._tail
        return b"".join([b"%b$%d\r\n%b%b" % (head, len(key), key, tail) for key in keys])


# Keys, and what to ask of each.
HashRead = tuple[Sequence[bytes], HashFields]


@dataclass(frozen=True)
class Script:
    """A Lua script and the name under which a server keeps it."""

    source: bytes
    sha: str

    def call(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Command:
        """One call of it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


class Link(Protocol):
    """Round trips to the store. `keys_per_call`: how many keys a script's call may have."""

    keys_per_call: int

    def read(self, reads: Sequence[HashRead]) -> list[list[HashValues]]:
        """The values of every key's fields, for each read."""

    def run(self, script: Script, calls: Callable[[], Iterator[Command]]) -> list[Any]:
        """The answers to a script's calls; they are made again where they have to be sent again."""

    def send(self, script: Script, pieces: Callable[[], Iterator[Packed]]) -> list[Any]:
        """The same of calls that are packed already."""

    def clients(self) -> Iterable[Any]:
        """A client of each server that holds keys, for what is done seldom."""

    def close(self) -> None:
        """Close every connection."""


def open_link(address: RedisAddress) -> Link:
    """Connect to where the address says.

    Raises:
        StoreUnavailableError: a Cluster does not answer (other stores are asked when needed).
    """
    try:
        client = open_client(address)
    except (RedisError, RedisClusterException, OSError) as error:
        raise unavailable(str(address), error) from error
    if address.kind == "cluster":
        return ClusterLink(client, str(address))
    return ServerLink(client, str(address))


def unavailable(address: str, error: Exception) -> StoreUnavailableError:
    """What callers are told; not the error's text, which may repeat what was sent."""
    told = type(error).__name__
    if isinstance(error, ResponseError):
        # The server's own code (WRONGTYPE, NOPERM, OOM): a word without values.
        told = f"{told} {str(error).partition(' ')[0]}"
    return StoreUnavailableError(
        "online store", address, f"an answer (got {told})", "try again in a second"
    )


class ServerLink:
    """One server, or the master that Sentinels name."""

    keys_per_call = KEYS_PER_CALL

    def __init__(self, client: redis.Redis[bytes], address: str) -> None:
        self._client = client
        self._address = address
        self._pool: Any = client.connection_pool
        # A list's `pop` and `append` are atomic: threads share the stack without a lock.
        self._idle: list[Any] = []
        self._process = os.getpid()

    def read(self, reads: Sequence[HashRead]) -> list[list[HashValues]]:
        request = b"".join([fields.pack(keys) for keys, fields in reads])
        counts = [len(keys) for keys, _ in reads]
        answers = self._attempt(lambda connection: _exchange(connection, request, sum(counts)))
        ends, found = 0, []
        for count in counts:
            found.append(answers[ends : ends + count])
            ends += count
        return found

    def run(self, script: Script, calls: Callable[[], Iterator[Command]]) -> list[Any]:
        return self.send(script, lambda: ((hiredis.pack_command(call), 1) for call in calls()))

    def send(self, script: Script, pieces: Callable[[], Iterator[Packed]]) -> list[Any]:
        def send(connection: Any) -> list[Any]:
            expected = 0
            for packed, count in pieces():
                connection.send_packed_command([packed], check_health=False)
                expected += count
            answers = [_answer(connection) for _ in range(expected)]
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

        def load_and_send(connection: Any) -> list[Any]:
            connection.send_command("SCRIPT", "LOAD", script.source, check_health=False)
            connection.read_response()
            return send(connection)

        try:
            return self._attempt(send)
        except NoScriptError:
            return self._attempt(load_and_send)

    def clients(self) -> Iterable[Any]:
        return [self._client]

    def close(self) -> None:
        while self._idle:
            self._idle.pop().disconnect()
        self._client.close()

    def _attempt(self, action: Callable[[Any], list[Any]]) -> list[Any]:
        for last in (False, True):
            connection = self._take()
            new = connection is None
            if new:
                connection = self._pool.make_connection()
            try:
                if new:  # sending would connect too, but not ask the Sentinels where to
                    connection.connect()
                answers = action(connection)
            except RedisConnectionError as error:
                connection.disconnect()
                if last:
                    raise unavailable(self._address, error) from error
                # The others were dropped with it, most likely.
                while self._idle:
                    self._idle.pop().disconnect()
                continue
            except NoScriptError:  # every answer has been read
                self._idle.append(connection)
                raise
            except (RedisError, OSError) as error:
                connection.disconnect()
                raise unavailable(self._address, error) from error
            except BaseException:  # an interrupt: answers may still be on their way
                connection.disconnect()
                raise
            self._idle.append(connection)
            return answers
        raise AssertionError("unreachable")

    def _take(self) -> Any:
        if self._process != os.getpid():  # connections are the parent's after a fork
            self._idle, self._process = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return None


def _exchange(connection: Any, request: bytes, count: int) -> list[Any]:
    connection.send_packed_command([request], check_health=False)
    read = connection.read_response
    return [read(True) for _ in range(count)]


def _answer(connection: Any) -> Any:
    """The next answer; an error that the server told is one, and others follow it."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class ClusterLink:
    """A Cluster: a round trip a node, all nodes written to before any is read.

    What a node refuses or cannot answer (a slot has moved, the node is gone) is asked once more,
    command by command, by redis-py, which follows redirections and learns the new slots.
    """

    keys_per_call = 1

    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address
        self._links: dict[str, tuple[Any, ServerLink]] = {}

    def read(self, reads: Sequence[HashRead]) -> list[list[HashValues]]:
        commands: list[Command] = [
            ("HMGET", key, *fields.fields) for keys, fields in reads for key in keys
        ]
        answers = iter(self._run([(command, command[1]) for command in commands]))
        return [[next(answers) for _ in keys] for keys, _ in reads]

    def run(self, script: Script, calls: Callable[[], Iterator[Command]]) -> list[Any]:
        # By its source where its name is not known: a node may have been added.
        return self._run([(call, call[3]) for call in calls()], script)

    def send(self, script: Script, pieces: Callable[[], Iterator[Packed]]) -> list[Any]:
        raise NotImplementedError("a Cluster's commands go to the nodes of their keys")

    def clients(self) -> Iterable[Any]:
        return [self._client.get_redis_connection(node) for node in self._client.get_primaries()]

    def close(self) -> None:
        for _, link in self._links.values():
            link.close()
        self._client.close()

    def _run(self, commands: list[tuple[Command, Any]], script: Script | None = None) -> list[Any]:
        answers: list[Any] = [None] * len(commands)
        again: list[int] = []
        by_node: dict[str, tuple[Any, list[int]]] = {}
        try:
            for at, (_, key) in enumerate(commands):
                node = self._client.get_node_from_key(key)
                if node is None:
                    again.append(at)
                    continue
                by_node.setdefault(node.name, (node, []))[1].append(at)
            for node, places in by_node.values():
                try:
                    told = self._ask(node, [commands[at][0] for at in places])
                except (RedisConnectionError, OSError):
                    again += places
                    continue
                for at, answer in zip(places, told, strict=True):
                    answers[at] = answer
                    if isinstance(answer, Exception):
                        again.append(at)
            for at in again:
                command = commands[at][0]
                if script is not None:
                    command = ("EVAL", script.source, *command[2:])
                answers[at] = self._client.execute_command(*command)
        except (RedisError, RedisClusterException, OSError) as error:
            raise unavailable(self._address, error) from error
        return answers

    def _ask(self, node: Any, commands: list[Command]) -> list[Any]:
        connection = self._client.get_redis_connection(node).connection_pool.get_connection()
        pool = self._client.get_redis_connection(node).connection_pool
        try:
            connection.send_packed_command([hiredis.pack_command(each) for each in commands])
            return [_answer(connection) for _ in commands]
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
