from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from streaming.state_file import StateFileError, read_state, write_state

STATE: dict[str, Any] = {
    "numbers": np.arange(6, dtype=np.int64).reshape(2, 3),
    "nothing": np.empty(0, np.float64),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "buffers": [pa.py_buffer(b"\x00\xff"), pa.py_buffer(b""), pa.py_buffer(b"a")],
    "inside": {"count": np.int64(3), "rate": 0.5, "name": "x", "none": None},
    "recent": [(1, 2, ["a", "b"], np.array([1], np.uint8)), (3, 4, [], np.array([], np.uint8))],
}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "base.state"
    write_state(path, STATE)
    found = read_state(path)
    assert list(found) == list(STATE)
    for name in ("numbers", "nothing", "columns"):
        np.testing.assert_array_equal(found[name], STATE[name])
        assert found[name].dtype == STATE[name].dtype
    assert [buffer.to_pybytes() for buffer in found["buffers"]] == [b"\x00\xff", b"", b"a"]
    assert found["inside"] == {"count": 3, "rate": 0.5, "name": "x", "none": None}
    assert found["recent"][0][:3] == [1, 2, ["a", "b"]]
    np.testing.assert_array_equal(found["recent"][0][3], [1])


def test_what_is_no_plain_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="/a/b: object"):
        write_state(tmp_path / "s", {"a": {"b": object()}})


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "absent"])
def test_a_damaged_file_is_never_misread(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "base.state"
    write_state(path, STATE)
    whole = path.read_bytes()
    match harm:
        case "cut":
            path.write_bytes(whole[:-3])
        case "flip":
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "empty":
            path.write_bytes(b"")
        case "absent":
            path.unlink()
    with pytest.raises(StateFileError, match=r"base\.state"):
        read_state(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.state"
    write_state(path, {})
    path.write_bytes(path.read_bytes().replace(b"daima-state-1", b"daima-state-9"))
    with pytest.raises(StateFileError, match="daima-state-9"):
        read_state(path)
