"""A decision beyond Kubernetes on its way: the count so far, the rules that made it, what is noted.

It begins with the decision of Kubernetes' rule. Where no other rule does or remembers anything that
decision is the result, untouched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet.rescaling.decision import AppliedRule, ReplicaDecision
from fleet.rescaling.hpa_words import (
    ABLE_TO_SCALE,
    READY_FOR_NEW_SCALE,
    SCALED_TO_ZERO,
    rescaled,
    zero,
)
from fleet.rescaling.observation import AutoscalerState, Condition
from fleet.rescaling.rates import growth_limit, lower_limit, record_change, upper_limit
from fleet.rescaling.spec import AutoscalerSpec


@dataclass(slots=True)
class Draft:
    """A decision on its way."""

    spec: AutoscalerSpec
    """As Kubernetes' rule was given it."""
    base: ReplicaDecision
    """Of Kubernetes' rule."""
    before: AutoscalerState
    now: datetime
    tells_zero: bool = False
    """Whether the condition ScaledToZero is kept, though Kubernetes' own flag may be off."""
    desired: int = field(init=False)
    rules: list[AppliedRule] = field(default_factory=list)
    details: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Begin with what Kubernetes' rule has decided."""
        self.desired = self.base.desired
        self.details = dict(self.before.details)

    @property
    def current(self) -> int:
        """Replicas wanted so far."""
        return self.base.current

    def apply(self, rule: str, after: int, reason: str) -> None:
        """A rule has set the count, or has held it where it is."""
        self.rules.append(AppliedRule(rule, self.desired, after, reason))
        self.desired = after

    def raise_to(self, rule: str, floor: int, reason: str) -> None:
        """A rule that can only raise; it is told where it does."""
        if floor > self.desired:
            self.apply(rule, floor, reason)

    def at_rate(self, wished: int) -> int:
        """A count as far towards it as the autoscaler's rates allow now; from zero at least one."""
        current, behavior, before = self.current, self.spec.behavior, self.before
        if wished > current:
            if behavior is None:
                highest = growth_limit(current)
            else:
                ups, downs = before.scale_ups, before.scale_downs
                highest = upper_limit(current, behavior.scale_up, ups, downs, self.now)
            return min(wished, max(highest, 1))
        if wished < current and behavior is not None:
            ups, downs = before.scale_ups, before.scale_downs
            return max(wished, lower_limit(current, behavior.scale_down, ups, downs, self.now))
        return wished

    def finish(self) -> ReplicaDecision:
        """The decision with everything that the rules have added."""
        if not self.rules and self.details == self.before.details and not self.tells_zero:
            return self.base
        acts = self.desired != self.current or self.desired != self.base.desired
        told = self.base.error if acts else ""
        return replace(
            self.base,
            desired=self.desired,
            rules=(*self.base.rules, *self.rules),
            conditions=(conditions := self._conditions()),
            state=self._state(conditions),
            error="" if acts else self.base.error,
            warning=self.base.warning or told,
        )

    def _conditions(self) -> tuple[Condition, ...]:
        """Those of Kubernetes' rule, corrected where the count has become another."""
        found = {one.type: one for one in self.base.conditions}
        if self.desired != self.current:
            found[ABLE_TO_SCALE] = rescaled(self.desired)
        elif self.base.is_change:
            found[ABLE_TO_SCALE] = READY_FOR_NEW_SCALE
        if self.tells_zero:
            found[SCALED_TO_ZERO] = zero(by_controller=self.desired == 0)
        return tuple(found.values())

    def _state(self, conditions: tuple[Condition, ...]) -> AutoscalerState:
        """What is remembered; the change that counts is the one that this decision makes."""
        change, behavior = self.desired - self.current, self.spec.behavior
        ups, downs = self.before.scale_ups, self.before.scale_downs
        if behavior is not None and change > 0:
            ups = record_change(ups, change, behavior.scale_up, self.now)
        elif behavior is not None and change < 0:
            downs = record_change(downs, -change, behavior.scale_down, self.now)
        return replace(
            self.base.state,
            scale_ups=ups,
            scale_downs=downs,
            conditions=conditions,
            details=self.details,
        )
