"""JSON over HTTP to the stack's own servers: no proxy, no retries."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlsplit

from feature_repo.contracts.credentials import without_credentials


class NoAnswerError(Exception):
    """Nothing that speaks HTTP and JSON answers there."""


def exchange(
    method: str,
    url: str,
    body: object | None = None,
    timeout_s: float = 30.0,
    *,
    token: str | None = None,
) -> tuple[int, Any]:
    """One request; the status and the decoded answer, whatever the status.

    `token`: the bearer token of a server that asks for one; else a user and password in the URL are
    sent.

    Raises:
        NoAnswerError: no connection, no answer in time, or an answer that is no JSON.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection = connect(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request(
                method,
                target or "/",
                None if body is None else json.dumps(body),
                headers,
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswerError(without_credentials(f"{url}: {error}")) from error
