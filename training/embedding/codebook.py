"""Learning the codebook: names, means and spreads of the training part, and of nothing later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_repo.contracts.events import EVENT_TYPES
from feature_repo.scoring.embedding_inputs import MOMENTS, Codebook, log_balances
from feature_repo.scoring.embedding_sessions import Floats, Names
from training.embedding.sequences import Sequences

_US = 1_000_000
_DAY_US = 86_400 * _US
_HOUR_TURN = 2 * np.pi / 24
_LEAST_SPREAD = 1e-3
# Of fewer sessions than this the hour of a country is noise.
_LEAST_SESSIONS = 200


def learn_codebook(
    known: Sequences, *, least_seen: int, most_pages: int, former: Codebook | None = None
) -> Codebook:
    """The codebook of what was known when training began.

    Args:
        known: the training part alone.
        least_seen: sightings (of pages by events, of corridors by sessions) from which a name has
            a code of its own.
        most_pages: at most so many pages have one, the most frequent.
        former: of the version that training starts from: its names keep their codes, new ones get
            further codes, and its means and spreads stay: the space would turn otherwise.
    """
    sessions = known.sessions
    corridors, countries = _corridors(known)
    pages = _frequent(sessions.page, least_seen)[:most_pages]
    names = _frequent(corridors, least_seen)
    if former is not None:
        return Codebook(
            version="",
            types=former.types,
            pages=_extended(former.pages, pages),
            corridors=_extended(former.corridors, names),
            moments=former.moments,
            hours={**_hours(known, countries), **former.hours},
            hidden=0,
            session=0,
        )
    dwell_s = np.diff(sessions.time_us)
    within = np.ones(len(dwell_s), dtype=bool)
    within[sessions.offsets[1:-1] - 1] = False
    customer = known.customer
    again = np.concatenate([[False], customer[1:] == customer[:-1]])
    start, end = sessions.start_us, sessions.end_us
    before = np.concatenate([[0], end[:-1]])
    born = start[known.offsets[:-1]][customer]
    place = np.arange(len(sessions)) - known.offsets[:-1][customer]
    amount = sessions.amount_ref_minor
    shots = sessions.snapshot_us
    samples: dict[str, Floats] = {
        "dwell": np.log1p(np.maximum(dwell_s[within], 0) / _US),
        "amount": np.log1p(np.maximum(amount[~np.isnan(amount)], 0.0)),
        "events": np.log1p(np.diff(sessions.offsets)),
        "duration": np.log1p((end - start) / _US),
        "gap": np.log1p(np.maximum(start - before, 0)[again] / _US),
        "age": np.log1p(np.maximum(end - born, 0)[again] / _US),
        "sessions": np.log1p(place),
        "balance": log_balances(sessions.snapshot_balance),
        "pause": np.log1p(np.clip(np.diff(shots), 0, None) / _US),
    }
    return Codebook(
        version="",
        types=tuple(map(str, EVENT_TYPES)),
        pages=pages,
        corridors=names,
        moments={name: _moments(samples[name]) for name in MOMENTS},
        hours=_hours(known, countries),
        hidden=0,
        session=0,
    )


def _moments(values: Floats) -> tuple[float, float]:
    if not len(values):
        return 0.0, 1.0
    return float(values.mean()), max(float(values.std()), _LEAST_SPREAD)


def _frequent(column: Names, least: int) -> tuple[str, ...]:
    counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.names))
    order = np.argsort(-counts, kind="stable")
    return tuple(column.names[code] for code in order if counts[code] >= least)


def _extended(former: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    return (*former, *(name for name in names if name not in set(former)))


def _corridors(known: Sequences) -> tuple[Names, Names]:
    """Of each session's first event with both countries: the corridor, and the send country."""
    sessions = known.sessions
    send, receive = sessions.send_country, sessions.receive_country
    there = (send.codes >= 0) & (receive.codes >= 0)
    place = np.where(there, np.arange(len(there)), len(there))
    first = np.minimum.reduceat(place, sessions.offsets[:-1])
    found = first < sessions.offsets[1:]
    rows = np.where(found, first, 0)
    wide = max(len(receive.names), 1)
    pair = np.where(found, send.codes[rows] * wide + receive.codes[rows], -1)
    names = tuple(f"{one}-{to}" for one in send.names for to in (receive.names or ("",)))
    return (
        Names(pair.astype(np.int32), names),
        Names(np.where(found, send.codes[rows], -1).astype(np.int32), send.names),
    )


def _hours(known: Sequences, countries: Names) -> dict[str, float]:
    """Circular means of the hours (UTC) at which sessions begin, by send country; "" is all's."""
    turn = (known.sessions.start_us % _DAY_US) / (_DAY_US / 24) * _HOUR_TURN
    parts = {"": np.ones(len(turn), dtype=bool)}
    parts |= {name: countries.codes == code for code, name in enumerate(countries.names)}
    return {
        name: float(np.angle(np.exp(1j * turn[rows]).mean()) / _HOUR_TURN % 24)
        for name, rows in parts.items()
        if not name or rows.sum() >= _LEAST_SESSIONS
    }
