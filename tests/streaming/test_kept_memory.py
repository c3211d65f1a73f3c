"""Memory given back comes again without the system's help."""

from __future__ import annotations

import subprocess
import sys

import pytest

_ROUNDS = 50
_SCRIPT = f"""
import resource, sys
import numpy as np
if sys.argv[1] == "kept":
    from streaming.kept_memory import keep_memory
    keep_memory()
np.ones(20 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({_ROUNDS}):
    np.ones(20 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_not_faulted_in_again() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", _SCRIPT, how], text=True))
        for how in ("kept", "returned")
    }
    assert faults["kept"] < _ROUNDS < faults["returned"]
