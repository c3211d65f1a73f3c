"""Requests and answers of the API, and how a body becomes a request."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from serving.feature_row import Status, Value
from serving.problems import RequestError

MAX_CUSTOMERS = 1000  # in one request
# Enough for that many of the longest ids, written as escapes.
MAX_BODY_BYTES = 2 << 20

CustomerId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=256, description="a customer's id")
]
Customers = Annotated[
    list[CustomerId],
    msgspec.Meta(min_length=1, max_length=MAX_CUSTOMERS, description="customers' ids"),
]
# The length keeps out a trailing newline, which `$` would let through.
Corridor = Annotated[
    str,
    msgspec.Meta(
        pattern="^[A-Z]{2}-[A-Z]{2}$",
        max_length=5,
        description="send and receive country, as GB-NG; else that of the session, if known",
    ),
]
Counterparty = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=256,
        description="who is paid, for features of the counterparty; without it they are NOT_FOUND",
    ),
]
Instant = Annotated[
    datetime,
    msgspec.Meta(
        tz=True,
        description="ISO 8601 with time zone; stream features are computed as of it, ages and "
        "expiry count from it (default: now). Batch features are always the latest stored",
    ),
]


AmountMinor = Annotated[
    int,
    msgspec.Meta(ge=0, le=2**53, description="the amount at stake, in minor units (cents)"),
]
ShortText = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Explain = Annotated[
    int,
    msgspec.Meta(ge=0, le=20, description="how many of the inputs that weighed most to name"),
]


class Context(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is known only at the moment of the request; a model may have it among its inputs."""

    amount_minor: AmountMinor | None = None
    corridor: Corridor | None = None
    device: ShortText | None = None
    event_type: ShortText | None = None


class PredictRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """For whom to predict: `customers`, or one `customer`. `corridor` may stand in the context."""

    customers: Customers | None = None
    customer: CustomerId | None = None
    corridor: Corridor | None = None
    counterparty: Counterparty | None = None
    context: Context | None = None
    explain: Explain = 0
    as_of: Instant | None = None


class FeaturesRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which features (`feature_service`, or `features` as view:feature) of which customers."""

    feature_service: str | None = None
    features: list[str] | None = None
    customers: Customers | None = None
    customer: CustomerId | None = None
    corridor: Corridor | None = None
    counterparty: Counterparty | None = None
    as_of: Instant | None = None


class Contribution(msgspec.Struct, frozen=True):
    """One input's part in a score (SHAP): all of them and the model's mean add up to it.

    `value` is what the model was fed: a category's number, null where it was missing.
    """

    name: str
    value: float | None
    contribution: float


class Decision(msgspec.Struct, frozen=True):
    """What the policy makes of a score: allow, step_up, review or block, and why."""

    action: str
    reasons: tuple[str, ...]


class CustomerPrediction(msgspec.Struct, kw_only=True):
    """One customer's prediction and what it rests on.

    Attributes:
        customer: as asked.
        version: the version that predicted: the champion's, or the challenger's.
        alias: the alias under which it serves.
        prediction: in `unit`.
        score: on the model's own scale (log1p of the unit, for durations).
        probability: calibrated; null where the model is of no event.
        classes: class -> its chance; only where the model has classes. `prediction` is then the
            place of the likeliest among them, from 0, and `score` its chance.
        percentiles: `p10` and others -> in `unit`; only where the model has them.
        anomaly: how far from normal traffic, 0 or more; only where the model can tell.
        decision: what the policy makes of it; null without a policy.
        explanation: the inputs that weighed most, the heaviest first; null unless asked for.
        corridor: the corridor whose features were used.
        statuses: view:feature -> PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE, OTHER_VERSION (a
            vector of another embedding version than the model was trained on); all but the
            first went into the model as missing, except that stream features of a key that is
            not found are those of no events (counts 0).
        ages_s: view -> seconds since its values' event time (for stream features: since the
            latest event).
    """

    customer: str
    version: str
    alias: str
    prediction: float
    unit: str | None
    score: float
    probability: float | None = None
    classes: dict[str, float] | UnsetType = UNSET
    percentiles: dict[str, float] | UnsetType = UNSET
    anomaly: float | UnsetType = UNSET
    decision: Decision | None = None
    explanation: list[Contribution] | None = None
    corridor: str | None
    statuses: dict[str, Status]
    ages_s: dict[str, float]


class PredictResponse(msgspec.Struct, kw_only=True):
    """Predictions in the order of the customers asked for; version and alias are the champion's."""

    model: str
    version: str
    alias: str
    request_id: str
    as_of: datetime
    predictions: list[CustomerPrediction]


class CustomerFeatures(msgspec.Struct, kw_only=True):
    """One customer's features: null unless the status is PRESENT.

    Stream features of a key that is not found are those of no events: counts and sums 0.
    """

    customer: str
    corridor: str | None
    values: dict[str, Value]
    statuses: dict[str, Status]
    ages_s: dict[str, float]


class FeaturesResponse(msgspec.Struct, kw_only=True):
    """Features in the order of the customers asked for."""

    request_id: str
    as_of: datetime
    rows: list[CustomerFeatures]


class ModelInfo(msgspec.Struct, kw_only=True):
    """A version that serves, or is scored beside (shadow).

    Attributes:
        share: of the customers whom it answers: 0 for a shadow.
        golden_rows: on how many rows stored with it it was verified; 0: it has none.
        tags: the registry's (metric, training window, ...).
    """

    name: str
    version: str
    alias: str
    share: float
    golden_rows: int
    feature_service: str
    features: tuple[str, ...]
    schema_fingerprint: str
    loaded_at: datetime
    tags: dict[str, str]


class RefusedVersion(msgspec.Struct, kw_only=True):
    """A version that the alias names but that does not serve; the former one does, if any."""

    name: str
    version: str
    alias: str
    reason: str


class ModelsResponse(msgspec.Struct, kw_only=True):
    """What serves, what was refused, and whether the registry answers (null = it does)."""

    models: list[ModelInfo]
    refused: list[RefusedVersion]
    registry_error: str | None


class Liveness(msgspec.Struct):
    """The process runs."""

    live: bool = True


class Readiness(msgspec.Struct, kw_only=True):
    """Whether predictions can be had; `missing` says what stands in the way.

    `not_serving` lists feature services for which no model serves: no hindrance to the others.
    """

    ready: bool
    missing: list[str]
    models: dict[str, str]
    not_serving: list[str]


Message = TypeVar("Message", bound=PredictRequest | FeaturesRequest)
EXAMPLES: dict[type, dict[str, Any]] = {
    PredictRequest: {"customers": ["c1", "c2"]},
    FeaturesRequest: {"feature_service": "session_duration", "customers": ["c1"]},
}


def read_message(body: bytes, kind: type[Message]) -> Message:
    """Decode a body strictly: no unknown fields, no coercion.

    Raises:
        RequestError: with a body of this kind that is right.
    """
    example = EXAMPLES[kind]
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            "body", expected="JSON like the example", action=str(error), example=example
        ) from error


def customers_of(message: PredictRequest | FeaturesRequest) -> list[str]:
    """The customers asked for.

    Raises:
        RequestError: neither or both of `customer` and `customers` are given.
    """
    if message.customers is not None and message.customer is None:
        return message.customers
    if message.customer is not None and message.customers is None:
        return [message.customer]
    raise RequestError(
        "customers",
        expected="either customers (a list) or customer",
        action="send one of the two",
        example=EXAMPLES[type(message)],
    )
