"""Training the encoders: what they learn, that ONNX is equal, and that the space is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.settings import Settings
from feature_repo.scoring.embedding import Encoder
from feature_repo.scoring.embedding_inputs import FIRST_NAME
from tests.training.simulated import FIRST_DAY
from training.configuration import load_config
from training.embedding.config import NAME, EmbeddingConfig
from training.embedding.sequences import Sequences, archived_sequences, instant_us

pytest.importorskip("torch", reason="networks are trained with the extra `torch`")

from training.embedding.fitting import Fitted, fit, vectors_of
from training.embedding.former import carried_over, cosines
from training.embedding.prepared import prepare
from training.embedding.targets import targets_of

QUICK = load_config(
    EmbeddingConfig,
    NAME,
    {
        "epochs": 4, "warm_epochs": 2, "batch_sessions": 1024, "event": 24, "session": 24,
        "recurrent": 32, "mean": 12, "snapshot": 12, "joined": 48,
    },
)  # fmt: skip
EARLY = instant_us(FIRST_DAY + timedelta(days=12))
LATE = instant_us(FIRST_DAY + timedelta(days=16))
pytestmark = pytest.mark.xdist_group("training")  # the store and the network are made once


@pytest.fixture(scope="module")
def sequences(small_world: Settings) -> Sequences:
    return archived_sequences(small_world)


@pytest.fixture(scope="module")
def fitted(sequences: Sequences) -> Fitted:
    return fit(sequences.until(EARLY), QUICK, EARLY)


def first_customers(sequences: Sequences, count: int) -> Sequences:
    sizes = np.diff(sequences.offsets)
    return sequences.first(np.where(np.arange(len(sizes)) < count, sizes, 0))


def last_vectors(fitted: Fitted, sequences: Sequences) -> np.ndarray:
    after = vectors_of(fitted.learner, prepare(fitted.book, sequences), QUICK)
    return after[sequences.offsets[1:] - 1]


def test_it_learns_what_comes_next(fitted: Fitted, sequences: Sequences) -> None:
    losses = [epoch.intent_loss for epoch in fitted.curve]
    assert losses[-1] < 1.75 < losses[0], "of seven classes; ln 7 is 1.95"
    known = sequences.until(EARLY)
    prepared = prepare(fitted.book, sequences)
    targets = targets_of(fitted.book, sequences, prepared, LATE)
    following = np.flatnonzero((sequences.sessions.end_us >= EARLY) & (targets.intent >= 0))
    vectors = vectors_of(fitted.learner, prepared, QUICK)[following]
    weight = fitted.learner.heads.intent.weight.detach().numpy()
    told = (vectors @ weight.T + fitted.learner.heads.intent.bias.detach().numpy()).argmax(1)
    usual = np.bincount(known.intent).argmax()
    right = (told == targets.intent[following]).mean()
    assert right > (usual == targets.intent[following]).mean() + 0.03


def test_onnx_gives_what_torch_gives(fitted: Fitted, sequences: Sequences) -> None:
    encoder = Encoder(fitted.files)
    some = first_customers(sequences, 200)
    states, last, after = encoder.replay(some.offsets, some.sessions)
    prepared = prepare(fitted.book, some)
    # Chunks shorter than most customers, so that states are taken over between them.
    for chunk in (3, 256):
        config = replace(QUICK, chunk_sessions=chunk)
        np.testing.assert_allclose(vectors_of(fitted.learner, prepared, config), after, atol=1e-5)
    np.testing.assert_array_equal(last, after[some.offsets[1:] - 1])
    assert {state.version for state in states} == {encoder.version}
    assert [state.sessions for state in states] == np.diff(some.offsets).tolist()


def test_an_update_is_a_recomputation(fitted: Fitted, sequences: Sequences) -> None:
    encoder = Encoder(fitted.files)
    busiest = int(np.diff(sequences.offsets).argmax())
    rows = np.arange(sequences.offsets[busiest], sequences.offsets[busiest + 1])
    whole = vectors_of(fitted.learner, prepare(fitted.book, sequences), QUICK)
    state = None
    for row in rows:
        state, vector = encoder.update(state, sequences.sessions.at(np.array([row])))
        np.testing.assert_allclose(vector, whole[row], atol=1e-5)


def test_the_same_result_twice(fitted: Fitted, sequences: Sequences) -> None:
    again = fit(sequences.until(EARLY), QUICK, EARLY)
    assert again.files == fitted.files
    assert [epoch.loss for epoch in again.curve] == [epoch.loss for epoch in fitted.curve]
    other = fit(sequences.until(EARLY), replace(QUICK, seed=8, epochs=1), EARLY)
    assert Encoder(other.files).version != Encoder(fitted.files).version


def test_a_warm_start_keeps_the_space_and_a_cold_one_does_not(
    fitted: Fitted, sequences: Sequences
) -> None:
    then, now = sequences.until(EARLY), sequences.until(LATE)
    warm = fit(now, QUICK, LATE, former=fitted.former)
    cold = fit(now, replace(QUICK, seed=8), LATE)
    # Who has had no session since has had nothing to change for.
    before = dict(zip(then.customer_id, last_vectors(fitted, then), strict=True))
    counts = dict(zip(then.customer_id, np.diff(then.offsets), strict=True))
    unchanged = [
        place
        for place, (name, count) in enumerate(
            zip(now.customer_id, np.diff(now.offsets), strict=True)
        )
        if counts.get(name) == count
    ]
    assert len(unchanged) > 50
    former = np.array([before[now.customer_id[place]] for place in unchanged])
    kept = np.median(cosines(last_vectors(warm, now)[unchanged], former))
    lost = np.median(cosines(last_vectors(cold, now)[unchanged], former))
    assert kept >= 0.9
    assert lost < 0.5
    assert Encoder(warm.files).version != Encoder(fitted.files).version
    assert warm.curve[-1].intent_loss < fitted.curve[-1].intent_loss


def test_new_names_begin_as_unknown_ones(fitted: Fitted) -> None:
    former = fitted.former
    count = len(former.book.pages) + FIRST_NAME
    book = fitted.book
    longer = type(book)(**{
        **{name: getattr(book, name) for name in book.__struct_fields__},
        "pages": (*book.pages, "new_page"),
    })  # fmt: skip
    weights = carried_over(former, longer, QUICK.shape(longer))
    table, before = weights["encoders.page_now.weight"], former.weights["encoders.page_now.weight"]
    assert table.shape[0] == count + 1
    np.testing.assert_array_equal(table[:count], before)
    np.testing.assert_array_equal(table[-1], before[0])
    with pytest.raises(ModelError, match="recurrent is 48"):
        carried_over(former, book, replace(QUICK, recurrent=48).shape(book))
    del former.weights["encoders.session_past.weight"]
    with pytest.raises(ModelError, match="of an older layout"):
        carried_over(former, book, QUICK.shape(book))


def test_without_the_financial_stream(sequences: Sequences) -> None:
    bare = replace(QUICK, snapshot=0, epochs=1)
    fitted = fit(sequences.until(EARLY), bare, EARLY)
    encoder = Encoder(fitted.files)
    some = first_customers(sequences, 200)
    richer = replace(
        some, sessions=replace(some.sessions, snapshot_balance=9 * some.sessions.snapshot_balance)
    )
    _, vectors, _ = encoder.replay(some.offsets, some.sessions)
    _, others, _ = encoder.replay(richer.offsets, richer.sessions)
    np.testing.assert_array_equal(vectors, others)
    np.testing.assert_allclose(vectors, last_vectors(fitted, some), atol=1e-5)
