"""The `daima` command. Thin: each bigger command is a module of its own, imported when it runs."""

from __future__ import annotations

import signal
import sys
import traceback
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from feature_repo.contracts.credentials import without_credentials
from infra.cli_app import AsJson, Home, app, interrupts

__all__ = ["app", "cli_events", "cli_release", "main"]

Start = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
        help="First instant, UTC.  [default: so that the last day ends now]",
    ),
]


@app.command()
def demo(
    home: Annotated[
        Path | None,
        typer.Option(help="Folder to work in; emptied of earlier runs.  [default: .daima/demo]"),
    ] = None,
    customers: Annotated[int, typer.Option(hidden=True, min=50)] = 20_000,
    days: Annotated[float, typer.Option(hidden=True, min=0.25)] = 3.0,
    seed: Annotated[int, typer.Option(hidden=True)] = 7,
) -> None:
    """The main job, end to end: events in, models trained, predictions and similar customers out.

    Starts the local stack, simulates a few days of events, streams them into the stores, trains
    and registers a model and customers' embeddings, asks the API for predictions and for a
    customer's like, draws a map of customers, prints what it did, and ends everything. The last
    line is one JSON object.

    Example:  daima demo
    """
    from infra.demo import DemoOptions, run_demo

    run_demo(DemoOptions(home=home, customers=customers, days=days, seed=seed))


@app.command()
def up(
    home: Home = None,
    traffic: Annotated[
        bool,
        typer.Option(
            help="Simulate customers: a history at the first start, then live traffic."
            " Without: the servers alone, for events of your own."
        ),
    ] = True,
    customers: Annotated[
        int | None, typer.Option(min=50, help="Simulated customers.", show_default="30000")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.25, help="Days of their history.", show_default="2")
    ] = None,
) -> None:
    """The local stack, kept running until Ctrl-C, with live traffic on every page.

    Example:  daima up
              daima up --no-traffic     (then: daima replay FILE --mapping M.yaml)
    """
    from infra.up import UpOptions, run_up

    run_up(UpOptions(home=home, traffic=traffic, customers=customers, days=days))


@app.command()
def simulate(
    *,
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    customers: Annotated[int, typer.Option(min=1, help="Customers of the world.")] = 20_000,
    days: Annotated[float, typer.Option(min=0.01, help="Length of the history.")] = 3.0,
    start: Start = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 7,
    world: Annotated[
        Path | None, typer.Option(help="The world's knobs (YAML).  [default: the built-in world]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write simulated events, the daily batch tables, and the planted truth.

    Example:  daima simulate --customers 20000 --days 3 --out simulated
              daima simulate --start 2026-01-01 --seed 1 --out simulated
    """
    from infra.simulate import Crowd, run_simulate

    run_simulate(out, Crowd(customers, seed, world), days, start, as_json=as_json)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Registered model, such as session_duration.")],
    customers: Annotated[list[str], typer.Argument(help="One or more customers.")],
    *,
    corridor: Annotated[
        str | None, typer.Option(help="Send and receive country, such as GB-NG.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Instant from which ages count (ISO 8601).")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Ask the running API for predictions.

    Example:  daima predict session_duration c000017 c000042
              daima predict session_duration c000017 --corridor GB-NG --json
    """
    from infra.predict import run_predict

    run_predict(model, customers, corridor, as_of, home, as_json=as_json)


@app.command()
def similar(
    customer: Annotated[str, typer.Argument(help="The customer whose like are looked for.")],
    *,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many.")] = 10,
    corridor: Annotated[
        str | None, typer.Option(help="Only those whose main corridor it is, such as GB-NG.")
    ] = None,
    segment: Annotated[
        str | None, typer.Option(help="Only those of this segment, such as long.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Ask the running API who behaves most like a customer.

    Example:  daima similar c000017
              daima similar c000017 -k 3 --corridor GB-NG --json
    """
    from infra.similar import run_similar

    run_similar(customer, k, corridor, segment, home, as_json=as_json)


@app.command()
def status(home: Home = None, as_json: AsJson = False) -> None:
    """What runs and what it holds; exit code 1 if something is down.

    Example:  daima status
              daima status --home .daima/demo
    """
    from infra.status import run_status

    if not run_status(home, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def doctor(home: Home = None, as_json: AsJson = False) -> None:
    """What is missing or cannot be reached, and how to mend it; exit code 1 if there is a problem.

    Looks at settings, disk, kernels, store, log, files, registries and models; changes nothing.

    Example:  daima doctor
              daima doctor --json
    """
    from infra.doctor import run_doctor

    if not run_doctor(home, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def env(home: Home = None) -> None:
    """Print the settings as shell commands, for feast, mlflow and prefect by hand.

    Example:  eval "$(daima env)"; cd feature_repo; feast feature-views list
    """
    from infra.environment import export_lines

    for line in export_lines(home):
        print(line)


from infra import cli_events, cli_release  # noqa: E402 - help lists their commands after these


def _interrupt(signum: int, frame: FrameType | None) -> None:
    interrupts.append(signum)
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the console command; SIGTERM ends a command as Ctrl-C does."""
    # SIGINT too: a script that starts a command in the background makes it ignore that one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except Exception:  # a defect: its traceback may repeat the address of a server
        print(without_credentials(traceback.format_exc()), end="", file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
