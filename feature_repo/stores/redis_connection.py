"""The online store's address, read as Feast reads it, and a plain client for it."""

from __future__ import annotations

import json
from typing import Any

import redis

from feature_repo.contracts.errors import SettingsError


def connect(connection_string: str) -> redis.Redis[bytes]:
    """A client whose responses are bytes; it connects at its first command.

    Raises:
        SettingsError: see `parse_connection_string`.
    """
    return redis.Redis(**parse_connection_string(connection_string))


def parse_connection_string(text: str) -> dict[str, Any]:
    """Keyword arguments of a Redis connection, read as Feast reads them.

    Values are JSON where they can be (`ssl=true`, `db=1`), text otherwise; a password is always
    text. The first node counts.

    Raises:
        SettingsError: there is no `host:port` (the text itself is not shown: it may hold a
            password).

    >>> parse_connection_string("127.0.0.1:6379,db=1,password=12=3")
    {'db': 1, 'password': '12=3', 'host': '127.0.0.1', 'port': 6379}
    """
    parts = text.split(",")
    options: dict[str, Any] = {}
    for part in parts:
        name, is_option, raw = part.partition("=")
        if is_option:
            try:
                options[name] = raw if name in {"username", "password"} else json.loads(raw)
            except json.JSONDecodeError:
                options[name] = raw
    nodes = [part for part in parts if "=" not in part]
    host, _, port = nodes[0].rpartition(":") if nodes else ("", "", "")
    if not host or not port.isdigit():
        raise SettingsError(
            "DAIMA_REDIS", expected="host:port[,db=0,...]", action="set it, or run: make up"
        )
    return options | {"host": host, "port": int(port)}
