"""The event schema: what one time-stamped, immutable record of a customer's session says.

The same schema in two forms: `EVENT_SCHEMA` (Arrow) for batches, `Event` (msgspec) for single
events. DAIMA, the work this system starts from, defines no event schema; this one is ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec
import pyarrow as pa

from feature_repo.contracts.errors import EventError


class EventType(StrEnum):
    """The closed list of event types; anything else is a dead letter."""

    LOGIN = "login"
    PAGE_VIEW = "page_view"
    QUOTE = "quote"
    ADD_RECIPIENT = "add_recipient"
    KYC_STEP = "kyc_step"
    PAYMENT_SUBMITTED = "payment_submitted"
    PAYMENT_CONFIRMED = "payment_confirmed"
    PAYMENT_FAILED = "payment_failed"
    SUPPORT_CONTACT = "support_contact"
    FRAUD_REPORTED = "fraud_reported"
    LABEL = "label"
    LOGOUT = "logout"
    # New types go to the end: the place of a type is its code in stored states.
    FINANCIAL_SNAPSHOT = "financial_snapshot"


EVENT_TYPES: tuple[EventType, ...] = tuple(EventType)
EVENT_TYPE_CODE: dict[str, int] = {str(kind): code for code, kind in enumerate(EVENT_TYPES)}

# What happens outside the customer's digital session: a call, a report, a label that arrives
# days later, the balance that the bank's own books show at a login. These never open or prolong
# a session, and features without a filter do not see them.
OUTSIDE_SESSION: frozenset[EventType] = frozenset(
    {
        EventType.SUPPORT_CONTACT,
        EventType.FRAUD_REPORTED,
        EventType.LABEL,
        EventType.FINANCIAL_SNAPSHOT,
    }
)
# What a customer does in a session beyond looking at pages.
ACTIONS: frozenset[EventType] = frozenset(
    {
        EventType.QUOTE,
        EventType.ADD_RECIPIENT,
        EventType.KYC_STEP,
        EventType.PAYMENT_SUBMITTED,
    }
)

TIMESTAMP = pa.timestamp("us", tz="UTC")

EVENT_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("event_time", TIMESTAMP, nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("page", pa.string()),
        pa.field("send_country", pa.string()),  # ISO 3166-1 alpha-2
        pa.field("receive_country", pa.string()),  # ISO 3166-1 alpha-2
        pa.field("amount_minor", pa.int64()),  # minor units of `currency`
        pa.field("fee_minor", pa.int64()),  # minor units of `currency`
        pa.field("currency", pa.string()),  # ISO 4217
        pa.field("amount_ref_minor", pa.int64()),  # minor units of REFERENCE_CURRENCY
        pa.field("fee_ref_minor", pa.int64()),  # minor units of REFERENCE_CURRENCY
        pa.field("counterparty_id", pa.string()),
        pa.field("channel", pa.string()),
        pa.field("device", pa.string()),
        pa.field("ip_country", pa.string()),  # ISO 3166-1 alpha-2
        # Only on label events (whose event_time is that of the labelled event): which event is
        # labelled, with what, and when it became known, by which the log is ordered.
        pa.field("label_event_id", pa.string()),
        pa.field("label_value", pa.float64()),
        pa.field("label_arrival_time", TIMESTAMP),
    ]
)

# Added by ingestion, never read from a source.
DERIVED_FIELDS: frozenset[str] = frozenset({"amount_ref_minor", "fee_ref_minor"})

COUNTRY_PATTERN = re.compile(r"^[A-Z]{2}$")
CURRENCY_PATTERN = re.compile(r"^[A-Z]{3}$")
# An instant outside these bounds is a unit mistake (seconds read as milliseconds), not an event.
EARLIEST_EVENT = datetime(2000, 1, 1, tzinfo=UTC)
LATEST_EVENT = datetime(2100, 1, 1, tzinfo=UTC)
# Beyond this the minor units of one payment no longer fit a float's 53 exact bits.
MAX_AMOUNT_MINOR = 10**15


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event, as an API or a producer hands it in.

    `event_time` and `label_arrival_time` are aware datetimes; amounts are integer minor units of
    `currency`. Raises `EventError` from `validated()` naming the field that does not fit; the
    amounts in the reference currency are added at ingestion, from the dated exchange rates.
    """

    event_id: str
    event_time: datetime
    customer_id: str
    event_type: EventType
    page: str | None = None
    send_country: str | None = None
    receive_country: str | None = None
    amount_minor: int | None = None
    fee_minor: int | None = None
    currency: str | None = None
    counterparty_id: str | None = None
    channel: str | None = None
    device: str | None = None
    ip_country: str | None = None
    label_event_id: str | None = None
    label_value: float | None = None
    label_arrival_time: datetime | None = None

    @property
    def corridor(self) -> str | None:
        """`send-receive`, or None unless both countries are known."""
        return corridor_of(self.send_country, self.receive_country)

    def validated(self) -> Event:
        """Return the event itself, or raise `EventError` naming the first field that is wrong."""
        for check in (_check_ids, _check_instants, _check_countries, _check_money, _check_label):
            check(self)
        return self


def _check_ids(event: Event) -> None:
    for field in ("event_id", "customer_id"):
        if not getattr(event, field):
            raise EventError(field, getattr(event, field), "a non-empty text", "send the id")


def _check_instants(event: Event) -> None:
    for field in ("event_time", "label_arrival_time"):
        instant = getattr(event, field)
        if instant is None:
            continue
        if instant.tzinfo is None:
            raise EventError(field, str(instant), "an instant with time zone", "append Z")
        if not EARLIEST_EVENT <= instant < LATEST_EVENT:
            raise EventError(field, str(instant), "an instant in 2000..2099", "check the time unit")


def _check_countries(event: Event) -> None:
    for field in ("send_country", "receive_country", "ip_country"):
        country = getattr(event, field)
        if country is not None and not COUNTRY_PATTERN.fullmatch(country):
            raise EventError(field, country, "an ISO 3166 two-letter code", "translate it")


def _check_money(event: Event) -> None:
    for field in ("amount_minor", "fee_minor"):
        amount = getattr(event, field)
        if amount is None:
            continue
        if not 0 <= amount <= MAX_AMOUNT_MINOR:
            raise EventError(field, amount, f"0..{MAX_AMOUNT_MINOR} minor units", "mend it")
        if event.currency is None:
            raise EventError("currency", None, f"a currency beside {field}", "send ISO 4217")
    if event.currency is not None and not CURRENCY_PATTERN.fullmatch(event.currency):
        raise EventError("currency", event.currency, "an ISO 4217 code", "translate it")


def _check_label(event: Event) -> None:
    if event.event_type is EventType.LABEL and (
        event.label_event_id is None or event.label_value is None
    ):
        raise EventError(
            "label_event_id",
            event.label_event_id,
            "the labelled event's id and a label_value on every label event",
            "send both",
        )
    arrival = event.label_arrival_time
    if event.event_type is EventType.LABEL and arrival is not None and arrival < event.event_time:
        raise EventError(
            "label_arrival_time",
            str(arrival),
            "an instant at or after the event_time of what it labels",
            "send when the label became known; event_time is that of the labelled event",
        )


def corridor_of(send_country: str | None, receive_country: str | None) -> str | None:
    """Name a corridor, or None unless both ends are known.

    >>> corridor_of("GB", "NG"), corridor_of("GB", None)
    ('GB-NG', None)
    """
    if send_country is None or receive_country is None:
        return None
    return f"{send_country}-{receive_country}"


def events_to_batch(events: Sequence[Event]) -> pa.RecordBatch:
    """Turn single events into one Arrow batch of `EVENT_SCHEMA`.

    The derived money columns are null: `ExchangeRates.with_reference_amounts` fills them.
    """
    columns = []
    for field in EVENT_SCHEMA:
        if field.name in DERIVED_FIELDS:
            columns.append(pa.nulls(len(events), field.type))
        else:
            values = [getattr(event, field.name) for event in events]
            if field.name == "event_type":
                values = [str(value) for value in values]
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def to_epoch_us(instant: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exactly (no float in between).

    >>> to_epoch_us(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC))
    1000005
    """
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
