"""`daima promote`, `daima split`, `daima rollback`: which version serves, and to whom."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feature_repo.contracts.credentials import first_line, without_credentials
from feature_repo.contracts.errors import DaimaError, ModelError
from feature_repo.contracts.settings import Settings
from infra.stack_file import settings_at

# A registry that is away must cost seconds, not MLflow's default of minutes.
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}


@dataclass(frozen=True)
class Word:
    """Who changes what serves, and why; `who` None is the user of the operating system."""

    why: str
    who: str | None = None


@dataclass(frozen=True)
class Split:
    """How a version is tried beside the champion: with a share of the customers, or unseen."""

    share: float | None
    shadow: bool
    max_error_rate: float
    max_p99_ms: float


def run_promote(model: str, version: str, word: Word, home: Path | None, *, as_json: bool) -> None:
    """The command `promote`.

    Raises:
        ModelError: there is no such version, or the registry does not answer.
    """
    settings, client = _registry(home)
    from serving import release

    with _answering(settings):
        done = release.promote(model, version, client=client, **_audited(settings, word))
    _drop_orders(settings, model, "champion")
    _tell(done, as_json=as_json)


def run_split(
    model: str, version: str, how: Split, word: Word, home: Path | None, *, as_json: bool
) -> None:
    """The command `split`.

    Raises:
        ModelError: there is no such version, the share is none, or the registry does not answer.
    """
    if how.shadow == (how.share is not None):
        raise DaimaError(
            "--share", how.share, "a share, or --shadow", "give one of the two: --share 0.1"
        )
    settings, client = _registry(home)
    from serving import release
    from serving.routing import Bounds

    with _answering(settings):
        if how.share is None:
            done = release.shadow(model, version, client=client, **_audited(settings, word))
        else:
            bounds = Bounds(how.max_error_rate, timedelta(milliseconds=how.max_p99_ms))
            done = release.split(
                model, version, how.share, bounds, client=client, **_audited(settings, word)
            )
    _drop_orders(settings, model, done.alias)
    _tell(done, as_json=as_json)


def run_rollback(
    model: str, alias: str, to: str | None, word: Word, home: Path | None, *, as_json: bool
) -> None:
    """The command `rollback`: on this machine first, then in the registry.

    While the registry is away it holds on this machine; its servers obey within a second, and
    tell the registry once it answers.

    Raises:
        ModelError: there is nothing to roll back, or nothing to return to.
    """
    settings, client = _registry(home)
    from serving import release
    from serving.audit import AUDIT_FILE, Audit
    from serving.orders import Order, Orders, orders_at
    from serving.rollback import Rollbacks

    leaves, back, error = _way_back(settings, client, model, alias, to)
    if alias == "champion" and back is None:
        raise ModelError(
            f"{model} version {leaves}",
            expected="a champion before it",
            action="name the version to return to: --to VERSION",
        )
    if back == leaves:
        raise ModelError("--to", to, f"another version than {leaves}", "name the one to return to")
    order = Order(
        name=model,
        alias=alias,
        leaves=(leaves,),
        to=back,
        who=word.who or release.user(),
        why=word.why,
        at=datetime.now(UTC).isoformat(),
    )
    rollbacks = Rollbacks(Orders(orders_at(settings)), client, Audit(settings.home / AUDIT_FILE))
    order = rollbacks.give(order)
    if error is None:
        try:
            rollbacks.tell_registry()
        except Exception as failure:  # whatever it is: the order stands, and servers go on trying
            error = failure
    told = not any(each == order for each in rollbacks.open())
    if as_json:
        print(json.dumps({**_plain(order), "registry_told": told}))
        return
    print(f"{model}@{alias}: version {leaves} -> {order.to or 'none'} ({word.why})")
    if not told:
        print(
            "the registry does not say so yet: servers on this machine obey within a second, and "
            f"tell it when it answers ({_first_line(error)})"
        )


def _way_back(
    settings: Settings, client: Any, model: str, alias: str, to: str | None
) -> tuple[str, str | None, Exception | None]:
    """Version to leave, version to return to, and why the registry could not be asked.

    What is kept on this machine answers then, an open order counting as carried out: a second
    roll-back goes further back.
    """
    from mlflow.exceptions import MlflowException

    from serving import release
    from serving.assignments import FORMER_TAG
    from serving.bundles import BundleStore, bundles_at
    from serving.orders import Orders, orders_at

    try:
        return *release.way_back(model, alias, to, client=client), None
    except MlflowException as failure:
        error = failure
    bundles = BundleStore(bundles_at(settings))
    said = bundles.read_line().get(model)
    bears = said and said.after(Orders(orders_at(settings)).open(), model).versions.get(alias)
    if not bears:
        raise ModelError(
            f"{model}@{alias}",
            expected="a version that served on this machine",
            action=f"the registry does not answer either: {_first_line(error)}",
        ) from error
    kept = bundles.find(model, bears)
    if to is None and kept is not None and alias == "champion":
        to = kept.tags.get(FORMER_TAG.format(alias=alias))
    if to is not None and bundles.find(model, to) is None:
        raise ModelError(
            f"{model} version {to}",
            expected="a copy on this machine, since the registry does not answer",
            action=f"start the registry, or name another with --to: {_first_line(error)}",
        ) from error
    return bears, to, error


def _registry(home: Path | None) -> tuple[Settings, Any]:
    settings, _ = settings_at(home, os.environ)
    for name, value in _MLFLOW.items():
        os.environ.setdefault(name, value)
    from serving.registry import open_registry

    return settings, open_registry(settings)


def _audited(settings: Settings, word: Word) -> dict[str, Any]:
    from serving.audit import AUDIT_FILE, Audit

    return {"audit": Audit(settings.home / AUDIT_FILE), "who": word.who, "why": word.why}


def _drop_orders(settings: Settings, model: str, alias: str) -> None:
    """What was rolled back here before is overtaken by what was decided now."""
    from serving.orders import Orders, orders_at

    Orders(orders_at(settings)).drop(model, alias)


@contextmanager
def _answering(settings: Settings) -> Iterator[None]:
    """Turn a registry that does not answer into a message."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise ModelError(
            "MLflow",
            without_credentials(settings.mlflow_url),
            "a registry that answers",
            f"start it (daima up), then retry: {_first_line(error)}",
        ) from error


def _tell(done: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_plain(done)))
        return
    if not done.changed and done.share is None:
        print(f"{done.name}@{done.alias} is version {done.version} already: nothing changed")
        return
    share = "" if done.share is None else f", {done.share:.1%} of the customers"
    print(
        f"{done.name}@{done.alias}: version {done.former_version or 'none'} -> {done.version}"
        f"{share} ({done.why})"
    )


def _plain(found: Any) -> dict[str, Any]:
    import msgspec

    builtin: dict[str, Any] = msgspec.to_builtins(found)
    return builtin


def _first_line(error: Exception | None) -> str:
    return first_line(error, 200) if error else "it is being told"
