"""The retraining flow: promotion, rejection, and what is left in the UI."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import mlflow
import pytest
from prefect.client.orchestration import get_client
from prefect.states import Completed, Failed

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.settings import Settings
from flows.outcomes import may_pass
from flows.retrain import Retrained, _picture_url, retrain
from serving.audit import AUDIT_FILE, Audit
from training.retraining import retrain as training_retrain

pytestmark = [
    # SQLAlchemy 2.1's words to MLflow and Prefect, whose tables are both in this process here.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),  # one server, one database
]


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_promotes_and_leaves_artifacts(environment: Settings) -> None:
    end = datetime(2025, 3, 12, tzinfo=UTC)
    done = retrain(model="session_duration", end=end)
    assert isinstance(done, Retrained)
    assert done.promoted
    assert "rmse" in done.verdict
    client = mlflow.MlflowClient(environment.mlflow_url)
    champion = client.get_model_version_by_alias("session_duration", "champion")
    assert int(champion.version) == done.version
    assert champion.tags["training_window_end"] == "2025-03-12T00:00:00+00:00"
    change = Audit(environment.home / AUDIT_FILE).read()[-1]
    assert (change.who, change.action, change.to) == ("retrain flow", "promote", str(done.version))
    assert change.why == done.verdict

    with get_client(sync_client=True) as server:
        artifacts: dict[str, Any] = {
            item.key: item
            for item in server.read_artifacts()
            if (item.key or "").startswith("session-duration")
        }
        states = {
            run.state_name
            for run in server.read_flow_runs()
            if run.name == "retrain session_duration"
        }
    assert states == {"Completed"}
    kinds = {key: item.type for key, item in artifacts.items()}
    expected = {
        "session-duration-metrics": "table",
        "session-duration-card": "markdown",
        "session-duration-importance": "image",
    }
    assert kinds.items() >= expected.items()  # other flows leave theirs there
    assert "**Promoted** against mean per" in artifacts["session-duration-card"].data
    assert artifacts["session-duration-importance"].data.startswith("data:image/png;base64,")

    # The same window once more: the same version, and nothing moves.
    again = retrain(model="session_duration", end=end)
    assert (again.version, again.known, again.promoted) == (done.version, True, True)
    assert Audit(environment.home / AUDIT_FILE).read()[-1] == change

    # A worse one is registered and rejected, and the champion goes on.
    worse = retrain(model="session_duration", end=end, changes={"max_rounds": 1})
    assert worse.version > done.version
    assert not worse.promoted
    tags = client.get_model_version("session_duration", str(worse.version)).tags
    assert tags["rejected"] == worse.verdict
    assert worse.verdict.startswith("worse by more than")
    after = client.get_model_version_by_alias("session_duration", "champion")
    assert int(after.version) == done.version


@pytest.mark.usefixtures("prefect_server")
def test_a_run_that_was_killed_after_registering_is_completed(environment: Settings) -> None:
    # What a killed run leaves: a version whose tags say what was decided, and no alias.
    client = mlflow.MlflowClient(environment.mlflow_url)
    end, changes = datetime(2025, 3, 11, tzinfo=UTC), {"max_rounds": 60, "seed": 11}
    left = training_retrain(environment, "session_duration", end=end, changes=changes)
    before = len(client.search_model_versions())
    done = retrain(model="session_duration", end=end, changes=changes)
    assert (done.version, done.known) == (left.version, True)
    assert len(client.search_model_versions()) == before
    tags = client.get_model_version("session_duration", str(done.version)).tags
    assert ("promoted_at" in tags) is done.promoted
    assert ("rejected" in tags) is not done.promoted


@pytest.mark.usefixtures("prefect_server")
def test_an_empty_window_registers_nothing(environment: Settings) -> None:
    client = mlflow.MlflowClient(environment.mlflow_url)
    before = client.search_model_versions()
    with pytest.raises(DatasetError, match="at least one event"):
        retrain(end=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(ModelError, match="expected one of"):
        retrain(model="horoscope")
    assert client.search_model_versions() == before


def test_the_picture_is_mlflows_where_there_is_a_server(
    trainable: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client:
        def __init__(self, url: str) -> None:
            assert url == "http://127.0.0.1:5000"

        def get_model_version(self, name: str, version: str) -> Any:
            assert (name, version) == ("session_duration", "3")
            return type("Version", (), {"run_id": "abc"})

    monkeypatch.setattr("flows.retrain.MlflowClient", Client)
    outcome = Retrained("session_duration", 3, True, "")
    served = replace(trainable, mlflow_url="http://127.0.0.1:5000")
    assert _picture_url(served, "importance.png", b"", outcome) == (
        "http://127.0.0.1:5000/get-artifact?path=importance.png&run_uuid=abc"
    )


def test_only_what_may_pass_is_retried() -> None:
    def failed(error: Exception) -> Any:
        return Failed(data=error)

    assert may_pass(None, None, failed(ModelError("MLflow")))
    assert may_pass(None, None, failed(OSError()))
    assert not may_pass(None, None, failed(DatasetError("window")))
    assert not may_pass(None, None, Completed(data=1))
