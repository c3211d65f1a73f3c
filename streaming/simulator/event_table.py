"""Traffic of several days as one Arrow table of `EVENT_SCHEMA`, cut to a window, in time order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.events import EVENT_SCHEMA, EVENT_TYPE_CODE, EVENT_TYPES, EventType
from feature_repo.contracts.money import ExchangeRates
from streaming.simulator.counterparties import counterparty_ids
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Ints, hex_ids
from streaming.simulator.sessions import Sessions
from streaming.simulator.traffic import ABSENT, Traffic

_WITH_RECIPIENT = [
    EVENT_TYPE_CODE[kind]
    for kind in (
        EventType.ADD_RECIPIENT,
        EventType.PAYMENT_SUBMITTED,
        EventType.PAYMENT_CONFIRMED,
        EventType.PAYMENT_FAILED,
    )
]


def event_table(
    world: World,
    people: People,
    days: Sequence[Traffic],
    rates: ExchangeRates,
    *,
    start_us: int,
    end_us: int,
    seed: int,
) -> pa.Table:
    """Events of kept sessions with start <= event time < end (µs since 1970), sorted by time.

    Events at the same instant stay in the order of day, session and step.
    """
    # Chosen rows first, in integers: sorting and cutting finished strings costs far more.
    chosen = [
        np.flatnonzero(day.kept[day.session] & (day.time_us >= start_us) & (day.time_us < end_us))
        for day in days
    ]

    def column(name: str) -> npt.NDArray[Any]:
        parts = [getattr(day, name)[rows] for day, rows in zip(days, chosen, strict=True)]
        return np.concatenate(parts)

    time_us = column("time_us")
    order = np.argsort(time_us, kind="stable")
    first = np.repeat(
        np.cumsum([0, *(len(day.sessions) for day in days[:-1])]), [len(rows) for rows in chosen]
    )
    sessions = Sessions.joined([day.sessions for day in days]).at(
        (column("session") + first)[order]
    )
    event, amount_minor = column("event")[order], column("amount_minor")[order]
    without_money = amount_minor == ABSENT
    currency_of = {country.code: country.currency for country in world.countries}
    sends = [corridor.send for corridor in world.corridors]
    receives = [corridor.receive for corridor in world.corridors]
    columns = {
        "event_id": hex_ids(column("event_id")[order]),
        "event_time": pa.array(time_us[order]).view(EVENT_SCHEMA.field("event_time").type),
        "customer_id": _take(people.ids(), sessions.customer),
        "event_type": _take([str(kind) for kind in EVENT_TYPES], event),
        "page": _take([page.name for page in world.pages], column("page")[order]),
        "send_country": _take(sends, sessions.corridor),
        "receive_country": _take(receives, sessions.corridor),
        "amount_minor": pa.array(amount_minor, mask=without_money),
        "fee_minor": pa.array(column("fee_minor")[order], mask=without_money),
        "currency": _take(
            [currency_of[send] for send in sends], sessions.corridor, absent=without_money
        ),
        "counterparty_id": _counterparties(world, sessions, event, seed),
        "channel": _take([channel.name for channel in world.channels], sessions.channel),
        "device": _devices(world, sessions),
        "ip_country": _take(
            sends + receives, sessions.corridor + sessions.abroad * len(world.corridors)
        ),
    }
    batch = pa.RecordBatch.from_arrays(
        [
            columns[field.name] if field.name in columns else pa.nulls(len(order), field.type)
            for field in EVENT_SCHEMA
        ],
        schema=EVENT_SCHEMA,
    )
    return pa.Table.from_batches([rates.with_reference_amounts(batch)], schema=EVENT_SCHEMA)


def _take(names: Sequence[str], codes: Ints, absent: Bools | None = None) -> pa.Array:
    """Strings by code; null where absent."""
    return pa.array(names, pa.string()).take(pa.array(codes.astype(np.int32), mask=absent))


def _devices(world: World, sessions: Sessions) -> pa.Array:
    names = [device.name for channel in world.channels for device in channel.devices]
    first = np.cumsum([0, *(len(channel.devices) for channel in world.channels)])
    return _take(names, first[sessions.channel] + sessions.device)


def _counterparties(world: World, sessions: Sessions, event: Ints, seed: int) -> pa.Array:
    """Recipients' ids on the events that have one, null elsewhere."""
    has_one = np.isin(event, _WITH_RECIPIENT)
    some = sessions.at(np.flatnonzero(has_one))
    ids = counterparty_ids(
        world,
        customer=some.customer,
        recipient=some.recipient,
        corridor=some.corridor,
        seed=seed,
    )
    # Where there is none, the place does not matter: it is masked.
    place = np.cumsum(has_one) - 1
    return ids.take(pa.array(place.astype(np.int32), mask=~has_one))
