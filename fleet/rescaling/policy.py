"""What Stateroom adds to an autoscaler: when to act, zero, calendars, foresight, cost.

One policy belongs to one workload of `stateroom.toml` and holds in each of its regions apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fleet.rescaling.spec import AutoscalerSpec


class ScalingMode(StrEnum):
    """Who acts on a decision."""

    OBSERVE = "observe"
    """Nobody: it is recorded."""
    APPROVE = "approve"
    """A person, by `stateroom scaling approve`."""
    AUTO = "auto"


class FallbackBehavior(StrEnum):
    """What holds while metrics are missing; spelled as KEDA spells it."""

    STATIC = "static"
    """The number of the fallback, also when that is lower; rate limits hold."""
    CURRENT = "currentReplicas"
    CURRENT_IF_HIGHER = "currentReplicasIfHigher"
    CURRENT_IF_LOWER = "currentReplicasIfLower"


@dataclass(frozen=True, slots=True)
class Activation:
    """From zero and to zero."""

    threshold_milli: int = 0
    """Active while any metric is above it."""
    cooldown_s: int = 300
    """Quiet for so long before the last replicas go."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """What holds after `failures` reconciles in a row without a metric.

    While other metrics can be had it only raises. An error never removes the last replica.
    """

    failures: int
    replicas: int
    behavior: FallbackBehavior = FallbackBehavior.STATIC


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """Wall-clock time in which other limits hold; of several open ones the highest floor wins."""

    name: str
    start_cron: str
    """Five fields, in `timezone`."""
    end_cron: str
    timezone: str
    min_replicas: int
    max_replicas: int | None = None


@dataclass(frozen=True, slots=True)
class PredictiveFloor:
    """A floor from the same hour of the last weeks; it may only raise."""

    quantile: float = 0.9
    weeks: int = 4
    weekly_decay: float = 0.8
    """Weight of a week by its age in weeks, 0 to 1."""
    error_max: float = 0.3
    """Switched off while the last week's back-test was worse."""
    timezone: str = "UTC"
    """IANA name of the zone whose hours of the week are compared: people work by the clock."""


@dataclass(frozen=True, slots=True)
class Panic:
    """A short window that may only raise, for queues."""

    window_s: int = 6
    stable_window_s: int = 60
    threshold: float = 2.0
    """Panics when the short window asks for so many times the ready replicas."""
    rate_up_max: float = 1000.0
    """At most so many times the ready replicas at once."""


@dataclass(frozen=True, slots=True)
class WarmPool:
    """Parked, ready agents that are there in place of zero."""

    size: int
    gpu_model: str | None = None


@dataclass(frozen=True, slots=True)
class CostCeiling:
    """What all replicas of the workload in a region may cost."""

    per_hour: float
    """In the currency of `[costs]`."""


@dataclass(frozen=True, slots=True)
class WorkloadScaling:
    """Everything that is wished of one workload's replicas."""

    workload: str
    spec: AutoscalerSpec
    mode: ScalingMode = ScalingMode.OBSERVE
    activation: Activation | None = None
    """None: never below one by itself, and never from zero."""
    fallback: Fallback | None = None
    calendar: tuple[CalendarWindow, ...] = ()
    predictive: PredictiveFloor | None = None
    panic: Panic | None = None
    warm_pool: WarmPool | None = None
    cost_ceiling: CostCeiling | None = None
    gpu_down_window_s: int = 900
    """At least so long a window before GPU agents go: loading a model again is dear."""
    ignore_below: float = 0.0
    """Changes of less than so many replicas are left (0: none)."""
    per_revision: bool = False
    """During a rollout each revision asks for its own pods: an average over old and new ones would
    hide that one of them is overloaded."""

    @property
    def is_plain(self) -> bool:
        """Whether no rule beyond Kubernetes' is wished.

        Outside of rollouts, of agents without GPUs and within quotas, `decide_replicas`, and in
        columns `decide_many`, then decide the same.
        """
        extras = (
            self.activation, self.fallback, self.predictive, self.panic, self.warm_pool,
            self.cost_ceiling,
        )  # fmt: skip
        return all(one is None for one in extras) and not self.calendar and not self.ignore_below
