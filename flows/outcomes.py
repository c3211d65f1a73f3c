"""What flows share: which failures may pass, and how pictures get onto a page."""

from __future__ import annotations

import base64
from typing import Any

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


def inline_picture(picture: bytes) -> str:
    """A picture as its own address.

    Trap: the Prefect UI prints the address below the picture; where MLflow serves a copy, name
    that instead.
    """
    return "data:image/png;base64," + base64.b64encode(picture).decode()
