from __future__ import annotations

import re
from pathlib import Path

import pytest

from feature_repo.contracts.settings import ROOT
from streaming.simulator import World

PAGE = ROOT / "docs" / "simulator.md"


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, {})  # noqa: S102  # our own page
    assert (tmp_path / "log" / "events.parquet").is_file()


def test_every_knob_is_explained(world: World) -> None:
    text = PAGE.read_text()
    for knob in world.__struct_fields__:
        assert f"| `{knob}` |" in text, knob
