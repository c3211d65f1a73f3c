"""The index of nearest customers among a million: recall, latency, memory, building, updates.

    python -m tests.benchmarks.nearest [--customers N] [--queries Q] [--quick] [--json]

Vectors are made, seeded: 200 groups of uneven size (customers alike), each spread along 12
directions that all share and a little in every other, brought to length 1. The truth is a
comparison with everybody (BLAS), made beforehand. Queries are asked one at a time, as the API asks
them, of customers drawn at random; ten nearest each, without a filter and within corridors of a
tenth and of a hundredth of all customers. `rss_mb` is what the process has grown by for the index,
names and corridors included; `updates_per_s` are changed vectors, put in one at a time.

The last line is one JSON object; what is asked for is `recall_at_10` >= .95 at `p50_ms` <= 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, Singles
from serving.similar_vectors import NearestVectors
from tests.benchmarks.machine import commit, hardware

SEED = 1
NEAREST = 10
GROUPS, DIRECTIONS = 200, 12
_UPDATES = 5_000
_SHARES = {"tenth": 0.1, "hundredth": 0.01}


def vectors_of(customers: int, random: np.random.Generator) -> Singles:
    """Vectors that look like customers': (customers, EMBEDDING_WIDTH), of length 1."""
    centres = random.standard_normal((GROUPS, EMBEDDING_WIDTH), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    shared = random.standard_normal((DIRECTIONS, EMBEDDING_WIDTH), np.float32) / 16
    found = centres[random.zipf(1.3, customers) % GROUPS]
    found += random.standard_normal((customers, DIRECTIONS), np.float32) @ shared
    found += 0.06 * random.standard_normal((customers, EMBEDDING_WIDTH), np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    unit: Singles = found
    return unit


def measure(customers: int, queries: int) -> dict[str, Any]:
    """All figures."""
    random = np.random.default_rng(SEED)
    vectors = vectors_of(customers, random)
    draw = random.random(customers)
    corridors = np.where(draw < 0.01, "hundredth", np.where(draw < 0.11, "tenth", "other"))
    names = pl.Series([f"c{number:07d}" for number in range(customers)])
    NearestVectors(1, names[:0], vectors[:0], np.empty(0, np.int64))  # loads the library
    before_mb = _rss_mb()
    started_s = time.perf_counter()
    index = NearestVectors(1, names, vectors, np.zeros(customers, np.int64))
    build_s = time.perf_counter() - started_s
    index.label(pl.Series(corridors), pl.Series([None] * customers, dtype=pl.String))
    asked = random.choice(customers, queries, replace=False)
    result: dict[str, Any] = {
        "build_s": round(build_s, 1),
        "rss_mb": round(_rss_mb() - before_mb),
    }
    result |= _asked(index, vectors, asked, None, np.ones(customers, np.bool_))
    for corridor in _SHARES:
        passing = corridors == corridor
        within = _asked(index, vectors, asked, corridor, passing)
        result |= {f"{name}_within_{corridor}": value for name, value in within.items()}
    result |= _updated(index, vectors, random)
    after = _asked(index, vectors, asked, None, np.ones(customers, np.bool_))
    result["recall_at_10_after_updates"] = after["recall_at_10"]
    return result


def _asked(
    index: NearestVectors,
    vectors: Singles,
    asked: npt.NDArray[np.int64],
    corridor: str | None,
    passing: npt.NDArray[np.bool_],
) -> dict[str, float]:
    index.search("c0000000", NEAREST, corridor)  # a filter's bits are worked out once
    # Apart from the queries: BLAS leaves threads behind that go on spinning.
    truths = [_truth(vectors, customer, passing) for customer in asked.tolist()]
    time.sleep(1.0)
    took_s, hits, wanted = [], 0, 0
    for customer, truth in zip(asked.tolist(), truths, strict=True):
        started_s = time.perf_counter()
        found = index.search(f"c{customer:07d}", NEAREST, corridor)
        took_s.append(time.perf_counter() - started_s)
        hits += len({int(each.customer[1:]) for each in found or []} & truth)
        wanted += len(truth)
    p50, p99 = np.percentile(np.array(took_s) * 1e3, [50, 99])
    return {
        "recall_at_10": round(hits / wanted, 4),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
    }


def _truth(vectors: Singles, customer: int, passing: npt.NDArray[np.bool_]) -> set[int]:
    near = np.where(passing, vectors @ vectors[customer], -2)
    near[customer] = -2
    return set(np.argpartition(-near, NEAREST)[:NEAREST].tolist())


def _updated(
    index: NearestVectors, vectors: Singles, random: np.random.Generator
) -> dict[str, float]:
    """Change vectors one at a time, in the index and in the truth."""
    changed = random.choice(len(vectors), min(_UPDATES, len(vectors)), replace=False)
    noise = random.standard_normal((len(changed), EMBEDDING_WIDTH), np.float32)
    fresh = vectors[changed] + 0.05 * noise
    fresh /= np.linalg.norm(fresh, axis=1, keepdims=True)
    started_s = time.perf_counter()
    for row, customer in enumerate(changed.tolist()):
        index.put([f"c{customer:07d}"], fresh[row : row + 1], [1])
    took_s = time.perf_counter() - started_s
    vectors[changed] = fresh
    return {"updates_per_s": round(len(changed) / took_s)}


def _rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="fewer of everything: is it whole?")
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    options = parser.parse_args(arguments)
    if options.quick:
        options.customers, options.queries = 50_000, 50
    print(f"{hardware()}; commit {commit()}", flush=True)
    result = {
        "benchmark": "nearest",
        "customers": options.customers,
        "queries": options.queries,
    } | measure(options.customers, options.queries)
    print(json.dumps(result) if options.json else result)


if __name__ == "__main__":
    main(sys.argv[1:])
