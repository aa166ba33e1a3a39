"""The part of the definitions that judges costs, sizes, consolidation, capacity and cleanup."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from assets.cost_checks import build_cost_checks
from assets.costs import build_cost_assets
from assets.rightsizing import build_rightsizing_assets
from fleet.agents import Workload
from fleet.capacity import FORECAST_TABLE, CapacityPolicy
from fleet.cleanup import CLEANUP_TABLE, CleanupPolicy
from fleet.consolidation.records import PLAN_TABLE, ConsolidationPolicy
from fleet.costs.prices import PriceBook
from fleet.costs.proposals import PROPOSALS_TABLE
from fleet.costs.quotes import QUOTES_TABLE, QuotePolicy
from fleet.costs.report import COST_TABLE
from fleet.costs.spot import SPOT_TABLE, SpotPolicy
from fleet.rightsizing.records import ADVICE_TABLE, RightsizingPolicy
from platform_defs.declared_costs import (
    declared_capacity,
    declared_cleanup,
    declared_consolidation,
    declared_prices,
    declared_quotes,
    declared_rightsizing,
    declared_spot,
)
from platform_defs.settings import Settings
from resources.orphans.resource import build_orphan_readers
from resources.prices.aws_prices import AwsPriceSource
from sensors.costs import build_first_costs_sensor

COSTS_JOB, QUOTES_JOB = "costs_job", "price_quotes_job"
COST_CLASS = {"stateroom/class": "costs"}
TABLES = (
    COST_TABLE,
    SPOT_TABLE,
    ADVICE_TABLE,
    PLAN_TABLE,
    FORECAST_TABLE,
    CLEANUP_TABLE,
    PROPOSALS_TABLE,
)
"""What every hour brings anew."""
HOURLY_CRON, DAILY_CRON = "35 * * * *", "5 4 * * *"
"""After the rollups of the hour; and once a night."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostDeclaration:
    """What is declared of prices and of the five judgements."""

    enabled: bool = True
    prices: PriceBook = field(default_factory=PriceBook)
    quotes: QuotePolicy = field(default_factory=QuotePolicy)
    spot: SpotPolicy = field(default_factory=SpotPolicy)
    rightsizing: RightsizingPolicy = field(default_factory=RightsizingPolicy)
    consolidation: ConsolidationPolicy = field(default_factory=ConsolidationPolicy)
    cleanup: CleanupPolicy = field(default_factory=CleanupPolicy)
    capacity: CapacityPolicy = field(default_factory=CapacityPolicy)
    workloads: tuple[Workload, ...] = ()
    """As the settings size them."""
    log_dir: Path | None = None
    """Where nodes of this machine keep the logs of their agents; None: elsewhere."""


def declared_costs(settings: Settings) -> CostDeclaration:
    """Reduce the settings to what the definitions need."""
    return CostDeclaration(
        enabled=settings.costs.enabled,
        prices=declared_prices(settings.costs, settings.prices),
        quotes=declared_quotes(settings.costs),
        spot=declared_spot(settings.costs),
        rightsizing=declared_rightsizing(settings.rightsizing),
        consolidation=declared_consolidation(settings.consolidation, settings.disruption_budgets),
        cleanup=declared_cleanup(settings.cleanup),
        capacity=declared_capacity(settings.capacity),
        workloads=tuple(one.workload() for one in settings.workloads),
        log_dir=settings.log_dir,
    )


def cost_resources(declaration: CostDeclaration) -> dict[str, Any]:
    """Resources by key; nothing is opened."""
    return {
        "capacity_policy": declaration.capacity,
        "cleanup_policy": declaration.cleanup,
        "consolidation_policy": declaration.consolidation,
        "declared_workloads": declaration.workloads,
        "orphan_readers": build_orphan_readers(declaration.log_dir),
        "price_book": declaration.prices,
        "price_source": AwsPriceSource(declaration.quotes.endpoint_url),
        "quote_policy": declaration.quotes,
        "rightsizing_policy": declaration.rightsizing,
        "spot_policy": declaration.spot,
    }


class CostDefinitions(NamedTuple):
    """What the code location gains."""

    assets: list[dg.AssetsDefinition]
    checks: list[dg.AssetChecksDefinition]
    jobs: list[Any]
    sensors: list[dg.SensorDefinition]
    schedules: list[dg.ScheduleDefinition]


def build_costs(*, running: bool, quoting: bool) -> CostDefinitions:
    """Everything about costs.

    Args:
        running: whether the hourly schedule, and the sensor of the first report, run unless
            somebody stops them in the UI.
        quoting: whether the daily one does, which asks the provider.
    """
    return CostDefinitions(
        assets=[*build_rightsizing_assets(), *build_cost_assets()],
        checks=build_cost_checks(),
        jobs=[
            dg.define_asset_job(
                COSTS_JOB,
                selection=dg.AssetSelection.assets(*TABLES)
                | dg.AssetSelection.checks_for_assets(*TABLES),
                tags=COST_CLASS,
                description="Judges costs, sizes, consolidation, capacity and what is left behind.",
            ),
            dg.define_asset_job(
                QUOTES_JOB,
                selection=dg.AssetSelection.assets(QUOTES_TABLE),
                tags=COST_CLASS,
                description="Asks the provider for prices that are missing or too old.",
            ),
        ],
        sensors=[build_first_costs_sensor(COSTS_JOB, running=running)],
        schedules=[
            _schedule(COSTS_JOB, HOURLY_CRON, "Every hour, after its rollups.", running=running),
            _schedule(
                QUOTES_JOB, DAILY_CRON, "Every night, when prices are quoted.", running=quoting
            ),
        ],
    )


def _schedule(job_name: str, cron: str, description: str, *, running: bool) -> Any:
    status = dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
    return dg.ScheduleDefinition(
        name=f"{job_name.removesuffix('_job')}_schedule",
        job_name=job_name,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description=description,
    )
