"""From scores to decisions, and from files to policies."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import pytest

from feature_repo.contracts.settings import ROOT
from serving.policy import ModelPolicy, PolicyError
from serving.policy_file import load_policy, parse_policy
from serving.policy_watch import PolicyWatch

POLICY = b"""
models:
  payment_fraud:
    missing: block
    rules:
      - corridors: [GB-NG, "US-*"]
        amount_minor: {from: 100000, below: 5000000}
        thresholds: {step_up: 0.2, review: 0.5, block: 0.9}
      - corridors: ["*-NG"]
        thresholds: {step_up: 0.3}
      - thresholds: {review: 0.8}
  session_duration:
    value: prediction
    rules:
      - thresholds: {step_up: 600, review: 3600}
"""
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def fraud() -> ModelPolicy:
    return parse_policy(POLICY).models["payment_fraud"]


@pytest.mark.parametrize(
    ("value", "corridor", "amount_minor", "action", "reason"),
    [
        (0.19, "GB-NG", 100_000, "allow", "probability < 0.2"),
        (0.2, "GB-NG", 100_000, "step_up", "probability >= 0.2"),
        (0.5, "US-MX", 100_000, "review", "probability >= 0.5"),
        (0.9, "GB-NG", 4_999_999, "block", "amount_minor 100000..5000000"),
        (0.9, "GB-NG", 5_000_000, "step_up", "corridor *-NG"),  # the next rule
        (0.9, "GB-NG", 99_999, "step_up", "corridor *-NG"),
        (0.9, "GB-NG", None, "step_up", "corridor *-NG"),  # an unknown amount is in no band
        (0.9, None, 100_000, "review", "probability >= 0.8"),
        (0.79, "FR-ML", 1, "allow", "probability < 0.8"),
        (None, "GB-NG", 100_000, "block", "no probability"),
        (math.nan, "GB-NG", 100_000, "block", "no probability"),
        (math.inf, "FR-ML", 1, "review", "probability >= 0.8"),
    ],
)
def test_the_first_rule_that_fits_decides(
    value: float | None, corridor: str | None, amount_minor: int | None, action: str, reason: str
) -> None:
    decision = fraud().decide(value, corridor, amount_minor)
    assert decision.action == action
    assert reason in decision.reasons


def test_a_policy_decides_on_the_number_that_it_names() -> None:
    policy = parse_policy(POLICY)

    def actions(model: str, probabilities: list[float] | None) -> list[str] | None:
        found = policy.decisions(
            model,
            [None, "GB-NG"],
            150_000,
            scores=[1.0, 1.0],
            predictions=[599.0, 3600.0],
            probabilities=probabilities,
        )
        return None if found is None else [decision.action for decision in found]

    assert actions("session_duration", None) == ["allow", "review"]
    assert actions("payment_fraud", [0.85, 0.95]) == ["review", "block"]
    assert actions("payment_fraud", None) == ["block", "block"], "not calibrated: missing"
    assert actions("churn", None) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "object"),
        ("models: [", "YAML"),
        ("models: {fraud: {rules: []}}", "models.fraud.rules"),
        ("model: {}", "unknown field `model`"),
        ("models: {fraud: {rules: [{thresholds: {}}]}}", "at least one of step_up"),
        ("models: {fraud: {rules: [{thresholds: {block: '0.9'}}]}}", ".models[...].rules[0]"),
        ("models: {fraud: {rules: [{thresholds: {deny: 0.9}}]}}", "unknown field `deny`"),
        ("models: {fraud: {rules: [{thresholds: {block: 1.1}}]}}", "a probability, 0..1"),
        ("models: {fraud: {rules: [{thresholds: {block: .nan}}]}}", "a probability, 0..1"),
        ("models: {f: {value: score, rules: [{thresholds: {block: .inf}}]}}", "a finite number"),
        (
            "models: {fraud: {rules: [{thresholds: {review: 0.9, block: 0.9}}]}}",
            "more than review's 0.9",
        ),
        ("models: {fraud: {value: chance, rules: [{thresholds: {block: 0.9}}]}}", "chance"),
        (
            "models: {fraud: {rules: [{corridors: [GB-NG], thresholds: {block: 0.9}}]}}",
            "a last rule without corridors",
        ),
        (
            "models: {f: {rules: [{thresholds: {block: 0.9}}, {thresholds: {block: 0.8}}]}}",
            "rules[0]: expected corridors or amount_minor",
        ),
        (
            "models: {f: {rules: [{corridors: [gb-ng], thresholds: {block: 1}},"
            " {thresholds: {block: 1}}]}}",
            "a corridor as GB-NG",
        ),
        (
            "models: {f: {rules: [{corridors: [], thresholds: {block: 1}},"
            " {thresholds: {block: 1}}]}}",
            "at least one corridor",
        ),
        (
            "models: {f: {rules: [{amount_minor: {from: 5, below: 5}, thresholds: {block: 1}},"
            " {thresholds: {block: 1}}]}}",
            "more than 5",
        ),
        (
            "models: {f: {rules: [{amount_minor: {from: -1}, thresholds: {block: 1}},"
            " {thresholds: {block: 1}}]}}",
            ">= 0",
        ),
        (
            "models: {f: {rules: [{thresholds: {block: 0.9}}]}, f: {rules: []}}",
            "'f' stands twice",
        ),
        ("!!python/object/apply:os.system ['true']", "YAML"),
        ("a: &a [*a]", "unknown field"),
        ("\x00", "YAML"),
    ],
)
def test_a_malformed_policy_is_refused_and_says_where(text: str, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text.encode())
    assert says in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"gone\.yaml"):
        load_policy(tmp_path / "gone.yaml")


def watch(folder: Path) -> PolicyWatch:
    return PolicyWatch(folder / "policy.yaml", folder / "kept" / "policy.yaml", lambda: NOW)


def test_a_change_is_seen_and_a_malformed_one_leaves_the_former(tmp_path: Path) -> None:
    found = watch(tmp_path)
    found.load()
    found.refresh()
    assert (found.current, found.error) == (None, None)

    found.path.write_bytes(POLICY)
    found.refresh()
    first = found.current
    assert first is not None
    assert (found.since, found.error) == (NOW, None)
    found.refresh()
    assert found.current is first, "what has not changed is not read again"

    found.path.write_bytes(b"models: {payment_fraud: {rules: [{thresholds: {block: 7}}]}}")
    found.refresh()
    assert found.current is first
    assert found.error is not None
    assert "a probability" in found.error

    found.path.unlink()
    found.refresh()
    assert found.current is first
    assert "policy.yaml" in str(found.error)

    found.path.write_bytes(b"models: {}")
    found.refresh()
    assert found.current is not None
    assert found.current.models == {}
    assert found.error is None


def test_the_last_good_policy_decides_after_a_restart(tmp_path: Path) -> None:
    before = watch(tmp_path)
    before.path.write_bytes(POLICY)
    before.load()
    before.path.write_bytes(b"models: nonsense")
    after = watch(tmp_path)
    after.load()
    assert after.current is not None
    assert before.current is not None
    assert after.current.fingerprint == before.current.fingerprint
    assert after.error is not None


def test_a_malformed_policy_without_a_former_one_is_an_error_at_the_start(tmp_path: Path) -> None:
    found = watch(tmp_path)
    found.path.write_bytes(b"models: nonsense")
    with pytest.raises(PolicyError, match="object"):
        found.load()


def test_the_policy_in_the_documentation_is_one() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    example = text.partition("```yaml\n")[2].partition("```")[0]
    rules = parse_policy(example.encode()).models["payment_fraud"].rules
    assert len(rules) == 3
