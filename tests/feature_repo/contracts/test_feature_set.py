"""A wrong definition is refused when its set is made, with its name and the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from feature_repo.contracts.definition import (
    AS_OF,
    Aggregate,
    Comparison,
    Derived,
    Feature,
    Filter,
    Function,
    Lifetime,
    Operator,
    Session,
    Sliding,
)
from feature_repo.contracts.errors import DefinitionError
from feature_repo.contracts.events import EventType
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View, load_feature_set
from feature_repo.contracts.features import FEATURE_SET, SESSION_GAP

CUSTOMER = EntityKey("customer", ("customer_id",), "customer_id")
HOUR = Sliding(timedelta(hours=1))
COUNT = Feature(Aggregate.COUNT, HOUR)


def set_of(*features: Feature | Derived, entity: EntityKey = CUSTOMER) -> FeatureSet:
    return FeatureSet("mine", (View("activity", entity, features),))


def where(column: str, operator: Operator, value: float | str) -> Feature:
    return replace(COUNT, events=Filter(where=(Comparison(column, operator, value),)))


TILED = replace(CUSTOMER, hop=timedelta(minutes=5))
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "unknown column": (
        lambda: set_of(Feature(Aggregate.SUM, HOUR, "amount")),
        "feature amount_sum_1h of activity is 'amount': expected a column: amount_minor",
    ),
    "no column": (
        lambda: set_of(Feature(Aggregate.SUM, HOUR)),
        "feature sum_1h of activity is 'no column': expected a column for sum",
    ),
    "a column too many": (
        lambda: set_of(Feature(Aggregate.START, HOUR, "page")),
        "'page': expected no column for start; leave it out",
    ),
    "a text where a number belongs": (
        lambda: set_of(Feature(Aggregate.MEAN, HOUR, "page")),
        "page_mean_1h of activity is 'page': expected a number for mean",
    ),
    "different floats": (
        lambda: set_of(Feature(Aggregate.DISTINCT_COUNT, HOUR, "label_value")),
        "expected no float for distinct_count",
    ),
    "a negative window": (
        lambda: set_of(Feature(Aggregate.COUNT, Sliding(-timedelta(hours=1)))),
        "a window of -1 day, 23:00:00': expected more than 0",
    ),
    "an empty window": (
        lambda: set_of(Feature(Aggregate.COUNT, Sliding(timedelta(0)))),
        "expected more than 0",
    ),
    "an endless window": (
        lambda: set_of(Feature(Aggregate.COUNT, Sliding(timedelta(days=5_000)))),
        "at most 1500 days",
    ),
    "a session too far back": (
        lambda: set_of(Feature(Aggregate.COUNT, Session(back=2))),
        "'back=2': expected 0 or 1",
    ),
    "a negative delay": (
        lambda: set_of(replace(COUNT, label_delay=-timedelta(days=1))),
        "label_delay -1 day",
    ),
    "a delay in a session": (
        lambda: set_of(Feature(Aggregate.COUNT, Session(), label_delay=timedelta(days=1))),
        "label_delay in a session",
    ),
    "different values of a lifetime": (
        lambda: set_of(Feature(Aggregate.DISTINCT_COUNT, Lifetime(), "page")),
        "distinct_count over a lifetime",
    ),
    "rate of a lifetime": (
        lambda: set_of(Feature(Aggregate.RATE, Lifetime())),
        "rate over a lifetime",
    ),
    "last nothing": (
        lambda: set_of(Feature(Aggregate.LAST_N, HOUR, "page")),
        "'n=0': expected 1 to 64 for last_n",
    ),
    "n for another aggregate": (
        lambda: set_of(Feature(Aggregate.SUM, HOUR, "fee_minor", n=2)),
        "'n=2': expected 1 to 64 for last_n, none for others",
    ),
    "a default text": (
        lambda: set_of(Feature(Aggregate.LAST, HOUR, "page", default=0.0)),
        "no default for texts",
    ),
    "a default of what is never null": (
        lambda: set_of(replace(COUNT, default=0.0)),
        "no default for texts, sequences, counts and sums",
    ),
    "a default sequence": (
        lambda: set_of(Feature(Aggregate.LAST_N, HOUR, "fee_minor", n=2, default=0.0)),
        "no default for texts, sequences",
    ),
    "a comparison of an unknown column": (
        lambda: set_of(where("amount", Operator.GT, 1)),
        "a comparison of amount",
    ),
    "a comparison of a number with a text": (
        lambda: set_of(where("amount_minor", Operator.GT, "1")),
        "amount_minor compared with '1'",
    ),
    "a comparison of a text with a number": (
        lambda: set_of(where("page", Operator.EQ, 1)),
        "page compared with 1",
    ),
    "an order of texts": (
        lambda: set_of(where("page", Operator.LT, "home")),
        "expected eq or ne for a text",
    ),
    "two features of one name": (
        lambda: set_of(COUNT, COUNT),
        "feature is 'event_count_1h': expected different names; remove one of the two",
    ),
    "a derived feature of an unknown one": (
        lambda: set_of(COUNT, Derived("x", Function.HOUR, ("session_start_us",))),
        "feature x of activity is 'session_start_us': expected a feature of the same view",
    ),
    "a derived feature of a text": (
        lambda: set_of(
            Feature(Aggregate.LAST, HOUR, "page"), Derived("x", Function.HOUR, ("page_last_1h",))
        ),
        "feature x of activity is 'page_last_1h': expected a number",
    ),
    "a derived feature of a derived one": (
        lambda: set_of(Derived("x", Function.HOUR, ("y",)), Derived("y", Function.HOUR, (AS_OF,))),
        "feature x of activity is 'y': expected a feature that is not derived itself",
    ),
    "a ratio of one": (
        lambda: set_of(COUNT, Derived("x", Function.RATIO, (AS_OF,))),
        r"expected 2 input\(s\)",
    ),
    "a key of numbers": (
        lambda: set_of(COUNT, entity=EntityKey("amount", ("amount_minor",), "amount_minor")),
        "key of amount is 'amount_minor': expected a text column",
    ),
    "a key of nothing": (
        lambda: set_of(COUNT, entity=EntityKey("nobody", (), "nobody")),
        "key of nobody",
    ),
    "no hop": (
        lambda: set_of(COUNT, entity=replace(CUSTOMER, hop=timedelta(0))),
        "hop of customer is '0:00:00'",
    ),
    "what tiles cannot answer": (
        lambda: set_of(Feature(Aggregate.LAST, HOUR, "page"), entity=TILED),
        "last over Sliding",
    ),
    "a lifetime of tiles": (
        lambda: set_of(Feature(Aggregate.COUNT, Lifetime()), entity=TILED),
        "count over Lifetime",
    ),
    "labels in tiles": (
        lambda: set_of(replace(COUNT, events=Filter((EventType.LABEL,))), entity=TILED),
        "labels or a label_delay of an entity with a hop",
    ),
    "a delay in tiles": (
        lambda: set_of(replace(COUNT, label_delay=timedelta(days=1)), entity=TILED),
        "labels or a label_delay of an entity with a hop",
    ),
    "two session gaps": (
        lambda: set_of(
            Feature(Aggregate.COUNT, Session()),
            Feature(Aggregate.START, Session(timedelta(hours=1))),
        ),
        "session gaps of customer is '0:30:00, 1:00:00': expected one gap an entity",
    ),
    "no views": (lambda: FeatureSet("mine", ()), "mine is 'no views'"),
    "two views of one name": (
        lambda: FeatureSet(
            "mine", (View("v", CUSTOMER, (COUNT,)), View("v", CUSTOMER, (COUNT,), "b_"))
        ),
        "view is 'v': expected different names",
    ),
    "two entities of one name": (
        lambda: FeatureSet(
            "mine", (View("v", CUSTOMER, (COUNT,)), View("w", TILED, (COUNT,), "b_"))
        ),
        "entity is 'customer': expected different names",
    ),
    "a negative lateness": (
        lambda: FeatureSet("mine", (View("v", CUSTOMER, (COUNT,)),), -timedelta(hours=1)),
        "lateness is '-1 day, 23:00:00'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_definition_is_refused_with_its_name_and_the_reason(case: str) -> None:
    make, said = WRONG[case]
    with pytest.raises(DefinitionError, match=said):
        make()


def test_a_prefix_keeps_names_of_two_entities_apart() -> None:
    terminal = EntityKey("terminal", ("counterparty_id",), "counterparty_id")
    both = FeatureSet(
        "mine", (View("v", CUSTOMER, (COUNT,)), View("w", terminal, (COUNT,), "terminal_"))
    )
    assert [output.name for output in both.outputs_of(terminal)] == ["terminal_event_count_1h"]
    assert both.entity("terminal") == terminal
    with pytest.raises(DefinitionError, match="one of: customer, terminal"):
        both.entity("corridor")


def test_the_default_set_has_three_entities_and_one_gap() -> None:
    assert [entity.name for entity in FEATURE_SET.entities] == [
        "customer",
        "corridor",
        "counterparty",
    ]
    assert [view.name for view in FEATURE_SET.views_of(FEATURE_SET.entity("customer"))] == [
        "customer_session",
        "customer_activity",
    ]
    assert timedelta(minutes=30) == SESSION_GAP
    assert load_feature_set(None) is FEATURE_SET


HEAD = """
from datetime import timedelta
from feature_repo.contracts.definition import Aggregate, Feature, Sliding
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View
CUSTOMER = EntityKey("customer", ("customer_id",), "customer_id")
"""
BODY = """
HOUR = Sliding(timedelta(hours={hours}))
FEATURE_SET = FeatureSet("mine", (View("v", CUSTOMER, (Feature(Aggregate.COUNT, HOUR),)),))
"""


def test_a_set_is_loaded_from_a_module(tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text(HEAD + BODY.format(hours=2))
    found = load_feature_set(module)
    assert [output.name for output in found.outputs_of(found.entities[0])] == ["event_count_2h"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "expected a Python file; check the path"),
        ("FEATURES = 1", r"a module with FEATURE_SET = FeatureSet\(\.\.\.\)"),
        ("FEATURE_SET = 1", "a module with FEATURE_SET"),
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        (HEAD + BODY.format(hours=-1), "feature event_count_-1h of v is 'a window of -1 day"),
    ],
)
def test_a_module_that_gives_no_set_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    module = tmp_path / "mine.py"
    if text is not None:
        module.write_text(text)
    with pytest.raises(DefinitionError, match=said):
        load_feature_set(module)
