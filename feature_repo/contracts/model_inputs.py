"""What a model is fed: an ordered list of features, and how their values become numbers.

Written by training beside each model version, read by serving: one encoding, so that a category
or a missing value cannot mean two things.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from feature_repo.contracts.embeddings import EMBEDDING_VIEW
from feature_repo.contracts.errors import ModelError

# Views whose inputs a version may leave out, all of them: there was no embedding to train on.
LEFT_OUT_VIEWS = frozenset({EMBEDDING_VIEW})
# The view of inputs that come with the request, not out of a store: `request:amount_minor`.
REQUEST_VIEW = "request"
# What a request can bring, with its Feast dtype.
REQUEST_FEATURES: Mapping[str, str] = {
    "amount_minor": "Int64",
    "corridor": "String",
    "device": "String",
    "event_type": "String",
}


class ModelInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input: its feature view, feature and Feast dtype, and the categories of a string.

    A category's number is its place in `categories`; a value that is not among them, and a
    missing value, become NaN. An array (`Array(Float32)`, an embedding) declares its `length` and
    takes that many columns; an array of another length is missing. `only` is the one value with
    which the inputs of its view count: an embedding's version (see `scoring.one_version`).
    """

    view: str
    feature: str
    dtype: str
    categories: tuple[str, ...] = ()
    length: int = 0
    only: int | None = None

    @property
    def ref(self) -> str:
        """Feast's reference, `view:feature`."""
        return f"{self.view}:{self.feature}"

    @property
    def is_array(self) -> bool:
        """Whether it is an array of numbers."""
        return self.dtype.startswith("Array(")

    @property
    def width(self) -> int:
        """How many columns of the matrix it takes."""
        return self.length if self.is_array else 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns: its feature's, with the place for each part of an array.

        >>> ModelInput("e", "embedding", "Array(Float32)", length=2).columns
        ('embedding_0', 'embedding_1')
        """
        if not self.is_array:
            return (self.feature,)
        return tuple(f"{self.feature}_{place}" for place in range(self.length))


class ModelInputs(msgspec.Struct, frozen=True):
    """The ordered inputs of one model version, with the Feast feature service they belong to.

    A version may leave out all inputs of `LEFT_OUT_VIEWS`, if there were none to train on.
    """

    feature_service: str
    inputs: tuple[ModelInput, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in the model's order."""
        return tuple(item.feature for item in self.inputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the matrix' columns: the feature names, arrays part by part."""
        return tuple(name for item in self.inputs for name in item.columns)

    @property
    def width(self) -> int:
        """How many columns the matrix has."""
        return sum(item.width for item in self.inputs)

    @property
    def offsets(self) -> tuple[int, ...]:
        """The first column of each input."""
        return tuple(accumulate((item.width for item in self.inputs[:-1]), initial=0))

    @property
    def stored(self) -> ModelInputs:
        """Those that come out of a store, which the feature service must offer."""
        return self.without({REQUEST_VIEW})

    def without(self, views: Collection[str]) -> ModelInputs:
        """Those of other views."""
        inputs = tuple(item for item in self.inputs if item.view not in views)
        return ModelInputs(self.feature_service, inputs)

    @property
    def embedding_version(self) -> int | None:
        """Of the vectors that it was trained on; None: on none, or it is fed none."""
        return next(
            (item.only for item in self.inputs if item.view == EMBEDDING_VIEW and item.only), None
        )

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the inputs that are categories."""
        return tuple(item.feature for item in self.inputs if item.dtype == "String")

    @property
    def fingerprint(self) -> str:
        """A hash of service, order, references and dtypes: what serving must offer.

        Categories, lengths and the one value that counts are not part of it: they belong to the
        model, not to the store.
        """
        text = "\n".join(
            [self.feature_service, *(f"{item.ref}:{item.dtype}" for item in self.inputs)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def matrix(self, frame: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Encode a frame with one column per feature name: shape (rows, width).

        Raises:
            ModelError: the frame lacks a column.
        """
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise ModelError(
                "features", missing, f"the columns of {self.feature_service}", "apply and backfill"
            )
        columns = []
        for item in self.inputs:
            column = frame[item.feature]
            if item.is_array:
                columns.append(_parts(column, item.length))
                continue
            if item.dtype == "String":
                codes = {name: float(code) for code, name in enumerate(item.categories)}
                column = column.cast(pl.String).replace_strict(
                    codes, default=None, return_dtype=pl.Float64
                )
            columns.append(column.cast(pl.Float64).fill_null(float("nan")).to_numpy())
        return np.column_stack(columns) if columns else np.empty((frame.height, 0))

    def rows(self, rows: Sequence[Mapping[str, object]]) -> npt.NDArray[np.float64]:
        """Encode mappings `view:feature -> value` (absent or None = missing), one a row."""
        out = np.full((len(rows), self.width), np.nan)
        for column, item in zip(self.offsets, self.inputs, strict=True):
            if item.is_array:
                for row, values in enumerate(rows):
                    parts = values.get(item.ref)
                    if isinstance(parts, Sequence) and len(parts) == item.length:
                        out[row, column : column + item.length] = parts
            elif item.dtype == "String":
                codes = {name: code for code, name in enumerate(item.categories)}
                for row, values in enumerate(rows):
                    text = values.get(item.ref)
                    if isinstance(text, str) and text in codes:
                        out[row, column] = codes[text]
            else:
                for row, values in enumerate(rows):
                    value = values.get(item.ref)
                    if value is not None:
                        out[row, column] = value
        return out

    def to_json(self) -> bytes:
        """Serialise, for the artifact beside the model."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def from_json(cls, raw: bytes) -> ModelInputs:
        """Read what `to_json` wrote.

        Raises:
            ModelError: the document is not one of model inputs.
        """
        try:
            return msgspec.json.decode(raw, type=cls)
        except msgspec.MsgspecError as error:
            raise ModelError(
                "model_inputs.json", expected="an ordered list of inputs", action=str(error)
            ) from error


def _parts(column: pl.Series, length: int) -> npt.NDArray[np.float64]:
    """A column of lists as (rows, length) numbers; a missing one, or of another length, NaN."""
    fits = (column.list.len() == length).fill_null(value=False).to_numpy()
    out = np.full((len(column), length), np.nan)
    if fits.any():
        numbers = column.filter(pl.Series(fits)).explode().cast(pl.Float64)
        out[fits] = numbers.fill_null(float("nan")).to_numpy().reshape(-1, length)
    return out


def learn_categories(inputs: Iterable[ModelInput], frame: pl.DataFrame) -> tuple[ModelInput, ...]:
    """Fill each string input's categories with the values seen in a training frame, sorted."""
    return tuple(
        msgspec.structs.replace(
            item,
            categories=tuple(sorted(frame[item.feature].drop_nulls().unique().to_list())),
        )
        if item.dtype == "String"
        else item
        for item in inputs
    )
