"""The models that serve now, kept level with the registry's alias while the process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from feature_repo.contracts.errors import DaimaError, ModelError
from serving.catalog import Catalog
from serving.models import ModelLoader, ServedModel

log = logging.getLogger(__name__)

# A refused version may be mended where it lies (a tag, an artifact); each look downloads it.
RETRY_REFUSED = timedelta(minutes=1)


class UnknownModelError(ModelError):
    """A request names a model that does not serve."""


@dataclass(frozen=True)
class Refusal:
    """A version that the alias names and that does not serve, and why.

    It is tried again from `retry_at`, and at once when the feature catalogue has changed.
    """

    version: str
    reason: str
    retry_at: datetime


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
        self,
        loader: ModelLoader,
        every: timedelta,
        clock: Callable[[], datetime],
        reread_catalog: Callable[[], Catalog | None],
    ) -> None:
        self._loader = loader
        self._every = every
        self._clock = clock
        self._reread_catalog = reread_catalog
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
        catalog = self._reread_catalog()
        # Another catalogue means another plan, or none, for every model.
        changed = catalog is not None and self._loader.take_catalog(catalog)
        models: dict[str, ServedModel] = {}
        refused: dict[str, Refusal] = {}
        for name, version in versions.items():
            serving, refusal = line.models.get(name), line.refused.get(name)
            if serving is not None:
                models[name] = serving
            if refusal is not None and refusal.version == version:
                due = self._clock() >= refusal.retry_at
            else:
                refusal = None
                due = serving is None or serving.version != version
            if due or changed:
                outcome = self._load(name, version, refusal)
                if isinstance(outcome, ServedModel):
                    models[name] = outcome
                    continue
                refusal = outcome
            if refusal is not None:
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

    def _load(self, name: str, version: str, former: Refusal | None) -> ServedModel | Refusal:
        now = self._clock()
        try:
            model = self._loader.load(name, version, now)
        except DaimaError as error:
            refusal = Refusal(version, str(error), now + RETRY_REFUSED)
        except Exception as error:  # the registry's, the network's or the disk's: not the version's
            refusal = Refusal(version, _first_line(error), now)
        else:
            log.info("%s version %s serves", name, version)
            return model
        if former is None or former.reason != refusal.reason:
            log.warning("%s version %s refused: %s", name, version, refusal.reason)
        return refusal


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
