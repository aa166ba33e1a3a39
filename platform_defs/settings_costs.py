"""Settings of prices, right-sizing, consolidation, cleanup and forecasts of capacity."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.capacity import CapacityPolicy
from fleet.cleanup import CleanupPolicy
from fleet.consolidation.records import ConsolidationPolicy
from fleet.costs.prices import ResourceRates
from fleet.costs.spot import SpotPolicy
from fleet.rightsizing.records import MIB, RightsizingPolicy
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key

_PRICE = kinds.number(0, 1_000_000, "units of the currency")
_RATES = ResourceRates()


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSettings:
    """Prices of resources; `[prices.NAME]` has those of whole nodes."""

    enabled: bool = key(
        kinds.boolean(),
        "Whether costs, right-sizing, consolidation, cleanup and capacity are judged every hour.",
        default=True,
    )
    currency: str = key(kinds.text(), "Currency of every price.", default="USD")
    cpu_core_hour: float = key(
        _PRICE, "Price of a core for an hour.", default=_RATES.cpu_core_hour, unit="currency"
    )
    memory_gib_hour: float = key(
        _PRICE, "Price of a GiB of memory for an hour.", default=_RATES.memory_gib_hour,
        unit="currency",
    )  # fmt: skip
    gpu_hour: float = key(
        _PRICE, "Price of a GPU for an hour.", default=_RATES.gpu_hour, unit="currency"
    )
    storage_gib_month: float = key(
        _PRICE, "Price of a GiB stored for a month.", default=_RATES.storage_gib_month,
        unit="currency",
    )  # fmt: skip
    egress_gib: float = key(
        _PRICE, "Price of a GiB that leaves a region for another.", default=_RATES.egress_gib,
        unit="currency",
    )  # fmt: skip
    spot_saving_ratio: float = key(
        kinds.number(0, 1, "parts of 1"),
        "Share of the price that spot capacity saves.",
        default=SpotPolicy().saving_ratio,
    )
    spot_restore_mbps: float = key(
        kinds.number(0.1, 1e6, "Mbit/s"),
        "How fast the state of one agent comes back from a backup, as `stateroom drill` measures.",
        default=SpotPolicy().restore_bytes_per_s * 8 / 1e6,
        unit="Mbit/s",
    )
    aws_prices: bool = key(
        kinds.boolean(),
        "Whether prices of nodes with an `instance_type` are asked from AWS (on demand, Linux).",
        default=False,
    )
    aws_prices_max_age_hours: int = key(
        kinds.whole(1, 24 * 366, "hours"),
        "Age from which AWS is asked again; until then the lake's copy counts.",
        default=24,
        unit="hours",
    )
    aws_endpoint_url: str = key(
        kinds.optional_url(), "Endpoint of the AWS Price List API; empty takes AWS's.", default=""
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """Price of the nodes that fit its description; of several the one that says most counts."""

    name: str
    region: str = key(kinds.optional_name(), "Region of the nodes; empty for all.", default="")
    gpu_model: str = key(
        kinds.optional_text(), "GPU model of the nodes; empty for all.", default=""
    )
    cpu_milli: int = key(
        kinds.whole(0, 10_000_000, "thousandths of a core"),
        "Capacity of the nodes; 0 for all.",
        default=0,
        unit="thousandths of a core",
    )
    instance_type: str = key(
        kinds.optional_text(), "What AWS calls such a node, such as `p5.48xlarge`.", default=""
    )
    node_hour: float = key(
        _PRICE,
        "Price of a node for an hour; 0: the sum of its resources.",
        default=0.0,
        unit="currency",
    )
    gpu_hour: float = key(
        _PRICE,
        "Price of one of its GPUs for an hour; 0: that of `[costs]`.",
        default=0.0,
        unit="currency",
    )


_RIGHTSIZING = RightsizingPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class RightsizingSettings:
    """How advice on allocations is made; the defaults are those of the Vertical Pod Autoscaler."""

    history_days: int = key(
        kinds.whole(1, 366, "days"),
        "How much of the past is looked at.",
        default=_RIGHTSIZING.history_days,
        unit="days",
    )
    half_life_hours: int = key(
        kinds.whole(1, 24 * 366, "hours"),
        "Age at which a reading weighs half.",
        default=_RIGHTSIZING.half_life_s // 3600,
        unit="hours",
    )
    target_percentile: float = key(
        kinds.number(0.01, 1, "parts of 1"),
        "Share of the readings that the target covers.",
        default=_RIGHTSIZING.target_percentile,
    )
    lower_percentile: float = key(
        kinds.number(0.01, 1, "parts of 1"),
        "Share of the readings below which an allocation starves.",
        default=_RIGHTSIZING.lower_percentile,
    )
    upper_percentile: float = key(
        kinds.number(0.01, 1, "parts of 1"),
        "Share of the readings above which an allocation is wasted.",
        default=_RIGHTSIZING.upper_percentile,
    )
    margin: float = key(
        kinds.number(0, 10, "parts of 1"),
        "Share that is added to what the readings say.",
        default=_RIGHTSIZING.margin,
    )
    cpu_floor_milli: int = key(
        kinds.whole(0, 1_000_000, "thousandths of a core"),
        "Least CPU that is ever advised.",
        default=_RIGHTSIZING.cpu_floor_milli,
        unit="thousandths of a core",
    )
    memory_floor_mib: int = key(
        kinds.whole(0, 1_000_000, "MiB"),
        "Least memory that is ever advised.",
        default=_RIGHTSIZING.memory_floor_bytes // MIB,
        unit="MiB",
    )


_CONSOLIDATION = ConsolidationPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolidationSettings:
    """When it is proposed to empty nodes; nothing is ever emptied without a person."""

    validate_after_s: float = key(
        kinds.number(15, 3600, "seconds"),
        "Time after which a proposal is checked against a new look, and dropped where it fails.",
        default=_CONSOLIDATION.validate_after_s,
        unit="seconds",
    )
    score_min: float = key(
        kinds.number(0, 1000, "a ratio"),
        "Least quotient of the share of spend saved and the share of agents disturbed.",
        default=_CONSOLIDATION.score_min,
    )
    settle_hours: float = key(
        kinds.number(0, 24 * 366, "hours"),
        "How long a node that is new, or took the place of another, is left alone.",
        default=_CONSOLIDATION.settle_s / 3600,
        unit="hours",
    )
    headroom_ratio: float = key(
        kinds.number(0, 0.9, "parts of 1"),
        "Share of every other node that stays free.",
        default=_CONSOLIDATION.headroom_ratio,
    )
    nodes_at_once: int = key(
        kinds.whole(1, 1000),
        "Most nodes of one proposal.",
        default=_CONSOLIDATION.nodes_at_once,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """How much may be proposed for emptying within a window; the strictest budget counts."""

    name: str
    nodes: str = key(
        kinds.optional_text(),
        "Number of nodes, or a percentage of a region's, rounded up; empty where `agents` says it.",
        default="",
    )
    agents: str = key(
        kinds.optional_text(),
        "Number of agents of each workload, or a percentage of those in a region, rounded up.",
        default="",
    )
    workloads: tuple[str, ...] = key(
        kinds.words(), "Workloads that `agents` is about; none for all.", default=()
    )
    reasons: tuple[str, ...] = key(
        kinds.words(), "Reasons that it is about: empty, underutilized; none for all.", default=()
    )
    window_hours: float = key(
        kinds.number(0, 24 * 366, "hours"),
        "Length of the rolling window that is counted over.",
        default=24.0,
        unit="hours",
    )
    schedule: str = key(
        kinds.optional_text(),
        "When it begins to hold, as cron in UTC; empty: always.",
        default="",
    )
    duration_hours: float = key(
        kinds.number(0, 24 * 366, "hours"),
        "How long it holds from then on.",
        default=0.0,
        unit="hours",
    )


_CLEANUP = CleanupPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupSettings:
    """What counts as left behind; it is listed, and removed only when somebody approves it."""

    idle_hours: int = key(
        kinds.whole(1, 24 * 366, "hours"),
        "An agent without activity, new state or CPU for so long is idle.",
        default=_CLEANUP.idle_hours,
        unit="hours",
    )
    orphan_days: int = key(
        kinds.whole(0, 36_500, "days"),
        "Age from which what belongs to nothing is proposed.",
        default=_CLEANUP.orphan_days,
        unit="days",
    )
    keep: tuple[str, ...] = key(
        kinds.words(), "Names (or beginnings, ending in '*') that are held for good.", default=()
    )


_CAPACITY = CapacityPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacitySettings:
    """How far ahead capacity is looked at."""

    history_days: int = key(
        kinds.whole(1, 366, "days"),
        "How much of the past the trend is taken from.",
        default=_CAPACITY.history_days,
        unit="days",
    )
    warn_days: float = key(
        kinds.number(0, 3660, "days"),
        "A region that is full sooner is a warning.",
        default=_CAPACITY.warn_days,
        unit="days",
    )
    full_ratio: float = key(
        kinds.number(0.01, 1, "parts of 1"),
        "Share of the capacity at which a region counts as full.",
        default=_CAPACITY.full_ratio,
    )
    nodes_lost: int = key(
        kinds.whole(0, 1000),
        "How many of the largest nodes a region must be able to lose.",
        default=_CAPACITY.nodes_lost,
    )
