"""Training: epochs of batches, on one process or on several that share each batch.

Under torchrun every process reads the same sequences, deals the same batches, and takes its share
of each batch's customers; sums of losses are divided by what the whole batch holds, so that the
gradients of all processes together are those of one. The curve is equal but for what is random:
what drops out, and which sessions of a process' share are swapped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed, nn

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH
from feature_repo.scoring.embedding_inputs import Codebook, Singles
from feature_repo.scoring.embedding_sessions import Ints
from training.embedding.batches import chunks, dealt
from training.embedding.codebook import learn_codebook
from training.embedding.config import EmbeddingConfig
from training.embedding.former import Former, carried_over
from training.embedding.learner import Counts, Learner
from training.embedding.network import State
from training.embedding.onnx_files import encoder_files
from training.embedding.prepared import Prepared, prepare
from training.embedding.sequences import Sequences
from training.embedding.shape import Shape
from training.embedding.targets import Targets, targets_of
from training.streamed_network import threads

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Task:
    """What is learnt from: inputs, targets, and the former vectors to be held to."""

    prepared: Prepared
    targets: Targets
    anchor: Singles | None


# Of all steps, those in which the learning rate still rises.
_RISING = 0.1
_LONGEST_STEP = 1.0
_STATE_SESSIONS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Epoch:
    """One turn over all customers: the mean loss of the next session's intent, and its speed."""

    intent_loss: float
    loss: float
    sessions_per_s: float


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        files: the embedding version, as `feature_repo.scoring.embedding.Encoder` reads it.
        learner: for what goes on in torch.
        curve: an epoch each.
    """

    book: Codebook
    shape: Shape
    learner: Learner
    files: dict[str, bytes]
    curve: tuple[Epoch, ...]

    @property
    def former(self) -> Former:
        """What a later training starts from."""
        weights = {name: part.numpy().copy() for name, part in self.learner.state_dict().items()}
        return Former(self.book, self.shape, weights)


def fit(
    known: Sequences,
    config: EmbeddingConfig,
    known_us: int,
    *,
    former: Former | None = None,
    report: Report = lambda line: None,
) -> Fitted:
    """Train on what was known at an instant.

    Args:
        known: `Sequences.until(known_us)`.
        former: a version to start from, whose space is kept.
        report: gets a line an epoch.
    """
    book = learn_codebook(
        known,
        least_seen=config.least_seen,
        most_pages=config.most_pages,
        former=None if former is None else former.book,
    )
    shape = config.shape(book)
    prepared = prepare(book, known)
    targets = targets_of(book, known, prepared, known_us)
    with torch.random.fork_rng(devices=[]), threads(config.threads):
        torch.manual_seed(config.seed)
        learner = Learner(shape, config)
        anchor = None
        if former is not None:
            learner.load_state_dict(
                {
                    name: torch.from_numpy(part)
                    for name, part in carried_over(former, book, shape).items()
                }
            )
            anchor = vectors_of(learner, prepared, config)
        curve = _epochs(learner, _Task(prepared, targets, anchor), config, report)
        learner.eval()
    weights = {name: part.numpy() for name, part in learner.encoders.state_dict().items()}
    files = encoder_files(weights, shape, book)
    return Fitted(book, shape, learner, files, curve)


def vectors_of(learner: Learner, prepared: Prepared, config: EmbeddingConfig) -> Singles:
    """The vector after each session: (sessions, 64)."""
    found = np.empty((len(prepared.events) - 1, EMBEDDING_WIDTH), dtype=np.float32)
    counts = np.diff(prepared.customers)
    learner.eval()
    with torch.inference_mode(), threads(config.threads):
        for customers in dealt(counts, _STATE_SESSIONS_AT_ONCE, config.chunk_sessions):
            state: State | None = None
            for batch, going in chunks(prepared, customers, config.chunk_sessions):
                passed = learner.encoders(batch, _of(state, going))
                state = passed.state
                found[batch.rows] = passed.vector.numpy()
    return found


def _epochs(
    learner: Learner, task: _Task, config: EmbeddingConfig, report: Report
) -> tuple[Epoch, ...]:
    rank, world = _processes()
    prepared, anchor = task.prepared, task.anchor
    rng = np.random.default_rng(config.seed)
    counts = np.diff(prepared.customers)
    epochs = config.epochs if anchor is None else config.warm_epochs
    rate = config.learning_rate if anchor is None else config.warm_learning_rate
    learner.train()
    shared: nn.Module = learner
    if world > 1:
        shared = nn.parallel.DistributedDataParallel(learner)
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=rate, weight_decay=config.weight_decay, fused=True
    )
    batches = len(dealt(counts, config.batch_sessions, config.chunk_sessions))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rise_and_fall(epochs * batches))
    curve = []
    for number in range(epochs):
        began = time.perf_counter()
        sums = torch.zeros(2, dtype=torch.float64)
        turn = dealt(counts, config.batch_sessions, config.chunk_sessions, rng)
        for customers in turn:
            optimizer.zero_grad(set_to_none=True)
            sums += _gradients(shared, task, customers, config.chunk_sessions)
            nn.utils.clip_grad_norm_(learner.parameters(), _LONGEST_STEP)
            optimizer.step()
            schedule.step()
        if world > 1:
            distributed.all_reduce(sums)
        taken_s = time.perf_counter() - began
        loss, intent = (sums / len(turn)).tolist()
        curve.append(Epoch(intent, loss, int(counts.sum()) / taken_s))
        if rank == 0:
            report(
                f"epoch {number + 1} of {epochs}: loss {loss:.4f}, next intent {intent:.4f}, "
                f"{curve[-1].sessions_per_s:,.0f} sessions/s"
            )
    return tuple(curve)


def _gradients(
    shared: nn.Module, task: _Task, customers: Ints, chunk_sessions: int
) -> torch.Tensor:
    """Adds a batch's gradients up; this process' share of the loss, and of the intent's."""
    rank, world = _processes()
    whole = Counts.of(task.prepared, task.targets, customers)
    mine = customers[rank::world]
    # Nothing for this process to do: it still has to meet the others.
    share = 1.0 if len(mine) else 0.0
    mine = mine if len(mine) else customers[:1]
    parts = list(chunks(task.prepared, mine, chunk_sessions))
    sums = torch.zeros(2, dtype=torch.float64)
    state: State | None = None
    for place, (batch, going) in enumerate(parts):
        meet: AbstractContextManager[None] = nullcontext()
        if world > 1 and place + 1 < len(parts):
            meet = shared.no_sync()  # type: ignore[operator]
        with meet:
            loss, intent, state = shared(batch, task.targets, whole, _of(state, going), task.anchor)
            # Processes' gradients are averaged: times their number, they are summed.
            (loss * (share * world)).backward()
        state = state.detached()
        sums += share * torch.stack([loss.detach(), intent]).double()
    return sums


def _of(state: State | None, going: Ints) -> State | None:
    return None if state is None else State(*(part[torch.from_numpy(going)] for part in state))


def _rise_and_fall(steps: int) -> Callable[[int], float]:
    rising = max(int(_RISING * steps), 1)

    def share(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return float(0.5 + 0.5 * np.cos(np.pi * (step - rising) / max(steps - rising, 1)))

    return share


def _processes() -> tuple[int, int]:
    """This process' number and how many there are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
