"""`daima promote`, `daima split`, `daima rollback` on a registry in a file, and on none."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from feature_repo.contracts.settings import Settings
from infra.cli import app
from serving.assignments import Assignment
from serving.audit import Audit
from serving.bundles import BundleStore, bundles_at
from serving.orders import Orders, orders_at

MODEL = "session_duration"


class Home:
    """A home and its registry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = Settings.from_env({"DAIMA_HOME": str(path)})

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--home", str(self.path)])

    def said(self, *arguments: str) -> str:
        result = self.run(*arguments, "--who", "ana")
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    def changes(self) -> list[tuple[str, str | None, str | None]]:
        changes = Audit(self.path / "releases.jsonl").read()
        assert {change.who for change in changes} <= {"ana"}
        return [(change.action, change.from_, change.to) for change in changes]


@pytest.fixture(autouse=True)
def no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "1")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An MLflow registry's address; its tables take seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A registry with versions 1 to 3 of the model, no alias."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy is deprecated")
        client = MlflowClient(tracking_uri=database, registry_uri=database)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    client.create_registered_model(MODEL)
    for _ in range(3):
        client.create_model_version(MODEL, source="file:///nowhere")
    return client


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ana:topsecret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def aliases(client: MlflowClient) -> dict[str, str]:
    found = client.get_registered_model(MODEL).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_promotions_and_rollbacks_say_what_changed(home: Home, client: MlflowClient) -> None:
    said = home.said("promote", MODEL, "1", "--why", "the first")
    assert said == f"{MODEL}@champion: version none -> 1 (the first)\n"
    assert "already: nothing changed" in home.said("promote", MODEL, "1", "--why", "again")
    home.said("promote", MODEL, "2", "--why", "better")
    home.said("promote", MODEL, "3", "--why", "better still")
    said = home.said("rollback", MODEL, "--why", "errors")
    assert said == f"{MODEL}@champion: version 3 -> 2 (errors)\n"
    home.said("rollback", MODEL, "--why", "still errors")
    assert aliases(client) == {"champion": "1"}, "a second roll-back goes further back"
    assert Orders(orders_at(home.settings)).open() == []
    assert home.changes() == [
        ("promote", None, "1"),
        ("promote", "1", "2"),
        ("promote", "2", "3"),
        ("rollback ordered", "3", "2"),
        ("rollback", "3", "2"),
        ("rollback ordered", "2", "1"),
        ("rollback", "2", "1"),
    ]
    result = home.run("rollback", MODEL, "--why", "once more")
    assert result.exit_code == 2
    assert "expected a champion before it; name the version" in result.stderr
    home.said("rollback", MODEL, "--why", "forth", "--to", "3")
    assert aliases(client) == {"champion": "3"}


def test_a_split_a_shadow_and_taking_them_off(home: Home, client: MlflowClient) -> None:
    home.said("promote", MODEL, "1", "--why", "the first")
    said = home.said("split", MODEL, "2", "--share", "0.1", "--why", "try", "--max-p99-ms", "8")
    assert said == f"{MODEL}@challenger: version none -> 2, 10.0% of the customers (try)\n"
    home.said("split", MODEL, "3", "--shadow", "--why", "watch")
    assert aliases(client) == {"champion": "1", "challenger": "2", "shadow": "3"}
    tags = client.get_registered_model(MODEL).tags
    assert tags == {
        "challenger_share": "0.1",
        "challenger_max_error_rate": "0.01",
        "challenger_max_p99_ms": "8.0",
    }
    assert "25.0%" in home.said("split", MODEL, "2", "--share", "0.25", "--why", "more")
    home.said("rollback", MODEL, "--alias", "challenger", "--why", "no better")
    home.said("promote", MODEL, "3", "--why", "good scores")
    assert aliases(client) == {"champion": "3"}, "a shadow that becomes champion is none"
    lines = Audit(home.path / "releases.jsonl").read()
    assert [(line.alias, line.share) for line in lines if line.action == "split"] == [
        ("challenger", 0.1),
        ("challenger", 0.25),
    ]
    assert client.get_model_version(MODEL, "2").tags["rolled_back_why"] == "no better"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["promote", MODEL, "9", "--why", "x"], "expected one of ['1', '2', '3']"),
        (["promote", "absent", "1", "--why", "x"], "a registered model"),
        (["split", MODEL, "1", "--share", "0.1", "--why", "x"], "another than the champion"),
        (["split", MODEL, "2", "--why", "x"], "a share, or --shadow"),
        (["split", MODEL, "2", "--share", "0.1", "--shadow", "--why", "x"], "a share, or --shadow"),
        (["split", MODEL, "2", "--share", "1.5", "--why", "x"], "more than 0 and at most 1"),
        (["rollback", MODEL, "--alias", "shadow", "--why", "x"], "a version to roll back"),
        (["rollback", MODEL, "--to", "9", "--why", "x"], "expected one of"),
        (["rollback", MODEL, "--to", "1", "--why", "x"], "another version than 1"),
        (["rollback", "absent", "--why", "x"], "a registered model"),
    ],
)
def test_what_cannot_be_done_says_so_and_changes_nothing(
    home: Home, client: MlflowClient, arguments: list[str], says: str
) -> None:
    client.set_registered_model_alias(MODEL, "champion", "1")
    result = home.run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert aliases(client) == {"champion": "1"}
    assert home.changes() == []


@pytest.mark.usefixtures("away")
def test_without_a_registry_a_promotion_says_what_to_do(home: Home) -> None:
    result = home.run("promote", MODEL, "1", "--why", "x")
    assert result.exit_code == 2
    assert "a registry that answers; start it (daima up), then retry" in result.stderr
    assert "http://***@127.0.0.1:1" in result.stderr
    assert "topsecret" not in result.output


def test_a_rollback_without_a_registry_holds_here_and_is_told_later(
    home: Home, client: MlflowClient, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home.said("promote", MODEL, "1", "--why", "the first")
    home.said("promote", MODEL, "2", "--why", "better")
    # As a server of this home leaves them.
    bundles = BundleStore(bundles_at(home.settings))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.lgb").write_text("trees")
    for version in ("1", "2"):
        tags = client.get_model_version(MODEL, version).tags
        bundles.keep(MODEL, version, 1, tags, tmp_path / "files")
    bundles.write_line({MODEL: Assignment(1, {"champion": "2"})})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ana:topsecret@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    said = home.said("rollback", MODEL, "--why", "errors")
    assert f"{MODEL}@champion: version 2 -> 1 (errors)\n" in said
    assert "servers on this machine obey within a second" in said
    (order,) = Orders(orders_at(home.settings)).open()
    assert (order.leaves, order.to) == (("2",), "1")
    assert aliases(client) == {"champion": "2"}
    result = home.run("rollback", MODEL, "--why", "further")
    assert result.exit_code == 2, "version 1 was the first"
    result = home.run("rollback", MODEL, "--to", "3", "--why", "x")
    assert "a copy on this machine" in result.stderr

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    said = home.said("rollback", MODEL, "--to", "1", "--why", "errors", "--json")
    assert json.loads(said)["registry_told"] is True
    assert aliases(client) == {"champion": "1"}
    assert Orders(orders_at(home.settings)).open() == []


def test_a_promotion_overtakes_what_was_rolled_back_here(home: Home, client: MlflowClient) -> None:
    home.said("promote", MODEL, "1", "--why", "the first")
    home.said("promote", MODEL, "2", "--why", "better")
    home.said("rollback", MODEL, "--why", "errors")
    orders = Orders(orders_at(home.settings))
    home.said("promote", MODEL, "2", "--why", "mended", "--json")
    assert (orders.open(), aliases(client)) == ([], {"champion": "2"})
