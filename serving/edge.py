"""The outermost ASGI application: guards every request, answers the hot routes itself.

`POST /v1/predict/{model}` and `POST /v1/features` go from bytes to bytes here, without a framework;
everything else goes on to the Litestar application, whose routes of the same names document these
two. Every request passes, in this order: auth, the overload gate, its deadline, its handler, and
is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import msgspec

from serving.auth import TokenGuard
from serving.deadlines import HEADER, DeadlineError, Deadlines, Ticket
from serving.messages import (
    MAX_BODY_BYTES,
    FeaturesRequest,
    PredictRequest,
    customers_of,
    read_message,
)
from serving.overload import Gate
from serving.predict import Service
from serving.problems import MEDIA_TYPE, new_request_id, problem_of, too_large

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]

PREDICT_ROUTE = "/v1/predict/{model}"
FEATURES_ROUTE = "/v1/features"
_PREDICT = "/v1/predict/"
_JSON = b"application/json"
_PROBLEM = MEDIA_TYPE.encode()
_CLOSE = (b"connection", b"close")
# Probes and scrapes must be answered under any load, and a stream lasts as long as its reader.
_UNBOUNDED = ("/health/", "/metrics", "/v1/stream/")
_encode = msgspec.json.Encoder().encode


class Edge:
    """The application as the server runs it.

    Attributes:
        inner: the application of all other routes.
        service: answers the hot ones.
        auth, gate, deadlines: what every request passes.

    A server may hand hot requests to `hot` without ASGI (`serving/hot_protocol.py`).
    """

    def __init__(
        self, inner: Any, service: Service, auth: TokenGuard, gate: Gate, deadlines: Deadlines
    ) -> None:
        self.inner = inner
        self.service = service
        self.auth = auth
        self.gate = gate
        self.deadlines = deadlines

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (or pass on the start, the stop, a socket)."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        path: str = scope["path"]
        deadline = authorization = None
        for name, value in scope["headers"]:
            if name == HEADER:
                deadline = value
            elif name == b"authorization":
                authorization = value
        if scope["method"] == "POST" and _is_hot(path):
            model = path[len(_PREDICT) :] if path != FEATURES_ROUTE else None
            answer = await self.hot(model, receive, authorization, deadline)
            await _send_whole(send, answer)
            return
        await self._pass_on(scope, receive, send, authorization, deadline)

    async def hot(
        self,
        model: str | None,
        body: bytes | Receive,
        authorization: bytes | None,
        deadline: bytes | None,
    ) -> Answer:
        """Answer a hot request, whichever way it came; every error becomes an answer.

        Args:
            model: whose predictions are asked for; None: features are.
            body: of the request, or how to receive it.
            authorization, deadline: the headers, as they came.
        """
        started = perf_counter()
        identity = new_request_id()
        gate, ticket = self.gate, None
        entered, customers = False, 0
        try:
            self.auth.check(FEATURES_ROUTE if model is None else _PREDICT, authorization)
            gate.enter()
            entered = True
            ticket = self.deadlines.start(deadline)
            if not isinstance(body, bytes):
                body = await _body(body)
            elif len(body) > MAX_BODY_BYTES:
                raise too_large(MAX_BODY_BYTES)
            if model is None:
                features = read_message(body, FeaturesRequest)
                number = len(customers_of(features))
                gate.take(number)
                customers = number
                found: Any = await self.service.features(features, identity)
            else:
                predict = read_message(body, PredictRequest)
                number = len(customers_of(predict))
                gate.take(number)
                customers = number
                found = await self.service.predict(model, predict, identity)
            answer = _encoded(200, _encode(found), _JSON, identity)
        except asyncio.CancelledError:
            if ticket is None or not ticket.expired:
                raise
            answer = _late(self.deadlines, ticket, identity)
        except Exception as error:
            answer = _refusal(error, identity)
        finally:
            if ticket is not None:
                self.deadlines.end(ticket)
            if entered:
                gate.leave(customers)
        if gate.draining:
            answer[2].append(_CLOSE)
        route = FEATURES_ROUTE if model is None else PREDICT_ROUTE
        self.service.metrics.record(route, answer[0], perf_counter() - started)
        return answer

    async def _pass_on(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        authorization: bytes | None,
        deadline: bytes | None,
    ) -> None:
        """Have the inner application answer; its hooks count, unless a guard refuses."""
        started = perf_counter()
        identity = new_request_id()
        scope.setdefault("state", {})["request_id"] = identity
        sending = _Sending(send, self.gate)
        try:
            await self._guarded(scope, receive, sending, authorization, deadline)
        except Exception as error:
            if sending.begun:
                raise  # half an answer: the connection ends
            answer = _refusal(error, identity)
            if self.gate.draining:
                answer[2].append(_CLOSE)
            await _send_whole(send, answer)
            self.service.metrics.record("unknown", answer[0], perf_counter() - started)

    async def _guarded(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        authorization: bytes | None,
        deadline: bytes | None,
    ) -> None:
        path: str = scope["path"]
        self.auth.check(path, authorization)
        if path.startswith(_UNBOUNDED):
            await self.inner(scope, receive, send)
            return
        self.gate.enter()
        ticket = None
        try:
            ticket = self.deadlines.start(deadline)
            await self.inner(scope, receive, send)
        except asyncio.CancelledError:
            if ticket is not None:
                self.deadlines.raise_if_late(ticket)
            raise
        finally:
            if ticket is not None:
                self.deadlines.end(ticket)
            self.gate.leave()


class _Sending:
    """Sends an answer of the inner application, and knows whether it has begun."""

    __slots__ = ("_gate", "_send", "begun")

    def __init__(self, send: Send, gate: Gate) -> None:
        self._send = send
        self._gate = gate
        self.begun = False

    async def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            if self._gate.draining:
                message["headers"] = [*message["headers"], _CLOSE]
        await self._send(message)


def _is_hot(path: str) -> bool:
    return path == FEATURES_ROUTE or (
        path.startswith(_PREDICT) and "/" not in path[len(_PREDICT) :] and len(path) > len(_PREDICT)
    )


def _late(deadlines: Deadlines, ticket: Ticket, identity: str) -> Answer:
    try:
        deadlines.raise_if_late(ticket)
    except DeadlineError as error:
        return _refusal(error, identity)
    raise asyncio.CancelledError


async def _send_whole(send: Send, answer: Answer) -> None:
    status, body, headers = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _refusal(error: Exception, identity: str) -> Answer:
    problem, more = problem_of(error, identity)
    status, body, headers = _encoded(problem.status, _encode(problem), _PROBLEM, identity)
    headers += [(name.lower().encode(), value.encode()) for name, value in more.items()]
    return status, body, headers


def _encoded(status: int, body: bytes, kind: bytes, identity: str) -> Answer:
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", identity.encode()),
    ]
    return status, body, headers


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    parts = [body]
    length = len(body)
    while message.get("more_body", False) and length <= MAX_BODY_BYTES:
        message = await receive()
        part = message.get("body", b"")
        length += len(part)
        parts.append(part)
    if length > MAX_BODY_BYTES:
        raise too_large(MAX_BODY_BYTES)
    return body if len(parts) == 1 else b"".join(parts)
