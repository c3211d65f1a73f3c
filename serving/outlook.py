"""What is expected of open sessions, computed from features that were read beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from feature_repo.contracts.outlook import (
    ELAPSED,
    OUTLOOK_VIEW,
    REMAINING,
    SCALE_REF,
    SESSION_START_REF,
    SHAPE_REF,
)
from feature_repo.engine.outlook import outlook
from serving.feature_row import FeatureRow, Status


def add_outlook(rows: Sequence[FeatureRow], refs: Sequence[str], as_of_us: int) -> None:
    """Fill these references of the view in rows that hold its sources.

    NULL_VALUE where no session is open, or the corridor has no distribution; NOT_FOUND of a
    customer whom nobody knows. Its age is that of the corridor's distribution.
    """

    def of(ref: str) -> list[object]:
        return [row.values.get(ref) for row in rows]

    starts: list[object] = of(SESSION_START_REF)
    found = outlook(starts, [as_of_us] * len(rows), of(SHAPE_REF), of(SCALE_REF))  # type: ignore[arg-type]
    by_ref = {
        f"{OUTLOOK_VIEW}:{name}": column
        for name, column in zip((ELAPSED, REMAINING), found, strict=True)
    }
    fitted = SHAPE_REF.partition(":")[0]
    for at, row in enumerate(rows):
        unknown = row.statuses.get(SESSION_START_REF) is Status.NOT_FOUND
        row.views[OUTLOOK_VIEW] = Status.NOT_FOUND if unknown else Status.PRESENT
        if fitted in row.ages_s:
            row.ages_s[OUTLOOK_VIEW] = row.ages_s[fitted]
        for ref in refs:
            value = float(by_ref[ref][at])
            absent = math.isnan(value)
            row.values[ref] = None if absent else value
            row.statuses[ref] = (
                Status.NOT_FOUND if unknown else Status.NULL_VALUE if absent else Status.PRESENT
            )
