"""The `daima` commands that change which version of a model serves."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from infra.cli_app import AsJson, Home, app

Model = Annotated[str, typer.Argument(help="Registered model, such as session_duration.")]
Version = Annotated[str, typer.Argument(help="Version in the registry, such as 3.")]
Why = Annotated[str, typer.Option(help="The reason, for the record.")]
Who = Annotated[str | None, typer.Option(help="Who decided.  [default: the system's user]")]


@app.command()
def promote(
    model: Model,
    version: Version,
    *,
    why: Why,
    who: Who = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a version the champion: it answers everyone, within seconds, without a restart.

    Example:  daima promote session_duration 4 --why "lower error in every corridor"
    """
    from infra.release import Word, run_promote

    run_promote(model, version, Word(why, who), home, as_json=as_json)


@app.command()
def split(
    model: Model,
    version: Version,
    *,
    why: Why,
    share: Annotated[
        float | None, typer.Option(help="Share of the customers, above 0, at most 1.")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Score it beside the champion; it never answers.")
    ] = False,
    max_error_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Rolled back when more of its requests fail.")
    ] = 0.01,
    max_p99_ms: Annotated[
        float,
        typer.Option(min=0.001, max=60_000, help="Rolled back when its requests take longer."),
    ] = 50.0,
    who: Who = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Try a version beside the champion: as challenger with a share, or as shadow.

    The same customers get it as long as the share stays; a greater share keeps them. It is taken
    off by itself when it fails more often or takes longer than declared.

    Example:  daima split session_duration 5 --share 0.1 --why "try the new inputs"
              daima split session_duration 5 --shadow --why "watch its scores first"
    """
    from infra.release import Split, Word, run_split

    how = Split(share, shadow, max_error_rate, max_p99_ms)
    run_split(model, version, how, Word(why, who), home, as_json=as_json)


@app.command()
def rollback(
    model: Model,
    *,
    why: Why,
    alias: Annotated[
        Literal["champion", "challenger", "shadow"],
        typer.Option(help="Champion: back to the one before it. The others: taken off."),
    ] = "champion",
    to: Annotated[
        str | None, typer.Option(help="Version to return to.  [default: the champion before]")
    ] = None,
    who: Who = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Take a version back: on this machine at once, then in the registry, also if that is away.

    Example:  daima rollback session_duration --why "errors since noon"
              daima rollback session_duration --alias challenger --why "no better"
    """
    from infra.release import Word, run_rollback

    run_rollback(model, alias, to, Word(why, who), home, as_json=as_json)
