"""`daima similar`: ask the API for a customer's nearest customers, show them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from rich.console import Console
from rich.table import Table

from infra.predict import answered
from infra.stack_file import settings_at


def nearest(
    api_url: str,
    customer: str,
    k: int = 10,
    corridor: str | None = None,
    segment: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """The API's answer to `GET /v1/similar/{customer}`, as JSON.

    Raises:
        PredictionError: nothing answers there, or the API says what is wrong with the request: the
            customer has no vector, or there is no index yet.
    """
    asked = {"k": k, "corridor": corridor, "segment": segment}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found: dict[str, Any] = answered(
        "GET", api_url, f"/v1/similar/{quote(customer, safe='')}?{query}", environ=environ
    )
    return found


def similar_table(answer: Mapping[str, Any], personas: Mapping[str, str] | None = None) -> Table:
    """A table of an answer, nearest first.

    Args:
        personas: by customer, where customers are simulated: what was planted.
    """
    version = answer["embedding_version"]
    table = Table(title=f"nearest to {answer['customer']}, embedding version {version}")
    table.add_column("customer")
    table.add_column("similarity", justify="right")
    table.add_column("corridor")
    table.add_column("segment")
    if personas is not None:
        table.add_column("planted persona")
    for row in answer["similar"]:
        planted = [] if personas is None else [personas.get(row["customer"], "-")]
        table.add_row(
            row["customer"],
            f"{row['similarity']:.3f}",
            row["corridor"] or "-",
            row["segment"] or "-",
            *planted,
        )
    return table


def run_similar(
    customer: str,
    k: int,
    corridor: str | None,
    segment: str | None,
    home: Path | None,
    *,
    as_json: bool,
) -> None:
    """The command.

    Raises:
        PredictionError: see `nearest`.
    """
    settings, _ = settings_at(home, os.environ)
    answer = nearest(settings.api_url, customer, k, corridor, segment)
    if as_json:
        print(json.dumps(answer))
    else:
        Console().print(similar_table(answer))
