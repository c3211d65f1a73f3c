"""Watching predictions: several at a time, from now on; who is too slow is let go and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import redis
import uvicorn

from serving.app import create_app
from serving.catalog import Catalog
from serving.overload import OverloadError
from serving.score_log import ROOT, stream_key
from serving.settings import ServingSettings
from serving.watch import Watchers
from tests.conftest import free_port
from tests.serving.conftest import SERVICE, Training

MODEL = "risk"


@pytest.fixture
def client(client: redis.Redis[bytes]) -> redis.Redis[bytes]:
    """A connection to a Valkey where the model's predictions have two streams."""
    client.hset(ROOT, MODEL, 2)
    return client


def add(client: Any, number: int, shard: int = 0) -> None:
    client.xadd(stream_key(MODEL, shard), {"prediction": f'{{"n":{number}}}'})


def watching(valkey: str, go: Callable[[Watchers], Awaitable[None]], **options: Any) -> Watchers:
    """Run something with watchers of the store."""

    async def run() -> Watchers:
        watchers = Watchers(valkey, **options)
        try:
            await asyncio.wait_for(go(watchers), 30)
        finally:
            await watchers.close()
        return watchers

    return asyncio.run(run())


async def begun(watchers: Watchers, client: Any) -> AsyncIterator[bytes]:
    """A watcher that has seen something."""
    events = watchers.watch(MODEL)
    await anext(events)
    seen = b""
    while b"event: prediction" not in seen:
        next_one = asyncio.ensure_future(_next(events))
        while not next_one.done():
            add(client, -1, shard=1)
            await asyncio.wait({next_one}, timeout=0.1)
        seen = next_one.result()
    return events


async def _next(events: AsyncIterator[bytes]) -> bytes:
    return await anext(events)


async def numbers(events: AsyncIterator[bytes], count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        text = (await anext(events)).decode()
        if '"n":' in text and '"n":-1' not in text:
            found.append(int(text.split('"n":')[1].split("}")[0]))
    return found


def test_several_see_the_same_from_now_on(client: Any, valkey: str) -> None:
    add(client, 0)  # before anybody watches

    async def go(watchers: Watchers) -> None:
        several = [await begun(watchers, client) for _ in range(3)]
        assert watchers.count == 3
        for number in range(1, 6):
            add(client, number)
        for events in several:
            assert await numbers(events, 5) == [1, 2, 3, 4, 5]
        for events in several:
            await events.aclose()  # type: ignore[attr-defined]
        assert watchers.count == 0

    watching(valkey, go)


def test_an_event_is_a_whole_server_sent_event(client: Any, valkey: str) -> None:
    async def go(watchers: Watchers) -> None:
        events = await begun(watchers, client)
        add(client, 7)
        text = b""
        while b'"n":7' not in text:
            text = await anext(events)
        head, kind, data, *end = text.split(b"\n")
        assert head.startswith(b"id: 0/")
        assert (kind, data, end) == (b"event: prediction", b'data: {"n":7}', [b"", b""])

    watching(valkey, go)


def test_who_does_not_read_is_let_go_and_counted_and_the_others_go_on(
    client: Any, valkey: str
) -> None:
    async def go(watchers: Watchers) -> None:
        slow, quick = await begun(watchers, client), await begun(watchers, client)
        for start in range(0, 60, 10):
            for number in range(start, start + 10):
                add(client, number)
            assert await numbers(quick, 10) == list(range(start, start + 10))
        assert watchers.count == 1
        assert b"event: dropped" in [part async for part in slow][-1]

    assert watching(valkey, go, queued=20).dropped == 1


def test_there_is_no_room_for_more_than_declared(client: Any, valkey: str) -> None:
    async def go(watchers: Watchers) -> None:
        await begun(watchers, client)
        with pytest.raises(OverloadError):
            watchers.check_room()

    watching(valkey, go, most=1)


def test_streams_end_when_the_server_does(client: Any, valkey: str) -> None:
    ending: list[bool] = []

    async def go(watchers: Watchers) -> None:
        events = await begun(watchers, client)
        ending.append(True)
        assert [part async for part in events if b"dropped" in part] == []

    watching(valkey, go, ending=lambda: bool(ending))


@pytest.mark.xdist_group("serving")
def test_the_route_streams_with_the_right_headers_and_knows_its_models(
    client: Any, settings: ServingSettings, catalog: Catalog, register: Training
) -> None:
    register()
    registry = register.registry

    async def go() -> None:
        app = create_app(settings, catalog, registry)
        config = uvicorn.Config(app, port=free_port(), log_level="error", lifespan="on")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        url = f"http://127.0.0.1:{config.port}"
        async with httpx.AsyncClient(base_url=url, timeout=20) as http:
            while not server.started:
                await asyncio.sleep(0.02)
            while (await http.get("/health/ready")).status_code != 200:
                await asyncio.sleep(0.05)
            unknown = await http.get("/v1/stream/nothing")
            assert (unknown.status_code, SERVICE in unknown.json()["detail"]) == (404, True)
            async with http.stream("GET", f"/v1/stream/{SERVICE}") as answer:
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith("text/event-stream")
                lines = answer.aiter_lines()
                assert await anext(lines) == "retry: 2000"
                next_one = asyncio.ensure_future(_data(lines))
                while not next_one.done():
                    client.xadd(stream_key(SERVICE, 0), {"prediction": '{"n":5}'})
                    await asyncio.wait({next_one}, timeout=0.1)
                assert next_one.result() == 'data: {"n":5}'
        server.should_exit = True
        await serving

    asyncio.run(asyncio.wait_for(go(), 60))


async def _data(lines: AsyncIterator[str]) -> str:
    while not (line := await anext(lines)).startswith("data:"):
        pass
    return line
