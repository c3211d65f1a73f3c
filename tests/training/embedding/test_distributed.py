"""The training script on two processes: what one process learns, in as many steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding import Encoder
from tests.training.embedding.made import made_session
from tests.training.simulated import FIRST_DAY

pytest.importorskip("torch", reason="networks are trained with the extra `torch`")

END = FIRST_DAY + timedelta(days=8)
# Chunks shorter than some customers: gradients of several chunks meet once.
CHANGES = ("epochs=2", "batch_sessions=512", "chunk_sessions=4", "recurrent=16", "joined=24")
# Starting two interpreters with torch takes seconds; ten times as long beside other work.
WITHIN = timedelta(minutes=4)


def trained(settings: Settings, out: Path, *launcher: str) -> dict[str, Any]:
    """The curve of a run; torchrun finds a free port on the loopback device itself."""
    command = [sys.executable, *launcher, "-m", "training.embedding"]
    command += ["--out", str(out), "--end", END.isoformat()]
    for change in CHANGES:
        command += ["--set", change]
    subprocess.run(
        command,
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


def test_two_processes_learn_what_one_does(small_world: Settings, tmp_path: Path) -> None:
    alone = trained(small_world, tmp_path / "alone")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1",
                "--nproc-per-node", "2")  # fmt: skip
    together = trained(small_world, tmp_path / "together", *torchrun)
    assert (alone["processes"], together["processes"]) == (1, 2)
    for one, two in zip(alone["epochs"], together["epochs"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-3)
        assert two["intent_loss"] == pytest.approx(one["intent_loss"], abs=1e-3)
    assert alone["epochs"][1]["loss"] < alone["epochs"][0]["loss"]
    vectors = [
        Encoder.load(tmp_path / name).update(None, made_session())[1]
        for name in ("alone", "together")
    ]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=0.01)
