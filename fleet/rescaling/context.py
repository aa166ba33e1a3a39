"""What a decision knows of a workload beside its pods and metrics: prices, starts, rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fleet.rescaling.foresight import Forecast
from fleet.rescaling.spec import ControllerOptions


@dataclass(frozen=True, slots=True)
class Rollout:
    """A replacement of replicas by ones of another revision that is under way."""

    started_at: datetime
    surge: frozenset[str] = frozenset()
    """Names of copies that are there twice while they are exchanged; they count nowhere."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Name of a pod -> its revision, where groups are to be looked at apart."""


@dataclass(frozen=True, slots=True)
class ScalingContext:
    """What a decision knows of a workload beside its pods and metrics."""

    is_gpu: bool = False
    """Its agents hold GPUs: loading a model again is dear."""
    start_times_s: Sequence[float] = ()
    """Measured starts, from the order to readiness; seconds."""
    forecast: Forecast | None = None
    """Made by `foresight.forecast` once an hour; needed for the predictive floor."""
    price_per_hour: float | None = None
    """Of one replica, in the currency of `[costs]`; None: not known."""
    quota_room: int | None = None
    """Replicas that may be placed beside those that are there; None: any number."""
    rollout: Rollout | None = None
    zero_is_manual: bool | None = None
    """Whether a count of 0 is a person's wish; None: it is unless the engine has made it."""
    options: ControllerOptions = field(default_factory=ControllerOptions)
