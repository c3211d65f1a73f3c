"""Whatever fits the OpenAPI document, and whatever does not: never a 5xx.

Requests are made by Schemathesis from the document that the API itself gives: right ones, wrong
ones, and the edges between them.
"""

from __future__ import annotations

from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from litestar import Litestar
from litestar.testing import TestClient
from schemathesis import GenerationMode

pytestmark = pytest.mark.xdist_group("serving")

EXAMPLES = 40  # of each kind and route
# What keeps the connection open for as long as somebody listens has no answer to judge.
ENDLESS = "/v1/stream/"
_settings = hypothesis.settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def operations(document: dict[str, Any]) -> list[Any]:
    found: list[Any] = list(schemathesis.openapi.from_dict(document).get_all_operations())
    every = [operation.ok() for operation in found]
    return [operation for operation in every if not operation.path.startswith(ENDLESS)]


# The API's threads live in this process: one that draws from `random` (a retry's jitter) while a
# case is made looks to Hypothesis like a strategy that does.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_a_server_error(api: TestClient[Litestar], mode: GenerationMode) -> None:
    document = api.get("/schema/openapi.json").json()
    asked = set()
    statuses: dict[int, int] = {}
    for operation in operations(document):

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @_settings
        def ask(case: Any) -> None:
            sent = case.as_transport_kwargs(base_url="http://testserver.local")
            sent["headers"]["X-Deadline-Ms"] = "60000"  # the machine is shared
            answer = api.request(**{name: sent[name] for name in _KNOWN & set(sent)})
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (sent, answer.text)
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["detail"]

        try:
            ask()
        except hypothesis.errors.Unsatisfiable:
            continue  # a route without a body or a parameter: nothing about it can be wrong
        asked.add((operation.method.upper(), operation.path))
    assert ("POST", "/v1/events") in asked
    assert ("POST", "/v1/predict/{model}") in asked
    assert sum(statuses.values()) > 3 * EXAMPLES // 2
    if mode is GenerationMode.POSITIVE:
        assert ("GET", "/v1/profile/{customer}") in asked
        assert statuses.get(200, 0) > EXAMPLES
    else:
        assert statuses.get(400, 0) > EXAMPLES // 2


_KNOWN = {"method", "url", "headers", "params", "json", "content", "data", "files"}
