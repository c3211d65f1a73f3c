"""Batches without waste: customers of about one length together, events flat, chunks in time.

Events are never padded: they lie one behind the other, each with its session's number. Customers
are sorted by how many sessions they have before they are dealt into batches, so that what is padded
beyond a customer's last session is little. A customer with more sessions than a chunk holds comes
in several, and takes the state from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from feature_repo.scoring.embedding_sessions import Ints, segments
from training.embedding.prepared import Prepared


@dataclass(frozen=True)
class Batch:
    """A chunk of some customers' sessions, s of them, with e events and k snapshots.

    Attributes:
        customers, longest: how many, and the sessions of the one with most.
        rows: (s,) the sessions' places in `Prepared`, one customer behind the other.
        slot: (s,) place in time * customers + customer.
        last: (customers,) place of each one's last session among the s.
        codes, numbers, segment: of events: (e, 4), (e, ...), (e,).
        session_numbers, corridor, times, elapsed: of sessions.
        snapshots, snapshot_slot: (k, ...) and (k,) as `slot`.
        most_snapshots: of the customer with most.
        snapshots_seen: (s,) how many of the chunk's snapshots each session's customer had shown.
    """

    customers: int
    longest: int
    rows: Ints
    slot: torch.Tensor
    last: torch.Tensor
    codes: torch.Tensor
    numbers: torch.Tensor
    segment: torch.Tensor
    session_numbers: torch.Tensor
    corridor: torch.Tensor
    times: torch.Tensor
    elapsed: torch.Tensor
    snapshots: torch.Tensor
    snapshot_slot: torch.Tensor
    most_snapshots: int
    snapshots_seen: torch.Tensor


def dealt(
    counts: Ints, sessions: int, longest: int, rng: np.random.Generator | None = None
) -> list[Ints]:
    """Customers dealt into batches of about `sessions` sessions, in random order.

    Args:
        counts: (customers,) sessions of each; who has none is in no batch.
        longest: sessions of a chunk.
        rng: of the order; None keeps it, shortest first.
    """
    there = np.flatnonzero(counts)
    lengths = counts[there].astype(np.float64)
    # Neighbours in length change places from epoch to epoch.
    jitter = 1.0 if rng is None else rng.uniform(0.9, 1.1, len(there))
    order = there[np.argsort(lengths * jitter, kind="stable")]
    padded = np.minimum(np.maximum.accumulate(counts[order]), longest)
    batches, first = [], 0
    while first < len(order):
        room = np.arange(1, len(order) - first + 1) * padded[first:]
        size = max(int(np.searchsorted(room, sessions, side="right")), 1)
        batches.append(order[first : first + size])
        first += size
    if rng is not None:
        rng.shuffle(batches)
    return batches


def chunks(prepared: Prepared, customers: Ints, longest: int) -> Iterator[tuple[Batch, Ints]]:
    """The chunks of some customers, first to last, and who of the chunk before is in each."""
    counts = np.diff(prepared.customers)[customers]
    active = np.arange(len(customers))
    for first in range(0, int(counts.max()), longest):
        going = counts[active] > first
        active = active[going]
        begin = prepared.customers[:-1][customers[active]] + first
        size = np.minimum(counts[active] - first, longest)
        yield _batch(prepared, begin, size), np.flatnonzero(going)


def _batch(prepared: Prepared, begin: Ints, size: Ints) -> Batch:
    wide = len(begin)
    pairs = 2 * np.arange(wide)

    def stretches(first: Ints, last: Ints) -> tuple[Ints, Ints]:
        """Places between first and last, and the number of the stretch that each lies in."""
        places, ends = segments(np.stack([first, last], axis=1).ravel(), pairs)
        return places, np.repeat(np.arange(wide), np.diff(ends))

    rows, owner = stretches(begin, begin + size)
    ends = np.cumsum(size)
    place = np.arange(len(rows)) - (ends - size)[owner]
    events, _ = stretches(prepared.events[begin], prepared.events[begin + size])
    counts = prepared.events[rows + 1] - prepared.events[rows]
    shots, shown_by = stretches(prepared.shots[begin], prepared.shots[begin + size])
    shown = prepared.shots[begin + size] - prepared.shots[begin]
    shot_place = np.arange(len(shots)) - (np.cumsum(shown) - shown)[shown_by]
    tensor = torch.from_numpy
    return Batch(
        customers=wide,
        longest=int(size.max()),
        rows=rows,
        slot=tensor(place * wide + owner),
        last=tensor(ends - 1),
        codes=tensor(prepared.codes[events]),
        numbers=tensor(prepared.numbers[events]),
        segment=tensor(np.repeat(np.arange(len(rows)), counts)),
        session_numbers=tensor(prepared.session_numbers[rows]),
        corridor=tensor(prepared.corridor[rows]),
        times=tensor(prepared.times[rows]),
        elapsed=tensor(prepared.elapsed[rows]),
        snapshots=tensor(prepared.snapshots[shots]),
        snapshot_slot=tensor(shot_place * wide + shown_by),
        most_snapshots=int(shown.max(initial=0)),
        snapshots_seen=tensor(prepared.shots[rows + 1] - prepared.shots[begin][owner]),
    )
