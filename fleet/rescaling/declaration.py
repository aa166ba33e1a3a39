"""Everything that is declared of rescaling, as controllers, runs and commands take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from fleet.costs.prices import PriceBook
from fleet.rescaling.policy import WorkloadScaling

TICK_S = 15.0
"""Between two looks. Source: kube-controller-manager, --horizontal-pod-autoscaler-sync-period."""

_NONE: Mapping[str, WorkloadScaling] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RescalingDeclaration:
    """Which workloads are scaled, how, and where."""

    regions: tuple[str, ...] = ()
    """All declared, sorted: each workload is scaled in each of them apart."""
    workloads: Mapping[str, WorkloadScaling] = field(default_factory=lambda: _NONE)
    """By name; one that is absent keeps its declared number."""
    sample_age_max_s: float = 60.0
    """Samples older than this are no answer: several scrape intervals."""
    ready_timeout_s: float = 120.0
    """How long a run waits for the agents that it has started."""
    tick_s: float = TICK_S
    prices: PriceBook | None = None
    """For cost ceilings; None: nothing is known of prices."""
    failover_enabled: bool = True
    """Whether a controller of failover watches: what it says of regions is heeded then."""
