"""The model card: what a version is, what it was made of and how far it is to be trusted.

The sections follow Mitchell et al., Model Cards for Model Reporting, FAT* 2019.
"""

from __future__ import annotations

import re

import polars as pl

from training.candidate import Candidate
from training.evaluation.gate import Decision

_MOST_INPUTS = 15


def model_card(candidate: Candidate, decision: Decision) -> str:
    """The card in Markdown."""
    start, end = candidate.window
    inputs = candidate.inputs
    embedded = (
        f" Customers' vectors are of embedding version {inputs.embedding_version}; of any other, "
        "rows count as without one."
        if inputs.embedding_version is not None
        else ""
    )
    sections = [
        f"# {candidate.name}",
        joined(candidate.card) or f"Predicts `{candidate.target}`.",
        "## Decision",
        f"**{'Promoted' if decision.promote else 'Rejected'}** against {decision.against}: "
        f"{decision.verdict}.",
        "## Data",
        f"Events from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, fingerprint "
        f"`{candidate.data_fingerprint}`; point-in-time features of the service "
        f"`{inputs.feature_service}` ({len(inputs.inputs)} inputs, schema "
        f"`{inputs.fingerprint}`).{embedded}",
        "## Figures (test part: the latest examples)",
        table(
            pl.DataFrame(
                {
                    "metric": list(candidate.metrics),
                    "value": [f"{value:,.4f}" for value in candidate.metrics.values()],
                }
            )
        ),
    ]
    if decision.slices:
        shown = decision.table().select(
            "slice", "rows", *(pl.col(name).round(4) for name in ("ours", "theirs", "low", "high"))
        )
        sections += [f"## Slices ({decision.metric}, against {decision.against})", table(shown)]
    leading = candidate.importance.head(_MOST_INPUTS).select(
        "feature", (pl.col("share") * 100).round(1).alias("% of gain")
    )
    sections += [
        "## Leading inputs",
        table(leading),
        "## Configuration",
        table(
            pl.DataFrame(
                {
                    "name": list(candidate.params),
                    "value": [str(value) for value in candidate.params.values()],
                }
            )
        ),
        "## How to use it",
        f"`POST /v1/predict/{candidate.name}` answers with the version that bears the alias "
        f"`champion`; unit: {candidate.unit or 'none'}. Plain MLflow loads it as "
        f"`models:/{candidate.name}/<version>`: its columns are encoded as `model_inputs.json` "
        "says, and what it gives are raw scores, before calibration, multiples and units.",
    ]
    return "\n\n".join(sections) + "\n"


def joined(text: str) -> str:
    """A text's paragraphs as a line each: Prefect's pages end a line where the text does.

    >>> joined("How long will\\nit last?\\n\\nFor planning.")
    'How long will it last?\\n\\nFor planning.'
    """
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)


def table(frame: pl.DataFrame) -> str:
    """A frame as a Markdown table.

    >>> print(table(pl.DataFrame({"a": [1], "b": ["x|y"]})))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    rows = [frame.columns, *([str(value) for value in row] for row in frame.iter_rows())]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * frame.width, *lines[1:]])
