"""Connection strings as Feast reads them."""

from __future__ import annotations

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.redis_address import parse_address, printable_address


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:6379",
        "redis.example:6380,db=3,ssl=true",
        "h:1,password=p=q==,username=ana,ssl_cert_reqs=none",
        "password=a:123,h:1",
    ],
)
def test_as_feast(text: str) -> None:
    nodes, options = RedisOnlineStore._parse_connection_string(text)
    ((host, port),) = parse_address(text).nodes
    assert (host, str(port)) == (nodes[0]["host"], nodes[0]["port"])
    assert parse_address(text).options == options


def test_a_password_of_digits_stays_text() -> None:
    assert parse_address("h:1,password=1.50").options["password"] == "1.50"  # noqa: S105


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert parse_address("[::1]:6379").nodes == (("::1", 6379),)
    assert printable_address("[::1]:6379,password=secret") == "[::1]:6379"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "h:port",
        "password=secret",
        ":6379",
        "::1:6379",
        "[]:6379",
        "redis://:secret@h:port",
        "redis://:secret@",
        "redis://:secret@h:1,i:2",
        "redis://:secret@h/1/2",
        "redis://:secret@h/secret",
        "redis+sentinel://:secret@h",
        "redis+cluster://:secret@h/1",
        "https://:secret@h:6379",
        "unix://:secret@",
        "redis://h?secret",
        "h:6379/secret",
    ],
)
def test_a_string_without_an_address_is_refused_without_showing_it(text: str) -> None:
    for read in (parse_address, printable_address):
        with pytest.raises(SettingsError, match="host:port") as caught:
            read(text)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "nodes", "options"),
    [
        ("redis://h", "single", (("h", 6379),), {}),
        ("redis://h:1/2?socket_timeout=30", "single", (("h", 1),), {"db": 2, "socket_timeout": 30}),
        ("redis://:p%40%2F@h", "single", (("h", 6379),), {"password": "p@/"}),
        (
            "rediss://ana:12@[::1]:7?ssl_cert_reqs=none",
            "single",
            (("::1", 7),),
            {"username": "ana", "password": "12", "ssl": True, "ssl_cert_reqs": "none"},
        ),
        ("redis+cluster://:pw@a,b:7", "cluster", (("a", 6379), ("b", 7)), {"password": "pw"}),
        ("rediss+cluster://a", "cluster", (("a", 6379),), {"ssl": True}),
    ],
)
def test_urls(
    text: str, kind: str, nodes: tuple[tuple[str, int], ...], options: dict[str, object]
) -> None:
    address = parse_address(text)
    assert (address.kind, address.nodes, address.options) == (kind, nodes, options)
    assert str(address) == printable_address(text)


def test_a_socket() -> None:
    address = parse_address("unix://ana:pw@/run/valkey.sock?db=3")
    assert (address.path, address.nodes) == ("/run/valkey.sock", ())
    assert address.options == {"username": "ana", "password": "pw", "db": 3}


def test_sentinels_have_options_of_their_own() -> None:
    address = parse_address(
        "rediss+sentinel://:pw@a,b:1/mine/2?sentinel_password=theirs&ssl_cert_reqs=none"
    )
    assert (address.kind, address.nodes) == ("sentinel", (("a", 26379), ("b", 1)))
    assert address.service == "mine"
    tls = {"ssl": True, "ssl_cert_reqs": "none"}
    assert address.options == {"password": "pw", "db": 2} | tls
    assert address.sentinel_options == {"password": "theirs"} | tls


def test_an_address_is_shown_without_secrets() -> None:
    assert "secret" not in repr(
        parse_address("redis+sentinel://:secret@h/m?sentinel_password=secret")
    )
