"""Models whose predictions of all customers are a feature view of their own."""

from __future__ import annotations

from collections.abc import Mapping

# Model -> what its prediction is, for the view's description.
SCORED: Mapping[str, str] = {
    "session_duration": "seconds a session begun then would last",
    "session_duration_network": "seconds a session begun then would last",
    "call_within_day": "score of a call within a day of a login then; see its probability",
    "payment_fraud": "score of fraud of a payment then, to somebody new; see its probability",
    "next_intent": "place of the likeliest intent among its classes; its chance as probability",
    "customer_value": "USD cents that will arrive in the model's horizon",
}


def score_view(model: str) -> str:
    """The name of a model's view of scores."""
    return f"{model}_scores"


def score_columns(model: str) -> dict[str, str]:
    """The view's features and their Feast dtypes.

    Named after the model: one name over two views would be one feature too many to Feast.

    >>> list(score_columns("call_within_day"))
    ['call_within_day_prediction', 'call_within_day_probability', 'call_within_day_version']
    """
    return {
        f"{model}_prediction": "Float64",
        f"{model}_probability": "Float64",
        f"{model}_version": "Int64",
    }
