"""`daima similar` against an API that is played by the test; whom the demo asks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.demo import by_events
from infra.similar import similar_table

ANSWER: dict[str, Any] = {
    "customer": "c 1/x",
    "request_id": "r",
    "embedding_version": 4,
    "similar": [
        {"customer": "c2", "similarity": 0.9951, "corridor": "GB-NG", "segment": "long"},
        {"customer": "c8", "similarity": -0.25, "corridor": None, "segment": None},
    ],
}


class FakeApi(BaseHTTPRequestHandler):
    """Answers as the API does; remembers what it was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        known = "nobody" not in self.path
        answer = ANSWER if known else {"title": "unknown", "detail": "nobody has no vector"}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeApi]]:
    FakeApi.asked = []
    server = HTTPServer(("127.0.0.1", 0), FakeApi)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("DAIMA_HOME", str(tmp_path))
    monkeypatch.setenv("DAIMA_API", f"http://127.0.0.1:{server.server_port}")
    yield FakeApi
    server.shutdown()
    server.server_close()
    thread.join()


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("│ ").split("│")]


def test_similar_customers_come_as_a_table(api: type[FakeApi]) -> None:
    result = CliRunner().invoke(app, ["similar", "c 1/x"])
    assert result.exit_code == 0, result.stderr
    assert api.asked == ["/v1/similar/c%201%2Fx?k=10"]
    assert "nearest to c 1/x, embedding version 4" in result.stdout
    rows = [cells(line) for line in result.stdout.splitlines() if line.startswith("│")]
    assert rows == [["c2", "0.995", "GB-NG", "long"], ["c8", "-0.250", "-", "-"]]


def test_filters_are_passed_on_and_json_is_the_answer(api: type[FakeApi]) -> None:
    options = ["-k", "3", "--corridor", "GB-NG", "--segment", "a b", "--json"]
    result = CliRunner().invoke(app, ["similar", "c1", *options])
    assert api.asked == ["/v1/similar/c1?k=3&corridor=GB-NG&segment=a+b"]
    assert json.loads(result.stdout) == ANSWER


def test_what_the_api_refuses_is_shown(api: type[FakeApi]) -> None:
    result = CliRunner().invoke(app, ["similar", "nobody"])
    assert (result.exit_code, len(api.asked)) == (2, 1)
    assert result.stderr == "daima: the API answered 404: nobody has no vector\n"


def test_planted_personas_stand_beside_simulated_customers() -> None:
    table = similar_table(ANSWER, {"c2": "trader"})
    assert list(table.columns[-1].cells) == ["trader", "-"]
    assert len(similar_table(ANSWER).columns) == len(table.columns) - 1


def test_the_customer_of_most_events_is_asked_for_first() -> None:
    events = pa.table({"customer_id": ["a", "b", "b", "c", "c", "c", "d"]})
    assert by_events(events, ["d", "b", "nobody", "c"]) == ["c", "b", "d", "nobody"]
