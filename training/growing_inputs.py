"""Inputs of a model that learns from a stream: categories are numbered as they are first seen."""

from __future__ import annotations

import msgspec
import polars as pl

from feature_repo.contracts.model_inputs import ModelInputs
from training.candidate import Matrix


def with_new_categories(inputs: ModelInputs, frame: pl.DataFrame) -> ModelInputs:
    """The inputs with the categories that a frame brings, behind those known: codes stay.

    >>> from feature_repo.contracts.model_inputs import ModelInput
    >>> item = ModelInput("v", "channel", "String", ("web",))
    >>> frame = pl.DataFrame({"channel": ["app", None, "web"]})
    >>> with_new_categories(ModelInputs("m", (item,)), frame).inputs[0].categories
    ('web', 'app')
    """
    grown = []
    for item in inputs.inputs:
        if item.dtype == "String":
            seen = frame[item.feature].drop_nulls().unique(maintain_order=True).to_list()
            new = tuple(dict.fromkeys((*item.categories, *seen)))
            grown.append(msgspec.structs.replace(item, categories=new))
        else:
            grown.append(item)
    return ModelInputs(inputs.feature_service, tuple(grown))


def frame_of(inputs: ModelInputs, rows: Matrix) -> pl.DataFrame:
    """A matrix' rows as the frame that they were made of: texts again, null where missing."""
    columns = {}
    for place, item in enumerate(inputs.inputs):
        numbers = pl.Series(rows[:, place]).fill_nan(None)
        if item.dtype == "String":
            codes = dict(enumerate(item.categories))
            columns[item.feature] = numbers.cast(pl.Int64).replace_strict(
                codes, default=None, return_dtype=pl.String
            )
        else:
            columns[item.feature] = numbers
    return pl.DataFrame(columns)
