"""The encoders as ONNX, written node by node from their weights: no torch here, nor where it runs.

What the graphs are fed is `feature_repo.scoring.embedding_inputs`'s; what runs them is
`feature_repo.scoring.embedding`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from feature_repo.contracts.embeddings import (
    CODEBOOK_FILE,
    CUSTOMER_FILE,
    EMBEDDING_WIDTH,
    SESSION_FILE,
    SNAPSHOT_FILE,
)
from feature_repo.scoring.embedding_inputs import (
    EVENT_NUMBERS,
    SESSION_NUMBERS,
    SNAPSHOT_NUMBERS,
    TIME_NUMBERS,
    Codebook,
)
from training.embedding.shape import Shape
from training.onnx_graph import OnnxGraph

Weights = Mapping[str, npt.NDArray[Any]]
# Below any vector that a network makes: a division by zero is all that it prevents.
_LEAST_LENGTH = 1e-12


def encoder_files(weights: Weights, shape: Shape, book: Codebook) -> dict[str, bytes]:
    """The files of an embedding version; its version is the hash of what they hold.

    Args:
        weights: by name, as in torch's state of `network.Encoders`.
        book: any version; it gets that of the files.
    """
    files = {
        SESSION_FILE: _session(weights, shape),
        SNAPSHOT_FILE: _snapshot(weights, shape),
        CUSTOMER_FILE: _customer(weights, shape),
    }
    book = msgspec.structs.replace(
        book,
        version="",
        hidden=shape.hidden,
        session=shape.session,
        decays_days=shape.decays_days,
    )
    whole = hashlib.sha256(b"".join([*files.values(), book.to_json()])).hexdigest()
    return files | {CODEBOOK_FILE: msgspec.structs.replace(book, version=whole[:16]).to_json()}


class _Written:
    """A graph under way: linear layers and slices by name."""

    def __init__(self, weights: Weights) -> None:
        self.graph = OnnxGraph()
        self._weights = weights

    def tensor(self, name: str) -> str:
        return self.graph.tensor(np.ascontiguousarray(self._weights[name], dtype=np.float32))

    def linear(self, given: str, name: str) -> str:
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return self.graph.node("Gemm", given, weight, bias, transB=1)

    def table(self, name: str, codes: str) -> str:
        return self.graph.node("Gather", self.tensor(f"{name}.weight"), codes, axis=0)

    def columns(self, given: str, first: int, last: int) -> str:
        cuts = [self.graph.tensor(np.array([at], np.int64)) for at in (first, last, 1)]
        return self.graph.node("Slice", given, *cuts)

    def joined(self, *parts: str, out: str = "") -> str:
        return self.graph.node("Concat", *parts, axis=1, out=out)

    def gated(self, given: str, before: str, name: str, width: int) -> str:
        """One step of torch's GRU: reset, update and new, in this order."""
        graph = self.graph
        sides = [
            graph.node(
                "Gemm", rows, self.tensor(f"{name}.weight_{side}_l0"),
                self.tensor(f"{name}.bias_{side}_l0"), transB=1,
            )
            for rows, side in ((given, "ih"), (before, "hh"))
        ]  # fmt: skip
        cut = [
            [self.columns(side, at * width, (at + 1) * width) for at in range(3)] for side in sides
        ]
        reset, update = (
            graph.node("Sigmoid", graph.node("Add", cut[0][at], cut[1][at])) for at in (0, 1)
        )
        new = graph.node("Tanh", graph.node("Add", cut[0][2], graph.node("Mul", reset, cut[1][2])))
        apart = graph.node("Mul", update, graph.node("Sub", before, new))
        return graph.node("Add", new, apart)


def _session(weights: Weights, shape: Shape) -> bytes:
    made = _Written(weights)
    graph = made.graph

    def code(place: int) -> str:
        return graph.node("Gather", "codes", graph.tensor(np.array(place, np.int64)), axis=1)

    tables = ("type_now", "page_now", "type_before", "page_before")
    events = made.linear("numbers", "event_numbers")
    for place, table in enumerate(tables):
        events = graph.node("Add", events, made.table(table, code(place)))
    events = graph.node("Relu", events)
    count = graph.node("Shape", "corridor")
    width = graph.tensor(np.array([shape.event], np.int64))
    nothing = graph.node("Expand", graph.constant(0.0), graph.node("Concat", count, width, axis=0))
    pooled = graph.node("ScatterND", nothing, "segment", events, reduction="add")
    logs = graph.node("Log", graph.node("Add", pooled, graph.constant(1.0)))
    given = made.joined(logs, "session_numbers", made.table("corridor", "corridor"))
    inner = graph.node("Relu", made.linear(given, "session_in"))
    graph.node(
        "Gemm", inner, made.tensor("session_out.weight"), made.tensor("session_out.bias"),
        transB=1, out="session",
    )  # fmt: skip
    return graph.made(
        {
            "codes": ("e", 4),
            "numbers": ("e", EVENT_NUMBERS),
            "segment": ("e", 1),
            "session_numbers": ("n", SESSION_NUMBERS),
            "corridor": ("n",),
        },
        {"session": ("n", shape.session)},
        whole=("codes", "segment", "corridor"),
    )


def _snapshot(weights: Weights, shape: Shape) -> bytes:
    made = _Written(weights)
    if shape.snapshot:
        _, _, third, last = shape.cuts
        before = made.columns("state", third, last)
        after = made.gated("snapshot", before, "snapshots", shape.snapshot)
        made.joined(made.columns("state", 0, third), after, out="next")
    else:
        made.graph.node("Identity", "state", out="next")
    return made.graph.made(
        {"state": ("n", shape.hidden), "snapshot": ("n", SNAPSHOT_NUMBERS)},
        {"next": ("n", shape.hidden)},
    )


def _customer(weights: Weights, shape: Shape) -> bytes:
    made = _Written(weights)
    graph = made.graph
    first, second, third, last = shape.cuts
    told = made.joined("session", "times")
    recurrent = made.gated(told, made.columns("state", 0, first), "recurrence", shape.recurrent)
    given = graph.node("Tanh", made.linear(told, "mean_in"))
    rate = (-1.0 / np.array(shape.decays_days)).astype(np.float32)[None]
    kept = graph.node("Exp", graph.node("Mul", "elapsed", graph.tensor(rate)))
    former = graph.node("Mul", made.columns("state", second, third), kept)
    weight = graph.node("Add", former, graph.constant(1.0))
    means = []
    for place in range(len(shape.decays_days)):
        at = first + place * shape.mean
        before = made.columns("state", at, at + shape.mean)
        share = made.columns(weight, place, place + 1)
        moved = graph.node("Div", graph.node("Sub", given, before), share)
        means.append(graph.node("Add", before, moved))
    parts = [recurrent, *means]
    shots = [made.columns("state", third, last)] if shape.snapshot else []
    often = graph.node("Log", weight)
    joint = made.joined(*parts, often, given, "session", *shots, "times")
    joined = graph.node("Relu", made.linear(joint, "joined_in"))
    past = graph.node("Gemm", "session", made.tensor("session_past.weight"), transB=1)
    raw = graph.node("Add", made.linear(joined, "joined_out"), past)
    length = graph.node("ReduceL2", raw, axes=[1], keepdims=1)
    least = graph.node("Max", length, graph.constant(_LEAST_LENGTH))
    made.joined(*parts, weight, *shots, out="next")
    graph.node("Div", raw, least, out="vector")
    return graph.made(
        {
            "state": ("n", shape.hidden),
            "session": ("n", shape.session),
            "times": ("n", TIME_NUMBERS),
            "elapsed": ("n", 1),
        },
        {"next": ("n", shape.hidden), "vector": ("n", EMBEDDING_WIDTH)},
    )
