"""The training script on two processes: what one process learns, in as many steps."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding import Encoder
from tests.training.embedding.made import made_session
from tests.training.simulated import FIRST_DAY
from training.embedding.__main__ import main

pytest.importorskip("torch", reason="networks are trained with the extra `torch`")

END = FIRST_DAY + timedelta(days=8)
# Chunks shorter than some customers: gradients of several chunks meet once.
SMALL = ("epochs=2", "batch_sessions=512", "chunk_sessions=4", "recurrent=16", "joined=24")
# Nothing random, which each process draws for itself.
CHANGES = (*SMALL, "dropout=0", "swap_share=0")
# Starting interpreters with torch takes seconds, and Ray's ten more; ten times as long beside other
# work.
WITHIN = timedelta(minutes=4)
HAS_RAY = importlib.util.find_spec("ray") is not None
SCRIPT = ("-m", "training.embedding")
TORCHRUN = (
    *("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"),
    *("--nproc-per-node", "2"),
)


def trained(
    settings: Settings, out: Path, *command: str, changes: tuple[str, ...] = CHANGES
) -> dict[str, Any]:
    """The curve of a run; torchrun and Ray find free ports themselves."""
    arguments = ["--out", str(out), "--end", END.isoformat()]
    for change in changes:
        arguments += ["--set", change]
    subprocess.run(
        [sys.executable, *command, *arguments],
        env={
            **os.environ, "DAIMA_HOME": str(settings.home), "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": "lo",
        },
        cwd=Path(__file__).parents[3],
        timeout=WITHIN.total_seconds(),
        check=True,
        capture_output=True,
    )  # fmt: skip
    curve: dict[str, Any] = json.loads((out / "curve.json").read_text())
    return curve


@pytest.fixture(scope="module")
def alone(small_world: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """What one process learns: the version's folder, and the curve."""
    out = tmp_path_factory.mktemp("alone")
    return out, trained(small_world, out, *SCRIPT)


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param((*TORCHRUN, *SCRIPT), id="torchrun"),
        pytest.param(
            (*SCRIPT, "--ray", "2"),
            id="ray",
            marks=pytest.mark.skipif(not HAS_RAY, reason="ray is an extra"),
        ),
    ],
)
def test_two_processes_learn_what_one_does(
    launcher: tuple[str, ...], alone: tuple[Path, Any], small_world: Settings, tmp_path: Path
) -> None:
    folder, curve = alone
    left = set(Path(tempfile.gettempdir()).glob("daima-ray-*"))
    together = trained(small_world, tmp_path, *launcher)
    assert (curve["processes"], together["processes"]) == (1, 2)
    for one, two in zip(curve["epochs"], together["epochs"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-3)
        assert two["intent_loss"] == pytest.approx(one["intent_loss"], abs=1e-3)
    assert curve["epochs"][1]["loss"] < curve["epochs"][0]["loss"]
    vectors = [Encoder.load(at).update(None, made_session())[1] for at in (folder, tmp_path)]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=0.01)
    assert set(Path(tempfile.gettempdir()).glob("daima-ray-*")) == left


def test_what_each_process_draws_at_random_leaves_the_curve_as_it_is(
    small_world: Settings, tmp_path: Path
) -> None:
    one = trained(small_world, tmp_path / "one", *SCRIPT, changes=SMALL)
    two = trained(small_world, tmp_path / "two", *TORCHRUN, *SCRIPT, changes=SMALL)
    for first, second in zip(one["epochs"], two["epochs"], strict=True):
        assert second["loss"] == pytest.approx(first["loss"], abs=0.01)
        assert second["intent_loss"] == pytest.approx(first["intent_loss"], abs=0.01)


@pytest.mark.skipif(not HAS_RAY, reason="ray is an extra")
def test_what_is_wrong_in_a_process_of_ray_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *SCRIPT, "--out", str(tmp_path / "out"), "--ray", "1"],
        env={**os.environ, "DAIMA_HOME": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        timeout=WITHIN.total_seconds(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "stream events first" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_without_ray_the_extra_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path / "out"), "--ray", "2"]) == 2
    assert "pip install 'daima[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_mistake_is_told_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), "--ray", "2", "--set", "epochs=many"]) == 2
    assert "epochs" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), "--ray", "0"])
    assert "at least one process" in capsys.readouterr().err
