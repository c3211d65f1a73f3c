"""Errors as answers: RFC 9457 problem documents that say what to send instead."""

from __future__ import annotations

import logging
from random import getrandbits
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Scope

from feature_repo.contracts.errors import DaimaError, StoreUnavailableError
from serving.auth import UnauthorizedError
from serving.catalog import UnknownFeatureError
from serving.deadlines import DeadlineError, HeaderError
from serving.overload import RETRY_AFTER_S, OverloadError
from serving.routing import UnknownModelError
from serving.similar_index import NoIndexError, NoVectorError
from streaming.log.errors import DeliveryError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class RequestError(DaimaError):
    """A request's body does not say what it should; `example` is one that does."""

    def __init__(
        self,
        field: str,
        value: object = ...,
        expected: str = "",
        action: str = "",
        example: Any = None,
    ) -> None:
        super().__init__(field, value, expected, action)
        self.example = example


class BodyTooLargeError(RequestError):
    """A body is longer than any that this API understands."""


class ParameterError(RequestError):
    """A parameter behind the path's question mark is not what it can be."""


def too_large(limit_bytes: int) -> BodyTooLargeError:
    """The error of a body longer than the limit."""
    return BodyTooLargeError(
        "body",
        expected=f"at most {limit_bytes} bytes",
        action="send fewer customers in each request",
    )


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What went wrong, and what to do about it.

    Attributes:
        title: the kind of problem.
        status: HTTP status.
        detail: field, value, what was expected and the next action, for a person.
        request_id: names this request in the logs.
        retry_after_s: seconds after which the same request may succeed.
        example: a body that would be right.
        routes: the routes there are, for a path that is none.
        dead_letters: what is wrong with each event, where none could be taken.
    """

    title: str
    status: int
    detail: str
    request_id: str
    retry_after_s: int | None = None
    example: Any = None
    routes: list[str] | None = None
    dead_letters: list[Any] | None = None


_TITLES: dict[type[DaimaError], tuple[int, str]] = {
    UnauthorizedError: (401, "Who are you?"),
    BodyTooLargeError: (413, "Request Entity Too Large"),
    NoVectorError: (404, "Nobody knows what this customer is like"),
    NoIndexError: (409, "Nearest customers cannot be searched yet"),
    ParameterError: (422, "A parameter is not right"),
    OverloadError: (429, "Too much at a time"),
    StoreUnavailableError: (503, "The online store does not answer"),
    DeliveryError: (503, "The event log does not answer"),
    DeadlineError: (504, "Not done in time"),
}
_HEADERS: dict[int, dict[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": str(RETRY_AFTER_S)},
    503: {"Retry-After": str(RETRY_AFTER_S)},
}


def request_id(scope: Scope) -> str:
    """The id of the request in hand, made up at the first asking."""
    state: dict[str, Any] = scope["state"]
    found: str | None = state.get("request_id")
    if found is None:
        found = state["request_id"] = new_request_id()
    return found


def new_request_id() -> str:
    """An id that no other request has: 16 hexadecimal digits."""
    return f"{getrandbits(64):016x}"


def _answer(
    request: Request[Any, Any, Any], problem: Problem, headers: dict[str, str] | None = None
) -> Response[Problem]:
    return Response(
        problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers or {}
    )


def problem_of(error: Exception, identity: str) -> tuple[Problem, dict[str, str]]:
    """What to answer to a request that failed, and the headers beside it.

    Unexpected errors are logged here; of what they say nothing is repeated, it may be a secret.
    """
    if not isinstance(error, DaimaError):
        log.error("request %s failed", identity, exc_info=error)
        detail = f"{type(error).__name__}; the server's log has it under {identity}"
        return Problem(title="Internal error", status=500, detail=detail, request_id=identity), {}
    status, title = _kind_of(error)
    if status == 500:
        log.error("request %s failed: %s", identity, error)
    headers = _HEADERS.get(status, {})
    return Problem(
        title=title,
        status=status,
        detail=str(error),
        request_id=identity,
        retry_after_s=RETRY_AFTER_S if "Retry-After" in headers else None,
        example=getattr(error, "example", None),
        dead_letters=getattr(error, "dead_letters", None),
    ), headers


def _kind_of(error: DaimaError) -> tuple[int, str]:
    """Status and title."""
    for kind, found in _TITLES.items():
        if isinstance(error, kind):
            return found
    if isinstance(error, UnknownModelError):
        return 404, "No such model serves"
    if isinstance(error, RequestError | UnknownFeatureError | HeaderError):
        return 400, "The request is not right"
    return 500, "The server is not in order"


def answer_to(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The answer to a request that failed."""
    problem, headers = problem_of(error, request_id(request.scope))
    return _answer(request, problem, headers)


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Errors of the framework: no such path, wrong method, body too large."""
    problem = Problem(
        title=error.detail or "Error",
        status=error.status_code,
        detail=f"{request.method} {request.url.path}: {error.detail}",
        request_id=request_id(request.scope),
    )
    if error.status_code in {404, 405}:
        problem.routes = sorted(
            f"{method} {route.path}"
            for route in request.app.routes
            for method in getattr(route, "methods", ())
            if method not in {"OPTIONS", "HEAD"}
        )
        problem.detail += "; see routes, or GET /schema"
    elif error.status_code == 413:
        problem.detail += "; send fewer customers in each request"
    elif error.status_code >= 500:
        log.error("request %s failed", problem.request_id, exc_info=error)
    return _answer(request, problem, error.headers)


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    DaimaError: answer_to,
    HTTPException: _http_error,
    Exception: answer_to,
}
