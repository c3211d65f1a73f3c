"""Train customer embeddings from the archive, alone or on several processes.

    python -m training.embedding --out FOLDER
    torchrun --nproc-per-node 2 -m training.embedding --out FOLDER
    python -m training.embedding --ray 2 --out FOLDER

Under torchrun and Ray the processes share each batch (`torch.distributed`, gloo on processors), and
the first one writes: the version's files, and `curve.json` with how many processes there were and
an entry an epoch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from feature_repo.contracts.errors import DaimaError
from training.embedding.one_process import Order, learn


def main(argv: Sequence[str]) -> int:
    """Run the script; 2 where something of ours is wrong, which it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the version's files")
    parser.add_argument("--end", help="train on what was known then, ISO 8601; now by default")
    parser.add_argument("--ray", type=int, metavar="N", help="on N processes, which Ray starts")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="another value"
    )
    arguments = parser.parse_args(argv)
    if arguments.ray is not None and arguments.ray < 1:
        parser.error(f"--ray {arguments.ray}: at least one process")
    changes = {
        name: yaml.safe_load(value)
        for name, _, value in (each.partition("=") for each in arguments.set)
    }
    end = datetime.fromisoformat(arguments.end) if arguments.end else datetime.now(UTC)
    order = Order(arguments.out.resolve(), end, changes)
    try:
        _ = order.config  # a mistake in it is told before anything starts
        if arguments.ray is not None:
            from training.embedding.on_ray import learn_on_ray  # noqa: PLC0415

            learn_on_ray(order, arguments.ray)
        elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _learn_together(order)
        else:
            learn(order)
    except DaimaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _learn_together(order: Order) -> None:
    """One of torchrun's processes."""
    from torch import distributed  # noqa: PLC0415

    distributed.init_process_group("gloo")
    try:
        learn(order)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
