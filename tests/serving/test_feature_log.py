"""The feature log: the declared share, off the request path, whole files, nothing blocks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.errors import SettingsError
from feature_repo.contracts.model_inputs import ModelInput, ModelInputs
from feature_repo.stores.forgotten import ForgottenFile, Tombstone, key_of
from serving.feature_log import FeatureLog
from serving.feature_log_retention import remove_before
from serving.feature_log_settings import FeatureLogSettings
from serving.feature_row import Status
from serving.messages import Context, Decision
from serving.routing import Line
from serving.scored import ScoredBatch
from serving.statuses import Statuses
from tests.serving.conftest import wait_until

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALL = FeatureLogSettings(share=1.0, file_age=timedelta(hours=1))
INPUTS = ModelInputs(
    "service",
    (
        ModelInput("a", "count", "Int64"),
        ModelInput("b", "count", "Int64"),
        ModelInput("e", "embedding", "Array(Float32)", length=2),
    ),
)


@dataclass
class _Served:
    version: str = "7"
    alias: str = "champion"
    inputs: ModelInputs = INPUTS


def batch(*customers: str, version: str = "7", request: str = "r1") -> ScoredBatch:
    count = len(customers)
    statuses = Statuses.of({"a:count": Status.PRESENT, "b:count": Status.NOT_FOUND})
    return ScoredBatch(
        request_id=request,
        at=NOW - timedelta(seconds=1),
        model="risk",
        line=Line(),
        served=cast(Any, _Served(version)),
        customers=customers,
        matrix=np.arange(4.0 * count).reshape(count, 4),
        statuses=[statuses] * count,
        corridors=["GB-NG"] * count,
        context=Context(amount_minor=5),
        scores=[0.5] * count,
        predictions=[2.0] * count,
        probabilities=[0.25] * count,
        decisions=[Decision("allow", ("low",))] * count,
    )


Made = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "feature_log"


def made(folder: Path, settings: FeatureLogSettings) -> FeatureLog:
    return FeatureLog(folder, settings, ForgottenFile(folder.parent), clock=lambda: NOW)


def rows(folder: Path) -> pl.DataFrame:
    files = sorted(folder.rglob("*.parquet"))
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])


@pytest.fixture
def logged(folder: Path) -> Iterator[FeatureLog]:
    feature_log = made(folder, ALL)
    feature_log.start()
    yield feature_log
    feature_log.stop()


def test_a_row_says_everything_about_a_prediction(logged: FeatureLog, folder: Path) -> None:
    logged(batch("c1", "c2"))
    logged.stop()
    (row, other) = rows(folder).rows(named=True)
    assert row == {
        "at": NOW,
        "as_of": NOW - timedelta(seconds=1),
        "request_id": "r1",
        "model": "risk",
        "version": "7",
        "alias": "champion",
        "customer": "c1",
        "corridor": "GB-NG",
        "counterparty": None,
        "context": '{"amount_minor":5,"corridor":null,"device":null,"event_type":null}',
        "score": 0.5,
        "prediction": 2.0,
        "probability": 0.25,
        "decision": '{"action":"allow","reasons":["low"]}',
        "statuses": '{"a:count":"PRESENT","b:count":"NOT_FOUND"}',
        "a:count": 0.0,
        "b:count": 1.0,
        "e:embedding[0]": 2.0,
        "e:embedding[1]": 3.0,
    }
    assert (other["customer"], other["a:count"]) == ("c2", 4.0)
    (file,) = folder.rglob("*.parquet")
    assert file.parent == folder / "risk" / "date=2026-03-02"
    assert not list(folder.rglob("*.part"))
    assert (logged.written, logged.dropped) == (2, 0)


def test_a_share_of_customers_is_sticky(folder: Path) -> None:
    feature_log = made(folder, replace(ALL, share=0.2))
    names = [f"c{number}" for number in range(2_000)]
    for name in names[:1_000]:
        feature_log(batch(name))
    feature_log(batch(*names))
    feature_log.start()
    feature_log.stop()
    found = rows(folder)
    kept = set(found["customer"])
    assert 330 < len(kept) < 470
    twice = found["customer"].value_counts().filter(pl.col("count") == 2)["customer"]
    assert set(twice) == kept & set(names[:1_000])


def test_a_share_of_requests_keeps_them_whole(folder: Path) -> None:
    feature_log = made(folder, replace(ALL, share=0.2, by="request"))
    for number in range(500):
        feature_log(batch("c1", "c2", request=f"r{number}"))
    feature_log.start()
    feature_log.stop()
    counts = rows(folder)["request_id"].value_counts()
    assert set(counts["count"]) == {2}
    assert 70 < len(counts) < 130


def test_a_full_queue_drops_and_counts_and_never_waits(folder: Path) -> None:
    feature_log = made(folder, replace(ALL, waiting_rows=10))  # nobody takes anything out
    one = batch("c1")
    started = perf_counter()
    for _ in range(10_000):
        feature_log(one)
    assert perf_counter() - started < 1.0  # 1 µs each, whatever the machine is doing
    assert feature_log.dropped == 9_990
    feature_log.start()
    feature_log.stop()
    assert feature_log.written == 10


def test_files_end_by_rows_size_and_age_one_version_each(folder: Path) -> None:
    for name, settings in (
        ("rows", replace(ALL, file_rows=2)),
        ("bytes", replace(ALL, file_bytes=1)),
        ("age", replace(ALL, file_age=timedelta(0))),
    ):
        feature_log = made(folder / name, settings)
        feature_log.start()
        for version in ("7", "8"):
            feature_log(batch("c1", "c2", version=version))
        wait_until(lambda log=feature_log: log.written == 4)  # type: ignore[misc]
        files = list((folder / name).rglob("*.parquet"))
        assert [len(set(pl.read_parquet(file)["version"])) for file in files] == [1, 1]
        feature_log.stop()


def test_without_a_share_nothing_is_kept(folder: Path) -> None:
    feature_log = made(folder, replace(ALL, share=0.0))
    feature_log.start()
    feature_log(batch("c1"))
    feature_log.stop()
    assert not folder.exists()


def test_a_disk_that_takes_nothing_harms_nobody(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file where the folder should be")
    feature_log = made(folder, replace(ALL, file_rows=1))
    feature_log.start()
    feature_log(batch("c1"))
    feature_log(batch("c1"))
    feature_log.stop()
    assert (feature_log.written, feature_log.dropped) == (0, 2)
    assert caplog.text.count("the feature log cannot be written") == 1


def test_who_is_forgotten_while_a_row_waits_is_not_written(folder: Path) -> None:
    feature_log = made(folder, ALL)
    feature_log(batch("c1", "c2"))
    at_us = int(NOW.timestamp() * 1e6)
    ForgottenFile(folder.parent).change(
        lambda found: found.update({key_of("c1"): Tombstone(at_us)})
    )
    feature_log.start()
    feature_log.stop()
    assert rows(folder)["customer"].to_list() == ["c2"]


def test_days_older_than_is_kept_are_removed_off_the_request_path(folder: Path) -> None:
    names = ("2026-01-30", "2026-01-31", "2026-02-28", "nonsense")
    for model in ("risk", "other"):
        for name in names:
            (folder / model / f"date={name}").mkdir(parents=True)
            (folder / model / f"date={name}" / "x.parquet").write_text("rows")
    feature_log = made(folder, replace(ALL, share=0.0, keep=timedelta(days=30)))
    feature_log(batch("c1"))
    assert (folder / "risk" / "date=2026-01-30").is_dir(), "not by whoever asks for a prediction"
    feature_log.start()
    wait_until(lambda: len(list(folder.glob("*/*"))) == 6)
    feature_log.stop()
    left = {path.parent.name for path in folder.rglob("*.parquet")}
    assert left == {f"date={name}" for name in names[1:]}


def test_a_day_that_cannot_be_removed_is_told_and_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("2026-01-01", "2026-01-02", "2026-01-03"):
        (folder / "risk" / f"date={name}").mkdir(parents=True)
    remove = shutil.rmtree

    def guarded(path: Path) -> None:
        if path.name == "date=2026-01-01":
            raise PermissionError(path)
        if path.name == "date=2026-01-02":
            remove(path)
            raise FileNotFoundError(path)
        remove(path)

    monkeypatch.setattr("serving.feature_log_retention.shutil.rmtree", guarded)
    assert remove_before(folder, NOW.date()) == 1
    assert caplog.text.count("cannot be removed") == 1
    assert [path.name for path in folder.glob("*/*")] == ["date=2026-01-01"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("SHARE", "2"), ("SHARE", "x"), ("BY", "hour"), ("DAYS", "0"), ("DAYS", "1.5")],
)
def test_a_wrong_setting_is_refused(name: str, text: str) -> None:
    setting = f"DAIMA_FEATURE_LOG_{name}"
    with pytest.raises(SettingsError, match=setting):
        FeatureLogSettings.from_env({setting: text})


def test_what_is_declared_is_read() -> None:
    assert FeatureLogSettings.from_env({}).keep == timedelta(days=30)
    assert FeatureLogSettings.from_env({"DAIMA_FEATURE_LOG_DAYS": "7"}).keep == timedelta(days=7)
