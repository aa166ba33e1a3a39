"""What is seen of one workload at one moment: pods, samples, and values that could not be had.

An agent is a pod here; on the local fleet its requests are its declared shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

_NO_QUANTITIES: Mapping[str, int] = MappingProxyType({})
_NONE: Mapping[str, Mapping[str, int]] = MappingProxyType({})


class Pod(NamedTuple):
    """One pod of the workload, as far as a decision looks at it."""

    name: str
    phase: str = "Running"
    """`Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`."""
    deleting: bool = False
    ready: bool | None = None
    """Status of its Ready condition; None when it has none, or, with `ready_changed_at`, when it is
    `Unknown`."""
    started_at: datetime | None = None
    ready_changed_at: datetime | None = None
    """Last transition of the Ready condition."""
    requests: Mapping[str, Mapping[str, int]] = _NONE
    """Container -> resource -> thousandths requested; one that is not requested is absent."""
    pod_requests: Mapping[str, int] = _NO_QUANTITIES
    """Resource -> thousandths requested for the pod as a whole, where that is declared for any: of
    the others then what the scheduler counts. A declared overhead is added."""


class PodSample(NamedTuple):
    """What one pod used."""

    value_milli: int
    at: datetime
    window_s: float = 60
    """Time that the value covers."""


class MetricFault(NamedTuple):
    """Why a metric could not be had; it never counts as zero."""

    reason: str
    """One word, as in a condition: `FailedGetPodsMetric`."""
    message: str


PodSamples: TypeAlias = Mapping[str, PodSample]
"""By name of the pod; one without a sample is missing."""

Reading: TypeAlias = PodSamples | Sequence[int] | MetricFault
"""Of one metric: samples of pods; or values in thousandths (one for Object, any number for
External); or why there are none."""


@dataclass(frozen=True, slots=True)
class WorkloadObservation:
    """One workload as one reconcile sees it."""

    spec_replicas: int
    """Wanted now."""
    status_replicas: int
    """There now, ready or not."""
    pods: Sequence[Pod]
    readings: Sequence[Reading]
    """One for each metric of the spec, in its order."""
    fault: MetricFault | None = None
    """Why the workload itself could not be looked at; reason `FailedGetScale`, `UnknownTargetKind`,
    `InvalidTargetVersion` (no counts), `InvalidSelector`, `AmbiguousSelector` (counts, no pods)."""


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """A change that was made."""

    at: datetime
    change: int
    """Replicas added or removed, 1 or more."""
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A count that was proposed before any stabilization."""

    at: datetime
    replicas: int


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of an autoscaler, as the API has it."""

    type: str
    """`AbleToScale`, `ScalingActive`, `ScalingLimited`, `ScaledToZero`."""
    status: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class AutoscalerState:
    """What a controller remembers of one autoscaler between reconciles; lost when it restarts."""

    recommendations: tuple[Recommendation, ...] = ()
    scale_ups: tuple[ScaleEvent, ...] = ()
    scale_downs: tuple[ScaleEvent, ...] = ()
    conditions: tuple[Condition, ...] = ()
    seen: bool = False
    """Whether an earlier reconcile of this controller has recorded the count it found."""
    details: Mapping[str, str] = field(default_factory=dict)
    """What the rules beyond Kubernetes remember (`fleet.rescaling.policy`), by rule."""
