"""Serving the flows as Prefect deployments with schedules: `python -m flows.deployments`."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from prefect import serve
from prefect.deployments.runner import EntrypointType

from feature_repo.contracts.scored import SCORED
from flows.customer_history import customer_history
from flows.drift import drift
from flows.embed_customers import embed_customers
from flows.events import retrain_on
from flows.fit_segments import fit_segments_flow
from flows.materialize import materialize
from flows.new_labels import watch_labels
from flows.parity import parity
from flows.retrain import retrain
from flows.retrain_embeddings import retrain_embeddings
from flows.score import score
from training.asked import ASKED
from training.models import MODELS


def deployments(
    *,
    retrain_every: timedelta,
    materialize_every: timedelta = timedelta(days=1),
    segments_every: timedelta = timedelta(days=1),
    score_every: timedelta = timedelta(days=1),
    parity_every: timedelta = timedelta(days=1),
    drift_every: timedelta = timedelta(days=1),
    labels_every: timedelta = timedelta(hours=1),
    history_every: timedelta = timedelta(days=1),
    embeddings_every: timedelta = timedelta(days=1),
) -> list[Any]:
    """The deployments of all flows, on their schedules.

    Args:
        retrain_every: interval between two retrainings of a model.
        materialize_every: interval between two materialisations.
        segments_every: interval between two fits of the segments.
        score_every: interval between two scorings of all customers, of each model.
        parity_every: interval between two comparisons of what was served, of each model.
        drift_every: interval between two comparisons with the training data, of each model.
        labels_every: interval between two looks at the labels that have arrived.
        history_every: interval between two rows of every customer's last 90 days.
        embeddings_every: interval between two retrainings of the embeddings, and between two
            recomputations of all vectors.
    """
    return [
        *(
            _of_model(retrain, model, retrain_every, "training", triggers=retrain_on(model))
            for model in MODELS
        ),
        _deployment(materialize, "batch-views", materialize_every, "features"),
        *(_of_model(parity, model, parity_every, "features") for model in MODELS),
        *(_of_model(drift, model, drift_every, "features") for model in MODELS if model in ASKED),
        *(_of_model(score, model, score_every, "features") for model in SCORED),
        _deployment(watch_labels, "labels", labels_every, "training"),
        _deployment(fit_segments_flow, "segments", segments_every, "training", "features"),
        _deployment(customer_history, "customers", history_every, "features"),
        _deployment(retrain_embeddings, "embeddings", embeddings_every, "training"),
        _deployment(embed_customers, "embeddings", embeddings_every, "features"),
    ]


def _of_model(flow: Any, model: str, every: timedelta, *tags: str, **more: Any) -> Any:
    return _deployment(
        flow, model.replace("_", "-"), every, *tags, parameters={"model": model}, **more
    )


def _deployment(flow: Any, name: str, every: timedelta, *tags: str, **more: Any) -> Any:
    return flow.to_deployment(
        name=name,
        interval=every,
        concurrency_limit=1,
        tags=["daima", *tags],
        entrypoint_type=EntrypointType.MODULE_PATH,  # works from any folder
        **more,
    )


def serve_deployments(
    *,
    retrain_every: timedelta = timedelta(minutes=30),
    materialize_every: timedelta = timedelta(days=1),
    segments_every: timedelta = timedelta(days=1),
    score_every: timedelta = timedelta(days=1),
    parity_every: timedelta = timedelta(days=1),
    drift_every: timedelta = timedelta(days=1),
    labels_every: timedelta = timedelta(hours=1),
    embeddings_every: timedelta = timedelta(days=1),
) -> None:
    """Serve the deployments until the process is told to end (SIGINT, SIGTERM).

    One run at a time: on SQLite, several write at once and get "database is locked".
    """
    serve(
        *deployments(
            retrain_every=retrain_every,
            materialize_every=materialize_every,
            segments_every=segments_every,
            score_every=score_every,
            parity_every=parity_every,
            drift_every=drift_every,
            labels_every=labels_every,
            embeddings_every=embeddings_every,
        ),
        limit=1,
        print_starting_message=False,
    )


def main() -> None:
    """Read the schedules from the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--retrain-every-min", type=float, default=30.0)
    parser.add_argument("--materialize-every-h", type=float, default=24.0)
    parser.add_argument("--segments-every-h", type=float, default=24.0)
    parser.add_argument("--score-every-h", type=float, default=24.0)
    parser.add_argument("--parity-every-h", type=float, default=24.0)
    parser.add_argument("--drift-every-h", type=float, default=24.0)
    parser.add_argument("--labels-every-h", type=float, default=1.0)
    parser.add_argument("--embeddings-every-h", type=float, default=24.0)
    options = parser.parse_args()
    serve_deployments(
        retrain_every=timedelta(minutes=options.retrain_every_min),
        materialize_every=timedelta(hours=options.materialize_every_h),
        segments_every=timedelta(hours=options.segments_every_h),
        score_every=timedelta(hours=options.score_every_h),
        parity_every=timedelta(hours=options.parity_every_h),
        drift_every=timedelta(hours=options.drift_every_h),
        labels_every=timedelta(hours=options.labels_every_h),
        embeddings_every=timedelta(hours=options.embeddings_every_h),
    )


if __name__ == "__main__":
    main()
