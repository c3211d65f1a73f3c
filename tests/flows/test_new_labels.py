"""Enough new labels tell: only those since the champion, of events that the model learns from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.settings import Settings
from flows import new_labels as module
from flows.events import LABELS_ARRIVED
from flows.new_labels import watch_labels
from tests.training.sessions import START, as_events, settings_at, write_archive
from training import new_labels as counting
from training.new_labels import new_labels

MODEL = "call_within_day"
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("prefect"),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Ten logins and a payment, an hour apart; each has a label a day later."""
    settings = settings_at(tmp_path)
    times = [START + timedelta(hours=hour) for hour in range(11)]
    kinds = ["login"] * 10 + ["payment_submitted"]
    ids = [f"e{number}" for number in range(11)]
    events = pl.DataFrame(
        {"event_id": ids, "event_time": times, "event_type": kinds, "customer_id": "c1"}
    )
    labels = pl.DataFrame(
        {
            "event_id": [f"label-{name}" for name in ids],
            "event_time": times,
            "event_type": "label",
            "customer_id": "c1",
            "label_event_id": ids,
            "label_value": 0.0,
            "label_arrival_time": [time + timedelta(days=1) for time in times],
        }
    )
    write_archive(settings, pl.concat([as_events(events), as_events(labels)]))
    for name, value in settings.environment().items():
        if name != "PREFECT_API_URL":
            monkeypatch.setenv(name, value)
    return settings


def test_labels_of_the_models_own_events_count(home: Settings) -> None:
    found = new_labels(home, MODEL)
    assert (found.count, found.since) == (10, None)


def test_only_those_since_the_champion_count(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = START + timedelta(days=1, hours=6)
    monkeypatch.setattr(
        counting, "champion_tags", lambda *_: {"training_window_end": end.isoformat()}
    )
    found = new_labels(home, MODEL)
    assert found.since == end
    assert found.count == 3  # those of the logins 7, 8 and 9


@pytest.mark.usefixtures("prefect_server", "home")
@pytest.mark.parametrize(("enough", "tells"), [(10, True), (11, False)])
def test_enough_of_them_tell(monkeypatch: pytest.MonkeyPatch, enough: int, tells: bool) -> None:
    told: list[Any] = []
    monkeypatch.setattr(module, "tell", lambda *event: told.append(event))
    assert watch_labels(enough=enough)[MODEL] == 10
    assert bool(told) is tells
    if tells:
        assert told == [(LABELS_ARRIVED, MODEL, {"labels": 10, "enough": 10})]


def test_without_events_there_is_nothing_to_count(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="stream events first"):
        new_labels(settings_at(tmp_path), MODEL)
