"""Where sessions begin and end, and which earlier event a value still comes from.

All functions take events sorted by (customer, event time, log order) and return positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Sessions:
    """Sessions of sorted events; s sessions over n events.

    Attributes:
        of_event: (n,) the session of each event.
        first, last: (s,) positions of each session's first and last event.
        has_previous: (s,) whether session s - 1 belongs to the same customer.
        newest: (s,) how many sessions of the customer come after (0 = the latest).
    """

    of_event: Positions
    first: Positions
    last: Positions
    has_previous: npt.NDArray[np.bool_]
    newest: Positions


def find_sessions(
    slot: npt.NDArray[np.int32], time_us: npt.NDArray[np.int64], gap_us: int
) -> Sessions:
    """Split events into sessions: a silence longer than the gap, or another customer, ends one.

    >>> found = find_sessions(np.array([0, 0, 0, 1], np.int32), np.array([0, 5, 99, 99]), 10)
    >>> found.of_event.tolist(), found.first.tolist(), found.last.tolist()
    ([0, 0, 1, 2], [0, 2, 3], [1, 2, 3])
    >>> found.has_previous.tolist(), found.newest.tolist()
    ([False, True, False], [1, 0, 0])
    """
    rows = len(slot)
    other_customer = np.ones(rows, dtype=np.bool_)
    other_customer[1:] = slot[1:] != slot[:-1]
    begins = other_customer.copy()
    begins[1:] |= np.diff(time_us) > gap_us
    first = np.flatnonzero(begins)
    last = np.append(first[1:], rows) - 1
    customer_of_session = np.cumsum(other_customer)[first] - 1
    last_session_of_customer = np.flatnonzero(np.append(np.diff(customer_of_session) > 0, True))
    newest = last_session_of_customer[customer_of_session] - np.arange(len(first))
    return Sessions(np.cumsum(begins) - 1, first, last, ~other_customer[first], newest)


def last_of_instant(slot: npt.NDArray[np.int32], time_us: npt.NDArray[np.int64]) -> Positions:
    """For each event, the position of the last event of its customer at the same instant.

    A feature at t counts every event at t, so tied events share one value.

    >>> last_of_instant(np.array([0, 0, 0], np.int32), np.array([1, 1, 2])).tolist()
    [1, 1, 2]
    """
    rows = len(slot)
    ends = np.ones(rows, dtype=np.bool_)
    ends[:-1] = (slot[1:] != slot[:-1]) | (time_us[1:] != time_us[:-1])
    end_positions = np.flatnonzero(ends)
    return end_positions[np.cumsum(ends) - ends]


def latest_where(present: npt.NDArray[np.bool_]) -> Positions:
    """For each position, the latest one up to it where `present`; -1 before the first.

    >>> latest_where(np.array([False, True, False])).tolist()
    [-1, 1, 1]
    """
    marks = np.where(present, np.arange(len(present)), -1)
    return np.maximum.accumulate(marks)


def first_of_page(session: Positions, page: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether each event is the first of its session on its page (0 = no page).

    >>> first_of_page(np.array([0, 0, 0, 1]), np.array([7, 7, 0, 7])).tolist()
    [True, False, False, True]
    """
    order = np.lexsort((page, session))
    fresh = np.ones(len(page), dtype=np.bool_)
    fresh[1:] = (np.diff(page[order]) != 0) | (np.diff(session[order]) != 0)
    result = np.empty(len(page), dtype=np.bool_)
    result[order] = fresh
    result &= page != 0
    return result
