"""A checkpoint is whole at every instant: round trips, crashes between steps, what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_repo.contracts.features import CUSTOMER, FEATURE_SET
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.shard import Shard
from streaming.checkpoints import BASES_KEPT, CheckpointError, PartitionCheckpoint
from tests.streaming.made_events import batch_of, page_view, payment

LOG = "valkey"


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_program(FEATURE_SET, CUSTOMER)


def events(first: int, count: int = 6) -> pa.RecordBatch:
    return batch_of(
        [
            (payment if n % 3 == 2 else page_view)(n, f"c{n % 4}")
            for n in range(first, first + count)
        ]
    )


def states(shard: Shard) -> dict[str, bytes]:
    """Online values of all keys, as one more event of each shows them."""
    folded = shard.fold(batch_of([page_view(900 + n, f"c{n}") for n in range(4)]))
    return dict(zip(folded.keys.to_pylist(), folded.states.to_pylist(), strict=True))


def expected(program: Program, count: int) -> dict[str, bytes]:
    shard = Shard(program)
    if count:
        shard.fold(events(0, count))
    return states(shard)


def restored(folder: Path, program: Program) -> tuple[PartitionCheckpoint, Shard]:
    checkpoint = PartitionCheckpoint(folder, program)
    return checkpoint, checkpoint.restore()


def test_base_and_events_since_make_up_the_state(tmp_path: Path, program: Program) -> None:
    checkpoint, shard = restored(tmp_path / "p", program)
    assert checkpoint.manifest is None
    for epoch in range(5):
        batch = events(6 * epoch)
        shard.fold(batch)
        checkpoint.add_delta([batch.slice(0, 2), batch.slice(2)])
        if epoch == 2:
            checkpoint.add_base(shard.snapshot())
        checkpoint.commit(LOG, 7, 100 + epoch, 1_000 + epoch)
    checkpoint.close()
    checkpoint, shard = restored(tmp_path / "p", program)
    assert checkpoint.manifest is not None
    assert (checkpoint.manifest.generation, checkpoint.manifest.offset) == (7, 104)
    assert (checkpoint.manifest.log, checkpoint.manifest.watermark_us) == (LOG, 1_004)
    assert (checkpoint.events_since_base, checkpoint.deltas_since_base) == (12, 2)
    assert states(shard) == expected(program, 30)
    checkpoint.close()


def test_bases_are_kept_and_a_bad_one_costs_no_data(tmp_path: Path, program: Program) -> None:
    checkpoint, shard = restored(tmp_path, program)
    for epoch in range(6):
        batch = events(6 * epoch)
        shard.fold(batch)
        checkpoint.add_delta([batch])
        checkpoint.add_base(shard.snapshot())
        checkpoint.commit(LOG, 1, epoch, epoch)
    checkpoint.close()
    bases = sorted(tmp_path.glob("base-*"))
    assert len(bases) == BASES_KEPT
    for bad in bases[1:]:
        bad.write_bytes(bad.read_bytes()[:-1])
    checkpoint, shard = restored(tmp_path, program)
    assert states(shard) == expected(program, 36)
    checkpoint.close()
    bases[0].unlink()
    checkpoint = PartitionCheckpoint(tmp_path, program)
    with pytest.raises(CheckpointError, match="daima stream --restart"):
        checkpoint.restore()
    checkpoint.close()


def test_without_kept_events_a_base_stands_alone(tmp_path: Path, program: Program) -> None:
    checkpoint, shard = restored(tmp_path, program)
    shard.fold(events(0))
    checkpoint.add_base(shard.snapshot(), alone=True)
    checkpoint.commit("file", 1, None, 5)
    checkpoint.close()
    next(tmp_path.glob("base-*")).write_bytes(b"")
    checkpoint = PartitionCheckpoint(tmp_path, program)
    with pytest.raises(CheckpointError):  # and not an empty state
        checkpoint.restore()
    checkpoint.close()


class _Crash(BaseException):
    """The process has ended here."""


@pytest.mark.parametrize("rebase", [False, True])
def test_a_crash_between_any_two_steps_leaves_a_whole_checkpoint(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch, rebase: bool
) -> None:
    def step(checkpoint: PartitionCheckpoint, shard: Shard, number: int) -> None:
        batch = events(6 * number)
        shard.fold(batch)
        checkpoint.add_delta([batch])
        if rebase:
            checkpoint.add_base(shard.snapshot())
        checkpoint.commit(LOG, 1, number, number)

    crashes = 0
    for survived in range(40):
        folder = tmp_path / str(survived)
        checkpoint, shard = restored(folder, program)
        for number in range(BASES_KEPT + 1):
            step(checkpoint, shard, number)
        with monkeypatch.context() as patched:
            left = [survived]
            for name in ("fsync", "replace", "unlink"):
                patched.setattr(os, name, _counted(getattr(os, name), left))
            try:
                step(checkpoint, shard, BASES_KEPT + 1)
                crashed = False
            except _Crash:
                crashed = True
        crashes += crashed
        checkpoint.close()
        checkpoint, shard = restored(folder, program)
        assert checkpoint.manifest is not None
        offset = checkpoint.manifest.offset
        assert offset in (BASES_KEPT, BASES_KEPT + 1)
        assert states(shard) == expected(program, 6 * (offset + 1))
        named = {n for link in checkpoint.manifest.chain for n in (link.base, *link.deltas)}
        assert {path.name for path in folder.iterdir()} == {
            "manifest.json", "lock", *(named - {None}),
        }  # fmt: skip
        checkpoint.close()
        if not crashed:
            break
    assert crashes >= 5


def _counted(real: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not left[0]:
            raise _Crash
        left[0] -= 1
        return real(*args, **kwargs)

    return call


def test_a_checkpoint_of_other_definitions_is_refused(tmp_path: Path, program: Program) -> None:
    checkpoint = PartitionCheckpoint(tmp_path, program)
    checkpoint.commit(LOG, 1, None, None)
    checkpoint.close()
    other = compile_program(replace(FEATURE_SET, lateness=timedelta(hours=2)), CUSTOMER)
    with pytest.raises(CheckpointError, match=r"other definitions.*daima stream --restart"):
        PartitionCheckpoint(tmp_path, other)
    PartitionCheckpoint(tmp_path, program).close()  # and is still there
    PartitionCheckpoint(tmp_path, other, anew=True).close()


@pytest.mark.parametrize(
    "content", [b"{}", b"not json", b'{"format":9,"fingerprint":"","log":"","generation":1}']
)
def test_a_manifest_of_another_format_is_refused(
    tmp_path: Path, program: Program, content: bytes
) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest.json.*daima stream --restart"):
        PartitionCheckpoint(tmp_path, program)


def test_one_process_at_a_time(tmp_path: Path, program: Program) -> None:
    checkpoint = PartitionCheckpoint(tmp_path, program)
    with pytest.raises(CheckpointError, match="in use"):
        PartitionCheckpoint(tmp_path, program)
    checkpoint.close()
    PartitionCheckpoint(tmp_path, program).close()
