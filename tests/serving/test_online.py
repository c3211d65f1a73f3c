"""The online reader beyond what the API's tests show: round trips, plans, what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from feature_repo.contracts.settings import PROJECT
from feature_repo.stores.redis_connection import connect
from feature_repo.stores.redis_layout import entity_key_encoder, field_name, timestamp_field
from serving.catalog import Catalog, UnknownFeatureError, View
from serving.online import OnlineReader
from serving.settings import ServingSettings
from serving.store_connection import HashRead, HashValues, StoreConnection
from tests.serving.conftest import NOW, SERVICE, Happen, Write, click

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]


class CountingConnection(StoreConnection):
    """Counts round trips and the commands in each."""

    def __init__(self, settings: ServingSettings) -> None:
        super().__init__(settings)
        self.trips: list[int] = []

    async def read(self, commands: Sequence[HashRead]) -> list[HashValues]:
        self.trips.append(len(commands))
        return await super().read(commands)


def read(
    settings: ServingSettings, catalog: Catalog, refs: Sequence[str], **request: Any
) -> tuple[Any, list[int]]:
    async def ask() -> tuple[Any, list[int]]:
        connection = CountingConnection(settings)
        try:
            reader = OnlineReader(catalog, connection)
            rows = await reader.read(reader.plan(refs), as_of=NOW, **request)
        finally:
            await connection.close()
        return rows, connection.trips

    return asyncio.run(ask())


def test_any_number_of_customers_take_two_round_trips(
    settings: ServingSettings, catalog: Catalog, happen: Happen
) -> None:
    happen([click(f"c{number}", ("GB-NG", "GB-IN")[number % 2]) for number in range(50)])
    customers = [f"c{number}" for number in range(50)]
    refs = catalog.services[SERVICE]
    rows, trips = read(settings, catalog, refs, customers=customers)
    assert trips == [50, 2]
    assert [row.corridor for row in rows[:3]] == ["GB-NG", "GB-IN", "GB-NG"]
    _, trips = read(settings, catalog, refs, customers=customers, corridor="GB-NG")
    assert trips == [51]
    _, trips = read(settings, catalog, ["customer_profile:kyc_level"], customers=customers)
    assert trips == [50]
    _, trips = read(settings, catalog, refs, customers=["nobody"])
    assert trips == [1], "no corridor known, none asked for"


def test_the_profiles_corridor_does_not_stand_in_for_the_sessions(
    settings: ServingSettings, catalog: Catalog, write: Write, happen: Happen
) -> None:
    write("corridor_costs", "GB-NG", {"providers": 12})
    customers = ["none", "null", "ended"]
    for customer in customers:
        write("customer_profile", customer, {"main_corridor": "GB-NG"})
    happen([click("null"), click("ended", "GB-NG", ago=timedelta(minutes=31))])
    for refs in (["corridor_costs:providers"], catalog.services[SERVICE]):
        rows, _ = read(settings, catalog, refs, customers=customers)
        assert [row.corridor for row in rows] == [None, None, None]
        assert {row.statuses["corridor_costs:providers"] for row in rows} == {"NOT_FOUND"}


CORRUPT = {
    "an array": b"\x62\x02\x0a\x00",
    "a cut double": b"\x29\x00",
    "an endless number": b"\x20\xff\xff",
    "a number of 71 bits": b"\x20" + b"\xff" * 10 + b"\x01",
    "broken UTF-8": b"\x12\x01\xff",
    "a text": b"\x12\x01x",
    "bytes of something else": b"hello",
    "bytes": b"\x0a\x01x",
}


@pytest.mark.parametrize("raw", CORRUPT.values(), ids=CORRUPT)
def test_a_value_that_cannot_be_read_is_missing_and_no_others_business(
    settings: ServingSettings,
    catalog: Catalog,
    write: Write,
    valkey: str,
    caplog: pytest.LogCaptureFixture,
    *,
    raw: bytes,
) -> None:
    for customer in ("bad", "good"):
        write("customer_profile", customer, {"kyc_level": 2, "tenure_days": 3})
    key = entity_key_encoder("customer_id", PROJECT)("bad")
    with connect(valkey) as client:
        client.hset(key, field_name("customer_profile", "kyc_level"), raw)
    refs = ["customer_profile:kyc_level", "customer_profile:tenure_days"]
    (bad, good), _ = read(settings, catalog, refs, customers=["bad", "good"])
    assert bad.values == {refs[0]: None, refs[1]: 3}
    assert bad.statuses == {refs[0]: "NULL_VALUE", refs[1]: "PRESENT"}
    assert bad.unreadable == [refs[0]]
    assert (good.values, good.unreadable) == ({refs[0]: 2, refs[1]: 3}, [])
    (line,) = caplog.messages
    assert refs[0] in line
    assert "bad" not in line, "customers' ids stay out of logs"


@pytest.mark.parametrize("raw", [b"\x08", b"\x08" + b"\xff" * 200 + b"\x01"], ids=["cut", "huge"])
def test_an_event_time_that_cannot_be_read_makes_its_row_missing(
    settings: ServingSettings, catalog: Catalog, write: Write, valkey: str, raw: bytes
) -> None:
    write("customer_profile", "bad", {"kyc_level": 2})
    key = entity_key_encoder("customer_id", PROJECT)("bad")
    with connect(valkey) as client:
        client.hset(key, timestamp_field("customer_profile"), raw)
    ref = "customer_profile:kyc_level"
    (row,), _ = read(settings, catalog, [ref], customers=["bad"])
    assert (row.values, row.statuses) == ({ref: None}, {ref: "NULL_VALUE"})
    assert (row.views, row.ages_s) == ({"customer_profile": "NULL_VALUE"}, {})
    assert row.unreadable == [ref]


UNREADABLE_STATES = {
    "no bytes": b"\x12\x01x",
    "cut": b"\x0a\xff",
    "empty": b"\x0a\x00",
    "no state": b"\x0a\x05hello",
    "of another set": b"\x0a\x40" + b"\x07" * 64,
    "nothing set": b"",
}


@pytest.mark.parametrize("raw", UNREADABLE_STATES.values(), ids=UNREADABLE_STATES)
def test_a_state_that_cannot_be_read_is_missing_and_no_others_business(
    settings: ServingSettings, catalog: Catalog, happen: Happen, valkey: str, *, raw: bytes
) -> None:
    happen([click("bad", "GB-NG"), click("good", "GB-NG")])
    key = entity_key_encoder("customer_id", PROJECT)("bad")
    with connect(valkey) as client:
        client.hset(key, field_name("customer_state", "customer_state"), raw)
    refs = ["customer_activity:event_count_5m", "customer_session:session_corridor_last"]
    (bad, good, absent), _ = read(settings, catalog, refs, customers=["bad", "good", "absent"])
    assert bad.values == dict.fromkeys(refs)
    assert bad.statuses == dict.fromkeys(refs, "NULL_VALUE")
    assert bad.views == {"customer_activity": "NULL_VALUE", "customer_session": "NULL_VALUE"}
    assert (bad.unreadable, bad.ages_s) == (refs, {})
    assert good.values == {refs[0]: 1, refs[1]: "GB-NG"}
    assert (good.unreadable, absent.unreadable) == ([], [])
    assert absent.values == {refs[0]: 0, refs[1]: None}


def test_a_view_without_ttl_never_expires(
    settings: ServingSettings, catalog: Catalog, write: Write
) -> None:
    write("customer_profile", "c1", {"kyc_level": 1}, timedelta(days=3650))
    ref = "customer_profile:kyc_level"
    (row,), _ = read(settings, catalog, [ref], customers=["c1"])
    assert (row.statuses[ref], row.values[ref]) == ("OUTSIDE_MAX_AGE", None)
    for_ever = replace(catalog.views["customer_profile"], ttl=None)
    lasting = replace(catalog, views=catalog.views | {"customer_profile": for_ever})
    (row,), _ = read(settings, lasting, [ref], customers=["c1"])
    assert (row.statuses[ref], row.values[ref]) == ("PRESENT", 1)


def test_what_cannot_be_a_model_input_is_refused_when_planned(
    settings: ServingSettings, catalog: Catalog
) -> None:
    views = {
        "embeddings": View("embeddings", "customer_id", None, {"vector": "Array(String)"}),
        "shops": View("shops", "shop_id", None, {"count": "Int64"}),
    }
    reader = OnlineReader(replace(catalog, views=views), StoreConnection(settings))
    with pytest.raises(UnknownFeatureError, match="expected a scalar"):
        reader.plan(["embeddings:vector"])
    with pytest.raises(UnknownFeatureError, match="joined by"):
        reader.plan(["shops:count"])
