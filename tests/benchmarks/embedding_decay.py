"""The baseline of the paper's authors: an average of session vectors whose decay is learnt."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from tests.benchmarks.embedding_world import EmbeddingWorld
from training.embedding.batches import Batch, chunks, dealt
from training.embedding.config import EmbeddingConfig
from training.embedding.fitting import Fitted
from training.embedding.prepared import prepare
from training.intents import INTENTS

Floats = npt.NDArray[np.float64]

_EPOCHS = 8
_LEARNING_RATE = 0.02
# Enough for the average: weights of what lies further back are nothing.
_LONGEST = 256


class _Average(nn.Module):
    """Weights e^-(a sessions + b days), both learnt; a linear head on the weighted mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.tensor([-1.0, -3.0]))
        self.head = nn.Linear(width, len(INTENTS))

    def forward(self, batch: Batch, vectors: torch.Tensor) -> torch.Tensor:
        long, wide, width = batch.longest, batch.customers, vectors.shape[1]
        rows = vectors.new_zeros(long * wide, width).index_copy(0, batch.slot, vectors)
        rows = rows.view(long, wide, width).transpose(0, 1)
        days = vectors.new_zeros(long * wide).index_copy(0, batch.slot, batch.elapsed[:, 0])
        when = days.view(long, wide).t().cumsum(1)
        by_session, by_day = functional.softplus(self.rates)
        number = torch.arange(long, dtype=torch.float32)
        # What is yet to come is cut off below; before that it must not overflow.
        back = (number[:, None] - number).clamp(min=0)
        ago = by_session * back + by_day * (when[:, :, None] - when[:, None, :]).clamp(min=0)
        weight = torch.exp(-ago) * torch.ones(long, long).tril()
        mean = (weight / weight.sum(2, keepdim=True)) @ rows
        logits: torch.Tensor = self.head(mean.transpose(0, 1).flatten(0, 1)[batch.slot])
        return logits


def decayed_average(world: EmbeddingWorld, fitted: Fitted, config: EmbeddingConfig) -> Floats:
    """Chances of the judged sessions' next intents: (judged, classes).

    The session vectors are the trained network's own: what is compared is how they are put
    together.
    """
    prepared = prepare(fitted.book, world.sequences)
    counts = np.diff(prepared.customers)
    learnt = np.zeros(len(world.following), dtype=bool)
    learnt[world.learnt] = True
    torch.manual_seed(config.seed)
    model = _Average(config.session)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    rng = np.random.default_rng(config.seed)

    def batches(order: np.random.Generator | None) -> list[tuple[Batch, torch.Tensor]]:
        found = []
        for customers in dealt(counts, config.batch_sessions, _LONGEST, order):
            for batch, _ in chunks(prepared, customers, _LONGEST):
                with torch.no_grad():
                    found.append((batch, fitted.learner.encoders.sessions(batch)))
        return found

    kept = batches(rng)
    for epoch in range(_EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * (1 - epoch / _EPOCHS)
        for place in rng.permutation(len(kept)):
            batch, vectors = kept[place]
            there = torch.from_numpy(np.flatnonzero(learnt[batch.rows]))
            if not len(there):
                continue
            following = torch.from_numpy(world.following[batch.rows])[there]
            loss = functional.cross_entropy(model(batch, vectors)[there], following)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    chances = np.zeros((len(world.following), len(INTENTS)))
    with torch.inference_mode():
        for batch, vectors in kept:
            chances[batch.rows] = model(batch, vectors).double().softmax(1).numpy()
    return chances[world.judged]
