"""Rows of several days as one Arrow table of `EVENT_SCHEMA`, in the order of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.events import (
    EVENT_SCHEMA,
    EVENT_TYPE_CODE,
    EVENT_TYPES,
    TIMESTAMP,
    EventType,
)
from feature_repo.contracts.money import ExchangeRates
from streaming.simulator.counterparties import counterparty_ids
from streaming.simulator.enactment import ABSENT
from streaming.simulator.event_rows import NO_PAGE, EventRows, id_words
from streaming.simulator.knobs import World
from streaming.simulator.people import People
from streaming.simulator.randomness import Bools, Ints, hex_ids
from streaming.simulator.sessions import countries_of
from streaming.simulator.traffic import Traffic

PHONE = "phone"


def _codes(*kinds: EventType) -> list[int]:
    return [EVENT_TYPE_CODE[kind] for kind in kinds]


_WITH_RECIPIENT = _codes(
    EventType.ADD_RECIPIENT,
    EventType.PAYMENT_SUBMITTED,
    EventType.PAYMENT_CONFIRMED,
    EventType.PAYMENT_FAILED,
)
_BY_PHONE = _codes(EventType.SUPPORT_CONTACT, EventType.FRAUD_REPORTED)


def event_table(
    world: World,
    people: People,
    days: Sequence[Traffic],
    rows: EventRows,
    rates: ExchangeRates,
    *,
    seed: int,
) -> pa.Table:
    """The rows as events, sorted by when the log knows of them.

    Events at the same instant stay in the order of the rows, whose `session` counts through the
    sessions of all days.
    """
    rows = rows.at(np.argsort(rows.known_us, kind="stable"))

    def column(name: str) -> npt.NDArray[Any]:
        """A column of the sessions, by row."""
        values = np.concatenate([getattr(day.sessions, name) for day in days])
        return np.asarray(values[rows.session])

    corridor, channel = column("corridor"), column("channel")
    label = np.isin(rows.event, _codes(EventType.LABEL))
    by_phone = np.isin(rows.event, _BY_PHONE)
    currency_of = {country.code: country.currency for country in world.countries}
    sends = [item.send for item in world.corridors]
    without_money = rows.amount_minor == ABSENT
    channels = [item.name for item in world.channels]
    columns = {
        "event_id": hex_ids(id_words(rows.number, seed)),
        "event_time": _instants(rows.time_us),
        "customer_id": _take(people.ids(), column("customer")),
        "event_type": _take([str(kind) for kind in EVENT_TYPES], rows.event),
        "page": _take([page.name for page in world.pages], rows.page, rows.page == NO_PAGE),
        "send_country": _take(sends, corridor),
        "receive_country": _take([item.receive for item in world.corridors], corridor),
        "amount_minor": pa.array(rows.amount_minor, mask=without_money),
        "fee_minor": pa.array(rows.fee_minor, mask=rows.fee_minor == ABSENT),
        "currency": _take([currency_of[send] for send in sends], corridor, without_money),
        "counterparty_id": _counterparties(world, days, rows, seed),
        "channel": _take([*channels, PHONE], np.where(by_phone, len(channels), channel)),
        "device": _devices(world, channel, column("device"), by_phone),
        "ip_country": _take(countries_of(world), column("ip"), by_phone),
        "label_event_id": _where(label, hex_ids(id_words(rows.label_number[label], seed))),
        "label_value": pa.array(rows.label_value, mask=~label),
        "label_arrival_time": _instants(rows.known_us, ~label),
    }
    batch = pa.RecordBatch.from_arrays(
        [
            columns[field.name] if field.name in columns else pa.nulls(len(rows), field.type)
            for field in EVENT_SCHEMA
        ],
        schema=EVENT_SCHEMA,
    )
    return pa.Table.from_batches([rates.with_reference_amounts(batch)], schema=EVENT_SCHEMA)


def _instants(times_us: Ints, absent: Bools | None = None) -> pa.Array:
    return pa.array(times_us, mask=absent).view(TIMESTAMP)


def _take(names: Sequence[str], codes: Ints, absent: Bools | None = None) -> pa.Array:
    """Strings by code; null where absent."""
    return pa.array(names, pa.string()).take(pa.array(codes.astype(np.int32), mask=absent))


def _where(there: Bools, values: pa.Array) -> pa.Array:
    """The values, one after the other, where they belong; null elsewhere."""
    # Where there is none, the place does not matter: it is masked.
    place = np.cumsum(there) - 1
    return values.take(pa.array(place.astype(np.int32), mask=~there))


def _devices(world: World, channel: Ints, device: Ints, absent: Bools) -> pa.Array:
    names = [device.name for channel in world.channels for device in channel.devices]
    first = np.cumsum([0, *(len(channel.devices) for channel in world.channels)])
    return _take(names, first[channel] + device, absent)


def _counterparties(world: World, days: Sequence[Traffic], rows: EventRows, seed: int) -> pa.Array:
    """Recipients' ids on the events that have one, null elsewhere."""
    has_one = np.isin(rows.about, _WITH_RECIPIENT)
    session = rows.session[has_one]

    def column(name: str) -> Ints:
        return np.concatenate([getattr(day.sessions, name) for day in days])[session]

    ids = counterparty_ids(
        world,
        customer=column("customer"),
        recipient=column("recipient"),
        corridor=column("corridor"),
        seed=seed,
    )
    return _where(has_one, ids)
