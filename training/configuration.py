"""A model's configuration: values in `training/configs/<model>.yaml`, types in the model's file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from feature_repo.contracts.errors import ModelError

FOLDER = Path(__file__).with_name("configs")
Config = TypeVar("Config")


def load_config(
    kind: type[Config], model: str, changes: Mapping[str, object] | None = None
) -> Config:
    """Read a model's configuration, with single values changed.

    Args:
        kind: the model's dataclass of values.
        model: its name; `configs/<model>.yaml` is read.
        changes: field -> another value; a duration as ISO 8601 text (`PT2H`).

    Raises:
        ModelError: a value is unknown, missing or not of its type.
    """
    path = FOLDER / f"{model}.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    fields = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    for name in {*values, *(changes or {})} - fields:
        raise ModelError(
            f"{model}.{name}", expected=f"one of {sorted(fields)}", action="see its configuration"
        )
    try:
        return msgspec.convert(values | dict(changes or {}), kind)
    except msgspec.ValidationError as error:
        raise ModelError(
            f"configuration of {model}", expected=str(error), action=f"mend it, see {path.name}"
        ) from error


def config_fingerprint(config: object) -> str:
    """A hash of a configuration's values (16 hex digits): equal values, equal fingerprint."""
    if not is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"{config!r} is no configuration")
    text = msgspec.json.encode(asdict(config), order="sorted")
    return hashlib.sha256(text).hexdigest()[:16]
