"""How large the embedding network is, and where the parts of a customer's hidden state lie."""

from __future__ import annotations

from dataclasses import dataclass

from feature_repo.scoring.embedding_inputs import FIRST_NAME, Codebook


@dataclass(frozen=True)
class Shape:
    """Widths of the network.

    Attributes:
        types, pages, corridors: codes of each, UNKNOWN and MISSING among them.
        event: what an event is before events are pooled.
        session: a session's vector.
        corridor: a corridor's embedding.
        recurrent: the customer's gated state.
        mean: each of the decayed means of what sessions were.
        decays_days: their time constants.
        snapshot: the gated state of the snapshots; 0 leaves the financial stream out.
        joined: the layer above all of these.
    """

    types: int
    pages: int
    corridors: int
    event: int
    session: int
    corridor: int
    recurrent: int
    mean: int
    decays_days: tuple[float, ...]
    snapshot: int
    joined: int

    @property
    def means(self) -> int:
        """Numbers of all decayed means."""
        return self.mean * len(self.decays_days)

    @property
    def joint(self) -> int:
        """What one layer joins, beside the times: the hidden state, and the session that ended."""
        return self.hidden + self.mean + self.session

    @property
    def hidden(self) -> int:
        """Numbers of a customer's hidden state: gated state, means, their weights, snapshots."""
        return self.recurrent + self.means + len(self.decays_days) + self.snapshot

    @property
    def cuts(self) -> tuple[int, int, int, int]:
        """Where in the hidden state the four parts end."""
        first = self.recurrent
        second = first + self.means
        third = second + len(self.decays_days)
        return first, second, third, third + self.snapshot


def codes_of(book: Codebook) -> tuple[int, int, int]:
    """Codes of types, pages and corridors, UNKNOWN and MISSING among them."""
    return (
        len(book.types) + FIRST_NAME,
        len(book.pages) + FIRST_NAME,
        len(book.corridors) + FIRST_NAME,
    )
