"""A neural network as ONNX, run where torch is not: from rows of numbers to rows of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError

Floats = npt.NDArray[np.float64]


class Network:
    """An ONNX graph with one input (n, width), float32, and one output (n,) or (n, m).

    Safe between threads; one thread computes a call.

    Args:
        raw: the graph, as exported.

    Raises:
        ModelError: it is no ONNX graph, or has other inputs or outputs.
    """

    def __init__(self, raw: bytes) -> None:
        # Takes 0.2 s to import: only what runs a network pays for it.
        import onnxruntime  # noqa: PLC0415

        self.raw = raw
        options = onnxruntime.SessionOptions()
        # Requests are short, and threads would fight over the cores; sums keep their order.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(
                raw, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own types differ by cause and version
            reason = str(error).splitlines()[0]
            raise ModelError(
                "network", f"{len(raw)} bytes", "an ONNX graph", f"export it again: {reason}"
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = [each.shape for each in inputs]
        if len(inputs) != 1 or len(outputs) != 1 or len(shapes[0]) != 2:
            raise ModelError(
                "network",
                f"inputs {shapes}, {len(outputs)} outputs",
                "one input of shape (rows, width) and one output",
                "export it again",
            )
        self._input: str = inputs[0].name
        self.width = int(shapes[0][1])

    def __call__(self, rows: Floats) -> Floats:
        """The outputs of rows (n, width), NaN where a value is missing: (n,), or (n, m) for
        m > 1."""
        (found,) = self._session.run(None, {self._input: np.asarray(rows, dtype=np.float32)})
        outputs = np.asarray(found, dtype=np.float64)
        return outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs
