"""A version with a network, as plain MLflow runs it (`mlflow models predict`, `pyfunc`).

MLflow copies this file into the version and runs it from there (models from code, no pickle), so
nothing of this project is imported. What it is given: `model.lgb` with `anomaly.onnx`, whose output
is the trees' last column; or `model.onnx` alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Version(PythonModel):  # type: ignore[misc]
    """Raw scores of rows, as the golden rows have them."""

    def load_context(self, context: Any) -> None:
        """Load what the version was given."""
        files = {Path(path).name: path for path in context.artifacts.values()}
        self.trees = (
            lightgbm.Booster(model_file=files["model.lgb"]) if "model.lgb" in files else None
        )
        self.network = onnxruntime.InferenceSession(
            files["anomaly.onnx" if self.trees is not None else "model.onnx"],
            providers=["CPUExecutionProvider"],
        )

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """A score a row of a DataFrame whose columns are those of the signature."""
        del context, params
        rows = model_input.to_numpy(dtype=np.float64)
        name = self.network.get_inputs()[0].name
        (found,) = self.network.run(None, {name: rows.astype(np.float32)})
        if self.trees is None:
            return found.astype(np.float64)
        return self.trees.predict(np.column_stack([rows, found]))


set_model(Version())
