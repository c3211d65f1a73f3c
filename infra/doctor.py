"""`daima doctor`: what is missing or cannot be reached, and how to mend it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from feature_repo.contracts.settings import Settings
from infra.checkup import CHECKS
from infra.finding import Finding, Level, problem
from infra.stack_file import settings_at

_MARKS = {
    Level.OK: "[green]ok[/]",
    Level.WARNING: "[yellow]look[/]",
    Level.PROBLEM: "[red]PROBLEM[/]",
}


def examine(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Run every check; one that fails itself is a finding, and the others go on."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings.extend(check(settings, environ))
        except Exception as error:  # the doctor's, or of something so broken that it has no name
            # Its text may repeat a connection string: the kind of error is enough to go on.
            name = check.__name__.replace("_", " ")
            mend = "see that what it looks at is in order; else this is a defect of daima"
            findings.append(problem(name, f"cannot be examined ({type(error).__name__})", mend))
    return findings


def run_doctor(home: Path | None, *, as_json: bool) -> bool:
    """The command; returns whether no problem was found (warnings are none)."""
    settings, stack = settings_at(home, os.environ)
    environ = {**os.environ, **(stack.environment if stack else {})}
    findings = examine(settings, environ)
    healthy = all(finding.level is not Level.PROBLEM for finding in findings)
    table = Table(title=f"daima at {settings.home}")
    for heading in ("", "what", "found", "how to mend it"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(
            _MARKS[finding.level], finding.check, escape(finding.found), escape(finding.mend)
        )
    Console(width=None if os.isatty(1) else 160).print(table)
    if as_json:
        print(json.dumps({"healthy": healthy, "checks": [asdict(each) for each in findings]}))
    return healthy
