"""Where compiled kernels are kept: one folder a version of the engine's source.

numba notices a changed kernel by its own file alone, not by the files of the kernels that it
calls: after an update, a stale caller would go on with the old callee. The folder's name is a hash
of all of the engine's source, so that it cannot.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numba


def source_fingerprint(folder: Path) -> str:
    """A hash of every Python file of a folder."""
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted(folder.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def use_kernel_cache() -> None:
    """Point numba at the folder, unless `NUMBA_CACHE_DIR` names another."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daima"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:  # a service user without a home
        root = Path(tempfile.gettempdir()) / f"daima-{os.getuid()}"
    folder = root / f"kernels-{source_fingerprint(Path(__file__).parent)}"
    numba.config.CACHE_DIR = str(folder)
