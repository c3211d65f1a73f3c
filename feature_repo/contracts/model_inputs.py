"""What a model is fed: an ordered list of features, and how their values become numbers.

Written by training beside each model version, read by serving: one encoding, so that a category
or a missing value cannot mean two things.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from feature_repo.contracts.errors import ModelError


class ModelInput(msgspec.Struct, frozen=True):
    """One input: its feature view, feature and Feast dtype, and the categories of a string.

    A category's number is its place in `categories`; a value that is not among them, and a
    missing value, become NaN.
    """

    view: str
    feature: str
    dtype: str
    categories: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """Feast's reference, `view:feature`."""
        return f"{self.view}:{self.feature}"


class ModelInputs(msgspec.Struct, frozen=True):
    """The ordered inputs of one model version, with the Feast feature service they belong to."""

    feature_service: str
    inputs: tuple[ModelInput, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in the model's order."""
        return tuple(item.feature for item in self.inputs)

    @property
    def categorical(self) -> tuple[str, ...]:
        """Names of the inputs that are categories."""
        return tuple(item.feature for item in self.inputs if item.dtype == "String")

    @property
    def fingerprint(self) -> str:
        """A hash of service, order, references and dtypes: what serving must offer.

        Categories are not part of it: they belong to the model, not to the store.
        """
        text = "\n".join(
            [self.feature_service, *(f"{item.ref}:{item.dtype}" for item in self.inputs)]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def matrix(self, frame: pl.DataFrame) -> npt.NDArray[np.float64]:
        """Encode a frame with one column per feature name: shape (rows, inputs).

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
            if item.dtype == "String":
                codes = {name: float(code) for code, name in enumerate(item.categories)}
                column = column.cast(pl.String).replace_strict(
                    codes, default=None, return_dtype=pl.Float64
                )
            columns.append(column.cast(pl.Float64).fill_null(float("nan")).to_numpy())
        return np.column_stack(columns) if columns else np.empty((frame.height, 0))

    def rows(self, rows: Sequence[Mapping[str, object]]) -> npt.NDArray[np.float64]:
        """Encode mappings `view:feature -> value` (absent or None = missing), one a row."""
        out = np.full((len(rows), len(self.inputs)), np.nan)
        for column, item in enumerate(self.inputs):
            if item.dtype == "String":
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
