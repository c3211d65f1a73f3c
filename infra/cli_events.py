"""The `daima` commands that move events: into the log, the stores, and files of features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from feature_repo.contracts.errors import DaimaError
from infra.cli_app import AsJson, Definitions, Embedded, Home, Log, app

Rates = Annotated[
    Path | None,
    typer.Option(help="Dated exchange rates (CSV).  [default: the ones that come with daima]"),
]


@app.command()
def stream(
    events: Annotated[
        Path | None,
        typer.Argument(help="Event file (Parquet), of simulate or replay; none: the live log."),
    ] = None,
    *,
    workers: Annotated[int, typer.Option(min=1, help="Processes for the live log.")] = 1,
    source: Log = "valkey",
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget the checkpoints: the live log anew.")
    ] = False,
    definitions: Definitions = None,
    embedded: Embedded = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Run the dataflow: events into the online and the offline store.

    Without EVENTS it streams the live log until Ctrl-C, on from where it was.

    Example:  daima stream simulated/events.parquet
              daima stream --workers 2
              daima stream --source kafka --definitions my_features.py
    """
    from infra.stream import LiveOptions, run_stream_file, run_stream_live

    if events is not None:
        if restart or workers > 1:
            raise DaimaError(
                "EVENTS", str(events), "none with --workers or --restart", "leave it out"
            )
        run_stream_file(events, home, definitions, embedded=embedded, as_json=as_json)
    else:
        run_stream_live(home, definitions, LiveOptions(workers, source, restart))


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Your events: Parquet, CSV or JSON lines.")],
    *,
    mapping: Annotated[Path, typer.Option(help="How to read them (YAML).")],
    rates: Rates = None,
    definitions: Definitions = None,
    embedded: Embedded = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Run events of your own through the whole path, into both stores.

    Rows that are no events go to a dead-letter file, with the field, the value and the reason.

    Example:  daima replay clicks.parquet --mapping docs/examples/globo.yaml
              daima replay payments.csv --mapping payments.yaml --rates rates.csv --json
    """
    from infra.replay import run_replay

    run_replay(file, mapping, rates, home, definitions, embedded=embedded, as_json=as_json)


@app.command()
def produce(
    file: Annotated[Path, typer.Argument(help="Event file, or with --mapping a file of your own.")],
    *,
    mapping: Annotated[Path | None, typer.Option(help="How to read it (YAML).")] = None,
    to: Log = "valkey",
    rate: Annotated[float | None, typer.Option(help="Events a second at most.")] = None,
    definitions: Definitions = None,
    payload: Annotated[
        Literal["arrow", "json"], typer.Option("--format", help="Of Kafka's messages.")
    ] = "arrow",
    shards: Annotated[
        int | None, typer.Option(min=1, help="Partitions, when the log is created.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Append events to the live log, and say how many it has confirmed.

    Example:  daima produce simulated/events.parquet --rate 5000
              daima produce payments.csv --mapping payments.yaml --to kafka --format json
    """
    from infra.produce import ProduceOptions, run_produce

    run_produce(
        ProduceOptions(file, mapping, to, rate, definitions, payload, shards, home), as_json=as_json
    )


@app.command()
def backfill(
    events: Annotated[
        Path, typer.Argument(help="Event file, a folder of them, or with --mapping your own.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the feature rows (Parquet).")],
    definitions: Definitions = None,
    mapping: Annotated[Path | None, typer.Option(help="How to read your events (YAML).")] = None,
    rates: Rates = None,
    spine: Annotated[
        Path | None,
        typer.Option(help="Keys and event_timestamp (Parquet, CSV): features as of each row."),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the keys.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Features of the past: a row an event, or as of the rows of a spine.

    A run that was broken off goes on where it was.

    Example:  daima backfill simulated/events.parquet --out features
              daima backfill clicks.parquet --mapping globo.yaml --spine labels.csv --out asked
    """
    from infra.backfill import run_backfill

    run_backfill(
        events,
        out,
        definitions=definitions,
        mapping=mapping,
        rates=rates,
        spine=spine,
        processes=processes,
        as_json=as_json,
    )


@app.command()
def rebuild(
    *,
    history: Annotated[
        str,
        typer.Option("--from", help="archive, log (the live log alone), or event files' path."),
    ] = "archive",
    source: Log = "valkey",
    definitions: Definitions = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Refill the online store from everything the log remembers, and say how long it took.

    Example:  daima rebuild
              daima rebuild --from simulated/events.parquet
    """
    from infra.rebuild import run_rebuild

    run_rebuild(home, definitions, history, source, as_json=as_json)


@app.command("embed-stream")
def embed_stream(
    *,
    source: Log = "valkey",
    from_now: Annotated[
        bool, typer.Option("--from-now", help="Pass over what is in the log and not taken in yet.")
    ] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Keep customers' vectors fresh: each finished session updates its customer's, until Ctrl-C.

    It goes on where the oldest session that was not over began, also after a crash. Which encoder
    serves is for the flow retrain_embeddings to say; a new one is taken up without a restart.

    Example:  daima embed-stream
              daima embed-stream --source kafka --from-now
    """
    from infra.embed_stream import run_embed_stream

    run_embed_stream(home, source, from_now=from_now, as_json=as_json)


@app.command("score-stream")
def score_stream(
    *,
    model: Annotated[
        list[str] | None, typer.Option(help="Which model; may be repeated.  [default: all]")
    ] = None,
    source: Log = "valkey",
    from_now: Annotated[
        bool, typer.Option("--from-now", help="Pass over what is in the log and not scored yet.")
    ] = False,
    wait_ms: Annotated[
        int, typer.Option(min=0, help="How long an event may wait for its features.")
    ] = 2_000,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Emit a prediction for every login and submitted payment in the event log, until Ctrl-C.

    It goes on after what it has emitted, also after a crash: nothing twice, nothing left out.
    GET /v1/stream/MODEL of the API watches it.

    Example:  daima score-stream
              daima score-stream --model session_duration --from-now
    """
    from datetime import timedelta

    from infra.score_stream import ScoreOptions, run_score_stream

    options = ScoreOptions(tuple(model or ()), source, from_now, timedelta(milliseconds=wait_ms))
    run_score_stream(home, options, as_json=as_json)


@app.command()
def forget(
    customer: Annotated[str, typer.Argument(help="The customer's id.")],
    *,
    definitions: Definitions = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Forget a customer: online values, states, checkpoints and every row; for good.

    A stream that runs goes on. What the log still has of before is not let in again; events that
    come from now on start anew. Broken off, run it again.

    Example:  daima forget c000017
    """
    from infra.forget import run_forget

    run_forget(customer, home, definitions, as_json=as_json)


@app.command()
def compact(home: Home = None, as_json: AsJson = False) -> None:
    """Merge the small offline files of finished days.

    Example:  daima compact
    """
    from infra.compact import run_compact

    run_compact(home, as_json=as_json)
