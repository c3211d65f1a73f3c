"""Run the flows once, in one process, against the Prefect server: `python -m infra.flow_runs`.

What a schedule does later, the demo and the first `daima up` want now: batch features online,
then a model trained, registered and promoted. With `--embeddings` segments and customers'
embeddings too. One process, since importing takes longer than materialising.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RETRAIN, EMBED = "retrain", "retrain_embeddings"
MAP_FILE = "customers.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Materialise, retrain, and what the options say; a line of JSON as each model is done.

    Exit code 3 says that a model was trained and registered, but not promoted. Embeddings that are
    not promoted, or too few sessions to train any, are no failure: their line says why.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--embeddings", action="store_true", help="also segments and customers' embeddings"
    )
    options = parser.parse_args(arguments)
    # Read by Prefect as it is imported: the flows' own libraries log to the run's page as well.
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "training,serving,feature_repo")
    from flows.materialize import materialize
    from flows.retrain import retrain

    materialize()
    outcome = retrain()
    _say(RETRAIN, outcome.version, outcome.promoted, outcome.verdict)
    if not outcome.promoted:
        return 3
    if options.embeddings:
        _embed()
    return 0


def outcomes(printed: str) -> dict[str, dict[str, Any]]:
    """What this program has said so far, by flow.

    >>> outcomes('12:00 | INFO\\n{"flow": "retrain", "version": 1, "promoted": true}\\n')
    {'retrain': {'version': 1, 'promoted': True}}
    """
    found = (json.loads(line) for line in printed.splitlines() if line.startswith('{"flow"'))
    return {each.pop("flow"): each for each in found}


def _embed() -> None:
    from feature_repo.contracts.errors import DatasetError
    from feature_repo.contracts.settings import Settings
    from flows.fit_segments import fit_segments_flow
    from flows.retrain_embeddings import retrain_embeddings

    try:
        fit_segments_flow()  # the map is coloured by them
        outcome = retrain_embeddings()
    except DatasetError as error:
        _say(EMBED, None, False, str(error))
        return
    picture = _map_of(Settings.from_env(), outcome.name, outcome.version)
    _say(EMBED, outcome.version, outcome.promoted, outcome.verdict, map=str(picture))


def _map_of(settings: Any, name: str, version: int) -> Path:
    """A copy of the version's map, where people find it."""
    import mlflow

    mlflow.set_tracking_uri(settings.mlflow_url)
    picture = mlflow.artifacts.download_artifacts(
        f"models:/{name}/{version}/map.png", dst_path=str(settings.home / "logs")
    )
    return Path(picture).replace(settings.home / MAP_FILE)


def _say(flow: str, version: int | None, promoted: bool, verdict: str, **more: str) -> None:
    line = {"flow": flow, "version": version, "promoted": promoted, "verdict": verdict, **more}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
