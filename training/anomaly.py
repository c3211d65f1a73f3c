"""How far a row is from normal traffic: an autoencoder over a model's own matrix, as ONNX.

The network sees the numeric columns, on a logarithmic scale (amounts and counts span orders of
magnitude); categories are left to the trees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from feature_repo.contracts.errors import DatasetError
from feature_repo.contracts.model_inputs import ModelInputs
from feature_repo.scoring.network import Network
from training.autoencoder import Autoencoder, AutoencoderConfig, fit_autoencoder
from training.evaluation.metrics import Floats
from training.onnx_graph import OnnxGraph


@dataclass(frozen=True)
class AnomalyConfig(AutoencoderConfig):
    """The autoencoder, and whom it learns from.

    `customers_share` of the customers of the training part: the network learns from their normal
    rows, and trees that are fed its error from the others' rows. Rows that it was trained on have
    smaller errors than others; trees would take that for a sign.
    """

    customers_share: float = 0.1


def fit_anomaly(matrix: Floats, inputs: ModelInputs, config: AnomalyConfig) -> Network:
    """Learn what normal rows look like.

    Args:
        matrix: (n, width) normal rows of the model's matrix, NaN where a value is missing.
        inputs: say which columns are categories.

    Returns:
        A network from rows (n, width) to their mean squared reconstruction error, (n,): 0 or more,
        in squared standard deviations of the training rows; higher is stranger.

    Raises:
        DatasetError: no rows, infinite ones, or no numeric column.
    """
    categorical = set(inputs.categorical)
    numeric = tuple(n for n, name in enumerate(inputs.columns) if name not in categorical)
    if not numeric:
        raise DatasetError("inputs", inputs.columns, "at least one number", "give it some")
    chosen = matrix[:, numeric]
    return Network(
        _exported(
            fit_autoencoder(np.sign(chosen) * np.log1p(np.abs(chosen)), config),
            numeric,
            inputs.width,
        )
    )


def _exported(fitted: Autoencoder, places: tuple[int, ...], width: int) -> bytes:
    weights = {name: tensor.numpy() for name, tensor in fitted.module.state_dict().items()}
    graph = OnnxGraph()
    logs = graph.signed_log(graph.columns(places))
    centred = graph.node("Sub", logs, graph.tensor(weights["mean"]))
    standard = graph.node("Div", centred, graph.tensor(weights["spread"]))
    known = graph.node("Where", graph.node("IsNaN", standard), graph.constant(0.0), standard)
    clip = fitted.config.clip
    bounded = graph.node("Clip", known, graph.constant(-clip), graph.constant(clip))
    repeated = graph.layers(bounded, list(_layers(weights)))
    apart = graph.node("Sub", repeated, bounded)
    squared = graph.node("Mul", apart, apart)
    graph.node("ReduceMean", squared, out="anomaly", axes=[1], keepdims=0)
    return graph.finished(width, "anomaly")


def _layers(weights: dict[str, Floats]) -> Iterator[tuple[Floats, Floats]]:
    number = 0
    while f"network.{number}.weight" in weights:
        yield weights[f"network.{number}.weight"], weights[f"network.{number}.bias"]
        number += 2  # a rectifier between two layers
