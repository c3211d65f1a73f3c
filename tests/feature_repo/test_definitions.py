"""The definitions as plain Feast serves them: the same numbers as the engine and the API."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from feature_repo.contracts.errors import DefinitionError
from feature_repo.contracts.events import Event, EventType, to_epoch_us
from feature_repo.contracts.feature_set import FeatureSet, load_feature_set
from feature_repo.contracts.features import FEATURE_SET
from feature_repo.contracts.settings import REPO_PATH, Settings
from feature_repo.engine.on_demand import evaluate
from feature_repo.engine.program import compile_program
from feature_repo.engine.read import read_states
from feature_repo.stores.feast_store import open_store
from feature_repo.stores.redis_connection import connect
from infra.http_json import exchange
from infra.processes import answers
from tests.applied import apply_definitions
from tests.conftest import free_port
from tests.online_states import states_of, store_states

pytestmark = pytest.mark.xdist_group("definitions")
LAST = datetime(2026, 3, 2, 12, 0, 0, 123_456, tzinfo=UTC)
ROWS = [
    {"customer_id": "c1", "corridor": "GB-NG", "counterparty_id": "shop"},
    {"customer_id": "nobody", "corridor": "XX-YY", "counterparty_id": "none"},
]
JOIN_KEYS = ("customer_id", "corridor", "counterparty_id")
# At the last event, and after an hour's silence.
INSTANTS = [LAST, LAST + timedelta(hours=1)]


def events() -> list[Event]:
    """Two customers' sessions, with payments to one shop; c1's ends at LAST."""
    made = []
    for number, minutes in enumerate((95, 94, 40, 20, 3, 0)):
        pays = number % 2 == 1
        made += [
            Event(
                event_id=f"{customer}-{number}",
                event_time=LAST - timedelta(minutes=minutes, seconds=offset),
                customer_id=customer,
                event_type=EventType.PAYMENT_SUBMITTED if pays else EventType.PAGE_VIEW,
                page=f"page_{number % 4}",
                send_country="GB",
                receive_country="NG",
                counterparty_id="shop" if pays else None,
                channel="app",
                amount_minor=12_345 * number if pays else None,
                fee_minor=99 if pays else None,
                currency="GBP" if pays else None,
            )
            for offset, customer in ((0, "c1"), (7, "c2"))
        ]
    return sorted(made, key=lambda event: event.event_time)


def settings_at(home: Path, redis: str, definitions: Path | None = None) -> Settings:
    return replace(Settings.from_env({}), home=home, redis=redis, definitions=definitions)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the default definitions are applied."""
    folder = tmp_path_factory.mktemp("home")
    apply_definitions(settings_at(folder, "127.0.0.1:1"))
    return folder


@pytest.fixture
def settings(home: Path, valkey: str) -> Settings:
    """The home, with an online store that holds what the events leave behind."""
    with connect(valkey) as client:
        store_states(client, events())
    return settings_at(home, valkey)


def expected(feature_set: FeatureSet, at: datetime) -> dict[str, list[Any]]:
    """`view:feature` -> its value for each of ROWS, by the engine."""
    states = {
        (entity.name, key): state for entity, key, state, _ in states_of(events(), feature_set)
    }
    values: dict[str, list[Any]] = {}
    at_us = np.full(len(ROWS), to_epoch_us(at))
    for entity in feature_set.entities:
        program = compile_program(feature_set, entity)
        asked = [states.get((entity.name, row[entity.join_key])) for row in ROWS]
        read = read_states(program, asked, at_us)
        for view in feature_set.views_of(entity):
            for output in view.outputs:
                values[f"{view.name}:{output.name}"] = read.column(output.name).to_pylist()
    return values


def entity_rows(at: datetime) -> list[dict[str, Any]]:
    return [row | {"as_of_us": to_epoch_us(at)} for row in ROWS]


@pytest.mark.parametrize("at", INSTANTS, ids=["at the last event", "an hour later"])
def test_plain_feast_computes_what_the_engine_does(settings: Settings, at: datetime) -> None:
    wanted = expected(FEATURE_SET, at)
    assert wanted["customer_session:session_event_count"] == [4 if at == LAST else 0, 0]
    answer = (
        open_store(settings)
        .get_online_features(features=list(wanted), entity_rows=entity_rows(at))
        .to_dict()
    )
    found = {ref: answer[ref.partition(":")[2]] for ref in wanted}
    assert found == wanted


def test_long_names_and_single_views(settings: Settings) -> None:
    wanted = expected(FEATURE_SET, LAST)
    store = open_store(settings)
    refs = ["customer_activity:event_count_7d", "customer_session:session_corridor_last"]
    rows = [{name: row[name] for name in ("customer_id", "as_of_us")} for row in entity_rows(LAST)]
    answer = store.get_online_features(refs, rows, full_feature_names=True).to_dict()
    del answer["customer_id"]
    assert answer == {ref.replace(":", "__"): wanted[ref] for ref in refs}


def test_the_service_of_the_model(settings: Settings) -> None:
    store = open_store(settings)
    service = store.get_feature_service("session_duration")
    answer = store.get_online_features(service, entity_rows(LAST)).to_dict()
    assert answer["session_corridor_last"] == ["GB-NG", None]
    assert answer["event_count_7d"] == [6, 0]
    assert answer["cost_pct_usd200"] == [None, None]


CUSTOM = """
from datetime import timedelta

from feature_repo.contracts.definition import Aggregate, Feature, Sliding
from feature_repo.contracts.feature_set import EntityKey, FeatureSet, View

FEATURE_SET = FeatureSet(
    "custom",
    (
        View(
            "paths",
            EntityKey("customer", ("customer_id",), "customer_id"),
            (
                Feature(Aggregate.LAST_N, Sliding(timedelta(hours=2)), "page", n=3),
                Feature(Aggregate.LAST_N, Sliding(timedelta(hours=2)), "amount_minor", n=2),
            ),
        ),
    ),
)
"""


def test_a_set_of_ones_own_with_sequences(tmp_path: Path, valkey: str) -> None:
    module = tmp_path / "custom.py"
    module.write_text(CUSTOM)
    settings = settings_at(tmp_path, valkey, module)
    apply_definitions(settings)
    store = open_store(settings)
    assert store.list_feature_services() == []
    with connect(valkey) as client:
        store_states(client, events(), load_feature_set(module))
    answer = store.get_online_features(
        ["paths:page_last_3_2h", "paths:amount_minor_last_2_2h"], entity_rows(LAST)
    ).to_dict()
    assert answer["page_last_3_2h"] == [["page_1", "page_0", "page_3"], None]
    assert answer["amount_minor_last_2_2h"] == [[61_725, 37_035], None]


def test_a_view_that_the_set_lacks_is_named() -> None:
    with pytest.raises(DefinitionError, match=r"'old'.*customer_session, customer_activity"):
        evaluate("old", None, {})


@pytest.fixture
def feature_server(settings: Settings) -> Iterator[str]:
    """`feast serve`, as a process of its own."""
    port = free_port()
    feast = Path(sys.executable).with_name("feast")
    quiet = {"DO_NOT_TRACK": "1", "FEAST_USAGE": "False"}
    with subprocess.Popen(
        [str(feast), "serve", "--port", str(port), "--no-access-log"],
        cwd=REPO_PATH,
        env=os.environ | settings.environment() | quiet,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(f"{url}/health", process)
            yield url
        finally:
            process.terminate()


def _wait_for(url: str, process: subprocess.Popen[bytes], timeout_s: float = 90) -> None:
    end = time.monotonic() + timeout_s
    while not answers(url):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise TimeoutError(process.stdout.read().decode() if process.stdout else url)
        time.sleep(0.1)


def ask(url: str, refs: Sequence[str], at: datetime) -> dict[str, list[Any]]:
    """Feature -> its value for each of ROWS."""
    body = {
        "features": list(refs),
        "entities": {name: [row[name] for row in ROWS] for name in JOIN_KEYS}
        | {"as_of_us": [to_epoch_us(at)] * len(ROWS)},
    }
    status, answer = exchange("POST", f"{url}/get-online-features", body, timeout_s=30)
    assert status == 200, answer
    names = answer["metadata"]["feature_names"]
    columns = (result["values"] for result in answer["results"])
    return dict(zip(names, columns, strict=True))


def test_the_feature_server_answers_the_same(feature_server: str) -> None:
    for at in INSTANTS:
        wanted = expected(FEATURE_SET, at)
        answer = ask(feature_server, list(wanted), at)
        for ref, values in wanted.items():
            assert answer[ref.partition(":")[2]] == values, ref
