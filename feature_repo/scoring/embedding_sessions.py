"""Finished sessions as flat columns: one of them from the stream, or all of an archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import DatasetError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Names:
    """A column of texts as codes: `names[codes[i]]`, or nothing where the code is -1."""

    codes: npt.NDArray[np.int32]
    names: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> Self:
        """From texts.

        >>> Names.of(["b", None, "a", "b"]).codes.tolist()
        [0, -1, 1, 0]
        """
        places: dict[str, int] = {}
        codes = [-1 if text is None else places.setdefault(text, len(places)) for text in texts]
        return cls(np.array(codes, dtype=np.int32), tuple(places))

    @classmethod
    def joined(cls, parts: Sequence[Names]) -> Self:
        """Columns one behind the other."""
        places: dict[str, int] = {}
        codes = []
        for part in parts:
            # The last place is that of -1.
            table = [places.setdefault(name, len(places)) for name in part.names] + [-1]
            codes.append(np.array(table, dtype=np.int32)[part.codes])
        return cls(np.concatenate([np.zeros(0, np.int32), *codes]), tuple(places))

    def at(self, rows: Any) -> Self:
        """Some rows (an index array or a slice)."""
        return type(self)(self.codes[rows], self.names)

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class Sessions:
    """n finished sessions one behind the other, each with its events by time.

    Attributes:
        offsets: (n + 1,) where each one's events begin; none is empty.
        time_us: (events,) µs since 1970.
        event_type, page: of each event.
        amount_ref_minor: (events,) minor units of the reference currency, NaN where there is none.
        send_country, receive_country: of each event.
        snapshot_offsets: (n + 1,) where the snapshots begin that came with each session: later
            than the end of the customer's session before, not later than its own.
        snapshot_us, snapshot_balance: (snapshots,) instants and balances in minor units of the
            reference currency; a separate sequence, by time.
    """

    offsets: Ints
    time_us: Ints
    event_type: Names
    page: Names
    amount_ref_minor: Floats
    send_country: Names
    receive_country: Names
    snapshot_offsets: Ints
    snapshot_us: Ints
    snapshot_balance: Floats

    def __post_init__(self) -> None:
        sizes = np.diff(self.offsets)
        lengths = {
            len(self.time_us),
            int(self.offsets[-1]),
            len(self.event_type),
            len(self.page),
            len(self.amount_ref_minor),
            len(self.send_country),
            len(self.receive_country),
        }
        if len(sizes) and sizes.min() < 1:
            raise DatasetError("session", "without events", "an event or more", "leave it out")
        if len(lengths) > 1 or len(self.snapshot_offsets) != len(self.offsets):
            raise DatasetError("sessions", expected="columns of equal length", action="mend them")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(
        cls,
        events: Sequence[Any],
        snapshots: Sequence[tuple[int, float]] = (),
    ) -> Self:
        """One session from its events.

        Args:
            events: by time, with the attributes `time_us`, `event_type`, `page`,
                `amount_ref_minor`, `send_country` and `receive_country` (see `SessionEvent`).
            snapshots: (µs since 1970, balance in minor units of the reference currency), by time.

        Raises:
            DatasetError: there are no events.
        """
        amounts = [
            np.nan if event.amount_ref_minor is None else event.amount_ref_minor for event in events
        ]

        def names(field: str) -> Names:
            return Names.of(getattr(event, field) for event in events)

        return cls(
            np.array([0, len(events)]),
            np.array([event.time_us for event in events], dtype=np.int64),
            names("event_type"),
            names("page"),
            np.array(amounts, dtype=np.float64),
            names("send_country"),
            names("receive_country"),
            np.array([0, len(snapshots)]),
            np.array([time_us for time_us, _ in snapshots], dtype=np.int64),
            np.array([balance for _, balance in snapshots], dtype=np.float64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Sessions]) -> Self:
        """Sessions one behind the other: those of a batch, each made by `of`."""

        def offsets(each: Iterable[Ints]) -> Ints:
            sizes = [np.diff(part) for part in each]
            return np.cumsum(np.concatenate([[0], *sizes])).astype(np.int64)

        def numbers(each: Iterable[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
            return np.concatenate([np.zeros(0, dtype=kind), *each])

        return cls(
            offsets(part.offsets for part in parts),
            numbers((part.time_us for part in parts), np.int64),
            Names.joined([part.event_type for part in parts]),
            Names.joined([part.page for part in parts]),
            numbers((part.amount_ref_minor for part in parts), np.float64),
            Names.joined([part.send_country for part in parts]),
            Names.joined([part.receive_country for part in parts]),
            offsets(part.snapshot_offsets for part in parts),
            numbers((part.snapshot_us for part in parts), np.int64),
            numbers((part.snapshot_balance for part in parts), np.float64),
        )

    def at(self, rows: Ints) -> Self:
        """Some of the sessions, in the order of `rows`."""
        events, offsets = segments(self.offsets, rows)
        snapshots, snapshot_offsets = segments(self.snapshot_offsets, rows)
        return type(self)(
            offsets,
            self.time_us[events],
            self.event_type.at(events),
            self.page.at(events),
            self.amount_ref_minor[events],
            self.send_country.at(events),
            self.receive_country.at(events),
            snapshot_offsets,
            self.snapshot_us[snapshots],
            self.snapshot_balance[snapshots],
        )

    @property
    def start_us(self) -> Ints:
        """Each one's first event: (n,)."""
        return self.time_us[self.offsets[:-1]]

    @property
    def end_us(self) -> Ints:
        """Each one's last event: (n,)."""
        return self.time_us[self.offsets[1:] - 1]


class SessionEvent(msgspec.Struct, frozen=True):
    """What the encoder reads of one event."""

    time_us: int
    event_type: str
    page: str | None = None
    amount_ref_minor: float | None = None
    send_country: str | None = None
    receive_country: str | None = None


def segments(offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Places of the elements of some segments, and the segments' new offsets.

    >>> [part.tolist() for part in segments(np.array([0, 2, 3]), np.array([1, 0]))]
    [[2, 0, 1], [0, 1, 3]]
    """
    sizes = offsets[rows + 1] - offsets[rows]
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = np.arange(ends[-1]) + np.repeat(offsets[rows] - ends[:-1], sizes)
    return places, ends
