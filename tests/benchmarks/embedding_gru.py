"""The baseline of recommenders: a GRU over sessions, without balances, trained end to end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from feature_repo.scoring.embedding_inputs import TIME_NUMBERS
from tests.benchmarks.embedding_world import EmbeddingWorld
from training.embedding.batches import Batch, chunks, dealt
from training.embedding.codebook import learn_codebook
from training.embedding.config import EmbeddingConfig
from training.embedding.network import Encoders
from training.embedding.prepared import prepare
from training.intents import INTENTS

Floats = npt.NDArray[np.float64]

_EPOCHS = 8
# Gradients and states reach back so far: beyond the 99.9th percentile of sessions a customer.
_LONGEST = 256


class _PlainGRU(nn.Module):
    """Session vectors and times into one GRU, its state into a linear head.

    The session encoder is our network's own, untrained at first.
    """

    def __init__(self, encoders: Encoders, width: int) -> None:
        super().__init__()
        self.encoders = encoders
        self.recurrence = nn.GRU(encoders.shape.session + TIME_NUMBERS, width)
        self.head = nn.Linear(width, len(INTENTS))

    def forward(self, batch: Batch) -> torch.Tensor:
        told = torch.cat([self.encoders.sessions(batch), batch.times], dim=1)
        slots = batch.longest * batch.customers
        padded = told.new_zeros(slots, told.shape[1]).index_copy(0, batch.slot, told)
        ran, _ = self.recurrence(padded.view(batch.longest, batch.customers, -1))
        logits: torch.Tensor = self.head(ran.flatten(0, 1)[batch.slot])
        return logits


def plain_gru(world: EmbeddingWorld, config: EmbeddingConfig) -> Floats:
    """Chances of the judged sessions' next intents: (judged, classes)."""
    book = learn_codebook(world.known, least_seen=config.least_seen, most_pages=config.most_pages)
    prepared = prepare(book, world.sequences)
    counts = np.diff(prepared.customers)
    learnt = np.zeros(len(world.following), dtype=bool)
    learnt[world.learnt] = True
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model = _PlainGRU(Encoders(config.shape(book)), config.recurrent)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = _EPOCHS * len(dealt(counts, config.batch_sessions, _LONGEST))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=int(1.1 * steps) + 1, pct_start=0.1
    )
    for _ in range(_EPOCHS):
        for customers in dealt(counts, config.batch_sessions, _LONGEST, rng):
            for batch, _ in chunks(prepared, customers, _LONGEST):
                there = torch.from_numpy(np.flatnonzero(learnt[batch.rows]))
                if not len(there):
                    continue
                following = torch.from_numpy(world.following[batch.rows])[there]
                loss = functional.cross_entropy(model(batch)[there], following)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            schedule.step()
    chances = np.zeros((len(world.following), len(INTENTS)))
    with torch.inference_mode():
        for customers in dealt(counts, config.batch_sessions, _LONGEST):
            for batch, _ in chunks(prepared, customers, _LONGEST):
                chances[batch.rows] = model(batch).double().softmax(1).numpy()
    return chances[world.judged]
