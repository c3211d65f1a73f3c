"""Moving a model alias: the one module that deploys a version, and leaves word of it."""

from __future__ import annotations

import getpass
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from feature_repo.contracts.errors import ModelError
from serving.settings import CHAMPION

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Release:
    """An alias that was moved: from which version (None for the first) to which, and why."""

    name: str
    alias: str
    version: str
    former_version: str | None
    who: str
    at: datetime
    why: str


def promote(
    name: str,
    version: str | int,
    alias: str = CHAMPION,
    *,
    client: Any,
    who: str | None = None,
    why: str = "promoted",
    at: datetime | None = None,
) -> Release:
    """Point an alias at a version: a deployment, which running servers pick up by themselves.

    The version is tagged with `promoted_by`, `promoted_at` and `promoted_why`, and with
    `former_champion` (`former_<alias>`), to which a roll-back returns; promoting the version that
    already bears the alias changes nothing.

    Args:
        name: registered model.
        version: the version to deploy.
        alias: the alias to move.
        client: an `mlflow.MlflowClient`.
        who: who decided; the user of the operating system unless given.
        why: the reason, for whoever reads the registry later.
        at: when (UTC); now unless given.

    Raises:
        ModelError: there is no such model or version.

    Trap: the check and the move are two calls; two people promoting at once leave the later one's
    choice, each with its own note.
    """
    version = str(version)
    versions = {str(found.version) for found in client.search_model_versions(f"name='{name}'")}
    if version not in versions:
        raise ModelError(
            f"version of {name}",
            version,
            f"one of {sorted(versions, key=int)}" if versions else "a registered model",
            "run the retraining flow, or see the registry's page",
        )
    former = client.get_registered_model(name).aliases.get(alias)
    former = None if former is None else str(former)
    release = Release(name, alias, version, former, who or _user(), (at or datetime.now(UTC)), why)
    if former == version:
        return release
    # The note first: a move without a note cannot be explained, a note without a move can.
    notes = {
        "promoted_by": release.who,
        "promoted_at": release.at.isoformat(),
        "promoted_why": why,
    }
    if former is not None:
        notes[f"former_{alias}"] = former
    for key, value in notes.items():
        client.set_model_version_tag(name, version, key, value)
    client.set_registered_model_alias(name, alias, version)
    log.info("%s@%s: version %s -> %s by %s: %s", name, alias, former, version, release.who, why)
    return release


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "unknown"
