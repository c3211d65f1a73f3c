"""Where the online store is: a URL, or Feast's own `host:port,option=value`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from feature_repo.contracts.errors import SettingsError

# An IPv6 address stands in brackets; a URL, with what it may hold of a password, is no node.
_NODE = re.compile(r"(?:\[(?P<ipv6>[^\[\]/@\s]+)\]|(?P<host>[^\[\]:/@\s]+)):(?P<port>[0-9]{1,5})")
_PORTS = {"redis": 6379, "sentinel": 26379, "cluster": 6379}
_TEXTS = {"username", "password"}
_SENTINEL = "sentinel_"

Kind = Literal["single", "sentinel", "cluster"]


@dataclass(frozen=True)
class RedisAddress:
    """How to reach the store.

    Attributes:
        kind: one server, the master that Sentinels name, or a Cluster.
        nodes: hosts and ports: the server, the Sentinels, or some of the Cluster's nodes.
        path: the Unix socket of one server, instead of a node.
        service: the master's name among the Sentinels.
        options: keyword arguments of each connection (`username`, `password`, `db`, `ssl`, ...).
        sentinel_options: those of the connections to the Sentinels.
    """

    kind: Kind
    nodes: tuple[tuple[str, int], ...]
    path: str | None = None
    service: str | None = None
    # Not shown: they may hold passwords.
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """Its first node, or its path, without options.

        >>> str(parse_address("rediss://ana:secret@db.example/1"))
        'db.example:6379'
        """
        if self.path is not None:
            return self.path
        host, port = self.nodes[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> RedisAddress:
    """Read an address.

    - `redis://[[user]:password@]host[:port][/db][?option=value]`, `rediss://` over TLS;
    - `unix://[[user]:password@]/path[?db=1]`;
    - `redis+sentinel://[[user]:password@]host[:port][,host...]/service[/db]`, where options named
      `sentinel_username`, `sentinel_password` are the Sentinels' own; `rediss+sentinel://`;
    - `redis+cluster://[[user]:password@]host[:port][,host...]`, `rediss+cluster://`;
    - `host:port[,db=1][,ssl=true][,password=...]`, as Feast writes it.

    Options are redis-py's (`socket_timeout=30`, in seconds; `ssl_ca_certs=/ca.pem`). What would
    end a part of a URL (`@`, `/`, `,` in a password) is percent-encoded.

    Raises:
        SettingsError: it is none of these (the text itself is not shown: it may hold a password).

    >>> parse_address("redis+sentinel://:pw@a,b:26380/mine/2").nodes
    (('a', 26379), ('b', 26380))
    >>> parse_address("127.0.0.1:6379,db=1,password=12=3").options
    {'db': 1, 'password': '12=3'}
    """
    if "://" not in text.partition(",")[0]:
        return _feast_address(text)
    try:
        return _url_address(text)
    except ValueError:
        raise _refused() from None  # the cause quotes what it did not understand


def printable_address(text: str) -> str:
    """`host:port` of an address's first node (or its socket's path), without its options.

    Raises:
        SettingsError: see `parse_address`.

    >>> printable_address("password=a:123,[::1]:6379")
    '[::1]:6379'
    """
    return str(parse_address(text))


def _feast_address(text: str) -> RedisAddress:
    parts = text.split(",")
    options = _options(part.split("=", 1) for part in parts if "=" in part)
    nodes = [part for part in parts if "=" not in part]
    if not nodes:
        raise _refused()
    return RedisAddress("single", (_node(nodes[0], None),), options=options)


def _url_address(text: str) -> RedisAddress:
    parts = urlsplit(text)
    scheme, _, kind = parts.scheme.partition("+")
    options = _options(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
                       if parts.query else ())  # fmt: skip
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    if scheme == "unix" and not kind and not hosts and parts.path:
        return RedisAddress("single", (), path=unquote(parts.path), options=options)
    if scheme not in {"redis", "rediss"} or kind not in {"", "sentinel", "cluster"}:
        raise _refused()
    if scheme == "rediss":
        options["ssl"] = True
    port = _PORTS[kind or "redis"]
    nodes = tuple(_node(host, port) for host in hosts.split(","))
    path = [unquote(part) for part in parts.path.strip("/").split("/") if part]
    service = path.pop(0) if kind == "sentinel" and path else None
    if len(path) > (kind != "cluster") or (kind == "sentinel") != (service is not None):
        raise _refused()
    if path:
        options["db"] = int(path[0])
    if kind == "":
        if len(nodes) > 1:
            raise _refused()
        return RedisAddress("single", nodes, options=options)
    if kind == "cluster":
        return RedisAddress("cluster", nodes, options=options)
    ours = {name: value for name, value in options.items() if not name.startswith(_SENTINEL)}
    theirs = {name.removeprefix(_SENTINEL): options[name] for name in options if name not in ours}
    shared = {name: value for name, value in ours.items() if name.startswith(("ssl", "socket"))}
    return RedisAddress("sentinel", nodes, None, service, ours, shared | theirs)


def _options(pairs: Iterable[Any]) -> dict[str, Any]:
    """Values are JSON where they can be (`ssl=true`, `db=1`); a password is always text."""
    options: dict[str, Any] = {}
    for name, raw in pairs:
        try:
            is_text = name.removeprefix(_SENTINEL) in _TEXTS
            options[name] = raw if is_text else json.loads(raw)
        except json.JSONDecodeError:
            options[name] = raw
    return options


def _node(text: str, port: int | None) -> tuple[str, int]:
    found = _NODE.fullmatch(text) or (port is not None and _NODE.fullmatch(f"{text}:{port}"))
    if not found:
        raise _refused()
    return found["ipv6"] or found["host"], int(found["port"])


def _refused() -> SettingsError:
    return SettingsError(
        "DAIMA_REDIS",
        expected="host:port[,db=0,...] or redis://, rediss://, unix://, redis+sentinel://, "
        "redis+cluster://",
        action="set it, or run: make up",
    )
