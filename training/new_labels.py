"""How much a model's champion has not seen: labels that arrived since its training window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from training.archive import remembered, scan_archive, unreadable
from training.champion import champion_tags

# Model -> the type of event whose labels it learns from.
LABELLED: Mapping[str, EventType] = {
    "call_within_day": EventType.LOGIN,
    "payment_fraud": EventType.PAYMENT_SUBMITTED,
}
_COLUMNS = (
    "customer_id", "event_id", "event_time", "event_type", "label_event_id", "label_arrival_time",
)  # fmt: skip


@dataclass(frozen=True)
class NewLabels:
    """What has come.

    Attributes:
        model: whose.
        since: end of the champion's training window; None: there is no champion.
        count: labels that arrived after it, of the events that the model learns from.
    """

    model: str
    since: datetime | None
    count: int


def new_labels(settings: Settings, model: str) -> NewLabels:
    """Count the labels that arrived since the champion was trained; all, if there is none.

    Raises:
        DatasetError: there is no archive of events.
        ModelError: the registry does not answer.
    """
    tags = champion_tags(settings, model)
    said = None if tags is None else tags.get("training_window_end")
    since = None if said is None else datetime.fromisoformat(said)
    stored = scan_archive(settings, _COLUMNS)
    is_label = pl.col("event_type") == str(EventType.LABEL)
    arrival = pl.col("label_arrival_time").fill_null(pl.col("event_time"))
    kind = str(LABELLED[model])
    try:
        chosen = stored.filter(is_label | (pl.col("event_type") == kind)).collect()
    except pl.exceptions.PolarsError as error:
        raise unreadable(settings, _COLUMNS, error) from error
    chosen = remembered(chosen, settings)
    labels = chosen.filter(is_label & (arrival > since if since else pl.lit(value=True)))
    about = chosen.filter(~is_label).select("customer_id", label_event_id="event_id").unique()
    count = labels.join(about, on=["customer_id", "label_event_id"], how="semi").height
    return NewLabels(model, since, count)
