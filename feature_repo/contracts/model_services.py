"""What each model is fed, declared as data: the feature services of the models.

`definitions.py` makes Feast feature services of them. The order is part of a version's fingerprint:
a change of it, as of the features, asks for a new version.
"""

from __future__ import annotations

from dataclasses import dataclass

from feature_repo.contracts.batch_views import BATCH_VIEWS
from feature_repo.contracts.embeddings import EMBEDDING_VIEW


@dataclass(frozen=True)
class ModelService:
    """A model's inputs.

    Attributes:
        model: its name, and the service's.
        description: which inputs these are, and when they are known.
        inputs: (view, its features in order), or (view, None) for all of the view's.
    """

    model: str
    description: str
    inputs: tuple[tuple[str, tuple[str, ...] | None], ...]


# Of a session, at its first event or in the middle of it.
_SESSION = (
    "session_start_hour",
    "session_start_weekday",
    "session_corridor_last",
    "session_channel_last",
    "session_device_last",
    "previous_session_seconds_since_event",
    "previous_session_duration_s",
    "previous_session_event_count",
)
# ... and of what has happened in it.
_SESSION_SO_FAR = (
    *_SESSION,
    "session_duration_s",
    "session_event_count",
    "session_page_view_count",
    "session_action_count",
    "session_payment_submitted_count",
    "session_payment_failed_count",
    "session_page_distinct_count",
    "session_payable_total_ref_minor_last",
)
_MONEY = (
    "history_days",
    "logins_90d",
    "transfers_90d",
    "failed_90d",
    "contacts_90d",
    "days_since_transfer",
    "days_since_contact",
    "sent_90d_ref_minor",
    "sent_daily_ref_minor",
    "sent_recent_share",
    "largest_90d_ref_minor",
    "balance_mean_90d_ref_minor",
)
_history = [
    each.name for view in BATCH_VIEWS if view.name == "customer_history" for each in view.fields
]
_INTENTS = (
    "logins_90d",
    "days_since_transfer",
    "balance_mean_90d_ref_minor",
    *(name for name in _history if "intent" in name),
    *(name for name in _history if name.startswith("share_")),
)
_PROFILE = ("tenure_days", "age_band", "kyc_level", "recipient_count")
# Behind the others: a version that was trained where there was none leaves it out.
_EMBEDDING = (EMBEDDING_VIEW, ("embedding", "embedding_version"))

MODEL_SERVICES: tuple[ModelService, ...] = (
    ModelService(
        "session_duration",
        "Inputs of the model of how long a session lasts, known at its first event",
        (
            ("customer_session", _SESSION),
            ("customer_activity", None),
            ("customer_profile", _PROFILE),
            ("customer_financials", None),
            ("corridor_costs", None),
        ),
    ),
    ModelService(
        "session_duration_network",
        "Inputs of the network that learns session durations from the stream: of the stream alone",
        (("customer_session", _SESSION), ("customer_activity", None)),
    ),
    ModelService(
        "call_within_day",
        "Inputs of the model of whether a customer calls within a day, known at a login",
        (
            ("customer_session", _SESSION),
            ("customer_activity", None),
            ("customer_profile", _PROFILE),
            ("customer_financials", None),
            (
                "customer_history",
                ("logins_90d", "failed_90d", "contacts_90d", "days_since_contact"),
            ),
            _EMBEDDING,
        ),
    ),
    ModelService(
        "payment_fraud",
        "Inputs of the model of whether a payment is fraud, known as it is submitted",
        (
            ("customer_session", _SESSION_SO_FAR),
            ("customer_activity", None),
            ("customer_profile", (*_PROFILE, "main_corridor", "preferred_channel")),
            ("customer_financials", None),
            ("customer_history", _MONEY),
            ("counterparty_activity", None),
            _EMBEDDING,
        ),
    ),
    ModelService(
        "next_intent",
        "Inputs of the model of what the next session will be for, known as a session ends",
        (
            ("customer_session", _SESSION_SO_FAR),
            ("customer_activity", None),
            ("customer_profile", _PROFILE),
            ("customer_financials", ("balance_ref_minor", "monthly_income_ref_minor")),
            ("customer_history", _INTENTS),
            _EMBEDDING,
        ),
    ),
    ModelService(
        "customer_value",
        "Inputs of the model of what a customer sends in 90 days, known at any midnight",
        (
            ("customer_history", _MONEY),
            ("customer_profile", None),
            ("customer_financials", None),
            _EMBEDDING,
        ),
    ),
)
