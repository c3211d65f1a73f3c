"""The stream scorer: reads the event log and emits a prediction for each login and payment.

Predictions are made by `Service.predict`, as for HTTP: the same models, routing and policy, with
features as of the event's own instant. The stream that computes features reads the same log, so an
event is scored once the customer's state holds it, which the state's fence says; after a bounded
wait it is scored all the same, and marked STALE.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from feature_repo.contracts.errors import DaimaError, StoreUnavailableError
from feature_repo.contracts.states import state_view
from feature_repo.stores.forgotten import ForgottenFile
from feature_repo.stores.redis_layout import decode_fence, entity_key_encoder, fence_field
from serving.feature_row import Status
from serving.predict import Service
from serving.routing import UnknownModelError
from serving.score_log import ScoreLog, StreamPrediction
from serving.score_triggers import Stretch, Trigger, stretches
from streaming.log.frames import LogReader

log = logging.getLogger(__name__)

WAIT = timedelta(seconds=2)
FRESH, STALE = "FRESH", "STALE"
_CUSTOMER = "customer_id"
_IDLE_S = 0.01
_LOOK_S = 0.004  # between two looks at fences
_RETRY_S = 0.5
_TOGETHER = 256  # predictions asked for at a time, and emitted in one step
# A position without predictions behind it is written this often: it saves reading, no more.
_POSITION_EVERY_S = 1.0


@dataclass
class ScoreReport:
    """What was scored: predictions emitted by model, among them stale ones; failed events."""

    emitted: dict[str, int] = field(default_factory=dict)
    stale: int = 0
    failed: int = 0


class StreamScorer:
    """Scores the events of some partitions for some models.

    Args:
        service: makes the predictions.
        models: for which.
        output: takes them.
        reader: of the whole events' partitions, after `resume_offsets`.
        positions: (model, partition) -> offset scored last; None: nothing yet.
        tombstones: events of before somebody was forgotten are not scored.
        log_name: the event log, as tombstones call it.
        wait: how long an event may wait for its customer's state.
    """

    def __init__(
        self,
        service: Service,
        models: Sequence[str],
        *,
        output: ScoreLog,
        reader: LogReader,
        positions: dict[tuple[str, int], int | None],
        tombstones: ForgottenFile,
        log_name: str,
        wait: timedelta = WAIT,
    ) -> None:
        self.report = ScoreReport(dict.fromkeys(models, 0))
        self._service = service
        self._models = tuple(models)
        self._output = output
        self._reader = reader
        self._positions = positions
        self._reached: dict[tuple[str, int], int] = {}
        self._tombstones = tombstones
        self._log = log_name
        self._wait_s = wait.total_seconds()
        self._fences = _Fences(service)
        self._noted_s = time.monotonic()

    async def run(self, stopped: Callable[[], bool]) -> ScoreReport:
        """Score until the reader ends, or `stopped()`; what was read is scored before.

        Raises:
            ScoreLogError: another process scores the same.
            DaimaError: the log cannot be read on.
        """
        while not stopped():
            try:
                entries = self._reader.poll()
            except StopIteration:
                break
            found = stretches(entries, self._tombstones.read(), self._log)
            for stretch in found:
                await self._score(stretch)
            if not entries:
                await asyncio.sleep(_IDLE_S)
            if time.monotonic() - self._noted_s >= _POSITION_EVERY_S:
                await self._note_positions()
        await self._note_positions()
        return self.report

    async def _score(self, stretch: Stretch) -> None:
        partition = stretch.partition[1]
        late = await self._fences.await_reached(stretch.triggers, self._wait_s)
        for model in self._models:
            place = (model, partition)
            after = self._positions[place]
            if after is not None and stretch.offset <= after:
                continue
            # A model that is behind others has come here with older entries before.
            triggers = [each for each in stretch.triggers if after is None or each.offset > after]
            for some in _steps(triggers):
                made = await self._predict(model, some, late)
                await self._emit(place, some[-1].offset, made)
            self._reached[place] = stretch.offset

    async def _predict(
        self, model: str, triggers: Sequence[Trigger], late: Collection[str]
    ) -> list[StreamPrediction]:
        return await asyncio.gather(*(self._predict_one(model, each, late) for each in triggers))

    async def _predict_one(
        self, model: str, trigger: Trigger, late: Collection[str]
    ) -> StreamPrediction:
        """One event's prediction; waits for as long as the store or the model is away."""
        while True:
            try:
                return await self._answer(model, trigger, late)
            except (StoreUnavailableError, UnknownModelError) as error:
                log.warning("scoring waits: %s", error)
                await asyncio.sleep(_RETRY_S)
            except DaimaError as error:  # this event's alone: the others must not wait for it
                self.report.failed += 1
                return _entry(model, trigger, late, error=str(error))

    async def _answer(
        self, model: str, trigger: Trigger, late: Collection[str]
    ) -> StreamPrediction:
        answer = await self._service.predict(model, trigger.request(), trigger.request_id)
        (row,) = answer.predictions
        entry = _entry(model, trigger, late)
        entry.version, entry.alias = row.version, row.alias
        entry.score, entry.prediction, entry.unit = row.score, row.prediction, row.unit
        entry.probability, entry.decision = row.probability, row.decision
        entry.corridor = row.corridor
        entry.not_present = _not_present(row.statuses)
        return entry

    async def _emit(
        self, place: tuple[str, int], offset: int, made: Sequence[StreamPrediction]
    ) -> None:
        """Emit until it is done: a step that was done, and whose answer was lost, changes nothing.

        Who was forgotten while this was being scored has no prediction.
        """
        model, partition = place
        forgotten = self._tombstones.read().pending
        names = {each.customer for each in forgotten.tombstones.values()}
        kept = [each for each in made if each.customer not in names] if names else made
        while True:
            try:
                self.report.emitted[model] += self._output.emit(
                    model, partition, self._positions[place], offset, kept
                )
                break
            except (RedisConnectionError, RedisTimeoutError) as error:
                log.warning("the output log does not answer: %s", type(error).__name__)
                await asyncio.sleep(_RETRY_S)
        self.report.stale += sum(each.features == STALE for each in kept)
        self._positions[place] = offset

    async def _note_positions(self) -> None:
        self._noted_s = time.monotonic()
        for place, offset in self._reached.items():
            before = self._positions[place]
            if before is None or offset > before:
                await self._emit(place, offset, [])


class _Fences:
    """Waits until customers' states hold events."""

    def __init__(self, service: Service) -> None:
        self._service = service
        catalog = service.catalog
        entity = next((e for e in catalog.feature_set.entities if e.columns == (_CUSTOMER,)), None)
        self._fields = None if entity is None else [fence_field(state_view(entity.name))]
        self._key = entity_key_encoder(_CUSTOMER, catalog.project)

    async def await_reached(self, triggers: Sequence[Trigger], wait_s: float) -> set[str]:
        """The customers among some events whose states do not hold their newest in time."""
        if self._fields is None or not triggers:
            return set()
        newest: dict[str, int] = {}
        for each in triggers:
            newest[each.customer] = max(each.offset, newest.get(each.customer, -1))
        until_s = time.monotonic() + wait_s
        while newest:
            try:
                newest = await self._behind(newest)
            except StoreUnavailableError as error:
                log.warning("scoring waits: %s", error)
                await asyncio.sleep(_RETRY_S)
                until_s = time.monotonic() + wait_s
                continue
            if not newest or time.monotonic() >= until_s:
                break
            await asyncio.sleep(_LOOK_S)
        return set(newest)

    async def _behind(self, wanted: dict[str, int]) -> dict[str, int]:
        fields = self._fields or []
        answers = await self._service.reader.connection.read(
            [(self._key(customer), fields) for customer in wanted]
        )
        return {
            customer: offset
            for (customer, offset), (raw,) in zip(wanted.items(), answers, strict=True)
            if raw is None or decode_fence(raw).offset < offset
        }


def _not_present(statuses: msgspec.Raw | Mapping[str, Status]) -> dict[str, str]:
    if isinstance(statuses, msgspec.Raw):  # encoded already, once for all rows that fared alike
        return _decoded(bytes(statuses))
    return {ref: str(status) for ref, status in statuses.items() if status != Status.PRESENT}


@lru_cache(256)
def _decoded(raw: bytes) -> dict[str, str]:
    found = msgspec.json.decode(raw, type=dict[str, str])
    return {ref: status for ref, status in found.items() if status != Status.PRESENT.value}


def _steps(triggers: Sequence[Trigger]) -> Iterator[Sequence[Trigger]]:
    """Triggers that are emitted in one step: some hundred, and whole entries of the log."""
    start = 0
    for at in range(1, len(triggers) + 1):
        last = at == len(triggers)
        if last or (at - start >= _TOGETHER and triggers[at].offset != triggers[at - 1].offset):
            yield triggers[start:at]
            start = at


def _entry(
    model: str, trigger: Trigger, late: Collection[str], error: str | None = None
) -> StreamPrediction:
    return StreamPrediction(
        event_id=trigger.event_id,
        event_type=trigger.event_type,
        customer=trigger.customer,
        at=_text(trigger.at),
        scored_at=_text(datetime.now(UTC)),
        model=model,
        partition=trigger.partition,
        features=STALE if trigger.customer in late else FRESH,
        request_id=trigger.request_id,
        corridor=trigger.corridor,
        error=error,
    )


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
