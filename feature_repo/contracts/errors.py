"""Errors that tell a person what to do next."""

from __future__ import annotations


class DaimaError(Exception):
    """A problem with something a person gave us: an input, a file, a setting, a missing server.

    Carries the field, the value (leave it out when it is secret), what was expected and the
    next action. Interfaces (command line, API) print it without a traceback.

    >>> print(DaimaError("amount_minor", -5, "a whole number >= 0", "mend the row"))
    amount_minor is -5: expected a whole number >= 0; mend the row
    """

    def __init__(
        self, field: str, value: object = ..., expected: str = "", action: str = ""
    ) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        self.action = action
        shown = field if value is ... else f"{field} is {value!r}"
        parts = [f"{shown}: expected {expected}" if expected else shown, action]
        super().__init__("; ".join(part for part in parts if part))


class SettingsError(DaimaError):
    """A setting (environment variable, option) is missing or malformed."""


class MappingError(DaimaError):
    """A mapping file does not say how to read its source."""


class InputError(DaimaError):
    """A file of events cannot be read at all (single bad rows are dead letters, not errors)."""


class EventError(DaimaError):
    """One event does not fit the event schema."""


class StoreUnavailableError(DaimaError):
    """The online store does not answer; trying again later may help."""


class DatasetError(DaimaError):
    """A training set cannot be built from what the offline store holds."""


class ModelError(DaimaError):
    """A model is unknown, not registered, or does not fit the features served."""


class DefinitionError(DaimaError):
    """A feature definition is wrong, or does not fit what was computed with another."""
