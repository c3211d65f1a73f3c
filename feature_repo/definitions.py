"""Every Feast object, in one file: `feast apply` imports this folder's files by bare name.

Stream features derive from `contracts/features.py`; batch features are declared here. Sources
are folders of date-partitioned Parquet under `DAIMA_HOME`, by absolute path: a relative one means
one thing to `feast apply` and another to a read.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64, String

from feature_repo.contracts.features import (
    ACTIVITY_VIEW,
    SESSION_GAP,
    SESSION_VIEW,
    STREAM_VIEWS,
    Dtype,
)
from feature_repo.contracts.settings import Settings

_TYPES = {Dtype.INT64: Int64, Dtype.FLOAT64: Float64, Dtype.STRING: String}
_settings = Settings.from_env()

customer = Entity(
    name="customer",
    join_keys=["customer_id"],
    value_type=ValueType.STRING,
    description="A customer of the remittance service",
)
corridor = Entity(
    name="corridor",
    join_keys=["corridor"],
    value_type=ValueType.STRING,
    description="Send and receive country of a transfer, such as GB-NG",
)
counterparty = Entity(
    name="counterparty",
    join_keys=["counterparty_id"],
    value_type=ValueType.STRING,
    description="Who receives a payment",
)


def _daily(name: str, description: str) -> FileSource:
    return FileSource(
        name=f"{name}_daily",
        path=str(_settings.batch_table(name)),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        description=description,
    )


# Both stream views read the same rows: one a session event, written by the dataflow.
stream_rows = FileSource(
    name="customer_events",
    path=str(_settings.stream_table),
    file_format=ParquetFormat(),
    timestamp_field="event_timestamp",
    description="Stream features at each session event",
)
# The session's own features mean nothing once it has ended; windows reach back 7 days.
_STREAM_TTL = {SESSION_VIEW: SESSION_GAP, ACTIVITY_VIEW: timedelta(days=7)}

customer_session, customer_activity = (
    FeatureView(
        name=view,
        entities=[customer],
        ttl=_STREAM_TTL[view],
        schema=[
            Field(name=feature.name, dtype=_TYPES[feature.dtype], description=feature.description)
            for feature in STREAM_VIEWS[view]
        ],
        source=PushSource(name=f"{view}_push", batch_source=stream_rows),
        online=True,
        tags={"kind": "stream"},
    )
    for view in (SESSION_VIEW, ACTIVITY_VIEW)
)

customer_profile = FeatureView(
    name="customer_profile",
    entities=[customer],
    ttl=timedelta(days=30),
    schema=[
        Field(name="tenure_days", dtype=Int64, description="days since sign-up"),
        Field(name="age_band", dtype=String, description="18-24, 25-34, 35-44, 45-54, 55+"),
        Field(name="home_country", dtype=String, description="country of residence, ISO 3166"),
        Field(name="main_corridor", dtype=String, description="corridor used most"),
        Field(name="preferred_channel", dtype=String, description="app or web"),
        Field(name="kyc_level", dtype=Int64, description="0 none, 1 basic, 2 full"),
        Field(name="recipient_count", dtype=Int64, description="saved recipients"),
    ],
    source=_daily("customer_profile", "One row a customer and day"),
    online=True,
    tags={"kind": "batch"},
)
customer_financials = FeatureView(
    name="customer_financials",
    entities=[customer],
    ttl=timedelta(days=30),
    schema=[
        Field(name="balance_ref_minor", dtype=Int64, description="wallet balance, USD cents"),
        Field(name="monthly_income_ref_minor", dtype=Int64, description="declared, USD cents"),
        Field(name="sent_30d_ref_minor", dtype=Int64, description="sent in 30 days, USD cents"),
        Field(name="transfers_30d", dtype=Int64, description="transfers in 30 days"),
        Field(name="failed_30d", dtype=Int64, description="failed transfers in 30 days"),
    ],
    source=_daily("customer_financials", "Financial snapshot of a customer, daily"),
    online=True,
    tags={"kind": "batch"},
)
corridor_costs = FeatureView(
    name="corridor_costs",
    entities=[corridor],
    ttl=timedelta(days=120),
    schema=[
        Field(name="cost_pct_usd200", dtype=Float64, description="mean cost of sending USD 200"),
        Field(name="cost_pct_usd500", dtype=Float64, description="mean cost of sending USD 500"),
        Field(name="fx_margin_pct", dtype=Float64, description="mean exchange-rate margin"),
        Field(name="providers", dtype=Int64, description="providers surveyed"),
    ],
    source=_daily("corridor_costs", "Cost of sending money, by corridor"),
    online=True,
    tags={"kind": "batch"},
)

session_duration = FeatureService(
    name="session_duration",
    description="Inputs of the model of how long a session lasts, known at its first event",
    features=[
        customer_session[
            [
                "session_start_hour",
                "session_start_weekday",
                "session_corridor",
                "session_channel",
                "session_device",
                "seconds_since_last_event",
                "previous_session_duration_s",
                "previous_session_event_count",
            ]
        ],
        customer_activity,
        customer_profile[["tenure_days", "age_band", "kyc_level", "recipient_count"]],
        customer_financials,
        corridor_costs,
    ],
    tags={"model": "session_duration"},
)
