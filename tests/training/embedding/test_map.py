"""What a version's map is coloured by: segments where there are any, else what people came for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from feature_repo.contracts.settings import Settings
from feature_repo.stores.latest_rows import SEGMENT
from tests.training.embedding.made import untrained_files
from tests.training.sessions import settings_at, write_archive
from tests.training.simulated import FIRST_DAY, events_of, simulated_world
from training.configuration import load_config
from training.embedding import retraining
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.retraining import build, identity, map_of
from training.intents import INTENTS

CONFIG = load_config(EmbeddingConfig, NAME)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = settings_at(tmp_path_factory.mktemp("mapped"))
    write_archive(found, events_of(simulated_world(300, 20)))
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the map is asked for."""
    found: list[tuple[Any, ...]] = []

    def draw(vectors: Any, groups: pl.Series, title: str, *, seed: int) -> bytes:
        found.append((len(vectors), groups.to_list(), title))
        return b"a picture"

    monkeypatch.setattr(retraining, "map_picture", draw)
    return found


def write_segments(settings: Settings, segments: dict[str, str]) -> Path:
    view, feature = SEGMENT
    path = settings.batch_table(view) / f"event_date={FIRST_DAY:%Y-%m-%d}" / "some.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"customer_id": list(segments), feature: list(segments.values())}).with_columns(
        event_timestamp=FIRST_DAY
    ).write_parquet(path)
    return path


def test_intents_colour_the_map_where_there_are_no_segments(
    settings: Settings, drawn: list[tuple[Any, ...]]
) -> None:
    examples = build(settings)
    assert map_of(examples, untrained_files(), CONFIG) == b"a picture"
    known = examples.known
    ((points, groups, title),) = drawn
    assert (points, title) == (len(known.customer_id), "Customers, by what most sessions were for")
    by_customer: list[list[int]] = [[] for _ in range(points)]
    for customer, intent in zip(known.customer, known.intent, strict=True):
        by_customer[customer].append(int(intent))
    for intents, group in zip(by_customer, groups, strict=True):
        most = max(map(intents.count, intents))
        assert intents.count(INTENTS.index(group)) == most


def test_segments_colour_it_and_change_nothing_else(
    settings: Settings, drawn: list[tuple[Any, ...]]
) -> None:
    without = build(settings)
    known = without.known.customer_id.to_list()
    path = write_segments(settings, dict.fromkeys(known[::2], "long") | {"nobody": "brief"})
    try:
        examples = build(settings)
    finally:
        path.unlink()
    map_of(examples, untrained_files(), CONFIG)
    expected = [None if place % 2 else "long" for place in range(len(known))]
    assert drawn == [(len(known), expected, "Customers, by segment")]
    # The same sessions make no second version because people were placed anew.
    assert identity(examples, CONFIG) == identity(without, CONFIG)
