"""What all knobs of the world share: their ranges, and the error that names a bad one."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from feature_repo.contracts.errors import DaimaError

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$")]
Name = Annotated[str, Meta(pattern="^[a-z0-9_+-]+$", max_length=40)]


class WorldError(DaimaError):
    """A knob of the simulated world, or an argument of a simulation, makes no sense."""


class Knobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all knobs: immutable, and a misspelt one is refused."""


class LogNormal(Knobs, frozen=True):
    """A lognormal distribution by its median and the sigma of its logarithm."""

    median: Positive
    sigma: NotNegative


class Between(Knobs, frozen=True):
    """A range of days; `world_checks` sees to it that it is not inverted."""

    least: NotNegative
    most: Positive
