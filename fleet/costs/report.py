"""What each workload costs on each node, what of it is used, and what of the nodes lies idle.

Invariant: of every node that is paid for, allocated and idle add up to its price, unless more is
allocated than it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.costs.prices import GIB, LIST_PRICES, NodeRate, PriceBook, RateTable
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node, NodePhase
from fleet.inventory_checks import HOLDING_PHASES

COST_TABLE = "cost_report"
IDLE = "(idle)"
"""Workload of the rows that say what no agent was allocated."""
COPIES = "(copies)"
"""Workload of the rows that say what copying backups into a region costs."""
UNPAID = frozenset({NodePhase.PENDING, NodePhase.TERMINATED})
"""Phases of nodes that are not on the bill: not there yet, or gone for certain."""


class CostRow(NamedTuple):
    """What the agents of a workload cost on a node for an hour, at a moment."""

    network_id: str
    """Empty for what is idle."""
    workload: str
    """`(idle)` for what no agent is allocated."""
    region: str
    node_id: str
    """Empty for the storage of states."""
    agents: int
    cpu_milli: int
    """Allocated; of an idle row, not allocated."""
    memory_bytes: int
    gpu_milli: int
    state_bytes: int
    """Stored durably for the agents."""
    allocated_per_hour: float
    """Price of what is allocated; of an idle row, of what is not."""
    used_per_hour: float
    """Price of what of it was in use at the look; what was not measured counts as used."""
    wasted_per_hour: float
    """Allocated and not used, or idle."""
    storage_per_hour: float
    egress_per_hour: float
    """Of bytes that were copied into this region from another."""
    spend_per_hour: float
    """Allocated, stored and sent: what is paid."""
    price_source: str
    looked_at: datetime


class _Sum:
    """What adds up while agents are read."""

    __slots__ = ("agents", "cpu_milli", "gpu_milli", "memory_bytes", "used_cpu", "used_memory")

    def __init__(self) -> None:
        self.agents = self.cpu_milli = self.memory_bytes = self.gpu_milli = 0
        self.used_cpu = self.used_memory = 0.0

    def add(self, agent: Agent) -> None:
        self.agents += 1
        self.cpu_milli += agent.cpu_milli
        self.memory_bytes += agent.memory_bytes
        self.gpu_milli += agent.gpu_milli
        used = agent.cpu_milli if agent.cpu_percent is None else agent.cpu_percent * 10
        self.used_cpu += min(used, agent.cpu_milli)
        held = agent.memory_bytes if agent.rss_bytes is None else agent.rss_bytes
        self.used_memory += min(held, agent.memory_bytes)


def report_costs(
    nodes: Iterable[Node],
    agents: Iterable[Agent],
    states: Iterable[AgentStateInfo],
    gpus: Iterable[Gpu],
    book: PriceBook,
    workload_of: Mapping[str, str],
    now: datetime,
    copied: Mapping[tuple[str, str], float] | None = None,
) -> list[CostRow]:
    """A row for each workload and node, one for what is idle of each node, one for stored states.

    O(agents + nodes + states). An agent that uses more than it is allocated counts with what it is
    allocated. GPU shares count as used in the proportion in which the node's GPUs were busy.

    Args:
        nodes: with their capacity.
        agents: placed on them; parked, failed, completed and stopped ones hold nothing.
        states: durable states, by agent.
        gpus: as their nodes last saw them.
        book: of prices.
        workload_of: workload by agent, for states; a state of no known agent has the workload ''.
        now: moment of the look.
        copied: bytes an hour that came into a region from another, by (region, network).

    Returns:
        Rows ordered by region, node, network, workload.
    """
    table = RateTable(book)
    paid = {node.node_id: node for node in nodes if node.phase not in UNPAID}
    sums: dict[tuple[str, str, str], _Sum] = defaultdict(_Sum)
    for agent in agents:
        if agent.node_id in paid and agent.phase in HOLDING_PHASES:
            sums[agent.node_id, agent.network_id, agent.workload].add(agent)
    busy = _gpu_shares(gpus)
    taken: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    rows = []
    for (node_id, network_id, workload), found in sums.items():
        node = paid[node_id]
        rows.append(_row(node, network_id, workload, found, table.of(node), busy, now))
        for at, amount in enumerate((found.cpu_milli, found.memory_bytes, found.gpu_milli)):
            taken[node_id][at] += amount
    rows += [_idle(node, taken[node.node_id], table.of(node), now) for node in paid.values()]
    rows += _storage(states, book, workload_of, now)
    rows += _copies(copied or {}, book, now)
    return sorted(rows, key=lambda row: (row.region, row.node_id, row.network_id, row.workload))


def _gpu_shares(gpus: Iterable[Gpu]) -> dict[str, float]:
    """Node -> share of the time in which its GPUs were busy; nodes that do not say are absent."""
    seen: dict[str, list[float]] = defaultdict(list)
    for gpu in gpus:
        if gpu.utilization_percent is not None and gpu.parent_uuid is None:
            seen[gpu.node_id].append(gpu.utilization_percent / 100)
    return {node_id: sum(shares) / len(shares) for node_id, shares in seen.items()}


def _nothing(region: str, node_id: str, source: str, now: datetime) -> CostRow:
    """A row that costs nothing, of which the callers fill in what does."""
    return CostRow(
        network_id="",
        workload="",
        region=region,
        node_id=node_id,
        agents=0,
        cpu_milli=0,
        memory_bytes=0,
        gpu_milli=0,
        state_bytes=0,
        allocated_per_hour=0.0,
        used_per_hour=0.0,
        wasted_per_hour=0.0,
        storage_per_hour=0.0,
        egress_per_hour=0.0,
        spend_per_hour=0.0,
        price_source=source,
        looked_at=now,
    )


def _row(
    node: Node,
    network_id: str,
    workload: str,
    found: _Sum,
    rate: NodeRate,
    busy: Mapping[str, float],
    now: datetime,
) -> CostRow:
    allocated = rate.cost(found.cpu_milli, found.memory_bytes, found.gpu_milli)
    gpu_used = found.gpu_milli * busy.get(node.node_id, 1.0)
    used = rate.cost(found.used_cpu, found.used_memory, gpu_used)
    return _nothing(node.region, node.node_id, rate.source, now)._replace(
        network_id=network_id,
        workload=workload,
        agents=found.agents,
        cpu_milli=found.cpu_milli,
        memory_bytes=found.memory_bytes,
        gpu_milli=found.gpu_milli,
        allocated_per_hour=allocated,
        used_per_hour=used,
        wasted_per_hour=max(0.0, allocated - used),
        spend_per_hour=allocated,
    )


def _idle(node: Node, taken: Sequence[int], rate: NodeRate, now: datetime) -> CostRow:
    cpu = max(0, node.cpu_milli - taken[0])
    memory = max(0, node.memory_bytes - taken[1])
    gpu = max(0, 1000 * node.gpu_count - taken[2])
    price = rate.cost(cpu, memory, gpu)
    return _nothing(node.region, node.node_id, rate.source, now)._replace(
        workload=IDLE,
        cpu_milli=cpu,
        memory_bytes=memory,
        gpu_milli=gpu,
        allocated_per_hour=price,
        wasted_per_hour=price,
        spend_per_hour=price,
    )


def _storage(
    states: Iterable[AgentStateInfo],
    book: PriceBook,
    workload_of: Mapping[str, str],
    now: datetime,
) -> list[CostRow]:
    sizes: dict[tuple[str, str, str], int] = defaultdict(int)
    for state in states:
        key = (state.region, state.network_id, workload_of.get(state.agent_id, ""))
        sizes[key] += state.size_bytes
    return [
        _nothing(region, "", LIST_PRICES, now)._replace(
            network_id=network_id,
            workload=workload,
            state_bytes=size,
            storage_per_hour=book.storage_hour(size),
            spend_per_hour=book.storage_hour(size),
        )
        for (region, network_id, workload), size in sizes.items()
    ]


def _copies(
    copied: Mapping[tuple[str, str], float], book: PriceBook, now: datetime
) -> list[CostRow]:
    return [
        _nothing(region, "", LIST_PRICES, now)._replace(
            network_id=network_id,
            workload=COPIES,
            egress_per_hour=hourly_bytes / GIB * book.rates.egress_gib,
            spend_per_hour=hourly_bytes / GIB * book.rates.egress_gib,
        )
        for (region, network_id), hourly_bytes in copied.items()
    ]


class CostGroup(NamedTuple):
    """Costs of everything with one name, for an hour."""

    name: str
    agents: int
    spend_per_hour: float
    used_per_hour: float
    wasted_per_hour: float
    storage_per_hour: float
    egress_per_hour: float


GROUPINGS: Mapping[str, Callable[[CostRow], str]] = {
    "network": lambda row: row.network_id or IDLE,
    "workload": lambda row: f"{row.network_id}/{row.workload}" if row.network_id else IDLE,
    "region": lambda row: row.region,
    "node": lambda row: row.node_id or "(no node)",
}
"""By what costs can be added up."""


def group_costs(rows: Iterable[CostRow], by: str) -> list[CostGroup]:
    """Costs added up by network, workload, region or node, the dearest first.

    Args:
        rows: of one look.
        by: one of `GROUPINGS`.
    """
    name_of = GROUPINGS[by]
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 6)
    for row in rows:
        found = sums[name_of(row)]
        for at, amount in enumerate(
            (
                row.agents,
                row.spend_per_hour,
                row.used_per_hour,
                row.wasted_per_hour,
                row.storage_per_hour,
                row.egress_per_hour,
            )
        ):
            found[at] += amount
    groups = [CostGroup(name, int(found[0]), *found[1:]) for name, found in sums.items()]
    return sorted(groups, key=lambda group: (-group.spend_per_hour, group.name))
