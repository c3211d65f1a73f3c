"""What was served beside what the offline store says: every kind of difference is counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.settings import Settings
from serving.feature_log import columns_of
from tests.training.sessions import START
from training.champion import Champion, load_champion
from training.dataset import join_features
from training.parity import FEATURE_LOG, compare
from training.retraining import retrain

NAME = "session_duration"
SERVED_AT = START + timedelta(days=8)
pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),
]
Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture(scope="module")
def champion(tracked: Settings) -> Champion:
    changes: dict[str, object] = {"max_rounds": 5, "num_leaves": 7, "bootstrap_resamples": 20}
    done = retrain(tracked, NAME, end=START + timedelta(days=5), changes=changes)
    client = mlflow.MlflowClient(tracked.mlflow_url)
    client.set_registered_model_alias(NAME, "champion", str(done.version))
    found = load_champion(tracked, NAME)
    client.delete_registered_model_alias(NAME, "champion")
    assert found is not None
    return found


def serve(
    settings: Settings, champion: Champion, change: Change = lambda rows: rows, count: int = 200
) -> None:
    """Leave a feature log as serving would, of customers at instants of the eighth day."""
    rng = np.random.default_rng(1)
    at = [SERVED_AT + timedelta(seconds=int(second)) for second in rng.integers(0, 7_000, count)]
    corridors = rng.choice(["GB-NG", "GB-IN", "US-MX"], count)
    entities = pl.DataFrame(
        {
            "customer_id": [f"c{number}" for number in rng.integers(0, 1_500, count)],
            "corridor": corridors,
            "event_timestamp": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
        }
    )
    frame = join_features(settings, NAME, entities).frame
    matrix = champion.inputs.matrix(frame)
    rows = pl.DataFrame(
        {
            "at": frame["event_timestamp"] + timedelta(milliseconds=3),
            "as_of": frame["event_timestamp"],
            "version": pl.Series([str(champion.version)] * count, dtype=pl.Categorical),
            "customer": frame["customer_id"],
            "corridor": frame["corridor"],
            **dict(zip(columns_of(champion.inputs), matrix.T, strict=True)),
        }
    )
    folder = settings.home / FEATURE_LOG / NAME / "date=2025-03-11"
    folder.mkdir(parents=True, exist_ok=True)
    for part, some in enumerate((rows[: count // 2], rows[count // 2 :])):
        change(some).write_parquet(folder / f"{part}.parquet")


def compared(settings: Settings, end: datetime = SERVED_AT + timedelta(hours=3)) -> pl.DataFrame:
    return compare(settings, NAME, SERVED_AT, end).features


def test_what_was_served_right_is_equal(tracked: Settings, champion: Champion) -> None:
    serve(tracked, champion)
    found = compare(tracked, NAME, SERVED_AT, SERVED_AT + timedelta(hours=3))
    assert found.rows == 200
    assert found.share == 0.0
    assert found.alarming(0.0) == []
    assert found.features.height == len(champion.inputs.inputs)


def test_each_kind_of_difference_is_counted(tracked: Settings, champion: Champion) -> None:
    tenure, count = "customer_profile:tenure_days", "customer_activity:event_count_7d"
    cost = "corridor_costs:cost_pct_usd200"

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        first = pl.int_range(pl.len()) < 10
        return rows.with_columns(
            pl.when(first).then(pl.col(count) + 1).otherwise(pl.col(count)).alias(count),
            pl.when(first).then(float("nan")).otherwise(pl.col(tenure)).alias(tenure),
            (pl.col(cost) * (1 + 1e-12)).alias(cost),  # another order of adding
        )

    serve(tracked, champion, change)
    found = {row["feature"]: row for row in compared(tracked).to_dicts()}
    assert found[count]["different"] == 20
    assert found[count]["share"] == pytest.approx(0.1)
    assert found[tenure]["missing"] == 20
    assert found[cost]["equal"] == 200
    parity = compare(tracked, NAME, SERVED_AT, SERVED_AT + timedelta(hours=3))
    assert parity.alarming(0.05) == sorted([count, tenure])
    assert parity.alarming(0.2) == []
    assert parity.features["feature"][0] in {count, tenure}  # the worst first
    assert 0 < parity.share < 0.01


def test_only_the_window_is_compared(tracked: Settings, champion: Champion) -> None:
    serve(tracked, champion)
    half = compared(tracked, SERVED_AT + timedelta(minutes=55))
    assert 20 < half["rows"][0] < 180
    with pytest.raises(DatasetError, match="rows of session_duration"):
        compared(tracked, SERVED_AT)


def test_nothing_served_and_unknown_versions(
    tracked: Settings, champion: Champion, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="DAIMA_FEATURE_LOG_SHARE"):
        compare(tracked, "horoscope", SERVED_AT, SERVED_AT + timedelta(days=1))
    serve(
        tracked,
        champion,
        lambda rows: rows.with_columns(version=pl.lit("999", pl.Categorical)),
    )
    with pytest.raises(ModelError, match="999"):
        compared(tracked)
