"""What does not look like normal traffic: the error with which a narrow network repeats its input.

Standardise, encode through a bottleneck, decode with a *linear* output (a rectified one cannot give
back values below the mean), mean squared error a row. All four steps are one module, so that it
can be exported whole. torch is imported when a network is made, not when this module is.

Source: Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science
2006; for card fraud, Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud
Detection, 2022, ch. 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import DatasetError

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]

# Rows judged at once: keeps the layers' outputs in tens of megabytes.
_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class AutoencoderConfig:
    """The network and its training.

    `hidden` are the encoder's layers, the narrowest last; the decoder mirrors them. `clip` bounds
    standardised values, in standard deviations: without it one odd amount steers a whole batch.
    Threads change sums in the last bits: equal results need equal `threads`.
    """

    hidden: tuple[int, ...] = (64, 16)
    clip: float = 20.0
    epochs: int = 20
    batch_rows: int = 512
    learning_rate: float = 1e-3
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True)
class Autoencoder:
    """A fitted network; `module` takes float32 rows (n, inputs) and gives their errors, (n,)."""

    module: torch.nn.Module
    config: AutoencoderConfig

    def error(self, rows: Floats) -> Floats:
        """Mean squared reconstruction error of each row, in squared standard deviations.

        Args:
            rows: (n, inputs), the inputs in the order of training. A missing value (NaN) counts as
                the training rows' mean.

        Returns:
            (n,), zero or more; higher is stranger.
        """
        import torch  # noqa: PLC0415 - an extra: training without it must go on working

        with torch.inference_mode(), _threads(self.config.threads):
            parts = [
                self.module(torch.from_numpy(rows[at : at + _ROWS_AT_ONCE].astype(np.float32)))
                for at in range(0, len(rows), _ROWS_AT_ONCE)
            ]
        return np.concatenate([part.numpy() for part in parts]).astype(np.float64)


def fit_autoencoder(normal: Floats, config: AutoencoderConfig = AutoencoderConfig()) -> Autoencoder:
    """Learn to repeat normal rows.

    Trap: what is normal has to be chosen by the caller, with labels known at that time only; frauds
    among the rows teach the network to repeat frauds.

    Args:
        normal: (n, inputs); NaN where a value is missing.

    Raises:
        DatasetError: no rows, or an input that is infinite.
    """
    import torch  # noqa: PLC0415

    if len(normal) == 0 or np.isinf(normal).any():
        raise DatasetError(
            "rows of the autoencoder",
            "none" if len(normal) == 0 else "infinite values",
            "finite rows of normal traffic",
            "widen the window, or mend the inputs",
        )
    with torch.random.fork_rng(devices=[]), _threads(config.threads):
        torch.manual_seed(config.seed)
        module = _module(normal, config)
        rows = torch.from_numpy(normal.astype(np.float32))
        optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate)
        for _ in range(config.epochs):
            for batch in torch.split(torch.randperm(len(rows)), config.batch_rows):
                optimizer.zero_grad()
                module(rows[batch]).mean().backward()
                optimizer.step()
    return Autoencoder(module.eval(), config)


def _module(normal: Floats, config: AutoencoderConfig) -> torch.nn.Module:
    import torch  # noqa: PLC0415

    known = ~np.isnan(normal)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, normal, 0.0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (normal - mean) ** 2, 0.0).sum(axis=0) / count)
    spread[spread == 0.0] = 1.0  # a constant input: only what differs from it has an error
    wide = [normal.shape[1], *config.hidden]
    layers: list[torch.nn.Module] = []
    for before, after in pairwise(wide + wide[-2::-1]):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])  # the output stays linear

    class ReconstructionError(torch.nn.Module):
        mean: torch.Tensor
        spread: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("mean", torch.from_numpy(mean.astype(np.float32)))
            self.register_buffer("spread", torch.from_numpy(spread.astype(np.float32)))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            standard = (rows - self.mean) / self.spread
            standard = torch.where(torch.isnan(standard), torch.zeros_like(standard), standard)
            standard = standard.clamp(-config.clip, config.clip)
            repeated: torch.Tensor = self.network(standard)
            return ((repeated - standard) ** 2).mean(dim=1)

    return ReconstructionError()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch with so many threads; as before afterwards."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
