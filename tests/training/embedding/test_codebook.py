"""The codebook: learnt from the training part, and extended without moving what was learnt."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding_inputs import MOMENTS, UNKNOWN, session_inputs
from tests.training.simulated import FIRST_DAY
from training.embedding.codebook import learn_codebook
from training.embedding.prepared import prepare
from training.embedding.sequences import Sequences, archived_sequences, instant_us
from training.embedding.targets import targets_of

CUT = instant_us(FIRST_DAY + timedelta(days=12))


@pytest.fixture(scope="module")
def sequences(small_world: Settings) -> Sequences:
    return archived_sequences(small_world)


def test_it_standardises_the_training_part(sequences: Sequences) -> None:
    known = sequences.until(CUT)
    book = learn_codebook(known, least_seen=20, most_pages=126)
    assert set(book.moments) == set(MOMENTS)
    prepared = prepare(book, known)
    again = prepared.times[:, 1] > 0
    for column in (prepared.times[again, 0], prepared.session_numbers[:, 0]):
        assert abs(column.mean()) < 0.05
        assert column.std() == pytest.approx(1, abs=0.1)
    assert abs(prepared.snapshots[:, 0].mean()) < 0.05
    # Hours are told apart by country: about noon in New York is late in the day in UTC.
    assert (book.hours["US"] - book.hours["AE"]) % 24 == pytest.approx(9, abs=1.5)


def test_a_rare_or_a_later_name_is_unknown(sequences: Sequences) -> None:
    known = sequences.until(CUT)
    counts = np.bincount(known.sessions.page.codes[known.sessions.page.codes >= 0])
    book = learn_codebook(known, least_seen=int(np.sort(counts)[2]), most_pages=126)
    assert len(book.pages) == len(counts) - 2
    few = learn_codebook(known, least_seen=1, most_pages=3)
    assert len(few.pages) == 3
    codes = session_inputs(few, known.sessions).codes
    assert (codes[:, 1] == UNKNOWN).mean() > 0.1
    assert codes[:, 1].max() == 4


def test_from_a_former_one_names_keep_their_codes(sequences: Sequences) -> None:
    known = sequences.until(CUT)
    former = learn_codebook(known, least_seen=1, most_pages=3)
    book = learn_codebook(sequences, least_seen=1, most_pages=126, former=former)
    assert book.pages[:3] == former.pages
    assert len(set(book.pages)) == len(book.pages) > 3
    assert book.corridors[: len(former.corridors)] == former.corridors
    assert book.moments == former.moments
    assert {name: book.hours[name] for name in former.hours} == former.hours


def test_what_was_not_over_is_no_target(sequences: Sequences) -> None:
    book = learn_codebook(sequences, least_seen=1, most_pages=126)
    targets = targets_of(book, sequences, prepare(book, sequences), CUT)
    following = np.flatnonzero(targets.intent >= 0)
    assert (sequences.over_us[following + 1] <= CUT).all()
    assert (sequences.customer[following] == sequences.customer[following + 1]).all()
    assert (targets.intent[following] == sequences.intent[following + 1]).all()
    late = np.flatnonzero(targets.intent < 0)[:-1]
    last = sequences.customer[late] != sequences.customer[late + 1]
    assert (last | (sequences.over_us[late + 1] > CUT)).all()
    assert np.isnan(targets.gap[targets.intent < 0]).all()
    assert targets.hour[following].min() == 0
    assert targets.hour[following].max() == 11
