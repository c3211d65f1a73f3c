"""The retraining flow: promotion, rejection, and what is left in the UI."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import mlflow
import pytest
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger
from prefect.states import Completed, Failed

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.settings import Settings
from flows.retrain import Retrained, _may_pass, _picture_url, promote_or_reject, retrain, summary
from serving.audit import AUDIT_FILE, Audit
from training.evaluate import Interval
from training.registry import register
from training.session_duration import Config, Trained, build, train

pytestmark = [
    # SQLAlchemy 2.1's words to MLflow and Prefect, whose tables are both in this process here.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),  # one server, one database
]


@pytest.fixture(scope="module")
def trained(trainable: Settings) -> Trained:
    return train(*build(trainable), Config(max_rounds=40, bootstrap_resamples=200))


@pytest.mark.usefixtures("prefect_server")
def test_the_flow_promotes_and_leaves_artifacts(environment: Settings) -> None:
    done = retrain(model="session_duration", end=datetime(2025, 3, 12, tzinfo=UTC))
    assert isinstance(done, Retrained)
    assert done.promoted
    assert done.metric == "rmse"
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
            if item.key.startswith("session-duration")
        }
        states = {
            run.state_name
            for run in server.read_flow_runs()
            if run.name == "retrain session_duration"
        }
    assert states == {"Completed"}
    kinds = {key: item.type for key, item in artifacts.items()}
    assert kinds == {
        "session-duration-metrics": "table",
        "session-duration-summary": "markdown",
        "session-duration-importance": "image",
    }
    assert "promoted to **champion**" in artifacts["session-duration-summary"].data
    assert artifacts["session-duration-importance"].data.startswith("data:image/png;base64,")


@pytest.mark.usefixtures("prefect_server")
def test_an_empty_window_registers_nothing(environment: Settings) -> None:
    client = mlflow.MlflowClient(environment.mlflow_url)
    before = client.search_model_versions()
    with pytest.raises(DatasetError, match="at least one event"):
        retrain(end=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(ModelError, match="one of \\['session_duration'\\]"):
        retrain(model="horoscope")
    assert client.search_model_versions() == before


def test_a_model_that_does_not_beat_its_baseline_is_rejected(
    trainable: Settings, trained: Trained
) -> None:
    client = mlflow.MlflowClient(trainable.mlflow_url)
    version = register(trainable, trained.candidate)
    before = client.get_registered_model("session_duration").aliases
    unsure = replace(trained, interval=Interval(-0.01, 0.002))
    with disable_run_logger():
        assert promote_or_reject.fn(trainable, unsure, version) is False
    tags = client.get_model_version("session_duration", str(version)).tags
    assert tags["rejected"] == unsure.verdict
    assert "does not beat" in tags["rejected"]
    assert client.get_registered_model("session_duration").aliases == before

    outcome = Retrained("session_duration", version, "rmse", 1.0, False, unsure.verdict)
    assert "**rejected** (nothing changed)" in summary(unsure, outcome)


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
    outcome = Retrained("session_duration", 3, "rmse", 1.0, True, "")
    served = replace(trainable, mlflow_url="http://127.0.0.1:5000")
    assert _picture_url(served, b"", outcome) == (
        "http://127.0.0.1:5000/get-artifact?path=importance.png&run_uuid=abc"
    )


def test_only_what_may_pass_is_retried() -> None:
    def failed(error: Exception) -> Any:
        return Failed(data=error)

    assert _may_pass(None, None, failed(ModelError("MLflow")))
    assert _may_pass(None, None, failed(OSError()))
    assert not _may_pass(None, None, failed(DatasetError("window")))
    assert not _may_pass(None, None, Completed(data=1))
