"""A plain client for the online store."""

from __future__ import annotations

from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from feature_repo.contracts.redis_address import parse_connection_string

# For a connection, and for each answer; redis-py's own default waits for ever.
TIMEOUT_S = 5.0


def connect(connection_string: str) -> redis.Redis[bytes]:
    """A client whose responses are bytes; it connects at its first command.

    It waits `TIMEOUT_S` for a connection and for each answer, unless the string says otherwise
    (`socket_timeout=30`, in seconds).

    Raises:
        SettingsError: see `parse_connection_string`.
    """
    defaults: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        # As redis-py's own, but not after a time-out: the wait would be four times as long, and
        # a command that was heard but not answered would be done twice (XADD).
        "retry": Retry(ExponentialWithJitterBackoff(), 3, supported_errors=(RedisConnectionError,)),
    }
    return redis.Redis(**defaults | parse_connection_string(connection_string))
