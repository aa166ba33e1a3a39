"""Reads the rules of an autoscaler: windows, rates and tolerances of both directions.

As soon as there are any, both directions get the API's defaults where they say nothing.

Source: Kubernetes v1.36, `pkg/apis/autoscaling/v2/defaults.go`, `validation/validation.go`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from fleet.rescaling.fields import Fields
from fleet.rescaling.go_integers import INT64_MAX
from fleet.rescaling.quantities import canonical_text, float_value, milli_value, sign_of
from fleet.rescaling.spec import Behavior, PolicyType, ScalingPolicy, ScalingRules, SelectPolicy

PERIOD_S_MAX = 1800
WINDOW_S_MAX = 3600
DEFAULT_UP = ScalingRules(
    policies=(
        ScalingPolicy(PolicyType.PODS, 4, 15),
        ScalingPolicy(PolicyType.PERCENT, 100, 15),
    ),
    stabilization_window_s=0,
)
DEFAULT_DOWN = ScalingRules(policies=(ScalingPolicy(PolicyType.PERCENT, 100, 15),))
"""Its window is the controller's own (`downscale_stabilization_s`)."""

_E = TypeVar("_E", bound=StrEnum)


def read_behavior(spec: Fields) -> Behavior | None:
    """The rules of both directions; None when there are none. Problems are noted."""
    behavior = spec.fields("behavior")
    if behavior is None:
        return None
    read = Behavior(
        _rules(behavior.fields("scaleUp"), DEFAULT_UP),
        _rules(behavior.fields("scaleDown"), DEFAULT_DOWN),
    )
    behavior.end()
    return read


def _rules(rules: Fields | None, default: ScalingRules) -> ScalingRules:
    """The rules of one direction."""
    if rules is None:
        return default
    policies = default.policies
    if (rows := rules.rows("policies")) is not None:
        policies = tuple(_policy(row) for row in rows)
        if not rows:
            rules.refuse("policies", "[]", "at least one policy")
    milli, ratio = _tolerance(rules)
    window_s = rules.integer("stabilizationWindowSeconds")
    if window_s is not None and not 0 <= window_s <= WINDOW_S_MAX:
        rules.refuse("stabilizationWindowSeconds", window_s, f"0 to {WINDOW_S_MAX} s")
    read = ScalingRules(
        policies,
        _choice(rules, "selectPolicy", SelectPolicy, default.select_policy),
        default.stabilization_window_s if window_s is None else window_s,
        milli,
        ratio,
    )
    rules.end()
    return read


def _policy(policy: Fields) -> ScalingPolicy:
    """One rate limit."""
    kind = _choice(policy, "type", PolicyType, None)
    value, period_s = policy.integer("value"), policy.integer("periodSeconds")
    if value is None or value < 1:
        policy.refuse("value", value, "1 or more")
    if period_s is None or not 1 <= period_s <= PERIOD_S_MAX:
        policy.refuse("periodSeconds", period_s, f"1 to {PERIOD_S_MAX} s")
    policy.end()
    return ScalingPolicy(kind, value or 1, period_s or 1)


def _choice(fields: Fields, name: str, choices: type[_E], default: _E | None) -> _E:
    """One of some words; without a default it is required."""
    words = [choice.value for choice in choices]
    found = fields.text(name, default or "")
    if found not in words:
        fields.refuse(name, found, ", ".join(words))
        return next(iter(choices))
    return choices(found)


def _tolerance(rules: Fields) -> tuple[int | None, float | None]:
    """Tolerance in thousandths, and as a ratio where these are too coarse."""
    text = rules.quantity("tolerance")
    if text is None:
        return None, None
    stored = str(rules.checked("tolerance", text, canonical_text, "0"))
    milli, ratio = milli_value(stored), float_value(stored)
    if sign_of(stored) < 0:
        rules.refuse("tolerance", text, "0 or more")
    exact = 0 <= milli < INT64_MAX // 1000 and milli * 0.001 == ratio
    return milli, None if exact else ratio
