"""Which allocations must stay because a rescaler counts in parts of them.

A target of utilization is a percentage of what is allocated: whoever changes the allocation changes
the number of replicas. The Vertical Pod Autoscaler and an HPA on the same resource fight for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleet.rescaling.policy import ScalingMode, WorkloadScaling
from fleet.rescaling.spec import TargetType


def scaled_resources(scalings: Iterable[WorkloadScaling]) -> frozenset[tuple[str, str]]:
    """(workload, resource) of every utilization that decides about replicas.

    Args:
        scalings: as declared; those that only observe change nothing.
    """
    return frozenset(
        (one.workload, metric.name)
        for one in scalings
        if one.mode is not ScalingMode.OBSERVE
        for metric in one.spec.metrics
        if metric.kind.is_resource and metric.target_type is TargetType.UTILIZATION
    )
