"""The API's description: complete, free of the internet, and right when pasted."""

from __future__ import annotations

import html
import json
import re
import shlex

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from feature_repo.contracts.settings import ROOT
from serving.openapi import example_model, with_examples
from serving.settings import ServingSettings
from tests.serving.conftest import wait_until
from tests.serving.embedded import embed_two

pytestmark = pytest.mark.xdist_group("serving")

Api = TestClient[Litestar]
PAGES = {"/", "/schema"}


@pytest.fixture(scope="module", autouse=True)
def embedded(settings: ServingSettings, api: Api) -> None:
    """The customer of the examples has a neighbour."""
    embed_two(settings.shared)
    wait_until(lambda: api.get("/v1/similar/c1").status_code == 200)


def paste(api: Api, command: str) -> int:
    """Do what a `curl` line says; its status."""
    words = shlex.split(command)
    assert words[0] == "curl"
    (url,) = [word for word in words if word.startswith("http")]
    path = re.sub(r"^https?://[^/]+", "", url)
    if "-d" in words:
        return api.post(path, content=words[words.index("-d") + 1]).status_code
    return api.get(path).status_code


def test_the_document_states_bodies_answers_and_problems(api: Api) -> None:
    document = json.loads(api.get("/schema/openapi.json").content)
    assert set(document["paths"]) >= {
        "/v1/predict/{model}",
        "/v1/features",
        "/v1/events",
        "/v1/profile/{customer}",
        "/v1/similar/{customer}",
        "/v1/policy",
        "/v1/models",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    operation = document["paths"]["/v1/predict/{model}"]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == {
        "customers",
        "customer",
        "corridor",
        "counterparty",
        "context",
        "explain",
        "as_of",
    }
    assert "$ref" not in json.dumps(body["schema"]), "what it refers to would not be found"
    assert body["example"] == {"customers": ["c1", "c2"]}
    assert set(operation["responses"]) >= {"200", "400", "401", "404", "413", "429", "503", "504"}
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    name = answer["$ref"].rpartition("/")[2]
    assert "predictions" in document["components"]["schemas"][name]["properties"]
    assert api.get("/schema/openapi.yaml").status_code == 200


def test_the_page_lists_every_route_with_a_call_that_works(api: Api) -> None:
    answer = api.get("/schema")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href)=.?(https?:)?//", answer.text), "nothing from elsewhere"
    calls = re.findall(r"<pre><code>(.*?)</code></pre>", answer.text)
    assert len(calls) == len(json.loads(api.get("/schema/openapi.json").content)["paths"])
    for call in map(html.unescape, calls):
        if " -sN " not in call:  # a stream has no end to wait for
            assert paste(api, call) == 200, call


def test_examples_name_a_model_that_serves() -> None:
    document = {
        "paths": {
            "/v1/predict/{model}": {"post": {"parameters": [{"name": "model", "in": "path"}]}},
            "/v1/features": {
                "post": {
                    "requestBody": {
                        "content": {"application/json": {"example": {"feature_service": "old"}}}
                    }
                }
            },
        }
    }
    found = with_examples(document, "churn", "churn_inputs")["paths"]
    assert found["/v1/predict/{model}"]["post"]["parameters"][0]["example"] == "churn"
    body = found["/v1/features"]["post"]["requestBody"]["content"]["application/json"]
    assert body["example"]["feature_service"] == "churn_inputs"
    assert "churn" not in json.dumps(document), "the document itself is shared"
    assert example_model({}) == ("session_duration", "session_duration")


def test_the_root_leads_to_the_page(api: Api) -> None:
    answer = api.get("/", follow_redirects=False)
    assert answer.headers["location"] == "/schema"


def test_the_calls_in_the_documentation_work(api: Api) -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```(?:\n+`HTTP (\d+)`)?", text, flags=re.DOTALL)
    calls = [(block.strip(), int(status or 200)) for block, status in blocks if "curl" in block]
    assert len(calls) >= 7
    for call, status in calls:
        assert paste(api, call) == status, call
