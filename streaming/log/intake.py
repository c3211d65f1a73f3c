"""Events handed in one by one, as JSON: held to the rules that files are held to.

A file of one's own passes a mapping, then the rules (`streaming/mapping/checks.py`); these events
are in the schema already, so each must bear its fields and types, and then passes the same rules.
What fails is a dead letter of the same kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from feature_repo.contracts.errors import DaimaError, StoreUnavailableError
from feature_repo.contracts.events import DERIVED_FIELDS, EVENT_SCHEMA, TIMESTAMP
from feature_repo.contracts.money import ExchangeRates
from streaming.log.frames import EventLog
from streaming.mapping.checks import Violation, violations
from streaming.mapping.dead_letters import DeadLetter, DeadLetters
from streaming.mapping.surely_valid import surely_valid

DUPLICATE = "duplicate: an earlier event of the request has this event id"
_KINDS: dict[pa.DataType, tuple[Any, str]] = {
    pa.string(): (str | None, "text"),
    pa.int64(): (
        Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None,
        "a whole number of 64 bits",
    ),
    pa.float64(): (float | None, "a number"),
    TIMESTAMP: (
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        "an instant in ISO 8601 with a time zone",
    ),
}
_FIELDS = [field for field in EVENT_SCHEMA if field.name not in DERIVED_FIELDS]
# What is missing is the rules' matter: every field may be.
_Handed = msgspec.defstruct(
    "Handed",
    [(field.name, _KINDS[field.type][0], None) for field in _FIELDS],
    forbid_unknown_fields=True,  # a misspelt field would vanish without a word
    gc=False,
)
_EXPECTED = {field.name: _KINDS[field.type][1] for field in _FIELDS}
_decode = msgspec.json.Decoder(_Handed).decode
_PLACE = re.compile(r" - at `\$\.(\w+)`$")
_UNKNOWN = re.compile(r"unknown field `(.*)`")


Documents = Sequence[bytes | msgspec.Raw]


@dataclass(frozen=True)
class Handed:
    """What became of n documents: each is in exactly one place.

    Attributes:
        events: the events, with amounts in the reference currency, in their order.
        letters: the others; a letter's `row` is the document's place, counted from 1.
    """

    events: pa.RecordBatch
    letters: list[DeadLetter]


class Intake:
    """Checks documents and appends the events among them to a log; for one thread.

    Args:
        open_log: opens the log, at the first events and again until it could be opened.
        dead_letters: the file of the others; letters are appended as they come.
        rates: dated exchange rates; the ones that come with daima unless given.
    """

    def __init__(
        self,
        open_log: Callable[[], EventLog],
        dead_letters: Path,
        rates: ExchangeRates | None = None,
    ) -> None:
        self._open_log = open_log
        self._log: EventLog | None = None
        self._letters = DeadLetters(dead_letters, live=True)
        self._rates = rates or ExchangeRates()

    def take(self, requests: Sequence[Documents]) -> list[Handed | DaimaError]:
        """What became of each request's documents, once the log has their events.

        All requests' events are appended together. An error stands for a request of which nothing
        is confirmed, so that it may be sent again as it is: no letter of it is written yet, and
        repeated events change nothing.
        """
        handed = check_requests(requests, self._rates)
        failure = self._append([one.events for one in handed if len(one.events)])
        outcomes: list[Handed | DaimaError] = []
        for one in handed:
            if failure is not None and len(one.events):
                outcomes.append(failure)
            else:
                outcomes.append(self._write(one.letters) or one)
        return outcomes

    def close(self) -> None:
        """Close the log and the letters."""
        self._letters.close()
        if self._log is not None:
            self._log.close()

    def _append(self, batches: Sequence[pa.RecordBatch]) -> DaimaError | None:
        if not batches:
            return None
        events = pa.Table.from_batches(batches, EVENT_SCHEMA).combine_chunks().to_batches()
        try:
            self._log = self._log or self._open_log()
            for batch in events:
                self._log.append(batch)
        except DaimaError as error:
            return error
        return None

    def _write(self, letters: Sequence[DeadLetter]) -> DaimaError | None:
        try:
            self._letters.extend(letters)
        except OSError as error:
            return StoreUnavailableError(
                "dead letters",
                expected=f"a disk that takes them ({error.strerror})",
                action="free some space, then send the same again; repeated events change nothing",
            )
        return None


def check_documents(documents: Documents, rates: ExchangeRates) -> Handed:
    """Hold n JSON documents to the event schema and its rules; nothing is raised."""
    return check_requests([documents], rates)[0]


def check_requests(requests: Sequence[Documents], rates: ExchangeRates) -> list[Handed]:
    """As `check_documents`, for the documents of each of several requests.

    Together, since a check costs as much for one event as for a hundred (measured: 256 requests of
    one event took 1.5 s one by one).
    """
    letters: list[list[DeadLetter]] = [[] for _ in requests]
    found: list[Any] = []
    places: list[tuple[int, int]] = []  # of each found: its request, and its row there
    for at, documents in enumerate(requests):
        for row, document in enumerate(documents, start=1):
            try:
                found.append(_decode(document))
                places.append((at, row))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                letters[at].append(_unreadable(row, bytes(document), str(error)))
    events = rates.with_reference_amounts(_batch(found))
    owners = np.array([at for at, _ in places], np.int64)
    wrong = _repeated(events, owners)
    if not surely_valid(events):
        frame = cast(pl.DataFrame, pl.from_arrow(events))
        wrong = [*violations(frame, rates), *wrong]
    first = np.full(len(events), -1)
    for number, violation in enumerate(wrong):
        first[violation.rows.to_numpy() & (first < 0)] = number
    for place in np.flatnonzero(first >= 0).tolist():
        at, row = places[place]
        letters[at].append(_letter(row, requests[at][row - 1], wrong[first[place]]))
    good = events.filter(pa.array(first < 0)) if wrong else events
    ends = np.searchsorted(owners[first < 0], np.arange(len(requests) + 1)).tolist()
    return [
        Handed(
            good.slice(ends[at], ends[at + 1] - ends[at]),
            sorted(letters[at], key=lambda letter: letter.row),
        )
        for at in range(len(requests))
    ]


def _letter(row: int, document: bytes | msgspec.Raw, violation: Violation) -> DeadLetter:
    record = msgspec.json.decode(document)
    reason = violation.expected
    if reason != DUPLICATE:
        reason = f"expected {reason}"
    return DeadLetter(row, violation.field, record.get(violation.field), reason, record)


def _batch(found: Sequence[Any]) -> pa.RecordBatch:
    columns = [
        pa.nulls(len(found), field.type)
        if field.name in DERIVED_FIELDS
        else pa.array([getattr(event, field.name) for event in found], field.type)
        for field in EVENT_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_SCHEMA)


def _repeated(events: pa.RecordBatch, owners: npt.NDArray[np.int64]) -> list[Violation]:
    """Ids that stand twice in a request; in two requests they are one's repeated trial."""
    ids = list(zip(owners.tolist(), events.column("event_id").to_pylist(), strict=True))
    if len(set(ids)) == len(ids):
        return []
    seen: set[tuple[int, str | None]] = set()
    rows = []
    for event_id in ids:
        rows.append(event_id in seen)
        seen.add(event_id)
    return [Violation("event_id", pl.Series(rows, dtype=pl.Boolean), DUPLICATE)]


def _unreadable(row: int, document: bytes, message: str) -> DeadLetter:
    """The letter of a document that is none of the schema."""
    try:
        record = msgspec.json.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return DeadLetter(row, "row", document, f"expected JSON ({message})", document)
    if not isinstance(record, dict):
        return DeadLetter(row, "row", record, "expected an object with an event's fields", record)
    if unknown := _UNKNOWN.search(message):
        name = unknown[1]
        reason = f"expected a field of events: {', '.join(_EXPECTED)}"
        return DeadLetter(row, name, record.get(name), reason, record)
    place = _PLACE.search(message)
    name = place[1] if place else "row"
    expected = _EXPECTED.get(name)
    reason = f"expected {expected}" if expected else message
    return DeadLetter(row, name, record.get(name), reason, record)
