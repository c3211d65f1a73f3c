"""The connection to the online store: Feast's connection string, short timeouts, plain errors."""

from __future__ import annotations

from collections.abc import Sequence

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from feature_repo.contracts.errors import StoreUnavailableError
from feature_repo.contracts.redis_address import parse_connection_string
from serving.settings import ServingSettings

# One command: a hash and the fields wanted of it; its answer: their values, None where absent.
HashRead = tuple[bytes, Sequence[bytes]]
HashValues = list[bytes | None]


class StoreConnection:
    """Pooled connections to the online store of one event loop.

    A connection that the server has dropped is replaced within the request, once; a server that
    is away or does not answer within the timeout is a `StoreUnavailableError`. Nothing is
    remembered of a failure: the first request after the store's return succeeds.
    """

    def __init__(self, settings: ServingSettings) -> None:
        options = parse_connection_string(settings.shared.redis)
        timeout_s = settings.store_timeout.total_seconds()
        # Retrying a time-out would double the wait; retrying a dropped connection is free.
        retry = Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,))
        pool = BlockingConnectionPool(
            connection_class=SSLConnection if options.pop("ssl", False) else Connection,
            max_connections=settings.store_connections,
            timeout=timeout_s,
            **{"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": retry}
            | options,
        )
        self.address = settings.shared.redis_address
        self._redis = Redis.from_pool(pool)

    async def read(self, commands: Sequence[HashRead]) -> list[HashValues]:
        """Answer every command, in order, in one round trip.

        Raises:
            StoreUnavailableError: the store is away, slow or refuses.
        """
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, fields in commands:
                    pipeline.hmget(key, fields)
                answers: list[HashValues] = await pipeline.execute()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return answers

    async def ping(self) -> None:
        """Ask for a sign of life.

        Raises:
            StoreUnavailableError: the store is away, slow or refuses.
        """
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        # The error's text may repeat what the server was sent, a password among it.
        reason = type(error).__name__
        return StoreUnavailableError(
            "online store", self.address, f"an answer (got {reason})", "try again in a second"
        )
