"""The short way of hot requests: whatever pieces they come in, they are answered as HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import pytest
import uvicorn

from serving.hot_protocol import HotProtocol
from serving.messages import MAX_BODY_BYTES
from tests.conftest import free_port
from tests.serving.conftest import wait_until

PREDICT = "/v1/predict/model-1"


class Echo:
    """Answers hot requests with what it was given, all others as an ASGI application."""

    def __init__(self) -> None:
        self.through_asgi: list[str] = []
        self.draining = False

    async def hot(
        self, model: str | None, body: bytes, authorization: bytes | None, deadline: bytes | None
    ) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        if body.startswith(b"wait"):
            await asyncio.sleep(0.05)
        found = {"model": model, "length": len(body), "body": body[:20].decode()}
        found |= {"token": str(authorization), "deadline": str(deadline)}
        status = 413 if len(body) > MAX_BODY_BYTES else 200
        answer = json.dumps(found).encode()
        headers = [(b"content-length", b"%d" % len(answer)), (b"x-request-id", b"7")]
        if self.draining:
            headers.append((b"connection", b"close"))
        return status, answer, headers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.through_asgi.append(scope["path"])
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = json.dumps({"asgi": scope["path"], "length": len(body)}).encode()
        length = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": answer})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def port(echo: Echo) -> Iterator[int]:
    port = free_port()
    config = uvicorn.Config(
        echo,
        port=port,
        http=cast("type[asyncio.Protocol]", partial(HotProtocol, cast(Any, echo))),
        lifespan="off",
        log_config=None,
        timeout_keep_alive=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield port
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


def request(path: str, body: bytes, *headers: str, method: str = "POST") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


class Client:
    """One connection; reads answers one after the other."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self.socket.makefile("rb")

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        body = self._file.read(int(headers["content-length"]))
        return status, headers, json.loads(body) if body.startswith(b"{") else body

    def is_closed(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    made = Client(port)
    yield made
    made.close()


def test_hot_requests_go_past_asgi_and_keep_the_connection(client: Client, echo: Echo) -> None:
    for number in range(5):
        body = b"b" * number
        client.send(request(PREDICT, body, "Authorization: Bearer t", "X-Deadline-Ms: 250"))
        status, headers, found = client.answer()
        assert (status, found["model"], found["length"]) == (200, "model-1", number)
        assert (found["token"], found["deadline"]) == ("b'Bearer t'", "b'250'")
        assert headers["x-request-id"] == "7"
        assert "date" in headers
        assert "connection" not in headers
    client.send(request("/v1/features", b"{}"))
    assert client.answer()[2]["model"] is None
    assert echo.through_asgi == []


def test_a_request_may_come_byte_by_byte(client: Client) -> None:
    raw = request(PREDICT, b"a body")
    for at in range(len(raw)):
        client.send(raw[at : at + 1])
    assert client.answer()[2]["body"] == "a body"


def test_a_body_may_come_in_chunks(client: Client) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(head.encode() + b"3\r\nabc\r\n")
    client.send(b"2\r\nde\r\n0\r\n\r\n")
    assert client.answer()[2]["body"] == "abcde"


def test_pipelined_requests_are_answered_in_order(client: Client, echo: Echo) -> None:
    client.send(
        request(PREDICT, b"wait 1")
        + request("/v1/models", b"", method="GET")
        + request(PREDICT, b"wait 2")
        + request("/v1/features", b"3")
    )
    found = [client.answer()[2] for _ in range(4)]
    assert [each.get("body", each.get("asgi")) for each in found] == [
        "wait 1", "/v1/models", None, None,
    ] or [each.get("body", each.get("asgi")) for each in found] == [
        "wait 1", "/v1/models", PREDICT, "/v1/features",
    ]  # fmt: skip
    assert echo.through_asgi[0] == "/v1/models"
    client.send(request(PREDICT, b"4"))
    assert client.answer()[2]["body"] == "4"


def test_all_others_go_through_asgi(client: Client, echo: Echo) -> None:
    for method, path in (
        ("GET", PREDICT),
        ("POST", "/v1/predict/"),
        ("POST", "/v1/predict/a/b"),
        ("POST", "/v1/predict/a%2Fb"),
        ("POST", "/v1/predict/a?x=1"),
        ("POST", "/v1/features/"),
        ("POST", "/v1/featuresx"),
        ("GET", "/health/live"),
    ):
        client.send(request(path, b"", method=method))
        assert "asgi" in client.answer()[2], path
    assert len(echo.through_asgi) == 8
    client.send(request(PREDICT, b"x"))
    assert client.answer()[2]["model"] == "model-1"


def test_a_client_that_expects_100_continue_gets_it(client: Client) -> None:
    raw = request(PREDICT, b"body", "Expect: 100-continue")
    client.send(raw[:-4])
    assert client.socket.recv(100).startswith(b"HTTP/1.1 100")
    client.send(raw[-4:])
    assert client.answer()[2]["length"] == 4


def test_a_client_that_asks_to_close_is_closed(client: Client) -> None:
    client.send(request(PREDICT, b"x", "Connection: close"))
    _, headers, _ = client.answer()
    assert headers["connection"] == "close"
    assert client.is_closed()


def test_a_server_that_drains_closes(client: Client, echo: Echo) -> None:
    echo.draining = True
    client.send(request(PREDICT, b"x"))
    _, headers, _ = client.answer()
    assert headers["connection"] == "close"
    assert client.is_closed()


def test_http_1_0_goes_through_asgi(client: Client, echo: Echo) -> None:
    client.send(f"POST {PREDICT} HTTP/1.0\r\nContent-Length: 1\r\n\r\nx".encode())
    assert client.answer()[0] == 200
    assert echo.through_asgi == [PREDICT]
    assert client.is_closed()


def test_a_body_that_is_too_long_is_not_kept(client: Client) -> None:
    client.send(request(PREDICT, b"x" * (3 * MAX_BODY_BYTES)))
    status, _, found = client.answer()
    assert status == 413
    assert MAX_BODY_BYTES < found["length"] < 2 * MAX_BODY_BYTES
    client.send(request(PREDICT, b"y"))
    assert client.answer()[0] == 200


def test_what_is_no_http_is_refused(client: Client) -> None:
    client.send(b"nonsense\r\n\r\n")
    assert client.answer()[0] == 400
    assert client.is_closed()


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(port: int) -> None:
    idle, busy = Client(port), Client(port)
    for each in (idle, busy):
        each.send(request(PREDICT, b"x"))
        each.answer()
    for _ in range(8):
        threading.Event().wait(0.2)
        busy.send(request(PREDICT, b"x"))
        busy.answer()
    assert idle.is_closed()
    busy.send(request(PREDICT, b"x"))
    assert busy.answer()[0] == 200
    assert busy.is_closed(), "in the end"
    idle.close()
    busy.close()


def test_a_client_that_leaves_harms_nobody(port: int) -> None:
    gone = Client(port)
    gone.send(request(PREDICT, b"wait"))
    gone.close()
    other = Client(port)
    other.send(request(PREDICT, b"wait"))
    assert other.answer()[0] == 200
    other.close()
