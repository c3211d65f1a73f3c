"""Vectors as inputs: as of each instant, of one version, and of sessions alone that were over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, CustomerState, Singles
from feature_repo.contracts.settings import Settings
from tests.training.embedding.registered import untrained_version
from training.embedding.as_inputs import vectors_as_of, without_vectors
from training.embedding.sequences import GAP_US, Sequences, archived_sequences

pytestmark = pytest.mark.xdist_group("training")  # the stores are made once

VERSION = untrained_version(3)
MICROSECOND = timedelta(microseconds=1)
HALF_AN_HOUR = timedelta(microseconds=GAP_US)


@pytest.fixture(scope="module")
def known(small_world: Settings) -> Sequences:
    return archived_sequences(small_world)


def instant(at_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(at_us))


def examples(*rows: tuple[str, datetime]) -> pl.DataFrame:
    return pl.DataFrame(
        rows,
        {"customer_id": pl.String, "event_timestamp": pl.Datetime("us", "UTC")},
        orient="row",
    )


def one_by_one(known: Sequences, customer: str, at: datetime) -> Singles | None:
    """The vector as the stream would have made it: session after session, once each is over."""
    (place,) = np.flatnonzero((known.customer_id == customer).to_numpy())
    encoder, state, vector = VERSION.encoder, None, None
    for row in range(known.offsets[place], known.offsets[place + 1]):
        session = known.sessions.at(np.array([row]))
        if instant(session.end_us[0]) + HALF_AN_HOUR > at:
            break
        found: tuple[CustomerState, Singles] = encoder.update(state, session)
        state, vector = found
    return vector


def test_it_is_what_the_stream_would_have_written_by_then(
    small_world: Settings, known: Sequences
) -> None:
    rng = np.random.default_rng(4)
    rows = []
    for session in rng.choice(len(known.sessions), 60, replace=False):
        customer = known.customer_id[int(known.customer[session])]
        start, end = (
            int(each[session]) for each in (known.sessions.start_us, known.sessions.end_us)
        )
        rows.append((customer, instant(int(rng.integers(start, end + 2 * GAP_US)))))
    found = vectors_as_of(small_world, VERSION, examples(*rows))
    missing = 0
    for (customer, at), (vector, version, _) in zip(rows, found.iter_rows(), strict=True):
        expected = one_by_one(known, customer, at)
        if expected is None:
            assert (vector, version) == (None, None)
            missing += 1
        else:
            np.testing.assert_allclose(vector, expected, atol=1e-5)
            assert version == 3
    assert 0 < missing < len(rows)


def test_it_is_not_known_before_its_session_is_over(
    small_world: Settings, known: Sequences
) -> None:
    rows: list[tuple[str, datetime]] = []
    first = known.offsets[:-1][np.diff(known.offsets) > 1][:20]
    for session in first:
        customer = known.customer_id[int(known.customer[session])]
        over = instant(int(known.over_us[session]))
        rows += [(customer, over - MICROSECOND), (customer, over), (customer, over + MICROSECOND)]
    found = vectors_as_of(small_world, VERSION, examples(*rows))
    before, then, after = (found[place::3] for place in range(3))
    assert before["embedding"].null_count() == len(first)
    assert then["embedding"].null_count() == 0
    assert then["embedding_updated_at"].to_list() == known.sessions.end_us[first].tolist()
    assert then.equals(after)


def test_the_order_given_is_kept_and_nobody_without_sessions_has_one(
    small_world: Settings, known: Sequences
) -> None:
    last = instant(int(known.over_us.max()))
    some = known.customer_id[:5].to_list()
    asked = [*reversed(some), "nobody", some[2]]
    rows = examples(*((customer, last) for customer in asked))
    found = vectors_as_of(small_world, VERSION, rows)
    assert found["embedding"].is_null().to_list() == [False] * 5 + [True, False]
    assert found["embedding_version"].to_list() == [3] * 5 + [None, 3]
    assert found["embedding"][2].to_list() == found["embedding"][6].to_list()
    numbers = np.array(found["embedding"].drop_nulls().to_list())
    assert numbers.shape == (6, EMBEDDING_WIDTH)
    np.testing.assert_allclose(np.linalg.norm(numbers, axis=1), 1.0, atol=1e-5)
    ends = found["embedding_updated_at"].to_list()
    assert ends[0] == known.sessions.end_us[known.offsets[5] - 1]


def test_all_are_of_one_version(small_world: Settings, known: Sequences) -> None:
    last = instant(int(known.over_us.max()))
    rows = examples(*((customer, last) for customer in known.customer_id[:50].to_list()))
    one, other = (vectors_as_of(small_world, untrained_version(number), rows) for number in (1, 2))
    assert set(one["embedding_version"]) == {1}
    assert set(other["embedding_version"]) == {2}
    cosine = (np.array(one["embedding"].to_list()) * np.array(other["embedding"].to_list())).sum(1)
    assert np.abs(cosine).max() < 0.9, "spaces of their own"


def test_of_nobody_there_are_columns_all_the_same(small_world: Settings) -> None:
    nobody = vectors_as_of(small_world, VERSION, examples())
    assert nobody.equals(without_vectors(0))
    early = vectors_as_of(small_world, VERSION, examples(("c1", datetime(2020, 1, 1, tzinfo=UTC))))
    assert early.equals(without_vectors(1))
    assert early.schema == nobody.schema
