"""No data set is built in which a feature knows the future."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.settings import Settings
from feature_repo.stores import stream_columns
from feature_repo.stores.stream_history import Spine
from training.dataset import Dataset, join_features
from training.labels import labelled_events
from training.leakage import check_leakage
from training.models import MODELS

pytestmark = pytest.mark.xdist_group("training")  # the stores are made once
SERVICE = "session_duration"


@pytest.fixture(scope="module")
def dataset(small_world: Settings) -> Dataset:
    logins = labelled_events(small_world, EventType.LOGIN, timedelta(days=1)).frame
    entities = logins.select("customer_id", "corridor", "event_timestamp").tail(4_000)
    return join_features(small_world, SERVICE, entities)


def test_an_honest_data_set_passes(small_world: Settings, dataset: Dataset) -> None:
    check_leakage(small_world, dataset, sample=60)


def test_one_future_event_in_one_example_is_found(small_world: Settings, dataset: Dataset) -> None:
    few = replace(dataset, frame=dataset.frame.tail(20))
    check_leakage(small_world, few)
    first = pl.int_range(pl.len()) == 11
    for feature in (
        "event_count_24h",
        "session_device_last",
        "payment_submitted_amount_ref_minor_sum_7d",
    ):
        column = pl.col(feature)
        more = pl.lit("another") if few.frame[feature].dtype == pl.String else column + 1
        leaky = replace(
            few,
            frame=few.frame.with_columns(
                pl.when(first).then(more).otherwise(column).alias(feature)
            ),
        )
        with pytest.raises(DatasetError, match=f"feature {feature} of c0.*it knows something"):
            check_leakage(small_world, leaky)


def test_a_batch_row_of_tomorrow_is_found(small_world: Settings, dataset: Dataset) -> None:
    later = dataset.frame.select(
        "customer_id", "corridor", pl.col("event_timestamp") + timedelta(days=1)
    )
    tomorrow = join_features(small_world, SERVICE, later).frame
    leaky = replace(
        dataset,
        frame=dataset.frame.with_columns(tomorrow["sent_30d_ref_minor"], tomorrow["tenure_days"]),
    )
    with pytest.raises(DatasetError, match="as from what was known at that instant"):
        check_leakage(small_world, leaky)


# Value is fed no stream feature; the network reads the log itself, event by event
# (test_a_later_label_cannot_change_an_earlier_prediction).
STREAMED = sorted(set(MODELS) - {"customer_value", "session_duration_network"})


@pytest.mark.parametrize("model", STREAMED)
def test_no_model_builds_on_features_that_know_a_minute_too_much(
    model: str, small_world: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers as of a minute later: with an event in that minute it knows too much."""
    honest = Spine.of

    def ahead(feature_set: Any, rows: Any, time_column: str) -> Spine:
        spine = honest(feature_set, rows, time_column)
        return replace(spine, at_us=pc.add(spine.at_us, pa.scalar(60_000_000)))

    # The store's alone: the check asks honestly.
    monkeypatch.setattr(stream_columns, "Spine", SimpleNamespace(of=ahead))
    with pytest.raises(DatasetError, match="it knows something of later"):
        MODELS[model].build(small_world, None, None, None)
