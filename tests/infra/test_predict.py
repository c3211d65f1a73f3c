"""`daima predict` against an API that is played by the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.predict import prediction_table

ANSWER: dict[str, Any] = {
    "model": "session_duration",
    "version": "3",
    "alias": "champion",
    "predictions": [
        {
            "customer": "c1",
            "prediction": 61.25,
            "unit": "s",
            "score": 4.13,
            "corridor": "GB-NG",
            "statuses": {"a:x": "PRESENT", "a:y": "PRESENT", "b:z": "NOT_FOUND"},
            "ages_s": {"a": 12.0},
        }
    ],
}


class FakeApi(BaseHTTPRequestHandler):
    """Answers as the API does; remembers what it was asked."""

    asked: list[tuple[str, object]]
    bearing: list[str | None]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append((self.path, body))
        type(self).bearing.append(self.headers["Authorization"])
        known = self.path == "/v1/predict/session_duration"
        answer = ANSWER if known else {"title": "unknown model", "detail": "name one of them"}
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeApi]]:
    """An API whose address the settings name."""
    FakeApi.asked, FakeApi.bearing = [], []
    monkeypatch.delenv("DAIMA_API_TOKEN", raising=False)
    server = HTTPServer(("127.0.0.1", 0), FakeApi)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("DAIMA_HOME", str(tmp_path))
    monkeypatch.setenv("DAIMA_API", f"http://127.0.0.1:{server.server_port}")
    # A proxy of the environment must not be asked for our own servers.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    yield FakeApi
    server.shutdown()
    server.server_close()
    thread.join()


def test_predictions_come_as_a_table(api: type[FakeApi]) -> None:
    result = CliRunner().invoke(app, ["predict", "session_duration", "c1"])
    assert result.exit_code == 0, result.stderr
    assert api.asked == [("/v1/predict/session_duration", {"customers": ["c1"]})]
    assert "version 3 (champion)" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "c1" in line)
    assert "61.2 s" in row
    assert "GB-NG" in row
    assert "2 PRESENT, 1" in row


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"probability": 0.0214, "unit": "probability"}, "2.1 %"),
        ({"classes": {"send": 0.3, "track": 0.7}, "unit": "class"}, "track (70 %)"),
        (
            {"percentiles": {"p10": 12.0, "p50": 60.0, "p90": 1234.0}, "unit": "USD cents"},
            "61.2 USD cents (p10 12, p90 1,234)",
        ),
    ],
)
def test_each_kind_of_answer_is_said_in_its_own_way(more: dict[str, Any], said: str) -> None:
    (row,) = ANSWER["predictions"]
    table = prediction_table({**ANSWER, "predictions": [row | more]})
    assert list(table.columns[1].cells) == [said]


def test_options_are_passed_on_and_json_is_the_answer(api: type[FakeApi]) -> None:
    options = ["--corridor", "GB-NG", "--as-of", "2026-01-05T10:00:00Z", "--json"]
    result = CliRunner().invoke(app, ["predict", "session_duration", "c1", "c2", *options])
    assert api.asked[0][1] == {
        "customers": ["c1", "c2"],
        "corridor": "GB-NG",
        "as_of": "2026-01-05T10:00:00Z",
    }
    assert json.loads(result.stdout) == ANSWER


def test_the_token_of_the_environment_is_borne(
    api: type[FakeApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    for token, header in (("", None), ("0123456789abcdef", "Bearer 0123456789abcdef")):
        monkeypatch.setenv("DAIMA_API_TOKEN", token)
        assert CliRunner().invoke(app, ["predict", "session_duration", "c1"]).exit_code == 0
        assert api.bearing[-1] == header


def test_what_the_api_refuses_is_shown(api: type[FakeApi]) -> None:
    result = CliRunner().invoke(app, ["predict", "churn/../x", "c1"])
    assert result.exit_code == 2
    assert result.stderr == "daima: the API answered 404: name one of them\n"
    assert api.asked[0][0] == "/v1/predict/churn%2F..%2Fx"
