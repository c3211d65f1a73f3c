"""The online value of a key, its *state*: what a later reading at any instant needs, in bytes.

    bytes          what
    8              fingerprint of the program (another set's states are refused, never misread)
    4, 4           how many bytes of texts, how many texts
    8 x words      the key's block (see `block`), without what only a shard needs
    ...            texts: length (2 bytes) and UTF-8 each; padded to a multiple of 8 bytes

Texts are numbered within a state, in the block by those numbers: a state stands alone.
"""

from __future__ import annotations

import numba
import numpy as np

from feature_repo.engine.block import load, measure, store
from feature_repo.engine.opcodes import *
from feature_repo.engine.prefetch import AHEAD, prefetch, prefetch_block
from feature_repo.engine.running import extend
from feature_repo.engine.scan import evaluate

STATE_HEAD = 2  # words before the block
WRITTEN, NO_ROOM = 0, 1
READ, OTHER_SET, DAMAGED = 0, 1, 2


@numba.njit(cache=True, nogil=True, _nrt=False)
def _local(texts, count, code):  # type: ignore[no-untyped-def]
    """The number of a text within the state, from 1; the new count of texts."""
    for at in range(count):
        if texts[at] == code:
            return at + 1, count
    texts[count] = code
    return count + 1, count + 1


@numba.njit(cache=True, nogil=True, _nrt=False)
def write_states(  # type: ignore[no-untyped-def]
    K, C, SR, fingerprint, slots, slot_at, B, T, M, V, S, counts, local, text_ends,
    text_data, is_texts, out, ends, begin,
):  # fmt: skip
    """Write the states of slots from `begin` on; returns (why it came back, where to go on).

    `ends[k]` is the word at which state k begins; the array is one longer than the slots.
    """
    for k in range(begin, slots.shape[0]):
        slot = slots[k]
        if k + AHEAD < slots.shape[0]:
            prefetch(slot_at, slots[k + AHEAD])
            prefetch_block(B, slot_at[slots[k + AHEAD // 2]])
        n, newest = load(B, slot_at[slot], K, C, T, M, V, S)
        words, wide = measure(K, C, T, M, n, newest, counts)
        if K[K_ORDINAL] >= 0:
            words -= counts[K[K_ORDINAL]]
            counts[K[K_ORDINAL]] = 0
            for i in range(n):
                M[i] &= ~C[K[K_ORDINAL], C_BIT]
        texts = 0
        for c in range(K[K_COLUMNS]):
            if is_texts[c] and counts[c] > 0:
                for i in range(n):
                    if M[i] & C[c, C_BIT] == 0:
                        continue
                    word = np.int64(0)
                    for shift in range(0, 63, TEXT_BITS):
                        code = (V[c, i] >> shift) & TEXT_MASK
                        if code != 0:
                            number, texts = _local(local, texts, code)
                            word |= np.int64(number) << shift
                    V[c, i] = word
        for r in range(SR.shape[0]):
            kind = SR[r, S_OP]
            s = SR[r, S_AT]
            if SR[r, S_SHIFT] >= 0 and (kind == LATEST or kind == OLDEST) and S[s] > 0:
                S[s + 1], texts = _local(local, texts, S[s + 1])
        size = 0
        for at in range(texts):
            size += 2 + text_ends[local[at] + 1] - text_ends[local[at]]
        total = STATE_HEAD + words + (size + 7) // 8
        place = ends[k]
        if place + total > out.shape[0]:
            return NO_ROOM, k
        out[place] = fingerprint
        out[place + 1] = size | (texts << 32)
        store(out, place + STATE_HEAD, K, C, T, M, V, S, n, newest, wide, counts)
        place += STATE_HEAD + words
        for w in range((size + 7) // 8):
            out[place + w] = 0
        byte = 0
        for at in range(texts):
            start = text_ends[local[at]]
            length = text_ends[local[at] + 1] - start
            for j in range(2 + length):
                if j == 0:
                    raw = length & 0xFF
                elif j == 1:
                    raw = length >> 8
                else:
                    raw = np.int64(text_data[start + j - 2])
                out[place + (byte >> 3)] |= raw << ((byte & 7) << 3)
                byte += 1
        ends[k + 1] = ends[k] + total
    return WRITTEN, slots.shape[0]


@numba.njit(cache=True, nogil=True, _nrt=False)
def _block_words(B, at, limit, K):  # type: ignore[no-untyped-def]
    """How long the block at B[at:limit] says it is; -1 if it cannot be one."""
    head = at + 3 + ((K[K_COLUMNS] + 1) >> 1)
    if head > limit:
        return np.int64(-1)
    n = B[at] & 0xFFFFFFFF
    wide = B[at] >> 32
    if n < 0 or n > limit - at or wide < 0 or wide > 1:
        return np.int64(-1)
    words = head - at + K[K_SETTLED] + n * (1 + wide)
    for c in range(K[K_COLUMNS]):
        count = (B[at + 3 + (c >> 1)] >> ((c & 1) << 5)) & 0xFFFFFFFF
        if count > n:
            return np.int64(-1)
        words += count
    return words if words <= limit - at else np.int64(-1)


@numba.njit(cache=True, nogil=True, _nrt=False)
def read_many(  # type: ignore[no-untyped-def]
    K, P, A, F, C, fingerprint, words, begins, ends, times,
    T, M, V, VF, S, SF, AI, AF, LN, LP, LK, SB, AT, DK, DS, clock,
    oi, of, ofi, ok, outcome, text_at,
):  # fmt: skip
    """Evaluate states words[begins[k]:ends[k]] at times[k]; an empty one is a key without events.

    `outcome[k]`: READ, OTHER_SET or DAMAGED. `text_at[k]`: where its texts begin, in bytes.
    """
    for k in range(times.shape[0]):
        n = np.int64(0)
        for s in range(S.shape[0]):
            S[s] = 0
        outcome[k] = READ
        if ends[k] > begins[k]:
            at = begins[k]
            if ends[k] - at < STATE_HEAD:
                outcome[k] = DAMAGED
            elif words[at] != fingerprint:
                outcome[k] = OTHER_SET
            else:
                length = _block_words(words, at + STATE_HEAD, ends[k], K)
                size = words[at + 1] & 0xFFFFFFFF
                if length < 0 or at + STATE_HEAD + length + (size + 7) // 8 != ends[k]:
                    outcome[k] = DAMAGED
                else:
                    text_at[k] = (at + STATE_HEAD + length) * 8
                    n, _ = load(words, at + STATE_HEAD, K, C, T, M, V, S)
        t = times[k]
        limit = n - 1
        while limit >= 0 and T[limit] > t:
            limit -= 1
        extend(K, P, T, M, LP, LK, SB, 0, n)
        evaluate(
            K, P, A, F, T, M, V, VF, S, SF, AI, AF, LN, LP, LK, SB, AT, DK, DS, clock,
            t, limit, oi, of, ofi, ok, k,
        )  # fmt: skip
