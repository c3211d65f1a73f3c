"""Where things are: the few settings that every process shares, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from feature_repo.contracts.redis_address import printable_address

PROJECT = "daima"
REPO_PATH = Path(__file__).resolve().parents[1]
ROOT = REPO_PATH.parent
# Partition count and hash of the event log are storage format: see docs/adr/0002.
SHARDS = 8


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

    Trap: never print `redis`, it may hold a password; `redis_address` is safe.
    """

    home: Path
    redis: str
    mlflow_url: str
    prefect_url: str
    api_url: str

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings; every one has a default that fits `make up`.

        Raises:
            SettingsError: `DAIMA_REDIS` names no `host:port`.
        """
        settings = cls(
            home=Path(environ.get("DAIMA_HOME") or ROOT / ".daima").resolve(),
            redis=environ.get("DAIMA_REDIS") or "127.0.0.1:6379",
            mlflow_url=environ.get("MLFLOW_TRACKING_URI") or "http://127.0.0.1:5000",
            prefect_url=environ.get("PREFECT_API_URL") or "http://127.0.0.1:4200/api",
            api_url=environ.get("DAIMA_API") or "http://127.0.0.1:8000",
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
    def stream_table(self) -> Path:
        """Offline rows of the stream features, one a session event."""
        return self.offline / "customer_events"

    def batch_table(self, view: str) -> Path:
        """Offline rows of a batch feature view: daily Parquet files."""
        return self.offline / view

    @property
    def dead_letters(self) -> Path:
        """Folder of the dead-letter files (JSON lines)."""
        return self.home / "dead_letters"

    @property
    def log(self) -> Path:
        """Folder of the ingested, replayable event files."""
        return self.home / "log"
