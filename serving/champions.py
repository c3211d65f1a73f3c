"""The models that serve now, kept level with the registry's alias while the process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from feature_repo.contracts.errors import DaimaError, ModelError
from serving.models import ModelLoader, ServedModel

log = logging.getLogger(__name__)


class UnknownModelError(ModelError):
    """A request names a model that does not serve."""


@dataclass(frozen=True)
class Refusal:
    """A version that the alias names and that does not serve, and why.

    A `final` one is not tried again: a version never changes, nor does the catalogue.
    """

    version: str
    reason: str
    final: bool


@dataclass(frozen=True)
class Line:
    """What serves and what is refused at one moment; replaced as a whole, never changed."""

    models: dict[str, ServedModel] = field(default_factory=dict)
    refused: dict[str, Refusal] = field(default_factory=dict)
    registry_error: str | None = None


class Champions:
    """The served models. A refused or unreachable version leaves the former one serving.

    Trap: take a model once a request (`get`) and keep it: the next `get` may be a newer version.
    """

    def __init__(
        self, loader: ModelLoader, every: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._loader = loader
        self._every = every
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.line = Line()

    def get(self, name: str) -> ServedModel:
        """The version of a model that serves now.

        Raises:
            UnknownModelError: none does; the message lists those that do.
        """
        line = self.line
        model = line.models.get(name)
        if model is None:
            known = sorted(line.models)
            refusal = line.refused.get(name)
            if refusal is not None:
                action = f"version {refusal.version} was refused: {refusal.reason}"
            elif line.registry_error is not None:
                action = f"the registry does not answer: {line.registry_error}"
            else:
                seconds = self._every.total_seconds()
                action = (
                    f"register one and promote it to @{self._loader.alias}; "
                    f"it serves within {seconds:g} s"
                )
            raise UnknownModelError("model", name, f"one of {known}", action)
        return model

    def refresh(self) -> None:
        """Ask the registry once, load what is new, and swap it in. Blocks; for a thread."""
        line = self.line
        try:
            versions = self._loader.versions()
        except Exception as error:  # every failure of the registry means: go on with what we have
            reason = _first_line(error)
            if line.registry_error is None:
                log.warning("registry does not answer, serving goes on: %s", reason)
            self.line = Line(line.models, line.refused, registry_error=reason)
            return
        models: dict[str, ServedModel] = {}
        refused: dict[str, Refusal] = {}
        for name, version in versions.items():
            serving, refusal = line.models.get(name), line.refused.get(name)
            if serving is not None:
                models[name] = serving
                if serving.version == version:
                    continue
            if refusal is None or refusal.version != version or not refusal.final:
                outcome = self._load(name, version)
                if isinstance(outcome, ServedModel):
                    models[name] = outcome
                    continue
                refusal = outcome
            refused[name] = refusal
        self.line = Line(models, refused)

    def start(self) -> None:
        """Watch the registry in a thread of its own, from now on."""
        # A daemon: a registry that hangs must not keep the process from ending.
        self._stopping.clear()
        self._thread = threading.Thread(target=self._watch, name="champions", daemon=True)
        self._thread.start()

    def stop(self, wait: timedelta = timedelta(seconds=5)) -> None:
        """End the watch; waits for a refresh under way, up to `wait`."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(wait.total_seconds())

    def _watch(self) -> None:
        while True:
            self.refresh()
            if self._stopping.wait(self._every.total_seconds()):
                return

    def _load(self, name: str, version: str) -> ServedModel | Refusal:
        try:
            model = self._loader.load(name, version, self._clock())
        except DaimaError as error:
            log.warning("%s version %s refused: %s", name, version, error)
            return Refusal(version, str(error), final=True)
        except Exception as error:  # the registry's, the network's or the disk's: try again later
            log.warning("%s version %s not loaded: %s", name, version, _first_line(error))
            return Refusal(version, _first_line(error), final=False)
        log.info("%s version %s serves", name, version)
        return model


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
