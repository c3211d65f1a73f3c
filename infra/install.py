"""Installs the locked dependencies and daima itself, showing how far it is: `make install`.

Standard library only: it runs before anything is installed. pip's own bars are one a package and
vanish when its output is not a terminal; this is one for all of them.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
_PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
_WIDTH = 30
_PLAIN_EVERY_S = 10.0


def install(lock: Path, log: Path, out: TextIO = sys.stderr) -> int:
    """Install what the lock names, then the project; returns an exit code.

    What pip says goes to `log`; its end is shown if it fails.
    """
    total = sum(1 for line in lock.read_text().splitlines() if "==" in line)
    commands = [
        # As constraints too: pip 23 forgets the pin of a package that is asked for with an extra.
        [*_PIP, "--require-hashes", "-r", str(lock), "-c", str(lock)],
        [*_PIP, "--no-build-isolation", "--no-deps", "-e", str(ROOT)],
        # Its build differs from machine to machine, so that no lock can name its hash.
        [*_PIP, *_torch(), "-c", str(_pins(lock, log.with_name("install-pins.txt")))],
    ]
    bar = _Bar(total, out)
    with log.open("w") as file:
        for command in commands:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            with process:
                for line in process.stdout or ():
                    file.write(line)
                    # One of the two a package, the second where the file is at hand already;
                    # "Ignoring" for those of other systems.
                    if line.startswith(("Collecting ", "Processing ", "Ignoring ")):
                        bar.advance()
                    elif line.startswith("Installing collected"):
                        bar.say("fetched; unpacking (about a minute)")
            if code := process.returncode:
                file.flush()
                tail = "\n".join(log.read_text().splitlines()[-15:])
                print(f"\n{tail}\ndaima: the installation failed; see {log}", file=out)
                return code
    bar.say("done")
    print(file=out)
    return 0


def _torch() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    torch: list[str] = project["optional-dependencies"]["torch"]
    return torch


def _pins(lock: Path, pins: Path) -> Path:
    """The lock's versions without its hashes, which would be asked of every package."""
    lines = [line.rstrip("\\ ") for line in lock.read_text().splitlines()]
    pins.write_text("\n".join(line for line in lines if re.match(r"[A-Za-z0-9]\S*==", line)))
    return pins


class _Bar:
    """A bar that redraws itself on a terminal; a line every few seconds elsewhere."""

    def __init__(self, total: int, out: TextIO) -> None:
        self._total = total
        self._out = out
        self._done = 0
        self._said_s = 0.0

    def advance(self) -> None:
        self._done += 1
        self._draw("fetching", always=False)

    def say(self, what: str) -> None:
        self._draw(what, always=True)

    def _draw(self, what: str, *, always: bool) -> None:
        text = f"{self._done} of {self._total} packages, {what}"
        if self._out.isatty():
            filled = min(_WIDTH, self._done * _WIDTH // self._total)
            bar = "#" * filled + "." * (_WIDTH - filled)
            print(f"\r[{bar}] {text:<60}", end="", file=self._out, flush=True)
        elif always or time.monotonic() - self._said_s > _PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            print(text, file=self._out, flush=True)


if __name__ == "__main__":
    sys.exit(install(ROOT / "requirements.lock", Path(sys.prefix) / "install.log"))
