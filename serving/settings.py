"""Settings of the prediction API, typed and in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from feature_repo.contracts.settings import Settings

CHAMPION = "champion"


@dataclass(frozen=True)
class ServingSettings:
    """What the API needs to know.

    Attributes:
        shared: settings of the whole system (home, store, MLflow).
        host: address to bind; the loopback, since the API has no authentication.
        port: port to bind.
        alias: the registry alias whose versions are served.
        reload_every: how often the registry is asked whether the alias has moved.
        store_timeout: longest wait for a connection to the store, and for each of its answers.
        store_connections: connections to the store; further requests wait for one.
    """

    shared: Settings
    host: str = "127.0.0.1"
    port: int = 8000
    alias: str = CHAMPION
    reload_every: timedelta = timedelta(seconds=10)
    store_timeout: timedelta = timedelta(milliseconds=500)
    store_connections: int = 32

    @classmethod
    def from_env(
        cls, host: str, port: int, environ: Mapping[str, str] = os.environ
    ) -> ServingSettings:
        """The shared settings from the environment, and an address.

        Raises:
            SettingsError: `DAIMA_REDIS` is malformed.
        """
        return cls(Settings.from_env(environ), host=host, port=port)
