"""From a window to a judged, registered version: once, and against the champion there is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import mlflow
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.settings import Settings
from tests.training.sessions import START
from training.champion import load_champion
from training.judging import judge
from training.registry import tags_of
from training.retraining import main, retrain

NAME = "session_duration"
QUICK: dict[str, Any] = {"max_rounds": 40, "num_leaves": 7, "bootstrap_resamples": 200}
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),
]


def versions(settings: Settings) -> int:
    return len(mlflow.MlflowClient(settings.mlflow_url).search_model_versions(f"name = '{NAME}'"))


def test_a_window_makes_one_version(tracked: Settings) -> None:
    end = START + timedelta(days=5)
    first = retrain(tracked, NAME, end=end, changes=QUICK)
    assert first.trained is not None
    assert first.decision is not None
    tags = tags_of(tracked, NAME, first.version)
    assert tags["decision"] == "promoted"
    assert tags["decision_reasons"] == first.decision.verdict
    before = versions(tracked)
    lines: list[str] = []
    again = retrain(tracked, NAME, end=end, changes=QUICK, report=lines.append)
    assert (again.version, again.trained) == (first.version, None)
    assert lines == [f"{NAME} version {first.version} was trained on these data already"]
    assert versions(tracked) == before
    other = retrain(tracked, NAME, end=end, changes=QUICK | {"seed": 8})
    assert other.version > first.version


def test_a_champion_is_the_judge_of_the_next(tracked: Settings) -> None:
    client = mlflow.MlflowClient(tracked.mlflow_url)
    assert load_champion(tracked, "nobody") is None
    done = retrain(tracked, NAME, end=START + timedelta(days=6), changes=QUICK)
    assert done.trained is not None
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    try:
        champion = load_champion(tracked, NAME)
        assert champion is not None
        held_out = done.trained.held_out
        assert champion.predict(held_out.frame) == pytest.approx(held_out.prediction, rel=1e-12)
        decision = judge(done.trained, champion)
        assert decision.against == f"champion version {done.version}"
        assert decision.promote
        assert (decision.interval.low, decision.interval.high) == (0.0, 0.0)
        assert any(each.name.startswith("corridor=") for each in decision.slices)

        weak = retrain(
            tracked, NAME, end=START + timedelta(days=6), changes=QUICK | {"max_rounds": 2}
        )
        assert weak.decision is not None
        assert not weak.decision.promote
        assert weak.decision.reasons[0].startswith("worse by more than 1.0%")
        tags = tags_of(tracked, NAME, weak.version)
        assert tags["decision"] == "rejected"
        assert tags["decision_against"] == f"champion version {done.version}"
    finally:
        client.delete_registered_model_alias(NAME, "champion")


def test_a_champion_of_something_else_cannot_judge(tracked: Settings) -> None:
    done = retrain(tracked, NAME, end=START + timedelta(days=7), changes=QUICK | {"max_rounds": 5})
    assert done.trained is not None
    client = mlflow.MlflowClient(tracked.mlflow_url)
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    try:
        champion = load_champion(tracked, NAME)
        assert champion is not None
        champion.tags["target"] = "the weather"
        assert judge(done.trained, champion) == done.trained.against_baseline
    finally:
        client.delete_registered_model_alias(NAME, "champion")


def test_bad_configurations_are_named(remittance: Settings) -> None:
    with pytest.raises(ModelError, match=r"session_duration\.colour"):
        retrain(remittance, NAME, changes={"colour": "blue"})
    with pytest.raises(ModelError, match=r"Expected `int`, got `str` - at `\$.num_leaves`"):
        retrain(remittance, NAME, changes={"num_leaves": "many"})
    with pytest.raises(ModelError, match="one of"):
        retrain(remittance, "horoscope")


def test_an_empty_window_registers_nothing(tracked: Settings) -> None:
    before = versions(tracked)
    with pytest.raises(DatasetError, match="at least one event"):
        retrain(tracked, NAME, end=START - timedelta(days=400))
    assert versions(tracked) == before


def test_from_the_command_line(
    tracked: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in tracked.environment().items():
        monkeypatch.setenv(name, value)
    window = ["--end", "2025-03-07T00:00:00+00:00"]
    quick = [f"--set={name}={value}" for name, value in QUICK.items()]
    assert main([NAME, *window, *quick]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("session_duration version ")
    assert main([NAME, "--end", "2001-01-01T00:00:00+00:00"]) == 2
    assert capsys.readouterr().err.startswith("error: window")


def test_the_slices_are_a_table(tracked: Settings) -> None:
    done = retrain(tracked, NAME, end=START + timedelta(days=8), changes=QUICK)
    assert done.decision is not None
    run = mlflow.MlflowClient(tracked.mlflow_url).get_model_version(NAME, str(done.version)).run_id
    path = mlflow.artifacts.download_artifacts(run_id=run, artifact_path="slices.csv")
    assert pl.read_csv(path).columns[:2] == ["slice", "rows"]
