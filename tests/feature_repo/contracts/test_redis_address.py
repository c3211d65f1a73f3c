"""Connection strings as Feast reads them."""

from __future__ import annotations

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.redis_address import parse_connection_string, printable_address


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
    parsed = parse_connection_string(text)
    assert (parsed.pop("host"), str(parsed.pop("port"))) == (nodes[0]["host"], nodes[0]["port"])
    assert parsed == options


def test_a_password_of_digits_stays_text() -> None:
    assert parse_connection_string("h:1,password=1.50")["password"] == "1.50"  # noqa: S105


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert parse_connection_string("[::1]:6379") == {"host": "::1", "port": 6379}
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
        "redis://:secret@h:6379",
        "h:6379/secret",
    ],
)
def test_a_string_without_an_address_is_refused_without_showing_it(text: str) -> None:
    for read in (parse_connection_string, printable_address):
        with pytest.raises(SettingsError, match="host:port") as caught:
            read(text)
        assert "secret" not in str(caught.value)
