"""Weibull fits: planted parameters found again, the real clicks' figures, thousands of corridors.

    python -m tests.benchmarks.weibull [--json]

- `recovery`: 100 simulated corridors of 10,000 sessions each, shapes 0.5 to 1.3, about 38 % of them
  censored: the share of fits with the shape within 3 % and the scale within 5 %, and the same of
  fits that take censored durations for whole ones;
- `clicks`: gaps of 0 to 30 minutes between real page views (research and education only), with mean
  log-likelihoods of three families;
- `corridors`: seconds to fit 5,000 corridors (1,000,000 sessions, 30 % censored, log-normal sizes)
  with intervals, both parents, shrinkage, Kolmogorov-Smirnov and both alternatives: one column of
  `training.segments`.

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np
import polars as pl

from feature_repo.contracts.settings import ROOT
from tests.benchmarks.machine import commit, hardware
from training.configuration import load_config
from training.segments import NAME, Config, fit_quantity
from training.survival.alternatives import (
    exponential_log_likelihood,
    fit_exponential,
    fit_lognormal,
    lognormal_log_likelihood,
)
from training.survival.samples import Samples
from training.survival.weibull import fit_weibull, log_likelihood

CLICKS = ROOT.parent / "shared/data/clickstream_globo/clicks.parquet"
REPEATS, SESSIONS = 100, 10_000
CORRIDORS, TOTAL = 5_000, 1_000_000
_RUNS = 3
_LONGEST_GAP_S = 1_800


def recovery() -> dict[str, float]:
    """How often the planted parameters are found."""
    rng = np.random.default_rng(1)
    k, scale = rng.uniform(0.5, 1.3, REPEATS), rng.uniform(30, 600, REPEATS)
    group = np.repeat(np.arange(REPEATS), SESSIONS)
    value = scale[group] * rng.weibull(1.0, len(group)) ** (1 / k[group])
    # An exponential time at which looking ends, as long as cuts 38 % of the shape-0.7 corridors.
    cut = rng.exponential(2.0 * scale[group])
    ended = value <= cut
    found = {"censored": round(float(1 - ended.mean()), 3)}
    for name, seen in (("", ended), ("naive_", np.ones_like(ended))):
        fitted = fit_weibull(Samples.of(np.minimum(value, cut), seen, group, REPEATS))
        found[f"{name}k_within_3pct"] = float(np.mean(np.abs(fitted.k / k - 1) <= 0.03))
        found[f"{name}scale_within_5pct"] = float(np.mean(np.abs(fitted.scale / scale - 1) <= 0.05))
    return found


def clicks() -> dict[str, float] | None:
    """The real gaps; None without the data."""
    if not CLICKS.is_file():
        return None
    gap_s = pl.col("click_ts").diff().dt.total_milliseconds() / 1000
    gaps = (
        pl.read_parquet(CLICKS, columns=["session_id", "click_ts", "ts_imputed"])
        .filter(~pl.col("ts_imputed"))
        .sort("session_id", "click_ts")
        .select(gap_s=gap_s, same=pl.col("session_id") == pl.col("session_id").shift())
        .filter(pl.col("same") & pl.col("gap_s").is_between(0, _LONGEST_GAP_S, closed="right"))
    )["gap_s"].to_numpy()
    count = len(gaps)
    samples = Samples.of(gaps, np.ones(count, np.bool_), np.zeros(count, np.int64), 1)
    fitted = fit_weibull(samples)
    return {
        "gaps": count,
        "k": round(float(fitted.k[0]), 4),
        "scale_s": round(float(fitted.scale[0]), 2),
        "log_likelihood_weibull": round(float(log_likelihood(samples, fitted)[0]) / count, 4),
        "log_likelihood_exponential": round(
            float(exponential_log_likelihood(samples, fit_exponential(samples))[0]) / count, 4
        ),
        "log_likelihood_lognormal": round(
            float(lognormal_log_likelihood(samples, fit_lognormal(samples))[0]) / count, 4
        ),
    }


def corridors() -> dict[str, Any]:
    """Seconds for a whole column of fits."""
    rng = np.random.default_rng(2)
    sizes = rng.lognormal(0, 1.2, CORRIDORS)
    group = rng.choice(CORRIDORS, TOTAL, p=sizes / sizes.sum())
    k, scale = rng.uniform(0.6, 1.1, CORRIDORS), rng.lognormal(5, 0.5, CORRIDORS)
    value = scale[group] * rng.weibull(1.0, TOTAL) ** (1 / k[group])
    cut = rng.exponential(3.0 * scale[group])
    names = [f"{number % 50:02d}-{number:04d}" for number in range(CORRIDORS)]
    rows = pl.DataFrame(
        {
            "corridor": pl.Series(names).gather(group),
            "duration_s": np.minimum(value, cut),
            "ended": value <= cut,
        }
    )
    config = load_config(Config, NAME)
    seconds = []
    for _ in range(_RUNS):
        began_s = time.perf_counter()
        fit_quantity("duration_s", rows, "duration_s", names, config)
        seconds.append(round(time.perf_counter() - began_s, 2))
    return {"seconds": float(np.median(seconds)), "runs": seconds, "sessions": TOTAL}


def main(argv: list[str]) -> int:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the last line is JSON either way")
    parser.parse_args(argv)
    found: dict[str, Any] = {}
    for name, measure in (("recovery", recovery), ("clicks", clicks), ("corridors", corridors)):
        found[name] = measure()
        print(f"{name}: {found[name]}", flush=True)
    print(json.dumps({**found, "hardware": hardware(), "commit": commit()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
