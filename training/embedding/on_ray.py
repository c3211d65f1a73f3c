"""The training script on Ray: `TorchTrainer` starts the processes, which share each batch.

A cluster of this machine alone, which ends with the training: it listens on the loopback device,
writes to a temporary folder and reports to nobody. (The port at which torch's processes first meet
is open to all networks, under torchrun as well: torch binds it so.) Ray is the extra `ray`.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from feature_repo.contracts.credentials import without_credentials
from feature_repo.contracts.errors import ModelError
from training.embedding.one_process import Order, learn, say

# Read by Ray as it is imported, and by the processes that it starts.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # What Ray calls a cluster of Windows or macOS: one that stays on 127.0.0.1.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    # Helpers of clusters that people watch, and whose machines are taken from them.
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
_OBJECTS_BYTES = 100_000_000  # nothing large travels through it: each process reads the archive
_LOOK_S = 0.5


def learn_on_ray(order: Order, processes: int) -> None:
    """Train on so many processes of this machine, each with one core; the first one writes.

    Raises:
        ModelError: Ray is not installed, or the training failed.
    """
    if find_spec("ray") is None:
        raise ModelError(
            "ray", expected="the extra that training is distributed with",
            action="install it: pip install 'daima[ray]', or use torchrun, which torch comes with",
        )  # fmt: skip
    # A token of its own: Ray would write one into the home folder.
    os.environ.update(_ENVIRONMENT, RAY_AUTH_TOKEN=secrets.token_hex(32))
    ray, train, torch = (
        import_module(name) for name in ("ray", "ray.train", "ray.train.torch")
    )  # not where this module is imported: Ray may not be there, and reads the environment
    # Not below a folder of ours: the paths of Ray's sockets must be short.
    with tempfile.TemporaryDirectory(prefix="daima-ray-") as folder:
        ray.init(
            address="local",
            num_cpus=processes,
            include_dashboard=False,
            object_store_memory=_OBJECTS_BYTES,
            log_to_driver=False,  # much of Ray's own, that nobody asked for
            logging_level=logging.ERROR,
            _temp_dir=folder,
            _plasma_directory=folder,
        )
        progress = Path(folder) / "progress"
        try:
            with _shown(progress):
                torch.TorchTrainer(
                    _learn,
                    train_loop_config={"order": order, "progress": progress},
                    torch_config=torch.TorchConfig(backend="gloo"),
                    scaling_config=train.ScalingConfig(num_workers=processes),
                    run_config=train.RunConfig(name="embedding", storage_path=folder),
                ).fit()
        except train.TrainingFailedError as error:
            # A process' traceback, whose last line says what was wrong.
            last = without_credentials(str(error).strip().splitlines()[-1])
            raise ModelError(
                "training on Ray", last, "processes that end well",
                "train on one process to see the mistake alone: leave --ray out",
            ) from error  # fmt: skip
        finally:
            ray.shutdown()


def _learn(told: dict[str, Any]) -> None:
    """One of Ray's processes; `torch.distributed` is initialised in it."""

    def report(line: str) -> None:
        with told["progress"].open("a") as file:
            file.write(line + "\n")

    learn(told["order"], report)


@contextmanager
def _shown(progress: Path) -> Iterator[None]:
    """Print the lines that come into a file meanwhile."""
    over = threading.Event()

    def follow() -> None:
        shown = 0
        while True:
            last = over.wait(_LOOK_S)  # looked up before the file: what is in it by then is shown
            lines = progress.read_text().splitlines() if progress.exists() else []
            for line in lines[shown:]:
                say(line)
            shown = len(lines)
            if last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
