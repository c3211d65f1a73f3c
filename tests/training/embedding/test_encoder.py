"""The encoder without torch: sessions of any kind, one at a time or all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH, CustomerState
from feature_repo.contracts.errors import DatasetError, ModelError
from feature_repo.scoring.embedding import Encoder
from feature_repo.scoring.embedding_inputs import session_inputs
from feature_repo.scoring.embedding_sessions import Names, SessionEvent, Sessions
from tests.training.embedding.made import (
    START_US,
    made_session,
    untrained_encoder,
    untrained_files,
)

ENCODER = untrained_encoder()


def one_by_one(sessions: list[Sessions]) -> tuple[CustomerState, np.ndarray]:
    state, vector = ENCODER.update(None, sessions[0])
    for session in sessions[1:]:
        # Through storage each time, as between two sessions.
        state = CustomerState.from_bytes(state.to_bytes(), ENCODER.version)
        state, vector = ENCODER.update(state, session)
    return state, vector


def test_an_update_needs_the_state_and_the_session_alone() -> None:
    histories = [
        [
            made_session(
                number, 1 + (customer + number) % 9, customer=customer, snapshots=number % 3
            )
            for number in range(1 + 5 * customer)
        ]
        for customer in range(6)
    ]
    together = Sessions.joined([session for history in histories for session in history])
    ends = np.cumsum([0, *map(len, histories)])
    states, vectors, after = ENCODER.replay(ends, together)
    for customer, history in enumerate(histories):
        state, vector = one_by_one(history)
        np.testing.assert_allclose(vector, vectors[customer], atol=1e-5)
        np.testing.assert_allclose(state.hidden, states[customer].hidden, atol=1e-5)
        assert replace(state, hidden=states[customer].hidden) == states[customer]
        assert state.sessions == len(history)
        assert state.snapshots == sum(number % 3 for number in range(len(history)))
    np.testing.assert_array_equal(after[ends[1:] - 1], vectors)


def test_a_vector_has_length_one_and_its_state_the_version() -> None:
    state, vector = ENCODER.update(None, made_session())
    assert vector.shape == (EMBEDDING_WIDTH,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert state.version == ENCODER.version
    assert (state.first_us, state.sessions) == (int(made_session().start_us[0]), 1)


def test_sessions_and_snapshots_both_move_the_vector() -> None:
    quiet, _ = ENCODER.update(None, made_session(0, snapshots=0))
    _, vector = ENCODER.update(quiet, made_session(1, snapshots=0))
    _, balanced = ENCODER.update(quiet, made_session(1, snapshots=1))
    _, longer = ENCODER.update(quiet, made_session(1, 9, snapshots=0))
    assert np.abs(vector - balanced).max() > 1e-3
    assert np.abs(vector - longer).max() > 1e-3


def test_a_session_of_ten_thousand_events() -> None:
    state, vector = ENCODER.update(None, made_session(events=10_000))
    assert np.isfinite(state.hidden).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    _, _, after = ENCODER.replay(np.array([0, 1]), made_session(events=10_000))
    np.testing.assert_allclose(vector, after[0], atol=1e-5)


def test_unknown_names_and_missing_values_have_codes() -> None:
    odd = Sessions.of(
        [
            SessionEvent(START_US, "teleport", "moon", None, "XX", "YY"),
            SessionEvent(START_US + 5, "login", None),
            SessionEvent(START_US + 9, "page_view", "home", 500.0, "GB", "NG"),
        ]
    )
    given = session_inputs(ENCODER.book, odd)
    assert given.codes[0].tolist() == [0, 0, 1, 1], "unknown, with nothing before"
    assert given.codes[1].tolist() == [2, 1, 0, 0], "no page, after the unknown"
    assert given.codes[2, 1] == 2
    assert given.corridor.tolist() == [0], "the first corridor that is named is unknown"
    _, vector = ENCODER.update(None, odd)
    assert np.isfinite(vector).all()
    bare = Sessions.of([SessionEvent(START_US, "login")])
    assert session_inputs(ENCODER.book, bare).corridor.tolist() == [1]
    assert np.isfinite(ENCODER.update(None, bare)[1]).all()
    # One unknown name is as unknown as another.
    other = replace(odd, page=Names(odd.page.codes, ("mars", "home")))
    np.testing.assert_array_equal(ENCODER.encode_session(odd), ENCODER.encode_session(other))


def test_a_stale_state_is_refused() -> None:
    stale, _ = untrained_encoder(2).update(None, made_session())
    with pytest.raises(ModelError, match="re-embed the customer"):
        ENCODER.update(stale, made_session(1))


def test_what_was_taken_in_is_not_taken_in_again() -> None:
    state, _ = ENCODER.update(None, made_session(3))
    for number in (2, 3):
        with pytest.raises(DatasetError, match="a session after what was taken in"):
            ENCODER.update(state, made_session(number))


def test_what_is_no_session_is_refused() -> None:
    with pytest.raises(DatasetError, match="an event or more"):
        Sessions.of([])
    two = Sessions.joined([made_session(0), made_session(1)])
    with pytest.raises(DatasetError, match="expected one; use update_many"):
        ENCODER.update(None, two)
    with pytest.raises(DatasetError, match="one a session, 2"):
        ENCODER.update_many([None], two)
    with pytest.raises(DatasetError, match="leave them out"):
        ENCODER.replay(np.array([0, 0, 2]), two)


def test_files_of_different_versions_do_not_fit(tmp_path: Path) -> None:
    files = untrained_files()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    loaded = Encoder.load(tmp_path)
    assert loaded.version == ENCODER.version != untrained_encoder(2).version
    np.testing.assert_array_equal(
        loaded.encode_session(made_session()), ENCODER.encode_session(made_session())
    )
    with pytest.raises(ModelError, match="an ONNX graph"):
        Encoder(files | {"session.onnx": b"no graph"})
    with pytest.raises(ModelError, match="keep the files of one version together"):
        Encoder(files | {"snapshot.onnx": files["customer.onnx"][:0] + files["session.onnx"]})
    (tmp_path / "snapshot.onnx").unlink()
    with pytest.raises(ModelError, match=r"snapshot\.onnx: expected a file"):
        Encoder.load(tmp_path)
    with pytest.raises(ModelError, match="a codebook"):
        Encoder(files | {"embedding.json": b"{}"})
