"""Reading a world: YAML to typed knobs, then the checks between them; a bad knob is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from streaming.simulator.knob_types import WorldError
from streaming.simulator.knobs import World
from streaming.simulator.world_checks import check_world

DEFAULT_WORLD = Path(__file__).with_name("world.yaml")


def load_world(path: Path = DEFAULT_WORLD) -> World:
    """Read a world from a YAML file.

    Raises:
        WorldError: the file is missing, is no YAML, or a knob is missing, misspelt, out of range
            or names something that the world does not have; the error names the knob.
    """
    try:
        raw = msgspec.yaml.decode(path.read_bytes())
    except OSError as error:
        raise WorldError("world", str(path), "a readable YAML file", str(error)) from error
    except msgspec.DecodeError as error:
        raise WorldError("world", str(path), "YAML", str(error)) from error
    return world_from(raw)


def world_from(raw: object) -> World:
    """Build a world from plain data (the YAML document); raises as `load_world` does."""
    try:
        world = msgspec.convert(raw, World)
    except msgspec.ValidationError as error:
        knob, problem = _knob_and_problem(str(error))
        raise WorldError(
            knob, _value_at(raw, knob), problem, "mend the knob in the world's file"
        ) from error
    check_world(world)
    return world


def _knob_and_problem(message: str) -> tuple[str, str]:
    """Split msgspec's message.

    >>> _knob_and_problem("Expected `float` < 1.0 - at `$.pages[3].k`")
    ('pages[3].k', '`float` < 1.0')
    """
    problem, _, place = message.partition(" - at ")
    knob = re.sub(r"^\$\.?", "", place.strip("`")) or "world"
    # Misspelt and missing knobs are reported at their parent: name the knob itself.
    named = re.search(r"(?:unknown|required) field `(\w+)`", problem)
    if named:
        knob = named[1] if knob == "world" else f"{knob}.{named[1]}"
        problem = "no such knob" if "unknown" in problem else "a value"
    return knob, problem.removeprefix("Expected ")


def _value_at(raw: Any, knob: str) -> object:
    """The value that the knob has in the raw document, or `...` (not shown) where unknown."""
    for key, index in re.findall(r"(\w+)|\[(\d+)\]", knob):
        try:
            raw = raw[int(index)] if index else raw[key]
        except (KeyError, IndexError, TypeError):
            return ...
    return ... if isinstance(raw, (dict, list)) else raw
