"""The configuration of customer embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from feature_repo.scoring.embedding_inputs import Codebook
from training.embedding.shape import Shape, codes_of

NAME = "customer_embedding"


@dataclass(frozen=True)
class EmbeddingConfig:
    """The network and how it learns; its values stand in `configs/customer_embedding.yaml`.

    Attributes:
        event, session, corridor, recurrent, mean, decays_days, snapshot, joined: as of `Shape`.
        least_seen, most_pages: as of `learn_codebook`.
        epochs, learning_rate, weight_decay: of AdamW; the rate rises at first and then falls to
            nothing along a cosine.
        batch_sessions: sessions of a step, about.
        chunk_sessions: gradients reach back so many sessions of a customer; states, for ever.
        dropout: share of what is joined that is left out at random, and of the layer that joins.
        intent_weight, own_weight, hour_weight, gap_weight, amount_weight: of the losses: the next
            session's intent, the session's own (told from its vector alone), the next session's
            hour, how long until it, and its largest amount.
        happened_weight, numbers_weight: of both parts of `Contents`.
        swap_weight: of telling customers' own sessions from `Swaps`; `swap_share`: of sessions.
        warm_epochs, warm_learning_rate: where training starts from a former version.
        anchor_weight: of 1 - cosine to the former version's vectors.
        seed: of everything random.
        threads: change sums in the last bits: equal results need equal ones.
    """

    event: int
    session: int
    corridor: int
    recurrent: int
    mean: int
    decays_days: tuple[float, ...]
    snapshot: int
    joined: int
    least_seen: int
    most_pages: int
    epochs: int
    batch_sessions: int
    chunk_sessions: int
    learning_rate: float
    weight_decay: float
    dropout: float
    intent_weight: float
    own_weight: float
    hour_weight: float
    gap_weight: float
    amount_weight: float
    happened_weight: float
    numbers_weight: float
    swap_weight: float
    swap_share: float
    warm_epochs: int
    warm_learning_rate: float
    anchor_weight: float
    seed: int
    threads: int

    def __post_init__(self) -> None:
        widths = (self.event, self.session, self.corridor, self.recurrent, self.mean, self.joined)
        counts = (self.epochs, self.batch_sessions, self.chunk_sessions, self.threads)
        if min(*widths, *counts, self.least_seen, len(self.decays_days)) < 1 or self.snapshot < 0:
            raise ValueError("widths, epochs, sessions, threads, decays of 1 or more")
        if not (0 <= self.dropout < 1 and 0 <= self.swap_share <= 1):
            raise ValueError("dropout from 0 to below 1, a share of swaps from 0 to 1")
        if not min(self.learning_rate, self.warm_learning_rate, *self.decays_days) > 0:
            raise ValueError("learning rates and decays above 0")

    def shape(self, book: Codebook) -> Shape:
        """The network's shape with a codebook's names."""
        types, pages, corridors = codes_of(book)
        return Shape(
            types,
            pages,
            corridors,
            self.event,
            self.session,
            self.corridor,
            self.recurrent,
            self.mean,
            self.decays_days,
            self.snapshot,
            self.joined,
        )
