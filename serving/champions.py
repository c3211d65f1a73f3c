"""The models that serve now, kept level with the registry's aliases while the process runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from serving.assignments import Assignment
from serving.audit import AUDIT_FILE, Audit
from serving.bundles import BundleStore, bundles_at
from serving.catalog import Catalog, CatalogWatch
from serving.levelling import ROLLED_BACK, Leveller, Told, first_line
from serving.loading import ModelLoader
from serving.models import ServedModel
from serving.online import OnlineReader
from serving.orders import Order, Orders, orders_at
from serving.rollback import Rollbacks
from serving.routing import Line, Refusal, Slot, UnknownModelError
from serving.settings import ServingSettings

__all__ = ["Champions", "Line", "Refusal", "UnknownModelError", "open_champions"]

log = logging.getLogger(__name__)

# How soon a roll-back that was ordered on this machine is obeyed.
LOOK_FOR_ORDERS = timedelta(seconds=1)
NOT_ASKED = "not asked yet"


class Champions:
    """The served models. A refused or unreachable version leaves the former one serving.

    `line` is replaced as a whole: by the thread that loads, and by `withdraw`.

    Trap: take the line once a request and keep it: the next look may find newer versions.
    """

    def __init__(
        self,
        loader: ModelLoader,
        every: timedelta,
        clock: Callable[[], datetime],
        reread_catalog: Callable[[], Catalog | None],
        rollbacks: Rollbacks | None = None,
    ) -> None:
        self._loader = loader
        self._leveller = Leveller(loader, clock)
        self._every = every
        self._clock = clock
        self._reread_catalog = reread_catalog
        self._rollbacks = rollbacks
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        # Rolled back and not yet written down.
        self._withdrawn: dict[Slot, Order] = {}
        # The versions whose ways back are on disk.
        self._kept_for: list[tuple[str, str, str]] = []
        # Orders that the line follows.
        self._obeyed: list[Order] = []
        self._said: dict[str, Assignment] | None = None
        self.line = Line(alias=loader.alias)

    def get(self, name: str) -> ServedModel:
        """The champion of a model now.

        Raises:
            UnknownModelError: none serves; the message lists those that do.
        """
        return self.line.get(name)

    def withdraw(self, order: Order) -> bool:
        """Take a challenger or shadow off at once, here; the thread tells the registry later.

        Returns at once; whether that version was serving in that place.
        """
        slot = Slot(order.name, order.alias)
        with self._lock:
            line = self.line
            for version in order.leaves:
                line = line.without(slot, version)
            if line is self.line:
                return False
            self._withdrawn[slot] = order
            refusal = Refusal(order.leaves[-1], ROLLED_BACK + order.why, self._clock())
            self.line = replace(line, refused={**line.refused, slot: refusal})
        log.warning("%s@%s version %s rolled back: %s", *slot, order.leaves[-1], order.why)
        self._wake.set()
        return True

    def restore(self) -> None:
        """Serve what served last, off the disk, until the registry has answered. Blocks."""
        if not self.line.models and self._last_said():
            self._level(self._last_said(), NOT_ASKED, from_disk=True)

    def refresh(self) -> None:
        """Ask the registry once, load what is new, and swap it in. Blocks; for a thread."""
        self._write_down_withdrawn()
        if self._open_orders():
            # Here first: the registry may take its time, or be away.
            self._level(self._last_said(), self.line.registry_error, from_disk=True)
        try:
            if self._rollbacks is not None:
                # Before it is asked, so that its answer names nothing that was rolled back.
                self._rollbacks.tell_registry()
            said = self._loader.assignments()
        except Exception as error:  # every failure of the registry means: go on with what we have
            reason = first_line(error)
            if self.line.registry_error in (None, NOT_ASKED):
                log.warning("registry does not answer, serving goes on: %s", reason)
            self._level(self._last_said(), reason, from_disk=True)
            return
        if said != self._said:
            self._said = said
            self._write_down_said(said)
        self._level(said, None, from_disk=False)
        line = self.line
        versions = [(model.name, model.version, model.alias) for model in line.served()]
        if versions != self._kept_for:
            self._leveller.keep_ways_back(line)
            self._kept_for = versions

    def start(self) -> None:
        """Watch the registry in a thread of its own, from now on."""
        # A daemon: a registry that hangs must not keep the process from ending.
        self._stopping.clear()
        self._thread = threading.Thread(target=self._watch, name="champions", daemon=True)
        self._thread.start()

    def stop(self, wait: timedelta = timedelta(seconds=5)) -> None:
        """End the watch; waits for a refresh under way, up to `wait`."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(wait.total_seconds())

    def _watch(self) -> None:
        self.restore()
        while not self._stopping.is_set():
            self.refresh()
            self._rest()

    def _rest(self) -> None:
        """Until the registry is to be asked again, or there is something to roll back."""
        rested = timedelta(0)
        while rested < self._every:
            nap = min(LOOK_FOR_ORDERS, self._every - rested)
            if self._wake.wait(nap.total_seconds()):
                self._wake.clear()
                return
            rested += nap
            if self._open_orders() != self._obeyed:
                return

    def _level(
        self, said: dict[str, Assignment], registry_error: str | None, *, from_disk: bool
    ) -> None:
        catalog = self._reread_catalog()
        changed = catalog is not None and self._loader.take_catalog(catalog)
        orders = self._open_orders()
        self._obeyed = list(orders)
        with self._lock:
            orders.extend(self._withdrawn.values())
        told = Told(said, orders, registry_error, from_disk, changed)
        line = self._leveller.level(self.line, told)
        with self._lock:
            # What was withdrawn while this line was being made stays so.
            for slot, order in self._withdrawn.items():
                for version in order.leaves:
                    line = line.without(slot, version)
            notes = {s: self.line.refused[s] for s in self._withdrawn if s in self.line.refused}
            self.line = replace(line, refused=line.refused | notes)

    def _last_said(self) -> dict[str, Assignment]:
        if self._said is None:
            bundles = self._loader.bundles
            self._said = {} if bundles is None else bundles.read_line()
        return self._said

    def _write_down_said(self, said: dict[str, Assignment]) -> None:
        if self._loader.bundles is not None:
            try:
                self._loader.bundles.write_line(said)
            except OSError as error:  # a full disk is no reason not to serve
                log.warning("what the registry says cannot be kept: %s", error)

    def _open_orders(self) -> list[Order]:
        return [] if self._rollbacks is None else self._rollbacks.open()

    def _write_down_withdrawn(self) -> None:
        with self._lock:
            withdrawn = dict(self._withdrawn)
        for slot, order in withdrawn.items():
            if self._rollbacks is None:
                continue  # nowhere to write: it holds as long as this process runs
            try:
                self._rollbacks.give(order)
            except OSError as error:
                log.error("a roll-back cannot be written down, held in memory: %s", error)
                continue
            with self._lock:
                if self._withdrawn.get(slot) is order:
                    del self._withdrawn[slot]


def open_champions(
    settings: ServingSettings, reader: OnlineReader, registry: Any, clock: Callable[[], datetime]
) -> Champions:
    """The models of one home: registry, kept versions, roll-backs and record put together."""
    shared = settings.shared
    return Champions(
        ModelLoader(registry, reader, settings.alias, BundleStore(bundles_at(shared))),
        settings.reload_every,
        clock,
        CatalogWatch(shared).reread,
        Rollbacks(Orders(orders_at(shared)), registry, Audit(shared.home / AUDIT_FILE)),
    )
