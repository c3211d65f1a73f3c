"""Checks between the knobs of a world: names that must be declared, weights, orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from feature_repo.contracts.events import OUTSIDE_SESSION, EventType
from streaming.simulator.knob_types import WorldError
from streaming.simulator.knobs import World


def check_world(world: World) -> None:
    """Refuse knobs that do not fit together.

    Raises:
        WorldError: naming the knob.
    """
    _check_names(world)
    _check_intents(world)
    _check_weights(world)
    _check_steps(world)
    _check_days(world)


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


def _check_intents(world: World) -> None:
    """Intents that are named elsewhere, and what those of frauds must hold."""
    intents = {intent.name: intent for intent in world.intents}
    named: list[tuple[str, Iterable[str]]] = [
        ("follow_ups.intent", [world.follow_ups.intent]),
        ("calls.intents", world.calls.intents),
        ("fraud.intent", [world.fraud.intent]),
    ]
    for at, persona in enumerate(world.personas):
        named.append((f"personas[{at}].intents", persona.intents))
    for at, fortune in enumerate(world.finance.fortunes):
        named.append((f"finance.fortunes[{at}].intents", fortune.intents))
    for at, spell in enumerate(world.cycle.spells):
        for stage_at, stage in enumerate(spell.stages):
            named.append((f"cycle.spells[{at}].stages[{stage_at}].intents", stage.intents))
    for knob, names in named:
        for name in names:
            if name not in intents:
                raise WorldError(knob, name, f"one of {sorted(intents)}", "declare the intent")
    paying = {step.event for step in intents[world.fraud.intent].steps}
    if EventType.PAYMENT_SUBMITTED not in paying:
        raise WorldError(
            "fraud.intent", world.fraud.intent, "an intent with a payment_submitted step", "name it"
        )


def _check_weights(world: World) -> None:
    weights: list[tuple[str, Iterable[float]]] = [
        ("people.age_bands", (band.share for band in world.people.age_bands)),
        ("people.kyc_level_shares", world.people.kyc_level_shares),
        ("clock.hour_weights", world.clock.hour_weights),
        ("clock.weekday_weights", world.clock.weekday_weights),
        ("personas.share", (persona.share for persona in world.personas)),
        ("cycle.lengths", (length.share for length in world.cycle.lengths)),
        ("cycle.spells", (spell.share for spell in world.cycle.spells)),
        ("finance.fortunes", (fortune.share for fortune in world.finance.fortunes)),
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


def _check_days(world: World) -> None:
    spans = {
        "drift.days": world.drift.days,
        "finance.spell_days": world.finance.spell_days,
        "fraud.report_days": world.fraud.report_days,
        "labels.fraud_days": world.labels.fraud_days,
    }
    for knob, span in spans.items():
        if span.least >= span.most:
            raise WorldError(f"{knob}.least", span.least, f"less than most ({span.most})", "swap")
    labels = world.labels
    if not labels.fraud_days.least <= labels.fraud_days_mode <= labels.fraud_days.most:
        raise WorldError(
            "labels.fraud_days_mode", labels.fraud_days_mode, "a day between both ends", "mend it"
        )
    if world.fraud.report_days.most > labels.fraud_days.least:
        raise WorldError(
            "fraud.report_days.most",
            world.fraud.report_days.most,
            f"at most labels.fraud_days.least ({labels.fraud_days.least})",
            "victims report before it is known for certain",
        )
