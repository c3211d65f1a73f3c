"""Encoders that nobody trained, and sessions that nobody had: for tests without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.embeddings import EMBEDDING_WIDTH
from feature_repo.contracts.events import EVENT_TYPES
from feature_repo.scoring.embedding import Encoder
from feature_repo.scoring.embedding_inputs import (
    EVENT_NUMBERS,
    MOMENTS,
    SESSION_NUMBERS,
    SNAPSHOT_NUMBERS,
    TIME_NUMBERS,
    Codebook,
)
from feature_repo.scoring.embedding_sessions import SessionEvent, Sessions
from training.embedding.onnx_files import encoder_files
from training.embedding.shape import Shape, codes_of

PAGES = ("home", "login", "send_amount", "tracking")
START_US = 1_748_822_400_000_000  # a Monday
HOUR_US = 3_600_000_000


def book() -> Codebook:
    """A codebook with moments that are about right for the simulator."""
    return Codebook(
        version="",
        types=tuple(map(str, EVENT_TYPES)),
        pages=PAGES,
        corridors=("GB-NG", "US-MX"),
        moments=dict.fromkeys(MOMENTS, (3.0, 2.0)),
        hours={"": 12.0, "GB": 15.0, "US": 20.0},
        hidden=0,
        session=0,
    )


def shape() -> Shape:
    """A small network."""
    types, pages, corridors = codes_of(book())
    return Shape(
        types, pages, corridors, event=16, session=12, corridor=4, recurrent=20, mean=6,
        decays_days=(2.0, 10.0, 36_500.0), snapshot=8, joined=24,
    )  # fmt: skip


def untrained_weights(seed: int = 1) -> dict[str, npt.NDArray[np.float32]]:
    """Random weights, by the names that torch gives them."""
    rng, size = np.random.default_rng(seed), shape()
    told = size.session + TIME_NUMBERS
    layers = {
        "event_numbers": (size.event, EVENT_NUMBERS),
        "session_in": (2 * size.session, size.event + SESSION_NUMBERS + size.corridor),
        "session_out": (size.session, 2 * size.session),
        "mean_in": (size.mean, told),
        "joined_in": (size.joined, size.joint + TIME_NUMBERS),
        "joined_out": (EMBEDDING_WIDTH, size.joined),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "type_now.weight": (size.types, size.event),
        "type_before.weight": (size.types, size.event),
        "page_now.weight": (size.pages, size.event),
        "page_before.weight": (size.pages, size.event),
        "corridor.weight": (size.corridors, size.corridor),
    }
    shapes["session_past.weight"] = (EMBEDDING_WIDTH, size.session)
    for name, (out, into) in layers.items():
        shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    for name, into, width in (
        ("recurrence", told, size.recurrent),
        ("snapshots", SNAPSHOT_NUMBERS, size.snapshot),
    ):
        shapes |= {
            f"{name}.weight_ih_l0": (3 * width, into),
            f"{name}.weight_hh_l0": (3 * width, width),
            f"{name}.bias_ih_l0": (3 * width,),
            f"{name}.bias_hh_l0": (3 * width,),
        }
    return {
        name: rng.normal(0, 1 / np.sqrt(wide[-1]), wide).astype(np.float32)
        for name, wide in shapes.items()
    }


def untrained_files(seed: int = 1) -> dict[str, bytes]:
    """The files of an embedding version that nobody trained."""
    return encoder_files(untrained_weights(seed), shape(), book())


def untrained_encoder(seed: int = 1) -> Encoder:
    """An embedding version that nobody trained; another seed is another version."""
    return Encoder(untrained_files(seed))


def made_session(
    number: int = 0, events: int = 6, *, seed: int = 1, snapshots: int = 1, customer: int = 0
) -> Sessions:
    """A customer's `number`-th session, 30 hours after the one before."""
    rng = np.random.default_rng([seed, customer, number])
    start = START_US + customer * HOUR_US + number * 30 * HOUR_US
    times = start + np.cumsum(rng.integers(0, 40_000_000, events))
    rows = [
        SessionEvent(
            int(time),
            str(EVENT_TYPES[rng.integers(0, 6)]),
            PAGES[rng.integers(0, 4)],
            float(rng.integers(1_000, 90_000)) if rng.random() < 0.4 else None,
            "GB",
            "NG",
        )
        for time in times
    ]
    shots = [
        (int(times[0]) + shot, float(rng.integers(-500, 500_000))) for shot in range(snapshots)
    ]
    return Sessions.of(rows, shots)
