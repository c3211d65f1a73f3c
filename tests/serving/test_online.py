"""The online reader beyond what the API's tests show: round trips, plans, what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from serving.catalog import Catalog, UnknownFeatureError, View
from serving.online import OnlineReader
from serving.settings import ServingSettings
from serving.store_connection import HashRead, HashValues, StoreConnection
from tests.serving.conftest import NOW, SERVICE, Write

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
    settings: ServingSettings, catalog: Catalog, write: Write
) -> None:
    for number in range(50):
        corridor = ("GB-NG", "GB-IN")[number % 2]
        write("customer_profile", f"c{number}", {"main_corridor": corridor})
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
        "embeddings": View("embeddings", "customer_id", None, {"vector": "Array(Float32)"}),
        "payees": View("payees", "counterparty_id", None, {"count": "Int64"}),
    }
    reader = OnlineReader(replace(catalog, views=views), StoreConnection(settings))
    with pytest.raises(UnknownFeatureError, match="expected a scalar"):
        reader.plan(["embeddings:vector"])
    with pytest.raises(UnknownFeatureError, match="joined by"):
        reader.plan(["payees:count"])
