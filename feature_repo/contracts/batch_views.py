"""The batch feature views, declared as data: daily tables of customers and corridors.

`definitions.py` makes Feast views of them. A table's rows come from a back office (kind `batch`),
from fits over the archive (`fitted`), from what customers did (`history`), or from an encoder of
their sessions (`embedded`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH
from feature_repo.contracts.features import CORRIDOR, CUSTOMER

# The encoder's state of each customer, in a view of its own: no model is fed a view of bytes.
EMBEDDING_STATE_VIEW = f"{EMBEDDING_VIEW}_state"


@dataclass(frozen=True)
class BatchField:
    """A feature: its name, its Feast dtype, and what it means; `width` numbers if it is a vector.

    A vector is one that is searched for its nearest, by cosine similarity.
    """

    name: str
    dtype: str
    meaning: str
    width: int = 0


@dataclass(frozen=True)
class BatchView:
    """A daily table of features.

    Attributes:
        name: the view's, and its table's.
        entity: name of the entity that a row is of.
        ttl: how old a row may be and still count; zero: however old.
        kind: `batch`, which the materialisation flow brings online, or `fitted`, `history` or
            `embedded`, which those that compute them do.
        description: of the table.
        fields: its features, in order.
    """

    name: str
    entity: str
    ttl: timedelta
    kind: str
    description: str
    fields: tuple[BatchField, ...]


BATCH_VIEWS: tuple[BatchView, ...] = (
    BatchView(
        "customer_profile",
        CUSTOMER.name,
        timedelta(days=30),
        "batch",
        "One row a customer and day",
        (
            BatchField("tenure_days", "Int64", "days since sign-up"),
            BatchField("age_band", "String", "18-24, 25-34, 35-44, 45-54, 55+"),
            BatchField("home_country", "String", "country of residence, ISO 3166"),
            BatchField("main_corridor", "String", "corridor used most"),
            BatchField("preferred_channel", "String", "app or web"),
            BatchField("kyc_level", "Int64", "0 none, 1 basic, 2 full"),
            BatchField("recipient_count", "Int64", "saved recipients"),
        ),
    ),
    BatchView(
        "customer_financials",
        CUSTOMER.name,
        timedelta(days=30),
        "batch",
        "Financial snapshot of a customer, daily",
        (
            BatchField("balance_ref_minor", "Int64", "wallet balance, USD cents"),
            BatchField("monthly_income_ref_minor", "Int64", "declared, USD cents"),
            BatchField("sent_30d_ref_minor", "Int64", "sent in 30 days, USD cents"),
            BatchField("transfers_30d", "Int64", "transfers in 30 days"),
            BatchField("failed_30d", "Int64", "failed transfers in 30 days"),
        ),
    ),
    BatchView(
        "corridor_costs",
        CORRIDOR.name,
        timedelta(days=120),
        "batch",
        "Cost of sending money, by corridor",
        (
            BatchField("cost_pct_usd200", "Float64", "mean cost of sending USD 200"),
            BatchField("cost_pct_usd500", "Float64", "mean cost of sending USD 500"),
            BatchField("fx_margin_pct", "Float64", "mean exchange-rate margin"),
            BatchField("providers", "Int64", "providers surveyed"),
        ),
    ),
    BatchView(
        "customer_history",
        CUSTOMER.name,
        timedelta(days=30),
        "history",
        "What customers did in 90 days, as of midnight",
        (
            BatchField("history_days", "Int64", "days since first seen, 90 at most"),
            BatchField("logins_90d", "Int64", "logins in 90 days"),
            BatchField("transfers_90d", "Int64", "payments that arrived in 90 days"),
            BatchField("failed_90d", "Int64", "payments that failed in 90 days"),
            BatchField("contacts_90d", "Int64", "calls in 90 days"),
            BatchField("days_since_transfer", "Float64", "within 90 days"),
            BatchField("days_since_contact", "Float64", "within 90 days"),
            BatchField("sent_90d_ref_minor", "Int64", "that arrived, USD cents"),
            BatchField("sent_daily_ref_minor", "Float64", "of it a day of history"),
            BatchField("sent_recent_share", "Float64", "of it in the last 30 days"),
            BatchField("largest_90d_ref_minor", "Int64", "largest of it, USD cents"),
            BatchField(
                "balance_mean_90d_ref_minor", "Float64", "mean balance at their logins, USD cents"
            ),
            BatchField("last_intent", "String", "what their last session was for"),
            BatchField("intent_before_last", "String", "and the one before"),
            *(
                BatchField(f"share_{name}", "Float64", f"of their sessions: {name}")
                for name in (
                    "browse",
                    "check_rate",
                    "get_help",
                    "onboard",
                    "recipients",
                    "send",
                    "track",
                )
            ),
        ),
    ),
    BatchView(
        "corridor_durations",
        CORRIDOR.name,
        timedelta(days=30),
        "fitted",
        "Weibull distributions by corridor, as fitted last",
        (
            BatchField("duration_sessions", "Int64", "sessions fitted, open ones too"),
            BatchField("duration_k", "Float64", "Weibull shape of session duration"),
            BatchField("duration_scale_s", "Float64", "its scale, seconds"),
            BatchField("duration_k_low", "Float64", "95 % interval of the shape"),
            BatchField("duration_k_high", "Float64", "95 % interval of the shape"),
            BatchField("duration_scale_low_s", "Float64", "95 % interval, seconds"),
            BatchField("duration_scale_high_s", "Float64", "95 % interval, seconds"),
            BatchField("duration_own_share", "Float64", "weight of its own sessions"),
            BatchField("total_to_pay_k", "Float64", "Weibull shape of total to pay"),
            BatchField("total_to_pay_scale_ref_minor", "Float64", "scale, USD cents"),
            BatchField("pay_rate_k", "Float64", "Weibull shape of pay rate"),
            BatchField("pay_rate_scale", "Float64", "scale, USD cents a second"),
        ),
    ),
    BatchView(
        "customer_segment",
        CUSTOMER.name,
        timedelta(days=30),
        "fitted",
        "Where customers' session durations fall",
        (
            BatchField("segment", "String", "brief, usual or long sessions"),
            BatchField(
                "duration_position",
                "Float64",
                "where their durations fall in their corridors' distributions, 0 to 1",
            ),
            BatchField("segment_sessions", "Int64", "sessions placed"),
        ),
    ),
    # Without a TTL: a customer's vector is that of their last session, however long ago that was,
    # and its age is one of the features.
    BatchView(
        EMBEDDING_VIEW,
        CUSTOMER.name,
        timedelta(0),
        "embedded",
        "What customers are like, learnt from their sessions; as of the last one's end",
        (
            BatchField(
                "embedding", "Array(Float32)", "unit vector; near is alike", EMBEDDING_WIDTH
            ),
            BatchField("embedding_version", "Int64", "version of the encoder; never compare two"),
            BatchField("embedding_updated_at", "Int64", "end of the last session, µs since 1970"),
        ),
    ),
    BatchView(
        EMBEDDING_STATE_VIEW,
        CUSTOMER.name,
        timedelta(0),
        "embedded",
        "What the encoder needs of a customer's past sessions to go on",
        (BatchField("embedding_state", "Bytes", "a CustomerState"),),
    ),
)
