"""What the embedding network is fed: sessions and snapshots as codes and standardised numbers.

Training, the flows and the stream all prepare through this module: a session is the same numbers
wherever it is read from. Everything learnt (names, means, spreads) is the `Codebook`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError
from feature_repo.scoring.embedding_sessions import Floats, Ints, Names, Sessions

Singles = npt.NDArray[np.float32]

# Codes: what was not in the training part, and what is not there (for a step before: the start).
UNKNOWN, MISSING, FIRST_NAME = 0, 1, 2

EVENT_NUMBERS = 4
SESSION_NUMBERS = 4
TIME_NUMBERS = 18
# Which of them are hours of the day.
HOUR_COLUMNS = slice(4, 10)
SNAPSHOT_NUMBERS = 5
# What is standardised; each has a mean and a spread in the codebook.
MOMENTS = ("dwell", "amount", "events", "duration", "gap", "age", "sessions", "balance", "pause")

_US = 1_000_000
_DAY_US = 86_400 * _US
_HOUR_TURN = 2 * np.pi / 24
_MONDAY = 3  # 1970-01-01 was a Thursday
_CLIP = 5.0


class Codebook(msgspec.Struct, frozen=True):
    """What was learnt about names and numbers, and how large the network is: `embedding.json`.

    Attributes:
        version: the embedding version, a hash of the encoders and of this.
        types, pages, corridors: names that have a code of their own, from FIRST_NAME.
        moments: (mean, spread) by MOMENTS.
        hours: by send country, the hour (UTC) around which its customers come: hours are counted
            from there too, so that a habit is the same in every time zone.
        hidden: width of a customer's hidden state.
        session: width of a session's vector.
        decays_days: time constants of the decayed means.
    """

    version: str
    types: tuple[str, ...]
    pages: tuple[str, ...]
    corridors: tuple[str, ...]
    moments: dict[str, tuple[float, float]]
    hours: dict[str, float]
    hidden: int
    session: int
    decays_days: tuple[float, ...] = ()

    def to_json(self) -> bytes:
        """Serialise."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def from_json(cls, raw: bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ModelError: the document is none.
        """
        try:
            found = msgspec.json.decode(raw, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ModelError(
                "embedding.json", expected="a codebook", action=f"register it again: {error}"
            ) from error
        for name in MOMENTS:
            if name not in found.moments:
                raise ModelError(
                    "embedding.json", expected=f"a moment {name}", action="train again"
                )
        return found

    def standard(self, name: str, values: Floats) -> Floats:
        """Standardised and clipped."""
        mean, spread = self.moments[name]
        return np.clip((values - mean) / spread, -_CLIP, _CLIP)


@dataclass(frozen=True)
class SessionInputs:
    """What the session encoder is fed: e events of n sessions.

    Attributes:
        codes: (e, 4) type, page, type before, page before.
        numbers: (e, EVENT_NUMBERS).
        segment: (e,) each event's session.
        session_numbers: (n, SESSION_NUMBERS).
        corridor: (n,) codes.
        hour: (n,) the hour (UTC) around which customers of the send country come.
    """

    codes: Ints
    numbers: Singles
    segment: Ints
    session_numbers: Singles
    corridor: Ints
    hour: Floats


def session_inputs(book: Codebook, sessions: Sessions) -> SessionInputs:
    """Prepare sessions for the session encoder; unknown names get the code UNKNOWN."""
    offsets, count = sessions.offsets, len(sessions)
    sizes = np.diff(offsets)
    segment = np.repeat(np.arange(count), sizes)
    first = offsets[:-1]
    types, pages = _codes(sessions.event_type, book.types), _codes(sessions.page, book.pages)
    codes = np.empty((len(types), 4), dtype=np.int64)
    codes[:, 0], codes[:, 1] = types, pages
    codes[1:, 2:] = codes[:-1, :2]
    codes[first, 2:] = MISSING
    dwell_s = np.zeros(len(types))
    dwell_s[:-1] = np.diff(sessions.time_us) / _US
    lasts = np.ones(len(types))
    lasts[offsets[1:] - 1] = 0.0
    paid = ~np.isnan(sessions.amount_ref_minor)
    amount = np.log1p(np.where(paid, np.maximum(sessions.amount_ref_minor, 0.0), 0.0))
    numbers = np.stack(
        [
            book.standard("dwell", np.log1p(np.maximum(dwell_s, 0.0) * lasts)) * lasts,
            lasts,
            book.standard("amount", amount) * paid,
            paid,
        ],
        axis=1,
    ).astype(np.float32)
    duration = np.log1p((sessions.end_us - sessions.start_us) / _US)
    most = np.maximum.reduceat(amount, first) if count else np.zeros(0)
    any_paid = most > 0
    session_numbers = np.stack(
        [
            book.standard("events", np.log1p(sizes)),
            book.standard("duration", duration),
            book.standard("amount", most) * any_paid,
            any_paid,
        ],
        axis=1,
    ).astype(np.float32)
    corridor, hour = _corridors(book, sessions)
    return SessionInputs(codes, numbers, segment, session_numbers, corridor, hour)


def time_inputs(
    book: Codebook,
    start_us: Ints,
    end_us: Ints,
    hour: Floats,
    *,
    before_us: Ints,
    first_us: Ints,
    sessions: Ints,
) -> tuple[Singles, Singles]:
    """When n sessions happened, as the customer encoder is fed it.

    Args:
        start_us, end_us: of each.
        hour: as of `SessionInputs`.
        before_us: the end of the customer's session before; anything where there was none.
        first_us: the start of the customer's first session.
        sessions: how many the customer had had before.

    Returns:
        (n, TIME_NUMBERS), and (n, 1) days from the end before to this one's, 0 for a first one.
    """
    again = sessions > 0
    gap_s = np.where(again, np.maximum(start_us - before_us, 0), 0) / _US
    of_day = (start_us % _DAY_US) / (_DAY_US / 24)
    utc = of_day * _HOUR_TURN
    local = (of_day - hour) * _HOUR_TURN
    weekday = (start_us // _DAY_US + _MONDAY) % 7
    columns = [
        book.standard("gap", np.log1p(gap_s)) * again,
        again,
        book.standard("age", np.log1p(np.maximum(end_us - first_us, 0) / _US)) * again,
        book.standard("sessions", np.log1p(sessions)),
        np.sin(utc), np.cos(utc),
        np.sin(local), np.cos(local), np.sin(2 * local), np.cos(2 * local),
        *(weekday == day for day in range(7)),
        gap_s < _DAY_US / _US / 24,
    ]  # fmt: skip
    elapsed = np.where(again, np.maximum(end_us - before_us, 0), 0) / _DAY_US
    return np.stack(columns, axis=1).astype(np.float32), elapsed[:, None].astype(np.float32)


def snapshot_inputs(
    book: Codebook,
    time_us: Ints,
    log_balance: Floats,
    *,
    before_us: Ints,
    last: Floats,
    total: Floats,
    count: Ints,
) -> Singles:
    """Snapshots as the snapshot sequence is fed them: (n, SNAPSHOT_NUMBERS).

    Args:
        log_balance: as of `log_balances`.
        before_us, last, total, count: of the customer's snapshots before: the last one's instant
            and logarithm, the sum of the logarithms, and how many there were.
    """
    again = count > 0
    spread = book.moments["balance"][1]
    mean = (total + log_balance) / (count + 1)
    pause_s = np.where(again, np.maximum(time_us - before_us, 0), 0) / _US
    columns = [
        book.standard("balance", log_balance),
        np.clip((log_balance - mean) / spread, -_CLIP, _CLIP),
        np.clip((log_balance - last) / spread, -_CLIP, _CLIP) * again,
        book.standard("pause", np.log1p(pause_s)) * again,
        again,
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def log_balances(balance_minor: Floats) -> Floats:
    """sign(x) log(1 + |x|) of balances: (n,); an overdraft is a balance too."""
    return np.asarray(np.sign(balance_minor) * np.log1p(np.abs(balance_minor)))


def _codes(column: Names, names: Sequence[str]) -> Ints:
    places = {name: code for code, name in enumerate(names, start=FIRST_NAME)}
    # The last place is that of -1.
    table = np.array([places.get(name, UNKNOWN) for name in column.names] + [MISSING])
    return np.asarray(table[column.codes], dtype=np.int64)


def _corridors(book: Codebook, sessions: Sessions) -> tuple[Ints, Floats]:
    """Of the first event in each session that has both countries; MISSING where none does."""
    send, receive = sessions.send_country, sessions.receive_country
    known = (send.codes >= 0) & (receive.codes >= 0)
    place = np.where(known, np.arange(len(known)), len(known))
    first = (
        np.minimum.reduceat(place, sessions.offsets[:-1])
        if len(sessions)
        else np.zeros(0, dtype=np.int64)
    )
    there = first < sessions.offsets[1:]
    first = np.where(there, first, 0)
    places = {name: code for code, name in enumerate(book.corridors, start=FIRST_NAME)}
    usual = book.hours.get("", 0.0)
    corridor, hour = np.full(len(sessions), MISSING), np.full(len(sessions), usual)
    if there.any():
        row, column = send.codes[first[there]], receive.codes[first[there]]
        table = np.array(
            [[places.get(f"{one}-{to}", UNKNOWN) for to in receive.names] for one in send.names]
        )
        corridor[there] = table[row, column]
        hour[there] = np.array([book.hours.get(name, usual) for name in send.names])[row]
    return corridor, hour
