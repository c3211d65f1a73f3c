"""Roll-backs that hold here and that the registry has still to be told of, kept on disk.

A roll-back must work while the registry is away, must outlive a restart, and must not be undone by
a registry that still names the bad version. So it is an order first: a file that every server of
this home obeys from its next look on, and that is taken away once the registry says the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec

from feature_repo.contracts.settings import Settings

log = logging.getLogger(__name__)


def orders_at(settings: Settings) -> Path:
    """Where a home keeps its open orders."""
    return settings.home / "rollbacks"


class Order(msgspec.Struct, frozen=True):
    """Take a model's alias off some versions.

    Attributes:
        name: registered model.
        alias: the alias to move.
        leaves: versions that must not bear it: the one rolled back, and those of orders before
            it that the registry has not heard of either.
        to: the version that bears it instead; None takes the alias away.
        who: who decided.
        why: the reason.
        at: when, ISO 8601, UTC.
    """

    name: str
    alias: str
    leaves: tuple[str, ...]
    to: str | None
    who: str
    why: str
    at: str


class Orders:
    """The open orders of one home: a small file each.

    Several processes share the folder: each writes and takes away whole files only.

    Trap: `give` is for a thread; a request may not wait for a disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> list[Order]:
        """Every open order. A file that cannot be read is left out, and the log says so."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Order))
            except FileNotFoundError:
                continue  # carried out meanwhile
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("%s is no order to roll back, mend or remove it: %s", path, error)
        return found

    def give(self, order: Order) -> Order:
        """Write an order down; returns it with what it takes over of the one before it."""
        path = self._path(order)
        for former in self.open():
            if (former.name, former.alias) == (order.name, order.alias):
                # The registry still names what that one leaves: it must stay left.
                leaves = dict.fromkeys((*former.leaves, *order.leaves))
                order = msgspec.structs.replace(
                    order, leaves=tuple(version for version in leaves if version != order.to)
                )
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(order), indent=1))
        return order

    def carry_out(self, order: Order, tell: Callable[[Order], object]) -> None:
        """Tell the registry with `tell`, then take the order away; what `tell` raises leaves it.

        One that was given anew meanwhile stays open.
        """
        tell(order)
        path = self._path(order)
        try:
            if msgspec.json.decode(path.read_bytes(), type=Order) == order:
                path.unlink()
        except FileNotFoundError:
            pass

    def drop(self, name: str, alias: str) -> None:
        """Take an order away that a newer decision has overtaken."""
        for order in self.open():
            if (order.name, order.alias) == (name, alias):
                self._path(order).unlink(missing_ok=True)

    def _path(self, order: Order) -> Path:
        return self._folder / f"{file_name(order.name)}@{file_name(order.alias)}.json"


def file_name(name: str) -> str:
    """A registered name as the name of a file or folder, whatever characters it has.

    >>> file_name("../a b")
    '%2E%2E%2Fa%20b'
    """
    return quote(name, safe="").replace(".", "%2E")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers, and a restart after a crash, see the old one or the new one."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
