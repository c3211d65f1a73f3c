"""docs/definitions.md: its examples run, and its tables leave nothing out."""

from __future__ import annotations

import doctest

from feature_repo.contracts.definition import Aggregate, Function
from feature_repo.contracts.settings import ROOT

DOC = ROOT / "docs" / "definitions.md"


def test_the_examples_are_so() -> None:
    tried = doctest.testfile(str(DOC), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert tried.attempted >= 20
    assert tried.failed == 0


def test_every_aggregate_and_function_is_described() -> None:
    text = DOC.read_text("utf-8")
    for name in (*Aggregate.__members__, *Function.__members__):
        assert f"`{name}`" in text
