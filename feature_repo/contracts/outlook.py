"""The view of what an open session's corridor lets one expect of it: names, sources, dtypes."""

from __future__ import annotations

from collections.abc import Mapping

OUTLOOK_VIEW = "session_outlook"
ELAPSED, REMAINING = "session_elapsed_s", "session_expected_remaining_s"
OUTLOOK_FEATURES: Mapping[str, str] = {ELAPSED: "Float64", REMAINING: "Float64"}
OUTLOOK_MEANINGS: Mapping[str, str] = {
    ELAPSED: "seconds since the open session began",
    REMAINING: "seconds that it is expected to go on, by the corridor's Weibull distribution",
}
# What it is computed from: the customer's open session, and the corridor's distribution.
SESSION_START_REF = "customer_session:session_start_us"
CORRIDOR_VIEW = "corridor_durations"
SHAPE, SCALE = "duration_k", "duration_scale_s"
SHAPE_REF, SCALE_REF = f"{CORRIDOR_VIEW}:{SHAPE}", f"{CORRIDOR_VIEW}:{SCALE}"
