"""Whether an embedding version may serve: how well its vectors tell what the next session is for.

Judged on sessions that began after everything it has learnt from, against the champion's vectors
and head on the same sessions, or a first-order Markov chain where there is no champion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from feature_repo.contracts.errors import DatasetError
from feature_repo.scoring.embedding import Encoder
from training.embedding.former import Former
from training.embedding.sequences import Sequences
from training.evaluation.gate import (
    Decision,
    HeldOut,
    Tolerance,
    beats_baseline,
    holds_against_champion,
)
from training.evaluation.metrics import LOG_LOSS, MRR, TOP_1, Floats
from training.next_intent import markov

# Fewer sessions than this judge nothing.
MIN_SESSIONS = 200
# Who has had fewer sessions is new.
_FEW = 5
_BASELINE = "first-order Markov"


@dataclass(frozen=True)
class Challenge:
    """Sessions to be judged on: all that are known, and from when on they count.

    Attributes:
        sequences: of all customers, the test part included.
        test_start_us: nothing that was known then or later was learnt from.
    """

    sequences: Sequences
    test_start_us: int

    @property
    def rows(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The sessions that ended in the test part and were followed by another one."""
        ends = self.sequences.sessions.end_us
        last = np.zeros(len(ends), dtype=bool)
        last[self.sequences.offsets[1:] - 1] = True
        return np.flatnonzero(~last & (ends >= self.test_start_us))

    def chances(self, files: dict[str, bytes], head: Former) -> Floats:
        """A version's chances of what follows each row: (rows, intents)."""
        sequences = self.sequences
        _, _, after = Encoder(files).replay(sequences.offsets, sequences.sessions)
        weight, bias = (head.weights[f"heads.intent.{part}"] for part in ("weight", "bias"))
        logits = after[self.rows].astype(np.float64) @ weight.T + bias
        logits -= logits.max(axis=1, keepdims=True)
        raised = np.exp(logits)
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def held_out(self, chances: Floats) -> HeldOut:
        """The rows with a version's chances, and those of the chain.

        Raises:
            DatasetError: there are too few rows.
        """
        sequences, rows = self.sequences, self.rows
        if len(rows) < MIN_SESSIONS:
            raise DatasetError(
                "test part",
                len(rows),
                f"at least {MIN_SESSIONS} sessions that were followed by another one",
                "widen the window, or stream more events",
            )
        intent, customer = sequences.intent.astype(np.float64), sequences.customer
        known = np.flatnonzero(
            (sequences.over_us[1:] <= self.test_start_us) & (customer[1:] == customer[:-1])
        )
        chain = markov(intent[known], intent[known + 1])
        number = np.arange(len(customer)) - sequences.offsets[:-1][customer]
        clusters = np.unique(customer[rows], return_inverse=True)[1].astype(np.int64)
        return HeldOut(
            frame=pl.DataFrame({"customer_id": sequences.customer_id.gather(customer[rows])}),
            target=intent[rows + 1],
            prediction=chances,
            baseline=chain[intent[rows].astype(int)],
            clusters=clusters,
            groups={
                "customer": pl.Series(np.where(number[rows] < _FEW, "new", "known")),
            },
        )


def judged(
    challenge: Challenge,
    files: dict[str, bytes],
    head: Former,
    champion: tuple[str, dict[str, bytes], Former] | None,
    *,
    tolerance: Tolerance,
    resamples: int,
    seed: int,
) -> tuple[Decision, dict[str, float]]:
    """Against the champion, if there is one, else against the chain; the decision and all figures.

    Args:
        files, head: the candidate's.
        champion: its name, files and head.

    Raises:
        DatasetError: there are too few sessions to judge on.
    """
    test = challenge.held_out(challenge.chances(files, head))
    resampled = {"resamples": resamples, "seed": seed}
    against_chain = beats_baseline(LOG_LOSS, test, _BASELINE, **resampled)
    metrics = {
        **{
            f"{prefix}{metric.name}": metric(test.target, side)
            for metric in (LOG_LOSS, TOP_1, MRR)
            for prefix, side in (("", test.prediction), ("markov_", test.baseline))
        },
        "markov_log_loss_difference_low": against_chain.interval.low,
        "markov_log_loss_difference_high": against_chain.interval.high,
        "test_rows": float(len(test.target)),
    }
    if champion is None:
        return against_chain, metrics
    name, theirs, their_head = champion
    predictions = challenge.chances(theirs, their_head)
    decision = holds_against_champion(LOG_LOSS, test, name, predictions, tolerance, **resampled)
    return decision, metrics
