"""Reading a world: YAML to typed knobs, then the checks between knobs; a bad knob is named."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from feature_repo.contracts.events import OUTSIDE_SESSION
from streaming.simulator.knobs import World, WorldError

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
    _check_names(world)
    _check_weights(world)
    _check_steps(world)
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


def _check_names(world: World) -> None:
    known: list[tuple[str, Iterable[str]]] = [
        ("pages", (page.name for page in world.pages)),
        ("intents", (intent.name for intent in world.intents)),
        ("personas", (persona.name for persona in world.personas)),
        ("channels", (channel.name for channel in world.channels)),
        ("countries", (country.code for country in world.countries)),
        ("corridors", (corridor.name for corridor in world.corridors)),
    ]
    for knob, names in known:
        name, times = Counter(names).most_common(1)[0]
        if times > 1:
            raise WorldError(knob, name, "every name once", "remove or rename one")
    intents = {intent.name for intent in world.intents}
    for at, persona in enumerate(world.personas):
        for name in persona.intents.keys() - intents:
            raise WorldError(
                f"personas[{at}].intents", name, f"one of {sorted(intents)}", "declare the intent"
            )
    open_to_all = {intent.name for intent in world.intents if not intent.needs_kyc}
    for at, persona in enumerate(world.personas):
        if sum(share for name, share in persona.intents.items() if name in open_to_all) <= 0:
            raise WorldError(
                f"personas[{at}].intents",
                persona.intents,
                "an intent with weight > 0 that does not need open identity checks (needs_kyc)",
                "add one: most customers have none open",
            )
    countries = {country.code for country in world.countries}
    for at, corridor in enumerate(world.corridors):
        if corridor.send not in countries:
            raise WorldError(
                f"corridors[{at}].send", corridor.send, "a code in `countries`", "declare it there"
            )


def _check_weights(world: World) -> None:
    weights: list[tuple[str, Iterable[float]]] = [
        ("people.age_bands", (band.share for band in world.people.age_bands)),
        ("people.kyc_level_shares", world.people.kyc_level_shares),
        ("clock.hour_weights", world.clock.hour_weights),
        ("clock.weekday_weights", world.clock.weekday_weights),
        ("personas.share", (persona.share for persona in world.personas)),
        ("corridors.usd_millions", (corridor.usd_millions for corridor in world.corridors)),
    ]
    for at, channel in enumerate(world.channels):
        weights.append((f"channels[{at}].devices", (device.share for device in channel.devices)))
    for at, persona in enumerate(world.personas):
        weights.append((f"personas[{at}].intents", persona.intents.values()))
    for knob, values in weights:
        if sum(values) <= 0:
            raise WorldError(knob, expected="at least one weight > 0", action="raise one")
    for at, corridor in enumerate(world.corridors):
        if corridor.fee_rate < 0 or corridor.fee_fixed_usd < 0:
            raise WorldError(
                f"corridors[{at}].cost_pct_usd500",
                corridor.cost_pct_usd500,
                f"a fee of {corridor.name} that is above zero and grows with the amount "
                "(cost less margin, in dollars, at USD 200 and USD 500)",
                "mend the corridor's costs and margins",
            )


def _check_steps(world: World) -> None:
    pages = {page.name for page in world.pages}
    for at, intent in enumerate(world.intents):
        for step_at, step in enumerate(intent.steps):
            knob = f"intents[{at}].steps[{step_at}]"
            if step.page not in pages:
                raise WorldError(f"{knob}.page", step.page, "a name in `pages`", "declare it there")
            if step.event in OUTSIDE_SESSION:
                raise WorldError(
                    f"{knob}.event", str(step.event), "an event of a session", "leave it out"
                )
        if intent.steps[0].chance < 1 or intent.steps[0].leave > 0:
            raise WorldError(
                f"intents[{at}].steps[0].chance",
                intent.steps[0].chance,
                "a first step that always happens (chance 1, leave 0)",
                "every session has a first event",
            )
