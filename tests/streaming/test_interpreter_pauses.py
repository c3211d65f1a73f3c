from __future__ import annotations

import gc
import sys

import pytest

from streaming.interpreter_pauses import few_pauses


def settings() -> tuple[object, ...]:
    return gc.get_threshold(), sys.getswitchinterval(), gc.get_freeze_count()


def test_settings_hold_within_and_come_back() -> None:
    before = settings()
    with few_pauses():
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert settings()[:2] != before[:2]
    assert settings() == before


def test_settings_come_back_after_an_error() -> None:
    before = settings()
    with pytest.raises(KeyError), few_pauses():
        raise KeyError
    assert settings() == before
