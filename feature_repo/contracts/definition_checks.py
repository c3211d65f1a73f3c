"""What makes a definition wrong; found when a set is loaded, never while it runs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from feature_repo.contracts.columns import COLUMN_DTYPES
from feature_repo.contracts.definition import (
    AS_OF,
    Aggregate,
    Comparison,
    Derived,
    Dtype,
    Feature,
    Function,
    Lifetime,
    Operator,
    Session,
    Sliding,
)
from feature_repo.contracts.definition_types import dtype_of
from feature_repo.contracts.errors import DefinitionError
from feature_repo.contracts.events import EventType

MAX_LAST_N = 64
# A window's length in µs must fit the 48 bits that a stored event has for its age.
MAX_WINDOW = timedelta(days=1_500)
_NUMERIC = {Aggregate.SUM, Aggregate.MEAN, Aggregate.STD, Aggregate.MIN, Aggregate.MAX}
_WITHOUT_COLUMN = {Aggregate.TIME_SINCE, Aggregate.START, Aggregate.DURATION}
_MAY_DO_WITHOUT = {Aggregate.COUNT, Aggregate.RATE}
_NEVER_NULL = {Aggregate.COUNT, Aggregate.SUM, Aggregate.DISTINCT_COUNT}
_TILED = {
    Aggregate.COUNT,
    Aggregate.SUM,
    Aggregate.MEAN,
    Aggregate.MIN,
    Aggregate.MAX,
    Aggregate.RATE,
}


def check_feature(view: str, feature: Feature, hop: timedelta | None) -> None:
    """Refuse a feature that cannot be computed.

    Raises:
        DefinitionError: names the feature and says what is wrong with it.
    """
    where = f"feature {feature.name} of {view}"
    _check_window(where, feature)
    _check_column(where, feature)
    if feature.default is not None and (
        feature.aggregate in _NEVER_NULL or dtype_of(feature) not in (Dtype.INT64, Dtype.FLOAT64)
    ):
        raise DefinitionError(
            where,
            f"default={feature.default}",
            "no default for texts, sequences, counts and sums (of no events they are 0)",
            "leave it out",
        )
    for comparison in feature.events.where:
        _check_comparison(where, comparison)
    if feature.label_delay < timedelta(0) or feature.label_delay > MAX_WINDOW:
        raise DefinitionError(
            where, f"label_delay {feature.label_delay}", f"0 to {MAX_WINDOW}", "correct it"
        )
    if feature.label_delay and isinstance(feature.window, Session):
        raise DefinitionError(
            where, "label_delay in a session", "a sliding or lifetime window", "change the window"
        )
    if hop is not None and (
        feature.aggregate not in _TILED or not isinstance(feature.window, Sliding)
    ):
        raise DefinitionError(
            where,
            f"{feature.aggregate} over {type(feature.window).__name__}",
            f"{', '.join(sorted(_TILED))} over a sliding window, where the entity has a hop",
            "remove the hop, or the feature",
        )
    if hop is not None and (feature.label_delay or EventType.LABEL in feature.events.event_types):
        raise DefinitionError(
            where,
            "labels or a label_delay of an entity with a hop",
            "neither: a tile does not know when each label arrived",
            "remove the hop, or the feature",
        )


def _check_window(where: str, feature: Feature) -> None:
    window = feature.window
    length = window.length if isinstance(window, Sliding) else None
    if isinstance(window, Session):
        length = window.gap
        if window.back not in (0, 1):
            raise DefinitionError(where, f"back={window.back}", "0 or 1", "correct it")
    if length is not None and not timedelta(0) < length <= MAX_WINDOW:
        raise DefinitionError(
            where, f"a window of {length}", f"more than 0, at most {MAX_WINDOW}", "correct it"
        )
    if isinstance(window, Lifetime) and feature.aggregate is Aggregate.DISTINCT_COUNT:
        raise DefinitionError(
            where,
            "distinct_count over a lifetime",
            "a sliding window or a session: a lifetime's values would be kept for ever",
            "bound the window",
        )
    if isinstance(window, Lifetime) and feature.aggregate is Aggregate.RATE:
        raise DefinitionError(
            where, "rate over a lifetime", "a sliding window or a session", "bound the window"
        )


def _check_column(where: str, feature: Feature) -> None:
    aggregate, column = feature.aggregate, feature.column
    needs_n = aggregate is Aggregate.LAST_N
    if needs_n != (feature.n != 0) or not 0 <= feature.n <= MAX_LAST_N:
        raise DefinitionError(
            where, f"n={feature.n}", f"1 to {MAX_LAST_N} for last_n, none for others", "correct it"
        )
    if column is None:
        if aggregate not in _WITHOUT_COLUMN | _MAY_DO_WITHOUT:
            raise DefinitionError(where, "no column", f"a column for {aggregate}", "name one")
        return
    if aggregate in _WITHOUT_COLUMN:
        raise DefinitionError(where, column, f"no column for {aggregate}", "leave it out")
    dtype = COLUMN_DTYPES.get(column)
    if dtype is None:
        raise DefinitionError(
            where, column, f"a column: {', '.join(sorted(COLUMN_DTYPES))}", "correct it"
        )
    if dtype is Dtype.STRING and aggregate in _NUMERIC | {Aggregate.RATE}:
        raise DefinitionError(where, column, f"a number for {aggregate}", "choose another column")
    if dtype is Dtype.FLOAT64 and aggregate in {Aggregate.DISTINCT_COUNT, Aggregate.LAST_N}:
        raise DefinitionError(where, column, f"no float for {aggregate}", "choose another column")


def _check_comparison(where: str, comparison: Comparison) -> None:
    dtype = COLUMN_DTYPES.get(comparison.column)
    if dtype is None:
        raise DefinitionError(
            where,
            f"a comparison of {comparison.column}",
            f"a column: {', '.join(sorted(COLUMN_DTYPES))}",
            "correct it",
        )
    if (dtype is Dtype.STRING) != isinstance(comparison.value, str):
        raise DefinitionError(
            where,
            f"{comparison.column} compared with {comparison.value!r}",
            f"a constant of type {dtype}",
            "correct it",
        )
    if dtype is Dtype.STRING and comparison.operator not in (Operator.EQ, Operator.NE):
        raise DefinitionError(
            where, f"{comparison.column} {comparison.operator}", "eq or ne for a text", "correct it"
        )


def check_derived(view: str, derived: Derived, features: Collection[Feature | Derived]) -> None:
    """Refuse a derived feature whose inputs are not there, or are no numbers.

    Raises:
        DefinitionError: names the feature and says what is wrong with it.
    """
    where = f"feature {derived.name} of {view}"
    wanted = 2 if derived.function is Function.RATIO else 1
    if len(derived.of) != wanted:
        raise DefinitionError(where, derived.of, f"{wanted} input(s)", "correct it")
    inputs = {feature.name: feature for feature in features}
    for name in derived.of:
        if name == AS_OF:
            continue
        if name not in inputs:
            raise DefinitionError(where, name, "a feature of the same view, or as_of", "add it")
        if isinstance(inputs[name], Derived):
            raise DefinitionError(where, name, "a feature that is not derived itself", "correct it")
        if dtype_of(inputs[name]) not in (Dtype.INT64, Dtype.FLOAT64):
            raise DefinitionError(where, name, "a number", "choose another feature")
