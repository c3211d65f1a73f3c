"""Train customer embeddings from the archive, alone or on several processes.

    python -m training.embedding --out FOLDER
    torchrun --nproc-per-node 2 -m training.embedding --out FOLDER

Under torchrun the processes share each batch (`torch.distributed`, gloo on processors), and the
first one writes: the version's files, and `curve.json` with how many processes there were and an
entry an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import yaml

from feature_repo.contracts.settings import Settings
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.sequences import archived_sequences, instant_us

CURVE_FILE = "curve.json"


def main(argv: Sequence[str]) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the version's files")
    parser.add_argument("--end", help="train on what was known then, ISO 8601; now by default")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="another value"
    )
    arguments = parser.parse_args(argv)
    changes = {
        name: yaml.safe_load(value)
        for name, _, value in (each.partition("=") for each in arguments.set)
    }
    config = load_config(EmbeddingConfig, NAME, changes)
    end = datetime.fromisoformat(arguments.end) if arguments.end else datetime.now(UTC)
    known = archived_sequences(Settings.from_env(), end).until(instant_us(end))

    # Imported late: it takes seconds, and a mistake above is told at once.
    from torch import distributed  # noqa: PLC0415

    from training.embedding.fitting import fit  # noqa: PLC0415

    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if together:
        distributed.init_process_group("gloo")
    try:
        fitted = fit(known, config, instant_us(end), report=print)
        if int(os.environ.get("RANK", "0")) == 0:
            arguments.out.mkdir(parents=True, exist_ok=True)
            for name, content in fitted.files.items():
                (arguments.out / name).write_bytes(content)
            processes = distributed.get_world_size() if together else 1
            curve = {
                "processes": processes, "epochs": [asdict(epoch) for epoch in fitted.curve]
            }  # fmt: skip
            (arguments.out / CURVE_FILE).write_text(json.dumps(curve))
    finally:
        if together:
            distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
