"""From a filled offline store to an API with a model: what demo and `daima up` begin with."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from infra.flow_runs import EMBED, RETRAIN, outcomes
from infra.http_json import NoAnswerError, exchange
from infra.processes import Child, ProcessError
from infra.progress import Reporter
from infra.servers import API
from infra.stack import LocalStack

MODEL = "session_duration"
_POLL_S = 0.2
_TRAINING = "Materialising, training, registering, promoting"
_ALL_LINES = 100_000


def train(reporter: Reporter, stack: LocalStack) -> None:
    """Batch features online, then a model trained, registered and promoted, by the flows.

    Raises:
        ProcessError: a flow failed, or the model did not beat its baseline.
    """
    flows = stack.run_python("flows", "-m", "infra.flow_runs")
    wait_for(reporter, _TRAINING, flows)


def train_with_embeddings(reporter: Reporter, stack: LocalStack) -> dict[str, Any]:
    """As `train`, and then segments and customers' embeddings.

    Returns:
        What became of the embeddings: `version` (None: too few sessions), `promoted`, `verdict`,
        and `map`, the file with the map of customers.

    Raises:
        ProcessError: a flow failed, or the model did not beat its baseline.
    """
    flows = stack.run_python("flows", "-m", "infra.flow_runs", "--embeddings")
    with reporter.step(_TRAINING) as step:
        while flows.running and RETRAIN not in outcomes(flows.tail(_ALL_LINES)):
            step.advance(0)
            time.sleep(_POLL_S)
    wait_for(reporter, "Placing segments, learning and writing customer embeddings", flows)
    return outcomes(flows.tail(_ALL_LINES))[EMBED]


def wait_for(reporter: Reporter, label: str, child: Child) -> None:
    """Wait for a command of the stack, showing that it goes on.

    Raises:
        ProcessError: it failed.
    """
    with reporter.step(label) as step:
        while child.running:
            step.advance(0)
            time.sleep(_POLL_S)
        child.wait_done()


def wait_for_servers(reporter: Reporter, stack: LocalStack, *names: str) -> None:
    """Wait until servers answer.

    Raises:
        ProcessError: one ended or does not answer.
    """
    with reporter.step(f"Starting {' and '.join(names)}"):
        stack.wait(*names)


def wait_for_model(
    reporter: Reporter, stack: LocalStack, timeout: timedelta = timedelta(seconds=60)
) -> None:
    """Wait until the API serves a model; it asks the registry every few seconds.

    Raises:
        ProcessError: it does not in time, or the API ended.
    """
    child = stack.child(API)
    deadline_s = time.monotonic() + timeout.total_seconds()
    ready: object = None
    with reporter.step("Loading the model into the prediction API") as step:
        while time.monotonic() < deadline_s and child.running:
            try:
                status, ready = exchange("GET", f"{stack.settings.api_url}/health/ready")
            except NoAnswerError as error:
                status, ready = 503, str(error)
            if status < 400:
                step.note(stack.settings.api_url)
                return
            step.advance(0)
            time.sleep(_POLL_S)
        raise ProcessError("API is not ready", action=f"{ready}; see {child.log}\n{child.tail()}")
