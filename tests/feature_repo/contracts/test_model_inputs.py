from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.contracts.errors import ModelError
from feature_repo.contracts.model_inputs import (
    REQUEST_VIEW,
    ModelInput,
    ModelInputs,
    learn_categories,
)

INPUTS = ModelInputs(
    "service",
    (
        ModelInput("v", "count", "Int64"),
        ModelInput("v", "corridor", "String"),
        ModelInput("w", "rate", "Float64"),
    ),
)
ROW = st.fixed_dictionaries(
    {
        "count": st.none() | st.integers(-(2**40), 2**40),
        "corridor": st.none() | st.sampled_from(["GB-NG", "US-MX", "never seen"]),
        "rate": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    }
)


@given(rows=st.lists(ROW, min_size=1, max_size=20))
def test_training_and_serving_encode_alike(rows: list[dict[str, object]]) -> None:
    seen = pl.DataFrame({"corridor": ["US-MX", "GB-NG", None]})
    inputs = msgspec.structs.replace(INPUTS, inputs=learn_categories(INPUTS.inputs, seen))
    schema = {"count": pl.Int64, "corridor": pl.String, "rate": pl.Float64}
    trained = inputs.matrix(pl.DataFrame(rows, schema=schema))
    served = inputs.rows(
        [{f"{i.view}:{i.feature}": row[i.feature] for i in inputs.inputs} for row in rows]
    )
    np.testing.assert_array_equal(trained, served)
    for row, vector in zip(rows, served, strict=True):
        known = {"GB-NG": 0.0, "US-MX": 1.0}
        assert vector[1] == pytest.approx(known.get(str(row["corridor"]), np.nan), nan_ok=True)


def test_the_document_comes_back_as_it_was() -> None:
    assert ModelInputs.from_json(INPUTS.to_json()) == INPUTS
    with pytest.raises(ModelError, match="ordered list"):
        ModelInputs.from_json(b"[]")


def test_order_reference_and_type_change_the_fingerprint_and_categories_do_not() -> None:
    first, second, third = INPUTS.inputs
    replace = msgspec.structs.replace
    same = replace(INPUTS, inputs=(first, replace(second, categories=("a",)), third))
    assert same.fingerprint == INPUTS.fingerprint
    for changed in (
        (second, first, third),
        (replace(first, dtype="Float64"), second, third),
        (replace(first, view="w"), second, third),
        (first, second),
    ):
        assert replace(INPUTS, inputs=changed).fingerprint != INPUTS.fingerprint


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ModelError, match="corridor"):
        INPUTS.matrix(pl.DataFrame({"count": [1], "rate": [1.0]}))


WIDE = ModelInputs(
    "service",
    (
        ModelInput("v", "count", "Int64"),
        ModelInput("e", "embedding", "Array(Float32)", length=3),
        ModelInput(REQUEST_VIEW, "device", "String", ("ios",)),
    ),
)


def test_an_array_takes_as_many_columns_as_it_is_long() -> None:
    assert WIDE.columns == ("count", "embedding_0", "embedding_1", "embedding_2", "device")
    assert (WIDE.width, WIDE.offsets) == (5, (0, 1, 4))
    arrays = [[1.0, 2.0, 3.0], None, [1.0], [4.0, None, 6.0]]
    frame = pl.DataFrame(
        {"count": [1, 2, 3, None], "embedding": arrays, "device": ["ios", "x", None, "ios"]},
        schema={"count": pl.Int64, "embedding": pl.List(pl.Float32), "device": pl.String},
    )
    nan = float("nan")
    wanted = [
        [1, 1, 2, 3, 0],
        [2, nan, nan, nan, nan],
        [3, nan, nan, nan, nan],  # another length
        [nan, 4, nan, 6, 0],
    ]
    np.testing.assert_array_equal(WIDE.matrix(frame), wanted)
    rows = [
        {"v:count": row["count"], "e:embedding": row["embedding"], "request:device": row["device"]}
        for row in frame.to_dicts()
    ]
    np.testing.assert_array_equal(WIDE.rows(rows), wanted)


def test_what_the_request_brings_is_no_business_of_the_feature_service() -> None:
    assert [item.ref for item in WIDE.stored.inputs] == ["v:count", "e:embedding"]
    assert WIDE.stored.fingerprint != WIDE.fingerprint
    assert INPUTS.stored == INPUTS
    longer = msgspec.structs.replace(WIDE.inputs[1], length=4)
    other = ModelInputs("service", (WIDE.inputs[0], longer, WIDE.inputs[2]))
    assert other.fingerprint == WIDE.fingerprint, "the length belongs to the model"
    assert ModelInputs.from_json(WIDE.to_json()) == WIDE
