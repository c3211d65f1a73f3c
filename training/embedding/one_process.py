"""What one process of the training script does, alone or among several that share each batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from feature_repo.contracts.settings import Settings
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.sequences import archived_sequences, instant_us

CURVE_FILE = "curve.json"


@dataclass(frozen=True)
class Order:
    """What is to be learnt.

    Attributes:
        out: folder for the version's files and the curve.
        end: what was known then is learnt from; aware.
        changes: other values of the configuration.
    """

    out: Path
    end: datetime
    changes: Mapping[str, object]

    @property
    def config(self) -> EmbeddingConfig:
        """The configuration.

        Raises:
            ModelError: there is no such field, or its value makes no sense.
        """
        return load_config(EmbeddingConfig, NAME, self.changes)


def say(line: str) -> None:
    """Print a line at once, also where the output is no terminal."""
    print(line, flush=True)


def learn(order: Order, report: Callable[[str], None] = say) -> None:
    """Train on the archive of the settings; the first process writes what came of it.

    Where `torch.distributed` has been initialised, this process takes its share of each batch.

    Args:
        report: of the first process: gets a line an epoch.

    Raises:
        DatasetError: there is no archive.
        ModelError: see `Order.config`.
    """
    config, end_us = order.config, instant_us(order.end)
    known = archived_sequences(Settings.from_env(), order.end).until(end_us)

    # Imported late: it takes seconds, and a mistake above is told at once.
    from torch import distributed  # noqa: PLC0415

    from training.embedding.fitting import fit  # noqa: PLC0415

    together = distributed.is_initialized()
    fitted = fit(known, config, end_us, report=report)
    if together and distributed.get_rank() > 0:
        return
    order.out.mkdir(parents=True, exist_ok=True)
    for name, content in fitted.files.items():
        (order.out / name).write_bytes(content)
    curve = {
        "processes": distributed.get_world_size() if together else 1,
        "epochs": [asdict(epoch) for epoch in fitted.curve],
    }
    (order.out / CURVE_FILE).write_text(json.dumps(curve))
