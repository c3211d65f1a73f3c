"""The same judgement on parts of the rows: corridors, channels, new customers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from training.evaluation.bootstrap import Clusters, Interval, paired_interval
from training.evaluation.metrics import Floats, Metric

# Below this a slice says nothing either way.
LEAST_ROWS = 200
LEAST_EVENTS = 20
MOST_VALUES = 20


@dataclass(frozen=True)
class Slice:
    """One part of the rows, on which both sides were judged.

    Attributes:
        name: `corridor=GB-NG`.
        rows: how many.
        ours, theirs: the metric.
        interval: of ours - theirs.
    """

    name: str
    rows: int
    ours: float
    theirs: float
    interval: Interval


def slices(  # noqa: PLR0917 - the same as an interval's, by group
    groups: Mapping[str, pl.Series],
    metric: Metric,
    target: Floats,
    ours: Floats,
    theirs: Floats,
    clusters: Clusters,
    *,
    binary: bool = False,
    resamples: int = 200,
    seed: int = 0,
) -> list[Slice]:
    """Judge each value of each group that has rows enough; the most frequent values first.

    Args:
        groups: name -> (n,) values; null is a value of its own.
        binary: whether targets are events, of which a slice must have `LEAST_EVENTS`, and as many
            rows without.
        resamples: draws a slice.
    """
    found = []
    for group, values in groups.items():
        texts = values.cast(pl.String).fill_null("(none)")
        counts = texts.value_counts(sort=True).head(MOST_VALUES)
        for value, rows in counts.iter_rows():
            chosen = (texts == value).to_numpy()
            some = target[chosen]
            scarce = binary and min(some.sum(), (1 - some).sum()) < LEAST_EVENTS
            if rows < LEAST_ROWS or scarce:
                continue
            found.append(
                Slice(
                    f"{group}={value}",
                    rows,
                    metric(some, ours[chosen]),
                    metric(some, theirs[chosen]),
                    paired_interval(
                        metric,
                        some,
                        ours[chosen],
                        theirs[chosen],
                        clusters[chosen],
                        resamples=resamples,
                        seed=seed,
                    ),
                )
            )
    return found


def slice_table(found: list[Slice]) -> pl.DataFrame:
    """As a table: slice, rows, ours, theirs, difference, low, high."""
    return pl.DataFrame(
        [
            {
                "slice": each.name,
                "rows": each.rows,
                "ours": each.ours,
                "theirs": each.theirs,
                "difference": each.ours - each.theirs,
                "low": each.interval.low,
                "high": each.interval.high,
            }
            for each in found
        ],
        schema={
            "slice": pl.String,
            "rows": pl.Int64,
            **dict.fromkeys(("ours", "theirs", "difference", "low", "high"), pl.Float64),
        },
    )


def new_customers(tenure_days: pl.Series, within_days: int = 30) -> pl.Series:
    """A slice by tenure: `new` up to so many days, else `known`; null where it is not known."""
    return (
        pl.DataFrame({"tenure": tenure_days})
        .select(
            pl.when(pl.col("tenure").is_null())
            .then(None)
            .when(pl.col("tenure") <= within_days)
            .then(pl.lit("new"))
            .otherwise(pl.lit("known"))
        )
        .to_series()
    )


def as_clusters(customers: pl.Series) -> Clusters:
    """Customers as numbers from 0: what is drawn together."""
    return customers.rank("dense").to_numpy().astype(np.int64) - 1
