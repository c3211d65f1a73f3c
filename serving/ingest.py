"""Events handed in over HTTP: checked, appended to the log, answered once the log has them.

One thread checks and appends. What comes while it is at work waits and goes together: a frame of
the log holds all of it, so that many single events cost little more than one batch of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import msgspec

from feature_repo.contracts.feature_set import FeatureSet
from serving.metrics import Metrics
from serving.overload import RETRY_AFTER_S, OverloadError
from serving.problems import RequestError
from serving.settings import ServingSettings
from streaming.log.intake import Handed, Intake
from streaming.log.opening import open_log

MAX_EVENTS = 1_000  # in one request
EXAMPLE: dict[str, Any] = {
    "event_id": "e-1001",
    "event_time": "2026-03-02T12:00:00Z",
    "customer_id": "c1",
    "event_type": "payment_submitted",
    "send_country": "GB",
    "receive_country": "NG",
    "amount_minor": 25000,
    "currency": "GBP",
    "counterparty_id": "p7",
    "channel": "app",
}
# A new producer that counts its messages may send after a second only, and again after each message
# that was not confirmed in time. What comes twice changes nothing: events have ids.
_KAFKA = {"DAIMA_KAFKA_ENABLE_IDEMPOTENCE": "false"}
_Documents = Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_EVENTS)]
_decode_batch = msgspec.json.Decoder(_Documents).decode
_SPACE = b" \t\r\n"


class RefusedEvent(msgspec.Struct, kw_only=True):
    """An event that is none: it stands in the dead letters, whole.

    Attributes:
        row: its place in the request, counted from 1.
        field: what does not fit; `row` where the event cannot be read at all.
        reason: what was expected.
    """

    row: int
    field: str
    reason: str


class EventsResponse(msgspec.Struct, kw_only=True):
    """What became of the events: the log has `accepted` of them, the others are dead letters."""

    request_id: str
    accepted: int
    dead_letters: list[RefusedEvent]


class NoEventError(RequestError):
    """No event of a request could be taken."""

    def __init__(self, refused: list[RefusedEvent]) -> None:
        self.dead_letters = refused
        first = refused[0]
        super().__init__(
            f"events[{first.row - 1}].{first.field}",
            expected=first.reason.removeprefix("expected "),
            action=f"mend and send again; {len(refused)} of {len(refused)} are dead letters",
            example=EXAMPLE,
        )


@dataclass(frozen=True)
class _Request:
    documents: Sequence[msgspec.Raw]
    done: asyncio.Future[Handed]


class EventIntake:
    """Takes events for one event loop.

    Args:
        intake: checks and appends, in a thread.
        metrics: counts events by what became of them.
        most_waiting: events that may wait; more are refused.
    """

    def __init__(self, intake: Intake, metrics: Metrics, most_waiting: int) -> None:
        self._intake = intake
        self._metrics = metrics
        self._most_waiting = most_waiting
        self._thread = ThreadPoolExecutor(1, "events")
        self._pending: list[_Request] = []
        self._flushing: asyncio.Task[None] | None = None
        self.waiting = 0

    async def take(self, body: bytes, request_id: str) -> EventsResponse:
        """Put the events of a body (one object, or a list of them) into the log.

        Raises:
            RequestError: the body is no JSON, or holds no event that could be taken.
            OverloadError: too many wait.
            DeliveryError, StoreUnavailableError: the log does not answer; nothing is lost by
                sending the same again, repeated event ids change nothing.
        """
        documents = _documents(body)
        if self.waiting and self.waiting + len(documents) > self._most_waiting:
            raise OverloadError(
                "events waiting for the log",
                self.waiting,
                f"at most {self._most_waiting}",
                f"send the same again in {RETRY_AFTER_S} s",
            )
        loop = asyncio.get_running_loop()
        request = _Request(documents, loop.create_future())
        self._pending.append(request)
        self.waiting += len(documents)
        if self._flushing is None:
            self._flushing = loop.create_task(self._flush())
        handed = await request.done
        refused = [
            RefusedEvent(row=letter.row, field=letter.field, reason=letter.reason)
            for letter in handed.letters
        ]
        if not len(handed.events):
            raise NoEventError(refused)
        return EventsResponse(
            request_id=request_id, accepted=len(handed.events), dead_letters=refused
        )

    async def close(self) -> None:
        """Finish what waits, then close the log and the letters."""
        if self._flushing is not None:
            await self._flushing
        self._thread.shutdown()
        self._intake.close()

    async def _flush(self) -> None:
        """Hand over all that waits, until nothing does."""
        loop = asyncio.get_running_loop()
        while self._pending:
            group, self._pending = self._pending, []
            outcomes: Sequence[Handed | Exception]
            try:
                outcomes = await loop.run_in_executor(
                    self._thread, self._intake.take, [request.documents for request in group]
                )
            except Exception as error:  # unforeseen: every request of the group is told so
                outcomes = [error] * len(group)
            for request, outcome in zip(group, outcomes, strict=True):
                self.waiting -= len(request.documents)
                self._settle(request, outcome)
        self._flushing = None

    def _settle(self, request: _Request, outcome: Handed | Exception) -> None:
        count = self._metrics.events.add
        waits = not request.done.done()  # its deadline may have passed
        if isinstance(outcome, Exception):
            count(("failed",), len(request.documents))
            if waits:
                request.done.set_exception(outcome)
            return
        count(("accepted",), len(outcome.events))
        count(("dead_letter",), len(outcome.letters))
        if waits:
            request.done.set_result(outcome)


def open_intake(
    settings: ServingSettings,
    feature_set: FeatureSet,
    metrics: Metrics,
    environ: Mapping[str, str] = os.environ,
) -> EventIntake:
    """The intake of a server; it connects to the log at the first events."""
    opens = partial(
        open_log,
        settings.events_to,
        feature_set,
        settings.shared.redis,
        {**_KAFKA, **environ},
        patience=settings.store_timeout,
    )
    return EventIntake(Intake(opens, settings.event_letters), metrics, settings.events_waiting)


def _documents(body: bytes) -> Sequence[msgspec.Raw]:
    """The documents of a body, each yet to be read."""
    if not body.lstrip(_SPACE).startswith(b"["):
        if not body.strip(_SPACE):
            raise RequestError(
                "body", expected="an event, or a list of events", action="send one", example=EXAMPLE
            )
        return [msgspec.Raw(body)]
    try:
        return _decode_batch(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(
            "body",
            expected=f"an event, or a list of 1 to {MAX_EVENTS} events",
            action=str(error),
            example=[EXAMPLE],
        ) from error
