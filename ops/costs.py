"""Says what the fleet costs, and what could be saved; records both, and changes nothing."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import dagster as dg

from fleet.agents import Workload
from fleet.backup_tables import REPLICAS
from fleet.costs.prices import PriceBook
from fleet.costs.quotes import QuotePolicy
from fleet.costs.report import COST_TABLE, IDLE, CostRow, group_costs, report_costs
from fleet.costs.spot import SPOT_TABLE, SpotPolicy, SpotSuitability, WorkloadFacts, judge_spot
from fleet.declaration import FleetDeclaration
from fleet.errors import NotFoundError
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER, AGENTS, GPUS, NODES, STATES
from ops.inventory_reads import read_inventory
from ops.outcomes import outcomes
from ops.price_quotes import quoted_book

PARTITION = "all"
COPIED_HOURS = 24
"""Over which copies of backups are averaged: they come once an hour, or in bursts."""
COST_PREVIEW = ("name", "agents", "spend_per_hour", "used_per_hour", "wasted_per_hour")
SPOT_PREVIEW = ("workload", "verdict", "agents", "away_s", "saving_per_hour", "reason")
PLOTTED_MAX = 20
"""Networks that have a plot of their own: the dearest."""


class FleetLook(NamedTuple):
    """The newest inventory of all regions that could be read."""

    nodes: Sequence[Node]
    agents: Sequence[Agent]
    states: Sequence[AgentStateInfo]
    gpus: Sequence[Gpu]
    copied: Mapping[tuple[str, str], float]
    """Bytes of backups an hour that came into a region from another, by (region, network)."""


def read_fleet(lake: Lake, regions: Sequence[str], now: datetime) -> FleetLook:
    """The inventory as the lake has it.

    Raises:
        LakeUnavailableError: the lake as a whole cannot be read.
        NotFoundError: no region has an inventory of nodes: nothing known is not nothing paid.
    """
    nodes = read_inventory(lake, NODES, regions, Node)
    if len(nodes.unread) == len(regions):
        raise NotFoundError(
            f"no inventory of nodes: {nodes.unread[0].detail}",
            hint="Materialize the inventory first; `stateroom up` does.",
        )
    return FleetLook(
        nodes.records,
        read_inventory(lake, AGENTS, regions, Agent).records,
        read_inventory(lake, STATES, regions, AgentStateInfo).records,
        read_inventory(lake, GPUS, regions, Gpu).records,
        read_copied(lake, now),
    )


def read_copied(lake: Lake, now: datetime) -> dict[tuple[str, str], float]:
    """Bytes an hour that backups of a network sent into a region, over the last day.

    Raises:
        CorruptObjectError: an object of the history is damaged.
    """
    if not lake.objects(REPLICAS):
        return {}
    since = now - timedelta(hours=COPIED_HOURS)
    answer = lake.query(
        f"SELECT region, network_id, sum(copied_bytes) AS size_bytes FROM {REPLICAS}_history "  # noqa: S608 - our own names and times
        f"WHERE NOT is_home AND tick >= TIMESTAMPTZ '{since.isoformat()}' "
        "GROUP BY region, network_id HAVING sum(copied_bytes) > 0"
    )
    return {
        (row["region"], row["network_id"]): float(row["size_bytes"]) / COPIED_HOURS
        for row in answer.to_pylist()
    }


def cost_rows(look: FleetLook, book: PriceBook, now: datetime) -> list[CostRow]:
    """What every workload costs on every node, and what lies idle."""
    workload_of = {agent.agent_id: agent.workload for agent in look.agents}
    return report_costs(
        look.nodes, look.agents, look.states, look.gpus, book, workload_of, now, look.copied
    )


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Price what is allocated, used, stored and idle.",
)
def report_costs_op(
    context: dg.OpExecutionContext,
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    price_book: dg.ResourceParam[PriceBook],
    quote_policy: dg.ResourceParam[QuotePolicy],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Record the costs of an hour; committed by `Lake.write`."""
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        book = quoted_book(lake, price_book, quote_policy)
        rows = cost_rows(read_fleet(lake, fleet_declaration.regions, now), book, now)
        committed = lake.write(COST_TABLE, PARTITION, to_table(rows, CostRow), now)
    metadata: dict[str, Any] = {
        **number_evidence(cost_numbers(rows)),
        **object_evidence(committed),
        "currency": price_book.currency,
        "by_network": table_preview(group_costs(rows, "network"), COST_PREVIEW),
        "by_region": table_preview(group_costs(rows, "region"), COST_PREVIEW),
        "dagster/table_name": COST_TABLE,
        "dagster/column_schema": column_schema(CostRow),
    }
    context.add_output_metadata(metadata)


def cost_numbers(rows: Sequence[CostRow]) -> dict[str, int | float]:
    """What plots: spend, waste and idle of an hour, and the spend of the dearest networks."""
    spend = sum(row.spend_per_hour for row in rows)
    idle = sum(row.spend_per_hour for row in rows if row.workload == IDLE)
    wasted = sum(row.wasted_per_hour for row in rows)
    numbers: dict[str, int | float] = {
        "spend_per_hour": spend,
        "idle_per_hour": idle,
        "wasted_per_hour": wasted,
        "waste_ratio": wasted / spend if spend else 0.0,
        "storage_per_hour": sum(row.storage_per_hour for row in rows),
        "egress_per_hour": sum(row.egress_per_hour for row in rows),
        "nodes_paid": sum(row.workload == IDLE for row in rows),
    }
    for group in group_costs(rows, "network")[:PLOTTED_MAX]:
        numbers[f"spend_per_hour of {group.name}"] = group.spend_per_hour
    return numbers


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Judge which workloads bear capacity that is taken back at short notice.",
)
def judge_spot_op(
    context: dg.OpExecutionContext,
    control_store: dg.ResourceParam[ControlStore],
    spot_policy: dg.ResourceParam[SpotPolicy],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    price_book: dg.ResourceParam[PriceBook],
    quote_policy: dg.ResourceParam[QuotePolicy],
) -> None:
    """Record a row for each workload; committed by `Lake.write`."""
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        look = read_fleet(lake, fleet_declaration.regions, now)
        costs = cost_rows(look, quoted_book(lake, price_book, quote_policy), now)
        rows = spot_rows(control_store.workloads(), look, costs, spot_policy, now)
        committed = lake.write(SPOT_TABLE, PARTITION, to_table(rows, SpotSuitability), now)
    numbers = {
        "workloads": len(rows),
        "suitable": sum(row.verdict == "suitable" for row in rows),
        "unsuitable": sum(row.verdict == "unsuitable" for row in rows),
        "saving_per_hour": sum(row.saving_per_hour for row in rows),
    }
    metadata: dict[str, Any] = {
        **number_evidence(numbers),
        **object_evidence(committed),
        "preview": table_preview(sorted(rows, key=lambda row: -row.saving_per_hour), SPOT_PREVIEW),
        "dagster/table_name": SPOT_TABLE,
        "dagster/column_schema": column_schema(SpotSuitability),
    }
    context.add_output_metadata(metadata)


def spot_rows(
    workloads: Iterable[Workload],
    look: FleetLook,
    costs: Iterable[CostRow],
    policy: SpotPolicy,
    now: datetime,
) -> list[SpotSuitability]:
    """Each workload with agents, and whether it bears losing its nodes."""
    return judge_spot(workloads, workload_facts(look, costs), policy, now)


def workload_facts(
    look: FleetLook, costs: Iterable[CostRow]
) -> Mapping[tuple[str, str], WorkloadFacts]:
    """What is known of each workload's agents."""
    sizes = {state.agent_id: state.size_bytes for state in look.states}
    agents: dict[tuple[str, str], int] = defaultdict(int)
    regions: dict[tuple[str, str], set[str]] = defaultdict(set)
    largest: dict[tuple[str, str], int] = defaultdict(int)
    for agent in look.agents:
        key = (agent.network_id, agent.workload)
        agents[key] += 1
        regions[key].add(agent.region)
        largest[key] = max(largest[key], sizes.get(agent.agent_id, 0))
    price: dict[tuple[str, str], float] = defaultdict(float)
    for row in costs:
        price[row.network_id, row.workload] += row.allocated_per_hour
    return {
        key: WorkloadFacts(agents[key], len(regions[key]), largest[key], price[key])
        for key in agents
    }


def read_spend(lake: Lake, since: datetime, until: datetime) -> list[float]:
    """Spend of an hour at each look with since <= look < until, oldest first.

    Added up by the query engine: a look of a large fleet has a row per workload and node.

    Raises:
        CorruptObjectError: an object of the history is damaged.
    """
    if not lake.objects(COST_TABLE):
        return []
    answer = lake.query(
        f"SELECT tick, sum(spend_per_hour) AS spend FROM {COST_TABLE}_history "  # noqa: S608 - our own names and times
        f"WHERE tick >= TIMESTAMPTZ '{since.isoformat()}' "
        f"AND tick < TIMESTAMPTZ '{until.isoformat()}' GROUP BY tick ORDER BY tick"
    )
    spends: list[float] = answer["spend"].to_pylist()
    return spends


def read_costs(lake: Lake) -> list[CostRow]:
    """The newest report; empty when there never was one."""
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(COST_TABLE, PARTITION), CostRow)
    except NotFoundError:
        return []
