"""What `daima up` may remove before it simulates."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from infra.stack import LocalStack, StackError
from infra.up import UpOptions, forget_simulated, run_up


def rows_in(folder: Path) -> None:
    folder.mkdir(parents=True)
    pl.DataFrame({"event_id": ["1"]}).write_parquet(folder / "rows.parquet")


def test_events_of_ones_own_are_never_removed(tmp_path: Path) -> None:
    rows_in(tmp_path / "offline" / "events")
    with pytest.raises(StackError, match="daima up --no-traffic"):
        run_up(UpOptions(home=tmp_path, traffic=True))
    assert (tmp_path / "offline" / "events" / "rows.parquet").is_file()
    assert not (tmp_path / "stack.json").exists()


def test_a_simulated_world_starts_anew_and_models_stay(tmp_path: Path) -> None:
    rows_in(tmp_path / "offline" / "events")
    (tmp_path / "simulation").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "registry.db").write_text("")
    (tmp_path / "mlflow").mkdir()
    forget_simulated(LocalStack(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["mlflow"]
