"""What Feast's on-demand views run: states in, features as of an instant out. No Feast in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from feature_repo.contracts.errors import DefinitionError
from feature_repo.contracts.feature_set import View, load_feature_set
from feature_repo.contracts.states import AS_OF_FIELD, state_feature
from feature_repo.engine.program import Program, compile_program
from feature_repo.engine.read import read_states


def source_of(view: str, definitions: Path | None) -> str:
    """The source of a view's function: Feast keeps functions as text and runs the text anew.

    It stands alone for that reason: imports inside, no names from outside.

    >>> print(source_of("customer_session", None))
    def customer_session(inputs):
        from feature_repo.engine.on_demand import evaluate
    <BLANKLINE>
        return evaluate('customer_session', None, inputs)
    <BLANKLINE>
    """
    path = None if definitions is None else str(definitions)
    return (
        f"def {view}(inputs):\n"
        "    from feature_repo.engine.on_demand import evaluate\n\n"
        f"    return evaluate({view!r}, {path!r}, inputs)\n"
    )


def evaluate(
    view: str, definitions: str | None, inputs: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """Features of one view, a list with one value a row, by name and by `view__name`.

    Feast picks the names that it was asked for; with `full_feature_names` those are the long ones.

    Args:
        view: a view of the feature set.
        definitions: the module of the set, None for the default one.
        inputs: the entity's states (None where the store has none) and `as_of_us`, µs since 1970.

    Raises:
        DefinitionError: the set has no such view, or a state is of another set.
    """
    found, program = _view(view, definitions)
    states = inputs[state_feature(found.entity.name)]
    read = read_states(program, states, np.asarray(inputs[AS_OF_FIELD], dtype=np.int64))
    values: dict[str, list[Any]] = {}
    for output in found.outputs:
        column = read.column(output.name).to_pylist()
        values[output.name] = column
        values[f"{view}__{output.name}"] = column
    return values


def _view(name: str, definitions: str | None) -> tuple[View, Program]:
    programs = _programs(definitions)
    if name not in programs:
        known = ", ".join(programs)
        raise DefinitionError("view", name, f"one of: {known}", "run: feast apply")
    return programs[name]


@lru_cache
def _programs(definitions: str | None) -> dict[str, tuple[View, Program]]:
    """Each view of a set with its entity's program, made once a process."""
    feature_set = load_feature_set(None if definitions is None else Path(definitions))
    programs = {
        entity.name: compile_program(feature_set, entity) for entity in feature_set.entities
    }
    return {view.name: (view, programs[view.entity.name]) for view in feature_set.views}
