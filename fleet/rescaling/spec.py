"""An autoscaler as autoscaling/v2 describes it, with every default of the API filled in.

Quantities are whole thousandths (`1500` is Kubernetes' `1500m` or `1.5`), utilizations whole
percents, times whole seconds: the controller computes in these, and truncates in these.

Source: Kubernetes v1.36, `staging/src/k8s.io/api/autoscaling/v2/types.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """Where a metric comes from; spelled as the API spells it."""

    RESOURCE = "Resource"
    """CPU or memory of whole pods."""
    CONTAINER_RESOURCE = "ContainerResource"
    """CPU or memory of one container of each pod."""
    PODS = "Pods"
    """A metric that each pod has, averaged."""
    OBJECT = "Object"
    """A metric of one other object."""
    EXTERNAL = "External"
    """A metric of something outside; several series are added up."""

    @property
    def is_outside(self) -> bool:
        """Whether it is there without any pod, and says nothing of single ones."""
        return self is MetricKind.OBJECT or self is MetricKind.EXTERNAL

    @property
    def is_resource(self) -> bool:
        """Whether it is CPU or memory."""
        return self is MetricKind.RESOURCE or self is MetricKind.CONTAINER_RESOURCE


class TargetType(StrEnum):
    """What the target number means."""

    UTILIZATION = "Utilization"
    """Percent of what was requested."""
    VALUE = "Value"
    AVERAGE_VALUE = "AverageValue"
    """For each pod."""


class SelectPolicy(StrEnum):
    """Which of several rate limits counts."""

    MAX = "Max"
    """The one that allows the larger change."""
    MIN = "Min"
    DISABLED = "Disabled"
    """No change in this direction."""


class PolicyType(StrEnum):
    """What a rate limit counts."""

    PODS = "Pods"
    PERCENT = "Percent"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric and its target."""

    kind: MetricKind
    name: str
    """`cpu` or `memory` for resources, else the name of the metric."""
    target_type: TargetType
    target: int
    """Thousandths; whole percents when the type is Utilization."""
    container: str = ""
    """Of ContainerResource only."""
    selector: str = ""
    """Label selector as `kubectl` writes it, `queue=inbox,tier!=test`; Pods, Object, External."""
    described_object: str = ""
    """`kind/name` of Object only."""
    has_target: bool = True
    """False: `target_type` names a number that is not there. The API lets this through for Object;
    the metric is then invalid."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """One rate limit: at most `value` pods or percent within `period_s`."""

    type: PolicyType
    value: int
    period_s: int


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """How fast one direction may go."""

    policies: tuple[ScalingPolicy, ...]
    select_policy: SelectPolicy = SelectPolicy.MAX
    stabilization_window_s: int | None = None
    """None: the controller's own (300 s down, 0 s up)."""
    tolerance_milli: int | None = None
    """None: the controller's own (100: 10 %)."""
    tolerance: float | None = None
    """The same as a ratio where thousandths are too coarse (`500u`); it then counts instead."""


@dataclass(frozen=True, slots=True)
class Behavior:
    """Rules for both directions."""

    scale_up: ScalingRules
    scale_down: ScalingRules


@dataclass(frozen=True, slots=True)
class AutoscalerSpec:
    """What an autoscaler is asked to do."""

    name: str
    metrics: tuple[MetricSpec, ...]
    min_replicas: int
    max_replicas: int
    behavior: Behavior | None = None
    """None: the older rule with a fixed limit on growth (`max(2 * current, 4)`)."""
    namespace: str = "default"
    target_kind: str = "Deployment"
    target_name: str = ""


@dataclass(frozen=True, slots=True)
class ControllerOptions:
    """Flags of kube-controller-manager that change decisions; defaults are its own."""

    tolerance_milli: int = 100
    downscale_stabilization_s: float = 300
    cpu_initialization_period_s: float = 300
    initial_readiness_delay_s: float = 30
    scale_to_zero: bool = False
    """Feature gate HPAScaleToZero."""
    configurable_tolerance: bool = True
    """Feature gate HPAConfigurableTolerance, on by default since 1.35."""
