"""One model from the offline store to a registered version, judged; what the flow does in tasks.

    python -m training.retraining session_duration --end 2026-03-01T00:00:00Z

Promotes nothing: aliases are serving's (`daima promote`, or the `retrain` flow).
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import Settings
from training.candidate import identity_of
from training.champion import load_champion
from training.configuration import config_fingerprint, load_config
from training.dataset import Examples
from training.evaluation.gate import Decision
from training.judging import Trained, judge
from training.models import MODELS, model_named
from training.registry import register, registered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retrained:
    """A version and what it is made of; `trained` and `decision` are None where it was there."""

    version: int
    trained: Trained | None
    decision: Decision | None


def identity(model: str, examples: Examples, config: Any) -> str:
    """What makes training on these examples the same as another: see `identity_of`."""
    return identity_of(model, examples.dataset.fingerprint, config_fingerprint(config))


def retrain(
    settings: Settings,
    model: str,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    changes: Mapping[str, object] | None = None,
    report: Callable[[str], None] = log.info,
) -> Retrained:
    """Build the data set, train, judge and register; promotes nothing.

    A window and configuration that a version was already trained on make no second one.

    Raises:
        DatasetError: the window holds too little; nothing is registered then.
        ModelError: no such model or configuration, or the tracking server does not answer.
    """
    module = model_named(model)
    config = load_config(module.Config, model, changes)
    examples = module.build(settings, start, end, config)
    same = identity(model, examples, config)
    known = registered(settings, model, same)
    if known is not None:
        report(f"{model} version {known} was trained on these data already")
        return Retrained(known, None, None)
    trained = module.train(examples, config, report)
    decision = judge(trained, load_champion(settings, model))
    report(decision.verdict)
    return Retrained(register(settings, trained.candidate, decision, same), trained, decision)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train one model from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.retraining", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("model", choices=sorted(MODELS))
    for name in ("start", "end"):
        parser.add_argument(
            f"--{name}", type=datetime.fromisoformat, help="of the window, 2026-03-01T00:00:00Z"
        )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes",
        help="another value of the configuration, such as threads=1",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    # What is said is what was done; MLflow would draw a bar for each file that it reads.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    try:
        done = retrain(
            Settings.from_env(),
            options.model,
            options.start,
            options.end,
            changes=_values(options.changes),
            report=print,
        )
    except DaimaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.model} version {done.version}")
    return 0


def _values(changes: Sequence[str]) -> dict[str, object]:
    import yaml  # noqa: PLC0415 - types as in the configuration's file

    return {
        name: yaml.safe_load(value) for name, _, value in (each.partition("=") for each in changes)
    }


if __name__ == "__main__":
    sys.exit(main())
