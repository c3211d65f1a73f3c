"""Writing ONNX graphs node by node: what a network does to a row, with no exporter of torch's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
_IR_VERSION = 10


class OnnxGraph:
    """Nodes and constants, named in order: equal networks give equal bytes.

    What `columns` and `column` read is the input `rows`, (n, width) float32; NaN where a value is
    missing. `made` names other inputs.
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []

    def node(self, kind: str, *given: str, out: str = "", **attributes: Any) -> str:
        """Add a node; the name of what it makes."""
        name = out or f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, given, [name], **attributes))
        return name

    def tensor(self, values: npt.NDArray[Any]) -> str:
        """Add a constant; its name."""
        name = f"t{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(values, name))
        return name

    def constant(self, value: float) -> str:
        """Add a number."""
        return self.tensor(np.array(value, np.float32))

    def columns(self, places: tuple[int, ...]) -> str:
        """Some columns of the input: (n, places)."""
        return self.node("Gather", "rows", self.tensor(np.array(places, np.int64)), axis=1)

    def column(self, place: int) -> str:
        """One column of the input: (n,)."""
        return self.node("Gather", "rows", self.tensor(np.array(place, np.int64)), axis=1)

    def number(self, flags: str) -> str:
        """Flags as 0 and 1."""
        return self.node("Cast", flags, to=TensorProto.FLOAT)

    def signed_log(self, numbers: str) -> str:
        """sign(x) log(1 + |x|), for amounts and counts over orders of magnitude."""
        size = self.node("Log", self.node("Add", self.node("Abs", numbers), self.constant(1.0)))
        return self.node("Mul", self.node("Sign", numbers), size)

    def layers(self, given: str, weights: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> str:
        """Linear layers with rectifiers between them; the last one stays linear."""
        layer = given
        for number, (weight, bias) in enumerate(weights):
            layer = self.node("Gemm", layer, self.tensor(weight), self.tensor(bias), transB=1)
            if number + 1 < len(weights):
                layer = self.node("Relu", layer)
        return layer

    def finished(self, width: int, output: str) -> bytes:
        """The graph that takes rows of `width` and gives `output`, (n,) float32."""
        return self.made({"rows": ("n", width)}, {output: ("n",)})

    def made(
        self,
        inputs: Mapping[str, tuple[str | int, ...]],
        outputs: Mapping[str, tuple[str | int, ...]],
        whole: Collection[str] = (),
    ) -> bytes:
        """The graph with these inputs and outputs, float32 by name and shape; `whole` are int64."""

        def values(named: Mapping[str, tuple[str | int, ...]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(
                    name, TensorProto.INT64 if name in whole else TensorProto.FLOAT, shape
                )
                for name, shape in named.items()
            ]

        graph = helper.make_graph(
            self._nodes, "network", values(inputs), values(outputs), self._tensors
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
        )
        return bytes(model.SerializeToString(deterministic=True))
