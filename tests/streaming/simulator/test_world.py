from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from feature_repo.contracts.errors import DaimaError
from feature_repo.contracts.settings import ROOT
from streaming.simulator import DEFAULT_WORLD, World, WorldError, load_world
from streaming.simulator.world import world_from

WORLD_BANK = Path(ROOT).parent / "shared" / "data" / "remittance_wb"
ISO3 = {
    "AE": "ARE", "AU": "AUS", "BD": "BGD", "CA": "CAN", "CO": "COL", "DE": "DEU", "DO": "DOM",
    "EG": "EGY", "ES": "ESP", "FR": "FRA", "GB": "GBR", "GT": "GTM", "ID": "IDN", "IN": "IND",
    "IT": "ITA", "KE": "KEN", "KW": "KWT", "MX": "MEX", "MY": "MYS", "NG": "NGA", "NP": "NPL",
    "PH": "PHL", "PK": "PAK", "PL": "POL", "QA": "QAT", "RO": "ROU", "SA": "SAU", "SG": "SGP",
    "SN": "SEN", "SV": "SLV", "US": "USA", "VN": "VNM",
}  # fmt: skip


@pytest.fixture
def raw() -> dict[str, Any]:
    """The default world as plain data, free to be spoilt."""
    document = msgspec.yaml.decode(DEFAULT_WORLD.read_bytes())
    return copy.deepcopy(document)


def put(raw: Any, path: list[str | int], value: object) -> None:
    for key in path[:-1]:
        raw = raw[key]
    raw[path[-1]] = value


def test_default_world_has_about_thirty_corridors_and_pages_that_age_negatively(
    world: World,
) -> None:
    assert 30 <= len(world.corridors) <= 40
    assert all(page.k < 1 for page in world.pages)
    assert world.default_customers >= 10_000


@pytest.mark.parametrize(
    ("path", "value", "knob"),
    [
        (["pages", 3, "k"], 1.2, "pages[3].k"),
        (["pages", 0, "lambda_s"], 0, "pages[0].lambda_s"),
        (["pages", 1, "name"], "login", "pages"),
        (["payments", "failure_chance"], 1.5, "payments.failure_chance"),
        (["payments", "failure_chance"], "often", "payments.failure_chance"),
        (["payments", "faliure_chance"], 0.1, "payments.faliure_chance"),
        (["default_customers"], 0, "default_customers"),
        (["clock", "hour_weights"], [1] * 23, "clock.hour_weights"),
        (["clock", "weekday_weights"], [0] * 7, "clock.weekday_weights"),
        (["sessions", "longest_dwell_s"], 1800, "sessions.longest_dwell_s"),
        (["people", "as_of"], "yesterday", "people.as_of"),
        (["people", "kyc_level_shares"], [1, 0], "people.kyc_level_shares"),
        (["personas", 0, "intents", "dance"], 0.5, "personas[0].intents"),
        (["personas", 0, "intents"], {"onboard": 1.0}, "personas[0].intents"),
        (["personas", 0, "intents", "send"], -1, "personas[0].intents"),
        (["corridors", 2, "send"], "XX", "corridors[2].send"),
        (["corridors", 2, "send"], "usa", "corridors[2].send"),
        (["corridors", 2, "cost_pct_usd500"], 0.1, "corridors[2].cost_pct_usd500"),
        (["intents", 0, "steps", 1, "page"], "attic", "intents[0].steps[1].page"),
        (["intents", 0, "steps", 1, "event"], "teleport", "intents[0].steps[1].event"),
        (["intents", 0, "steps", 1, "event"], "label", "intents[0].steps[1].event"),
        (["intents", 0, "steps", 1, "when"], "whenever", "intents[0].steps[1].when"),
        (["intents", 0, "steps", 0, "chance"], 0.5, "intents[0].steps[0].chance"),
        (["effects", "drift"], 1.5, "effects.drift"),
        (["effects", "mules"], -1, "effects.mules"),
        (["effects", "weather"], 1, "effects.weather"),
        (["cycle", "lengths", 0, "days"], 1, "cycle.lengths[0].days"),
        (["cycle", "spells", 1, "stages"], [], "cycle.spells[1].stages"),
        (["cycle", "spells", 1, "stages", 0, "intents", "dance"], 1, "cycle.spells[1].stages[0]"),
        (["finance", "fortunes", 2, "intents", "dance"], 1, "finance.fortunes[2].intents"),
        (["finance", "spell_days", "least"], 30, "finance.spell_days.least"),
        (["follow_ups", "intent"], "dance", "follow_ups.intent"),
        (["follow_ups", "longest_delay_hours"], 30, "follow_ups.longest_delay_hours"),
        (["calls", "intents", "dance"], 2, "calls.intents"),
        (["fraud", "intent"], "browse", "fraud.intent"),
        (["fraud", "report_days", "most"], 5, "fraud.report_days.most"),
        (["labels", "fraud_days", "least"], 11, "labels.fraud_days.least"),
        (["labels", "fraud_days_mode"], 11, "labels.fraud_days_mode"),
    ],
)
def test_a_bad_knob_is_refused_by_name(
    raw: dict[str, Any], path: list[str | int], value: object, knob: str
) -> None:
    put(raw, path, value)
    with pytest.raises(WorldError) as caught:
        world_from(raw)
    assert isinstance(caught.value, DaimaError)
    assert caught.value.field.startswith(knob)
    assert caught.value.expected
    assert caught.value.action


def test_a_missing_knob_is_named(raw: dict[str, Any]) -> None:
    del raw["payments"]["retry_chance"]
    with pytest.raises(WorldError, match=r"payments\.retry_chance"):
        world_from(raw)


def test_the_bad_value_is_shown(raw: dict[str, Any]) -> None:
    put(raw, ["pages", 3, "k"], 1.2)
    with pytest.raises(WorldError, match=r"pages\[3\]\.k is 1\.2: expected .*< 1\.0"):
        world_from(raw)


def test_missing_file_and_broken_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="readable YAML file"):
        load_world(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("pages: [")
    with pytest.raises(WorldError, match="expected YAML"):
        load_world(broken)
    broken.write_text("just a text")
    with pytest.raises(WorldError, match="world"):
        load_world(broken)


def test_the_world_banks_figures_are_the_world_banks(world: World) -> None:
    if not WORLD_BANK.is_dir():
        pytest.skip("needs ../shared/data/remittance_wb beside the checkout")
    flows = pl.read_parquet(WORLD_BANK / "bilateral_remittance_2017.parquet")
    costs = pl.read_parquet(WORLD_BANK / "rpw_corridor_quarter_2016q2_2025q1.parquet").filter(
        pl.col("period") == "2025_1Q"
    )
    for corridor in world.corridors:
        row = costs.filter(
            (pl.col("source_code") == ISO3[corridor.send])
            & (pl.col("destination_code") == ISO3[corridor.receive])
        ).row(0, named=True)
        flow = flows.filter(
            (pl.col("sending") == row["source_name"])
            & (pl.col("receiving") == row["destination_name"])
        )["usd_millions"].item()
        assert corridor.usd_millions == pytest.approx(flow, abs=0.051), corridor.name
        for knob, column in (
            ("cost_pct_usd200", "avg_cost_pct_200usd"),
            ("cost_pct_usd500", "avg_cost_pct_500usd"),
            ("fx_margin_pct_usd200", "avg_fx_margin_200usd"),
            ("fx_margin_pct_usd500", "avg_fx_margin_500usd"),
        ):
            assert getattr(corridor, knob) == pytest.approx(row[column], abs=0.0051), corridor.name
        assert corridor.providers == row["num_providers"]
