"""What is more than the server takes on is turned away at once; what is late ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient

from serving.app import create_app
from serving.catalog import Catalog
from serving.deadlines import DeadlineError, Deadlines, HeaderError, seconds_of
from serving.edge import Edge
from serving.messages import FeaturesRequest, FeaturesResponse
from serving.overload import CUSTOMERS_A_REQUEST, Gate, OverloadError
from serving.settings import ServingSettings

pytestmark = pytest.mark.xdist_group("serving")

FEATURES = "/v1/features"
BODY = {"features": ["customer_profile:kyc_level"], "customers": ["c1"]}


def test_the_gate_refuses_beyond_its_limit_and_forgets_nobody() -> None:
    gate = Gate(2)
    gate.enter()
    gate.enter()
    with pytest.raises(OverloadError, match="fewer than 2; send the same again in 1 s"):
        gate.enter()
    assert (gate.in_flight, gate.refused) == (2, 1)
    gate.leave()
    gate.enter()
    gate.leave()
    gate.leave()
    assert gate.in_flight == 0


def test_customers_count_but_a_lone_request_is_always_taken() -> None:
    gate = Gate(2)
    most = 2 * CUSTOMERS_A_REQUEST
    gate.enter()
    gate.take(1000)  # alone
    gate.enter()
    with pytest.raises(OverloadError, match=f"at most {most}"):
        gate.take(1)
    gate.leave()
    gate.leave(1000)
    assert (gate.in_flight, gate.customers) == (0, 0)


@pytest.mark.parametrize("header", [b"", b"0", b"60001", b"-5", b"1.5", b"1e3", b"soon", b"9" * 99])
def test_a_deadline_that_is_none_is_refused(header: bytes) -> None:
    with pytest.raises(HeaderError, match=r"X-Deadline-Ms.*1\.\.60000"):
        seconds_of(header)


def test_deadlines_end_what_waits_and_leave_the_rest_alone() -> None:
    async def work(deadlines: Deadlines, header: bytes | None, seconds: float) -> str:
        ticket = deadlines.start(header)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            deadlines.raise_if_late(ticket)
            raise
        finally:
            deadlines.end(ticket)
        return "done"

    async def main() -> tuple[Any, ...]:
        deadlines = Deadlines(timedelta(milliseconds=50))
        cancelled = asyncio.create_task(work(deadlines, b"1000", 30))
        asyncio.get_running_loop().call_later(0.02, cancelled.cancel)
        return await asyncio.gather(
            work(deadlines, None, 30),
            work(deadlines, b"20", 30),
            work(deadlines, None, 0.001),
            work(deadlines, b"5000", 0.1),
            cancelled,
            return_exceptions=True,
        )

    began = monotonic()
    late, sooner, quick, patient, cancelled = asyncio.run(main())
    assert monotonic() - began < 5
    assert isinstance(late, DeadlineError)
    assert "50 ms" in str(late)
    assert isinstance(sooner, DeadlineError)
    assert (quick, patient) == ("done", "done")
    assert isinstance(cancelled, asyncio.CancelledError), "somebody else's doing is no deadline"


class Slow:
    """A service whose store answers when it is told to."""

    def __init__(self, app: Edge) -> None:
        self.may_answer = asyncio.Event()
        self.asked = 0
        self.metrics = app.service.metrics

    async def features(self, message: FeaturesRequest, request_id: str) -> FeaturesResponse:
        self.asked += 1
        await self.may_answer.wait()
        return FeaturesResponse(request_id=request_id, as_of=message.as_of, rows=[])  # type: ignore[arg-type]


def client_of(app: Edge) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.fixture
def edge(settings: ServingSettings, catalog: Catalog, registry: MlflowClient) -> Edge:
    own = replace(settings, in_flight=3, deadline=timedelta(seconds=20))
    return create_app(own, catalog, registry)


def test_requests_beyond_the_limit_get_429_at_once_and_the_others_their_answer(edge: Edge) -> None:
    async def main() -> None:
        slow = Slow(edge)
        edge.service = slow  # type: ignore[assignment]
        async with client_of(edge) as client:
            waiting = [asyncio.create_task(client.post(FEATURES, json=BODY)) for _ in range(3)]
            while slow.asked < 3:
                await asyncio.sleep(0.001)
            for path in (FEATURES, "/v1/events"):
                refused = await client.post(path, json=BODY)
                assert refused.status_code == 429
                assert refused.headers["retry-after"] == "1"
                assert refused.json()["retry_after_s"] == 1
            assert (await client.get("/health/live")).status_code == 200
            metrics = (await client.get("/metrics")).text
            assert "daima_in_flight 3.0" in metrics
            assert "daima_refused_requests_total 2.0" in metrics
            slow.may_answer.set()
            assert {(await answer).status_code for answer in waiting} == {200}
        assert edge.gate.in_flight == 0

    asyncio.run(main())


def test_a_request_past_its_deadline_gets_504_in_time(edge: Edge) -> None:
    async def main() -> None:
        edge.service = Slow(edge)  # type: ignore[assignment]
        async with client_of(edge) as client:
            began = monotonic()
            answer = await client.post(FEATURES, json=BODY, headers={"X-Deadline-Ms": "50"})
            assert monotonic() - began < 2
            assert answer.status_code == 504
            assert "within 50 ms" in answer.json()["detail"]
            bad = await client.post(FEATURES, json=BODY, headers={"X-Deadline-Ms": "soon"})
            assert bad.status_code == 400
        assert edge.gate.in_flight == 0

    asyncio.run(main())


def test_a_body_that_never_comes_ends_at_the_deadline(edge: Edge) -> None:
    async def main() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(30)
            raise AssertionError

        sent = []

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        for path in (FEATURES, "/v1/events"):
            sent.clear()
            scope = {
                "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
                "headers": [(b"x-deadline-ms", b"30"), (b"content-length", b"100")],
                "query_string": b"", "client": None, "server": ("test", 80), "scheme": "http",
                "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0"},
            }  # fmt: skip
            await edge(scope, receive, send)
            assert sent[0]["status"] == 504, path

    asyncio.run(main())


def test_a_draining_server_asks_clients_to_leave(edge: Edge) -> None:
    async def main() -> None:
        async with client_of(edge) as client:
            edge.gate.draining = True
            for path in ("/health/live", "/v1/models"):
                answer = await client.get(path)
                assert answer.status_code == 200
                assert answer.headers["connection"] == "close"
            answer = await client.post(FEATURES, content=b"")
            assert answer.headers["connection"] == "close"
            ready = await client.get("/health/ready")
            assert ready.status_code == 503
            assert "about to end" in str(ready.json()["missing"])
        await edge.service.reader.connection.close()

    asyncio.run(main())
