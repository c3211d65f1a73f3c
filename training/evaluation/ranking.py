"""What an investigator gets who can look at so many cards a day: card precision@k.

Ranking of single rows (ROC AUC, average precision) is in `metrics.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from training.evaluation.metrics import Floats


def card_precision(
    days: npt.NDArray[np.int64],
    cards: npt.NDArray[np.int64],
    fraud: npt.NDArray[np.int64],
    scores: Floats,
    k: int = 100,
) -> float:
    """Mean over the days of the share of truly defrauded cards among the k that rank highest.

    A card's score on a day is that of its highest row, and a card is defrauded on a day if any of
    its rows of that day is. Defrauded cards that were among the k of one day are blocked: they are
    left out of all later days.

    >>> one_day, cards = np.array([1, 1, 1]), np.array([10, 10, 20])
    >>> card_precision(one_day, cards, np.array([0, 1, 0]), np.array([0.9, 0.1, 0.5]), k=1)
    1.0

    Args:
        days, cards: (n,) whole numbers.
        fraud: (n,) 0 or 1.
        scores: (n,) higher is likelier to be fraud.
        k: how many cards are looked at a day. With fewer cards than that, the share is still of k.

    Returns:
        0 to 1. Even a perfect ranking stays below 1 on a day with fewer than k defrauded cards.

    Source: Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, 2022,
    ch. 4, "Precision top-k metrics". Trap: cards of equal score are taken in the order of their
    numbers, so a constant score does not get what chance would.
    """
    rows = pl.DataFrame({"day": days, "card": cards, "fraud": fraud, "score": scores})
    by_day = (
        rows.group_by("day", "card")
        .agg(pl.col("fraud").max(), pl.col("score").max())
        .sort(["day", "score", "card"], descending=[False, True, False])
    )
    blocked: set[int] = set()
    shares = []
    for _, day in by_day.group_by("day", maintain_order=True):
        seen = day.filter(~pl.col("card").is_in(list(blocked))).head(k)
        found = seen.filter(pl.col("fraud") == 1)["card"].to_list()
        shares.append(len(found) / k)
        blocked.update(found)
    return float(np.mean(shares))
