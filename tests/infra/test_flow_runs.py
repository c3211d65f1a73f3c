"""What the demo and `daima up` run once, and what they learn of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import flows.fit_segments
import flows.materialize
import flows.retrain
import flows.retrain_embeddings
from feature_repo.contracts.errors import DatasetError
from flows.retrain import Retrained
from infra import flow_runs
from infra.flow_runs import EMBED, RETRAIN, main, outcomes


@dataclass
class Played:
    """The flows, played: what ran, and what retraining comes to."""

    ran: list[str]
    retrained: Retrained
    embedded: Retrained | DatasetError


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    found = Played(
        [],
        Retrained("session_duration", 1, True, "beats the mean"),
        Retrained("customer_embedding", 7, True, "beats the chain"),
    )

    def run(name: str, outcome: Callable[[], object]) -> Callable[[], object]:
        def flow() -> object:
            found.ran.append(name)
            return outcome()

        return flow

    def embedded() -> Retrained:
        if isinstance(found.embedded, DatasetError):
            raise found.embedded
        return found.embedded

    monkeypatch.setattr(flows.materialize, "materialize", run("materialize", lambda: None))
    monkeypatch.setattr(flows.retrain, "retrain", run("retrain", lambda: found.retrained))
    monkeypatch.setattr(flows.fit_segments, "fit_segments_flow", run("segments", lambda: {}))
    embed = run("embeddings", embedded)
    monkeypatch.setattr(flows.retrain_embeddings, "retrain_embeddings", embed)
    monkeypatch.setattr(flow_runs, "_map_of", lambda *_: tmp_path / "customers.png")
    monkeypatch.setenv("PREFECT_LOGGING_EXTRA_LOGGERS", "training")
    return found


def test_embeddings_come_last_and_only_where_asked_for(
    played: Played, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([]) == 0
    assert played.ran == ["materialize", "retrain"]
    assert set(outcomes(capsys.readouterr().out)) == {RETRAIN}
    played.ran.clear()
    assert main(["--embeddings"]) == 0
    assert played.ran == ["materialize", "retrain", "segments", "embeddings"]
    assert outcomes("12:00 | INFO | a log line\n" + capsys.readouterr().out) == {
        RETRAIN: {"version": 1, "promoted": True, "verdict": "beats the mean"},
        EMBED: {
            "version": 7, "promoted": True, "verdict": "beats the chain",
            "map": str(tmp_path / "customers.png"),
        },
    }  # fmt: skip


def test_a_model_that_is_not_promoted_ends_it(played: Played) -> None:
    played.retrained = Retrained("session_duration", 1, False, "no better")
    assert main(["--embeddings"]) == 3
    assert played.ran == ["materialize", "retrain"]


def test_too_few_sessions_for_embeddings_are_no_failure(
    played: Played, capsys: pytest.CaptureFixture[str]
) -> None:
    played.embedded = DatasetError("window", 3, "at least 1000 finished sessions", "widen it")
    assert main(["--embeddings"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["flow"], last["version"], last["promoted"]) == (EMBED, None, False)
    assert "at least 1000 finished sessions" in last["verdict"]
