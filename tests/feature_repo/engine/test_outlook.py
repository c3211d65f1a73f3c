"""What is expected of an open session, against the integral of its survival."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from feature_repo.engine.outlook import expected_remaining, outlook

SCALE = 200.0


@pytest.mark.parametrize("k", [0.5, 0.85, 1.0, 1.7])
@pytest.mark.parametrize("elapsed", [0.0, 10.0, 300.0, 3_000.0])
def test_the_expected_remainder_is_the_integral_of_survival(k: float, elapsed: float) -> None:
    def survival(at: float) -> float:
        # Relative to having lasted so long, in one exponent: both would vanish.
        return float(np.exp((elapsed / SCALE) ** k - (at / SCALE) ** k))

    expected, _ = integrate.quad(survival, elapsed, np.inf, limit=500, epsabs=1e-9)
    found = expected_remaining(np.array([elapsed]), np.array([k]), np.array([SCALE]))
    assert found[0] == pytest.approx(expected, rel=2e-3 if elapsed > 2_000 and k > 1 else 1e-5)


def test_negative_ageing_lengthens_what_remains() -> None:
    elapsed = np.linspace(0.0, 5_000.0, 500)
    young = expected_remaining(elapsed, np.full(500, 0.6), np.full(500, SCALE))
    assert np.all(np.diff(young) > 0)
    old = expected_remaining(elapsed, np.full(500, 1.5), np.full(500, SCALE))
    assert np.all(np.diff(old) < 0)
    assert np.all(old >= 0)


def test_without_a_session_or_a_fit_nothing_is_expected() -> None:
    elapsed, remaining = outlook(
        [None, 1_000_000, 1_000_000],
        np.array([5_000_000] * 3),
        [0.8, None, 1.0],
        [60.0, None, 60.0],
    )
    assert np.isnan(elapsed).tolist() == [True, False, False]
    assert np.isnan(remaining).tolist() == [True, True, False]
    assert elapsed[2] == 4.0
    assert remaining[2] == pytest.approx(60.0)
