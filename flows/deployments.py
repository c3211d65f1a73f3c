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
from flows.events import retrain_on
from flows.fit_segments import fit_segments_flow
from flows.materialize import materialize
from flows.new_labels import watch_labels
from flows.parity import parity
from flows.retrain import retrain
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
) -> list[Any]:
    """The deployments: retraining of each model, and materialisation.

    Args:
        retrain_every: interval between two retrainings of a model.
        materialize_every: interval between two materialisations.
        segments_every: interval between two fits of the segments.
        score_every: interval between two scorings of all customers, of each model.
        parity_every: interval between two comparisons of what was served, of each model.
        drift_every: interval between two comparisons with the training data, of each model.
        labels_every: interval between two looks at the labels that have arrived.
        history_every: interval between two rows of every customer's last 90 days.
    """
    return [
        *(
            retrain.to_deployment(
                name=model.replace("_", "-"),
                parameters={"model": model},
                interval=retrain_every,
                triggers=retrain_on(model),
                concurrency_limit=1,
                tags=["daima", "training"],
                entrypoint_type=EntrypointType.MODULE_PATH,  # works from any folder
            )
            for model in MODELS
        ),
        materialize.to_deployment(
            name="batch-views",
            interval=materialize_every,
            concurrency_limit=1,
            tags=["daima", "features"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
        *(
            parity.to_deployment(
                name=model.replace("_", "-"),
                parameters={"model": model},
                interval=parity_every,
                concurrency_limit=1,
                tags=["daima", "features"],
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
            for model in MODELS
        ),
        *(
            drift.to_deployment(
                name=model.replace("_", "-"),
                parameters={"model": model},
                interval=drift_every,
                concurrency_limit=1,
                tags=["daima", "features"],
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
            for model in MODELS
            if model in ASKED
        ),
        *(
            score.to_deployment(
                name=model.replace("_", "-"),
                parameters={"model": model},
                interval=score_every,
                concurrency_limit=1,
                tags=["daima", "features"],
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
            for model in SCORED
        ),
        watch_labels.to_deployment(
            name="labels",
            interval=labels_every,
            concurrency_limit=1,
            tags=["daima", "training"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
        fit_segments_flow.to_deployment(
            name="segments",
            interval=segments_every,
            concurrency_limit=1,
            tags=["daima", "training", "features"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
        customer_history.to_deployment(
            name="customers",
            interval=history_every,
            concurrency_limit=1,
            tags=["daima", "features"],
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    ]


def serve_deployments(
    *,
    retrain_every: timedelta = timedelta(minutes=30),
    materialize_every: timedelta = timedelta(days=1),
    segments_every: timedelta = timedelta(days=1),
    score_every: timedelta = timedelta(days=1),
    parity_every: timedelta = timedelta(days=1),
    drift_every: timedelta = timedelta(days=1),
    labels_every: timedelta = timedelta(hours=1),
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
    options = parser.parse_args()
    serve_deployments(
        retrain_every=timedelta(minutes=options.retrain_every_min),
        materialize_every=timedelta(hours=options.materialize_every_h),
        segments_every=timedelta(hours=options.segments_every_h),
        score_every=timedelta(hours=options.score_every_h),
        parity_every=timedelta(hours=options.parity_every_h),
        drift_every=timedelta(hours=options.drift_every_h),
        labels_every=timedelta(hours=options.labels_every_h),
    )


if __name__ == "__main__":
    main()
