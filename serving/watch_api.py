"""The route that watches the stream scorer."""

from __future__ import annotations

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream

from serving.openapi import problem_answers
from serving.predict import Service
from serving.watch import Watchers


def watch_routes(service: Service, watchers: Watchers) -> list[HTTPRouteHandler]:
    """The handler, answering with these."""

    @get(
        "/v1/stream/{model:str}",
        media_type="text/event-stream",
        responses=problem_answers(401, 404, 429),
    )
    async def stream(model: FromPath[str]) -> Stream:
        """Watch the predictions of daima score-stream as server-sent events, from now on.

        Each is an event `prediction` whose data is JSON. Who reads too slowly is let go with an
        event `dropped`. `curl -N http://127.0.0.1:8000/v1/stream/session_duration` shows it.
        """
        service.champions.line.get(model)  # says which models there are
        watchers.check_room()
        return Stream(
            watchers.watch(model),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return [stream]
