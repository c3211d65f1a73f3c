"""Making the line what the registry says: who is loaded, who is refused, who goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from feature_repo.contracts import credentials
from feature_repo.contracts.errors import DaimaError, ModelError
from serving.assignments import FORMER_TAG, Assignment
from serving.loading import ModelLoader
from serving.models import ServedModel
from serving.orders import Order
from serving.routing import CHALLENGER, SHADOW, Challenger, Line, Refusal, Slot

log = logging.getLogger(__name__)

# A refused version may be mended where it lies (a tag, an artifact); each look downloads it.
RETRY_REFUSED = timedelta(minutes=1)
ROLLED_BACK = "rolled back: "


@dataclass(frozen=True)
class Told:
    """What a line is made from.

    Attributes:
        said: registered model -> what the registry says, or said last.
        orders: roll-backs that the registry has not heard of.
        registry_error: why it does not answer; None if it does.
        from_disk: load kept versions only.
        catalog_changed: every plan, and what fits, may be another.
    """

    said: Mapping[str, Assignment]
    orders: Sequence[Order]
    registry_error: str | None
    from_disk: bool
    catalog_changed: bool


class Leveller:
    """Builds the next line from the present one. For one thread; it loads and blocks."""

    def __init__(self, loader: ModelLoader, clock: Callable[[], datetime]) -> None:
        self._loader = loader
        self._clock = clock
        # By what the models of the line were loaded.
        self._followed: dict[str, Assignment] = {}
        self._no_way_back: set[tuple[str, str]] = set()

    def level(self, line: Line, told: Told) -> Line:
        """The line that should serve now."""
        wanted = {name: each.after(told.orders, name) for name, each in told.said.items()}
        models: dict[str, ServedModel] = {}
        shadows: dict[str, ServedModel] = {}
        challengers: dict[str, Challenger] = {}
        refused = _rolled_back(line, wanted)
        for name, assignment in wanted.items():
            for alias, version in assignment.versions.items():
                slot = Slot(name, alias)
                try:
                    # First: a share that is none is no reason to load anything.
                    declared = assignment.share(), assignment.bounds()
                except ModelError as error:
                    if alias == CHALLENGER:
                        refused[slot] = Refusal(version, str(error), self._clock())
                        continue
                    declared = None
                model, refusal = self._fill(slot, version, line, told, assignment)
                if refusal is not None:
                    refused[slot] = refusal
                if model is None:
                    continue
                if alias == CHALLENGER and declared is not None:
                    challengers[name] = Challenger(model, *declared)
                elif alias == SHADOW:
                    shadows[name] = model
                elif alias == line.alias:
                    models[name] = model
        self._followed = wanted
        return Line(models, challengers, shadows, refused, told.registry_error, line.alias)

    def _fill(
        self, slot: Slot, version: str, line: Line, told: Told, assignment: Assignment
    ) -> tuple[ServedModel | None, Refusal | None]:
        """Who holds a place from now on, and whom it was refused."""
        loaded = [model for model in line.served() if model.name == slot.name]
        serving = next((model for model in loaded if model.alias == slot.alias), None)
        followed = self._followed.get(slot.name)
        # The registered model was deleted and made again: its numbers name other versions.
        anew = followed is not None and followed.created_ms != assignment.created_ms
        anew = anew or told.catalog_changed
        refusal = line.refused.get(slot)
        if refusal is not None and refusal.version == version:
            due = self._clock() >= refusal.retry_at
        else:
            refusal = None
            due = serving is None or serving.version != version
        if not (due or anew):
            return serving, refusal
        if not anew:
            # Under another alias already: it need not be loaded, let alone wait for a registry.
            known = next((model for model in loaded if model.version == version), None)
            if known is not None:
                return replace(known, alias=slot.alias), None
        try:
            load = self._loader.restore if told.from_disk else self._loader.load
            model = load(slot, version, self._clock())
        except DaimaError as error:
            # What the disk lacks the registry may have, as soon as it answers.
            again = timedelta(0) if told.from_disk else RETRY_REFUSED
            found = Refusal(version, str(error), self._clock() + again)
        except Exception as error:  # the registry's, the network's or the disk's: not the version's
            found = Refusal(version, first_line(error), self._clock())
        else:
            log.info("%s@%s is version %s", *slot, version)
            return model, None
        if refusal is None or refusal.reason != found.reason:
            log.warning("%s@%s version %s refused: %s", *slot, version, found.reason)
        return serving, found

    def keep_ways_back(self, line: Line) -> None:
        """Have on disk the version to which a roll-back would return; let go of older ones."""
        bundles = self._loader.bundles
        if bundles is None:
            return
        for name, assignment in self._followed.items():
            needed = set(assignment.versions.values())
            champion = line.models.get(name)
            former = champion and champion.tags.get(FORMER_TAG.format(alias=line.alias))
            if former:
                needed.add(former)
                if (name, former) not in self._no_way_back and not bundles.find(name, former):
                    self._no_way_back.add((name, former))  # one attempt: it may no longer fit
                    try:
                        self._loader.load(Slot(name, line.alias), former, self._clock())
                    except Exception as error:
                        log.info("%s version %s is not kept: %s", name, former, first_line(error))
            bundles.prune(name, needed)


def _rolled_back(line: Line, wanted: Mapping[str, Assignment]) -> dict[Slot, Refusal]:
    """Notes of what was rolled back, while no other version has taken the place."""
    return {
        slot: refusal
        for slot, refusal in line.refused.items()
        if refusal.reason.startswith(ROLLED_BACK)
        and slot.name in wanted
        and slot.alias not in wanted[slot.name].versions
    }


def first_line(error: Exception) -> str:
    """An error in one line, for logs and for /v1/models."""
    return f"{type(error).__name__}: {credentials.first_line(error)}"
