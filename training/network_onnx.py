"""A streamed network as one ONNX graph: the matrix row that trees get in, the score out.

Written node by node: the graph holds what the network does to a row and nothing else, and needs no
exporter of torch's. Standardisation, embeddings and the target's scale are inside.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from training.onnx_graph import OnnxGraph
from training.streamed_network import StreamedNetwork


def to_onnx(learner: StreamedNetwork) -> bytes:
    """Export what predicts.

    Returns:
        A graph with the input `rows`, (n, width) float32, NaN where a value is missing and codes
        where it is a category, and the output `scores`, (n,) float32.
    """
    graph = OnnxGraph()
    columns, config, module = learner.columns, learner.config, learner.module
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    zero, one = graph.constant(0.0), graph.constant(1.0)
    parts = []
    if columns.numeric:
        numbers = graph.columns(columns.numeric)
        absent = graph.node("IsNaN", numbers)
        centred = graph.node("Sub", graph.signed_log(numbers), graph.tensor(weights["mean"]))
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
    layers = [
        (weights[f"network.{2 * number}.weight"], weights[f"network.{2 * number}.bias"])
        for number in range(len(config.hidden) + 1)
    ]
    layer = graph.layers(graph.node("Concat", *parts, axis=1), layers)
    flat = graph.node("Squeeze", layer, graph.tensor(np.array([1], np.int64)))
    scaled = graph.node("Mul", flat, graph.tensor(weights["target_spread"]))
    graph.node("Add", scaled, graph.tensor(weights["target_mean"]), out="scores")
    return graph.finished(columns.width, "scores")
