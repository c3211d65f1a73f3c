"""Our sides of the engine's benchmark: the dataflow with its checkpoints, and parts of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from bytewax.testing import run_main

from feature_repo.contracts.feature_set import FeatureSet
from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.engine import assign, fold, state_writer
from feature_repo.engine.folded import Folded
from feature_repo.engine.hashing import hash64
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.shard import Shard
from feature_repo.engine.state_copy import Snapshotting
from streaming.admission import Admission
from streaming.dataflow import Features, Stores, build_dataflow
from streaming.epochs import Epochs
from streaming.failure import Failure
from streaming.interpreter_pauses import few_pauses
from streaming.lineage import LogRun
from streaming.log.frames import Frame
from streaming.mapping.dead_letters import DeadLetters
from streaming.owned import OwnedPartitions
from streaming.rebase import Rebase
from streaming.source import LogSource
from tests.benchmarks.plain_numba import PlainNumba
from tests.benchmarks.workload import SHARDS, Frames

EPOCH = timedelta(seconds=10)


def customer_program() -> Program:
    """The default features of the customer, compiled."""
    return compile_program(FEATURE_SET, CUSTOMER)


def primed_shards(frames: Frames) -> list[Shard]:
    """A shard a partition, with the frames folded in."""
    program = customer_program()
    shards = [Shard(program) for _ in range(SHARDS)]
    for partition, batch in zip(frames.partitions, frames.batches, strict=True):
        shards[partition].fold(batch, rows=False, states=False)
    return shards


class _Reader:
    """The frames, one a poll, as a log that ends after some seconds."""

    def __init__(self, frames: Frames, seconds: float) -> None:
        self.gone: dict[Any, int] = {}
        self.read = 0
        self._frames = iter(zip(frames.partitions, frames.batches, strict=True))
        self._until_s = time.monotonic() + seconds

    def poll(self) -> list[Any]:
        partition, batch = next(self._frames)
        if time.monotonic() > self._until_s:
            raise StopIteration
        self.read += len(batch)
        return [Frame("customer", partition, self.read, batch)]

    def close(self) -> None:
        """Nothing is open."""


class _NoRows:
    def write(self, partition: int, first_offset: int, rows: pa.RecordBatch) -> None:
        """Take in rows, and forget them."""

    def flush(self, partitions: Collection[int]) -> None:
        """Nothing is written."""


class _NoStore:
    def write(self, *states: Any) -> None:
        """Take in states, and forget them."""

    def forget(self, entity: Any, keys: Any) -> None:
        """Nothing is kept."""

    def together(self) -> AbstractContextManager[None]:
        """Nothing is written."""
        return nullcontext()

    def mark(self) -> Callable[[], None]:
        """Nothing waits."""
        return lambda: None

    def close(self) -> None:
        """Nothing waits."""


class _RowsOnly:
    """A shard that is not asked for online states."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def fold(self, events: pa.RecordBatch) -> Folded:
        return self._shard.fold(events, states=False)

    def copying(self) -> Snapshotting:
        return self._shard.copying()


def run_engine(folder: Path, seconds: float, *, states: bool) -> dict[str, float]:
    """Our dataflow over the frames, its checkpoints on disk, without the stores."""
    program = customer_program()
    name = CUSTOMER.name
    run = LogRun("benchmark", "", 1, complete=True)
    shards = primed_shards(Frames.open(folder / "primed.arrow"))
    timed = Frames.open(folder / "timed.arrow")
    with tempfile.TemporaryDirectory() as home:
        owned = OwnedPartitions()
        owned.open(Path(home), {name: program}, [(name, at) for at in range(SHARDS)], run)
        owned.shards = {(name, at): shard for at, shard in enumerate(shards)}
        for key, checkpoint in owned.checkpoints.items():
            checkpoint.add_base(owned.shards[key].snapshot())
            checkpoint.commit(run.log, run.generation, None, None)
        failure = Failure()
        gaps_s: list[float] = []
        letters = DeadLetters(Path(home) / "letters.jsonl")
        admission = Admission(
            FeatureSet("benchmark", FEATURE_SET.views_of(CUSTOMER)), {name: program}, letters
        )
        bases: list[int] = []
        epochs = Epochs(
            {name: _NoRows()},
            (name, _NoRows()),
            owned.checkpoints,
            run,
            committed=lambda positions: bases.append(1),
        )
        folding: Mapping[Any, Any] = owned.shards
        if not states:
            folding = {key: _RowsOnly(shard) for key, shard in owned.shards.items()}
        features = Features(folding, Rebase(EPOCH, owned.events_since_base), failure)
        reader = _Reader(timed, seconds)
        source = LogSource(
            lambda: reader,
            admission,
            owned.offsets,
            failure,
            epoch=EPOCH,
            committing=lambda: epochs.committing,
            epoch_ended=gaps_s.append,
        )
        counts = {"rows": 0, "duplicates": 0}

        def folded(update: Any) -> None:
            counts["rows"] += len(update.rows)
            counts["duplicates"] += update.duplicates

        stores = Stores({name: CUSTOMER}, 1, _NoStore(), epochs, failure, folded=folded)
        flow = build_dataflow(source, features, stores)
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        with few_pauses():
            run_main(flow)  # type: ignore[no-untyped-call]  # compiled, without hints
        took_s = time.perf_counter() - started_s
        cpu_s = time.process_time() - started_cpu_s
        failure.check()
        owned.close()
    return {
        "events": reader.read,
        "seconds": took_s,
        "events_per_s": reader.read / took_s,
        "events_per_cpu_s": reader.read / cpu_s,
        **counts,
        "dead_letters": letters.count,
        "commits": len(bases),
        "longest_poll_gap_ms": 1000 * max(gaps_s, default=0.0),
    }


def run_kernel(folder: Path, seconds: float) -> dict[str, float]:
    """`Shard.fold` without a dataflow, with the time spent in its compiled kernels."""
    shards = primed_shards(Frames.open(folder / "primed.arrow"))
    timed = Frames.open(folder / "timed.arrow")
    in_kernels = [0.0]

    def watched(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began_s = time.process_time()
            found = kernel(*arguments)
            in_kernels[0] += time.process_time() - began_s
            return found

        return call

    # Looked up at every call, in their modules.
    assign.assign = watched(assign.assign)
    fold.fold_groups = watched(fold.fold_groups)
    state_writer.write_states = watched(state_writer.write_states)  # type: ignore[attr-defined]
    found: dict[str, float] = {}
    batches = iter(zip(timed.partitions, timed.batches, strict=True))
    half = len(timed.batches) // 2
    for name, states in (("rows", False), ("rows_and_states", True)):
        in_kernels[0], events = 0.0, 0
        # Processor time: one thread, and nothing waits.
        began_s = time.process_time()
        for partition, batch in islice(batches, half):
            _ = shards[partition].fold(batch, states=states).rows
            events += len(batch)
            if time.process_time() - began_s > seconds / 2:
                break
        took_s = time.process_time() - began_s
        found[f"fold_{name}_events_per_s"] = events / took_s
        found[f"fold_{name}_kernels_events_per_s"] = events / in_kernels[0]
    return found


def run_plain(folder: Path, seconds: float) -> dict[str, float]:
    """Numba written for these features."""
    primed, timed = Frames.open(folder / "primed.arrow"), Frames.open(folder / "timed.arrow")
    batches = [*primed.batches, *timed.batches]
    plain = PlainNumba(np.concatenate([hash64(batch.column("customer_id")) for batch in batches]))
    for batch in primed.batches:
        plain.fold(batch)
    events = rows = 0
    plain.kernel_s = 0.0
    began_s = time.process_time()
    for batch in timed.batches:
        rows += len(plain.fold(batch)[0])
        events += len(batch)
        if time.process_time() - began_s > seconds:
            break
    took_s = time.process_time() - began_s
    return {
        "plain_numba_events_per_s": events / took_s,
        "plain_numba_kernel_events_per_s": events / plain.kernel_s,
    }
