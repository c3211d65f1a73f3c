"""Where things are: the few settings that every process shares, read from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.redis_address import printable_address

PROJECT = "daima"
REPO_PATH = Path(__file__).resolve().parents[1]
ROOT = REPO_PATH.parent
# Partition count and hash of the event log are storage format: see docs/adr/0002. This is the count
# of a log that is created without saying one (`daima produce --shards`): each partition of each
# entity has its state, its files and its share of every small poll, which a machine pays for.
SHARDS = 4


@dataclass(frozen=True)
class Settings:
    """Settings shared by all processes.

    Attributes:
        home: folder of everything written locally (`DAIMA_HOME`, default `.daima`).
        redis: online store, as Feast writes it: `host:port[,db=0][,ssl=true][,password=...]`
            (`DAIMA_REDIS`).
        mlflow_url: MLflow tracking server (`MLFLOW_TRACKING_URI`).
        prefect_url: Prefect API (`PREFECT_API_URL`).
        api_url: the prediction API (`DAIMA_API`).
        definitions: module of feature definitions, None for the default set
            (`DAIMA_DEFINITIONS`).
        log_retention: how long the live log keeps its events, at least; what a checkpoint still
            needs stays longer (`DAIMA_LOG_RETENTION`, such as `36h` or `7d`).

    Trap: never print `redis` or a URL, they may hold passwords (`repr` leaves them out);
    `redis_address` is safe, and a URL after `credentials.without_credentials`.
    """

    home: Path
    redis: str = field(repr=False)
    mlflow_url: str = field(repr=False)
    prefect_url: str = field(repr=False)
    api_url: str = field(repr=False)
    definitions: Path | None = None
    log_retention: timedelta = timedelta(hours=24)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings; every one has a default that fits `make up`.

        Raises:
            SettingsError: `DAIMA_REDIS` names no `host:port`, or `DAIMA_LOG_RETENTION` no duration.
        """
        definitions = environ.get("DAIMA_DEFINITIONS")
        settings = cls(
            home=Path(environ.get("DAIMA_HOME") or ROOT / ".daima").resolve(),
            redis=environ.get("DAIMA_REDIS") or "127.0.0.1:6379",
            mlflow_url=environ.get("MLFLOW_TRACKING_URI") or "http://127.0.0.1:5000",
            prefect_url=environ.get("PREFECT_API_URL") or "http://127.0.0.1:4200/api",
            api_url=environ.get("DAIMA_API") or "http://127.0.0.1:8000",
            definitions=Path(definitions).resolve() if definitions else None,
            log_retention=_duration(
                "DAIMA_LOG_RETENTION", environ.get("DAIMA_LOG_RETENTION") or "24h"
            ),
        )
        printable_address(settings.redis)  # refuses what is none
        return settings

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for child processes and `feast`."""
        return {
            "DAIMA_HOME": str(self.home),
            "DAIMA_REDIS": self.redis,
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "PREFECT_API_URL": self.prefect_url,
            "DAIMA_API": self.api_url,
            # Empty, not absent: a child must not inherit what these settings do not have.
            "DAIMA_DEFINITIONS": str(self.definitions or ""),
            "DAIMA_LOG_RETENTION": f"{self.log_retention // timedelta(seconds=1)}s",
        }

    @property
    def redis_address(self) -> str:
        """`host:port` of the first node, without credentials."""
        return printable_address(self.redis)

    @property
    def offline(self) -> Path:
        """Root of the offline store: one folder of date-partitioned Parquet a table."""
        return self.home / "offline"

    @property
    def events_table(self) -> Path:
        """The archive: whole events that were admitted, one folder a date."""
        return self.offline / "events"

    def features_table(self, entity: str) -> Path:
        """Live rows of an entity's stream features, one an event and key."""
        return self.offline / f"{entity}_features"

    def batch_table(self, view: str) -> Path:
        """Offline rows of a batch feature view: daily Parquet files."""
        return self.offline / view

    def checkpoints(self, feature_set: str) -> Path:
        """Folder of a feature set's checkpoints."""
        return self.home / "checkpoints" / feature_set

    @property
    def dead_letters(self) -> Path:
        """Folder of the dead-letter files (JSON lines)."""
        return self.home / "dead_letters"

    @property
    def log(self) -> Path:
        """Folder of the ingested, replayable event files."""
        return self.home / "log"


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(name: str, text: str) -> timedelta:
    """A duration in a setting.

    >>> _duration("DAIMA_LOG_RETENTION", "36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    found = re.fullmatch(r"(\d+)([smhd])", text.strip())
    if found is None:
        raise SettingsError(name, text, "a number with s, m, h or d", "write 24h, or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
