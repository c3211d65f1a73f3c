"""The data set of a model that learns from labelled events: labels, features, and the checks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from training.dataset import Examples, join_features
from training.embedding.versions import load_embedding
from training.history import check_history, fill_history, midnights
from training.labels import labelled_events
from training.leakage import check_leakage

log = logging.getLogger(__name__)


def labelled_examples(
    settings: Settings,
    model: str,
    kind: EventType,
    delay: timedelta,
    window: tuple[datetime | None, datetime | None],
    *,
    noun: str,
    least: int,
    columns: Sequence[str],
) -> Examples:
    """The events of a type whose labels had arrived by the window's end, with their features.

    Args:
        model: whose feature service is joined.
        kind, delay, window: of the events, see `training.labels.labelled_events`.
        noun: what messages call the events.
        least: fewer than this make no model worth judging.
        columns: of `Labelled.frame`, what the model needs beside the features.

    Raises:
        DatasetError: no offline store, no label, fewer than `least` events with one, or a feature
            that knows the future.
    """
    found = labelled_events(settings, kind, delay, *window)
    log.info("%s %s with a label (%s)", f"{found.frame.height:,}", noun, found.counts)
    if found.frame.height < least:
        raise DatasetError(
            "window",
            f"{found.window_start} .. {found.window_end}",
            f"at least {least} {noun} with a label, it has {found.frame.height}",
            "widen it, or stream more events",
        )
    examples = found.frame.select(columns)
    # Of each event's day; the flow `customer_history` brings them online.
    days = midnights(examples["event_timestamp"][0], found.window_end)
    fill_history(settings, days)
    dataset = join_features(settings, model, examples, load_embedding(settings))
    check_leakage(settings, dataset)
    check_history(settings, days)
    return Examples(dataset, (found.window_start, found.window_end), found.counts)
