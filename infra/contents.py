"""Counts of what the stores and the model registry hold, for people."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import redis

from feature_repo.contracts.settings import PROJECT, Settings
from feature_repo.stores.redis_layout import entity_key_prefix
from infra.http_json import NoAnswerError, exchange

_SCAN_COUNT = 10_000


@dataclass(frozen=True)
class Champion:
    """A registered model's version that serves.

    Attributes:
        metric: name of its validation metric.
        value: the metric's value.
    """

    name: str
    version: str
    metric: str
    value: float


def online_customers(settings: Settings) -> int:
    """Customers with a row in the online store.

    Counts keys by scanning (about 1 s a million keys); 0 where the store does not answer.
    """
    from feature_repo.stores.redis_connection import connect

    # Glob characters do not occur in the prefix: type and length codes, then `customer_id`.
    pattern = entity_key_prefix("customer_id") + b"*" + PROJECT.encode()
    client = connect(settings.redis)
    try:
        return sum(1 for _ in client.scan_iter(pattern, count=_SCAN_COUNT))
    except redis.RedisError:
        return 0
    finally:
        client.close()


def offline_rows(settings: Settings) -> dict[str, int]:
    """Rows of each table of the offline store, from the files' footers."""
    if not settings.offline.is_dir():
        return {}
    tables = sorted(entry for entry in settings.offline.iterdir() if entry.is_dir())
    return {table.name: rows for table in tables if (rows := parquet_rows(table))}


def parquet_rows(folder: Path) -> int:
    """Rows of all Parquet files under a folder; one being written is not counted."""
    return RowCount(folder).now()


class RowCount:
    """Counts the rows under a folder again and again: each file's footer is read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: dict[tuple[Path, int, int], int] = {}

    def now(self) -> int:
        """Rows of the Parquet files that are there now; one being written is not counted."""
        known, self._rows = self._rows, {}
        for path in self._folder.rglob("*.parquet"):
            if path.name.startswith("."):
                continue
            try:
                found = path.stat()
                mark = path, found.st_mtime_ns, found.st_size
                rows = known[mark] if mark in known else pq.read_metadata(path).num_rows
            except FileNotFoundError:  # compacted meanwhile
                continue
            self._rows[mark] = rows
        return sum(self._rows.values())


def champions(settings: Settings, alias: str = "champion") -> list[Champion]:
    """The registered models' versions that bear an alias, with their metric.

    Asks MLflow's REST interface: importing its client takes seconds. Empty where it does not
    answer.
    """
    base = f"{settings.mlflow_url}/api/2.0/mlflow"
    found = []
    try:
        _, answer = exchange("GET", f"{base}/registered-models/search?max_results=100")
        for model in answer.get("registered_models", []):
            versions = {entry["alias"]: entry["version"] for entry in model.get("aliases", [])}
            if alias not in versions:
                continue
            _, answer = exchange(
                "GET",
                f"{base}/model-versions/get?name={model['name']}&version={versions[alias]}",
            )
            version = answer.get("model_version", {})
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            found.append(
                Champion(
                    name=model["name"],
                    version=str(versions[alias]),
                    metric=tags.get("metric_name", "metric"),
                    value=float(tags.get("metric_value", "nan")),
                )
            )
    except (NoAnswerError, AttributeError):
        return found
    return found
