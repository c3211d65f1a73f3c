"""Asking the processor for memory ahead of its use.

Keys lie at random in a shard's memory: without this each first look at one waits for it.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

AHEAD = 8  # keys or rows that memory is asked for before its use
_LINES, _LINE_WORDS = 6, 8  # of a block: what an average one has


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, place: Any) -> Any:
    """Begin to load the cache line of array[place]; the place need not exist."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(made.data, [arguments[1]]), cgutils.voidptr_t)
        flag = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag]),
            "llvm.prefetch.p0",
        )
        for_reading, to_all_levels, of_data = flag(0), flag(3), flag(1)
        builder.call(function, [address, for_reading, to_all_levels, of_data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@numba.njit(cache=True, nogil=True, _nrt=False, forceinline=True)
def prefetch_block(B, at):  # type: ignore[no-untyped-def]
    """Begin to load a key's block."""
    for line in range(_LINES):
        prefetch(B, at + line * _LINE_WORDS)
