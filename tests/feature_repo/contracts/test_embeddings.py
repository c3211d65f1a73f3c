"""The state of a customer's embedding as it is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feature_repo.contracts.embeddings import CustomerState
from feature_repo.contracts.errors import ModelError

STATE = CustomerState(
    "1f6bc04f3a2d9e07", np.arange(7, dtype=np.float32), 10, 20, 3, 2, 19, 21.5, -1.25
)


def test_it_is_read_as_it_was_written() -> None:
    again = CustomerState.from_bytes(STATE.to_bytes(), STATE.version)
    assert replace(again, hidden=STATE.hidden) == STATE
    assert again.hidden.tolist() == STATE.hidden.tolist()
    assert again.hidden.dtype == np.float32


@pytest.mark.parametrize("raw", [b"", b"DCE", b"no state at all, but long enough to be one"])
def test_other_bytes_are_no_state(raw: bytes) -> None:
    with pytest.raises(ModelError, match="a customer's state, format 1"):
        CustomerState.from_bytes(raw)


def test_a_cut_state_is_refused() -> None:
    raw = STATE.to_bytes()
    for length in range(14, len(raw)):
        with pytest.raises(ModelError, match="a whole state of this layout"):
            CustomerState.from_bytes(raw[:length])


def test_another_layout_is_refused() -> None:
    raw = bytearray(STATE.to_bytes())
    raw[4] ^= 1
    with pytest.raises(ModelError, match="of this layout"):
        CustomerState.from_bytes(bytes(raw))


def test_a_stale_version_is_refused() -> None:
    with pytest.raises(ModelError, match="embedding version is '1f6bc04f3a2d9e07': expected new"):
        CustomerState.from_bytes(STATE.to_bytes(), "new")
