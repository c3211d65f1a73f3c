"""Errors as answers: RFC 9457 problem documents that say what to send instead."""

from __future__ import annotations

import logging
import secrets
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap, Scope

from feature_repo.contracts.errors import DaimaError, StoreUnavailableError
from serving.catalog import UnknownFeatureError
from serving.champions import UnknownModelError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1


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
    """

    title: str
    status: int
    detail: str
    request_id: str
    retry_after_s: int | None = None
    example: Any = None
    routes: list[str] | None = None


def request_id(scope: Scope) -> str:
    """The id of the request in hand, made up at the first asking."""
    state: dict[str, Any] = scope["state"]
    found: str | None = state.get("request_id")
    if found is None:
        found = state["request_id"] = secrets.token_hex(8)
    return found


def _answer(
    request: Request[Any, Any, Any], problem: Problem, headers: dict[str, str] | None = None
) -> Response[Problem]:
    return Response(
        problem, status_code=problem.status, media_type=MEDIA_TYPE, headers=headers or {}
    )


def _daima_error(request: Request[Any, Any, Any], error: DaimaError) -> Response[Problem]:
    identity = request_id(request.scope)
    if isinstance(error, StoreUnavailableError):
        problem = Problem(
            title="The online store does not answer",
            status=503,
            detail=str(error),
            request_id=identity,
            retry_after_s=RETRY_AFTER_S,
        )
        return _answer(request, problem, {"Retry-After": str(RETRY_AFTER_S)})
    if isinstance(error, UnknownModelError):
        title, status = "No such model serves", 404
    elif isinstance(error, RequestError | UnknownFeatureError):
        title, status = "The request is not right", 400
    else:
        log.error("request %s failed: %s", identity, error)
        title, status = "The server is not in order", 500
    problem = Problem(
        title=title,
        status=status,
        detail=str(error),
        request_id=identity,
        example=getattr(error, "example", None),
    )
    return _answer(request, problem)


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


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    identity = request_id(request.scope)
    log.error("request %s failed", identity, exc_info=error)
    problem = Problem(
        title="Internal error",
        status=500,
        # The exception's text stays in the log: it may repeat a secret.
        detail=f"{type(error).__name__}; the server's log has it under {identity}",
        request_id=identity,
    )
    return _answer(request, problem)


EXCEPTION_HANDLERS: ExceptionHandlersMap = {
    DaimaError: _daima_error,
    HTTPException: _http_error,
    Exception: _unexpected,
}
