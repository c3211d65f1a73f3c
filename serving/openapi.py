"""The API's own description: request bodies in the OpenAPI document, and a page to paste from.

The usual pages (Redoc, Swagger) load their code from the internet; this one does not.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request
from litestar.enums import MediaType
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Operation, RequestBody
from litestar.openapi.spec.base import BaseSchemaObject

from serving.messages import EXAMPLES

_PATH_EXAMPLES = {"model": "session_duration"}
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
    """The media type of a JSON body whose schema msgspec states."""

    kind: type = object

    def to_schema(self) -> dict[str, Any]:
        document = msgspec.json.schema(self.kind)
        return {
            "schema": document["$defs"][self.kind.__name__],
            "example": EXAMPLES[self.kind],
        }


def operation_with_body(kind: type) -> type[Operation]:
    """An operation class that documents a body which the handler decodes itself.

    Handlers take raw bytes: Litestar's own decoding coerces (a number becomes an instant) and
    costs a second pass.
    """

    @dataclass
    class WithBody(Operation):
        def __post_init__(self) -> None:
            content: Any = {"application/json": _Body(kind)}
            self.request_body = RequestBody(content=content, required=True)

    return WithBody


class PastePage(OpenAPIRenderPlugin):
    """A plain page of all routes, each with a call to paste into a shell."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page, with calls to the address that the reader used."""
        base = str(request.base_url).rstrip("/")
        routes = [
            _route(base, method, path, operation)
            for path, item in openapi_schema["paths"].items()
            for method, operation in item.items()
            if method in {"get", "post"}
        ]
        info = openapi_schema["info"]
        return _PAGE.format(
            title=html.escape(info["title"]),
            description=html.escape(info.get("description", "")),
            routes="\n".join(routes),
        ).encode()


def _route(base: str, method: str, path: str, operation: dict[str, Any]) -> str:
    call = f"curl -s {base}{path.format(**_PATH_EXAMPLES)}"
    body = operation.get("requestBody")
    if body:
        example = json.dumps(body["content"]["application/json"]["example"])
        call += f" -H 'Content-Type: application/json' -d '{example}'"
    return (
        f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
        f"<p>{html.escape(operation.get('description') or operation.get('summary') or '')}</p>"
        f"<pre><code>{html.escape(call)}</code></pre>"
    )


def openapi_config(version: str) -> OpenAPIConfig:
    """The document under `/schema/openapi.json` (and `.yaml`), the page under `/schema`."""
    return OpenAPIConfig(
        title="daima prediction API",
        version=version,
        description="Predictions from batch and stream features of the online store.",
        path="/schema",
        use_handler_docstrings=True,
        render_plugins=[PastePage(), JsonRenderPlugin(), YamlRenderPlugin()],
    )
