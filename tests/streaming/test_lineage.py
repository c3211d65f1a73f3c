"""Which generation a run writes in, and what a run of another log makes of the states."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.checkpoints import CheckpointError
from streaming.lineage import Lineage

PRINTS = {"customer": "aa", "corridor": "bb"}


class Counter:
    """A store's generations."""

    def __init__(self) -> None:
        self.number: int | None = None

    def in_force(self) -> int | None:
        return self.number

    def start(self, at_least: int) -> int:
        self.number = max((self.number or 0) + 1, at_least)
        return self.number


@pytest.fixture
def store() -> Counter:
    return Counter()


def lineage(folder: Path, store: Counter, prints: dict[str, str] = PRINTS) -> Lineage:
    return Lineage(folder / "set", prints, 8, store)


def file(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content)
    return path


def replayed(chain: Lineage, path: Path) -> tuple[int, bool, int | None]:
    replay = chain.begin_replay(path)
    chain.finish(replay.run)
    return replay.run.generation, replay.fresh, replay.stale_generation


def test_every_process_joins_the_same_live_run(tmp_path: Path, store: Counter) -> None:
    first = lineage(tmp_path, store).continue_live("valkey")
    assert first.generation == 1
    assert lineage(tmp_path, store).continue_live("valkey") == first


def test_the_live_log_goes_on_from_a_file_and_wins(tmp_path: Path, store: Counter) -> None:
    chain, path = lineage(tmp_path, store), file(tmp_path, "e", "1")
    assert replayed(chain, path) == (1, True, None)
    assert chain.continue_live("valkey").generation == 2
    # Again: nothing online changes, and what the live log has added stays.
    assert replayed(chain, path) == (1, False, None)
    assert chain.continue_live("valkey").generation == 2


def test_a_file_run_again_is_the_same_run(tmp_path: Path, store: Counter) -> None:
    chain, path = lineage(tmp_path, store), file(tmp_path, "e", "1")
    assert replayed(chain, path) == replayed(chain, path) == (1, True, None)


def test_a_changed_file_is_a_new_run_and_its_old_rows_go(tmp_path: Path, store: Counter) -> None:
    chain = lineage(tmp_path, store)
    assert replayed(chain, file(tmp_path, "e", "1")) == (1, True, None)
    assert replayed(chain, file(tmp_path, "other", "1")) == (2, True, None)
    assert replayed(chain, file(tmp_path, "e", "2")) == (3, True, 1)
    # Not part of the chain any more.
    assert replayed(chain, file(tmp_path, "other", "1")) == (4, True, 2)


def test_half_a_replay_is_not_continued(tmp_path: Path, store: Counter) -> None:
    chain, path = lineage(tmp_path, store), file(tmp_path, "e", "1")
    chain.begin_replay(path)
    with pytest.raises(CheckpointError, match=r"did not finish.*daima stream --restart"):
        chain.continue_live("valkey")
    assert replayed(chain, path) == (1, True, None)
    assert chain.continue_live("valkey").generation == 2


def test_half_a_rebuild_is_not_continued(tmp_path: Path, store: Counter) -> None:
    chain = lineage(tmp_path, store)
    chain.continue_live("valkey")
    values, run = chain.begin_rebuild("valkey")
    assert (values, run.generation) == (2, 3)
    with pytest.raises(CheckpointError, match="did not finish"):
        chain.continue_live("valkey")
    chain.finish(run)
    assert chain.continue_live("valkey").generation == 3


def test_other_definitions_are_refused_until_a_restart(tmp_path: Path, store: Counter) -> None:
    lineage(tmp_path, store).continue_live("valkey")
    other = lineage(tmp_path, store, {**PRINTS, "corridor": "cc"})
    with pytest.raises(CheckpointError, match=r"other definitions of corridor.*--restart"):
        other.continue_live("valkey")
    (tmp_path / "set" / "customer-00").mkdir()
    other.restart()
    assert not (tmp_path / "set" / "customer-00").exists()
    assert other.continue_live("valkey").generation == 2


def test_a_store_that_lost_its_values_is_named(tmp_path: Path, store: Counter) -> None:
    lineage(tmp_path, store).continue_live("valkey")
    store.number = None
    with pytest.raises(CheckpointError, match="daima rebuild"):
        lineage(tmp_path, store).continue_live("valkey")


def test_a_newer_generation_is_joined(tmp_path: Path, store: Counter) -> None:
    chain = lineage(tmp_path, store)
    chain.continue_live("valkey")
    store.number = 9
    assert chain.continue_live("valkey").generation == 9
    assert replayed(chain, file(tmp_path, "e", "1"))[0] == 10


def test_numbers_never_come_twice_even_if_the_store_forgets(tmp_path: Path, store: Counter) -> None:
    chain = lineage(tmp_path, store)
    assert replayed(chain, file(tmp_path, "e", "1"))[0] == 1
    store.number = None
    assert replayed(chain, file(tmp_path, "e", "2"))[0] == 2
    # A known file in another store: its values must be able to be written.
    store.number = None
    assert replayed(chain, file(tmp_path, "e", "2"))[0] == 2
    assert store.number == 2


def test_a_process_at_work_is_not_restarted_under(tmp_path: Path, store: Counter) -> None:
    from streaming.checkpoints import _lock

    chain = lineage(tmp_path, store)
    folder = tmp_path / "set" / "customer-00"
    folder.mkdir(parents=True)
    with _lock(folder), pytest.raises(CheckpointError, match="in use"):
        chain.restart()
    assert folder.exists()


def test_a_lineage_that_cannot_be_read_is_refused(tmp_path: Path, store: Counter) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "lineage.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"lineage.json"):
        lineage(tmp_path, store).continue_live("valkey")
