"""`daima predict`: ask the API, show the answer."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from feature_repo.contracts.errors import DaimaError
from infra.http_json import NoAnswerError, exchange
from infra.stack_file import settings_at


class PredictionError(DaimaError):
    """The API did not answer, or refused the request."""


def ask(
    api_url: str,
    model: str,
    customers: Sequence[str],
    corridor: str | None = None,
    as_of: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """The API's answer to `POST /v1/predict/{model}`, as JSON.

    An API that asks for a token gets that of `DAIMA_API_TOKEN`.

    Raises:
        PredictionError: nothing answers there, or the API says what is wrong with the request.
    """
    request = {"customers": list(customers), "corridor": corridor, "as_of": as_of}
    body = {name: value for name, value in request.items() if value is not None}
    found: dict[str, Any] = answered(
        "POST", api_url, f"/v1/predict/{quote(model, safe='')}", body, environ=environ
    )
    return found


def answered(
    method: str,
    api_url: str,
    target: str,
    body: object | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Any:
    """The API's answer to a request, as JSON; an API that asks for a token gets ours.

    Raises:
        PredictionError: nothing answers there, or the API says what is wrong with the request.
    """
    try:
        status, answer = exchange(
            method, f"{api_url}{target}", body, token=environ.get("DAIMA_API_TOKEN")
        )
    except NoAnswerError as error:
        raise PredictionError(
            "API", api_url, "a prediction API that answers", "start it: daima up"
        ) from error
    if status >= 400:
        detail = answer.get("detail") if isinstance(answer, dict) else None
        raise PredictionError(f"the API answered {status}: {detail or answer}")
    return answer


def prediction_table(answer: dict[str, Any]) -> Table:
    """A table of an answer: prediction, corridor, and how many features were there."""
    table = Table(title=f"{answer['model']}, version {answer['version']} ({answer['alias']})")
    table.add_column("customer")
    table.add_column("prediction", justify="right")
    table.add_column("corridor")
    table.add_column("features")
    table.add_column("age of the freshest", justify="right")
    for row in answer["predictions"]:
        statuses = Counter(row["statuses"].values())
        ages = row["ages_s"].values()
        table.add_row(
            row["customer"],
            _said(row),
            row["corridor"] or "-",
            ", ".join(f"{count} {status}" for status, count in statuses.most_common()),
            f"{min(ages):,.0f} s" if ages else "-",
        )
    return table


def _said(row: Mapping[str, Any]) -> str:
    """A prediction in words: the likeliest class, a chance, or a number with its percentiles.

    >>> _said({"prediction": 1.0, "unit": "class", "classes": {"send": 0.3, "track": 0.7}})
    'track (70 %)'
    >>> _said({"prediction": 61.25, "unit": "s"})
    '61.2 s'
    """
    if classes := row.get("classes"):
        likeliest = max(classes, key=classes.__getitem__)
        return f"{likeliest} ({100 * classes[likeliest]:.0f} %)"
    if (chance := row.get("probability")) is not None:
        return f"{100 * chance:.1f} %"
    number = f"{row['prediction']:,.1f} {row['unit'] or ''}".rstrip()
    if percentiles := row.get("percentiles"):
        name, *_, last = percentiles
        return f"{number} ({name} {percentiles[name]:,.0f}, {last} {percentiles[last]:,.0f})"
    return number


def run_predict(
    model: str,
    customers: Sequence[str],
    corridor: str | None,
    as_of: str | None,
    home: Path | None,
    *,
    as_json: bool,
) -> None:
    """The command.

    Raises:
        PredictionError: see `ask`.
    """
    settings, _ = settings_at(home, os.environ)
    answer = ask(settings.api_url, model, customers, corridor, as_of)
    if as_json:
        print(json.dumps(answer))
    else:
        Console().print(prediction_table(answer))
