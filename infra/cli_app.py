"""What the `daima` commands share: how errors are shown, and options that several have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from feature_repo.contracts.credentials import without_credentials
from feature_repo.contracts.errors import DaimaError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
interrupts: list[int] = []  # signals that came in


class _Commands(TyperGroup):
    """Turns our own errors into one message and exit code 2, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DaimaError as error:
            print(without_credentials(f"daima: {error}"), file=sys.stderr, flush=True)
            raise typer.Exit(EXIT_BAD_INPUT) from error
        except (KeyboardInterrupt, Exception) as error:
            # A dataflow turns the interrupt that ended it into an error of its own.
            if not (isinstance(error, KeyboardInterrupt) or interrupts):
                raise
            print("daima: stopped", file=sys.stderr, flush=True)
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="daima",
    cls=_Commands,
    help="Real-time behavioural customer profiles: events in, predictions out.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of everything written locally.  [default: $DAIMA_HOME or .daima]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Embedded = Annotated[
    bool,
    typer.Option("--embedded", help="Use a Valkey of this command's own, not the one that runs."),
]

Definitions = Annotated[
    Path | None,
    typer.Option(help="Module of feature definitions.  [default: the ones that come with daima]"),
]
Log = Annotated[Literal["valkey", "kafka"], typer.Option(help="Which log; Kafka: DAIMA_KAFKA_*.")]
