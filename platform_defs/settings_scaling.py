"""Settings of rescaling: how many agents a workload is to have, by which metric, in what limits."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.rescaling.policy import (
    Activation,
    FallbackBehavior,
    Panic,
    PredictiveFloor,
    ScalingMode,
)
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key

REPLICAS_MAX = 1_000_000
_REPLICAS = kinds.whole(0, REPLICAS_MAX)
_SECONDS = kinds.whole(0, 86_400, "seconds")
_ACTIVATION, _PANIC, _FLOOR = Activation(), Panic(), PredictiveFloor()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSettings:
    """From zero and to zero; without this table a workload never goes below one by itself."""

    threshold: float = key(
        kinds.number(0, 1e15, "the metric's unit"),
        "Active while any metric is above it.",
        default=_ACTIVATION.threshold_milli / 1000,
    )
    cooldown_s: int = key(
        _SECONDS,
        "Quiet for so long before the last agents go.",
        default=_ACTIVATION.cooldown_s,
        unit="seconds",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSettings:
    """What holds while metrics are missing."""

    failures: int = key(
        kinds.whole(1, 10_000), "So many looks in a row without any metric before it holds."
    )
    replicas: int = key(_REPLICAS, "Agents that there are to be then, at least.")
    behavior: str = key(
        kinds.choice(*(one.value for one in FallbackBehavior)),
        "What the number is compared with, as KEDA has it.",
        default=FallbackBehavior.STATIC.value,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictiveSettings:
    """A floor from the same hour of the last weeks; it may only raise."""

    quantile: float = key(
        kinds.number(0.01, 1, "parts of 1"), "Of the last weeks' numbers.", default=_FLOOR.quantile
    )
    weeks: int = key(
        kinds.whole(1, 52, "weeks"), "How far it looks back.", default=_FLOOR.weeks, unit="weeks"
    )
    weekly_decay: float = key(
        kinds.number(0.01, 1, "parts of 1"),
        "Weight of a week against the one after it.",
        default=_FLOOR.weekly_decay,
    )
    error_max: float = key(
        kinds.number(0.01, 10, "parts of 1"),
        "Off while it would have been worse than this in the last week.",
        default=_FLOOR.error_max,
    )
    timezone: str = key(
        kinds.text("a zone as Europe/Berlin"),
        "Zone whose hours of the week are compared.",
        default=_FLOOR.timezone,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PanicSettings:
    """A short window that may only raise, for queues."""

    window_s: int = key(
        kinds.whole(1, 3600, "seconds"),
        "The short window.",
        default=_PANIC.window_s,
        unit="seconds",
    )
    stable_window_s: int = key(
        kinds.whole(1, 86_400, "seconds"),
        "How long nothing is taken away after a panic.",
        default=_PANIC.stable_window_s,
        unit="seconds",
    )
    threshold: float = key(
        kinds.number(1, 1000, "times"),
        "Panics when the short window asks for so many times the ready agents.",
        default=_PANIC.threshold,
    )
    rate_up_max: float = key(
        kinds.number(1, 1_000_000, "times"),
        "At most so many times the ready agents at once.",
        default=_PANIC.rate_up_max,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmPoolSettings:
    """Parked, ready agents that are there in place of zero."""

    size: int = key(_REPLICAS, "How many.")
    gpu_model: str = key(
        kinds.optional_text(), "On nodes with GPUs of this model; empty: any.", default=""
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCeilingSettings:
    """What all agents of the workload in a region may cost."""

    per_hour: float = key(kinds.number(0, 1e12, "the currency of [costs]"), "An hour, together.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingSettings:
    """How a workload is scaled, in each region apart; docs/rescaling.md explains every rule."""

    mode: str = key(
        kinds.choice(*(one.value for one in ScalingMode)),
        "Who acts on a decision: nobody, a person, or the controller.",
        default=ScalingMode.OBSERVE.value,
    )
    spec: str = key(
        kinds.optional_text(),
        "File with an autoscaling/v2 HorizontalPodAutoscaler, relative to this one; instead of the "
        "keys from `min_replicas` to `tolerance`.",
        default="",
    )
    min_replicas: int = key(_REPLICAS, "Fewest agents in a region.", default=1)
    max_replicas: int = key(
        _REPLICAS, "Most agents in a region; required without `spec`.", default=0
    )
    metric: str = key(
        kinds.optional_text(),
        "`cpu` or `memory` of the agents' processes, a value that agents report, or a series such "
        "as `agent_active_sessions`.",
        default="",
    )
    query: str = key(
        kinds.optional_text(),
        "PromQL in place of `metric`; `$workload` and `$region` stand for what is scaled.",
        default="",
    )
    target: float = key(
        kinds.number(0, 1e15, "the metric's unit"),
        "What the metric is to be: percent of what is allocated for `cpu` and `memory`, else for "
        "each agent.",
        default=0.0,
    )
    target_type: str = key(
        kinds.choice("default", "utilization", "average", "value"),
        "What `target` means: percent of the allocation, for each agent, or altogether.",
        default="default",
    )
    up_window_s: int = key(
        kinds.whole(0, 3600, "seconds"),
        "The lowest wish of so long a time counts before agents are added.",
        default=0,
        unit="seconds",
    )
    down_window_s: int = key(
        kinds.whole(0, 3600, "seconds"),
        "The highest wish of so long a time counts before agents are taken away.",
        default=300,
        unit="seconds",
    )
    tolerance: float = key(
        kinds.number(0, 10, "parts of 1"),
        "A metric that is off its target by no more than this changes nothing.",
        default=0.1,
    )
    gpu_down_window_s: int = key(
        _SECONDS,
        "Longest wish of so long a time counts before agents with GPUs go.",
        default=900,
        unit="seconds",
    )
    ignore_below: float = key(
        kinds.number(0, 1_000_000, "agents"), "Changes of fewer agents are left.", default=0.0
    )
    calendar: tuple[dict[str, object], ...] = key(
        kinds.calendar(),
        "Wall-clock windows in which other limits hold: tables of `name`, `start`, `end` (cron), "
        "`timezone`, `min_replicas`, `max_replicas`.",
        default=(),
    )
    activation: ActivationSettings | None = None
    fallback: FallbackSettings | None = None
    predictive: PredictiveSettings | None = None
    panic: PanicSettings | None = None
    warm_pool: WarmPoolSettings | None = None
    cost_ceiling: CostCeilingSettings | None = None


SCALING_TABLES: dict[str, type] = {
    "activation": ActivationSettings,
    "fallback": FallbackSettings,
    "predictive": PredictiveSettings,
    "panic": PanicSettings,
    "warm_pool": WarmPoolSettings,
    "cost_ceiling": CostCeilingSettings,
}
"""Tables inside `[workloads.<name>.scaling]`; one that is absent switches its rule off."""
