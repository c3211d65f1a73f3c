"""Kernels from the store's answers, as they came over the wire, to rows of a model's matrix.

An answer to HMGET is an array of bulk strings (RESP); a field is a `Value` protobuf, or a
`Timestamp` (`feature_repo/stores/redis_layout.py`). Nothing becomes a Python object on the way:
measured, 25 fields take 6 µs as objects and 0.4 µs here. What is wrong with bytes harms their own
field: it is missing, and its mark says UNREADABLE.

All of it is one file, and long: numba keeps what it has compiled by a kernel's own file, so that a
kernel would go on with the former version of one that it calls in another.
"""

from __future__ import annotations

# ruff: noqa: PLR0911, PLR0912, PLR0915, PLR0917, PLR1714, SIM109 - kernels, as the engine's
import numba
import numpy as np

# What became of a value: the first four in the order of `vectors.STATUSES`.
PRESENT, NULL, NOT_FOUND, EXPIRED, UNREADABLE = range(5)
# What a field is: a row of the table of fields.
SKIP, VIEW_TIME, NUMBER, TEXT, ARRAY, STATE_TIME, STATE = range(7)
F_KIND, F_VIEW, F_MARK, F_COLUMN, F_FROM, F_TO = range(6)
# A feature computed from a state: a row of the table of computed ones.
C_FLOAT, C_AT, C_OK, C_TEXT, C_MARK, C_COLUMN, C_FROM, C_TO = range(8)
NO_AGE = np.iinfo(np.int64).min
_BAD = np.int64(-2)
_OK, _ERROR, _STRANGE = 0, 1, 2


@numba.njit(cache=True, nogil=True, _nrt=False)
def _line(buffer, at, end):  # type: ignore[no-untyped-def]
    """Where the line that begins at `at` ends (its CR), or -1: not all of it is here."""
    while at + 1 < end:
        if buffer[at] == 13 and buffer[at + 1] == 10:
            return at
        at += 1
    return np.int64(-1)


@numba.njit(cache=True, nogil=True, _nrt=False)
def _number(buffer, at, end):  # type: ignore[no-untyped-def]
    """The decimal number in buffer[at:end]."""
    sign = np.int64(1)
    if at < end and buffer[at] == 45:
        sign = np.int64(-1)
        at += 1
    value = np.int64(0)
    while at < end:
        value = value * 10 + (np.int64(buffer[at]) - 48)
        at += 1
    return sign * value


@numba.njit(cache=True, nogil=True, _nrt=False)
def skip_answers(buffer, at, end, count):  # type: ignore[no-untyped-def]
    """Pass `count` answers from `at` on, as far as they are here whole: (where, how many left)."""
    while count > 0:
        items = np.int64(1)
        here = at
        while items > 0:
            stop = _line(buffer, here, end)
            if stop < 0:
                return at, count
            kind = buffer[here]
            if kind == 42:  # *: an array
                items += max(_number(buffer, here + 1, stop), 0)
                here = stop + 2
            elif kind == 36:  # $: a bulk string
                length = _number(buffer, here + 1, stop)
                here = stop + 2 + (length + 2 if length >= 0 else 0)
                if here > end:
                    return at, count
            else:
                here = stop + 2
            items -= 1
        at = here
        count -= 1
    return at, count


@numba.njit(cache=True, nogil=True, _nrt=False)
def _varint(buffer, at, end):  # type: ignore[no-untyped-def]
    """(value as 64 bits, where it ends); an end of -2 is no number of 64 bits."""
    result = np.uint64(0)
    shift = np.uint64(0)
    while at < end:
        byte = np.uint64(buffer[at])
        at += 1
        if shift == np.uint64(63) and byte > np.uint64(1):
            return np.int64(0), _BAD
        result |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            return np.int64(result), at
        shift += np.uint64(7)
        if shift > np.uint64(63):
            return np.int64(0), _BAD
    return np.int64(0), _BAD


@numba.njit(cache=True, nogil=True, _nrt=False)
def _word(buffer, at, size):  # type: ignore[no-untyped-def]
    """Little-endian bytes as a word."""
    word = np.uint64(0)
    for byte in range(size):
        word |= np.uint64(buffer[at + byte]) << np.uint64(8 * byte)
    return word


@numba.njit(cache=True, nogil=True, _nrt=False)
def _float_of(word, size, bits, double, single):  # type: ignore[no-untyped-def]
    """A float of 4 or 8 bytes; the last three are views of one word to turn it over in."""
    bits[0] = np.int64(word)
    if size == 8:
        return double[0]
    return np.float64(single[0])  # little endian: the lower half


@numba.njit(cache=True, nogil=True, _nrt=False)
def _timestamp(buffer, at, end):  # type: ignore[no-untyped-def]
    """(whether it is one, µs since 1970)."""
    seconds = np.int64(0)
    nanos = np.int64(0)
    while at < end:
        tag = buffer[at]
        value, at = _varint(buffer, at + 1, end)
        if at < 0:
            return False, np.int64(0)
        if tag == 0x08:
            seconds = value
        else:
            nanos = value
    if seconds > 253_402_300_799 or seconds < -253_402_300_799:
        return False, np.int64(0)
    return True, seconds * 1_000_000 + nanos // 1000


@numba.njit(cache=True, nogil=True, _nrt=False)
def _scalar(buffer, at, end, bits, double, single):  # type: ignore[no-untyped-def]
    """(mark, number) of a Value that holds a number."""
    if at == end:
        return NULL, np.nan
    tag = buffer[at]
    if tag == 0x29 and at + 9 <= end:
        return PRESENT, _float_of(_word(buffer, at + 1, 8), 8, bits, double, single)
    if tag == 0x20 or tag == 0x18:
        value, stop = _varint(buffer, at + 1, end)
        if stop < 0:
            return UNREADABLE, np.nan
        return PRESENT, np.float64(value)
    if tag == 0x35 and at + 5 <= end:
        return PRESENT, _float_of(_word(buffer, at + 1, 4), 4, bits, double, single)
    if tag == 0x38 and at + 2 <= end:
        return PRESENT, np.float64(buffer[at + 1] != 0)
    return UNREADABLE, np.nan


@numba.njit(cache=True, nogil=True, _nrt=False)
def _category(buffer, at, end, first, last, texts, text_ends):  # type: ignore[no-untyped-def]
    """The place of a text among categories first..last, or NaN."""
    for category in range(first, last):
        start = text_ends[category]
        if text_ends[category + 1] - start != end - at:
            continue
        same = True
        for byte in range(end - at):
            if texts[start + byte] != buffer[at + byte]:
                same = False
                break
        if same:
            return np.float64(category - first)
    return np.nan


@numba.njit(cache=True, nogil=True, _nrt=False)
def _utf8(buffer, at, end):  # type: ignore[no-untyped-def]
    """Whether the bytes are UTF-8, as far as their lead and continuation bytes tell."""
    while at < end:
        byte = buffer[at]
        if byte < 0x80:
            more = 0
        elif 0xC2 <= byte < 0xE0:
            more = 1
        elif 0xE0 <= byte < 0xF0:
            more = 2
        elif 0xF0 <= byte < 0xF5:
            more = 3
        else:
            return False
        at += 1
        for _ in range(more):
            if at >= end or buffer[at] & 0xC0 != 0x80:
                return False
            at += 1
    return True


@numba.njit(cache=True, nogil=True, _nrt=False)
def _text(  # type: ignore[no-untyped-def]
    buffer, at, end, first, last, texts, text_ends
):
    """(mark, category) of a Value that holds a text."""
    if at == end:
        return NULL, np.nan
    if buffer[at] != 0x12:
        return UNREADABLE, np.nan
    length, here = _varint(buffer, at + 1, end)
    if here < 0 or length < 0 or here + length > end or not _utf8(buffer, here, here + length):
        return UNREADABLE, np.nan
    return PRESENT, _category(buffer, here, here + length, first, last, texts, text_ends)


@numba.njit(cache=True, nogil=True, _nrt=False)
def _numbers(  # type: ignore[no-untyped-def]
    buffer, at, end, out, first, length, bits, double, single
):
    """Mark of a Value that holds an array of `length` numbers, put into out[first:first+length].

    Tags: 13..16 are the lists of int32, int64, double and float; numbers are packed.
    """
    if at == end:
        return NULL
    tag, here = _varint(buffer, at, end)
    if here < 0:
        return UNREADABLE
    if tag != 0x6A and tag != 0x72 and tag != 0x7A and tag != 0x82:
        return UNREADABLE
    size, here = _varint(buffer, here, end)
    if here < 0 or size < 0 or here + size > end:
        return UNREADABLE
    if size == 0:
        return PRESENT if length == 0 else UNREADABLE
    if buffer[here] != 0x0A:
        return UNREADABLE
    packed, here = _varint(buffer, here + 1, end)
    if here < 0 or packed < 0 or here + packed > end:
        return UNREADABLE
    stop = here + packed
    width = 8 if tag == 0x7A else (4 if tag == 0x82 else 0)
    if width > 0:
        if packed != width * length:
            return UNREADABLE
        for place in range(length):
            word = _word(buffer, here + width * place, width)
            out[first + place] = _float_of(word, width, bits, double, single)
        return PRESENT
    for place in range(length):
        value, here = _varint(buffer, here, stop)
        if here < 0:
            for before in range(place):
                out[first + before] = np.nan
            return UNREADABLE
        out[first + place] = np.float64(value)
    if here != stop:
        for place in range(length):
            out[first + place] = np.nan
        return UNREADABLE
    return PRESENT


@numba.njit(cache=True, nogil=True, _nrt=False)
def _take_state(  # type: ignore[no-untyped-def]
    buffer, at, end, words, used
):
    """Copy the state in a Value behind the words used: (mark, words used then)."""
    if at == end or buffer[at] != 0x0A:
        return UNREADABLE, used
    length, here = _varint(buffer, at + 1, end)
    if here < 0 or length <= 0 or here + length > end or length % 8 != 0:
        return UNREADABLE, used
    for word in range(length // 8):
        words[used + word] = np.int64(_word(buffer, here + 8 * word, 8))
    return PRESENT, used + length // 8


@numba.njit(cache=True, nogil=True, _nrt=False)
def decode(  # type: ignore[no-untyped-def]
    buffer, at, end, rows, fields, ttls, marks_first, texts, text_ends, times,
    matrix, marks, ages, words, begins, ends, bits, double, single,
):  # fmt: skip
    """Decode the answers from `at` on, one a row: (0 or what is wrong, where it ends, the words of
    the longest state).

    fields: (fields, 6); ttls: (views,) µs, -1 for ever; marks_first: where marks of views begin.
    Rows are as if nothing had been found before.
    """
    used = np.int64(0)
    longest = np.int64(0)
    matrix[:rows] = np.nan
    marks[:rows] = NOT_FOUND
    ages[:rows] = NO_AGE
    for row in range(rows):
        begins[row] = used
        ends[row] = used
        stop = _line(buffer, at, end)
        if stop < 0 or buffer[at] != 42:
            return (_ERROR if stop >= 0 and buffer[at] == 45 else _STRANGE), at, longest
        if _number(buffer, at + 1, stop) != fields.shape[0]:
            return _STRANGE, at, longest
        at = stop + 2
        state_time_bad = False
        for field in range(fields.shape[0]):
            stop = _line(buffer, at, end)
            if stop < 0 or buffer[at] != 36:
                return _STRANGE, at, longest
            length = _number(buffer, at + 1, stop)
            begin = stop + 2
            finish = begin + max(length, 0)
            at = finish + 2 if length >= 0 else begin
            kind = fields[field, F_KIND]
            if kind == SKIP:
                continue
            view = fields[field, F_VIEW]
            if kind == VIEW_TIME or kind == STATE_TIME:
                if kind == STATE_TIME:
                    state_time_bad = False
                if length < 0:
                    continue
                good, at_us = _timestamp(buffer, begin, finish)
                if not good:
                    state_time_bad = kind == STATE_TIME
                    marks[row, marks_first + view] = UNREADABLE
                    continue
                age_us = times[row] - at_us
                ages[row, view] = age_us
                expired = ttls[view] >= 0 and age_us > ttls[view]
                marks[row, marks_first + view] = EXPIRED if expired else PRESENT
                continue
            if kind == STATE:
                if length < 0:
                    marks[row, marks_first + view] = NOT_FOUND
                    ages[row, view] = NO_AGE
                    continue
                mark, used = _take_state(buffer, begin, finish, words, used)
                if state_time_bad:
                    mark = UNREADABLE
                if mark != PRESENT:
                    ages[row, view] = NO_AGE
                    used = begins[row]
                ends[row] = used
                longest = max(longest, used - begins[row])
                marks[row, marks_first + view] = mark
                continue
            whole = marks[row, marks_first + view]
            mark = np.int64(whole)
            if whole == PRESENT:
                column = fields[field, F_COLUMN]
                if length < 0:
                    mark = np.int64(NOT_FOUND)
                elif kind == NUMBER:
                    found, number = _scalar(buffer, begin, finish, bits, double, single)
                    mark = np.int64(found)
                    if column >= 0:
                        matrix[row, column] = number
                elif kind == TEXT:
                    found, number = _text(
                        buffer, begin, finish, fields[field, F_FROM], fields[field, F_TO],
                        texts, text_ends,
                    )  # fmt: skip
                    mark = np.int64(found)
                    if column >= 0:
                        matrix[row, column] = number
                else:
                    mark = np.int64(
                        _numbers(
                            buffer,
                            begin,
                            finish,
                            matrix[row],
                            column,
                            fields[field, F_TO],
                            bits,
                            double,
                            single,
                        )
                    )
            if fields[field, F_MARK] >= 0:
                marks[row, fields[field, F_MARK]] = mark
    return _OK, at, longest


@numba.njit(cache=True, nogil=True, _nrt=False)
def spread(  # type: ignore[no-untyped-def]
    computed, view, marks_first, rows, outcome, text_at, integers, floats, ok, raw,
    texts, text_ends, corridor, matrix, marks, ages, corridor_at,
):  # fmt: skip
    """Put what was computed of the rows' states into the matrix, and mark it.

    `corridor`: row of the table `computed` whose text is wanted, or -1; `corridor_at`: (rows, 2)
    where it begins among the bytes `raw` of the states and how long it is, -1 for none.
    """
    for row in range(rows):
        whole = marks[row, marks_first + view]
        if outcome[row] != 0:
            whole = np.uint8(UNREADABLE)
            marks[row, marks_first + view] = whole
            ages[row, view] = NO_AGE
        corridor_at[row, 1] = -1
        for c in range(computed.shape[0]):
            column = computed[c, C_COLUMN]
            flag = computed[c, C_OK]
            good = whole != UNREADABLE and (flag < 0 or ok[row, flag] != 0)
            number = np.nan
            if good:
                if computed[c, C_TEXT]:
                    at = text_at[row]
                    nth = integers[row, computed[c, C_AT]]
                    if nth == 0:
                        good = False
                    else:
                        for _ in range(nth - 1):
                            at += 2 + np.int64(raw[at]) + 256 * np.int64(raw[at + 1])
                        length = np.int64(raw[at]) + 256 * np.int64(raw[at + 1])
                        number = _category(
                            raw, at + 2, at + 2 + length, computed[c, C_FROM],
                            computed[c, C_TO], texts, text_ends,
                        )  # fmt: skip
                        if c == corridor:
                            corridor_at[row, 0] = at + 2
                            corridor_at[row, 1] = length
                elif computed[c, C_FLOAT]:
                    number = floats[row, computed[c, C_AT]]
                else:
                    number = np.float64(integers[row, computed[c, C_AT]])
            if column >= 0:
                matrix[row, column] = number
            if computed[c, C_MARK] >= 0:
                if whole != PRESENT:
                    marks[row, computed[c, C_MARK]] = whole
                else:
                    marks[row, computed[c, C_MARK]] = PRESENT if good else NULL


@numba.njit(cache=True, nogil=True, _nrt=False)
def share(  # type: ignore[no-untyped-def]
    rows, sources, columns, mark_places, views, from_matrix, from_marks, from_ages,
    matrix, marks, ages,
):  # fmt: skip
    """Copy columns, marks and ages of row sources[k] of one set of arrays to rows[k] of another."""
    for k in range(rows.shape[0]):
        row = rows[k]
        source = sources[k]
        for column in columns:
            matrix[row, column] = from_matrix[source, column]
        for place in mark_places:
            marks[row, place] = from_marks[source, place]
        for view in views:
            ages[row, view] = from_ages[source, view]
