"""Predictions of a champion for all customers at one instant, from the offline store.

What the API answers one by one, for whoever wants a whole list: campaigns, staffing, reports.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.contracts.scored import SCORED, score_view
from feature_repo.contracts.settings import Settings
from feature_repo.stores.view_rows import write_view_rows
from training.champion import Champion, load_champion
from training.dataset import join_features
from training.embedding.as_inputs import served_to
from training.sessions import observed_sessions

log = logging.getLogger(__name__)

# Who has not been seen for so long is nobody's customer any more.
SEEN_WITHIN = timedelta(days=90)


@dataclass(frozen=True)
class Scores:
    """Predictions of one version.

    Attributes:
        model, version: whose.
        at: the instant as of which features were taken.
        rows: customer_id, and the columns of `score_columns`.
    """

    model: str
    version: int
    at: datetime
    rows: pl.DataFrame


def score_all(
    settings: Settings,
    model: str,
    at: datetime | None = None,
    seen_within: timedelta = SEEN_WITHIN,
) -> Scores:
    """Predict for every customer seen lately, as of an instant.

    Args:
        model: one of `SCORED`; its champion predicts.
        at: aware instant; None: the last event there is. Nothing later is looked at.
        seen_within: who had a session in so long before `at`.

    Raises:
        ModelError: the model is not scored, or has no champion.
        DatasetError: no customer was seen, or the champion asks for features that are not there.
    """
    if model not in SCORED:
        raise ModelError("model", model, f"one of {sorted(SCORED)}", "name one of them")
    champion = load_champion(settings, model)
    if champion is None:
        raise ModelError(f"{model}@champion", expected="a version", action="retrain it first")
    observed = observed_sessions(settings, end=at)
    moment = observed.window_end if at is None else at
    seen = observed.frame.filter(pl.col("event_timestamp") >= moment - seen_within)
    if seen.is_empty():
        raise DatasetError(
            "customers", 0, f"a session within {seen_within} before {moment}", "stream events first"
        )
    entities = (
        seen.sort("event_timestamp")
        .group_by("customer_id", maintain_order=True)
        .agg(pl.col("corridor").drop_nulls().last())
        .with_columns(
            # Nobody is being paid at this moment.
            counterparty_id=pl.lit(None, pl.String),
            event_timestamp=pl.lit(moment).cast(pl.Datetime("us", "UTC")),
        )
    )
    frame = join_features(
        settings, champion.inputs.feature_service, entities, served_to(settings, champion.inputs)
    ).frame
    absent = [name for name in champion.inputs.stored.names if name not in frame.columns]
    if absent:
        raise DatasetError(
            f"features of {model} version {champion.version}",
            absent,
            "those of its feature service",
            "retrain it, or apply the definitions that it was trained with",
        )
    log.info("%s customers scored by %s version %s", frame.height, model, champion.version)
    return Scores(model, champion.version, moment, _rows(frame, champion))


def _rows(frame: pl.DataFrame, champion: Champion) -> pl.DataFrame:
    scored, name = champion.scored(frame), champion.name
    # Of classes, the chance of the likeliest.
    chances = scored.scores if scored.classes is not None else scored.probabilities
    return pl.DataFrame(
        {
            "customer_id": frame["customer_id"],
            f"{name}_prediction": scored.predictions,
            f"{name}_probability": pl.Series(
                [None] * frame.height if chances is None else chances, dtype=pl.Float64
            ),
            f"{name}_version": pl.repeat(
                champion.version, frame.height, dtype=pl.Int64, eager=True
            ),
        }
    )


def publish_scores(settings: Settings, scores: Scores) -> int:
    """Write scores to both stores, as of their instant; how many.

    Raises:
        DatasetError: the view is not applied.
        StoreUnavailableError: the online store does not answer.
    """
    write_view_rows(settings, score_view(scores.model), scores.rows, scores.at)
    return scores.rows.height
