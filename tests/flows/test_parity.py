"""The parity flow raises an alarm, and alarms start the right retraining."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from prefect.client.orchestration import get_client

from feature_repo.contracts.errors import DatasetError
from flows import parity as module
from flows.deployments import deployments
from flows.events import (
    DRIFT_ALARM,
    EMBEDDING_CHANGED,
    LABELS_ARRIVED,
    PARITY_ALARM,
    retrain_on,
    tell,
)
from flows.parity import parity
from training.parity import Parity

pytestmark = pytest.mark.xdist_group("prefect")
START = datetime(2025, 3, 3, tzinfo=UTC)


def found(equal: int) -> Parity:
    row = {
        "feature": "customer_profile:tenure_days", "version": "1", "rows": 100, "equal": equal,
        "different": 100 - equal, "missing": 0, "extra": 0, "share": 1 - equal / 100,
    }  # fmt: skip
    return Parity("session_duration", 100, pl.DataFrame([row]))


@pytest.mark.usefixtures("prefect_server", "environment")
@pytest.mark.parametrize(("equal", "alarms"), [(100, 0), (99, 0), (90, 1)])
def test_an_alarm_is_raised_beyond_the_bound(
    monkeypatch: pytest.MonkeyPatch, equal: int, alarms: int
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(module, "compare", lambda *_: found(equal))
    monkeypatch.setattr(module, "tell", lambda *event: told.append(event))
    assert parity(bound=0.011) == pytest.approx(1 - equal / 100)
    assert len(told) == alarms
    if alarms:
        assert told[0][:2] == (PARITY_ALARM, "session_duration")
        assert told[0][2]["features"] == ["customer_profile:tenure_days"]


@pytest.mark.usefixtures("prefect_server", "environment")
def test_nothing_served_is_an_error() -> None:
    with pytest.raises(DatasetError, match="DAIMA_FEATURE_LOG_SHARE"):
        parity(start=START, end=START + timedelta(days=1))


def test_a_models_alarm_starts_its_own_retraining() -> None:
    triggers = retrain_on("call_within_day")
    assert [trigger.expect for trigger in triggers] == [
        {PARITY_ALARM},
        {DRIFT_ALARM},
        {LABELS_ARRIVED},
        {EMBEDDING_CHANGED},
    ]
    for trigger in triggers:
        assert trigger.match.root == {"prefect.resource.id": "daima.model.call_within_day"}
        assert trigger.parameters == {"model": "call_within_day"}


@pytest.mark.usefixtures("prefect_server", "environment")
@pytest.mark.parametrize("event", [PARITY_ALARM, DRIFT_ALARM, EMBEDDING_CHANGED])
def test_prefect_starts_the_retraining_that_an_alarm_asks_for(event: str) -> None:
    (made,) = deployments(retrain_every=timedelta(days=300))[:1]
    deployment = made.apply()
    try:
        with get_client(sync_client=True) as server:
            tell(event, "another_model", {})
            tell(event, "session_duration", {"features": ["x"]})

            def started() -> list[Any]:
                runs = server.read_flow_runs()
                return [
                    run
                    for run in runs
                    if run.deployment_id == deployment and not run.auto_scheduled
                ]

            until_s = time.monotonic() + 60
            while not started() and time.monotonic() < until_s:
                time.sleep(0.2)
            (run,) = started()
            assert run.parameters == {"model": "session_duration"}
    finally:
        with get_client(sync_client=True) as server:
            server.delete_deployment(deployment)
