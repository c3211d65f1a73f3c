"""What sessions were for, told from events, against what was planted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.training.sessions import START, as_events, settings_at, write_archive
from tests.training.simulated import events_of, simulated_world
from training.intent_sessions import intent_sessions
from training.intents import INTENTS, intent_of


def intent(*pages: str, kinds: tuple[str, ...] = ()) -> str:
    events = [("login", "login"), *(("page_view", page) for page in pages)]
    events += [(kind, page) for kind, _, page in (each.partition(":") for each in kinds)]
    frame = pl.DataFrame(events, ["event_type", "page"], orient="row")
    return str(frame.select(intent_of(pl.col("event_type"), pl.col("page"))).item())


@pytest.mark.parametrize(
    ("pages", "kinds", "wanted"),
    [
        (("home", "recipients"), ("quote:send_amount", "payment_submitted:payment"), "send"),
        (("home", "recipients"), ("quote:send_amount",), "send"),
        (("home", "rates", "rates"), ("quote:send_amount",), "check_rate"),
        (("home", "rates", "history"), (), "browse"),
        (("home", "recipients"), ("add_recipient:recipient_form",), "recipients"),
        (("home", "tracking", "history", "help"), (), "track"),
        (("help", "help", "tracking"), (), "get_help"),
        (("home", "help"), (), "browse"),
        (("profile",), ("kyc_step:identity",), "onboard"),
        (("home", "profile"), (), "browse"),
        ((), ("logout:home",), "browse"),
    ],
)
def test_the_rule(pages: tuple[str, ...], kinds: tuple[str, ...], wanted: str) -> None:
    assert intent(*pages, kinds=kinds) == wanted
    assert wanted in INTENTS


def test_it_is_what_was_planted(tmp_path: Path) -> None:
    simulation = simulated_world(1_000, 5, seed=4)
    settings = settings_at(tmp_path)
    write_archive(settings, events_of(simulation))
    truth = pl.DataFrame(simulation.truth.sessions).select(
        "customer_id", pl.col("start_time").alias("started_at"), "intent", "origin"
    )
    found = intent_sessions(settings).rename({"intent": "found"})
    both = truth.filter(pl.col("origin") != "card_test").join(
        found, on=["customer_id", "started_at"]
    )
    assert both.height > 0.98 * found.height
    assert (both["intent"] == both["found"]).mean() > 0.96  # type: ignore[operator]
    # Of each planted intent, too.
    right = both.group_by("intent").agg((pl.col("intent") == pl.col("found")).mean().alias("share"))
    assert set(right["intent"]) == set(INTENTS)
    assert right["share"].min() > 0.85  # type: ignore[operator]


def test_sessions_end_with_silence(tmp_path: Path) -> None:
    minutes = (0, 5, 36, 70)
    frame = pl.DataFrame(
        {
            "event_id": [str(minute) for minute in minutes],
            "customer_id": "a",
            "event_time": [START + timedelta(minutes=minute) for minute in minutes],
            "event_type": ["login", "page_view", "support_contact", "page_view"],
            "page": ["login", "tracking", None, "help"],
        }
    )
    settings = settings_at(tmp_path)
    write_archive(settings, as_events(frame))
    found = intent_sessions(settings)
    assert found["intent"].to_list() == ["track", "get_help"]
    assert found["last_at"].to_list() == [
        START + timedelta(minutes=5),
        START + timedelta(minutes=70),
    ]
    cut = intent_sessions(settings, START + timedelta(minutes=70))
    assert cut["over_at"].to_list() == [START + timedelta(minutes=35)]
