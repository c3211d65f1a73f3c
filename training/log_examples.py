"""A log as something to learn from: how to open it, and what it holds, by a fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.model_inputs import ModelInput
from feature_repo.engine.projection import log_times_us
from training.archive import shown
from training.dataset import Dataset, Examples, fingerprint
from training.log_source import Log


@dataclass(frozen=True)
class LogExamples(Examples):
    """What there is to learn from: a log, not a table. Its data set has inputs and no rows.

    Attributes:
        log: opens it at its beginning.
        feature_set: whose features are computed.
        start: sessions that begin before it do not count.
    """

    log: Log
    feature_set: FeatureSet
    start: datetime | None = None


def log_examples(
    model: str,
    opened: Log,
    feature_set: FeatureSet,
    inputs: tuple[ModelInput, ...],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> LogExamples:
    """Read a log once, to know what it holds.

    Args:
        model: its name.
        opened: of `training.log_source`.
        feature_set: whose features are computed.
        inputs: those of them that the model is fed.
        start: sessions that begin before it do not count.
        end: what the log was cut at, to be named in an error.

    Raises:
        DatasetError: it holds no event.

    Trap: a live log holds more when it is opened again; the fingerprint is of the first reading.
    """
    digest, events, first_us, last_us = hashlib.sha256(repr(start).encode()), 0, None, 0
    for partition, batch in opened():
        if not len(batch):
            continue
        known = log_times_us(batch)
        first_us = int(known.min()) if first_us is None else min(first_us, int(known.min()))
        last_us, events = max(last_us, int(known.max())), events + len(batch)
        frame = pl.DataFrame(pl.from_arrow(batch.select(["customer_id", "event_id", "event_time"])))
        digest.update(f"{partition} {fingerprint(frame)}".encode())
    if first_us is None:
        raise DatasetError(
            "window",
            shown(start, end),
            "at least one event",
            "widen it, or stream events first",
        )
    first, last = (datetime.fromtimestamp(us / 1e6, UTC) for us in (first_us, last_us))
    return LogExamples(
        dataset=Dataset(model, inputs, pl.DataFrame(), (), digest.hexdigest()[:16]),
        window=(start or first, last),
        counts={"events": events},
        log=opened,
        feature_set=feature_set,
        start=start,
    )
