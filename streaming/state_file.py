"""A file of plain data: numpy arrays one after the other behind one line of JSON. No pickle.

Line 1 is the header: names, checksums and everything that is no array. Behind it stand the arrays
as `.npy` records, in the header's order, so that 100 MB are written and read without a copy and
without holding the interpreter's lock.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from itertools import pairwise
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
    """Write arrays, numbers, texts, lists of Arrow buffers, and lists and dicts of these.

    They are on disk when this returns. A list of buffers is one record of the file, however many
    there are.

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
    """What `write_state` has written; the arrays are read-only views of the file.

    Raises:
        StateFileError: the file is missing, cut short, changed, or of another format.
    """
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline())
            if header["format"] != _FORMAT:
                raise StateFileError(str(path), header["format"], _FORMAT, "see the version of it")
            # Checked and copied in one reading, into memory that is taken up once.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            arrays = {name: _read(file, content, crc) for name, crc in header["arrays"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateFileError(
            str(path), expected="a whole state file", action=f"use another ({error})"
        ) from error
    return cast(dict[str, Any], _with_arrays(header["plain"], "", arrays))


def _read(file: BinaryIO, content: mmap.mmap, crc: int) -> _Array:
    np.lib.format.read_magic(file)
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(file)
    begin = file.tell()
    array: _Array = np.frombuffer(content, dtype, math.prod(shape), begin)
    if _checksum(array) != crc:
        raise ValueError("a checksum differs")
    file.seek(begin + array.nbytes)
    return array.reshape(shape, order="F" if columns_first else "C")


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
        case [pa.Buffer(), *_]:
            parts = [np.frombuffer(each, np.uint8) for each in value]
            arrays[f"{path}/ends"] = np.cumsum([0, *map(len, parts)])
            arrays[f"{path}/data"] = np.concatenate(parts)
            return {_TAKEN: "buffers"}
        case None | bool() | int() | float() | str() | np.generic():
            return value.item() if isinstance(value, np.generic) else value
        case list() | tuple():
            return [_without_arrays(v, f"{path}/{at}", arrays) for at, v in enumerate(value)]
    raise TypeError(f"{path}: {type(value).__name__} is no plain data")


def _with_arrays(value: Any, path: str, arrays: dict[str, _Array]) -> Any:
    match value:
        case {"\0": "array"}:
            return arrays[path]
        case {"\0": "buffers"}:
            # A copy: they may be kept for long, and a view would keep the whole file.
            ends, whole = (
                arrays[f"{path}/ends"].tolist(),
                pa.py_buffer(arrays[f"{path}/data"].copy()),
            )
            return [whole.slice(begin, end - begin) for begin, end in pairwise(ends)]
        case dict():
            return {name: _with_arrays(v, f"{path}/{name}", arrays) for name, v in value.items()}
        case list():
            return [_with_arrays(v, f"{path}/{at}", arrays) for at, v in enumerate(value)]
    return value
