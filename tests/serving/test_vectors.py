"""Rows by the kernels equal rows by plain Python, whatever stands in the store."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
import redis

from feature_repo.contracts.events import EventType
from feature_repo.contracts.model_inputs import REQUEST_VIEW, ModelInput, ModelInputs
from feature_repo.contracts.settings import PROJECT
from feature_repo.scoring.outputs import Outputs, Scored
from feature_repo.scoring.scorers import Scorer
from feature_repo.stores import redis_layout as layout
from serving.catalog import Catalog, View
from serving.messages import Context
from serving.models import ServedModel
from serving.online import OnlineReader
from serving.settings import ServingSettings
from serving.store_connection import StoreConnection
from serving.store_wire import Ask
from serving.vectors import ScoringError, Vectors
from tests.serving.conftest import NOW, SERVICE, Happen, Write, click, event, with_categories
from tests.serving.test_online import CORRUPT, UNREADABLE_STATES

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]

CUSTOMER = layout.entity_key_encoder("customer_id", PROJECT)


class Counting(StoreConnection):
    """Counts round trips, and the commands in each."""

    def __init__(self, settings: ServingSettings) -> None:
        super().__init__(settings)
        self.trips: list[int] = []

    def ask(self, ask: Ask) -> None:
        self.trips.append(ask.answers)
        super().ask(ask)


class Summing(ServedModel):
    """Scores that need no booster: the sum of what is there, and a failure where asked for."""

    def score(self, matrix: Any) -> Scored:
        if self.version == "broken":
            raise ValueError("no number")
        scores = np.nansum(matrix, axis=1)
        return Scored(scores, scores + 1, None, None)


def served(reader: OnlineReader, inputs: ModelInputs, version: str = "1") -> ServedModel:
    plan = reader.plan(item.ref for item in inputs.stored.inputs)
    return Summing(
        name="m", version=version, alias="champion", inputs=inputs, plan=plan, tags={},
        loaded_at=NOW, scorer=cast("Scorer", None), outputs=Outputs((), lambda scores: scores),
    )  # fmt: skip


Ask_ = Callable[[OnlineReader, ServedModel], Any]


def run(
    settings: ServingSettings, catalog: Catalog, inputs: ModelInputs, work: Ask_
) -> tuple[Any, list[int]]:
    async def within() -> tuple[Any, list[int]]:
        connection = Counting(settings)
        try:
            reader = OnlineReader(catalog, connection)
            return await work(reader, served(reader, inputs)), connection.trips
        finally:
            await connection.close()

    return asyncio.run(within())


def assert_alike(
    settings: ServingSettings,
    catalog: Catalog,
    inputs: ModelInputs,
    customers: Sequence[str],
    as_of: datetime = NOW,
    **request: Any,
) -> Vectors:
    """The kernels' rows against those of the reader of single values."""

    async def both(reader: OnlineReader, model: ServedModel) -> Any:
        vectors = reader.vectors(model, lambda: NOW)
        found = await vectors.read(customers, as_of, **request)
        again = await vectors.read(customers, as_of, **request)  # guesses corridors now
        assert np.array_equal(found.matrix, again.matrix, equal_nan=True)
        assert found.corridors == again.corridors
        assert found.statuses == again.statuses, "patterns are shared"
        return found, await reader.read(model.plan, customers, as_of, **request)

    (found, rows), _ = run(settings, catalog, inputs, both)
    wanted = inputs.rows([row.values for row in rows])
    np.testing.assert_array_equal(found.matrix, wanted)
    assert [status.by_ref for status in found.statuses] == [row.statuses for row in rows]
    assert [list(status.by_ref) for status in found.statuses] == [list(r.statuses) for r in rows]
    assert [status.views for status in found.statuses] == [row.views for row in rows]
    assert found.ages_s == [row.ages_s for row in rows]
    assert found.corridors == [row.corridor for row in rows]
    shown = {item.ref for item in inputs.inputs}
    assert [set(status.unreadable) for status in found.statuses] == [
        shown.intersection(row.unreadable) for row in rows
    ]
    assert isinstance(found, Vectors)
    return found


@pytest.fixture
def inputs(catalog: Catalog) -> ModelInputs:
    return with_categories(catalog.service_inputs(SERVICE))


@pytest.fixture
def crowd(write: Write, happen: Happen, valkey: str) -> list[str]:
    """Customers of all kinds: complete, partly there, expired, corrupt, ended, unknown."""
    happen(
        [
            *(click(f"c{n}", ("GB-NG", "GB-IN")[n % 2], ago=timedelta(minutes=3 * n))
              for n in range(20)),
            event("pays", timedelta(minutes=1), EventType.PAYMENT_SUBMITTED, amount_minor=5_000,
                  fee_minor=100, currency="USD", send_country="GB", receive_country="NG",
                  counterparty_id="shop", channel="web", device="not a category"),
            *(click(f"bad-{n}", "GB-NG") for n in range(len(UNREADABLE_STATES))),
        ]
    )  # fmt: skip
    profile = {"tenure_days": 400, "age_band": "25-34", "kyc_level": None, "recipient_count": -3}
    for number in range(0, 20, 3):
        age = timedelta(days=number * 2)  # beyond 30 days they have expired
        write("customer_profile", f"c{number}", profile, age)
        write("customer_financials", f"c{number}", {"balance_ref_minor": 2**40}, age)
    write("corridor_costs", "GB-NG", {"cost_pct_usd200": 3.25, "providers": 12}, timedelta(days=1))
    write("corridor_costs", "US-MX", {"cost_pct_usd200": 1.0}, timedelta(days=200))
    names = [f"c{number}" for number in range(20)] + ["pays", "nobody", "c1"]
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        for number, raw in enumerate(CORRUPT.values()):
            name = f"corrupt-{number}"
            write("customer_profile", name, profile)
            field = ("kyc_level", "age_band")[number % 2]
            client.hset(CUSTOMER(name), layout.field_name("customer_profile", field), raw)
            names.append(name)
        for number, raw in enumerate(UNREADABLE_STATES.values()):
            name = f"bad-{number}"
            state = layout.field_name("customer_state", "customer_state")
            client.hset(CUSTOMER(name), state, raw)
            names.append(name)
        for number, raw in enumerate((b"\x08", b"\x08" + b"\xff" * 200 + b"\x01", b"")):
            name = f"stamp-{number}"
            write("customer_profile", name, profile)
            client.hset(CUSTOMER(name), layout.timestamp_field("customer_profile"), raw)
            names.append(name)
    return names


@pytest.mark.usefixtures("crowd")
def test_rows_are_those_of_the_plain_reader(
    settings: ServingSettings, catalog: Catalog, inputs: ModelInputs, crowd: list[str]
) -> None:
    found = assert_alike(settings, catalog, inputs, crowd)
    assert len({tuple(status.by_ref.values()) for status in found.statuses}) > 8
    assert np.isfinite(found.matrix).any(axis=0).sum() > 40
    for name in ("c0", "nobody", "bad-1"):
        assert_alike(settings, catalog, inputs, [name])
    assert_alike(settings, catalog, inputs, crowd, corridor="US-MX")
    assert_alike(settings, catalog, inputs, crowd, corridor="XX-YY")
    for shift in (timedelta(hours=1), timedelta(days=40), -timedelta(hours=1)):
        assert_alike(settings, catalog, inputs, crowd, as_of=NOW + shift)


def test_inputs_of_all_entities(
    settings: ServingSettings, catalog: Catalog, crowd: list[str]
) -> None:
    def views(*names: str) -> ModelInputs:
        items = [
            ModelInput(name, feature, dtype)
            for name in names
            for feature, dtype in catalog.views[name].features.items()
        ]
        return with_categories(ModelInputs("s", tuple(items)))

    everything = views("counterparty_activity", "corridor_activity", "customer_session")
    found = assert_alike(settings, catalog, everything, crowd, counterparty="shop")
    assert np.isfinite(found.matrix[:, :6]).all(), "the counterparty's are everybody's"
    assert_alike(settings, catalog, everything, crowd)
    # The corridor is found although no input of the model is the customer's.
    assert_alike(settings, catalog, views("corridor_costs"), crowd)
    assert_alike(settings, catalog, views("counterparty_activity"), crowd, counterparty="shop")
    assert_alike(settings, catalog, views("counterparty_activity"), crowd)


def test_arrays_take_their_columns(
    settings: ServingSettings, catalog: Catalog, valkey: str
) -> None:
    kinds = {"f": "Array(Float32)", "d": "Array(Float64)", "i": "Array(Int32)", "l": "Array(Int64)"}
    own = View("arrays", "customer_id", timedelta(days=1), {**kinds, "one": "Int64"})
    catalog = replace(catalog, views={**catalog.views, "arrays": own})
    items = (
        ModelInput("arrays", "one", "Int64"),
        *(ModelInput("arrays", name, dtype, length=3) for name, dtype in kinds.items()),
    )
    inputs = ModelInputs("s", items)
    raw = {
        "f": b"\x82\x01\x0e\x0a\x0c" + struct.pack("<3f", 1.5, -2.0, math.nan),
        "d": b"\x7a\x1a\x0a\x18" + struct.pack("<3d", 0.1, 1e300, -0.0),
        "i": b"\x6a\x0f\x0a\x0d\x01\x80\x01" + b"\xff" * 9 + b"\x01",
        "l": b"\x72\x05\x0a\x03\x07\x08\x09",
    }
    bad = {
        "f": raw["f"][:-1],  # cut
        "d": b"\x7a\x12\x0a\x10" + struct.pack("<2d", 1, 2),  # too short
        "i": b"\x20\x03",  # no array
        "l": b"\x72\x00",  # empty
    }
    host, port = valkey.split(":")
    with redis.Redis(host=host, port=int(port)) as client:
        stamp = layout.encode_timestamp(int((NOW - timedelta(hours=1)).timestamp() * 1e6))
        for name, values in (("good", raw), ("bad", bad), ("null", dict.fromkeys(raw, b""))):
            fields = {layout.field_name("arrays", key): value for key, value in values.items()}
            fields[layout.timestamp_field("arrays")] = stamp
            client.hset(CUSTOMER(name), mapping=fields)

    async def read(reader: OnlineReader, model: ServedModel) -> Any:
        vectors = await reader.vectors(model, lambda: NOW).read(["good", "bad", "null", "none"])
        return vectors, await reader.read(model.plan, ["good", "bad", "null", "none"], NOW)

    (found, rows), _ = run(settings, catalog, inputs, read)
    np.testing.assert_array_equal(
        found.matrix[0],
        [math.nan, 1.5, -2.0, math.nan, 0.1, 1e300, -0.0, 1, 128, -1, 7, 8, 9],
    )
    assert np.isnan(found.matrix[1:]).all()
    marks = [[str(s) for s in status.by_ref.values()] for status in found.statuses]
    assert marks[0] == ["NOT_FOUND", *["PRESENT"] * 4]
    assert marks[1:3] == [["NOT_FOUND", *["NULL_VALUE"] * 4]] * 2
    assert sorted(found.statuses[1].unreadable) == ["arrays:d", "arrays:f", "arrays:i", "arrays:l"]
    assert found.statuses[2].unreadable == ()
    assert rows[0].values["arrays:i"] == [1.0, 128.0, -1.0]
    assert rows[0].values["arrays:d"] == [0.1, 1e300, -0.0]


def test_inputs_of_the_request(settings: ServingSettings, catalog: Catalog) -> None:
    inputs = ModelInputs(
        "s",
        (
            ModelInput(REQUEST_VIEW, "amount_minor", "Int64"),
            ModelInput(REQUEST_VIEW, "corridor", "String", ("GB-IN", "GB-NG")),
            ModelInput("customer_profile", "kyc_level", "Int64"),
            ModelInput(REQUEST_VIEW, "device", "String", ("ios",)),
        ),
    )

    async def read(reader: OnlineReader, model: ServedModel) -> Any:
        vectors = reader.vectors(model, lambda: NOW)
        said = Context(amount_minor=120, device="ios")
        return await asyncio.gather(
            vectors.read(["a", "b"], corridor="GB-NG", context=said),
            vectors.read(["a"], context=Context(device="something else")),
        )

    (told, untold), trips = run(settings, catalog, inputs, read)
    assert trips == [3], "requests of one turn are one trip"
    np.testing.assert_array_equal(told.matrix, [[120, 1, math.nan, 0]] * 2)
    assert np.isnan(untold.matrix).all()
    assert told.scores == [121.0, 121.0]
    assert told.predictions == [122.0, 122.0]


def test_round_trips(
    settings: ServingSettings, catalog: Catalog, inputs: ModelInputs, happen: Happen
) -> None:
    happen([click(f"c{number}", ("GB-NG", "GB-IN")[number % 2]) for number in range(50)])
    everyone = [f"c{number}" for number in range(50)]

    async def read(reader: OnlineReader, model: ServedModel) -> Any:
        vectors = reader.vectors(model, lambda: NOW)
        await vectors.read(everyone)
        await asyncio.gather(*[vectors.read([name]) for name in everyone])  # corridors are known
        vectors.last_corridors["c0"] = "US-MX"  # a guess that is wrong
        wrong = await vectors.read(["c0"])
        assert wrong.corridors == ["GB-NG"]
        return vectors.last_corridors["c0"]

    corridor, trips = run(settings, catalog, inputs, read)
    assert corridor == "GB-NG"
    assert trips == [50, 2, 52, 2, 1]


def test_a_version_that_fails_fails_its_requests_alone(
    settings: ServingSettings, catalog: Catalog, inputs: ModelInputs
) -> None:
    async def read(reader: OnlineReader, model: ServedModel) -> Any:
        broken = served(reader, inputs, version="broken")
        return await asyncio.gather(
            reader.vectors(broken, lambda: NOW).read(["a"]),
            reader.vectors(model, lambda: NOW).read(["a"]),
            return_exceptions=True,
        )

    (failed, fine), _ = run(settings, catalog, inputs, read)
    assert isinstance(failed, ScoringError)
    assert isinstance(failed.__cause__, ValueError)
    assert len(fine.scores) == 1


def test_requests_that_come_while_an_answer_is_under_way_wait_for_it(
    settings: ServingSettings, catalog: Catalog, inputs: ModelInputs
) -> None:
    async def read(reader: OnlineReader, model: ServedModel) -> Any:
        vectors = reader.vectors(model, lambda: NOW)
        await vectors.read(["warm"])
        first = vectors.read(["a"])
        await asyncio.sleep(0)  # it is sent
        later = [vectors.read([name]) for name in "bcd"]
        return await asyncio.gather(first, *later)

    _, trips = run(settings, catalog, inputs, read)
    assert trips == [1, 1, 3]
