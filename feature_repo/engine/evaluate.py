"""The stream features at each event: one pass over a shard's retained and new events.

A simple evaluator that recomputes the touched customers from their retained events. Late events
are therefore right from their arrival on, and the final state does not depend on arrival order.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.events import ACTIONS, EVENT_TYPE_CODE, TIMESTAMP, EventType
from feature_repo.contracts.features import (
    ACTIVITY_FEATURES,
    SESSION_GAP,
    STREAM_FEATURES,
    Dtype,
    WindowFeature,
)
from feature_repo.engine.columns import NONE_CODE, Columns, Encoder
from feature_repo.engine.sessions import (
    Positions,
    Sessions,
    find_sessions,
    first_of_page,
    last_of_instant,
    latest_where,
)
from feature_repo.engine.windows import running_total, window_starts

_US = timedelta(microseconds=1)
GAP_US = SESSION_GAP // _US
_HOUR_US = timedelta(hours=1) // _US
_DAY_US = timedelta(days=1) // _US
_EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0

_ARROW = {Dtype.INT64: pa.int64(), Dtype.FLOAT64: pa.float64(), Dtype.STRING: pa.string()}
ROW_SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string()),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("event_timestamp", TIMESTAMP, nullable=False),
        *(pa.field(feature.name, _ARROW[feature.dtype]) for feature in STREAM_FEATURES),
    ]
)


class SortedEvents:
    """Events of some customers, sorted by (customer, time, log order), ready to be asked.

    Args:
        columns: the events in any order; each customer's retained history must be complete.
        encoder: the dictionaries that the columns were encoded with.
    """

    def __init__(self, columns: Columns, encoder: Encoder) -> None:
        self.order: Positions = np.lexsort((columns["order"], columns["time"], columns["slot"]))
        self.columns = {name: column[self.order] for name, column in columns.items()}
        self.encoder = encoder
        self.slot = self.columns["slot"]
        self.time = self.columns["time"]
        self.sessions: Sessions = find_sessions(self.slot, self.time, GAP_US)

    def latest_rows(self) -> Positions:
        """Position of each customer's latest event."""
        ends = np.ones(len(self.slot), dtype=np.bool_)
        ends[:-1] = self.slot[1:] != self.slot[:-1]
        return np.flatnonzero(ends)

    def retained(self, horizon_us: int, settled_us: int) -> npt.NDArray[np.bool_]:
        """Which events later evaluations may still need.

        Whole sessions are kept, so that no later evaluation sees one cut: those that end after
        the horizon of the windows, and of those settled (over before any event that may still
        arrive) each customer's latest two: a late event may prolong the last of them, and the
        features look back one session further.
        """
        last_us = self.time[self.sessions.last]
        two_later = np.minimum(np.arange(len(last_us)) + 2, len(last_us) - 1)
        needed = (self.sessions.newest < 2) | (last_us[two_later] > settled_us)
        keep: npt.NDArray[np.bool_] = ((last_us > horizon_us) | needed)[self.sessions.of_event]
        return keep

    def features(self, rows: Positions, event_ids: pa.Array) -> pa.RecordBatch:
        """Feature rows (`ROW_SCHEMA`) as of the events at the given positions.

        Shapes: (m,) positions and m event ids -> m rows.
        """
        at = last_of_instant(self.slot, self.time)[rows]
        values: dict[str, pa.Array] = {
            "event_id": event_ids,
            "customer_id": self.encoder.customers.texts(self.slot[rows]),
            "event_timestamp": pa.array(self.time[rows]).cast(TIMESTAMP),
        }
        values.update(self._session_features(at))
        values.update(self._activity_features(at))
        return pa.RecordBatch.from_arrays(
            [values[field.name] for field in ROW_SCHEMA], schema=ROW_SCHEMA
        )

    def _is(self, kinds: frozenset[EventType] | tuple[EventType, ...]) -> npt.NDArray[np.bool_]:
        wanted = np.zeros(len(EVENT_TYPE_CODE), dtype=np.bool_)
        wanted[[EVENT_TYPE_CODE[kind] for kind in kinds]] = True
        return wanted[self.columns["kind"]]

    def _session_features(self, at: Positions) -> dict[str, pa.Array]:
        session = self.sessions.of_event[at]
        first = self.sessions.first[session]
        start_us = self.time[first]
        duration_s = (self.time[at] - start_us) / 1e6

        def counted(of: npt.NDArray[np.bool_]) -> pa.Array:
            total = running_total(of)
            return pa.array(total[at + 1] - total[first])

        total_to_pay, no_total = self._latest_in_session("total", at, first)
        with np.errstate(divide="ignore", invalid="ignore"):
            pay_rate = total_to_pay / duration_s
        previous, none_previous = session - 1, ~self.sessions.has_previous[session]
        previous_first = self.sessions.first[previous]
        previous_last = self.sessions.last[previous]
        none_before = (at == 0) | (self.slot[at - 1] != self.slot[at])
        return {
            "session_start_us": pa.array(start_us),
            "session_start_hour": pa.array(start_us % _DAY_US // _HOUR_US),
            "session_start_weekday": pa.array((start_us // _DAY_US + _EPOCH_WEEKDAY) % 7),
            "session_duration_s": pa.array(duration_s),
            "session_event_count": pa.array(at - first + 1),
            "session_page_view_count": counted(self._is((EventType.PAGE_VIEW,))),
            "session_action_count": counted(self._is(ACTIONS)),
            "session_distinct_pages": counted(
                first_of_page(self.sessions.of_event, self.columns["page"])
            ),
            "session_total_to_pay_ref_minor": pa.array(total_to_pay, mask=no_total),
            # No rate without a quote, or before any time has passed.
            "session_pay_rate": pa.array(pay_rate, mask=no_total | (duration_s == 0)),
            "session_payment_submitted_count": counted(self._is((EventType.PAYMENT_SUBMITTED,))),
            "session_payment_failed_count": counted(self._is((EventType.PAYMENT_FAILED,))),
            "session_corridor": self._latest_text("corridor", at, first),
            "session_channel": self._latest_text("channel", at, first),
            "session_device": self._latest_text("device", at, first),
            "seconds_since_last_event": pa.array(
                (self.time[at] - self.time[at - 1]) / 1e6, mask=none_before
            ),
            "previous_session_duration_s": pa.array(
                (self.time[previous_last] - self.time[previous_first]) / 1e6, mask=none_previous
            ),
            "previous_session_event_count": pa.array(
                previous_last - previous_first + 1, mask=none_previous
            ),
        }

    def _latest_in_session(
        self, name: str, at: Positions, first: Positions
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """The latest known value of a column in the session up to `at`, and where there is none."""
        column = self.columns[name]
        source = latest_where(column != NONE_CODE)[at]
        absent = source < first
        return np.where(absent, NONE_CODE, column[source]), absent

    def _latest_text(self, name: str, at: Positions, first: Positions) -> pa.Array:
        codes, _ = self._latest_in_session(name, at, first)
        interner = {
            "corridor": self.encoder.corridors,
            "channel": self.encoder.channels,
            "device": self.encoder.devices,
        }[name]
        return interner.texts(codes)

    def _activity_features(self, at: Positions) -> dict[str, pa.Array]:
        by_window: dict[timedelta, list[WindowFeature]] = {}
        for feature in ACTIVITY_FEATURES:
            by_window.setdefault(feature.window, []).append(feature)
        totals: dict[object, npt.NDArray[np.int64]] = {}
        values = {}
        for window, features in by_window.items():
            starts = window_starts(self.slot, self.time, window // _US)[at]
            for feature in features:
                what = (feature.event_types, feature.column)
                if what not in totals:
                    totals[what] = running_total(self._contributions(feature))
                total = totals[what]
                values[feature.name] = pa.array(total[at + 1] - total[starts])
        return values

    def _contributions(self, feature: WindowFeature) -> npt.NDArray[np.generic]:
        """What each event adds to an aggregate."""
        counts = (
            self._is(feature.event_types)
            if feature.event_types
            else np.ones(len(self.slot), dtype=np.bool_)
        )
        if feature.column is None:
            return counts
        column = {"amount_ref_minor": "amount", "fee_ref_minor": "fee"}[feature.column]
        return np.where(counts, self.columns[column], 0)
