"""Connection strings as Feast reads them."""

from __future__ import annotations

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore

from feature_repo.contracts.errors import SettingsError
from feature_repo.stores.redis_connection import connect, parse_connection_string


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:6379",
        "redis.example:6380,db=3,ssl=true",
        "h:1,password=p=q==,username=ana,ssl_cert_reqs=none",
    ],
)
def test_as_feast(text: str) -> None:
    nodes, options = RedisOnlineStore._parse_connection_string(text)
    parsed = parse_connection_string(text)
    assert (parsed.pop("host"), str(parsed.pop("port"))) == (nodes[0]["host"], nodes[0]["port"])
    assert parsed == options


def test_a_password_of_digits_stays_text() -> None:
    assert parse_connection_string("h:1,password=1.50")["password"] == "1.50"  # noqa: S105


@pytest.mark.parametrize("text", ["", "h", "h:port", "password=secret", ":6379"])
def test_a_string_without_an_address_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingsError, match="host:port") as caught:
        parse_connection_string(text)
    assert "secret" not in str(caught.value)


def test_the_client_talks_to_the_store(valkey: str) -> None:
    with connect(valkey) as client:
        assert client.ping()
