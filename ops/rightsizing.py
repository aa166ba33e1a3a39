"""Makes the advice on right-sizing, and records it; applies nothing."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from fleet.costs.prices import PriceBook
from fleet.declaration import FleetDeclaration
from fleet.errors import NotFoundError
from fleet.inventory import Agent
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.ports.metric_store import MetricReader
from fleet.rescaling.declaration import RescalingDeclaration
from fleet.rightsizing.records import (
    ADVICE_TABLE,
    KILLS_TABLE,
    Resource,
    RightsizingAdvice,
    RightsizingPolicy,
    Verdict,
)
from fleet.rightsizing.scaled import scaled_resources
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER, AGENTS
from ops.inventory_reads import read_inventory
from ops.outcomes import outcomes
from ops.workload_usage import allocations_of, read_usage

PARTITION = "all"
"""The table is about all regions at once: a workload has one size everywhere."""
PREVIEW = ("workload", "resource", "agents", "verdict", "allocated", "target", "saving_per_hour")


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Read what agents used, and advise what each workload should be allocated.",
)
def advise_rightsizing_op(
    context: dg.OpExecutionContext,
    metric_store: dg.ResourceParam[MetricReader],
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    rightsizing_policy: dg.ResourceParam[RightsizingPolicy],
    rescaling_declaration: dg.ResourceParam[RescalingDeclaration],
    price_book: dg.ResourceParam[PriceBook],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Record a row for each workload and resource; committed by `Lake.write`.

    Kills that were not seen before are committed first: a run that dies between finds them kept.
    """
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        agents = read_inventory(lake, AGENTS, fleet_declaration.regions, Agent).records
        rows = advise_workloads(
            metric_store,
            agents,
            rightsizing_policy,
            price_book,
            now,
            lake,
            scaled=scaled_resources(rescaling_declaration.workloads.values()),
        )
        committed = lake.write(ADVICE_TABLE, PARTITION, to_table(rows, RightsizingAdvice), now)
    dearest = sorted(rows, key=lambda row: -abs(row.saving_per_hour))
    metadata: dict[str, Any] = {
        **number_evidence(advice_numbers(rows)),
        **object_evidence(committed),
        "preview": table_preview(dearest, PREVIEW),
        "dagster/table_name": ADVICE_TABLE,
        "dagster/column_schema": column_schema(RightsizingAdvice),
    }
    context.add_output_metadata(metadata)


def advise_workloads(
    reader: MetricReader,
    agents: Sequence[Agent],
    policy: RightsizingPolicy,
    book: PriceBook,
    now: datetime,
    lake: Lake | None = None,
    *,
    keep_kills: bool = True,
    scaled: Collection[tuple[str, str]] = (),
) -> list[RightsizingAdvice]:
    """Advice on CPU and memory for every workload that has agents.

    Args:
        reader: of samples.
        agents: as their nodes last reported them.
        policy: of the advice.
        book: prices of what would be saved.
        now: moment of the look.
        lake: where kills of earlier looks are kept; None: only those of this look count.
        keep_kills: whether new ones are kept there.
        scaled: (workload, resource) that replicas follow (`scaled_resources`).

    Raises:
        TransientError: the samples cannot be read now.
        TooLargeError: over a limit of the store.
    """
    from fleet.rightsizing.advice import advise, backtest_violations, judge_cpu, judge_memory
    from fleet.rightsizing.kills import find_kills, kill_columns

    allocations = allocations_of(agents)
    used = read_usage(reader, allocations, policy.history_days, now)
    found = find_kills(agents, used.numbers, used.memory, now)
    if lake is not None:
        found = _with_kept(lake, found, policy, now, keep=keep_kills)
    kills = kill_columns(found, used.numbers, used.memory)
    cpu = judge_cpu(used.cpu, allocations, used.cpu_step_min, policy)
    memory = judge_memory(used.memory, allocations, used.memory_step_min, policy, kills)
    rows = []
    for resource, judged, usage, step_min in (
        (Resource.CPU, cpu, used.cpu, used.cpu_step_min),
        (Resource.MEMORY, memory, used.memory, used.memory_step_min),
    ):
        tested = backtest_violations(resource, usage, allocations, step_min, policy)
        price_of = book.resource_hour
        rows += advise(resource, judged, allocations, policy, price_of, now, tested, scaled)
    return sorted(rows, key=lambda row: (row.network_id, row.workload, row.resource))


def _with_kept(
    lake: Lake, found: Sequence[Any], policy: RightsizingPolicy, now: datetime, *, keep: bool
) -> list[Any]:
    """Kills of the whole history, each once; new ones are committed by `Lake.write`."""
    from fleet.rightsizing.kills import MemoryKill, distinct_kills
    from resources.lake.records import from_table, to_table

    since = now - timedelta(days=policy.history_days)
    try:
        kept = from_table(lake.history(KILLS_TABLE, since, now, PARTITION), MemoryKill)
    except NotFoundError:
        kept = []
    every = distinct_kills([*kept, *found])
    new = every[len(distinct_kills(kept)) :]
    if new and keep:
        lake.write(KILLS_TABLE, PARTITION, to_table(new, MemoryKill), now)
    return every


def read_advice(lake: Lake) -> list[RightsizingAdvice]:
    """The newest advice; none when there never was any.

    Raises:
        CorruptObjectError: rows are damaged; the next materialization heals the view.
    """
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(ADVICE_TABLE, PARTITION), RightsizingAdvice)
    except NotFoundError:
        return []


def advice_numbers(rows: Sequence[RightsizingAdvice]) -> dict[str, int | float]:
    """What plots: rows by verdict, what shrinking would save, what growing would cost."""
    numbers: dict[str, int | float] = {"workloads": len(rows) // 2}
    for verdict in Verdict:
        numbers[verdict.value] = sum(row.verdict == verdict for row in rows)
    numbers["saving_per_hour"] = sum(max(0.0, row.saving_per_hour) for row in rows)
    numbers["growth_per_hour"] = sum(max(0.0, -row.saving_per_hour) for row in rows)
    numbers["ooms"] = sum(row.ooms for row in rows)
    for resource in Resource:
        surplus = sum(row.surplus for row in rows if row.resource == resource and row.surplus > 0)
        unit = "cpu_milli" if resource is Resource.CPU else "memory_bytes"
        numbers[f"surplus_{unit}"] = surplus
    return numbers
