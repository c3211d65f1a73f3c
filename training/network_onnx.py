"""A streamed network as one ONNX graph: the matrix row that trees get in, the score out.

Written node by node: the graph holds what the network does to a row and nothing else, and needs no
exporter of torch's. Standardisation, embeddings and the target's scale are inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from training.streamed_network import StreamedNetwork

OPSET = 17


def to_onnx(learner: StreamedNetwork) -> bytes:
    """Export what predicts.

    Returns:
        A graph with the input `rows`, (n, width) float32, NaN where a value is missing and codes
        where it is a category, and the output `scores`, (n,) float32.
    """
    graph = _Graph()
    columns, config, module = learner.columns, learner.config, learner.module
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    zero, one = graph.constant(0.0), graph.constant(1.0)
    parts = []
    if columns.numeric:
        numbers = graph.columns(columns.numeric)
        absent = graph.node("IsNaN", numbers)
        size = graph.node("Log", graph.node("Add", graph.node("Abs", numbers), one))
        logs = graph.node("Mul", graph.node("Sign", numbers), size)
        centred = graph.node("Sub", logs, graph.tensor(weights["mean"]))
        standard = graph.node("Div", centred, graph.tensor(weights["spread"]))
        known = graph.node("Where", absent, zero, standard)
        bounds = graph.constant(-config.clip), graph.constant(config.clip)
        parts += [graph.node("Clip", known, *bounds), graph.number(absent)]
    if columns.periodic:
        numbers = graph.columns(tuple(columns.periodic))
        absent = graph.node("IsNaN", numbers)
        turn = graph.tensor(weights["turn"])
        angle = graph.node("Mul", graph.node("Where", absent, zero, numbers), turn)
        there = graph.node("Sub", one, graph.number(absent))
        parts += [graph.node("Mul", graph.node(name, angle), there) for name in ("Sin", "Cos")]
        parts.append(graph.number(absent))
    most = graph.constant(float(config.most_categories))
    for number, place in enumerate(columns.categorical):
        code = graph.node("Add", graph.column(place), one)
        # A missing value is neither: comparing it gives false.
        seen = graph.node(
            "And", graph.node("GreaterOrEqual", code, one), graph.node("LessOrEqual", code, most)
        )
        row = graph.node("Cast", graph.node("Where", seen, code, zero), to=TensorProto.INT64)
        table = graph.tensor(weights[f"embeddings.{number}.weight"])
        parts.append(graph.node("Gather", table, row, axis=0))
    layer = graph.node("Concat", *parts, axis=1)
    for number in range(len(config.hidden) + 1):
        weight, bias = (weights[f"network.{2 * number}.{part}"] for part in ("weight", "bias"))
        layer = graph.node("Gemm", layer, graph.tensor(weight), graph.tensor(bias), transB=1)
        if number < len(config.hidden):
            layer = graph.node("Relu", layer)
    flat = graph.node("Squeeze", layer, graph.tensor(np.array([1], np.int64)))
    scaled = graph.node("Mul", flat, graph.tensor(weights["target_spread"]))
    graph.node("Add", scaled, graph.tensor(weights["target_mean"]), out="scores")
    return graph.finished(columns.width)


class _Graph:
    """Nodes and constants, named in order: equal networks give equal bytes."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []

    def node(self, kind: str, *given: str, out: str = "", **attributes: Any) -> str:
        name = out or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, given, [name], **attributes))
        return name

    def tensor(self, values: npt.NDArray[Any]) -> str:
        name = f"t{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, value: float) -> str:
        return self.tensor(np.array(value, np.float32))

    def columns(self, places: tuple[int, ...]) -> str:
        return self.node("Gather", "rows", self.tensor(np.array(places, np.int64)), axis=1)

    def column(self, place: int) -> str:
        return self.node("Gather", "rows", self.tensor(np.array(place, np.int64)), axis=1)

    def number(self, flags: str) -> str:
        return self.node("Cast", flags, to=TensorProto.FLOAT)

    def finished(self, width: int) -> bytes:
        given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", width])
        made = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"])
        graph = helper.make_graph(self._nodes, "network", [given], [made], self._tensors)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10
        )
        return bytes(model.SerializeToString(deterministic=True))
