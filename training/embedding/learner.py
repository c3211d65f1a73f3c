"""What is learnt from a batch: the encoders, the heads, and the sum of their losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from feature_repo.scoring.embedding_inputs import Singles
from feature_repo.scoring.embedding_sessions import Ints, segments
from training.embedding.batches import Batch
from training.embedding.config import EmbeddingConfig
from training.embedding.network import Encoders, Heads, State
from training.embedding.prepared import Prepared
from training.embedding.shape import Shape
from training.embedding.swaps import draw_swaps
from training.embedding.targets import HOURS, Targets
from training.intents import INTENTS


@dataclass(frozen=True)
class Counts:
    """How many sessions of a whole batch have each target: what sums of losses are divided by."""

    sessions: int
    intent: int
    amount: int

    @classmethod
    def of(cls, prepared: Prepared, targets: Targets, customers: Ints) -> Counts:
        """Of all sessions of some customers."""
        rows, _ = segments(prepared.customers, customers)
        return cls(
            len(rows),
            max(int((targets.intent[rows] >= 0).sum()), 1),
            max(int((~np.isnan(targets.amount[rows])).sum()), 1),
        )


class Learner(nn.Module):
    """Encoders and heads; `forward` is a loss, so that several processes can share the work."""

    def __init__(self, shape: Shape, config: EmbeddingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoders = Encoders(shape, config.dropout)
        self.heads = Heads(shape, len(INTENTS), HOURS)

    def forward(
        self,
        batch: Batch,
        targets: Targets,
        counts: Counts,
        state: State | None = None,
        anchor: Singles | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        """The loss of a chunk, the part of it that is the next session's intent, and the state.

        Args:
            counts: of the whole batch: the losses of its chunks add up to the batch's mean.
            anchor: (all sessions, 64) vectors of a former version to be held to.
        """
        config, heads, rows = self.config, self.heads, batch.rows
        # None at a share of 0, but drawn: every weight takes part in every batch, as training on
        # several processes asks.
        swaps = draw_swaps(
            batch.corridor.numpy(),
            targets.own[rows],
            batch.slot.numpy() % batch.customers,
            config.swap_share,
        )
        vector, session, state, swapped = self.encoders(batch, state, swaps)
        tensor = torch.from_numpy
        following = targets.intent[rows]
        there = tensor(np.flatnonzero(following >= 0))
        told = vector[there]
        intent = _entropy(heads.intent(told), tensor(following)[there]) / counts.intent
        hour = _entropy(heads.hour(told), tensor(targets.hour[rows])[there]) / counts.intent
        gap = _square(heads.gap(told), tensor(targets.gap[rows])[there]) / counts.intent
        sent = tensor(np.flatnonzero(~np.isnan(targets.amount[rows])))
        amount = _square(heads.amount(vector[sent]), tensor(targets.amount[rows])[sent])
        own = _entropy(heads.own(session), tensor(targets.own[rows])) / counts.sessions
        loss = (
            config.intent_weight * intent
            + config.own_weight * own
            + config.hour_weight * hour
            + config.gap_weight * gap
            + config.amount_weight * amount / counts.amount
        )
        contents = targets.contents
        happened = functional.binary_cross_entropy_with_logits(
            heads.happened(vector), tensor(contents.happened[rows])
        )
        numbers = functional.mse_loss(heads.numbers(vector), tensor(contents.numbers[rows]))
        # Means of the chunk: it takes part by its share of the batch's sessions.
        part = len(rows) / counts.sessions
        loss = loss + part * (config.happened_weight * happened + config.numbers_weight * numbers)
        strange = _strangeness(heads.swapped(vector[swaps.here]), heads.swapped(swapped))
        loss = loss + part * config.swap_weight * strange
        if anchor is not None:
            cosine = (vector * tensor(anchor[rows])).sum(1)
            loss = loss + config.anchor_weight * (1 - cosine).sum() / counts.sessions
        return loss, intent.detach(), state


def _entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, target, reduction="sum")


def _strangeness(own: torch.Tensor, swapped: torch.Tensor) -> torch.Tensor:
    """The mean loss of telling customers' own sessions from swapped ones: (pairs, 1) logits."""
    losses = functional.softplus(own) + functional.softplus(-swapped)
    return losses.sum() / (2 * max(len(own), 1))


def _square(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(found[:, 0], target, reduction="sum")
