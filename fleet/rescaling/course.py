"""One reconcile on its way: what it was given, and what has become of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from fleet.rescaling.decision import AppliedRule, Proposal, ReplicaDecision
from fleet.rescaling.hpa_words import GOT_SCALE, SCALED_TO_ZERO, rescaled, zero
from fleet.rescaling.observation import (
    AutoscalerState,
    Condition,
    Recommendation,
    WorkloadObservation,
)
from fleet.rescaling.rates import record_change
from fleet.rescaling.spec import AutoscalerSpec, ControllerOptions


def reference_of(spec: AutoscalerSpec) -> str:
    """The workload of an autoscaler as errors call it."""
    return f"{spec.target_kind}/{spec.namespace}/{spec.target_name}"


def has_outside_metric(spec: AutoscalerSpec) -> bool:
    """Whether a metric exists that does not need pods."""
    return any(metric.kind.is_outside for metric in spec.metrics)


@dataclass(slots=True)
class Course:
    """One reconcile on its way: what it was given, and what has become of it so far."""

    spec: AutoscalerSpec
    seen: WorkloadObservation
    before: AutoscalerState
    now: datetime
    options: ControllerOptions
    conditions: dict[str, Condition] = field(init=False)
    recommendations: tuple[Recommendation, ...] = field(init=False)
    proposals: tuple[Proposal, ...] = ()
    rules: list[AppliedRule] = field(default_factory=list)
    warning: str = ""

    def __post_init__(self) -> None:
        """Take over what is remembered."""
        self.conditions = {condition.type: condition for condition in self.before.conditions}
        self.recommendations = self.before.recommendations

    @property
    def reference(self) -> str:
        """The workload as errors call it."""
        return reference_of(self.spec)

    @property
    def was_scaled_to_zero(self) -> bool:
        """Whether the autoscaler itself has removed the last replica."""
        told = self.conditions.get(SCALED_TO_ZERO)
        return self.options.scale_to_zero and told is not None and told.status

    def begin(self) -> None:
        """The count is known; the first one ever seen counts as a proposal.

        So a controller that has just begun does not remove replicas before a window is over.
        """
        self.set(GOT_SCALE)
        if not self.recommendations and not self.before.seen:
            self.recommendations = (Recommendation(self.now, self.seen.spec_replicas),)

    def set(self, condition: Condition) -> None:
        """Set a condition; a new one stands last, an old one keeps its place."""
        self.conditions[condition.type] = condition

    def apply(self, rule: str, before: int, after: int, reason: str) -> None:
        """Note what a rule has done."""
        self.rules.append(AppliedRule(rule, before, after, reason))

    def stays(self, rule: str, error: str = "", reason: str = "") -> ReplicaDecision:
        """The decision to leave the count because of a rule."""
        current = self.seen.spec_replicas
        self.apply(rule, current, current, reason or error)
        return self._decision(current, self._state(), error)

    def changes(self, desired: int) -> ReplicaDecision:
        """The decision for a count; a change is remembered as made now."""
        current, behavior = self.seen.spec_replicas, self.spec.behavior
        if desired == current:
            return self._decision(current, self._state())
        self.set(rescaled(desired))
        if self.options.scale_to_zero:
            by_controller = desired == 0 == self.spec.min_replicas and has_outside_metric(self.spec)
            self.set(zero(by_controller=by_controller))
        else:
            self.conditions.pop(SCALED_TO_ZERO, None)
        ups, downs = self.before.scale_ups, self.before.scale_downs
        if behavior is not None and desired > current:
            ups = record_change(ups, desired - current, behavior.scale_up, self.now)
        elif behavior is not None:
            downs = record_change(downs, current - desired, behavior.scale_down, self.now)
        return self._decision(desired, replace(self._state(), scale_ups=ups, scale_downs=downs))

    def _state(self) -> AutoscalerState:
        """What is remembered, but for changes."""
        return replace(
            self.before,
            recommendations=self.recommendations,
            conditions=tuple(self.conditions.values()),
            seen=self.before.seen or bool(self.recommendations),
        )

    def _decision(self, desired: int, state: AutoscalerState, error: str = "") -> ReplicaDecision:
        return ReplicaDecision(
            current=self.seen.spec_replicas,
            desired=desired,
            proposals=self.proposals,
            rules=tuple(self.rules),
            conditions=state.conditions,
            state=state,
            at=self.now,
            error=error,
            warning=self.warning,
        )
