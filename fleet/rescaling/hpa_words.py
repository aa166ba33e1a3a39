"""Conditions of an autoscaler, to the letter as the controller sets them.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/horizontal.go`.
"""

from __future__ import annotations

from enum import Enum

from fleet.rescaling.metric_words import UNABLE
from fleet.rescaling.observation import Condition, MetricFault

ABLE_TO_SCALE = "AbleToScale"
SCALING_ACTIVE = "ScalingActive"
SCALING_LIMITED = "ScalingLimited"
SCALED_TO_ZERO = "ScaledToZero"

SELECTOR_REASONS = frozenset({"InvalidSelector", "AmbiguousSelector"})
"""Reasons of a fault that lies in the selector: the count could be read, the pods could not."""
TARGET_ERRORS = {
    "InvalidTargetVersion": "invalid API version in scale target reference",
    "UnknownTargetKind": "unable to determine resource for scale target reference",
}
"""What the controller says of a workload whose count it cannot ask for, by reason of the fault."""
SELECTOR_REQUIRED = "selector is required"
"""Message of the fault of a workload that tells no selector."""

GOT_SCALE = Condition(
    ABLE_TO_SCALE,
    status=True,
    reason="SucceededGetScale",
    message="the HPA controller was able to get the target's current scale",
)
DISABLED = Condition(
    SCALING_ACTIVE,
    status=False,
    reason="ScalingDisabled",
    message="scaling is disabled since the replica count of the target is zero",
)
READY_FOR_NEW_SCALE = Condition(
    ABLE_TO_SCALE,
    status=True,
    reason="ReadyForNewScale",
    message="recommended size matches current size",
)
STABILIZED_UP = Condition(
    ABLE_TO_SCALE,
    status=True,
    reason="ScaleUpStabilized",
    message="recent recommendations were lower than current one, "
    "applying the lowest recent recommendation",
)
STABILIZED_DOWN = Condition(
    ABLE_TO_SCALE,
    status=True,
    reason="ScaleDownStabilized",
    message="recent recommendations were higher than current one, "
    "applying the highest recent recommendation",
)


class Limit(Enum):
    """What limits the count; each with the reason and the message of its condition."""

    NONE = ("DesiredWithinRange", "the desired count is within the acceptable range", "")
    MAX = (
        "TooManyReplicas",
        "the desired replica count is more than the maximum replica count",
        "max-replicas",
    )
    MIN = (
        "TooFewReplicas",
        "the desired replica count is less than the minimum replica count",
        "min-replicas",
    )
    RATE_UP = (
        "ScaleUpLimit",
        "the desired replica count is increasing faster than the maximum scale rate",
        "rate-up",
    )
    RATE_DOWN = (
        "ScaleDownLimit",
        "the desired replica count is decreasing faster than the maximum scale rate",
        "rate-down",
    )

    def __init__(self, reason: str, message: str, rule: str) -> None:
        """Keep the parts by name; `rule` is what a decision calls it."""
        self.reason = reason
        self.message = message
        self.rule = rule


def limited(limit: Limit, *, cuts: bool) -> Condition:
    """Whether a limit has changed the count."""
    return Condition(SCALING_LIMITED, cuts, limit.reason, limit.message)


def valid_metric(name: str) -> Condition:
    """A metric has decided."""
    message = f"the HPA was able to successfully calculate a replica count from {name}"
    return Condition(SCALING_ACTIVE, status=True, reason="ValidMetricFound", message=message)


def invalid_metric(fault: MetricFault) -> Condition:
    """No metric could decide; `fault` is the first one's."""
    message = f"{UNABLE}{fault.message}"
    return Condition(SCALING_ACTIVE, status=False, reason=fault.reason, message=message)


def selector_refused(fault: MetricFault) -> Condition:
    """The pods of the workload cannot be told from others."""
    missing = fault.message == SELECTOR_REQUIRED
    message = "the HPA target's scale is missing a selector" if missing else fault.message
    return Condition(SCALING_ACTIVE, status=False, reason=fault.reason, message=message)


def failed_get_scale(message: str) -> Condition:
    """The count could not be read."""
    text = f"the HPA controller was unable to get the target's current scale: {message}"
    return Condition(ABLE_TO_SCALE, status=False, reason="FailedGetScale", message=text)


def failed_update(message: str) -> Condition:
    """The count could not be changed."""
    text = f"the HPA controller was unable to update the target scale: {message}"
    return Condition(ABLE_TO_SCALE, status=False, reason="FailedUpdateScale", message=text)


def rescaled(replicas: int) -> Condition:
    """The count was changed."""
    message = f"the HPA controller was able to update the target scale to {replicas}"
    return Condition(ABLE_TO_SCALE, status=True, reason="SucceededRescale", message=message)


def zero(*, by_controller: bool) -> Condition:
    """Whether it was the autoscaler that has removed the last replica."""
    if by_controller:
        text = "the HPA controller scaled the workload to zero"
        return Condition(SCALED_TO_ZERO, status=True, reason="ScaledToZero", message=text)
    text = "the HPA controller did not scale the workload to zero"
    return Condition(SCALED_TO_ZERO, status=False, reason="NotScaledToZero", message=text)
