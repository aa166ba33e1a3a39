"""What was decided for one workload, with everything that led to it; also for "no change"."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleet.rescaling.observation import AutoscalerState, Condition, MetricFault


class PodCounts(NamedTuple):
    """How many pods were looked at, and as what they counted."""

    ready: int
    """With their sample."""
    unready: int = 0
    """They start, or were never ready: their sample does not count."""
    missing: int = 0
    """Without a sample."""
    ignored: int = 0
    """They go away, or have failed."""


class Proposal(NamedTuple):
    """What one metric asks for."""

    metric: str
    """As a person would name it: `cpu resource utilization (percentage of request)`."""
    replicas: int | None
    """None when the metric is invalid; `fault` says why."""
    value: int | None = None
    """Measured: thousandths, or percent where the target is a utilization."""
    target: int | None = None
    """In the same unit."""
    ratio: float | None = None
    """Value by target, as the rule used it."""
    fault: MetricFault | None = None
    note: str = ""
    """What was special, in words: `2 pods without a sample count as idle`."""
    held_by: str = ""
    """What kept the count although the ratio is not 1: `tolerance` or `direction`; else empty."""
    pods: PodCounts | None = None
    """None where pods were not looked at."""


class AppliedRule(NamedTuple):
    """One rule that changed the count, or held it."""

    rule: str
    """Name: `tolerance`, `stabilization`, `rate-up`, `max-replicas`, `cost-ceiling`, ..."""
    before: int
    after: int
    reason: str
    """In words, with the numbers it compared."""


@dataclass(frozen=True, slots=True)
class ReplicaDecision:
    """What one reconcile decides."""

    current: int
    desired: int
    """Equal to `current` for no change."""
    proposals: tuple[Proposal, ...]
    """One for each metric of the spec, in its order; empty when no metric was looked at."""
    rules: tuple[AppliedRule, ...]
    """In the order in which they were applied; the last that changed the count limited it."""
    conditions: tuple[Condition, ...]
    state: AutoscalerState
    """To hand to the next reconcile, once the change was made (or `desired == current`)."""
    at: datetime
    error: str = ""
    """Why nothing could be decided, as the controller words it; the count stays then."""
    warning: str = ""
    """Metrics that were left out while the others decided; the controller reports it as an error
    of the reconcile, and acts."""

    @property
    def is_change(self) -> bool:
        """Whether the count is to change."""
        return self.desired != self.current
