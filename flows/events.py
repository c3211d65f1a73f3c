"""What flows say to each other: events that start the right retraining (choreography)."""

from __future__ import annotations

from typing import Any

from prefect.events import DeploymentEventTrigger, emit_event

PARITY_ALARM = "daima.parity.alarm"
DRIFT_ALARM = "daima.drift.alarm"
LABELS_ARRIVED = "daima.labels.arrived"
EMBEDDING_CHANGED = "daima.embedding.changed"
# What starts a model's retraining, in words.
_STARTS = {
    PARITY_ALARM: "What was served differs from the offline store",
    DRIFT_ALARM: "What the champion is fed, or predicts, has drifted from its training data",
    LABELS_ARRIVED: "Labels enough have arrived since the champion was trained",
    EMBEDDING_CHANGED: "Another embedding version serves than the champion was trained on",
}


def resource(model: str) -> str:
    """A model as Prefect's events name it.

    >>> resource("session_duration")
    'daima.model.session_duration'
    """
    return f"daima.model.{model}"


def tell(event: str, model: str, payload: dict[str, Any]) -> None:
    """Emit an event of a model; whoever waits for it (an automation) acts."""
    emit_event(
        event=event,
        resource={"prefect.resource.id": resource(model), "prefect.resource.name": model},
        payload=payload,
    )


def retrain_on(model: str) -> list[DeploymentEventTrigger]:
    """The triggers of a model's retraining: an alarm about it, or labels enough for it."""
    return [
        DeploymentEventTrigger(
            name=f"{model} on {event}",
            description=f"{meaning}: {model} is retrained.",
            expect={event},
            match={"prefect.resource.id": resource(model)},
            parameters={"model": model},
        )
        for event, meaning in _STARTS.items()
    ]
