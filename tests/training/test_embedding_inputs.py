"""A model that is fed vectors: trained on one version's, tagged with it, and fed no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.embeddings import EMBEDDING_VIEW, EMBEDDING_WIDTH
from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_files import GOLDEN_FILE, INPUTS_FILE, Golden
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.one_version import GuardedScorer, OneVersion
from serving.feature_log import columns_of
from tests.training.embedding.registered import register_untrained, serve, with_registry
from training.call_within_day import NAME, Config, build, train
from training.champion import Champion, load_champion
from training.configuration import load_config
from training.dataset import Examples, fingerprint, join_features
from training.drift import drift
from training.embedding.as_inputs import served_to, trained_on
from training.embedding.dependents import outdated
from training.embedding.versions import load_embedding
from training.judging import judge
from training.leakage import check_leakage
from training.model_files import CARD_FILE
from training.parity import FEATURE_LOG, compare
from training.registry import register, tags_of
from training.retraining import identity, retrain
from training.scoring import score_all

pytestmark = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.xdist_group("training"),
]
CHANGES = {"max_rounds": 40, "num_leaves": 7, "bootstrap_resamples": 50}
QUICK = load_config(Config, NAME, CHANGES)
FIRST, SECOND = 1, 2


@dataclass(frozen=True)
class World:
    """A world whose champion was trained on the first embedding version.

    Attributes:
        settings: with a registry of its own.
        bare: the examples before there was an embedding.
        version: the champion's.
    """

    settings: Settings
    bare: Examples
    version: int


@pytest.fixture(scope="module")
def world(small_world: Settings, tmp_path_factory: pytest.TempPathFactory) -> World:
    settings = with_registry(small_world, tmp_path_factory.mktemp("fed"), NAME)
    bare = build(settings)
    assert register_untrained(settings, FIRST) == FIRST
    version = retrain(settings, NAME, changes=CHANGES).version
    client = mlflow.MlflowClient(settings.mlflow_url)
    client.set_registered_model_alias(NAME, "champion", str(version))
    assert register_untrained(settings, SECOND) == SECOND
    serve(settings, FIRST)
    return World(settings, bare, version)


@pytest.fixture
def settings(world: World) -> Settings:
    return world.settings


@pytest.fixture
def champion(settings: Settings) -> Champion:
    found = load_champion(settings, NAME)
    assert found is not None
    return found


@pytest.fixture
def second_serves(settings: Settings) -> Iterator[None]:
    serve(settings, SECOND)
    yield
    serve(settings, FIRST)


def downloaded(settings: Settings, version: int) -> Path:
    mlflow.set_tracking_uri(settings.mlflow_url)
    return Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}/{version}"))


def test_where_there_is_no_embedding_it_is_trained_as_without(world: World) -> None:
    dataset = world.bare.dataset
    assert EMBEDDING_VIEW not in {item.view for item in dataset.inputs}
    assert dataset.embedding is None
    assert dataset.frame["embedding"].null_count() == dataset.frame.height
    # What is not fed does not make it other data.
    plain = dataset.frame.drop("embedding", "embedding_version")
    assert dataset.fingerprint == fingerprint(plain)
    candidate = train(world.bare, QUICK).candidate
    assert candidate.inputs.embedding_version is None
    assert "embedding_version" not in candidate.inputs.to_json().decode()


def test_its_inputs_and_tag_say_which_version(settings: Settings, world: World) -> None:
    tags = tags_of(settings, NAME, world.version)
    assert tags["embedding_version"] == str(FIRST)
    folder = downloaded(settings, world.version)
    inputs = ModelInputs.from_json((folder / INPUTS_FILE).read_bytes())
    assert inputs.embedding_version == FIRST
    assert f"of embedding version {FIRST};" in (folder / CARD_FILE).read_text()
    assert [item.ref for item in inputs.inputs][-2:] == [
        "customer_embedding:embedding", "customer_embedding:embedding_version"
    ]  # fmt: skip
    assert inputs.width == len(world.bare.dataset.inputs) + EMBEDDING_WIDTH + 1
    assert "embedding_version" not in tags_of(settings, NAME, _without(settings, world))


def _without(settings: Settings, world: World) -> int:
    """A version that is fed no vector."""
    trained = train(world.bare, QUICK)
    return register(settings, trained.candidate, judge(trained, None))


def test_its_data_set_has_the_vectors_of_each_login(settings: Settings, world: World) -> None:
    dataset = build(settings).dataset
    frame = dataset.frame
    assert frame.drop("embedding", "embedding_version").equals(
        world.bare.dataset.frame.drop("embedding", "embedding_version")
    )
    known = frame.filter(pl.col("embedding").is_not_null())
    assert 0.5 < known.height / frame.height < 1.0
    assert set(known["embedding_version"]) == {FIRST}
    # A first login has no session before it that is over.
    first = frame.group_by("customer_id", maintain_order=True).first()
    assert first["embedding"].null_count() > 0.9 * first.height


@pytest.mark.usefixtures("second_serves")
def test_another_embedding_version_makes_other_data_and_another_identity(
    settings: Settings, world: World
) -> None:
    two = build(settings)
    assert two.dataset.embedding is not None
    assert two.dataset.embedding.version == SECOND
    serve(settings, FIRST)
    one = build(settings)
    names = {identity(NAME, examples, QUICK) for examples in (world.bare, one, two)}
    assert len(names) == 3
    assert identity(NAME, build(settings), QUICK) == identity(NAME, one, QUICK)


def test_a_vector_that_knows_the_future_is_found(settings: Settings) -> None:
    dataset = build(settings).dataset
    few = replace(dataset, frame=dataset.frame.filter(pl.col("embedding").is_not_null()).tail(20))
    check_leakage(settings, few)
    ahead = few.frame.with_columns(pl.col("event_timestamp") + timedelta(days=1))
    later = join_features(
        settings, NAME, ahead.select("customer_id", "corridor", "event_timestamp"),
        dataset.embedding,
    ).frame.sort("event_timestamp", "customer_id")  # fmt: skip
    leaky = replace(few, frame=few.frame.with_columns(later["embedding"]))
    with pytest.raises(DatasetError, match=r"feature embedding of c.*it knows something"):
        check_leakage(settings, leaky)
    # And one of another version.
    other = replace(few, embedding=load_embedding(settings, SECOND))
    with pytest.raises(DatasetError, match="feature embedding"):
        check_leakage(settings, other)


def test_its_golden_rows_prove_the_guard(champion: Champion, world: World) -> None:
    assert isinstance(champion.scorer, GuardedScorer)
    golden = Golden.from_json(
        (downloaded(world.settings, world.version) / GOLDEN_FILE).read_bytes()
    )
    rows, guard = golden.matrix, OneVersion.of(champion.inputs)
    assert guard is not None
    assert guard.others(rows).tolist() == [False] * (len(rows) - 1) + [True]
    bare = rows.copy()
    bare[-1, guard.first : guard.last] = np.nan
    np.testing.assert_array_equal(champion.scorer.score(bare)[0], golden.scores)


def test_plain_mlflow_feeds_it_no_other_version(champion: Champion, world: World) -> None:
    mlflow.set_tracking_uri(world.settings.mlflow_url)
    uri = f"models:/{NAME}/{world.version}"
    golden = Golden.from_json(
        (downloaded(world.settings, world.version) / GOLDEN_FILE).read_bytes()
    )
    names = mlflow.models.get_model_info(uri).signature.inputs.input_names()
    assert tuple(names) == champion.inputs.columns
    loaded = mlflow.pyfunc.load_model(uri)
    frame = pl.DataFrame(golden.matrix, names, orient="row").to_pandas()
    np.testing.assert_allclose(np.asarray(loaded.predict(frame)), golden.scores, rtol=1e-12)
    needed = {line.partition("==")[0] for line in _requirements(world)}
    assert "onnxruntime" not in needed, "there is no network in it"


def _requirements(world: World) -> list[str]:
    text = (downloaded(world.settings, world.version) / "requirements.txt").read_text()
    return text.split()


def test_a_champion_of_another_version_is_judged_as_it_would_serve(
    settings: Settings, champion: Champion
) -> None:
    serve(settings, SECOND)
    try:
        trained = train(build(settings), QUICK)
    finally:
        serve(settings, FIRST)
    frame = trained.held_out.frame
    nothing = frame.with_columns(
        embedding=pl.lit(None, pl.List(pl.Float32)), embedding_version=pl.lit(None, pl.Int64)
    )
    assert champion.can_judge(trained)
    np.testing.assert_array_equal(champion.predict(frame), champion.predict(nothing))
    decision = judge(trained, champion)
    assert decision.against == f"champion version {champion.version}"


def test_everybodys_scores_use_the_version_that_serves_alone(
    settings: Settings, champion: Champion
) -> None:
    used = served_to(settings, champion.inputs)
    assert used is not None
    assert used.version == FIRST
    one = score_all(settings, NAME)
    serve(settings, SECOND)
    try:
        assert served_to(settings, champion.inputs) is None
        trained = trained_on(settings, champion.inputs)
        assert trained is not None
        assert trained.version == FIRST
        other = score_all(settings, NAME)
    finally:
        serve(settings, FIRST)
    column = f"{NAME}_prediction"
    changed = int((one.rows[column] != other.rows[column]).sum())
    assert changed > 0.3 * one.rows.height, "without vectors it says something else"


def test_what_it_is_fed_once_another_version_serves_is_drift(settings: Settings) -> None:
    same = drift(settings, NAME, least_rows=50).columns
    serve(settings, SECOND)
    try:
        found = drift(settings, NAME, least_rows=50).columns
    finally:
        serve(settings, FIRST)
    first = pl.col("column") == "embedding_0"
    assert same.filter(first)["psi"].item() < 0.5
    assert found.filter(first)["psi"].item() > 1.0


def test_what_was_served_is_compared_by_the_version_it_was_trained_on(
    settings: Settings, champion: Champion
) -> None:
    dataset = build(settings).dataset
    rows = dataset.frame.filter(pl.col("embedding").is_not_null()).tail(60)
    guard = OneVersion.of(champion.inputs)
    assert guard is not None
    matrix = champion.inputs.matrix(rows)
    half = np.arange(60) < 30
    guard.take_out(matrix, half)  # of whom another version stood online
    statuses = [
        f'{{"{EMBEDDING_VIEW}:embedding_version":"{"OTHER_VERSION" if out else "PRESENT"}"}}'
        for out in half
    ]
    logged = pl.DataFrame(
        {
            "at": rows["event_timestamp"], "as_of": rows["event_timestamp"],
            "version": str(champion.version), "customer": rows["customer_id"],
            "corridor": rows["corridor"], "counterparty": pl.Series([None] * 60, dtype=pl.String),
            "statuses": statuses,
        }
    ).hstack(pl.DataFrame(matrix, columns_of(champion.inputs), orient="row"))  # fmt: skip
    folder = settings.home / FEATURE_LOG / quote(NAME, safe="")
    folder.mkdir(parents=True)
    try:
        file = folder / "rows.parquet"
        logged.write_parquet(file)
        window = (rows["event_timestamp"].min(), rows["event_timestamp"].max())
        end = window[1] + timedelta(seconds=1)  # type: ignore[operator]
        assert compare(settings, NAME, window[0], end).share == 0.0  # type: ignore[arg-type]
        # Had they been served a vector of another version, it would be told.
        changed: list[Any] = [pl.col(f"{EMBEDDING_VIEW}:embedding[3]") + 0.01]
        logged.with_columns(changed).write_parquet(file)
        found = compare(settings, NAME, window[0], end)  # type: ignore[arg-type]
        assert found.alarming(0.4) == [f"{EMBEDDING_VIEW}:embedding"]
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_which_champions_are_outdated(settings: Settings) -> None:
    assert outdated(settings) == {}
    serve(settings, SECOND)
    try:
        assert outdated(settings) == {NAME: FIRST}
    finally:
        serve(settings, FIRST)
    assert outdated(settings) == {}
