"""What the models see: features of the engine, by the backfill, and ratios between them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from feature_repo.contracts.feature_set import load_feature_set
from feature_repo.contracts.money import DEFAULT_RATES
from feature_repo.contracts.settings import ROOT
from streaming.backfill import backfill, mapped_source
from streaming.mapping.dead_letters import DeadLetters

EXAMPLE = ROOT / "docs" / "examples" / "card_fraud"
TRANSACTIONS = ROOT.parent / "shared" / "data" / "fraud_fdh" / "transactions.parquet"

AMOUNT = "lifetime_transaction_amount_ref_minor_last"
_SPENT = "transaction_amount_ref_minor"
_USUAL = f"lifetime_{_SPENT}"
_FRAUD = "terminal_fraud_label_value"
_DELAY = "delay_7d"

# The handbook's 15.
BOOK = (
    AMOUNT,
    "is_weekend",
    "is_night",
    *(f"transaction_count_{window}" for window in ("24h", "7d", "30d")),
    *(f"{_SPENT}_mean_{window}" for window in ("24h", "7d", "30d")),
    *(f"terminal_transaction_count_{window}_{_DELAY}" for window in ("24h", "7d", "30d")),
    *(f"{_FRAUD}_mean_{window}_{_DELAY}" for window in ("24h", "7d", "30d")),
)

_DAY_S = 86_400.0
_CENTS = 100.0  # added to a spread: cards that spend alike have next to none


def computed(work: Path, transactions: Path = TRANSACTIONS) -> pl.DataFrame:
    """Features of every transaction, as `daima backfill --definitions definitions_more.py`.

    Args:
        work: an empty folder.

    Returns:
        A row a transaction, in the order of the data: every feature, and `date`, `card`
        (customer), `fraud` (0 or 1), which is the label and no input.
    """
    source = mapped_source(
        transactions,
        EXAMPLE / "mapping.yaml",
        DEFAULT_RATES,
        work=work / "mapped",
        dead_letters=DeadLetters.for_source(work / "dead", transactions),
        progress=lambda stage, fraction: None,
    )
    backfill(source, load_feature_set(EXAMPLE / "definitions_more.py"), work / "features")
    labels = pl.scan_parquet(transactions).select(
        pl.col("TRANSACTION_ID").cast(pl.String).alias("event_id"),
        date=pl.col("TX_DATETIME").dt.date(),
        card=pl.col("CUSTOMER_ID").cast(pl.Int64),
        fraud=pl.col("TX_FRAUD").cast(pl.Int64),
    )
    rows = pl.scan_parquet(work / "features" / "*.parquet")
    return labels.join(rows, on="event_id", how="inner", maintain_order="left").collect()


def with_ratios(frame: pl.DataFrame) -> pl.DataFrame:
    """Add what the features say about each other; `RATIOS` are the new columns."""
    col, now_us = pl.col, pl.col("event_time").dt.epoch("us")
    # A card's first week has no past that is a week old: its latest days stand in.
    usual = pl.coalesce(f"{_USUAL}_mean_{_DELAY}", f"{_SPENT}_mean_30d")
    spread = pl.coalesce(f"{_USUAL}_std_{_DELAY}", f"{_SPENT}_std_30d")
    most = pl.coalesce(f"{_USUAL}_max_{_DELAY}", f"{_SPENT}_max_30d")
    amount = col(AMOUNT)
    since_fraud = col(f"terminal_lifetime_seconds_since_fraudulent_{_DELAY}") / _DAY_S
    since_honest = col(f"terminal_lifetime_seconds_since_honest_{_DELAY}") / _DAY_S
    ratios = {
        # This amount among the card's usual ones.
        "amount_to_usual": amount / usual,
        "amount_score": (amount - usual) / (spread + _CENTS),
        "amount_to_most": amount / most,
        "amount_to_mean_30d": amount / col(f"{_SPENT}_mean_30d"),
        "amount_to_mean_7d": amount / col(f"{_SPENT}_mean_7d"),
        # The card's latest days among its usual ones; `earlier_` without this transaction.
        **{
            f"mean_{days}_to_usual": col(f"{_SPENT}_mean_{days}") / usual
            for days in ("24h", "7d", "14d")
        },
        **{
            f"earlier_most_{days}_to_usual": col(f"{_SPENT}_max_{days}_delay_1us") / usual
            for days in ("24h", "7d", "14d")
        },
        "spread_7d_to_usual": col(f"{_SPENT}_std_7d") / spread,
        "usual_spread": spread / usual,
        # How long ago the terminal's known frauds began and ended, in days.
        **{
            f"days_since_first_fraud_{days}": (
                now_us - col(f"terminal_fraudulent_start_us_{days}_{_DELAY}")
            )
            / (_DAY_S * 1e6)
            for days in ("21d", "28d")
        },
        "days_since_fraud": since_fraud,
        "days_since_honest": since_honest,
        "days_of_frauds_only": since_honest - since_fraud,
    }
    # A divisor of zero is no number.
    return frame.with_columns(
        pl.when(value.is_finite()).then(value).alias(name) for name, value in ratios.items()
    )


# What ours sees. Left out after measuring on the tuning folds: counts of transactions, weekend and
# night (docs/models.md).
CARD = (
    AMOUNT,
    *(f"{_SPENT}_mean_{window}" for window in ("24h", "7d", "30d")),
    "amount_to_usual",
    "amount_score",
    "amount_to_most",
    "amount_to_mean_30d",
    "amount_to_mean_7d",
    *(f"mean_{days}_to_usual" for days in ("24h", "7d", "14d")),
    *(f"earlier_most_{days}_to_usual" for days in ("24h", "7d", "14d")),
    "spread_7d_to_usual",
    "usual_spread",
)
TERMINAL = (
    *(f"{_FRAUD}_mean_{window}_{_DELAY}" for window in ("24h", "3d", "7d", "14d", "21d", "28d")),
    f"{_FRAUD}_mean_30d_{_DELAY}",
    *(f"{_FRAUD}_sum_{window}_{_DELAY}" for window in ("7d", "14d", "28d")),
    f"terminal_lifetime_fraud_label_value_last_{_DELAY}",
    *(f"days_since_first_fraud_{days}" for days in ("21d", "28d")),
    "days_since_fraud",
    "days_since_honest",
    "days_of_frauds_only",
)
OURS = CARD + TERMINAL
