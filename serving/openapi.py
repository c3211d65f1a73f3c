"""The API's own description: request bodies in the OpenAPI document, and a page to paste from.

The usual pages (Redoc, Swagger) load their code from the internet; this one does not.
"""

from __future__ import annotations

import copy
import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, Operation, RequestBody, SecurityScheme
from litestar.openapi.spec.base import BaseSchemaObject

from serving.messages import EXAMPLES, FeaturesRequest
from serving.models import ServedModel
from serving.problems import MEDIA_TYPE as PROBLEM_TYPE
from serving.problems import Problem

Document = dict[str, Any]
# A model and the feature service that it takes: those of the examples.
ExampleModel = Callable[[], tuple[str, str]]
_CUSTOMER = "c1"
_EVENT_STREAM = "text/event-stream"
_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
pre{{background:#f4f4f4;padding:.75rem;overflow-x:auto}}
code{{font-size:.9rem}} h2{{margin:2rem 0 .25rem}}
</style></head><body><h1>{title}</h1><p>{description}</p>
<p>The same as a document: <a href="/schema/openapi.json">openapi.json</a>,
<a href="/schema/openapi.yaml">openapi.yaml</a>.</p>
{routes}</body></html>"""


@dataclass
class _Body(BaseSchemaObject):
    """The media type of a JSON body whose schema stands fast."""

    schema: Document
    example: Any

    def to_schema(self) -> Document:
        return {"schema": self.schema, "example": self.example}


def schema_of(kind: type) -> Document:
    """The JSON schema of a message, in one piece: without references to what it is made of.

    Trap: of messages that hold themselves there is none.
    """
    document = msgspec.json.schema(kind)
    parts = document.get("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(item) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return whole(parts[part["$ref"].rpartition("/")[2]])
        return {name: whole(item) for name, item in part.items()}

    found: Document = whole({name: item for name, item in document.items() if name != "$defs"})
    return found


def operation_with_body(
    kind: type, schema: Document | None = None, example: Any = None
) -> type[Operation]:
    """An operation class that documents a body which the handler decodes itself.

    Handlers take raw bytes: Litestar's own decoding coerces (a number becomes an instant) and
    costs a second pass.

    Args:
        kind: the message.
        schema: the body's, where it is not just the message's.
        example: a body that works; that of `EXAMPLES` unless given.
    """
    body = _Body(schema or schema_of(kind), EXAMPLES[kind] if example is None else example)

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            content: Any = {"application/json": body}
            self.request_body = RequestBody(content=content, required=True)

    return WithBody


def problem_answers(*statuses: int) -> dict[int, ResponseSpec]:
    """The answers of a route that are problem documents, for its description."""
    return {
        status: ResponseSpec(Problem, generate_examples=False, media_type=PROBLEM_TYPE)
        for status in statuses
    }


def example_model(models: Mapping[str, ServedModel]) -> tuple[str, str]:
    """A model that serves, and its feature service; without one, those that training makes."""
    for name in sorted(models):
        return name, models[name].inputs.feature_service
    service: str = EXAMPLES[FeaturesRequest]["feature_service"]
    return service, service


def with_examples(document: Document, model: str, feature_service: str) -> Document:
    """The document, its examples naming a model and a feature service that there are."""
    document = copy.deepcopy(document)
    values = {"model": model, "customer": _CUSTOMER}
    for item in document["paths"].values():
        for operation in item.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in values:
                    parameter["example"] = values[parameter["name"]]
            for content in operation.get("requestBody", {}).get("content", {}).values():
                if "feature_service" in content["example"]:
                    content["example"]["feature_service"] = feature_service
    return document


class PasteJson(JsonRenderPlugin):
    """The document as JSON."""

    def __init__(self, example_model: ExampleModel) -> None:
        super().__init__()
        self._example_model = example_model

    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        """The document, with examples of the models that serve now."""
        return super().render(request, with_examples(openapi_schema, *self._example_model()))


class PasteYaml(YamlRenderPlugin):
    """The document as YAML."""

    def __init__(self, example_model: ExampleModel) -> None:
        super().__init__()
        self._example_model = example_model

    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        """The document, with examples of the models that serve now."""
        return super().render(request, with_examples(openapi_schema, *self._example_model()))


class PastePage(OpenAPIRenderPlugin):
    """A plain page of all routes, each with a call to paste into a shell."""

    def __init__(self, example_model: ExampleModel, *, asks_token: bool) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)
        self._example_model = example_model
        self._token = ' -H "Authorization: Bearer $DAIMA_API_TOKEN"' if asks_token else ""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        """The page, with calls to the address that the reader used."""
        base = str(request.base_url).rstrip("/")
        document = with_examples(openapi_schema, *self._example_model())
        routes = [
            _route(base, method, path, operation, self._token)
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method in {"get", "post"}
        ]
        info = document["info"]
        return _PAGE.format(
            title=html.escape(info["title"]),
            description=html.escape(info.get("description", "")),
            routes="\n".join(routes),
        ).encode()


def _route(base: str, method: str, path: str, operation: Document, token: str) -> str:
    examples = {
        parameter["name"]: parameter["example"]
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "path"
    }
    answers = operation.get("responses", {}).get("200", {}).get("content", {})
    call = (
        f"curl -s{'N' if _EVENT_STREAM in answers else ''} {base}{path.format(**examples)}{token}"
    )
    body = operation.get("requestBody")
    if body:
        example = json.dumps(body["content"]["application/json"]["example"])
        call += f" -H 'Content-Type: application/json' -d '{example}'"
    return (
        f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
        f"<p>{html.escape(operation.get('description') or operation.get('summary') or '')}</p>"
        f"<pre><code>{html.escape(call)}</code></pre>"
    )


def openapi_config(
    version: str, example_model: ExampleModel, *, asks_token: bool = False
) -> OpenAPIConfig:
    """The document under `/schema/openapi.json` (and `.yaml`), the page under `/schema`.

    Args:
        version: of the program.
        example_model: asked at each rendering, so that the examples work when pasted.
        asks_token: whether requests must bear a token.
    """
    bearer = {"bearer": SecurityScheme(type="http", scheme="bearer")}
    return OpenAPIConfig(
        title="daima prediction API",
        version=version,
        description="Predictions from batch and stream features of the online store.",
        path="/schema",
        use_handler_docstrings=True,
        render_plugins=[
            PastePage(example_model, asks_token=asks_token),
            PasteJson(example_model),
            PasteYaml(example_model),
        ],
        components=Components(security_schemes={**bearer} if asks_token else None),
        security=[{"bearer": []}] if asks_token else None,
    )
