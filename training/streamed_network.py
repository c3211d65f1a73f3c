"""A small network that learns from micro-batches while it predicts, and can be exported whole.

Everything it does to a row is one torch module: signed logarithms of long-tailed numbers, the
circle for what is periodic, standardisation by running statistics of what has been learnt from,
embeddings of categories, two hidden layers, a linear output on the target's running scale. torch is
imported when a network is made, not when this module is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from feature_repo.contracts.errors import ModelError

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]

_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class NetworkConfig:
    """The network and how it learns.

    Attributes:
        hidden: widths of the hidden layers, at least one.
        embedding: width of a category's embedding.
        most_categories: embeddings an input has; what is first seen after so many is unknown.
        steps: of Adam a micro-batch, each on it and on `replayed` sessions of before.
        replay_rows: sessions of before that are kept, a uniform sample of all.
        learning_rate, weight_decay: of AdamW.
        averaging: predictions come from weights averaged over steps with this decay (Polyak).
        clip: of standardised numbers, in standard deviations.
        seed: of everything random.
        threads: change sums in the last bits: equal results need equal ones.
    """

    hidden: tuple[int, ...]
    embedding: int
    most_categories: int
    steps: int
    replayed: int
    replay_rows: int
    learning_rate: float
    weight_decay: float
    averaging: float
    clip: float
    seed: int
    threads: int

    def __post_init__(self) -> None:
        counts = (*self.hidden, self.embedding, self.most_categories, self.steps, self.threads)
        if not self.hidden or min(counts) < 1:
            raise ValueError(
                "hidden layers, embeddings, categories, steps and threads of 1 or more"
            )
        if min(self.replayed, self.replay_rows) < 0 or not 0 <= self.averaging < 1:
            raise ValueError("replayed and replay_rows of 0 or more, and averaging in 0..1")
        if not self.learning_rate > 0 or not self.clip > 0:
            raise ValueError("a learning_rate and a clip above 0")


@dataclass(frozen=True)
class Columns:
    """What the columns of a row are.

    Attributes:
        width: how many.
        categorical: places of codes (0, 1, ...).
        periodic: place -> period, such as 24 for an hour.
    """

    width: int
    categorical: tuple[int, ...] = ()
    periodic: Mapping[int, float] = field(default_factory=dict)

    @property
    def numeric(self) -> tuple[int, ...]:
        """Places of all others."""
        return tuple(
            place
            for place in range(self.width)
            if place not in self.categorical and place not in self.periodic
        )


class StreamedNetwork:
    """A learner (`training.prequential.Learner`) of rows in which NaN is missing.

    Raises:
        ModelError: torch is not installed.
    """

    def __init__(self, columns: Columns, config: NetworkConfig) -> None:
        try:
            import torch  # noqa: PLC0415 - an extra: training without it must go on working
        except ModuleNotFoundError as error:
            raise ModelError(
                "torch", expected="the extra that networks are trained with",
                action="install it: pip install 'daima[torch]'",
            ) from error  # fmt: skip
        self.columns = columns
        self.config = config
        self._rng = np.random.default_rng(config.seed)
        self._moments = _Moments(len(columns.numeric))
        self._target = _Moments(1)
        self._kept = np.zeros((0, columns.width + 1))
        self._seen = 0
        self._steps = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._learning: Any = _module(columns, config)
        # Predicts, and is what is exported.
        self.module: Any = deepcopy(self._learning).eval()
        self._optimizer = torch.optim.AdamW(
            self._learning.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )

    def predict(self, rows: Floats) -> Floats:
        """Scores of (n, width) rows: (n,); 0 before anything was learnt."""
        import torch  # noqa: PLC0415

        if not self._seen:
            return np.zeros(len(rows))
        with torch.inference_mode(), threads(self.config.threads):
            parts = [
                self.module(torch.from_numpy(rows[at : at + _ROWS_AT_ONCE]))
                for at in range(0, len(rows), _ROWS_AT_ONCE)
            ]
        return np.concatenate([part.numpy() for part in parts]).astype(np.float64)

    def learn(self, rows: Floats, target: Floats) -> None:
        """Some steps on the rows and on a sample of those of before."""
        import torch  # noqa: PLC0415

        config = self.config
        self._moments.add(_signed_log(rows[:, list(self.columns.numeric)]))
        self._target.add(target[:, None])
        for module in (self._learning, self.module):
            module.standardise(self._moments, self._target)
        new = np.c_[rows, target]
        with threads(config.threads):
            for _ in range(config.steps):
                before = self._kept[:0]
                if len(self._kept):
                    before = self._kept[self._rng.integers(0, len(self._kept), config.replayed)]
                batch = torch.from_numpy(np.concatenate([new, before]))
                self._optimizer.zero_grad()
                missed = self._learning(batch[:, :-1]) - batch[:, -1].float()
                # On the scale of the standardised target: steps are as long for any unit.
                loss = (missed / self._learning.target_spread).square().mean()
                loss.backward()
                self._optimizer.step()
                self._average()
        self._keep(new)

    def _average(self) -> None:
        import torch  # noqa: PLC0415

        self._steps += 1
        # At first the average is that of all steps: the random start weighs nothing.
        share = max(1.0 / self._steps, 1.0 - self.config.averaging)
        with torch.no_grad():
            for mean, now in zip(
                self.module.parameters(), self._learning.parameters(), strict=True
            ):
                mean.lerp_(now, share)

    def _keep(self, new: Floats) -> None:
        """Vitter's reservoir: a uniform sample of all rows learnt from."""
        room = max(self.config.replay_rows - len(self._kept), 0)
        self._kept = np.concatenate([self._kept, new[:room]])
        numbers = np.arange(self._seen + len(new[:room]), self._seen + len(new))
        places = self._rng.integers(0, numbers + 1)
        chosen = places < self.config.replay_rows
        self._kept[places[chosen]] = new[room:][chosen]
        self._seen += len(new)


class _Moments:
    """Running mean and spread of columns, missing values left out (Chan, Golub and LeVeque)."""

    def __init__(self, width: int) -> None:
        self._count = np.zeros(width)
        self.mean = np.zeros(width)
        self._squares = np.zeros(width)

    @property
    def spread(self) -> Floats:
        """Standard deviations; 1 for a column that has been constant so far."""
        spread = np.sqrt(self._squares / np.maximum(self._count, 1.0))
        return np.where(spread > 1e-6, spread, 1.0)

    def add(self, rows: Floats) -> None:
        """Take in (n, width) rows."""
        there = ~np.isnan(rows)
        count = there.sum(axis=0)
        total = self._count + count
        mean = np.where(there, rows, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.where(there, (rows - mean) ** 2, 0.0).sum(axis=0)
        apart = mean - self.mean
        share = count / np.maximum(total, 1.0)
        self._squares += squares + apart**2 * self._count * share
        self.mean = self.mean + apart * share
        self._count = total


def _signed_log(rows: Floats) -> Floats:
    return np.asarray(np.sign(rows) * np.log1p(np.abs(rows)))


def _module(columns: Columns, config: NetworkConfig) -> torch.nn.Module:
    import torch  # noqa: PLC0415

    class Network(torch.nn.Module):
        mean: torch.Tensor
        spread: torch.Tensor
        turn: torch.Tensor
        target_mean: torch.Tensor
        target_spread: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            numeric, periodic = len(columns.numeric), len(columns.periodic)
            # Zeros: a category that is first seen says as much as an unknown one, nothing.
            rows, wide = config.most_categories + 1, config.embedding
            self.embeddings = torch.nn.ModuleList(
                torch.nn.Embedding(rows, wide, _weight=torch.zeros(rows, wide))
                for _ in columns.categorical
            )
            width = 2 * numeric + 3 * periodic + config.embedding * len(columns.categorical)
            layers: list[torch.nn.Module] = []
            for before, after in pairwise([width, *config.hidden]):
                layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
            self.network = torch.nn.Sequential(*layers, torch.nn.Linear(config.hidden[-1], 1))
            self.register_buffer("mean", torch.zeros(numeric))
            self.register_buffer("spread", torch.ones(numeric))
            self.register_buffer("target_mean", torch.zeros(1))
            self.register_buffer("target_spread", torch.ones(1))
            self.register_buffer(
                "turn", torch.tensor([2 * np.pi / each for each in columns.periodic.values()])
            )

        def standardise(self, inputs: _Moments, target: _Moments) -> None:
            self.mean.copy_(torch.from_numpy(inputs.mean))
            self.spread.copy_(torch.from_numpy(inputs.spread))
            self.target_mean.copy_(torch.from_numpy(target.mean))
            self.target_spread.copy_(torch.from_numpy(target.spread))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            single = rows.float()
            parts = []
            if columns.numeric:
                numbers = single[:, list(columns.numeric)]
                absent = torch.isnan(numbers)
                logs = torch.sign(numbers) * torch.log(1 + torch.abs(numbers))
                standard = (logs - self.mean) / self.spread
                standard = torch.where(absent, torch.zeros_like(standard), standard)
                parts += [standard.clamp(-config.clip, config.clip), absent.float()]
            if columns.periodic:
                numbers = single[:, list(columns.periodic)]
                absent = torch.isnan(numbers)
                angle = torch.where(absent, torch.zeros_like(numbers), numbers) * self.turn
                there = 1 - absent.float()
                parts += [torch.sin(angle) * there, torch.cos(angle) * there, absent.float()]
            for place, embedding in zip(columns.categorical, self.embeddings, strict=True):
                code = single[:, place] + 1
                known = (code >= 1) & (code <= config.most_categories)
                parts.append(embedding(torch.where(known, code, torch.zeros_like(code)).long()))
            score: torch.Tensor = self.network(torch.cat(parts, dim=1))[:, 0]
            return self.target_mean + self.target_spread * score

    return Network()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads; as before afterwards."""
    import torch  # noqa: PLC0415

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
