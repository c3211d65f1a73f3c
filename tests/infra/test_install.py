from __future__ import annotations

import io
from pathlib import Path

import pytest

from infra import install


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pip_saying(text: str, code: int) -> list[str]:
    """A stand-in for pip that prints and exits."""
    return ["sh", "-c", f"printf '{text}'; exit {code}; :"]


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()])
def test_progress_counts_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: io.StringIO
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a==1 \\\n    --hash=sha256:0\nb==2 \\\n    --hash=sha256:1\n")
    monkeypatch.setattr(install, "_PIP", pip_saying("Collecting a==1\\nCollecting b==2\\n", 0))
    assert install.install(lock, tmp_path / "log", out) == 0
    assert "of 2 packages, done" in out.getvalue()
    assert "Collecting b==2" in (tmp_path / "log").read_text()


def test_a_failure_shows_what_pip_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a==1\n")
    monkeypatch.setattr(install, "_PIP", pip_saying("ERROR: no such hash\\n", 3))
    out = io.StringIO()
    assert install.install(lock, tmp_path / "log", out) == 3
    assert "no such hash" in out.getvalue()
    assert str(tmp_path / "log") in out.getvalue()


def test_the_locks_versions_without_their_hashes(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(
        "# a lock\na==1 \\\n    --hash=sha256:0\nb==2 ; python_full_version < '3.12' \\\n"
        "    --hash=sha256:1\n"
    )
    pins = install._pins(lock, tmp_path / "pins")
    assert pins.read_text().splitlines() == ["a==1", "b==2 ; python_full_version < '3.12'"]
