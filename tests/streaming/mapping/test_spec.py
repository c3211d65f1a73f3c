"""What a mapping file may say, and what it is told when it says something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from feature_repo.contracts.errors import MappingError
from feature_repo.contracts.events import EVENT_SCHEMA
from streaming.mapping.spec import KINDS, TARGETS, Mapping

BASE = """
fields:
  event_id: {columns: [user, at], join: "/"}
  event_time: {column: at, unit: ms}
  customer_id: user
  event_type: {constant: page_view}
"""


def load(tmp_path: Path, text: str) -> Mapping:
    path = tmp_path / "mapping.yaml"
    path.write_text(text, "utf-8")
    return Mapping.load(path)


def test_every_field_of_the_schema_but_the_derived_ones_can_be_mapped() -> None:
    assert set(TARGETS) == set(EVENT_SCHEMA.names) - {"amount_ref_minor", "fee_ref_minor"}
    assert set(KINDS) == set(TARGETS)


def test_a_mapping_reads_its_columns_once_and_in_order(tmp_path: Path) -> None:
    mapping = load(tmp_path, "source: {skip_where: {test: true}}" + BASE + "  page: url\n")
    assert mapping.columns == ("test", "user", "at", "url")
    assert mapping.required_columns == ("test", "user", "at")
    assert mapping.fields["customer_id"].column == "user"
    assert mapping.fields["event_id"].join == "/"
    assert mapping.source.skip_where == {"test": "true"}


def test_norway_is_a_country_not_a_boolean(tmp_path: Path) -> None:
    mapping = load(
        tmp_path, BASE + "  ip_country: {column: c, translate: {Norway: NO, 1: GB, yes: SE}}\n"
    )
    assert mapping.fields["ip_country"].translate == {"Norway": "NO", "1": "GB", "yes": "SE"}


BAD = {
    "unknown field": ("  event_tme: at\n", "event_tme", "did you mean event_time"),
    "derived field": ("  fee_ref_minor: fee\n", "fee_ref_minor", "ingestion works it out"),
    "unknown option": ("  page: {colum: url}\n", "'colum'", "did you mean column"),
    "option of another kind": ("  page: {column: url, unit: ms}\n", "'unit'", "a text field"),
    "column and constant": ("  page: {column: url, constant: x}\n", "fields.page", "exactly one"),
    "neither column nor constant": ("  page: {translate: {a: b}}\n", "fields.page", "exactly one"),
    "list for a field": ("  page: [url]\n", "fields.page", "entries such as column"),
    "columns as text": ("  page: {columns: url}\n", "fields.page.columns", "expected `array`"),
    "no columns": ("  page: {columns: []}\n", "fields.page.columns", "names of columns"),
    "empty entry": ("  page:\n", "fields.page.column", "names of columns"),
    "join without columns": ("  page: {column: a, join: x}\n", "fields.page.join", "columns"),
    "row number elsewhere": ("  page: {row_number: true}\n", "'row_number'", "a text field"),
    "amount without unit": ("  fee_minor: fee\n", "fields.fee_minor.unit", "major or minor"),
    "unknown unit": ("  fee_minor: {column: f, unit: pence}\n", "'pence'", "major, minor"),
    "constant that is no number": (
        "  fee_minor: {constant: free, unit: minor}\n", "'free'", "a number"
    ),
    "unknown zone": (
        "  label_arrival_time: {column: t, timezone: Europe/Lodon}\n",
        "'Europe/Lodon'",
        "did you mean Europe/London",
    ),
    "format without a date": (
        "  label_arrival_time: {column: t, format: hello}\n", "'hello'", "strftime"
    ),
    "format with an unknown code": (
        "  label_arrival_time: {column: t, format: '%Y-%m-%d %Q'}\n", "%Q", "strftime"
    ),
    "bare %f": ("  label_arrival_time: {column: t, format: '%Y-%m-%d,%f'}\n", "%f", "strftime"),
    "unit and format": (
        "  label_arrival_time: {column: t, unit: s, format: '%Y-%m-%d'}\n", "format", "either"
    ),
    "country that is none": (
        "  send_country: {column: c, translate: {Norway: Nor}}\n",
        "fields.send_country.translate.Norway is 'Nor'",
        "ISO 3166",
    ),
    "currency that is none": ("  currency: {constant: pound}\n", "'pound'", "ISO 4217"),
    "empty constant": ("  page: {constant: ''}\n", "fields.page.constant", "non-empty"),
    "field twice": ("  event_time: at\n", "event_time stands here twice", "line 7"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_entry_is_named_with_what_was_expected(tmp_path: Path, case: str) -> None:
    entry, *said = BAD[case]
    with pytest.raises(MappingError) as caught:
        load(tmp_path, BASE + entry)
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["event_id", "event_time", "customer_id", "event_type"])
def test_a_missing_required_field_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(MappingError, match=f"fields.{name}: expected every mapping to give"):
        load(tmp_path, re.sub(f"  {name}: .*\n", "", BASE))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("page_view", "pageview", "did you mean page_view?"),
        ('{columns: [user, at], join: "/"}', "{row_number: maybe}", "`bool`"),
        ('{columns: [user, at], join: "/"}', "{row_number: false}", "expected true"),
        ("unit: ms", "unit: days", "one of us, ms, s"),
        ("customer_id: user", "customer_id: {column: u, default: ''}", "non-empty"),
    ],
)
def test_a_wrong_required_field_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in BASE
    with pytest.raises(MappingError, match=re.escape(said)):
        load(tmp_path, BASE.replace(old, new))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fields: [a", "valid YAML"),
        ("fields:\n\tpage: x\n", "valid YAML"),
        ("just words", "entries such as source"),
        ("", "entries such as source"),
        ("sorce: {}" + BASE, "did you mean source?"),
        ("source: {format: exel}" + BASE, "one of parquet, csv, jsonl"),
        ("source: {format: parqet}" + BASE, "did you mean parquet?"),
        ("source: {skip_where: [a]}" + BASE, "source.skip_where"),
        ("source: {skip_where: {a: [1, 2]}}" + BASE, "source.skip_where"),
        ("source: {}\n", "fields.event_id"),
    ],
)
def test_a_wrong_document_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(MappingError, match=re.escape(said)):
        load(tmp_path, text)


def test_a_mapping_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MappingError, match="No such file"):
        Mapping.load(tmp_path / "absent.yaml")
    with pytest.raises(MappingError, match="directory"):
        Mapping.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"fields: {page: caf\xe9}")
    with pytest.raises(MappingError, match="UTF-8"):
        Mapping.load(tmp_path / "latin.yaml")


def test_pythons_fraction_code_keeps_its_meaning(tmp_path: Path) -> None:
    mapping = load(tmp_path, BASE.replace("unit: ms", "format: '%d.%m.%Y %H:%M:%S.%f'"))
    assert mapping.fields["event_time"].format == "%d.%m.%Y %H:%M:%S%.f"
