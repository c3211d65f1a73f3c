"""A slow, obvious evaluator: two loops, no state, straight from the definitions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from feature_repo.contracts.events import ACTIONS, OUTSIDE_SESSION, Event, EventType, to_epoch_us
from feature_repo.contracts.features import ACTIVITY_FEATURES, SESSION_GAP

Row = dict[str, Any]


def reference_amounts(event: Event) -> tuple[int, int]:
    """The test events are in US dollars, so reference amounts are the amounts."""
    return event.amount_minor or 0, event.fee_minor or 0


def features_at(events: list[Event], customer_id: str, instant_us: int) -> Row:
    """Every stream feature of a customer, over all events up to and including an instant."""
    past: list[tuple[int, Event]] = []
    seen: set[str] = set()
    for event in events:  # in log order, so the earlier arrival of a repeated id counts
        time_us = to_epoch_us(event.event_time)
        if event.customer_id != customer_id or event.event_type in OUTSIDE_SESSION:
            continue
        if event.event_id in seen:
            continue
        seen.add(event.event_id)
        if time_us <= instant_us:
            past.append((time_us, event))
    past.sort(key=lambda pair: pair[0])

    sessions: list[list[tuple[int, Event]]] = []
    for time_us, event in past:
        gap_us = SESSION_GAP / timedelta(microseconds=1)
        if not sessions or time_us - sessions[-1][-1][0] > gap_us:
            sessions.append([])
        sessions[-1].append((time_us, event))

    row = _session_row(sessions)
    row["seconds_since_last_event"] = (past[-1][0] - past[-2][0]) / 1e6 if len(past) > 1 else None
    for feature in ACTIVITY_FEATURES:
        value = 0
        for time_us, event in past:
            inside = instant_us - feature.window / timedelta(microseconds=1) < time_us
            wanted = not feature.event_types or event.event_type in feature.event_types
            if inside and wanted:
                amount, fee = reference_amounts(event)
                value += {None: 1, "amount_ref_minor": amount, "fee_ref_minor": fee}[feature.column]
        row[feature.name] = value
    return row


def _session_row(sessions: list[list[tuple[int, Event]]]) -> Row:
    session = sessions[-1]
    start_us, end_us = session[0][0], session[-1][0]
    kinds = [event.event_type for _, event in session]
    totals = [sum(reference_amounts(e)) for _, e in session if e.amount_minor is not None]
    corridors = [event.corridor for _, event in session if event.corridor]
    channels = [event.channel for _, event in session if event.channel]
    devices = [event.device for _, event in session if event.device]
    start = session[0][1].event_time
    duration_s = (end_us - start_us) / 1e6
    previous = sessions[-2] if len(sessions) > 1 else None
    return {
        "session_start_us": start_us,
        "session_start_hour": start.hour,
        "session_start_weekday": start.weekday(),
        "session_duration_s": duration_s,
        "session_event_count": len(session),
        "session_page_view_count": kinds.count(EventType.PAGE_VIEW),
        "session_action_count": sum(kind in ACTIONS for kind in kinds),
        "session_distinct_pages": len({e.page for _, e in session if e.page is not None}),
        "session_total_to_pay_ref_minor": totals[-1] if totals else None,
        "session_pay_rate": totals[-1] / duration_s if totals and duration_s else None,
        "session_payment_submitted_count": kinds.count(EventType.PAYMENT_SUBMITTED),
        "session_payment_failed_count": kinds.count(EventType.PAYMENT_FAILED),
        "session_corridor": corridors[-1] if corridors else None,
        "session_channel": channels[-1] if channels else None,
        "session_device": devices[-1] if devices else None,
        "previous_session_duration_s": (
            (previous[-1][0] - previous[0][0]) / 1e6 if previous else None
        ),
        "previous_session_event_count": len(previous) if previous else None,
    }
