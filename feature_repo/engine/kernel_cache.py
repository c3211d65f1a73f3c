"""Where compiled kernels are kept: one folder a version of the engine's source.

numba notices a changed kernel by its own file alone, not by the files of the kernels that it
calls: after an update, a stale caller would go on with the old callee. The folder's name is a hash
of all of the engine's source, so that it cannot.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
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
    _load_without_blas()
    if os.environ.get("NUMBA_CACHE_DIR"):
        return
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daima"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:  # a service user without a home
        root = Path(tempfile.gettempdir()) / f"daima-{os.getuid()}"
    folder = root / f"kernels-{source_fingerprint(Path(__file__).parent)}"
    numba.config.CACHE_DIR = str(folder)


def _load_without_blas() -> None:
    """Load what numba loads with its first kernel, without SciPy's linear algebra.

    numba asks whether that is there, for matrix products in kernels. No kernel of ours has one,
    and the import takes as long as all of numba.
    """
    blas = "scipy.linalg.cython_blas"
    if blas in sys.modules:
        return
    sys.modules[blas] = None  # type: ignore[assignment]  # "not there", to an import
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[blas]
