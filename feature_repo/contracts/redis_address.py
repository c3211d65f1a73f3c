"""The online store's connection string, read as Feast reads it."""

from __future__ import annotations

import json
import re
from typing import Any

from feature_repo.contracts.errors import SettingsError

# An IPv6 address stands in brackets; a URL, with what it may hold of a password, is no node.
_NODE = re.compile(r"(?:\[(?P<ipv6>[^\[\]/@\s]+)\]|(?P<host>[^\[\]:/@\s]+)):(?P<port>[0-9]{1,5})")


def parse_connection_string(text: str) -> dict[str, Any]:
    """Keyword arguments of a Redis connection, read as Feast reads them.

    Values are JSON where they can be (`ssl=true`, `db=1`), text otherwise; a password is always
    text. The first node counts; options may stand before it.

    Raises:
        SettingsError: there is no `host:port` (the text itself is not shown: it may hold a
            password).

    Trap: Feast's own store (`feast materialize`) cannot read an IPv6 address; a host name that
    resolves to one serves both.

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
    node = _NODE.fullmatch(nodes[0]) if nodes else None
    if node is None:
        raise SettingsError(
            "DAIMA_REDIS", expected="host:port[,db=0,...]", action="set it, or run: make up"
        )
    return options | {"host": node["ipv6"] or node["host"], "port": int(node["port"])}


def printable_address(text: str) -> str:
    """`host:port` of a connection string's first node, without its options.

    Raises:
        SettingsError: see `parse_connection_string`.

    >>> printable_address("password=a:123,[::1]:6379")
    '[::1]:6379'
    """
    options = parse_connection_string(text)
    host, port = options["host"], options["port"]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
