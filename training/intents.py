"""What a session was for, told from what happened in it.

Nobody says what they came for; the steps do. The rule looks for the furthest step towards a payment
first, then for the page that was gone to first: where somebody goes at once is what they came for,
where they stroll afterwards is not. It is a definition, not a model: the same events, the same
intent, whoever asks.
"""

from __future__ import annotations

import polars as pl

from feature_repo.contracts.events import EventType

# In the order of a model's outputs, which is storage format.
INTENTS: tuple[str, ...] = (
    "browse",
    "check_rate",
    "get_help",
    "onboard",
    "recipients",
    "send",
    "track",
)

_PAYMENTS = (
    EventType.PAYMENT_SUBMITTED,
    EventType.PAYMENT_CONFIRMED,
    EventType.PAYMENT_FAILED,
)


def intent_of(event_type: pl.Expr, page: pl.Expr) -> pl.Expr:
    """The intent of each group's events, which stand by time: one of INTENTS.

    - A payment, or the last look before one: `send`. Papers or identity checks: `onboard`.
    - A recipient together with an amount: `send`, which was not brought to its end.
    - Else by the first page after login and home: tracking: `track`; recipients: `recipients`; an
      amount: `send`; help, without the home page: `get_help`; rates, and nothing to stroll about
      afterwards (offers, history, profile, help): `check_rate`; the profile, without the home
      page: `onboard`.
    - Anything else: `browse`.

    >>> events = pl.DataFrame({"kind": ["login", "page_view", "page_view"],
    ...                        "page": ["login", "home", "tracking"]})
    >>> events.select(intent_of(pl.col("kind"), pl.col("page"))).item()
    'track'
    """

    def happened(*kinds: EventType) -> pl.Expr:
        return event_type.is_in([str(kind) for kind in kinds]).any()

    def seen(*pages: str) -> pl.Expr:
        return page.is_in(pages).any()

    aside = (event_type == str(EventType.LOGOUT)) | page.is_in(["login", "home"]) | page.is_null()
    first = page.filter(~aside).first()
    strolled = seen("offers", "history", "profile", "help")
    recipient = seen("recipients", "recipient_form") | happened(EventType.ADD_RECIPIENT)
    return (
        pl.when(seen("review", "payment", "receipt") | happened(*_PAYMENTS))
        .then(pl.lit("send"))
        .when(seen("documents", "identity") | happened(EventType.KYC_STEP))
        .then(pl.lit("onboard"))
        .when(recipient & (seen("send_amount") | happened(EventType.QUOTE)))
        .then(pl.lit("send"))
        .when(first == "tracking")
        .then(pl.lit("track"))
        .when(recipient)
        .then(pl.lit("recipients"))
        .when(first == "send_amount")
        .then(pl.lit("send"))
        .when((first == "help") & ~seen("home"))
        .then(pl.lit("get_help"))
        .when((first == "rates") & ~strolled)
        .then(pl.lit("check_rate"))
        .when((first == "profile") & ~seen("home"))
        .then(pl.lit("onboard"))
        .otherwise(pl.lit("browse"))
    )
