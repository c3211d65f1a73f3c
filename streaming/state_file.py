"""A file of plain data: numpy arrays one after the other behind one line of JSON. No pickle.

Line 1 is the header: names, checksums and everything that is no array. Behind it stand the arrays
as `.npy` records, in the header's order, so that 100 MB are written and read without a copy and
without holding the interpreter's lock.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_repo.contracts.errors import DaimaError

_FORMAT = "daima-state-1"
_TAKEN = "\0"  # the only name in a dict that stands for something kept outside the header
_Array = npt.NDArray[Any]


class StateFileError(DaimaError):
    """A state file that is damaged, or that another version of daima has written."""


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write arrays, Arrow texts, numbers, texts, bytes, and lists and dicts of them.

    They are on disk when this returns.

    Raises:
        TypeError: something in it is no plain data.
    """
    arrays: dict[str, _Array] = {}
    plain = _without_arrays(state, "", arrays)
    header = {
        "format": _FORMAT,
        "arrays": {name: _checksum(array) for name, array in arrays.items()},
        "plain": plain,
    }
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for array in arrays.values():
            np.lib.format.write_array(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` has written.

    Raises:
        StateFileError: the file is missing, cut short, changed, or of another format.
    """
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
            if header["format"] != _FORMAT:
                raise StateFileError(str(path), header["format"], _FORMAT, "see the version of it")
            arrays = {name: _read(file, crc) for name, crc in header["arrays"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateFileError(
            str(path), expected="a whole state file", action=f"use another ({error})"
        ) from error
    return cast(dict[str, Any], _with_arrays(header["plain"], "", arrays))


def _read(file: BinaryIO, crc: int) -> _Array:
    array: _Array = np.lib.format.read_array(file, allow_pickle=False)
    if _checksum(array) != crc:
        raise ValueError("a checksum differs")
    return array


def _checksum(array: _Array) -> int:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data) if array.size else 0


def _without_arrays(value: Any, path: str, arrays: dict[str, _Array]) -> Any:
    """The value with what is taken out of it replaced by its kind, the arrays by their path."""
    match value:
        case dict():
            return {name: _without_arrays(v, f"{path}/{name}", arrays) for name, v in value.items()}
        case np.ndarray():
            arrays[path] = np.ascontiguousarray(value)
            return {_TAKEN: "array"}
        case pa.StringArray():
            offsets, data = _texts_as_arrays(value)
            arrays[f"{path}/offsets"], arrays[f"{path}/data"] = offsets, data
            return {_TAKEN: "texts"}
        case bytes():
            arrays[path] = np.frombuffer(value, np.uint8)
            return {_TAKEN: "bytes"}
        case None | bool() | int() | float() | str() | np.generic():
            return value.item() if isinstance(value, np.generic) else value
        case list() | tuple():
            return [_without_arrays(v, f"{path}/{at}", arrays) for at, v in enumerate(value)]
    raise TypeError(f"{path}: {type(value).__name__} is no plain data")


def _with_arrays(value: Any, path: str, arrays: dict[str, _Array]) -> Any:
    match value:
        case {"\0": "array"}:
            return arrays[path]
        case {"\0": "texts"}:
            offsets, data = arrays[f"{path}/offsets"], arrays[f"{path}/data"]
            buffers = pa.py_buffer(offsets), pa.py_buffer(data)
            return pa.StringArray.from_buffers(len(offsets) - 1, *buffers)
        case {"\0": "bytes"}:
            return arrays[path].tobytes()
        case dict():
            return {name: _with_arrays(v, f"{path}/{name}", arrays) for name, v in value.items()}
        case list():
            return [_with_arrays(v, f"{path}/{at}", arrays) for at, v in enumerate(value)]
    return value


def _texts_as_arrays(texts: pa.StringArray) -> tuple[_Array, _Array]:
    """Where each text ends and all their bytes; a slice is copied, nulls there are none."""
    if texts.null_count:
        raise TypeError("texts of a state are never null")
    if texts.offset:
        texts = pa.concat_arrays([texts])
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[: len(texts) + 1] if offsets else np.zeros(1, np.int32)
    whole = np.frombuffer(data, np.uint8)[: ends[-1]] if data else np.empty(0, np.uint8)
    return ends, whole
