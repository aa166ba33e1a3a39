"""What is deployed, as a function of the settings: assets, checks, jobs, schedules, resources.

Building touches neither network nor disk, and does no work per node or agent.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from assets.inventory import GROUP as INVENTORY_GROUP
from assets.inventory import build_external_specs, build_inventory_assets
from assets.inventory_checks import build_inventory_checks
from assets.routes import build_routes_spec
from assets.upkeep import (
    ACTIVITY_HISTORY,
    LAKE_CATALOG,
    PLACEMENT_HISTORY,
    RUN_HISTORY,
    build_upkeep_assets,
)
from fleet.agents import ActivityPolicy
from fleet.backup import ArtefactDeclaration
from fleet.backup_declaration import BackupDeclaration
from fleet.backup_schedule import BackupCrons
from fleet.declaration import FleetDeclaration
from fleet.failover_declaration import FailoverDeclaration
from fleet.heartbeats import HeartbeatPolicy
from fleet.lake import LakePolicy
from fleet.metrics.rollup_plan import MetricPolicy
from fleet.metrics.store_facts import MetricsDeclaration
from fleet.objectives import Objective
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.run_history import RunHistoryPolicy
from fleet.traffic_declaration import TrafficDeclaration
from ops.inventory import TABLES
from ops.inventory_jobs import (
    INVENTORY_CHECKS_JOB,
    INVENTORY_CLASS,
    INVENTORY_JOB,
    RUN_CLASS,
)
from ops.route_keeping import RouteKeeper
from platform_defs.build_backups import build_backups
from platform_defs.build_costs import (
    CostDeclaration,
    build_costs,
    cost_resources,
    declared_costs,
)
from platform_defs.build_failover import build_failover, build_watch
from platform_defs.build_metrics import build_metrics
from platform_defs.build_objectives import build_objectives
from platform_defs.build_rescaling import build_rescaling, build_rescaling_watch
from platform_defs.declared_backup import (
    backup_crons,
    declared_artefacts,
    declared_backup,
    simple_backup,
)
from platform_defs.declared_failover import declared_failover
from platform_defs.declared_fleet import declared_nodes, declared_replicas
from platform_defs.declared_scaling import declared_scaling
from platform_defs.declared_traffic import declared_traffic, simple_traffic
from platform_defs.settings import Settings
from platform_defs.settings_metrics import declared_metrics, metric_policy_of
from platform_defs.settings_objectives import declared_objectives
from resources.clock import SystemClock
from resources.clock_resource import ClockResource
from resources.cluster_resource import cluster_resource
from resources.control_store.resource import ControlStoreResource
from resources.gpu.resource import GpuResource
from resources.lake.resource import LakeResource
from resources.metrics.resource import metric_keeper_resource, metric_store_resource
from resources.notifiers.resource import NotifierResource, build_notifier
from resources.observation import fleet_observation_resource
from resources.silent_progress import SilentProgress
from resources.vault.resource import region_vaults_resource
from sensors.inventory import build_fleet_change_sensor, build_inventory_schedule
from sensors.upkeep import (
    ACTIVITY_HISTORY_JOB,
    LAKE_UPKEEP_JOB,
    PLACEMENT_HISTORY_JOB,
    RUN_HISTORY_JOB,
    build_upkeep_schedules,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What the definitions need to know of the settings."""

    declaration: FleetDeclaration
    control_store_url: str
    lake_path: str
    state_dir: str = "state"
    cluster: str = "local"
    """`local` or `simulated`."""
    lake_policy: LakePolicy = field(default_factory=LakePolicy)
    activity_policy: ActivityPolicy = field(default_factory=ActivityPolicy)
    run_history_policy: RunHistoryPolicy = field(default_factory=RunHistoryPolicy)
    backup: BackupDeclaration | None = None
    """None: a folder below `state_dir` for each region, and no network."""
    backup_crons: BackupCrons = field(default_factory=BackupCrons)
    artefacts: tuple[ArtefactDeclaration, ...] = ()
    failover: FailoverDeclaration = field(default_factory=FailoverDeclaration)
    receivers: NotifierResource = field(default_factory=NotifierResource)
    """Whom alerts reach beside the log."""
    traffic: TrafficDeclaration | None = None
    """None: one embedded table of routes below `state_dir`."""
    objectives: tuple[Objective, ...] = ()
    metrics: MetricsDeclaration | None = None
    """None: a folder below `state_dir`."""
    metric_policy: MetricPolicy = field(default_factory=MetricPolicy)
    metric_retention_cron: str = "25 * * * *"
    rescaling: RescalingDeclaration = field(default_factory=RescalingDeclaration)
    costs: CostDeclaration = field(default_factory=CostDeclaration)


def deployment_of(settings: Settings) -> Deployment:
    """Reduce the settings to what the definitions need."""
    node = settings.node
    return Deployment(
        declaration=FleetDeclaration(
            regions=tuple(sorted(region.name for region in settings.regions)),
            nodes=tuple(declared_nodes(settings)),
            heartbeats=HeartbeatPolicy(node.heartbeat_late_s, node.heartbeat_lost_s),
            workloads=tuple(declared_replicas(settings)),
        ),
        control_store_url=settings.control_store.url,
        lake_path=str(settings.lake.path),
        cluster=settings.fleet.cluster,
        state_dir=str(settings.fleet.state_dir),
        activity_policy=ActivityPolicy(settings.control_store.keep_activities_days),
        lake_policy=LakePolicy(settings.lake.keep_ticks_hours, settings.lake.keep_days),
        backup=declared_backup(settings),
        backup_crons=backup_crons(settings),
        artefacts=declared_artefacts(settings),
        failover=declared_failover(settings),
        receivers=NotifierResource(**asdict(settings.notify)),
        traffic=declared_traffic(settings),
        objectives=declared_objectives(settings.objectives),
        metrics=declared_metrics(settings.metrics),
        metric_policy=metric_policy_of(settings.metrics),
        metric_retention_cron=settings.metrics.retention_cron,
        rescaling=declared_scaling(settings),
        costs=declared_costs(settings),
    )


def backup_of(deployment: Deployment) -> BackupDeclaration:
    """What is declared of backups, or the least that the regions need."""
    if deployment.backup is not None:
        return deployment.backup
    return simple_backup(deployment.declaration.regions, deployment.state_dir)


def traffic_of(deployment: Deployment) -> TrafficDeclaration:
    """The declared routers, or the embedded one."""
    return deployment.traffic or simple_traffic(deployment.state_dir)


def metrics_of(deployment: Deployment) -> MetricsDeclaration:
    """The declared metric store, or a folder beside the rest."""
    return deployment.metrics or MetricsDeclaration(f"{deployment.state_dir}/metrics")


def build_resources(deployment: Deployment) -> dict[str, Any]:
    """Every resource by its key; nothing is opened before a run or a tick needs it."""
    notifier = build_notifier(deployment.receivers)
    local = Path(deployment.state_dir) if deployment.cluster == "local" else None
    return {
        "activity_policy": deployment.activity_policy,
        "artefact_declarations": deployment.artefacts,
        "backup_declaration": backup_of(deployment),
        "clock": ClockResource(),
        "cluster": cluster_resource.configured(
            {"kind": deployment.cluster, "state_dir": deployment.state_dir}
        ),
        "control_store": ControlStoreResource(url=deployment.control_store_url),
        "failover_declaration": deployment.failover,
        "failover_watch": build_watch(
            deployment.failover,
            deployment.control_store_url,
            notifier,
            local,
            traffic_of(deployment).registry,
        ),
        "fleet_declaration": deployment.declaration,
        "fleet_observation": fleet_observation_resource,
        "gpu": GpuResource(),
        "lake": LakeResource(path=deployment.lake_path),
        "lake_policy": deployment.lake_policy,
        "metric_keeper": metric_keeper_resource,
        "metric_policy": deployment.metric_policy,
        "metric_store": metric_store_resource,
        "metrics_declaration": metrics_of(deployment),
        "notifier": notifier,
        "objectives": deployment.objectives,
        "progress": SilentProgress(),
        "region_vaults": region_vaults_resource,
        "rescaling_declaration": deployment.rescaling,
        "rescaling_watch": build_rescaling_watch(
            deployment.rescaling,
            deployment.control_store_url,
            metrics_of(deployment),
            deployment.lake_path,
            notifier,
        ),
        "route_keeper": RouteKeeper(traffic_of(deployment), SystemClock()),
        "run_history_policy": deployment.run_history_policy,
        "traffic_declaration": traffic_of(deployment),
        **cost_resources(deployment.costs),
    }


def build_jobs() -> list[Any]:
    """The jobs that schedules and sensors start, and people may."""
    upkeep = {RUN_CLASS: "upkeep"}
    return [
        dg.define_asset_job(
            INVENTORY_JOB,
            selection=dg.AssetSelection.groups(INVENTORY_GROUP),
            tags=INVENTORY_CLASS,
            description="Takes the inventory of all regions and judges it.",
        ),
        dg.define_asset_job(
            INVENTORY_CHECKS_JOB,
            selection=dg.AssetSelection.checks_for_assets(*TABLES),
            tags=INVENTORY_CLASS,
            description="Judges the newest inventory again, without taking it.",
        ),
        dg.define_asset_job(
            LAKE_UPKEEP_JOB,
            selection=dg.AssetSelection.assets(LAKE_CATALOG),
            tags=upkeep,
            description="Merges finished days of the lake and removes old ones.",
        ),
        dg.define_asset_job(
            ACTIVITY_HISTORY_JOB,
            selection=dg.AssetSelection.assets(ACTIVITY_HISTORY),
            tags=upkeep,
            description="Forgets old activities of agents.",
        ),
        dg.define_asset_job(
            PLACEMENT_HISTORY_JOB,
            selection=dg.AssetSelection.assets(PLACEMENT_HISTORY),
            tags=upkeep,
            description="Forgets where agents were placed long ago.",
        ),
        dg.define_asset_job(
            RUN_HISTORY_JOB,
            selection=dg.AssetSelection.assets(RUN_HISTORY),
            tags=upkeep,
            description="Forgets old runs of Dagster.",
        ),
    ]


def build_defs(deployment: Deployment, **overrides: Any) -> dg.Definitions:
    """Assemble the code location.

    Args:
        deployment: what is deployed.
        overrides: resources by key, in place of the deployment's; a plain object will do.

    Raises:
        KeyError: an override that is no resource of the platform.
    """
    resources: Mapping[str, Any] = build_resources(deployment)
    unknown = overrides.keys() - resources.keys()
    if unknown:
        raise KeyError(f"no such resource: {sorted(unknown)}; there are {sorted(resources)}")
    backups = build_backups(backup_of(deployment), deployment.backup_crons)
    failover = build_failover(deployment.failover, deployment.declaration.regions)
    metrics = build_metrics(metrics_of(deployment), deployment.metric_retention_cron)
    budgets = build_objectives(running=bool(deployment.objectives))
    rescaling = build_rescaling(deployment.rescaling)
    declared = deployment.costs
    costs = build_costs(running=declared.enabled, quoting=declared.quotes.enabled)
    checks = [
        *build_inventory_checks(),
        *backups.checks,
        *failover.checks,
        *metrics.checks,
        *budgets.checks,
        *rescaling.checks,
        *costs.checks,
    ]
    check_keys = [key for each in checks for key in each.check_keys]
    return dg.Definitions(
        assets=[
            *build_external_specs(),
            build_routes_spec(),
            *build_inventory_assets(deployment.declaration.regions),
            *backups.assets,
            *failover.assets,
            *metrics.assets,
            *budgets.assets,
            *rescaling.assets,
            *costs.assets,
            *build_upkeep_assets(check_keys),
        ],
        asset_checks=checks,
        jobs=[
            *build_jobs(),
            *backups.jobs,
            *failover.jobs,
            *metrics.jobs,
            *budgets.jobs,
            *rescaling.jobs,
            *costs.jobs,
        ],
        sensors=[
            build_fleet_change_sensor(),
            *backups.sensors,
            *failover.sensors,
            *metrics.sensors,
            *rescaling.sensors,
            *costs.sensors,
        ],
        schedules=[
            build_inventory_schedule(),
            *build_upkeep_schedules(),
            *backups.schedules,
            *failover.schedules,
            *metrics.schedules,
            *budgets.schedules,
            *rescaling.schedules,
            *costs.schedules,
        ],
        resources={**resources, **overrides},
        executor=dg.in_process_executor,
    )
