"""One turn of the event loop: the store asked once, answers decoded, all rows scored in one call.

A request is first read of the customers' hashes, of those of corridors and payees that are known,
and of the corridor where each customer was last seen; a second time where that was another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.events import to_epoch_us
from serving import stored_kernel as kernel
from serving.statuses import OTHER_VERSION
from serving.store_wire import Ask, Bytes
from serving.vector_memory import Rows
from serving.vector_plan import HashTables
from serving.vector_request import ScoringError, Vectors, Wanted

if TYPE_CHECKING:
    from serving.vectors import VectorReader


class Turn:
    """The requests of one turn of the loop, for one model version."""

    def __init__(self, reader: VectorReader) -> None:
        self.reader = reader
        self.wanted: list[Wanted] = []
        self.rows = 0
        self.held = False

    def send(self) -> None:
        """Ask the store for everything that is known to be needed."""
        reader, plan, keys = self.reader, self.reader.plan, self.reader.keys
        self.now = reader.clock()
        self.times = np.empty(self.rows, np.int64)
        now_us = to_epoch_us(self.now)
        self.filled = Rows(plan, self.rows)
        if plan.customer.is_empty:
            self.filled.fill_absent()
        self.corridors: list[str | None] = [None] * self.rows
        # (key, instant) -> rows: a key is read and computed once an instant.
        self.named: dict[tuple[str, int], list[int]] = {}
        self.payees: dict[tuple[str, int], list[int]] = {}
        payload: list[bytes] = []
        asked = 0
        by_corridor = not plan.corridor.is_empty
        guesses = reader.last_corridors if by_corridor and plan.customer.corridor >= 0 else {}
        for wanted in self.wanted:
            count = len(wanted.customers)
            last = wanted.first + count
            at_us = now_us if wanted.as_of is None else to_epoch_us(wanted.as_of)
            self.times[wanted.first : last] = at_us
            if not plan.customer.is_empty:
                _add_commands(payload, plan.customer, keys.customer, wanted.customers)
                asked += count
            if wanted.corridor is not None:
                self.corridors[wanted.first : last] = [wanted.corridor] * count
                if by_corridor:
                    self.named.setdefault((wanted.corridor, at_us), []).extend(
                        range(wanted.first, last)
                    )
            elif guesses:
                for customer in wanted.customers:
                    guess = guesses.get(customer)
                    if guess is not None:  # rows are added if it turns out right
                        self.named.setdefault((guess, at_us), [])
            if wanted.counterparty is not None and not plan.counterparty.is_empty:
                self.payees.setdefault((wanted.counterparty, at_us), []).extend(
                    range(wanted.first, last)
                )
        _add_commands(payload, plan.corridor, keys.corridor, (name for name, _ in self.named))
        _add_commands(payload, plan.counterparty, keys.counterparty, (n for n, _ in self.payees))
        asked += len(self.named) + len(self.payees)
        if not asked:
            self._finish()
            return
        reader.connection.ask(Ask(b"".join(payload), asked, self._take, self._fail))
        reader.connection.flush()

    def _take(self, buffer: Bytes, begin: int, end: int) -> None:
        """Decode the answers; ask for the corridors that they name."""
        plan = self.reader.plan
        at = begin
        if not plan.customer.is_empty:
            at = self._decode(plan.customer, buffer, at, end, self.rows, self.times, self.filled)
        own: dict[tuple[str, int], list[int]] = {}
        if not plan.corridor.is_empty and plan.customer.corridor >= 0:
            own = self._own_corridors()
        at = self._decode_shared(plan.corridor, buffer, at, end, self.named)
        self._decode_shared(plan.counterparty, buffer, at, end, self.payees)
        if not own:
            self._finish()
            return
        payload: list[bytes] = []
        _add_commands(payload, plan.corridor, self.reader.keys.corridor, (name for name, _ in own))

        def take(buffer: Bytes, begin: int, end: int) -> None:
            self._decode_shared(plan.corridor, buffer, begin, end, own)
            self._finish()

        connection = self.reader.connection
        connection.ask(Ask(b"".join(payload), len(own), take, self._fail))
        connection.flush()

    def _decode(  # noqa: PLR0917 - from where, how many, into what
        self,
        tables: HashTables,
        buffer: Bytes,
        at: int,
        end: int,
        rows: int,
        times: npt.NDArray[np.int64],
        into: Rows,
    ) -> int:
        plan, scratch = self.reader.plan, self.reader.scratch
        scratch.fit(rows, end - at)
        marks_first = len(plan.refs)
        wrong, at, longest = kernel.decode(
            buffer, at, end, rows, tables.fields, tables.ttls, marks_first,
            plan.texts, plan.text_ends, times,
            into.matrix, into.marks, into.ages,
            scratch.words, scratch.begins, scratch.ends,
            scratch.bits, scratch.bits_as_double, scratch.bits_as_single,
        )  # fmt: skip
        if wrong:
            raise self.reader.connection.refused(buffer[at : at + 64].tobytes())
        states = tables.reader
        if states is not None:
            states.evaluate(scratch.words, scratch.begins, scratch.ends, times, rows, longest)
            kernel.spread(
                tables.computed, tables.state_view, marks_first, rows,
                states.outcome, states.text_at, states.integers, states.floats, states.ok,
                scratch.raw, plan.texts, plan.text_ends, tables.corridor,
                into.matrix, into.marks, into.ages, scratch.corridor_at,
            )  # fmt: skip
        return int(at)

    def _decode_shared(
        self,
        tables: HashTables,
        buffer: Bytes,
        at: int,
        end: int,
        keyed: dict[tuple[str, int], list[int]],
    ) -> int:
        """Decode one answer a key, and copy it to the key's rows."""
        if not keyed:
            return at
        times = np.array([at_us for _, at_us in keyed], np.int64)
        read = Rows(self.reader.plan, len(keyed))
        at = self._decode(tables, buffer, at, end, len(keyed), times, read)
        rows = [row for group in keyed.values() for row in group]
        sources = [source for source, group in enumerate(keyed.values()) for _ in group]
        kernel.share(
            np.array(rows, np.int64), np.array(sources, np.int64),
            tables.columns, tables.marks, tables.views,
            read.matrix, read.marks, read.ages,
            self.filled.matrix, self.filled.marks, self.filled.ages,
        )  # fmt: skip
        return at

    def _own_corridors(self) -> dict[tuple[str, int], list[int]]:
        """Add rows to the corridors read along; those of other corridors, which are to be read."""
        reader, named, corridors = self.reader, self.named, self.corridors
        raw = reader.scratch.raw
        places = reader.scratch.corridor_at[: self.rows].tolist()
        times = self.times.tolist()
        own: dict[tuple[str, int], list[int]] = {}
        for wanted in self.wanted:
            if wanted.corridor is not None:
                continue
            for row, customer in enumerate(wanted.customers, wanted.first):
                at, length = places[row]
                name = raw[at : at + length].tobytes().decode() if length >= 0 else None
                reader.remember_corridor(customer, name)
                if name is None:
                    continue
                corridors[row] = name
                key = name, times[row]
                group = named.get(key)
                if group is None:
                    group = own.setdefault(key, [])
                group.append(row)
        return own

    def _finish(self) -> None:
        """Score all rows, and hand each request its own."""
        served, plan = self.reader.served, self.reader.plan
        filled = self.filled
        if plan.request:
            for wanted in self.wanted:
                self._fill_from_request(wanted)
        others = self._take_out_other_versions()
        try:
            scored = served.score(filled.matrix)
        except Exception as error:
            reason = ScoringError(f"{served.name} version {served.version}")
            reason.__cause__ = error
            self._fail(reason)
            return
        scores, predictions = scored.scores.tolist(), scored.predictions.tolist()
        chances, classes, anomalies = (
            None if part is None else part.tolist()
            for part in (scored.probabilities, scored.classes, scored.anomalies)
        )
        statuses, ages = self.reader.statuses.rows(filled.marks, filled.ages)
        for wanted in self.wanted:
            if wanted.done.done():  # its request has gone
                continue
            first, last = wanted.first, wanted.first + len(wanted.customers)
            wanted.done.set_result(
                Vectors(
                    wanted.as_of or self.now,
                    filled.matrix[first:last],
                    statuses[first:last],
                    ages[first:last],
                    self.corridors[first:last],
                    scores[first:last],
                    predictions[first:last],
                    None if chances is None else chances[first:last],
                    None if classes is None else classes[first:last],
                    None if anomalies is None else anomalies[first:last],
                    0 if others is None else int(others[first:last].sum()),
                )
            )
        self._end()

    def _take_out_other_versions(self) -> npt.NDArray[np.bool_] | None:
        """Make vectors missing that the model was not trained on, and say so in the marks; which
        rows had one: (n,), None where there are none.

        Its scorer would not be fed them in any case: here whoever is told of the rows, or what
        became of the features, is told the same.
        """
        guard, filled = self.reader.served.guard, self.filled
        if guard is None:
            return None
        others = guard.others(filled.matrix)
        if not others.any():
            return None
        guard.take_out(filled.matrix, others)
        filled.marks[np.ix_(others, self.reader.plan.guarded)] = OTHER_VERSION
        return others

    def _end(self) -> None:
        """Once those who waited have had their turn: what comes until then goes out together."""
        asyncio.get_running_loop().call_soon(self.reader.ended)

    def _fill_from_request(self, wanted: Wanted) -> None:
        first, last = wanted.first, wanted.first + len(wanted.customers)
        for item in self.reader.plan.request:
            value: Any = (
                wanted.corridor
                if item.feature == "corridor"
                else getattr(wanted.context, item.feature)
            )
            if item.categories is not None:
                value = None if value is None else item.categories.get(value)
            if value is not None:
                self.filled.matrix[first:last, item.column] = value

    def _fail(self, error: Exception) -> None:
        for wanted in self.wanted:
            if not wanted.done.done():
                wanted.done.set_exception(error)
        self._end()


def _add_commands(
    payload: list[bytes], tables: HashTables, key_of: Callable[[str], bytes], names: Iterable[str]
) -> None:
    before, after = tables.command
    for name in names:
        key = key_of(name)
        payload.append(b"%b%d\r\n%b%b" % (before, len(key), key, after))
