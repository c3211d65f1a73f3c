"""How long will this session last? Answered by a network that learns from the log as it comes.

The target is `session_duration`'s: log1p of the seconds from a session's first event to its last.
Events are read batch by batch, folded by our own engine, and never joined: the network is fed the
stream features of that model. It predicts each session as it begins and learns from micro-batches
of those that have closed, so all that is ever judged was predicted before it was known.

Read `build` and `train` from top to bottom; `training.prequential` is the loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.feature_set import FeatureSet, load_feature_set
from feature_repo.contracts.features import CUSTOMER
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.network import Network
from feature_repo.scoring.scorers import NeuralScorer
from training.archive import check_window
from training.candidate import Candidate, golden_rows
from training.dataset import service_inputs
from training.errors_over_time import errors_picture
from training.evaluation.gate import HeldOut, Tolerance
from training.evaluation.metrics import RMSE
from training.evaluation.slices import as_clusters
from training.growing_inputs import frame_of, with_new_categories
from training.importance import importance_picture, permutation_importance
from training.judging import Trained
from training.log_examples import LogExamples, log_examples
from training.log_source import archive_log
from training.network_onnx import to_onnx
from training.prequential import Learner, Prequential
from training.prequential_decision import decided
from training.running_baselines import RunningMean, RunningWeibull
from training.session_starts import Happened, SessionStarts
from training.streamed_network import Columns, NetworkConfig, StreamedNetwork

log = logging.getLogger(__name__)

NAME = "session_duration_network"
TARGET = "log1p_duration_s"
WEIBULL = "Weibull expectation"
# Fewer judged sessions than this say nothing.
MIN_SESSIONS = 50
_LINES_EVERY = 50_000
_CARD = """\
How long will this session last? Asked at a session's first event, of customers of a remittance
service; learnt from the stream, a micro-batch of closed sessions at a time. Meant for planning and
for choosing what to show; not for decisions about a person. Its figures are prequential: each
session was predicted with what had been learnt before it began."""


@dataclass(frozen=True, kw_only=True)
class Config(NetworkConfig):
    """The configuration; its values stand in `configs/session_duration_network.yaml`.

    Attributes:
        baseline_group: the input by which both baselines group.
        micro_batch: closed sessions that are learnt from together.
        burn_in: closed sessions before the first that is judged.
        events_a_burnt: at most one session for so many events is not judged: a small log has
            fewer sessions to warm up on.
        weibull_refit_every: micro-batches between fits of the Weibull distributions.
        weibull_sessions: closed sessions they are fitted to; of more, a uniform sample.
        latest: sessions on which a version is compared with a champion, the latest judged.
        periods: inputs that go round, and after how much.
        bootstrap_resamples: draws for the intervals.
        tolerance: how much worse than the champion a version may be.
    """

    baseline_group: str
    micro_batch: int
    burn_in: int
    events_a_burnt: int
    weibull_refit_every: int
    weibull_sessions: int
    latest: int
    periods: dict[str, float]
    bootstrap_resamples: int
    tolerance: Tolerance

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (
            self.micro_batch,
            self.events_a_burnt,
            self.weibull_refit_every,
            self.weibull_sessions,
            self.latest,
        )
        if min(counts) < 1 or self.burn_in < 0:
            raise ValueError("counts of 1 or more, and a burn_in of 0 or more")
        if min(self.periods.values(), default=1.0) <= 0:
            raise ValueError("periods above 0")


def build(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    config: Config | None = None,
) -> LogExamples:
    """The archive of events up to `end`, as a log; reads it once, to know what it holds.

    Raises:
        DatasetError: no archive, no event in the window, or a naive or inverted one.
    """
    del config  # nothing of the log depends on it
    check_window(start, end)
    feature_set = load_feature_set(settings.definitions)
    return log_examples(
        NAME,
        archive_log(settings, feature_set, end),
        feature_set,
        stream_inputs(settings, feature_set),
        start=start,
        end=end,
    )


def stream_inputs(settings: Settings, feature_set: FeatureSet) -> tuple[ModelInput, ...]:
    """The inputs of its service, which the engine gives at an event of a customer.

    Raises:
        DatasetError: the service is not applied, or has features that are not in the stream.
    """
    views = {view.name for view in feature_set.views_of(feature_set.entity(CUSTOMER.name))}
    inputs = service_inputs(settings, NAME)
    joined = [item.ref for item in inputs if item.view not in views]
    if joined:
        raise DatasetError(
            f"feature service {NAME}", joined, f"features of {sorted(views)}", "leave them out"
        )
    return inputs


def train(
    examples: LogExamples, config: Config, report: Callable[[str], None] = log.info
) -> Trained:
    """Test, then train, from the first event to the last; what is judged is what was predicted.

    `report` gets a line every 50,000 closed sessions, and the verdict at the end.

    Raises:
        DatasetError: a column of the configuration is no input, or too few sessions closed.
    """
    began = time.perf_counter()
    inputs = ModelInputs(NAME, examples.dataset.inputs)
    burn_in = min(config.burn_in, examples.counts["events"] // config.events_a_burnt)
    network, mean_name, judge = _learners(inputs, config, burn_in)
    starts = SessionStarts(examples.feature_set, inputs.names, examples.start)
    lines = 0
    for partition, events in examples.log():
        happened = starts.fold(partition, events)
        inputs = with_new_categories(inputs, happened.features)
        _step(judge, inputs, happened)
        if judge.closed >= (lines + 1) * _LINES_EVERY:
            lines = judge.closed // _LINES_EVERY
            report(f"{judge.closed:,} sessions closed: {judge.errors.standing()}")

    latest = judge.latest()
    if latest is None or judge.errors.sessions < MIN_SESSIONS:
        raise DatasetError(
            "closed sessions",
            judge.closed,
            f"the burn-in of {burn_in:,}, and at least {MIN_SESSIONS} to be judged",
            "widen the window, stream more events, or set burn_in",
        )
    errors = judge.errors
    decision, metrics = decided(
        errors, NAME, (mean_name, WEIBULL), resamples=config.bootstrap_resamples, seed=config.seed
    )
    frame = frame_of(inputs, latest.rows)
    held_out = HeldOut(
        frame=frame,
        target=latest.target,
        prediction=latest.predictions[:, 0],
        baseline=latest.predictions[:, errors.names.index(decision.against)],
        clusters=as_clusters(pl.Series(latest.customers.tolist(), dtype=pl.String)),
        groups={
            name.split("_")[1]: frame[name]
            for name in ("session_corridor_last", "session_channel_last")
            if name in frame.columns
        },
    )
    scorer = NeuralScorer(Network(to_onnx(network)))
    weights = permutation_importance(
        inputs.columns, latest.rows, latest.target, RMSE,
        lambda rows: scorer.score(rows)[0], seed=config.seed,
    )  # fmt: skip
    over_time = errors.over_time()
    counts = examples.counts | {
        "sessions": judge.closed,
        "open": judge.open,
        "burn_in": burn_in,
        "train": judge.trained,
        "test": errors.sessions,
        "late": starts.late,
    }
    metrics["training_s"] = time.perf_counter() - began
    trained = Trained(
        candidate=Candidate(
            inputs=inputs,
            scorer=scorer,
            target="session_duration_s",
            target_transform="log1p",
            unit="s",
            metric_name="rmse",
            metric_value=metrics["rmse"],
            metrics={**metrics, **{f"{name}_rows": float(n) for name, n in counts.items()}},
            params=asdict(config),
            window=examples.window,
            data_fingerprint=examples.dataset.fingerprint,
            importance=weights,
            pictures={
                "importance.png": importance_picture(
                    weights.drop("share"), "Session duration, network: importance of inputs"
                ),
                "errors_over_time.png": errors_picture(over_time),
            },
            tags={"baseline": decision.against},
            examples=golden_rows(latest.rows),
            card=_CARD,
            tables={"errors_over_time": over_time},
        ),
        metric=RMSE,
        held_out=held_out,
        baseline=decision.against,
        against_baseline=decision,
        counts=counts,
        tolerance=config.tolerance,
        resamples=config.bootstrap_resamples,
        seed=config.seed,
    )
    report(f"{trained.verdict} ({metrics['training_s']:.1f} s)")
    return trained


def _learners(
    inputs: ModelInputs, config: Config, burn_in: int
) -> tuple[StreamedNetwork, str, Prequential]:
    """The network, the first baseline's name, and the loop over both baselines and it."""
    for name in (config.baseline_group, *config.periods):
        if name not in inputs.names:
            raise DatasetError(
                "configuration", name, f"a feature of the {NAME} service", "name one of its inputs"
            )
    group = inputs.names.index(config.baseline_group)
    if inputs.inputs[group].dtype != "String":
        raise DatasetError(
            "baseline_group", config.baseline_group, "a category", "name a text feature"
        )
    columns = Columns(
        width=inputs.width,
        categorical=tuple(inputs.names.index(name) for name in inputs.categorical),
        periodic={inputs.names.index(name): period for name, period in config.periods.items()},
    )
    network = StreamedNetwork(columns, config)
    mean_name = f"mean per {config.baseline_group}"
    learners: dict[str, Learner] = {
        NAME: network,
        mean_name: RunningMean(group),
        WEIBULL: RunningWeibull(
            group,
            refit_every=config.weibull_refit_every,
            most=config.weibull_sessions,
            seed=config.seed,
        ),
    }
    judge = Prequential(
        learners, micro_batch=config.micro_batch, burn_in=burn_in, latest=config.latest
    )
    return network, mean_name, judge


def _step(judge: Prequential, inputs: ModelInputs, happened: Happened) -> None:
    customers = np.array([*happened.customers, None], dtype=object)[:-1]
    judge.step(
        happened.begun,
        (inputs.matrix(happened.features), customers, happened.began_us),
        (happened.closed, happened.closed_at, np.log1p(happened.duration_s)),
        happened.joined,
    )
