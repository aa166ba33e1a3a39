"""Is the fleet what it is declared to be? Nodes one by one, agents by workload.

Each check reads its input once. What is declared comes from the settings; what is there, from the
inventory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fleet.declaration import WorkloadReplicas
from fleet.inventory import Agent, AgentPhase, Node
from fleet.inventory_checks import (
    HOLDING_PHASES,
    CheckVerdict,
    Offender,
    Severity,
    judge,
)
from fleet.reports import NodeDeclaration

EVERYWHERE = "all regions"
"""Stands for the region of a workload: its replicas may move from one to another."""

PRESENT_PHASES = HOLDING_PHASES | {AgentPhase.COMPLETED}
"""Phases in which an agent is the replica that was declared: it lives, is about to, or has ended
well, as its restart policy allows. An agent that failed or was stopped is not."""

SHAPE_FIELDS = (
    "region",
    "zone",
    "cpu_milli",
    "memory_bytes",
    "bandwidth_bps",
    "gpu_count",
    "gpu_memory_bytes",
)
"""What must agree between a node and its declaration."""


def check_declared(nodes: Iterable[Node], declared: Iterable[NodeDeclaration]) -> CheckVerdict:
    """The nodes are those of the declaration, in the declared shape.

    A missing node is an error; one too many, or one of another shape, is a warning: work that runs
    on it is safe, yet the declaration no longer says what the fleet is.
    """
    wanted = {node.node_id: node for node in declared}
    seen: set[str] = set()
    offenders = []
    extra = differing = 0
    for node in nodes:
        seen.add(node.node_id)
        want = wanted.get(node.node_id)
        differences = [] if want is None else _differences(node, want)
        if want is None:
            extra += 1
            offenders.append(Offender(node.node_id, node.region, "not declared"))
        elif differences:
            differing += 1
            detail = "differs: " + ", ".join(differences)
            offenders.append(Offender(node.node_id, node.region, detail))
    missing = wanted.keys() - seen
    offenders += [Offender(n, wanted[n].region, "declared, but missing") for n in missing]
    return judge(
        f"of {len(wanted)} declared nodes {len(missing)} are missing and {differing} differ, "
        f"{extra} nodes are not declared",
        len(seen | wanted.keys()),
        offenders,
        severity=Severity.ERROR if missing else Severity.WARN,
        worst=missing,
        numbers={"missing": len(missing), "extra": extra, "differing": differing},
    )


def _differences(node: Node, want: NodeDeclaration) -> list[str]:
    """List the fields of the shape that differ, with both values."""
    return [
        f"{field} {getattr(node, field)} instead of {getattr(want, field)}"
        for field in SHAPE_FIELDS
        if getattr(node, field) != getattr(want, field)
    ]


def check_declared_agents(
    agents: Iterable[Agent], declared: Sequence[WorkloadReplicas]
) -> CheckVerdict:
    """Every workload has as many agents as are declared, wherever they are.

    A missing replica is an error. One too many is a warning, and so is an agent of a workload that
    is not declared. An agent on a silent node is not missing: it may run, and is another check's
    concern. How many agents a scaled workload has is not claimed here.

    Args:
        agents: of all regions.
        declared: each workload once; empty when nothing is declared of agents, and then nothing is
            claimed.
    """
    wanted = {
        (each.network_id, each.workload): each.replicas for each in declared if not each.is_scaled
    }
    scaled = {(each.network_id, each.workload) for each in declared if each.is_scaled}
    phases = Counter((agent.network_id, agent.workload, agent.phase) for agent in agents)
    present: Counter[tuple[str, str]] = Counter()
    ended: dict[tuple[str, str], list[str]] = {}
    for (network_id, workload, phase), count in sorted(phases.items()):
        if phase in PRESENT_PHASES:
            present[network_id, workload] += count
        else:
            ended.setdefault((network_id, workload), []).append(f"{count} {phase}")
    numbers = {
        "declared": sum(wanted.values()),
        "present": present.total(),
        "completed": sum(n for (*_, phase), n in phases.items() if phase == AgentPhase.COMPLETED),
    }
    present = Counter({key: count for key, count in present.items() if key not in scaled})
    if not wanted:
        reason = f"no workload is declared; {numbers['present']} agents are there"
        return judge(reason, 0, (), numbers=numbers)
    return _judge_replicas(wanted, present, ended, numbers)


def _judge_replicas(
    wanted: dict[tuple[str, str], int],
    present: Counter[tuple[str, str]],
    ended: dict[tuple[str, str], list[str]],
    numbers: dict[str, int],
) -> CheckVerdict:
    """Compare (network, workload) -> replicas with what is present of them."""
    workloads = wanted.keys() | present.keys()
    offenders, lacking = [], set()
    missing = extra = undeclared = 0
    for key in workloads:
        found, want = present[key], wanted.get(key)
        if found == want:
            continue
        subject, detail = "/".join(key), f"{found} of {want} agents"
        if want is None:
            undeclared += found
            detail = f"not declared, {found} agents"
        elif found < want:
            missing += want - found
            lacking.add(subject)
        else:
            extra += found - want
        offenders.append(Offender(subject, EVERYWHERE, ", ".join([detail, *ended.get(key, [])])))
    return judge(
        f"of {numbers['declared']} declared agents {missing} are missing, {extra} agents are too "
        f"many and {undeclared} of no declared workload",
        len(workloads),
        offenders,
        severity=Severity.ERROR if missing else Severity.WARN,
        worst=lacking,
        numbers={**numbers, "missing": missing, "extra": extra, "undeclared": undeclared},
    )
