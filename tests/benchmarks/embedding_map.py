"""Maps of customers for the docs: one plane, coloured by planted persona and by segment.

    python -m tests.benchmarks.embedding_map [--customers N] [--seed N] [--out docs]

A simulated world of 60 days; everybody's vector at its end, by encoders that have learnt from the
first 45. The same numbers draw the same pictures. Beside them, of how many customers the nearest
ten are of the same group: what a picture shows can be told in numbers too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from feature_repo.contracts.embeddings import Singles
from feature_repo.scoring.embedding import Encoder
from tests.benchmarks.embedding_world import DAYS, KNOWN_DAYS
from tests.training.sessions import settings_at, write_archive
from tests.training.simulated import FIRST_DAY, events_of, simulated_world
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.fitting import fit
from training.embedding.picture import placed
from training.embedding.sequences import instant_us, sequences_of
from training.segments import NAME as SEGMENTS
from training.segments import Config, fit_segments
from training.sessions import observed_sessions

_NEAREST = 10
_LEAST_SESSIONS = 5  # who came less often has hardly shown what they are like


def main() -> None:
    """Draw both maps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--customers", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    simulation = simulated_world(options.customers, DAYS, options.seed)
    events = events_of(simulation)
    sequences = sequences_of(events)
    known_us = instant_us(FIRST_DAY + timedelta(days=KNOWN_DAYS))
    config = replace(load_config(EmbeddingConfig, NAME), seed=options.seed)
    fitted = fit(sequences.until(known_us), config, known_us, report=print)
    often = np.diff(sequences.offsets) >= _LEAST_SESSIONS
    chosen = sequences.first(np.where(often, np.diff(sequences.offsets), 0))
    _, vectors, _ = Encoder(fitted.files).replay(chosen.offsets, chosen.sessions)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_at(Path(folder))
        write_archive(settings, events)
        segments = fit_segments(observed_sessions(settings), load_config(Config, SEGMENTS))
    plane = placed(vectors, seed=options.seed)
    found: dict[str, object] = {"customers": len(vectors), "sessions": len(chosen.sessions)}
    for name, of in (("persona", simulation.truth.customers), ("segment", segments.customers)):
        groups = (
            chosen.customer_id.to_frame("customer_id")
            .join(of, on="customer_id", how="left", maintain_order="left")
            .get_column(name)
        )
        title = {"persona": "Customers, by planted persona", "segment": "Customers, by segment"}
        path = options.out / f"embeddings-{name}.png"
        path.write_bytes(plane.picture(groups, title[name]))
        print(path)
        found[name] = alike(vectors, groups)
    print(json.dumps(found))


def alike(vectors: Singles, groups: pl.Series) -> dict[str, float]:
    """Of everybody's nearest ten, the share of the own group; and of ten drawn by chance."""
    codes = groups.fill_null("").rank("dense").to_numpy()
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argpartition(-likeness, _NEAREST, axis=1)[:, :_NEAREST]
    shares = np.bincount(codes)[1:] / len(codes)
    return {
        "nearest": round(float((codes[nearest] == codes[:, None]).mean()), 3),
        "chance": round(float((shares**2).sum()), 3),
    }


if __name__ == "__main__":
    main()
