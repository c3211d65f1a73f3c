"""The network: events to a session's vector, sessions and snapshots to the customer's.

- A session is the pooled sum of its events, each a rectified sum of what it is and of what the one
  before it was: a convolution of width two, over all sessions of a batch at once, without padding.
- A customer is a gated recurrence (GRU) over session vectors and when they were, beside means of
  what sessions were that decay over days, weeks, and not at all; and a GRU over the financial
  snapshots, a sequence of its own. One layer joins them with the session that has just ended; the
  vector is its linear image and that session's, of length 1.
- Heads tell from the vector what comes next. They are for training alone.

torch is imported with this module; import it where torch is needed, not above.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH
from feature_repo.scoring.embedding_inputs import (
    EVENT_NUMBERS,
    HOUR_COLUMNS,
    SESSION_NUMBERS,
    SNAPSHOT_NUMBERS,
    TIME_NUMBERS,
    UNKNOWN,
)
from training.embedding.batches import Batch
from training.embedding.contents import widths
from training.embedding.shape import Shape
from training.embedding.swaps import Swaps


class State(NamedTuple):
    """Hidden states of b customers.

    `recurrent` (b, recurrent), `means` (b, decays, mean), `weights` (b, decays), `snapshot`
    (b, snapshot).
    """

    recurrent: torch.Tensor
    means: torch.Tensor
    weights: torch.Tensor
    snapshot: torch.Tensor

    def detached(self) -> State:
        """Without what led to it."""
        return State(*(part.detach() for part in self))


class Passed(NamedTuple):
    """What a batch of s sessions of b customers gives.

    `vector` (s, 64) after each session, `session` (s, session width) vectors, `state` (b) at the
    end, `swapped` (pairs, 64) the vectors had another session been the last one.
    """

    vector: torch.Tensor
    session: torch.Tensor
    state: State
    swapped: torch.Tensor | None = None


class _Joint(NamedTuple):
    """What one layer joins, of n sessions as they end."""

    recurrent: torch.Tensor
    means: torch.Tensor
    totals: torch.Tensor
    given: torch.Tensor
    session: torch.Tensor
    snapshot: torch.Tensor
    times: torch.Tensor


class Encoders(nn.Module):
    """Both encoders; `forward` runs them over a batch."""

    decays: torch.Tensor

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = dropout
        self.type_now, self.type_before = (_table(shape.types, shape.event) for _ in range(2))
        self.page_now, self.page_before = (_table(shape.pages, shape.event) for _ in range(2))
        self.event_numbers = nn.Linear(EVENT_NUMBERS, shape.event)
        self.corridor = _table(shape.corridors, shape.corridor)
        width = shape.event + SESSION_NUMBERS + shape.corridor
        self.session_in = nn.Linear(width, 2 * shape.session)
        self.session_out = nn.Linear(2 * shape.session, shape.session)
        told = shape.session + TIME_NUMBERS
        self.mean_in = nn.Linear(told, shape.mean)
        self.recurrence = nn.GRU(told, shape.recurrent)
        if shape.snapshot:
            self.snapshots = nn.GRU(SNAPSHOT_NUMBERS, shape.snapshot)
        self.joined_in = nn.Linear(shape.joint + TIME_NUMBERS, shape.joined)
        self.joined_out = nn.Linear(shape.joined, EMBEDDING_WIDTH)
        self.session_past = nn.Linear(shape.session, EMBEDDING_WIDTH, bias=False)
        self.register_buffer("decays", torch.tensor(shape.decays_days, dtype=torch.float32))

    def sessions(self, batch: Batch) -> torch.Tensor:
        """Session vectors: (sessions, session width)."""
        codes = batch.codes
        pages = self.shape.pages
        # One row a pair of type and page: a gather instead of two over the events.
        now = (self.type_now.weight[:, None] + self.page_now.weight[None]).flatten(0, 1)
        before = (self.type_before.weight[:, None] + self.page_before.weight[None]).flatten(0, 1)
        events = functional.embedding(codes[:, 0] * pages + codes[:, 1], now)
        events = events + functional.embedding(codes[:, 2] * pages + codes[:, 3], before)
        events = functional.relu(events + self.event_numbers(batch.numbers))
        pooled = events.new_zeros(len(batch.corridor), self.shape.event)
        pooled = pooled.index_add(0, batch.segment, events)
        given = torch.cat(
            [torch.log1p(pooled), batch.session_numbers, self.corridor(batch.corridor)], dim=1
        )
        found: torch.Tensor = self.session_out(functional.relu(self.session_in(given)))
        return found

    def start(self, count: int) -> State:
        """The states of customers of whom nothing is known."""
        shape, like = self.shape, self.decays
        return State(
            like.new_zeros(count, shape.recurrent),
            like.new_zeros(count, len(shape.decays_days), shape.mean),
            like.new_zeros(count, len(shape.decays_days)),
            like.new_zeros(count, shape.snapshot),
        )

    def forward(
        self, batch: Batch, state: State | None = None, swaps: Swaps | None = None
    ) -> Passed:
        """Vectors after each session, from the states of `batch.customers` on."""
        state = self.start(batch.customers) if state is None else state
        session = self.sessions(batch)
        told = torch.cat([session, batch.times], dim=1)
        long, wide = batch.longest, batch.customers
        # Time first: (longest, customers, ...), with nothing where a customer's sessions are over.
        padded = told.new_zeros(long * wide, told.shape[1]).index_copy(0, batch.slot, told)
        ran, _ = self.recurrence(padded.view(long, wide, -1), state.recurrent[None])
        recurrent = ran.flatten(0, 1)[batch.slot]
        given = torch.tanh(self.mean_in(told))
        means, totals = self._means(given, batch, state)
        shots, snapshot_state = told.new_zeros(len(told), 0), state.snapshot
        if self.shape.snapshot:
            shots, snapshot_state = self._snapshots(batch, state.snapshot)
        joint = _Joint(recurrent, means.flatten(1), totals, given, session, shots, batch.times)
        last = batch.last
        after = State(recurrent[last], means[last], totals[last], snapshot_state)
        swapped = None
        if swaps is not None:
            before = torch.cat([state.recurrent[None], ran[:-1]]).flatten(0, 1)[batch.slot]
            swapped = self._vectors(self._swapped(joint, before, swaps))
        return Passed(self._vectors(joint), session, after, swapped)

    def _vectors(self, joint: _Joint) -> torch.Tensor:
        parts = joint._replace(totals=joint.totals.log())
        told = functional.dropout(torch.cat(parts, dim=1), self.dropout, self.training)
        joined = functional.relu(self.joined_in(told))
        joined = functional.dropout(joined, self.dropout, self.training)
        raw = self.joined_out(joined) + self.session_past(joint.session)
        return functional.normalize(raw, dim=1)

    def _swapped(self, joint: _Joint, before: torch.Tensor, swaps: Swaps) -> _Joint:
        """Had another session come instead, at that one's hour; `before` are recurrent states."""
        here, other = swaps
        kept = _Joint(*(part[here] for part in joint))
        session, times = joint.session[other], kept.times.clone()
        times[:, HOUR_COLUMNS] = joint.times[other][:, HOUR_COLUMNS]
        told = torch.cat([session, times], dim=1)
        recurrent = torch.gru_cell(told, before[here], *self.recurrence.all_weights[0])
        given = torch.tanh(self.mean_in(told))
        # A session weighs 1 in its own mean.
        moved = (given - kept.given)[:, None] / kept.totals[..., None]
        return _Joint(
            recurrent, kept.means + moved.flatten(1), kept.totals, given, session, kept.snapshot,
            times,
        )  # fmt: skip

    def _means(
        self, given: torch.Tensor, batch: Batch, state: State
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decayed means after each session (sessions, decays, mean), and the sums of weights."""
        long, wide = batch.longest, batch.customers
        width = given.shape[1]
        rows = given.new_zeros(long * wide, width).index_copy(0, batch.slot, given)
        rows = rows.view(long, wide, width).transpose(0, 1)
        days = batch.elapsed.new_zeros(long * wide).index_copy(0, batch.slot, batch.elapsed[:, 0])
        # Days since the chunk began: (customers, 1, longest); those of the end go on at the end.
        when = days.view(long, wide).t().cumsum(1)[:, None]
        ago = (when[..., None] - when[..., None, :]).clamp(min=0)
        seen = torch.ones(long, long, device=given.device).tril()
        rate = 1 / self.decays
        weight = torch.exp(-ago * rate[:, None, None]) * seen
        carried = torch.exp(-when * rate[:, None]) * state.weights[..., None]
        total = weight.sum(-1) + carried
        sums = weight @ rows[:, None] + carried[..., None] * state.means[:, :, None]
        # (customers, decays, longest, mean) -> a row a session
        means = (sums / total[..., None]).permute(2, 0, 1, 3).flatten(0, 1)
        return means[batch.slot], total.permute(2, 0, 1).flatten(0, 1)[batch.slot]

    def _snapshots(self, batch: Batch, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The snapshots' state at the end of each session, and at the end of all."""
        wide = batch.customers
        # One step at least: every weight takes part in every batch, as training on several
        # processes asks.
        long = max(batch.most_snapshots, 1)
        padded = state.new_zeros(long * wide, batch.snapshots.shape[1])
        padded = padded.index_copy(0, batch.snapshot_slot, batch.snapshots)
        ran, _ = self.snapshots(padded.view(long, wide, -1), state[None].contiguous())
        # Row k is after k snapshots; the first is what the customer came with.
        after = torch.cat([state[None], ran]).flatten(0, 1)
        at_sessions = after[batch.snapshots_seen * wide + batch.slot % wide]
        return at_sessions, at_sessions[batch.last]


class Heads(nn.Module):
    """What is told from a vector in training, and from a session's vector what it was for."""

    def __init__(self, shape: Shape, intents: int, hours: int) -> None:
        super().__init__()
        self.intent = nn.Linear(EMBEDDING_WIDTH, intents)
        self.hour = nn.Linear(EMBEDDING_WIDTH, hours)
        self.gap = nn.Linear(EMBEDDING_WIDTH, 1)
        self.amount = nn.Linear(EMBEDDING_WIDTH, 1)
        self.own = nn.Linear(shape.session, intents)
        happened, numbers = widths(shape.types)
        self.happened = nn.Linear(EMBEDDING_WIDTH, happened)
        self.numbers = nn.Linear(EMBEDDING_WIDTH, numbers)
        self.swapped = nn.Linear(EMBEDDING_WIDTH, 1)


def _table(rows: int, width: int) -> nn.Embedding:
    table = nn.Embedding(rows, width)
    nn.init.normal_(table.weight, std=0.3)
    with torch.no_grad():
        # What training never saw says nothing.
        table.weight[UNKNOWN] = 0
    return table
