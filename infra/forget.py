"""`daima forget`: a customer's right to be forgotten."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

from infra.progress import reporting
from infra.stack_file import settings_at


def run_forget(
    customer: str, home: Path | None, definitions: Path | None, *, as_json: bool
) -> None:
    """The command.

    Raises:
        DefinitionError: the definitions are wrong.
        ForgetError: a running stream has not answered, or states of other definitions are left.
        PurgeError: a file cannot be read.
        StoreUnavailableError: the online store does not answer.
    """
    found, _ = settings_at(home, os.environ)
    settings = replace(found, definitions=definitions.resolve()) if definitions else found
    from streaming.forget import forget

    with reporting() as reporter, reporter.step("Forgetting the customer") as step:
        report = forget(settings, customer, progress=lambda _, done: step.advance(done))
        step.note(f"{report.rows:,} rows taken out of {report.files:,} files")
    if not report.known:
        print(f"nothing was known of {customer}; what comes back of before is kept out")
    where = [
        *([f"{len(report.by_stream)} by the running stream"] if report.by_stream else []),
        *([f"{len(report.here)} here"] if report.here else []),
    ]
    print(
        f"forgotten: {customer}; partitions of states freed: {', '.join(where) or 'none'}; "
        f"events from now on start anew"
    )
    if as_json:
        print(json.dumps(asdict(report)))
