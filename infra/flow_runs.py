"""Run the flows once, in one process, against the Prefect server: `python -m infra.flow_runs`.

What a schedule does later, the demo and the first `daima up` want now: batch features online,
then a model trained, registered and promoted. One process, since importing takes longer than
materialising.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> int:
    """Materialise, retrain; the last line is the outcome as JSON.

    Exit code 3 says that a model was trained and registered, but not promoted.
    """
    # Read by Prefect as it is imported: the flows' own libraries log to the run's page as well.
    os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "training,serving,feature_repo")
    from flows.materialize import materialize
    from flows.retrain import retrain

    materialize()
    outcome = retrain()
    print(
        json.dumps(
            {"version": outcome.version, "promoted": outcome.promoted, "verdict": outcome.verdict}
        ),
        flush=True,
    )
    return 0 if outcome.promoted else 3


if __name__ == "__main__":
    sys.exit(main())
