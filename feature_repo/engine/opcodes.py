"""Numbers by which the kernels know what to do: one a kind of aggregate, none a definition.

The kernels' arrays have one or two letters:

    K constants   P passes   A atoms   F features   C stored columns   SR settled rows   N keeps
    T, M          event times and bits of the key at hand, in (event time, log order)
    V, VF         its stored columns' values (column, event), as words and as floats
    S, SF         what is settled of it, as words and as floats
    AI, AF        the atoms' running integers and floats     LN       counters of filters
    LP, LK, SB    sums over the key's events (see `running`)   AT   where windows began last
    DK, DS        sets of values met in a walk, and in which walk
    E, EF         events of a batch, a row each, as words and as floats
    B             all blocks     oi, of, ofi, ok   outputs (row, place), see `values.Outputs`
"""

from __future__ import annotations

# What an atom (a running value of one backward scan) takes up from an event.
COUNT, SUM_I, SUM_F, MIN_I, MIN_F, MAX_I, MAX_F, LATEST, OLDEST, TIMES, MOMENTS_I, MOMENTS_F = (
    range(12)
)
DISTINCT, SEQUENCE = 12, 13

# How a feature's value is read off its atoms once the scan has passed the window's older edge.
(
    GIVE_LANE,
    GIVE_COUNT,
    GIVE_SUM_I,
    GIVE_SUM_F,
    GIVE_MEAN_I,
    GIVE_MEAN_F,
    GIVE_VALUE,
    GIVE_FLOAT,
    GIVE_SINCE,
    GIVE_START,
    GIVE_DURATION,
    GIVE_STD,
    GIVE_SEQUENCE,
    GIVE_QUOTIENT,
    GIVE_RATE_I,
    GIVE_RATE_F,
    GIVE_MIN_F,
    GIVE_MAX_F,
    GIVE_MIN_I,
    GIVE_MAX_I,
    GIVE_OF_SESSION,
) = range(21)

# Columns of the table of passes: one scan over the retained events each.
P_BACK, P_DELAY, P_F0, P_F1, P_A0, P_A1, P_GUARD = range(7)
P_WIDTH = 7
NOT_A_SESSION = -1  # P_BACK of a scan of sliding and lifetime windows

# Columns of the table of atoms.
A_OP, A_NEED, A_COLUMN, A_SHIFT, A_SET, A_ROW, A_N = range(7)
A_WIDTH = 7

# Columns of the table of features, those of a pass together, by window length.
(
    F_GIVE,
    F_WINDOW,
    F_ATOM,
    F_ATOM2,
    F_BIT,
    F_OUT,
    F_OK,
    F_SETTLED,
    F_DIVISOR,
) = range(9)
F_WIDTH = 9

# Columns of the table of what a key keeps of events older than its retention (lifetimes).
S_OP, S_NEED, S_COLUMN, S_SHIFT, S_AT = range(5)
S_WIDTH = 5

# Columns of the table of stored columns: how long their values are kept.
C_BIT, C_REACH, C_BACK, C_MERGE = range(4)
C_WIDTH = 4
MERGE_ADD_I, MERGE_ADD_F, MERGE_MIN_I, MERGE_MIN_F, MERGE_MAX_I, MERGE_MAX_F = range(6)

# Entries of the vector of a program's constants.
(
    K_SESSION_BIT,
    K_LABEL_BIT,
    K_GAP,
    K_BACK,
    K_LATENESS,
    K_REACH,
    K_HOP,
    K_KNOWN,
    K_ORDINAL,
    K_COLUMNS,
    K_SETTLED,
    K_WIDE,
    K_FILTERS,
) = range(13)
K_WIDTH = 13

# Columns of the table of events; the stored columns' words are behind them.
E_TIME, E_KNOWN, E_BITS, E_VALUES = range(4)

# Counters of filters lie two to a word: two filters' bits are spread over it and added at once.
LANES_A_WORD = 2
LANES_MASK = 3
LANES_SPREAD = 1 | 1 << 31
LANES_ONES = 1 | 1 << 32
LANES_COUNT = (1 << 32) - 1

FOREVER = 1 << 62  # a window, or a reach, without an older edge
TEXT_BITS = 21  # a text's code in a word of three
TEXT_MASK = (1 << TEXT_BITS) - 1
