"""Every settings key with its kind, default, unit and meaning; the records that hold the values.

The records are the one description of the settings: validation, environment overrides, the
table in docs/settings.md and `stateroom config show` are all derived from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from platform_defs import settings_kinds as kinds
from platform_defs.settings_backup import (
    ArtefactSettings,
    BackupSettings,
    RetentionSettings,
    VaultSettings,
    WrappingKeySettings,
)
from platform_defs.settings_costs import (
    BudgetSettings,
    CapacitySettings,
    CleanupSettings,
    ConsolidationSettings,
    CostSettings,
    PriceSettings,
    RightsizingSettings,
)
from platform_defs.settings_exporter import ExporterSettings
from platform_defs.settings_failover import FailoverSettings
from platform_defs.settings_fleet import (
    RegionSettings,
    RestartSettings,
    WorkloadSettings,
)
from platform_defs.settings_keys import key
from platform_defs.settings_metrics import MetricSettings
from platform_defs.settings_networks import (
    NetworkLimitSettings,
    NetworkQuotaSettings,
    NetworkSettings,
)
from platform_defs.settings_notify import NotifySettings
from platform_defs.settings_objectives import ObjectiveSettings
from platform_defs.settings_scaling import SCALING_TABLES, ScalingSettings
from platform_defs.settings_traffic import DiscoverySettings, RouterSettings
from platform_defs.settings_vectors import (
    AdoptedIndexSettings,
    NetworkVectorSettings,
    VectorSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """The fleet as a whole."""

    name: str = key(
        kinds.name(), "Name of the fleet.", default="this-machine", ci="ci", production="production"
    )
    cluster: str = key(
        kinds.choice("local", "simulated"),
        "What runs the nodes: processes of this machine, or a simulator.",
        default="local",
    )
    state_dir: Path = key(
        kinds.text("a folder, absolute or relative to stateroom.toml"),
        "Everything that Stateroom writes; `{state_dir}` in other values stands for it.",
        default="state",
        ci="a temporary folder",
        production="/var/lib/stateroom",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlStoreSettings:
    """The store of what must be exact now."""

    url: str = key(
        kinds.store_url(),
        "SQLAlchemy URL of the control store.",
        default="sqlite:///{state_dir}/control.db",
        production="postgresql://stateroom:PASSWORD@HOST/stateroom",
    )
    keep_activities_days: int = key(
        kinds.whole(1, 36_500, "days"),
        "How long the activities of agents are kept.",
        default=7,
        unit="days",
        ci="1",
        production="30",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeSettings:
    """The store of what is analysed."""

    path: Path = key(
        kinds.text("a folder, absolute or relative to stateroom.toml"),
        "Folder of the lake's Parquet objects.",
        default="{state_dir}/lake",
    )
    keep_ticks_hours: int = key(
        kinds.whole(1, 24 * 366, "hours"),
        "How long single ticks are kept before a day is compacted into one object.",
        default=48,
        unit="hours",
        ci="1",
    )
    keep_days: int = key(
        kinds.whole(1, 36_500, "days"),
        "How long compacted days are kept.",
        default=90,
        unit="days",
        ci="1",
        production="400",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """The Dagster UI. It has no login: keep it on loopback, or behind a proxy that has one."""

    host: str = key(kinds.host(), "Address that the UI listens on.", default="127.0.0.1")
    port: int = key(
        kinds.whole(0, 65_535),
        "Port of the UI; 0 takes any free one.",
        default=3000,
        ci="0",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Capacity and heartbeat of every node of a local or simulated cluster."""

    cpu_milli: int = key(
        kinds.whole(1, 10_000_000, "thousandths of a core"),
        "CPU that a node's agents may be allocated.",
        default=2000,
        unit="thousandths of a core",
    )
    memory_mib: int = key(
        kinds.whole(1, 64 * 1024 * 1024, "MiB"),
        "Memory that a node's agents may be allocated.",
        default=1024,
        unit="MiB",
    )
    bandwidth_mbps: int = key(
        kinds.whole(0, 1_000_000, "Mbit/s"),
        "Network capacity of a node; 0 sets no limit.",
        default=1000,
        unit="Mbit/s",
    )
    gpu_count: int = key(
        kinds.whole(0, 64), "GPUs of a node that agents may be allocated.", default=0
    )
    gpu_memory_mib: int = key(
        kinds.whole(0, 64 * 1024 * 1024, "MiB"),
        "Memory of all GPUs of a node together.",
        default=0,
        unit="MiB",
    )
    gpu_model: str = key(
        kinds.optional_text(),
        "Model of the GPUs, which workloads may ask for in `gpu_models`; empty: none is promised.",
        default="",
    )
    heartbeat_interval_s: float = key(
        kinds.number(0.05, 3600, "seconds"),
        "Time between two heartbeats of a node.",
        default=1.0,
        unit="seconds",
        ci="0.2",
        production="2.0",
    )
    lease_ttl_s: float = key(
        kinds.number(0.1, 86_400, "seconds"),
        "How long a node may act after its last heartbeat.",
        default=5.0,
        unit="seconds",
        ci="1.0",
        production="10.0",
    )
    heartbeat_late_s: float = key(
        kinds.number(0.1, 86_400, "seconds"),
        "Age of a heartbeat from which a node is `late`.",
        default=5.0,
        unit="seconds",
        ci="1.0",
        production="10.0",
    )
    heartbeat_lost_s: float = key(
        kinds.number(0.1, 86_400, "seconds"),
        "Age of a heartbeat from which a node is `lost`.",
        default=10.0,
        unit="seconds",
        ci="2.0",
        production="30.0",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, validated; relative paths are resolved and `{state_dir}` is filled in."""

    path: Path
    """The file they were read from."""
    fleet: FleetSettings
    control_store: ControlStoreSettings
    lake: LakeSettings
    web: WebSettings
    node: NodeSettings
    backup: BackupSettings
    retention: RetentionSettings
    failover: FailoverSettings
    notify: NotifySettings
    exporter: ExporterSettings
    discovery: DiscoverySettings
    metrics: MetricSettings
    costs: CostSettings
    rightsizing: RightsizingSettings
    consolidation: ConsolidationSettings
    cleanup: CleanupSettings
    capacity: CapacitySettings
    vectors: VectorSettings
    regions: tuple[RegionSettings, ...]
    networks: tuple[NetworkSettings, ...]
    workloads: tuple[WorkloadSettings, ...]
    vaults: tuple[VaultSettings, ...]
    wrapping_keys: tuple[WrappingKeySettings, ...]
    artefacts: tuple[ArtefactSettings, ...]
    routers: tuple[RouterSettings, ...]
    objectives: tuple[ObjectiveSettings, ...]
    prices: tuple[PriceSettings, ...]
    disruption_budgets: tuple[BudgetSettings, ...]
    indexes: tuple[AdoptedIndexSettings, ...]
    sources: dict[str, str] = field(repr=False)
    """`section.key` -> `stateroom.toml:12` or `STATEROOM_...`; keys at their default are absent."""

    @property
    def dagster_home(self) -> Path:
        """Folder of the running Dagster instance."""
        return self.fleet.state_dir / "dagster"

    @property
    def log_dir(self) -> Path:
        """Folder of the logs of every process that `stateroom up` starts."""
        return self.fleet.state_dir / "logs"


SECTIONS: dict[str, type] = {
    "fleet": FleetSettings,
    "control_store": ControlStoreSettings,
    "lake": LakeSettings,
    "web": WebSettings,
    "node": NodeSettings,
    "backup": BackupSettings,
    "retention": RetentionSettings,
    "failover": FailoverSettings,
    "notify": NotifySettings,
    "exporter": ExporterSettings,
    "discovery": DiscoverySettings,
    "metrics": MetricSettings,
    "costs": CostSettings,
    "rightsizing": RightsizingSettings,
    "consolidation": ConsolidationSettings,
    "cleanup": CleanupSettings,
    "capacity": CapacitySettings,
    "vectors": VectorSettings,
}
"""Tables that exist once."""

NAMED_SECTIONS: dict[str, type] = {
    "regions": RegionSettings,
    "networks": NetworkSettings,
    "workloads": WorkloadSettings,
    "vaults": VaultSettings,
    "wrapping_keys": WrappingKeySettings,
    "artefacts": ArtefactSettings,
    "routers": RouterSettings,
    "objectives": ObjectiveSettings,
    "prices": PriceSettings,
    "disruption_budgets": BudgetSettings,
    "indexes": AdoptedIndexSettings,
}
"""Tables of named tables."""

NESTED: dict[tuple[str, ...], type] = {
    ("networks", "quota"): NetworkQuotaSettings,
    ("networks", "limits"): NetworkLimitSettings,
    ("networks", "vectors"): NetworkVectorSettings,
    ("workloads", "restart"): RestartSettings,
    ("workloads", "scaling"): ScalingSettings,
    **{("workloads", "scaling", name): record for name, record in SCALING_TABLES.items()},
}
"""Tables inside a named table, and inside those: the section, then the path below the name."""


def nested_in(path: tuple[str, ...]) -> dict[str, type]:
    """The tables that may stand in the table at a path, by their key.

    Args:
        path: of the settings, with the name of what the section names: `workloads`, `cpu`.
    """
    inside = (path[0], *path[2:])
    if path[0] not in NAMED_SECTIONS or len(path) < 2:
        return {}
    return {at[-1]: record for at, record in NESTED.items() if at[:-1] == inside}
