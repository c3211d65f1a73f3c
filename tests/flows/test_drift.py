"""The drift flow shows what it found, raises an alarm beyond the bounds, and else says nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from flows import drift as module
from flows.drift import drift
from flows.events import DRIFT_ALARM
from training.drift import Drift
from training.evaluation.stability import Reference, stability

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]
END = datetime(2025, 3, 10, tzinfo=UTC)
INPUTS = ModelInputs("session_duration", (ModelInput("a", "event_count_7d", "Int64"),))
NAMES = ("event_count_7d", "tenure_days", "prediction")


def found(shift: float, output: float = 0.0) -> Drift:
    rng = np.random.default_rng(1)
    reference = Reference.of(rng.normal(size=(5_000, 3)), NAMES)
    matrix = rng.normal(size=(2_000, 3)) + np.array([shift, 0.0, output])
    columns = stability(reference, matrix).with_columns(
        importance=pl.when(pl.col("column") != "prediction").then(0.5)
    )
    return Drift(
        "session_duration", 3, "feature log", END - timedelta(days=7), END, 2_000, columns,
        INPUTS, reference, matrix,
    )  # fmt: skip


@pytest.mark.usefixtures("prefect_server", "environment")
@pytest.mark.parametrize(
    ("shift", "output", "alarming"),
    [
        (0.0, 0.0, []),
        (0.5, 0.2, []),
        (1.0, 0.2, ["event_count_7d"]),
        (0.5, 0.5, ["prediction"]),
    ],
)
def test_an_alarm_is_raised_beyond_the_bounds(
    monkeypatch: pytest.MonkeyPatch, shift: float, output: float, alarming: list[str]
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(module, "drift_of", lambda *_: found(shift, output))
    monkeypatch.setattr(module, "tell", lambda *event: told.append(event))
    assert drift() == alarming
    assert len(told) == bool(alarming)
    if alarming:
        assert told[0][:2] == (DRIFT_ALARM, "session_duration")
        assert told[0][2]["columns"] == alarming
        assert told[0][2]["version"] == 3


@pytest.mark.usefixtures("prefect_server", "environment")
def test_its_table_and_picture_are_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "drift_of", lambda *_: found(1.0))
    monkeypatch.setattr(module, "tell", lambda *_: None)
    drift()
    keys = ["session-duration-drift", "session-duration-drift-picture"]
    with get_client(sync_client=True) as server:
        made = server.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=keys)),
            limit=200,
        )
    assert {artifact.key for artifact in made} == set(keys)
    assert {artifact.type for artifact in made} == {"table", "image"}
    assert all("version 3: 2000 rows of the feature log" in str(each.description) for each in made)


@pytest.mark.usefixtures("prefect_server", "environment")
def test_without_a_champion_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(module, "tell", lambda *event: told.append(event))
    with pytest.raises(ModelError, match="retrain it first"):
        drift(model="call_within_day")
    assert told == []
