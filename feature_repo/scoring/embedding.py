"""The customer encoder where torch is not: a finished session in, the customer's new vector out.

Three ONNX graphs and a codebook. `session.onnx` makes a vector of a session's events;
`snapshot.onnx` takes one financial snapshot into a customer's hidden state; `customer.onnx` takes
one session vector, and when it was, into the state and gives the customer's vector. What is carried
from session to session is the `CustomerState` alone: history is never read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from feature_repo.contracts.embeddings import (
    CODEBOOK_FILE,
    CUSTOMER_FILE,
    EMBEDDING_WIDTH,
    SESSION_FILE,
    SNAPSHOT_FILE,
    CustomerState,
)
from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.scoring.embedding_inputs import (
    Codebook,
    Singles,
    log_balances,
    session_inputs,
    snapshot_inputs,
    time_inputs,
)
from feature_repo.scoring.embedding_sessions import Floats, Ints, Sessions
from feature_repo.scoring.embedding_states import Stack

FILES = (SESSION_FILE, SNAPSHOT_FILE, CUSTOMER_FILE, CODEBOOK_FILE)
# Memory for so many sessions' events at a time.
_SESSIONS_AT_ONCE = 8_192


class Encoder:
    """One embedding version. Safe between threads; one thread computes a call.

    Args:
        files: name -> content of FILES.

    Raises:
        ModelError: a file is missing, none of its kind, or does not fit the others.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        for name in FILES:
            if name not in files:
                raise ModelError(
                    name, expected="a file of the embedding version", action="register it again"
                )
        self.files = {name: files[name] for name in FILES}
        self.book = Codebook.from_json(files[CODEBOOK_FILE])
        self._session = _Graph(SESSION_FILE, files[SESSION_FILE])
        self._snapshot = _Graph(SNAPSHOT_FILE, files[SNAPSHOT_FILE])
        self._customer = _Graph(CUSTOMER_FILE, files[CUSTOMER_FILE])
        state, vector = self._customer.widths
        found = (state, self._snapshot.widths[0], self._session.widths[0], vector)
        fitting = (self.book.hidden, self.book.hidden, self.book.session, EMBEDDING_WIDTH)
        if found != fitting:
            raise ModelError(
                "encoder", f"outputs of widths {found}", str(fitting),
                "keep the files of one version together",
            )  # fmt: skip

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a folder's files.

        Raises:
            ModelError: as of the class.
        """
        return cls(
            {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
        )

    @property
    def version(self) -> str:
        """The embedding version: what states and vectors made here carry."""
        return self.book.version

    def encode_sessions(self, sessions: Sessions) -> Singles:
        """The vectors of n sessions: (n, session width), float32."""
        return self._encoded(sessions)[0]

    def encode_session(self, session: Sessions) -> Singles:
        """The vector of one session: (session width,)."""
        _one(session)
        return np.asarray(self.encode_sessions(session)[0])

    def update(
        self, state: CustomerState | None, session: Sessions
    ) -> tuple[CustomerState, Singles]:
        """Take one finished session into a customer's state.

        Args:
            state: what the former session left; None for a customer's first one.
            session: one session, with the snapshots since the former one.

        Returns:
            The new state, and the customer's vector: (EMBEDDING_WIDTH,) float32 of length 1.

        Raises:
            ModelError: the state is of another embedding version.
            DatasetError: it is not one session, or not later than what was taken in; a session
                that is handed in twice has to be told by its end (`CustomerState.last_us`).
        """
        _one(session)
        states, vectors = self.update_many([state], session)
        return states[0], np.asarray(vectors[0])

    def update_many(
        self, states: Sequence[CustomerState | None], sessions: Sessions
    ) -> tuple[list[CustomerState], Singles]:
        """`update` for n customers, one session each: new states, and vectors (n, width)."""
        if len(states) != len(sessions):
            raise DatasetError(
                "states", len(states), f"one a session, {len(sessions)}", "pair them"
            )
        stack = Stack.of(states, self.version, self.book.hidden)
        late = (stack.sessions > 0) & (sessions.start_us <= stack.last_us)
        if late.any():
            raise DatasetError(
                "session", f"begins at {sessions.start_us[late][0]} µs",
                f"a session after what was taken in, to {stack.last_us[late][0]} µs",
                "skip what was taken in before; recompute the customer where it came late",
            )  # fmt: skip
        vectors, hours = self._encoded(sessions)
        out = self._step(stack, sessions, vectors, hours)
        return stack.states(self.version), out

    def replay(
        self, customers: Ints, sessions: Sessions
    ) -> tuple[list[CustomerState], Singles, Singles]:
        """All sessions of many customers, from nothing.

        Args:
            customers: (customers + 1,) where each one's sessions begin, by time.
            sessions: of all, one customer behind the other.

        Returns:
            The last states of customers, their vectors (customers, width), and the vector that
            held after each session (n, width). A customer without sessions is an error.

        Raises:
            DatasetError: a customer has no session.
        """
        counts = np.diff(customers)
        if len(counts) and counts.min() < 1:
            raise DatasetError("customer", "no session", "a session or more", "leave them out")
        vectors, hours = self._encoded(sessions)
        after = np.empty((len(sessions), EMBEDDING_WIDTH), dtype=np.float32)
        # Longest first: those who still have a session in a round are always the first ones.
        order = np.argsort(-counts, kind="stable")
        stack = Stack.of([None] * len(counts), self.version, self.book.hidden)
        for turn in range(int(counts.max(initial=0))):
            active = int((counts[order] > turn).sum())
            rows = customers[:-1][order[:active]] + turn
            part = stack.head(active)
            after[rows] = self._step(part, sessions.at(rows), vectors[rows], hours[rows])
            stack.put(part)
        states = stack.states(self.version)
        back = np.argsort(order, kind="stable")
        return [states[place] for place in back], after[customers[1:] - 1], after

    def _encoded(self, sessions: Sessions) -> tuple[Singles, Floats]:
        """Session vectors, and the hours that the times count from."""
        count = len(sessions)
        vectors = np.empty((count, self.book.session), dtype=np.float32)
        hours = np.empty(count)
        for at in range(0, count, _SESSIONS_AT_ONCE):
            rows = np.arange(at, min(at + _SESSIONS_AT_ONCE, count))
            part = sessions if len(rows) == count else sessions.at(rows)
            given = session_inputs(self.book, part)
            (vectors[rows],) = self._session(
                codes=given.codes,
                numbers=given.numbers,
                segment=given.segment[:, None],
                session_numbers=given.session_numbers,
                corridor=given.corridor,
            )
            hours[rows] = given.hour
        return vectors, hours

    def _step(self, stack: Stack, sessions: Sessions, vectors: Singles, hours: Floats) -> Singles:
        """One session each; `stack` is changed in place."""
        self._take_snapshots(stack, sessions)
        start_us, end_us = sessions.start_us, sessions.end_us
        stack.first_us = np.where(stack.sessions > 0, stack.first_us, start_us)
        times, elapsed = time_inputs(
            self.book,
            start_us,
            end_us,
            hours,
            before_us=stack.last_us,
            first_us=stack.first_us,
            sessions=stack.sessions,
        )
        stack.hidden, vector = self._customer(
            state=stack.hidden, session=vectors, times=times, elapsed=elapsed
        )
        stack.last_us = end_us
        stack.sessions = stack.sessions + 1
        return np.asarray(vector)

    def _take_snapshots(self, stack: Stack, sessions: Sessions) -> None:
        offsets = sessions.snapshot_offsets
        counts = np.diff(offsets)
        logs = log_balances(sessions.snapshot_balance)
        for turn in range(int(counts.max(initial=0))):
            rows = np.flatnonzero(counts > turn)
            places = offsets[:-1][rows] + turn
            time_us, log = sessions.snapshot_us[places], logs[places]
            given = snapshot_inputs(
                self.book,
                time_us,
                log,
                before_us=stack.snapshot_us[rows],
                last=stack.balance_last[rows],
                total=stack.balance_total[rows],
                count=stack.snapshots[rows],
            )
            (stack.hidden[rows],) = self._snapshot(state=stack.hidden[rows], snapshot=given)
            stack.snapshot_us[rows] = time_us
            stack.balance_last[rows] = log
            stack.balance_total[rows] += log
            stack.snapshots[rows] += 1


class _Graph:
    """An ONNX graph with named inputs."""

    def __init__(self, name: str, raw: bytes) -> None:
        # Takes 0.2 s to import: only what runs a network pays for it.
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        # Updates are short, and threads would fight over the cores; sums keep their order.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._run: Any = onnxruntime.InferenceSession(
                raw, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own types differ by cause and version
            reason = str(error).splitlines()[0]
            raise ModelError(
                name, f"{len(raw)} bytes", "an ONNX graph", f"register it again: {reason}"
            ) from error

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the outputs' rows."""
        return tuple(int(output.shape[1]) for output in self._run.get_outputs())

    def __call__(self, **given: Any) -> list[Any]:
        return list(self._run.run(None, given))


def _one(session: Sessions) -> None:
    if len(session) != 1:
        raise DatasetError("session", f"{len(session)} sessions", "one", "use update_many")
