"""Kernel: derived features and defaults, computed upon the rows that the scan has given."""

from __future__ import annotations

import numba
import numpy as np

HOUR_OF, WEEKDAY_OF, WEEKEND_OF, NIGHT_OF, RATIO_OF = range(5)
# A row of the table of steps: what to do, where its result goes (place, flag), and its inputs:
# place and flag of each, whether it is a float; place -1 is the instant of reading.
STEP_WORDS = 9
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US


@numba.njit(cache=True, nogil=True, _nrt=False)
def _input(place, flag, is_float, oi, of, ok, k, t):  # type: ignore[no-untyped-def]
    """(whether there is a value, it as an integer, it as a float)."""
    if place < 0:
        return True, t, float(t)
    if flag >= 0 and ok[k, flag] == 0:
        return False, np.int64(0), 0.0
    if is_float:
        return True, np.int64(0), of[k, place]
    return True, oi[k, place], float(oi[k, place])


@numba.njit(cache=True, nogil=True, _nrt=False)
def settle(  # type: ignore[no-untyped-def]
    defaults, default_values, steps, times, count, oi, of, ok
):
    """Put defaults in the place of nulls, then derive; for the first `count` rows.

    `defaults`: rows (flag, place, whether a float) with `default_values` beside them.
    """
    for k in range(count):
        for d in range(defaults.shape[0]):
            flag = defaults[d, 0]
            if ok[k, flag] == 0:
                ok[k, flag] = 1
                if defaults[d, 2]:
                    of[k, defaults[d, 1]] = default_values[d]
                else:
                    oi[k, defaults[d, 1]] = np.int64(default_values[d])
        t = times[k]
        for s in range(steps.shape[0]):
            function = steps[s, 0]
            out = steps[s, 1]
            flag = steps[s, 2]
            good, whole, number = _input(steps[s, 3], steps[s, 4], steps[s, 5], oi, of, ok, k, t)
            if function == RATIO_OF:
                other, _, bottom = _input(steps[s, 6], steps[s, 7], steps[s, 8], oi, of, ok, k, t)
                good = good and other and bottom != 0.0
                of[k, out] = number / bottom if good else np.nan
            else:
                hour = whole % _DAY_US // _HOUR_US
                # 1 January 1970 was a Thursday; Monday is 0.
                weekday = (whole // _DAY_US + 3) % 7
                if function == HOUR_OF:
                    oi[k, out] = hour
                elif function == WEEKDAY_OF:
                    oi[k, out] = weekday
                elif function == WEEKEND_OF:
                    oi[k, out] = np.int64(weekday >= 5)
                else:
                    oi[k, out] = np.int64(hour <= 6)
            ok[k, flag] = good
