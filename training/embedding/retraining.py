"""Customer embeddings, from the archive to a judged version; what the flow does in tasks.

    python -m training.embedding.retraining --end 2026-03-01T00:00:00Z

Promotes nothing: that re-embeds all customers first (flow `retrain_embeddings`).
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DaimaError, DatasetError, ModelError
from feature_repo.contracts.events import to_epoch_us
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding import Encoder
from feature_repo.stores.latest_rows import SEGMENT, latest_files, latest_labels
from training.archive import check_window, shown
from training.candidate import identity_of
from training.configuration import config_fingerprint, load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.judging import Challenge, judged
from training.embedding.picture import map_picture
from training.embedding.sequences import Sequences, archived_sequences
from training.embedding.versions import (
    EmbeddingCandidate,
    EmbeddingVersion,
    load_embedding,
    register_embedding,
)
from training.evaluation.gate import Decision, Tolerance
from training.intents import INTENTS
from training.registry import registered

if TYPE_CHECKING:
    from training.embedding.fitting import Fitted

log = logging.getLogger(__name__)

# The latest quarter of the time judges.
_TEST_SHARE = 0.25
_RESAMPLES = 1_000
_TOLERANCE = Tolerance(overall=0.01, in_a_slice=0.10)
MIN_SESSIONS = 1_000
_CARD = """\
A dense profile of each customer: 64 numbers of length 1, learnt from what happens inside sessions,
from the sequence of sessions and from the balances seen at logins, by telling what the next session
is for. Meant as an input of models and for finding customers who behave alike; not for decisions
about a person by itself. Vectors of two versions must not be compared."""


@dataclass(frozen=True)
class EmbeddingExamples:
    """What is learnt from and judged on.

    Attributes:
        challenge: all sessions known at the window's end, and when the test part begins.
        window: of the events.
        fingerprint: of the sessions.
        segment: (customers,) of `challenge.sequences`, as told last; null where there is none.
            For the map alone: nothing is learnt from it.
    """

    challenge: Challenge
    window: tuple[datetime, datetime]
    fingerprint: str
    segment: pl.Series

    @property
    def known(self) -> Sequences:
        """What training may see: what was over when the test part began."""
        return self.challenge.sequences.until(self.challenge.test_start_us)


def build(settings: Settings, end: datetime | None = None) -> EmbeddingExamples:
    """All customers' sessions that were over by an instant.

    Raises:
        DatasetError: no archive, a naive instant, or fewer than MIN_SESSIONS sessions.
    """
    check_window(None, end)
    sequences = archived_sequences(settings, end).until(to_epoch_us(end or datetime.now(UTC)))
    count = len(sequences.sessions)
    if count < MIN_SESSIONS:
        raise DatasetError(
            "window",
            shown(None, end),
            f"at least {MIN_SESSIONS} finished sessions, it has {count}",
            "widen it, or stream more events",
        )
    first, last = int(sequences.sessions.start_us.min()), int(sequences.sessions.end_us.max())
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    window = (epoch + timedelta(microseconds=first), epoch + timedelta(microseconds=last))
    test_start = last - int((last - first) * _TEST_SHARE)
    view, feature = SEGMENT
    return EmbeddingExamples(
        Challenge(sequences, test_start),
        window,
        _fingerprint(sequences),
        latest_labels(sequences.customer_id, latest_files(settings, view), feature),
    )


def identity(examples: EmbeddingExamples, config: EmbeddingConfig) -> str:
    """What makes a version the same as another: sessions and configuration, whatever it began
    from."""
    return identity_of(NAME, examples.fingerprint, config_fingerprint(config))


def train_and_judge(
    examples: EmbeddingExamples,
    config: EmbeddingConfig,
    champion: EmbeddingVersion | None,
    report: Callable[[str], None] = log.info,
) -> tuple[EmbeddingCandidate, Decision]:
    """Train, from the champion on where there is one, and judge on what came later.

    Raises:
        DatasetError: there is too little to judge on.
        ModelError: torch is not installed, or the champion is of another shape.
    """
    fitted = _fit(examples, config, champion, report)
    decision, metrics = judged(
        examples.challenge,
        fitted.files,
        fitted.former,
        None
        if champion is None
        else (f"champion version {champion.version}", champion.files, champion.former),
        tolerance=_TOLERANCE,
        resamples=_RESAMPLES,
        seed=config.seed,
    )
    report(decision.verdict)
    candidate = EmbeddingCandidate(
        files=fitted.files,
        former=fitted.former,
        metrics=metrics | {"intent_loss": fitted.curve[-1].intent_loss},
        params=asdict(config) | {"warm_start": None if champion is None else champion.version},
        window=examples.window,
        data_fingerprint=examples.fingerprint,
        pictures={"map.png": map_of(examples, fitted.files, config)},
        card=_CARD,
    )
    return candidate, decision


def retrain(
    settings: Settings,
    end: datetime | None = None,
    *,
    changes: Mapping[str, object] | None = None,
    report: Callable[[str], None] = log.info,
) -> int:
    """Build, train, judge and register; the version, the one that was there for the same.

    Raises:
        DatasetError: the window holds too little; nothing is registered then.
        ModelError: a configuration is wrong, or the tracking server does not answer.
    """
    config = load_config(EmbeddingConfig, NAME, changes)
    examples = build(settings, end)
    same = identity(examples, config)
    known = registered(settings, NAME, same)
    if known is not None:
        report(f"version {known} was trained on these sessions already")
        return known
    champion = load_embedding(settings)
    candidate, decision = train_and_judge(examples, config, champion, report)
    return register_embedding(settings, candidate, decision, same)


def map_of(examples: EmbeddingExamples, files: dict[str, bytes], config: EmbeddingConfig) -> bytes:
    """Customers by their segment, where segments are known; else by what they mostly came for."""
    known = examples.known
    _, vectors, _ = Encoder(files).replay(known.offsets, known.sessions)
    segment = _segments(examples, known)
    if segment.null_count() < len(segment):
        return map_picture(vectors, segment, "Customers, by segment", seed=config.seed)
    mostly = (
        pl.DataFrame({"customer": known.customer, "intent": known.intent})
        .group_by("customer", maintain_order=True)
        .agg(pl.col("intent").mode().sort().first())["intent"]
    )
    names = mostly.replace_strict(dict(enumerate(INTENTS)), return_dtype=pl.String)
    return map_picture(
        vectors, names, "Customers, by what most sessions were for", seed=config.seed
    )


def _fit(
    examples: EmbeddingExamples,
    config: EmbeddingConfig,
    champion: EmbeddingVersion | None,
    report: Callable[[str], None],
) -> Fitted:
    try:
        from training.embedding.fitting import fit  # noqa: PLC0415 - torch is an extra
    except ModuleNotFoundError as error:
        raise ModelError(
            "torch", expected="the extra that networks are trained with",
            action="install it: pip install 'daima[torch]'",
        ) from error  # fmt: skip
    return fit(
        examples.known,
        config,
        examples.challenge.test_start_us,
        former=None if champion is None else champion.former,
        report=report,
    )


def _segments(examples: EmbeddingExamples, known: Sequences) -> pl.Series:
    """The segments of those who were known when the test part began."""
    everybody = pl.DataFrame(
        {"customer": examples.challenge.sequences.customer_id, "segment": examples.segment}
    )
    return (
        known.customer_id.to_frame("customer")
        .join(everybody, on="customer", how="left", maintain_order="left")
        .get_column("segment")
    )


def _fingerprint(sequences: Sequences) -> str:
    digest = hashlib.sha256("\n".join(sequences.customer_id.to_list()).encode())
    sessions = sequences.sessions
    for column in (
        sequences.offsets,
        sessions.offsets,
        sessions.time_us,
        sessions.event_type.codes,
        sessions.page.codes,
        sessions.amount_ref_minor,
        sessions.snapshot_balance,
    ):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:16]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.embedding.retraining",
        description=(__doc__ or "").splitlines()[0],
    )
    parser.add_argument(
        "--end", type=datetime.fromisoformat, help="of the window, 2026-03-01T00:00:00Z"
    )
    options = parser.parse_args(arguments)
    try:
        version = retrain(Settings.from_env(), options.end, report=print)
    except DaimaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{NAME} version {version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
