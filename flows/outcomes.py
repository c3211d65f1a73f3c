"""What flows share: which failures may pass, and how pictures get onto a page."""

from __future__ import annotations

import base64
from typing import Any

import polars as pl
import polars.selectors as cs

from feature_repo.contracts.errors import DaimaError, ModelError, StoreUnavailableError


def may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Retry what may pass by itself: servers come back, an empty window stays empty."""
    try:
        state.result()
    except (ModelError, StoreUnavailableError):
        return True
    except DaimaError:
        return False
    except Exception:
        return True
    return False


def table_rows(frame: pl.DataFrame, digits: int = 4) -> list[dict[str, Any]]:
    """A frame as the rows of a table on a page, its numbers as people read them.

    >>> table_rows(pl.DataFrame({"corridor": ["GB-NG"], "k": [0.7441760464067341]}))
    [{'corridor': 'GB-NG', 'k': 0.7442}]
    """
    return frame.with_columns(cs.float().round_sig_figs(digits)).to_dicts()


def inline_picture(picture: bytes) -> str:
    """A picture as its own address.

    Trap: the Prefect UI prints the address below the picture; where MLflow serves a copy, name
    that instead.
    """
    return "data:image/png;base64," + base64.b64encode(picture).decode()
