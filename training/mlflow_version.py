"""A version as plain MLflow runs it (`mlflow models predict`, `pyfunc`), if more than trees.

MLflow copies this file into the version and runs it from there (models from code, no pickle), so
nothing of this project is imported. What it is given: `model.lgb`, perhaps with `anomaly.onnx`,
whose output is the trees' last column; or `model.onnx` alone. With `one_version.json`, rows that
carry another embedding version than the model was trained on are rows without an embedding, as
`feature_repo.scoring.one_version` has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
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
        self.network = _session(files.get("anomaly.onnx", files.get("model.onnx")))
        guard = files.get("one_version.json")
        self.guard = None if guard is None else json.loads(Path(guard).read_text())

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """A score a row of a DataFrame whose columns are those of the signature."""
        del context, params
        rows = model_input.to_numpy(dtype=np.float64, copy=True)
        if self.guard is not None:
            without = rows[:, self.guard["column"]] != self.guard["only"]
            rows[without, self.guard["first"] : self.guard["last"]] = np.nan
        if self.trees is not None and self.network is None:
            return self.trees.predict(rows)
        name = self.network.get_inputs()[0].name
        (found,) = self.network.run(None, {name: rows.astype(np.float32)})
        if self.trees is None:
            return found.astype(np.float64)
        return self.trees.predict(np.column_stack([rows, found]))


def _session(path: str | None) -> Any:
    if path is None:
        return None
    import onnxruntime  # noqa: PLC0415 - a version without a network does not ask for it

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


set_model(Version())
