"""The file of a policy: per model, corridor and band of the amount, from scores to decisions.

    models:
      payment_fraud:
        value: probability         # or prediction, or score
        missing: review            # where there is no such value
        rules:                     # the first that fits decides
          - corridors: [GB-NG, "US-*"]
            amount_minor: {from: 100000, below: 5000000}
            thresholds: {step_up: 0.2, review: 0.5, block: 0.9}
          - thresholds: {review: 0.8}

A value at or above a threshold gets its action, below all of them `allow`. The last rule of a model
fits everything, so that no request is left without a decision.
"""

from __future__ import annotations

import hashlib
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from serving.messages import Decision
from serving.policy import ModelPolicy, Number, Policy, PolicyError, Rule

ALLOW = "allow"
Action = Literal["allow", "step_up", "review", "block"]
# Rising: what is done at a higher value is stricter.
_STRICTER: tuple[Literal["step_up", "review", "block"], ...] = ("step_up", "review", "block")
_CORRIDOR = re.compile(r"(?:[A-Z]{2}|\*)-(?:[A-Z]{2}|\*)")
_MOST_BYTES = 1 << 20


class _Band(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from"}):
    start: Annotated[int, msgspec.Meta(ge=0)] = 0
    below: int | None = None


class _Thresholds(msgspec.Struct, forbid_unknown_fields=True):
    step_up: float | None = None
    review: float | None = None
    block: float | None = None


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    thresholds: _Thresholds
    corridors: list[str] | None = None
    amount_minor: _Band | None = None


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[_Rule]
    value: Number = "probability"  # not `on`, which YAML reads as true
    missing: Action = "review"


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    models: dict[str, _Model]


def parse_policy(raw: bytes) -> Policy:
    """Read a policy.

    Raises:
        PolicyError: it is no YAML, or does not say what it must; names the place.

    >>> policy = parse_policy(b"models: {fraud: {rules: [{thresholds: {block: 0.9}}]}}")
    >>> policy.models["fraud"].decide(0.95, "GB-NG", None)
    Decision(action='block', reasons=('probability >= 0.9',))
    """
    if len(raw) > _MOST_BYTES:
        raise PolicyError("policy", len(raw), f"at most {_MOST_BYTES} bytes", "shorten it")
    try:
        document = msgspec.convert(yaml.load(raw, _Loader), _Document)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        if isinstance(error, msgspec.ValidationError):
            message, _, place = str(error).partition(" - at `$")
            raise PolicyError(
                f"policy{place.rstrip('`')}",
                expected=message.removeprefix("Expected "),
                action="mend it",
            ) from error
        reason = " ".join(str(error).split())
        raise PolicyError("policy", expected="YAML", action=f"mend it ({reason})") from error
    return Policy(
        {name: _model(f"models.{name}", model) for name, model in document.models.items()},
        hashlib.sha256(raw).hexdigest()[:16],
    )


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyError: see `parse_policy`; or the file cannot be read.
    """
    try:
        return parse_policy(path.read_bytes())
    except OSError as error:
        raise PolicyError(
            "policy", str(path), "a file that can be read", f"put it there ({error.strerror})"
        ) from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: the first would vanish without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for at, key in enumerate(keys) if key in keys[:at]]
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} stands twice, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _model(place: str, model: _Model) -> ModelPolicy:
    if not model.rules or not _for_all(model.rules[-1]):
        raise PolicyError(
            f"{place}.rules",
            expected="a last rule without corridors and amount_minor",
            action="add one, such as - thresholds: {review: 0.8}, for requests that fit no other",
        )
    for at, rule in enumerate(model.rules[:-1]):
        if _for_all(rule):
            raise PolicyError(
                f"{place}.rules[{at}]",
                expected="corridors or amount_minor: the rules after it decide nothing",
                action="move it to the end",
            )
    rules = tuple(_rule(f"{place}.rules[{at}]", rule, model) for at, rule in enumerate(model.rules))
    return ModelPolicy(model.value, rules)


def _for_all(rule: _Rule) -> bool:
    return rule.corridors is None and rule.amount_minor is None


def _rule(place: str, rule: _Rule, model: _Model) -> Rule:
    start, below, conditions = None, math.inf, []
    corridors = None
    if rule.corridors is not None:
        corridors = _corridors(f"{place}.corridors", rule.corridors)
        conditions.append(f"corridor {' or '.join(rule.corridors)}")
    if rule.amount_minor is not None:
        start, below = rule.amount_minor.start, rule.amount_minor.below or math.inf
        if start >= below:
            raise PolicyError(
                f"{place}.amount_minor.below", rule.amount_minor.below, f"more than {start}", "mend"
            )
        end = "" if below == math.inf else str(rule.amount_minor.below)
        conditions.append(f"amount_minor {start}..{end}")
    steps = _steps(f"{place}.thresholds", rule.thresholds, model.value)
    lowest = steps[-1][0]
    return Rule(
        corridors,
        start,
        below,
        tuple(
            (threshold, Decision(action, (f"{model.value} >= {threshold:g}", *conditions)))
            for threshold, action in steps
        ),
        Decision(ALLOW, (f"{model.value} < {lowest:g}", *conditions)),
        Decision(model.missing, (f"no {model.value}", *conditions)),
    )


def _corridors(place: str, names: list[str]) -> re.Pattern[str]:
    for name in names:
        if not _CORRIDOR.fullmatch(name):
            raise PolicyError(place, name, "a corridor as GB-NG, *-NG or GB-*", "mend it")
    if not names:
        raise PolicyError(place, expected="at least one corridor", action="name one, or remove it")
    return re.compile("|".join(name.replace("*", "[A-Z]{2}") for name in names))


def _steps(place: str, thresholds: _Thresholds, number: Number) -> list[tuple[float, str]]:
    """(threshold, action), the strictest first; a stricter action has the higher threshold."""
    given = [(getattr(thresholds, action), action) for action in _STRICTER]
    steps: list[tuple[float, str]] = [
        (value, action) for value, action in given if value is not None
    ]
    if not steps:
        raise PolicyError(
            place, expected=f"at least one of {', '.join(_STRICTER)}", action="name a threshold"
        )
    for value, action in steps:
        if not math.isfinite(value) or (number == "probability" and not 0 <= value <= 1):
            expected = "a probability, 0..1" if number == "probability" else "a finite number"
            raise PolicyError(f"{place}.{action}", value, expected, "mend it")
    for (lower, mild), (upper, strict) in pairwise(steps):
        if lower >= upper:
            raise PolicyError(
                f"{place}.{strict}", upper, f"more than {mild}'s {lower:g}", "order the thresholds"
            )
    return steps[::-1]
