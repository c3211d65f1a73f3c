"""Settings of the prediction API, typed and in one place."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.settings import Settings
from serving.feature_log_settings import FeatureLogSettings

CHAMPION = "champion"
LEAST_TOKEN = 16  # characters: what a guesser who asks a thousand times a second never finds
_LONGEST_DEADLINE = timedelta(minutes=1)


@dataclass(frozen=True)
class ServingSettings:
    """What the API needs to know.

    Attributes:
        shared: settings of the whole system (home, store, MLflow).
        host: address to bind; anything but the loopback needs a token.
        port: port to bind.
        token: what every request but those for `/health` must bear (`DAIMA_API_TOKEN`); None:
            nothing is asked. Never shown, also not by `repr`.
        alias: the registry alias whose versions are served.
        reload_every: how often the registry is asked whether the alias has moved.
        store_timeout: longest wait for a connection to the store, and for each of its answers.
        store_connections: connections to the store; further requests wait for one.
        deadline: how long a request may take unless it says (`DAIMA_API_DEADLINE_MS`).
        in_flight: requests worked on at a time, more are told to come again
            (`DAIMA_API_IN_FLIGHT`).
        events_waiting: events handed in that may wait for the log at a time.
        events_to: the log that takes them, valkey or kafka (`DAIMA_EVENTS_TO`).
        policy: the file that turns scores into decisions (`DAIMA_POLICY`, else `policy.yaml` in
            the home); without a file there are no decisions.
        policy_every: how often it is looked at.
        recent_customers: customers whose last predictions are remembered for their profile.
        feature_log: what of the served requests is kept (`DAIMA_FEATURE_LOG_*`).
        drain: how long requests are still taken after SIGTERM, for those who have not noticed.
    """

    shared: Settings
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    alias: str = CHAMPION
    reload_every: timedelta = timedelta(seconds=10)
    store_timeout: timedelta = timedelta(milliseconds=500)
    store_connections: int = 32
    deadline: timedelta = timedelta(seconds=1)
    in_flight: int = 256
    events_waiting: int = 20_000
    events_to: Literal["valkey", "kafka"] = "valkey"
    policy: Path | None = None
    policy_every: timedelta = timedelta(seconds=1)
    recent_customers: int = 10_000
    feature_log: FeatureLogSettings = field(default_factory=FeatureLogSettings)
    drain: timedelta = timedelta(milliseconds=500)

    @property
    def policy_file(self) -> Path:
        """Where the policy is, if there is one."""
        return self.policy or self.shared.home / "policy.yaml"

    @property
    def kept_policy(self) -> Path:
        """The last good policy, for a start at which the file is malformed."""
        return self.shared.home / "serving" / "policy.yaml"

    @property
    def event_letters(self) -> Path:
        """The dead letters of events handed in."""
        return self.shared.dead_letters / "api.jsonl"

    @classmethod
    def from_env(
        cls, host: str, port: int, environ: Mapping[str, str] = os.environ
    ) -> ServingSettings:
        """The shared settings and the API's own from the environment, and an address.

        Raises:
            SettingsError: one is malformed, or the address is not the loopback and no token is
                set.
        """
        token = environ.get("DAIMA_API_TOKEN") or None
        if token is not None:
            _check_token(token)
        elif not is_loopback(host):
            raise SettingsError(
                "DAIMA_API_TOKEN",
                expected=f"a token, since --host {host} is not the loopback: whoever reaches it "
                "could read customers' features and write events",
                action="export DAIMA_API_TOKEN=$(openssl rand -hex 32), or bind 127.0.0.1",
            )
        policy = environ.get("DAIMA_POLICY")
        deadline_ms = _whole(environ, "DAIMA_API_DEADLINE_MS", cls.deadline // _MS)
        if timedelta(milliseconds=deadline_ms) > _LONGEST_DEADLINE:
            raise SettingsError(
                "DAIMA_API_DEADLINE_MS", deadline_ms, "at most 60000 ms", "set a shorter one"
            )
        events_to = environ.get("DAIMA_EVENTS_TO") or cls.events_to
        if events_to not in ("valkey", "kafka"):
            raise SettingsError("DAIMA_EVENTS_TO", events_to, "valkey or kafka", "name one")
        return cls(
            Settings.from_env(environ),
            host=host,
            port=port,
            token=token,
            deadline=timedelta(milliseconds=deadline_ms),
            in_flight=_whole(environ, "DAIMA_API_IN_FLIGHT", cls.in_flight),
            events_to="kafka" if events_to == "kafka" else "valkey",
            policy=Path(policy).resolve() if policy else None,
            feature_log=FeatureLogSettings.from_env(environ),
        )


_MS = timedelta(milliseconds=1)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: whom it resolves to may change
        return False


def _check_token(token: str) -> None:
    """Refuse a token that is easily guessed or cannot stand in a header; it is not shown."""
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            "DAIMA_API_TOKEN",
            expected=f"at least {LEAST_TOKEN} printable ASCII characters without spaces",
            action="export DAIMA_API_TOKEN=$(openssl rand -hex 32)",
        )


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise SettingsError(name, text, "a whole number of at least 1", f"write {default}")
    return int(text)
