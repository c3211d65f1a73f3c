"""Small ONNX graphs for tests."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def row_sums(width: int, *, flat: bool = True) -> bytes:
    """A graph that adds up each row of (n, width), as (n,) or (n, 1); a missing value counts 0."""
    zero = numpy_helper.from_array(np.zeros(1, np.float32), "zero")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [
        helper.make_node("IsNaN", ["rows"], ["absent"]),
        helper.make_node("Where", ["absent", "zero", "rows"], ["known"]),
        helper.make_node("ReduceSum", ["known", "axes"], ["sums"], keepdims=int(not flat)),
    ]
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", width])
    shape = ["n"] if flat else ["n", 1]
    made = helper.make_tensor_value_info("sums", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "row_sums", [given], [made], [zero, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return bytes(model.SerializeToString())
