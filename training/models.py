"""The models by name, each in the shape that retraining asks for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.settings import Settings
from training import (
    call_within_day,
    customer_value,
    duration_network,
    next_intent,
    payment_fraud,
    session_duration,
)
from training.dataset import Examples
from training.judging import Trained


class ModelModule(Protocol):
    """A model's file: its name, the type of its configuration, its data set and its training."""

    NAME: str
    Config: Any
    build: Callable[[Settings, datetime | None, datetime | None, Any], Examples]
    train: Callable[[Examples, Any, Callable[[str], None]], Trained]


MODELS: dict[str, Any] = {
    module.NAME: module
    for module in (
        session_duration,
        duration_network,
        call_within_day,
        payment_fraud,
        next_intent,
        customer_value,
    )
}


def model_named(name: str) -> ModelModule:
    """The model's module.

    Raises:
        ModelError: there is no such model.
    """
    if name not in MODELS:
        raise ModelError("model", name, f"one of {sorted(MODELS)}", "name one of them")
    module: ModelModule = MODELS[name]
    return module
