"""What is served: every model's retraining and the materialisation, on their schedules."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest

from feature_repo.contracts.scored import SCORED
from flows import deployments as module
from flows.deployments import deployments, main
from training.asked import ASKED
from training.models import MODELS


def test_every_model_and_the_batch_views_have_a_deployment() -> None:
    made = deployments(
        retrain_every=timedelta(minutes=5),
        materialize_every=timedelta(hours=6),
    )
    assert [f"{each.flow_name}/{each.name}" for each in made] == [
        *(f"retrain/{model.replace('_', '-')}" for model in MODELS),
        "materialize/batch-views",
        *(f"parity/{model.replace('_', '-')}" for model in MODELS),
        *(f"drift/{model.replace('_', '-')}" for model in MODELS if model in ASKED),
        *(f"score/{model.replace('_', '-')}" for model in SCORED),
        "watch_labels/labels",
        "fit_segments/segments",
        "customer_history/customers",
        "retrain_embeddings/embeddings",
        "embed_customers/embeddings",
    ]
    assert made[0].parameters == {"model": "session_duration"}
    assert made[0].schedules[0].schedule.interval == timedelta(minutes=5)
    intervals = {each.flow_name: each.schedules[0].schedule.interval for each in made}
    assert intervals["materialize"] == timedelta(hours=6)
    assert intervals["drift"] == intervals["parity"] == timedelta(days=1)
    assert intervals["score"] == intervals["fit_segments"] == timedelta(days=1)
    # By module, so that a run finds its flow from any folder.
    assert {each.entrypoint for each in made} == {
        "flows.retrain.retrain",
        "flows.materialize.materialize",
        "flows.parity.parity",
        "flows.drift.drift",
        "flows.score.score",
        "flows.new_labels.watch_labels",
        "flows.fit_segments.fit_segments_flow",
        "flows.customer_history.customer_history",
        "flows.retrain_embeddings.retrain_embeddings",
        "flows.embed_customers.embed_customers",
    }


def test_one_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    served: dict[str, Any] = {}
    monkeypatch.setattr(module, "serve", lambda *each, **how: served.update(how, each=each))
    monkeypatch.setattr(sys, "argv", ["deployments", "--retrain-every-min", "10"])
    main()
    assert served["limit"] == 1
    assert served["each"][0].schedules[0].schedule.interval == timedelta(minutes=10)
