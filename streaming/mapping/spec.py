"""What a mapping file may say: where each field of an event comes from in a source of one's own.

The YAML is read with every scalar as text, so that `Norway: NO` stays the country code NO and
`1: app` a translation of the value 1; the typed form below gives each text its meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from feature_repo.contracts.errors import MappingError
from feature_repo.contracts.events import DERIVED_FIELDS, EVENT_SCHEMA
from streaming.mapping.suggestions import did_you_mean, listed
from streaming.mapping.values import check_duration, check_format, check_texts, check_timezone
from streaming.mapping.yaml_text import read_yaml

TARGETS: tuple[str, ...] = tuple(name for name in EVENT_SCHEMA.names if name not in DERIVED_FIELDS)
REQUIRED: tuple[str, ...] = ("event_id", "event_time", "customer_id", "event_type")


class Kind(StrEnum):
    """How a target field is read."""

    TEXT = "text"
    TIME = "time"
    AMOUNT = "amount"
    NUMBER = "number"


KINDS: dict[str, Kind] = dict.fromkeys(TARGETS, Kind.TEXT) | {
    "event_time": Kind.TIME,
    "label_arrival_time": Kind.TIME,
    "amount_minor": Kind.AMOUNT,
    "fee_minor": Kind.AMOUNT,
    "label_value": Kind.NUMBER,
}
_OPTIONS: dict[Kind, tuple[str, ...]] = {
    Kind.TEXT: ("column", "columns", "join", "constant", "translate", "default"),
    Kind.TIME: ("column", "unit", "format", "timezone"),
    Kind.AMOUNT: ("column", "constant", "unit"),
    Kind.NUMBER: ("column", "constant"),
}
_UNITS: dict[Kind, tuple[str, ...]] = {
    Kind.TIME: ("us", "ms", "s"),
    Kind.AMOUNT: ("major", "minor"),
}
_ORIGINS = ("column", "columns", "constant", "row_number")

T = TypeVar("T")
Format = Literal["parquet", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = ("parquet", "csv", "jsonl")


class FieldSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one event field comes from: a column, joined columns, a constant or the row's number.

    Attributes:
        translate: source value (as text) -> event value; a value that it lacks is a dead letter
            unless `default` is given.
        default: stands in for values without translation and for missing ones; "" leaves the
            field empty.
        unit: of a number: us, ms or s since 1970 for times; major or minor for amounts.
        format: of a time in text, in strftime's codes; ISO 8601 without it.
        timezone: of times that carry none.
    """

    column: str | None = None
    columns: tuple[str, ...] = ()
    join: str = "-"
    constant: str | None = None
    row_number: bool = False
    translate: dict[str, str] = {}
    default: str | None = None
    unit: str | None = None
    format: str | None = None
    timezone: str = "UTC"

    @property
    def reads(self) -> tuple[str, ...]:
        """The source columns that this field reads."""
        return self.columns if self.column is None else (self.column,)


class SourceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's format (from its suffix unless given), and which of its rows are no events.

    A row is skipped, and counted as such, when all columns of `skip_where` have the given values.
    """

    format: Format | None = None
    skip_where: dict[str, str] = {}


class LabelSource(msgspec.Struct, frozen=True):
    """Each row is also a label of its own event, known some time after it.

    Attributes:
        value: the column of the label's value; a row without one gives no label.
        after: how long after the event its label became known.
    """

    value: str
    after: timedelta


class Mapping(msgspec.Struct, frozen=True):
    """How the rows of one kind of source become events; see docs/mapping.md."""

    fields: dict[str, FieldSource]
    source: SourceSpec = SourceSpec()
    label: LabelSource | None = None

    @classmethod
    def load(cls, path: Path) -> Mapping:
        """Read a mapping file.

        Raises:
            MappingError: the file cannot be read, is not YAML, or does not say what it must;
                names the place in the file, and close names where there are some.
        """
        return parse_mapping(read_yaml(path))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every source column that is read, once, in the mapping's order."""
        every = [*self.source.skip_where]
        for field in self.fields.values():
            every.extend(field.reads)
        if self.label is not None:
            every.append(self.label.value)
        return tuple(dict.fromkeys(every))

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The columns without which no row can be an event, or be known to be none."""
        every = [*self.source.skip_where]
        for name in REQUIRED:
            every.extend(self.fields[name].reads)
        return tuple(dict.fromkeys(every))

    def check_columns(self, available: Sequence[str], wanted: Iterable[str] | None = None) -> None:
        """Hold the mapping's columns (or those `wanted`) against those of a source.

        Raises:
            MappingError: the source lacks one.
        """
        for column in self.columns if wanted is None else wanted:
            if column not in available:
                readers = [name for name, field in self.fields.items() if column in field.reads]
                place = f"fields.{readers[0]}" if readers else "source.skip_where"
                if not readers and self.label is not None and self.label.value == column:
                    place = "label.value"
                raise MappingError(
                    place,
                    column,
                    f"a column of the source ({listed(available)})",
                    f"name one of them{did_you_mean(column, available)}",
                )


def parse_mapping(document: object) -> Mapping:
    """Check a mapping document (texts, lists and dictionaries) and give it its types.

    Raises:
        MappingError: see `Mapping.load`.
    """
    top = _table("mapping", document, ("source", "fields", "label"))
    source = _table("source", top.get("source", {}), ("format", "skip_where"))
    file_format = source.get("format")
    if file_format is not None and file_format not in FORMATS:
        raise MappingError(
            "source.format",
            file_format,
            f"one of {listed(FORMATS)}",
            f"name one, or leave it to the file's suffix{did_you_mean(file_format, FORMATS)}",
        )
    fields = _table("fields", top.get("fields", {}), TARGETS, "an event field")
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        raise MappingError(
            f"fields.{missing[0]}",
            expected="every mapping to give " + listed(REQUIRED),
            action=f"add {missing[0]}: COLUMN",
        )
    return Mapping(
        {name: _field(name, entry) for name, entry in fields.items()},
        _typed("source", source, SourceSpec),
        _label(top["label"], fields) if "label" in top else None,
    )


def _label(document: object, fields: Iterable[str]) -> LabelSource:
    table = _table("label", document, ("value", "after"))
    for name in ("value", "after"):
        if not isinstance(table.get(name), str) or not table[name]:
            what = "a column" if name == "value" else "a duration such as 6d"
            raise MappingError(f"label.{name}", table.get(name), what, "name it")
    for name in fields:
        if name.startswith("label_"):
            raise MappingError(
                f"fields.{name}", expected="no entry beside label:", action="keep one of the two"
            )
    return LabelSource(str(table["value"]), check_duration("label.after", str(table["after"])))


def _field(name: str, entry: object) -> FieldSource:
    """One entry below `fields`; a bare text is short for a column."""
    place = f"fields.{name}"
    kind = KINDS[name]
    options = _OPTIONS[kind] + (("row_number",) if name == "event_id" else ())
    if isinstance(entry, str):
        entry = {"column": entry}
    table = _table(place, entry, options, f"an option of a {kind} field")
    given = [origin for origin in _ORIGINS if origin in table]
    if len(given) != 1:
        raise MappingError(
            place,
            given or None,
            "exactly one of " + listed([o for o in _ORIGINS if o in options]),
            "keep one" if given else "add one",
        )
    field = _typed(place, table, FieldSource)
    if given[0] == "row_number" and not field.row_number:
        raise MappingError(f"{place}.row_number", "false", "true", "name the id's columns instead")
    if given[0] in ("column", "columns") and not all(field.reads or ("",)):
        raise MappingError(f"{place}.{given[0]}", field.reads, "names of columns", "name them")
    if "join" in table and given[0] != "columns":
        raise MappingError(f"{place}.join", field.join, "columns to join", "add columns: [...]")
    _check_unit(place, kind, field)
    check_timezone(f"{place}.timezone", field.timezone)
    if field.format is not None:
        field = msgspec.structs.replace(field, format=check_format(f"{place}.format", field.format))
    check_texts(
        place,
        name,
        required=name in REQUIRED,
        constant=field.constant,
        default=field.default,
        translate=field.translate,
    )
    return field


def _check_unit(place: str, kind: Kind, field: FieldSource) -> None:
    if kind is Kind.AMOUNT and field.unit is None:
        # A guess here would be wrong by a factor of 100, and nobody would see it.
        raise MappingError(
            f"{place}.unit", expected="major or minor", action="say which unit the amounts are in"
        )
    if field.unit is not None and field.unit not in _UNITS[kind]:
        raise MappingError(
            f"{place}.unit", field.unit, f"one of {listed(_UNITS[kind])}", "name one"
        )
    if field.unit is not None and field.format is not None:
        raise MappingError(
            f"{place}.format", field.format, "either unit (numbers) or format (text)", "keep one"
        )


def _table(
    place: str, document: object, known: Sequence[str], what: str = "a known name"
) -> dict[str, object]:
    """A dictionary whose keys are all known."""
    if not isinstance(document, dict):
        raise MappingError(
            place, document, f"entries such as {known[0]}: ...", "see docs/mapping.md"
        )
    for key in document:
        if key in DERIVED_FIELDS and place == "fields":
            raise MappingError(
                f"fields.{key}", expected="no entry: ingestion works it out", action="remove it"
            )
        if key not in known:
            raise MappingError(
                place, key, f"{what} ({listed(known)})", f"rename it{did_you_mean(key, known)}"
            )
    return document


def _typed(place: str, document: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(document, kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        raise MappingError(
            place + where.rstrip("`"), expected=message.removeprefix("Expected "), action="mend it"
        ) from error
