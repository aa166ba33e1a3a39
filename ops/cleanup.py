"""Lists what is left behind; removes nothing."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.cleanup import (
    CLEANUP_TABLE,
    AgentActivity,
    CleanupPolicy,
    CleanupProposal,
    LeftKind,
    Orphan,
    find_idle_agents,
    plan_cleanup,
)
from fleet.costs.prices import PriceBook
from fleet.declaration import FleetDeclaration
from fleet.errors import NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.ports.metric_store import MetricReader
from fleet.ports.orphan_reader import OrphanReader
from fleet.ports.query_engine import QueryEngine
from fleet.rightsizing.records import Resource
from ops.costs import FleetLook, read_fleet
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER
from ops.outcomes import outcomes

PARTITION = "all"
PREVIEW = ("kind", "subject", "region", "size_bytes", "held", "saving_per_hour", "reason")
HOUR_MS = 3_600_000
"""Idleness is asked on full hours, which rollups answer."""


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="List idle agents, and what belongs to nothing any more.",
)
def plan_cleanup_op(
    context: dg.OpExecutionContext,
    metric_store: dg.ResourceParam[MetricReader],
    orphan_readers: dg.ResourceParam[tuple[OrphanReader, ...]],
    cleanup_policy: dg.ResourceParam[CleanupPolicy],
    price_book: dg.ResourceParam[PriceBook],
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Record a row for each thing; committed by `Lake.write`."""
    from fleet.promql.engine import PromqlEngine
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        look = read_fleet(lake, fleet_declaration.regions, now)
        engine = PromqlEngine(metric_store)
        rows = [
            *idle_agents(engine, look, cleanup_policy, price_book, now),
            *left_behind(orphan_readers, cleanup_policy, price_book, now),
        ]
        committed = lake.write(CLEANUP_TABLE, PARTITION, to_table(rows, CleanupProposal), now)
    metadata: dict[str, Any] = {
        **number_evidence(cleanup_numbers(rows)),
        **object_evidence(committed),
        "preview": table_preview(rows, PREVIEW),
        "dagster/table_name": CLEANUP_TABLE,
        "dagster/column_schema": column_schema(CleanupProposal),
    }
    context.add_output_metadata(metadata)


def left_behind(
    readers: Iterable[OrphanReader], policy: CleanupPolicy, book: PriceBook, now: datetime
) -> list[CleanupProposal]:
    """What every reader finds, judged.

    Raises:
        TransientError: a place cannot be read now.
    """
    found: list[Orphan] = [one for reader in readers for one in reader.orphans()]
    return plan_cleanup(found, policy, book.storage_hour(1), now)


def idle_agents(
    engine: QueryEngine,
    look: FleetLook,
    policy: CleanupPolicy,
    book: PriceBook,
    now: datetime,
) -> list[CleanupProposal]:
    """Running agents that did nothing.

    Raises:
        TransientError: the samples cannot be read now.
    """
    hours = policy.idle_hours
    at_ms = round(now.timestamp() * 1000) // HOUR_MS * HOUR_MS
    tasks = _by_agent(engine, f"sum by (agent) (increase(agent_tasks_total[{hours}h]))", at_ms)
    cpu = _by_agent(engine, f"sum by (agent) (rate(agent_cpu_seconds_total[{hours}h]))", at_ms)
    activities = {name: AgentActivity(tasks.get(name), cpu.get(name)) for name in {*tasks, *cpu}}
    written_at = {state.agent_id: state.updated_at for state in look.states}
    prices = {
        agent.agent_id: book.resource_hour(Resource.CPU, agent.cpu_milli)
        + book.resource_hour(Resource.MEMORY, agent.memory_bytes)
        + agent.gpu_milli / 1000 * book.rates.gpu_hour
        for agent in look.agents
    }
    return find_idle_agents(look.agents, activities, written_at, prices, policy, now)


def _by_agent(engine: QueryEngine, query: str, at_ms: int) -> dict[str, float]:
    answer = engine.instant(query, at_ms)
    values = answer.values.tolist()
    return {
        dict(labels).get("agent", ""): value
        for labels, value in zip(answer.labels, values, strict=True)
    }


def read_cleanup(lake: Lake) -> list[CleanupProposal]:
    """The newest list; empty when there never was any."""
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(CLEANUP_TABLE, PARTITION), CleanupProposal)
    except NotFoundError:
        return []


def cleanup_numbers(rows: Sequence[CleanupProposal]) -> dict[str, int | float]:
    """What plots: things by kind, their bytes, and what they cost; held ones are counted apart."""
    free = [row for row in rows if not row.held]
    numbers: dict[str, int | float] = {"proposals": len(free), "held": len(rows) - len(free)}
    for kind in LeftKind:
        numbers[kind.value] = sum(row.kind == kind for row in free)
    numbers["reclaimable_bytes"] = sum(row.size_bytes for row in free)
    numbers["saving_per_hour"] = sum(row.saving_per_hour for row in free)
    return numbers
