"""Names in error messages: what there is, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 30


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The known names close to a wrong one, as the end of a sentence; empty where none is.

    >>> did_you_mean("Event_tme", ["event_time", "page"])
    '; did you mean event_time?'
    """
    by_case = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(str(name).casefold(), by_case, n=3)
    return f"; did you mean {' or '.join(by_case[match] for match in close)}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names with commas, the first 30 of them.

    >>> listed(["a", "b"])
    'a, b'
    """
    every = list(names)
    more = f", ... {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
