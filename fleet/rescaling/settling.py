"""From what the metrics ask for to what is let through: first the past, then the limits.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/horizontal.go`, `normalizeDesiredReplicas`,
`normalizeDesiredReplicasWithBehaviors`.
"""

from __future__ import annotations

from fleet.rescaling.course import Course
from fleet.rescaling.hpa_words import (
    READY_FOR_NEW_SCALE,
    STABILIZED_DOWN,
    STABILIZED_UP,
    Limit,
    limited,
)
from fleet.rescaling.rates import growth_limit, lower_limit, upper_limit
from fleet.rescaling.spec import Behavior
from fleet.rescaling.stabilization import Stabilized, stabilize_by_rules, stabilize_by_window


def stabilized(course: Course, proposed: int) -> int:
    """The count that the past lets through."""
    current, behavior = course.seen.spec_replicas, course.spec.behavior
    if behavior is None:
        window_s = course.options.downscale_stabilization_s
        found = stabilize_by_window(proposed, course.recommendations, course.now, window_s)
        told = STABILIZED_DOWN
    else:
        found = _stabilized_by_rules(course, behavior, proposed)
        told = STABILIZED_UP if proposed >= current else STABILIZED_DOWN
    course.recommendations = found.kept
    if found.replicas == proposed:
        course.set(READY_FOR_NEW_SCALE)
        return proposed
    course.set(told)
    course.apply("stabilization", proposed, found.replicas, told.message)
    return found.replicas


def _stabilized_by_rules(course: Course, behavior: Behavior, proposed: int) -> Stabilized:
    """The count that has lasted for the windows of the autoscaler's own rules."""
    up_s = behavior.scale_up.stabilization_window_s
    down_s = behavior.scale_down.stabilization_window_s
    default_s = int(course.options.downscale_stabilization_s)  # whole seconds, as in a spec
    windows = (up_s or 0, default_s if down_s is None else down_s)
    current = course.seen.spec_replicas
    return stabilize_by_rules(proposed, current, course.recommendations, course.now, windows)


def within_limits(course: Course, wished: int) -> int:
    """The count within minimum, maximum and rates, with the condition that tells of it."""
    if course.spec.behavior is None:
        limit, allowed = _simple_limit(course, wished)
    else:
        limit, allowed = _rate_limit(course, course.spec.behavior, wished)
    course.set(limited(limit, cuts=allowed != wished))
    if allowed != wished:
        course.apply(limit.rule, wished, allowed, limit.message)
    return allowed


def _simple_limit(course: Course, wished: int) -> tuple[Limit, int]:
    """Limits of an autoscaler without rules."""
    spec, growth = course.spec, growth_limit(course.seen.spec_replicas)
    if wished < spec.min_replicas:
        return Limit.MIN, spec.min_replicas
    if wished > min(growth, spec.max_replicas):
        if spec.max_replicas > growth:
            return Limit.RATE_UP, growth
        return Limit.MAX, spec.max_replicas
    return Limit.NONE, wished


def _rate_limit(course: Course, behavior: Behavior, wished: int) -> tuple[Limit, int]:
    """Limits of an autoscaler with rules; an unchanged count is not even held to the minimum."""
    spec, current, before = course.spec, course.seen.spec_replicas, course.before
    ups, downs, now = before.scale_ups, before.scale_downs, course.now
    if wished > current:
        highest = upper_limit(current, behavior.scale_up, ups, downs, now)
        if wished > min(highest, spec.max_replicas):
            if spec.max_replicas > highest:
                return Limit.RATE_UP, highest
            return Limit.MAX, spec.max_replicas
    elif wished < current:
        lowest = lower_limit(current, behavior.scale_down, ups, downs, now)
        if wished < max(lowest, spec.min_replicas):
            if spec.min_replicas < lowest:
                return Limit.RATE_DOWN, lowest
            return Limit.MIN, spec.min_replicas
    return Limit.NONE, wished
