"""Versions change under load; challengers, shadows and roll-backs, in a whole service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from feature_repo.contracts.events import EventType
from feature_repo.contracts.model_inputs import REQUEST_VIEW, ModelInput, ModelInputs
from feature_repo.scoring.scorers import Trees
from serving import release
from serving.app import create_app
from serving.audit import Audit
from serving.catalog import Catalog
from serving.messages import Context, PredictRequest, PredictResponse
from serving.predict import Service
from serving.routing import CHALLENGER, SHADOW, Bounds, Slot
from serving.scored import ScoredBatch
from serving.settings import ServingSettings
from serving.shadow import Shadow, shadow_fetch
from tests.serving.conftest import (
    NOW,
    SERVICE,
    Happen,
    Training,
    Write,
    event,
    with_categories,
)

pytestmark = [pytest.mark.xdist_group("serving"), pytest.mark.usefixtures("valkey")]


class Registry:
    """An MLflow client that can be switched off, and counts what is asked of it."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self.down = False

    def __getattr__(self, name: str) -> Any:
        if self.down and callable(getattr(self._client, name)):
            raise ConnectionError("no route to registry")
        return getattr(self._client, name)


@dataclass
class Running:
    """A service of the test's own, on the event loop of `during`."""

    settings: ServingSettings
    catalog: Catalog
    registry: Registry
    service: Service = field(init=False)

    def during(self, test: Callable[[Service], Awaitable[None]]) -> None:
        """Run a test on a fresh service: a restart, where there was one before."""

        async def run() -> None:
            edge = create_app(self.settings, self.catalog, self.registry, clock=lambda: NOW)
            try:
                await test(edge.service)
            finally:
                await edge.service.reader.connection.close()

        asyncio.run(run())


@pytest.fixture
def running(settings: ServingSettings, catalog: Catalog, registry: MlflowClient) -> Running:
    return Running(settings, catalog, Registry(registry))


@pytest.fixture
def audit(settings: ServingSettings) -> Audit:
    return Audit(settings.shared.home / "releases.jsonl")


async def predict(service: Service, customers: list[str], **more: Any) -> PredictResponse:
    return await service.predict(SERVICE, PredictRequest(customers=customers, **more), "r1")


async def refresh(service: Service) -> None:
    await asyncio.to_thread(service.champions.refresh)


def test_swaps_under_load_fail_no_request_and_mix_no_versions(
    running: Running, register: Training, registry: MlflowClient
) -> None:
    for seed in (1, 2, 3):
        register(seed=seed, alias="champion" if seed == 1 else None)
    answers: list[PredictResponse] = []
    customers = [f"c{number}" for number in range(20)]

    async def load(service: Service, until: asyncio.Event) -> None:
        while not until.is_set():
            answers.append(await predict(service, customers))

    async def test(service: Service) -> None:
        await refresh(service)
        done = asyncio.Event()
        clients = [asyncio.create_task(load(service, done)) for _ in range(8)]
        for turn in range(9):
            release.promote(SERVICE, turn % 3 + 1, client=registry, why=f"turn {turn}")
            await refresh(service)
            await asyncio.sleep(0.02)
        done.set()
        await asyncio.gather(*clients)

    running.during(test)
    scores: dict[str, set[float]] = {}
    for answer in answers:
        assert {row.version for row in answer.predictions} == {answer.version}
        scores.setdefault(answer.version, set()).update(row.score for row in answer.predictions)
    assert len(answers) > 100
    assert {version: len(found) for version, found in scores.items()} == {"1": 1, "2": 1, "3": 1}
    assert len(set.union(*scores.values())) == 3, "each version has its own score"


def test_the_last_good_line_serves_while_the_registry_is_away_and_after_a_restart(
    running: Running, register: Training, registry: MlflowClient
) -> None:
    register()
    register(seed=2, alias=None)
    register(seed=3, alias=None)
    release.split(SERVICE, 2, 0.5, client=registry)
    release.shadow(SERVICE, 3, client=registry)
    customers = [f"c{number}" for number in range(50)]
    before: list[PredictResponse] = []

    async def up(service: Service) -> None:
        await refresh(service)
        before.append(await predict(service, customers))
        running.registry.down = True
        await refresh(service)
        assert "no route" in str(service.champions.line.registry_error)
        assert (await predict(service, customers)).predictions == before[0].predictions

    running.during(up)

    async def restarted(service: Service) -> None:
        began = time.perf_counter()
        await asyncio.to_thread(service.champions.restore)
        await refresh(service)
        assert time.perf_counter() - began < 5
        line = service.champions.line
        assert {model.alias: model.version for model in line.served()} == {
            "champion": "1", "challenger": "2", "shadow": "3",
        }  # fmt: skip
        assert line.challengers[SERVICE].share == 0.5
        assert (await predict(service, customers)).predictions == before[0].predictions
        assert {row.version for row in before[0].predictions} == {"1", "2"}
        running.registry.down = False
        await refresh(service)
        assert service.champions.line.registry_error is None
        assert service.champions.line.models[SERVICE] is line.models[SERVICE], "loaded once"

    running.during(restarted)


def test_a_damaged_copy_on_disk_is_not_served(
    running: Running, register: Training, settings: ServingSettings
) -> None:
    register()

    async def up(service: Service) -> None:
        await refresh(service)

    running.during(up)
    (kept,) = (settings.shared.home / "models").rglob("model.lgb")
    kept.write_bytes(kept.read_bytes().replace(b"leaf_value=", b"leaf_value=9"))
    running.registry.down = True

    async def restarted(service: Service) -> None:
        await refresh(service)
        line = service.champions.line
        assert line.models == {}
        assert "a copy on local disk" in line.refused[Slot(SERVICE, "champion")].reason
        running.registry.down = False
        await refresh(service)
        assert service.champions.line.models[SERVICE].version == "1"

    running.during(restarted)


def test_a_challenger_that_fails_is_answered_for_and_rolled_back(
    running: Running, register: Training, registry: MlflowClient, audit: Audit
) -> None:
    register()
    register(seed=2, alias=None)
    bounds = Bounds(error_rate=0.05, p99=timedelta(seconds=5))
    release.split(SERVICE, 2, 1.0, bounds, client=registry, audit=audit, who="ana", why="try")

    async def test(service: Service) -> None:
        await refresh(service)
        assert (await predict(service, ["c1"])).predictions[0].version == "2"
        challenger = service.champions.line.challengers[SERVICE].model

        def fail(matrix: Any) -> Any:
            raise ArithmeticError("a broken tree")

        object.__setattr__(challenger, "score", fail)
        running.registry.down = True
        for _ in range(20):
            answer = await predict(service, ["c1", "c2"])
            assert [row.version for row in answer.predictions] == ["1", "1"]
        line = service.champions.line
        assert line.challengers == {}, "here at once, whatever the registry does"
        assert "rolled back: " in line.refused[Slot(SERVICE, CHALLENGER)].reason
        for _ in range(2):
            await refresh(service)
            assert service.champions.line.challengers == {}
        assert CHALLENGER in registry.get_registered_model(SERVICE).aliases

    running.during(test)

    async def restarted(service: Service) -> None:
        await refresh(service)
        assert service.champions.line.models[SERVICE].version == "1"
        assert service.champions.line.challengers == {}, "also after a restart"
        running.registry.down = False
        await refresh(service)
        assert service.champions.line.challengers == {}
        assert CHALLENGER not in registry.get_registered_model(SERVICE).aliases
        # Decided anew, it is tried anew.
        release.split(SERVICE, 2, 0.5, client=registry)
        await refresh(service)
        assert service.champions.line.challengers[SERVICE].model.version == "2"

    running.during(restarted)
    tags = registry.get_model_version(SERVICE, "2").tags
    assert tags["rolled_back_by"] == "serving"
    assert "requests failed" in tags["rolled_back_why"]
    assert [(line.action, line.who, line.from_, line.to) for line in audit.read()] == [
        ("split", "ana", None, "2"),
        ("rollback ordered", "serving", "2", None),
        ("rollback", "serving", "2", None),
    ]


def test_a_challenger_whose_answers_take_long_is_rolled_back(
    running: Running, register: Training, registry: MlflowClient
) -> None:
    register()
    register(seed=2, alias=None)
    bounds = Bounds(error_rate=1.0, p99=timedelta(milliseconds=20))
    release.split(SERVICE, 2, 1.0, bounds, client=registry)

    async def test(service: Service) -> None:
        await refresh(service)
        for _ in range(10):
            await predict(service, ["c1"])
        challenger = service.champions.line.challengers[SERVICE].model
        reader = service.reader.vectors(challenger, service.clock)
        read = reader.read

        async def held(*wanted: Any) -> Any:  # its features are long in coming, its trees are not
            await asyncio.sleep(0.03)
            return await read(*wanted)

        object.__setattr__(reader, "read", lambda *wanted: asyncio.ensure_future(held(*wanted)))
        taken = 0
        while service.champions.line.challengers:
            taken += 1
            # In time or not: a deadline that cuts a slow answer short does not hide it.
            with suppress(TimeoutError):
                async with asyncio.timeout(0.025 if taken % 2 else 1.0):
                    assert (await predict(service, ["c1"])).predictions[0].version == "2"
        assert taken == 3, "more than one of a hundred, of at least 200"
        await refresh(service)
        assert CHALLENGER not in registry.get_registered_model(SERVICE).aliases

    running.during(test)
    assert "longer than 20 ms" in registry.get_model_version(SERVICE, "2").tags["rolled_back_why"]


def test_a_challenger_that_cannot_explain_itself_is_answered_for(
    running: Running, register: Training, registry: MlflowClient
) -> None:
    register()
    register(seed=2, alias=None)
    bounds = Bounds(error_rate=0.01, p99=timedelta(seconds=5))
    release.split(SERVICE, 2, 1.0, bounds, client=registry)

    async def test(service: Service) -> None:
        await refresh(service)
        challenger = service.champions.line.challengers[SERVICE].model
        object.__setattr__(challenger, "explain", lambda matrix, top: 1 / 0)
        assert (await predict(service, ["c1"])).predictions[0].version == "2"
        for _ in range(2):
            (row,) = (await predict(service, ["c1"], explain=2)).predictions
            assert (row.version, len(row.explanation or ())) == ("1", 2)
        assert service.champions.line.challengers == {}

    running.during(test)


def test_a_shadow_scores_what_was_answered_and_is_never_returned(
    running: Running, register: Training, registry: MlflowClient, write: Write
) -> None:
    register()
    register(seed=2, alias=None)
    release.shadow(SERVICE, 2, client=registry)
    for number in range(30):
        write("customer_profile", f"c{number}", {"tenure_days": 40 * number})
    seen: list[ScoredBatch] = []

    async def test(service: Service) -> None:
        await refresh(service)
        shadow = Shadow([seen.append])
        service.observers.append(shadow)
        answers = [await predict(service, [f"c{n}" for n in range(30)]) for _ in range(3)]
        assert {row.version for answer in answers for row in answer.predictions} == {"1"}
        assert seen == []
        while shadow.drain(2):
            pass
        assert (shadow.counts.scored, shadow.counts.dropped) == (90, 0)
        model = service.champions.line.shadows[SERVICE]
        assert [(batch.alias, batch.version) for batch in seen] == [(SHADOW, "2")] * 3
        for batch in seen:
            assert batch.scores == model.score(batch.matrix)[0].tolist()
            assert batch.decisions is None
        assert seen[0].scores != [row.score for row in answers[0].predictions]
        assert len(set(seen[0].scores)) > 5

    running.during(test)


def test_a_full_shadow_drops_and_one_that_fails_harms_nobody(
    running: Running, register: Training, registry: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    register()
    register(seed=2, alias=None)
    release.shadow(SERVICE, 2, client=registry)

    async def test(service: Service) -> None:
        await refresh(service)
        shadow = Shadow(waiting=5)
        service.observers.append(shadow)
        for _ in range(4):
            await predict(service, ["c1", "c2"])
        assert shadow.counts.dropped == 4
        model = service.champions.line.shadows[SERVICE]
        object.__setattr__(model, "score", lambda matrix: 1 / 0)
        while shadow.drain(8):
            pass
        assert (shadow.counts.failed, shadow.counts.scored) == (4, 0)
        await predict(service, ["c1", "c2"])
        assert shadow.counts.dropped == 4, "there is room again"

    running.during(test)
    assert "version 2 fails: " in caplog.text


def test_a_shadow_with_other_inputs_reads_its_own(
    running: Running, register: Training, registry: MlflowClient, catalog: Catalog, write: Write
) -> None:
    register()
    # Without categories: the same features, other numbers.
    register(seed=2, inputs=catalog.service_inputs(SERVICE), alias=None)
    release.shadow(SERVICE, 2, client=registry)
    write("customer_profile", "c1", {"tenure_days": 400, "age_band": "25-34"})
    seen: list[ScoredBatch] = []

    async def test(service: Service) -> None:
        await refresh(service)
        shadow = Shadow([seen.append], shadow_fetch(service.reader, service.clock))
        service.observers.append(shadow)
        shadow.start()
        await predict(service, ["c1"])
        while not seen:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(shadow.stop)

    running.during(test)
    (batch,) = seen
    places = {item.ref: at for at, item in enumerate(batch.served.inputs.inputs)}
    row = batch.matrix[0]
    assert row[places["customer_profile:tenure_days"]] == 400
    assert np.isnan(row[places["customer_profile:age_band"]]), "it has no such category"


def test_a_shadow_with_other_inputs_is_fed_what_a_champion_of_them_is(  # noqa: PLR0917
    running: Running,
    register: Training,
    registry: MlflowClient,
    write: Write,
    happen: Happen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Corridor, counterparty and context of the request reach the shadow."""
    services = running.catalog.services
    wider = (*services[SERVICE], "counterparty_activity:counterparty_payment_submitted_count_24h")
    catalog = replace(running.catalog, services={**services, "wider": wider})
    monkeypatch.setattr("serving.catalog.load_catalog", lambda settings: catalog)
    stored = with_categories(catalog.service_inputs("wider"))
    amount = ModelInput(REQUEST_VIEW, "amount_minor", "Int64")
    inputs = ModelInputs("wider", (*stored.inputs, amount))
    asked: dict[str, Any] = {
        "corridor": "GB-IN",
        "counterparty": "p7",
        "context": Context(amount_minor=700),
    }
    at = timedelta(minutes=2)
    money = {"amount_minor": 500, "fee_minor": 10, "currency": "USD"}
    happen([event("c9", at, EventType.PAYMENT_SUBMITTED, counterparty_id="p7", **money)])
    write("corridor_costs", "GB-IN", {"cost_pct_usd200": 4.5})
    register()
    register(seed=2, inputs=inputs, alias=None)
    release.shadow(SERVICE, 2, client=registry)
    seen: list[ScoredBatch] = []

    async def test(service: Service) -> None:
        await refresh(service)
        shadow = Shadow([seen.append], shadow_fetch(service.reader, service.clock))
        service.observers.append(shadow)
        shadow.start()
        await predict(service, ["c1", "c9"], **asked)
        while not seen:
            await asyncio.sleep(0.01)
        # Champion now, it is fed by the request itself.
        release.promote(SERVICE, 2, client=registry)
        await refresh(service)
        service.observers[:] = [seen.append]
        await predict(service, ["c1", "c9"], **asked)
        await asyncio.to_thread(shadow.stop)

    running.during(test)
    shadowed, answered = seen
    assert (shadowed.alias, answered.alias, answered.version) == (SHADOW, "champion", "2")
    np.testing.assert_array_equal(shadowed.matrix, answered.matrix)
    assert shadowed.scores == answered.scores
    row = dict(zip((item.ref for item in inputs.inputs), shadowed.matrix[0], strict=True))
    assert row["corridor_costs:cost_pct_usd200"] == 4.5
    assert row["request:amount_minor"] == 700
    assert row[wider[-1]] == 1, "the counterparty's features are its own"


def test_an_explanation_names_inputs_values_and_parts_that_add_up(
    running: Running, register: Training, write: Write
) -> None:
    register()
    write("customer_profile", "c1", {"tenure_days": 400})

    async def test(service: Service) -> None:
        await refresh(service)
        (row,) = (await predict(service, ["c1"], explain=3)).predictions
        explanation = row.explanation
        assert explanation is not None
        assert len(explanation) == 3
        weights = [abs(part.contribution) for part in explanation]
        assert weights == sorted(weights, reverse=True)
        by_name = {part.name: part.value for part in explanation}
        assert by_name["customer_profile:tenure_days"] == 400
        assert by_name["corridor_costs:cost_pct_usd200"] is None
        model = service.champions.get(SERVICE)
        matrix = np.full((1, model.inputs.width), np.nan)
        (parts,) = model.explain(matrix, model.inputs.width)
        assert isinstance(model.scorer, Trees)
        mean = model.scorer.booster.predict(matrix, pred_contrib=True)[0, -1]
        total = mean + sum(weight for _, _, weight in parts)
        assert total == pytest.approx(model.score(matrix)[0][0])

    running.during(test)
