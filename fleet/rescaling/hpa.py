"""How many replicas a workload should have: Kubernetes' horizontal autoscaler, to the number.

One reconcile looks at the count first (0 is left alone, a count outside of the limits is brought
back at once), then takes the highest of what the metrics ask for, then lets the past and the rates
slow the change down. It changes nothing: what it remembers comes in as a state and goes out as
one.

Numbers, conditions and their words are the controller's; `proposals` and `rules` of a decision
are ours and tell how it came about, also where nothing changes.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/horizontal.go`, `reconcileAutoscaler`,
`computeReplicasForMetrics`, `normalizeDesiredReplicas`, `normalizeDesiredReplicasWithBehaviors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.rescaling.course import Course, has_outside_metric, reference_of
from fleet.rescaling.decision import AppliedRule, Proposal, ReplicaDecision
from fleet.rescaling.hpa_words import (
    ABLE_TO_SCALE,
    DISABLED,
    GOT_SCALE,
    READY_FOR_NEW_SCALE,
    SCALED_TO_ZERO,
    SELECTOR_REASONS,
    STABILIZED_DOWN,
    STABILIZED_UP,
    TARGET_ERRORS,
    Limit,
    failed_get_scale,
    failed_update,
    invalid_metric,
    selector_refused,
    valid_metric,
)
from fleet.rescaling.metric_words import first_error
from fleet.rescaling.observation import AutoscalerState, Condition, WorkloadObservation
from fleet.rescaling.proposals import TOLERANCE, Asked, Tolerance, propose, tolerance_of
from fleet.rescaling.settling import stabilized, within_limits
from fleet.rescaling.spec import AutoscalerSpec, ControllerOptions

_DEFAULTS = ControllerOptions()


def decide_replicas(
    spec: AutoscalerSpec,
    seen: WorkloadObservation,
    state: AutoscalerState,
    now: datetime,
    options: ControllerOptions = _DEFAULTS,
) -> ReplicaDecision:
    """What one reconcile of the autoscaler decides, with all that led to it.

    Whoever acts hands the decision's state to the next reconcile once the change is made, and
    that of `unapplied` when it is not.

    Args:
        spec: what is wished.
        seen: the workload now, with one reading for each metric of the spec.
        state: from the decision before; empty for a controller that has just begun.
        now: time of the reconcile, aware.
        options: the controller's flags.

    Returns:
        Desired replicas and their explanation; `error` where the count stays because nothing could
        be decided.

    Raises:
        InvalidInputError: the spec has no metric, the readings are not those of its metrics, or
            a count is negative, the time has no zone. The caller is to be corrected.
    """
    _check(spec, seen, now)
    course = Course(spec, seen, state, now, options)
    if seen.fault is not None and seen.fault.reason not in SELECTOR_REASONS:
        course.set(failed_get_scale(seen.fault.message))
        asked = f"failed to query scale subresource for {course.reference}"
        asked = TARGET_ERRORS.get(seen.fault.reason, asked)
        return course.stays("scale-unknown", f"{asked}: {seen.fault.message}")
    course.begin()
    current = seen.spec_replicas
    if current == 0 and not _acts_at_zero(course):
        course.set(DISABLED)
        if not options.scale_to_zero:
            course.conditions.pop(SCALED_TO_ZERO, None)
        return course.stays("scaling-disabled", reason="a count of 0 is left alone")
    if current > spec.max_replicas:
        reason = f"{current} are more than the maximum of {spec.max_replicas}"
        course.apply(Limit.MAX.rule, current, spec.max_replicas, reason)
        return course.changes(spec.max_replicas)
    if 0 < current < spec.min_replicas:
        reason = f"{current} are fewer than the minimum of {spec.min_replicas}"
        course.apply(Limit.MIN.rule, current, spec.min_replicas, reason)
        return course.changes(spec.min_replicas)
    return _by_metrics(course)


def unapplied(
    spec: AutoscalerSpec, decision: ReplicaDecision, before: AutoscalerState, error: str = ""
) -> ReplicaDecision:
    """A decision whose change was not made: the count stays, and no change is remembered.

    Args:
        spec: that it was decided for.
        decision: one without a change comes back as it is.
        before: the state that it was decided from.
        error: why the change failed; empty when nobody tried.
    """
    if not decision.is_change:
        return decision
    conditions = {condition.type: condition for condition in decision.conditions}
    conditions[ABLE_TO_SCALE] = failed_update(error) if error else _able_before(decision)
    zeroed = [one for one in before.conditions if one.type == SCALED_TO_ZERO]
    if zeroed:
        conditions[SCALED_TO_ZERO] = zeroed[0]
    else:
        conditions.pop(SCALED_TO_ZERO, None)
    state = replace(
        decision.state,
        scale_ups=before.scale_ups,
        scale_downs=before.scale_downs,
        conditions=tuple(conditions.values()),
    )
    rule = AppliedRule("unapplied", decision.desired, decision.current, error or "nobody acted")
    return replace(
        decision,
        desired=decision.current,
        rules=(*decision.rules, rule),
        conditions=state.conditions,
        state=state,
        error=f"failed to rescale {reference_of(spec)}: {error}" if error else "",
    )


def _able_before(decision: ReplicaDecision) -> Condition:
    """What was told before the change was made: that the past allows it, or has changed it."""
    by_past = {told.message: told for told in (STABILIZED_UP, STABILIZED_DOWN)}
    for rule in decision.rules:
        if rule.reason in by_past:
            return by_past[rule.reason]
    return READY_FOR_NEW_SCALE if decision.proposals else GOT_SCALE


def _check(spec: AutoscalerSpec, seen: WorkloadObservation, now: datetime) -> None:
    """Refuse what no observation can be."""
    if now.tzinfo is None:
        raise InvalidInputError("now", now.isoformat(), "a time with its zone")
    if not spec.metrics:
        raise InvalidInputError(f"metrics of {spec.name}", (), "at least one metric")
    for name, count in (("spec", seen.spec_replicas), ("status", seen.status_replicas)):
        if count < 0:
            raise InvalidInputError(f"{name}_replicas of {spec.name}", count, "0 or more")
    if seen.fault is None and len(seen.readings) != len(spec.metrics):
        raise InvalidInputError(
            f"readings of {spec.name}",
            len(seen.readings),
            f"one for each of its {len(spec.metrics)} metrics, in their order",
        )


def _acts_at_zero(course: Course) -> bool:
    """Whether a count of 0 may rise again: only if the autoscaler itself has brought it there."""
    spec = course.spec
    return course.was_scaled_to_zero and (spec.min_replicas != 0 or has_outside_metric(spec))


class _Highest(NamedTuple):
    """The highest proposal; 0 and no name where there is none."""

    replicas: int = 0
    metric: str = ""


def _by_metrics(course: Course) -> ReplicaDecision:
    """Decide by the metrics, then slow the change down."""
    spec, current = course.spec, course.seen.spec_replicas
    fault = course.seen.fault
    if fault is not None:
        course.set(selector_refused(fault))
        return course.stays("invalid-selector", _no_count(course, fault.message))
    tolerance = tolerance_of(spec.behavior, course.options)
    course.proposals = tuple(
        propose(Asked(spec, metric, course.seen, tolerance, course.now, course.options), reading)
        for metric, reading in zip(spec.metrics, course.seen.readings, strict=True)
    )
    highest = _highest(course.proposals)
    error = _invalid_metrics(course)
    valid = [proposal for proposal in course.proposals if proposal.fault is None]
    if error and (not valid or highest.replicas < current):
        first = next(proposal.fault for proposal in course.proposals if proposal.fault is not None)
        course.set(invalid_metric(first))
        reason = "" if not valid else f"the rest asks for {highest.replicas}, which might be wrong"
        return course.stays("invalid-metrics", _no_count(course, error), reason)
    course.warning = error
    course.set(valid_metric(highest.metric))
    desired = max(highest.replicas, 0)
    _tell_proposal(course, highest, desired, tolerance)
    desired = stabilized(course, desired)
    desired = within_limits(course, desired)
    if current == 0 and desired < spec.min_replicas:
        course.apply("min-replicas", desired, spec.min_replicas, "0 is below the minimum again")
        desired = spec.min_replicas
    return course.changes(desired)


def _highest(proposals: Sequence[Proposal]) -> _Highest:
    """The highest of the valid proposals; among equal ones the first, but of zeros the last."""
    highest = _Highest()
    for proposal in proposals:
        replicas = proposal.replicas
        if replicas is not None and (highest.replicas == 0 or replicas > highest.replicas):
            highest = _Highest(replicas, proposal.metric)
    return highest


def _invalid_metrics(course: Course) -> str:
    """The error of the metrics that are invalid; empty when there are none."""
    invalid = [
        (metric, proposal.fault)
        for metric, proposal in zip(course.spec.metrics, course.proposals, strict=True)
        if proposal.fault is not None
    ]
    if not invalid:
        return ""
    metric, fault = invalid[0]
    return (
        f"invalid metrics ({len(invalid)} invalid out of {len(course.proposals)}), "
        f"first error is: {first_error(metric, fault.message)}"
    )


def _no_count(course: Course, error: str) -> str:
    """The error of a reconcile in which no count could be computed."""
    return (
        "failed to compute desired number of replicas based on listed metrics for "
        f"{course.reference}: {error}"
    )


def _tell_proposal(course: Course, highest: _Highest, desired: int, tolerance: Tolerance) -> None:
    """Note what the metrics ask for, and what held them."""
    current = course.seen.spec_replicas
    course.apply("metrics", current, desired, f"{highest.metric} asks for {highest.replicas}")
    for proposal in course.proposals:
        if proposal.held_by == TOLERANCE and proposal.metric == highest.metric:
            low, high = 1 - tolerance.down, 1 + tolerance.up
            reason = f"{proposal.ratio:.3f} of the target is within {low:.3f} to {high:.3f}"
            course.apply(TOLERANCE, desired, desired, reason)
        elif proposal.held_by and proposal.metric == highest.metric:
            reason = f"{proposal.note}: that would turn the change around"
            course.apply(proposal.held_by, desired, desired, reason)
