"""The routes about customers' events and profiles, and about what decides."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, RawBody

from feature_repo.contracts.events import Event
from serving.ingest import EXAMPLE, MAX_EVENTS, EventIntake, EventsResponse
from serving.openapi import operation_with_body, problem_answers, schema_of
from serving.policy_watch import PolicyWatch
from serving.problems import RequestError, request_id
from serving.profile import ProfileResponse, Profiles

AnyRequest = Request[Any, Any, Any]
PROFILE = "/v1/profile/"


class PolicyResponse(msgspec.Struct, kw_only=True):
    """What decides now.

    Attributes:
        fingerprint: of the file that decides; null where no policy does.
        models: the models whose scores it turns into decisions.
        since: when it was read.
        refused: why the file as it stands now is not the one that decides; null if it is.
    """

    fingerprint: str | None
    models: list[str]
    since: datetime | None
    refused: str | None


def _events_schema() -> dict[str, Any]:
    event = schema_of(Event)
    event["additionalProperties"] = False
    several = {"type": "array", "items": event, "minItems": 1, "maxItems": MAX_EVENTS}
    return {"anyOf": [event, several]}


def customer_in(scope: Any, route: str) -> str:
    """The customer's id behind a route's path, as sent: an id may hold a slash, or two in a row.

    The routing has joined and dropped slashes; so the path is read again.

    Raises:
        RequestError: it is no UTF-8.
    """
    raw: bytes = scope["raw_path"].partition(b"?")[0]
    try:
        return unquote(raw[len(route) :].decode(), errors="strict")
    except UnicodeDecodeError as error:
        raise RequestError(
            "customer",
            expected="an id in UTF-8, percent-encoded",
            action="encode it, as %C3%A9 for é",
        ) from error


def customer_routes(
    intake: EventIntake, profiles: Profiles, policies: PolicyWatch
) -> list[HTTPRouteHandler]:
    """The handlers, answering with these."""

    @post(
        "/v1/events",
        status_code=200,
        operation_class=operation_with_body(Event, _events_schema(), EXAMPLE),
        responses=problem_answers(400, 401, 413, 429, 503, 504),
    )
    async def events(body: RawBody, request: AnyRequest) -> EventsResponse:
        """Hand in an event, or a list of up to 1000; answered once the log has them.

        Events that do not fit are dead letters, named in the answer; where none fits, that is 400.
        """
        return await intake.take(body, request_id(request.scope))

    @get(PROFILE + "{customer:path}", responses=problem_answers(400, 401, 429, 503, 504))
    async def profile(customer: FromPath[str], request: AnyRequest) -> ProfileResponse:
        """All that is known of a customer: features, segment, embedding, last predictions."""
        return await profiles.of(customer_in(request.scope, PROFILE), request_id(request.scope))

    @get("/v1/policy", responses=problem_answers(401, 429))
    async def policy() -> PolicyResponse:
        """Which policy turns scores into decisions, and whether its file was refused."""
        current = policies.current
        return PolicyResponse(
            fingerprint=None if current is None else current.fingerprint,
            models=[] if current is None else sorted(current.models),
            since=policies.since,
            refused=policies.error,
        )

    return [events, profile, policy]
