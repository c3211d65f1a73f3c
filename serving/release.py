"""Moving a model alias: the one module that deploys a version or takes it back, and leaves word.

Flows, commands and automatic roll-backs call it. Each move is noted in the registry (tags of the
version) and appended to the audit file; running servers pick it up by themselves.
"""

from __future__ import annotations

import getpass
import logging
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from feature_repo.contracts.errors import ModelError
from serving.assignments import ERROR_RATE_TAG, FORMER_TAG, P99_TAG, SHARE_TAG
from serving.audit import Audit, Change
from serving.orders import Order
from serving.routing import CHALLENGER, SHADOW, Bounds, Slot
from serving.settings import CHAMPION

log = logging.getLogger(__name__)

ROLLBACK = "rollback"


@dataclass(frozen=True)
class Release:
    """An alias that was moved: from which version (None: none) to which (None: none), and why."""

    name: str
    alias: str
    version: str | None
    former_version: str | None
    who: str
    at: datetime
    why: str
    action: str = "promote"
    share: float | None = None

    @property
    def changed(self) -> bool:
        """Whether the alias names another version than before."""
        return self.version != self.former_version

    def record(self) -> Change:
        """The line for the record of releases."""
        return Change(
            at=self.at.isoformat(),
            who=self.who,
            model=self.name,
            action=self.action,
            alias=self.alias,
            from_=self.former_version,
            to=self.version,
            why=self.why,
            share=self.share,
        )


@dataclass(frozen=True)
class _Hand:
    """Whose hand moves aliases, and where it leaves word."""

    client: Any
    audit: Audit | None
    who: str
    at: datetime
    why: str

    def release(self, slot: Slot, version: str | None, former: str | None, action: str) -> Release:
        return Release(slot.name, slot.alias, version, former, self.who, self.at, self.why, action)

    def move(self, release: Release) -> Release:
        """The alias to its new version, or off; with a note, and a line in the record."""
        name, alias = release.name, release.alias
        # The note first: a move without a note cannot be explained, a note without a move can.
        if release.action == ROLLBACK:
            self._note("rolled_back", name, release.former_version)
        elif release.version is not None:
            self._note("promoted", name, release.version)
            # Not of a roll-back: the next one is to go further back, not forth again.
            if release.changed and release.former_version is not None:
                tag = FORMER_TAG.format(alias=alias)
                self.client.set_model_version_tag(
                    name, release.version, tag, release.former_version
                )
        if release.version is None:
            self.client.delete_registered_model_alias(name, alias)
        else:
            self.client.set_registered_model_alias(name, alias, release.version)
        log.info(
            "%s@%s: version %s -> %s by %s: %s",
            name, alias, release.former_version, release.version, self.who, self.why,
        )  # fmt: skip
        if self.audit is not None:
            self.audit.write(release.record())
        return release

    def _note(self, prefix: str, name: str, version: str | None) -> None:
        notes = {"by": self.who, "at": self.at.isoformat(), "why": self.why}
        for key, value in notes.items():
            self.client.set_model_version_tag(name, version, f"{prefix}_{key}", value)


def promote(
    name: str,
    version: str | int,
    alias: str = CHAMPION,
    *,
    client: Any,
    audit: Audit | None = None,
    who: str | None = None,
    why: str = "promoted",
    at: datetime | None = None,
) -> Release:
    """Point an alias at a version: a deployment.

    The version is tagged with `promoted_by`, `promoted_at` and `promoted_why`, and with
    `former_champion` (`former_<alias>`), to which a roll-back returns; promoting the version that
    already bears the alias changes nothing. A challenger or shadow that becomes champion is that
    no longer.

    Args:
        name: registered model.
        version: the version to deploy.
        alias: the alias to move.
        client: an `mlflow.MlflowClient`.
        audit: the record of releases.
        who: who decided; the user of the operating system unless given.
        why: the reason, for whoever reads the registry later.
        at: when (UTC); now unless given.

    Raises:
        ModelError: there is no such model or version.

    Trap: the check and the move are two calls; two people promoting at once leave the later one's
    choice, each with its own note.
    """
    version = str(version)
    aliases = _aliases(client, name, version)
    hand = _Hand(client, audit, who or user(), at or datetime.now(UTC), why)
    release = hand.release(Slot(name, alias), version, aliases.get(alias), "promote")
    if release.changed:
        hand.move(release)
    for beside in (CHALLENGER, SHADOW):
        if alias == CHAMPION and aliases.get(beside) == version:
            hand.move(hand.release(Slot(name, beside), None, version, "promote"))
    return release


def split(
    name: str,
    version: str | int,
    share: float,
    bounds: Bounds | None = None,
    *,
    client: Any,
    audit: Audit | None = None,
    who: str | None = None,
    why: str = "split",
    at: datetime | None = None,
) -> Release:
    """Let a version answer a share of the customers, beside the champion, until it passes a bound.

    Raises:
        ModelError: there is no such version, it is the champion, or the share is none.
    """
    version, bounds = str(version), bounds or Bounds()
    if not 0.0 < share <= 1.0:
        raise ModelError("share", share, "more than 0 and at most 1", "daima rollback takes it off")
    aliases = _aliases(client, name, version)
    _not_champion(name, version, aliases)
    # The share first: the former challenger may have it for a moment, the new one never another's.
    tags = {
        SHARE_TAG: repr(float(share)),
        ERROR_RATE_TAG: repr(float(bounds.error_rate)),
        P99_TAG: repr(bounds.p99 / timedelta(milliseconds=1)),
    }
    for tag, value in tags.items():
        client.set_registered_model_tag(name, tag, value)
    hand = _Hand(client, audit, who or user(), at or datetime.now(UTC), why)
    release = hand.release(Slot(name, CHALLENGER), version, aliases.get(CHALLENGER), "split")
    return hand.move(replace(release, share=share))


def shadow(
    name: str,
    version: str | int,
    *,
    client: Any,
    audit: Audit | None = None,
    who: str | None = None,
    why: str = "shadow",
    at: datetime | None = None,
) -> Release:
    """Have a version scored beside the champion and never answer.

    Raises:
        ModelError: there is no such version, or it is the champion.
    """
    version = str(version)
    aliases = _aliases(client, name, version)
    _not_champion(name, version, aliases)
    hand = _Hand(client, audit, who or user(), at or datetime.now(UTC), why)
    release = hand.release(Slot(name, SHADOW), version, aliases.get(SHADOW), "shadow")
    return hand.move(release) if release.changed else release


def way_back(
    name: str, alias: str = CHAMPION, to: str | None = None, *, client: Any
) -> tuple[str, str | None]:
    """The version that bears an alias, and the one to which a roll-back returns (None: none).

    A challenger or shadow is taken off: nothing takes its place. `to` names another way back.

    Raises:
        ModelError: nothing bears the alias, or there is no such version to return to.
    """
    bears = _aliases(client, name, to).get(alias)
    if bears is None:
        raise ModelError(
            f"{name}@{alias}", expected="a version to roll back", action="see /v1/models"
        )
    if to is not None or alias != CHAMPION:
        return bears, to
    return bears, client.get_model_version(name, bears).tags.get(FORMER_TAG.format(alias=alias))


def carry_out(order: Order, *, client: Any, audit: Audit | None = None) -> Release | None:
    """Tell the registry of a roll-back; None where it says so already, or something newer.

    Raises:
        ModelError: the version to return to is not there.
    """
    try:
        aliases = _aliases(client, order.name, order.to)
    except ModelError:
        if not client.search_registered_models(filter_string=f"name='{order.name}'"):
            return None  # the model is gone: nothing is left to roll back
        raise
    bears = aliases.get(order.alias)
    if bears not in order.leaves:
        return None
    hand = _Hand(client, audit, order.who, datetime.fromisoformat(order.at), order.why)
    return hand.move(hand.release(Slot(order.name, order.alias), order.to, bears, ROLLBACK))


def _aliases(client: Any, name: str, version: str | None = None) -> dict[str, str]:
    """A model's versions by alias, once it is sure that it has this version."""
    if version is not None:
        versions = {str(found.version) for found in client.search_model_versions(f"name='{name}'")}
        if version not in versions:
            raise ModelError(
                f"version of {name}",
                version,
                f"one of {sorted(versions, key=int)}" if versions else "a registered model",
                "run the retraining flow, or see the registry's page",
            )
    elif not client.search_registered_models(filter_string=f"name='{name}'"):
        raise ModelError("model", name, "a registered model", "see the registry's page")
    aliases = client.get_registered_model(name).aliases
    return {alias: str(found) for alias, found in aliases.items()}


def _not_champion(name: str, version: str, aliases: dict[str, str]) -> None:
    if aliases.get(CHAMPION) == version:
        raise ModelError(
            f"version of {name}", version, "another than the champion", "it answers everyone as is"
        )


def user() -> str:
    """Whoever runs this process, by name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
