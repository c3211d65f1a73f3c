"""The program that several tests run."""

from __future__ import annotations

import pytest

from feature_repo.engine.program import Program, compile_program
from tests.feature_repo.engine.small_set import CUSTOMER, SMALL


@pytest.fixture(scope="session")
def program() -> Program:
    """The small set's."""
    return compile_program(SMALL, CUSTOMER)
