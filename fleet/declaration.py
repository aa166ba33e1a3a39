"""What the fleet is declared to be: the settings, reduced to what the core compares with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.heartbeats import HeartbeatPolicy
from fleet.names import validate_name
from fleet.reports import NodeDeclaration


class WorkloadReplicas(NamedTuple):
    """How many agents of a workload there are to be, in all regions together."""

    network_id: str
    workload: str
    replicas: int
    is_scaled: bool = False
    """`replicas` is where it begins; how many there are to be is rescaling's to say."""


@dataclass(frozen=True, slots=True)
class FleetDeclaration:
    """Regions, nodes, replicas, and the policy that heartbeats are judged by.

    Raises:
        InvalidInputError: no region, a region twice, a node in a region that is not declared, a
            workload twice or with less than no replica.
    """

    regions: tuple[str, ...]
    """Sorted; they are the partitions of every inventory."""
    nodes: tuple[NodeDeclaration, ...]
    heartbeats: HeartbeatPolicy = field(default_factory=HeartbeatPolicy)
    workloads: tuple[WorkloadReplicas, ...] = ()
    """Each workload once; empty when nothing is declared of agents."""

    def __post_init__(self) -> None:
        """Refuse a declaration that no inventory can agree with."""
        if not self.regions or list(self.regions) != sorted(set(self.regions)):
            raise InvalidInputError("regions", self.regions, "distinct names, sorted, at least one")
        for region in self.regions:
            validate_name("region", region)
        for node in self.nodes:
            if node.region not in self.regions:
                raise InvalidInputError(f"region of node {node.node_id}", node.region, "a region")
        seen: set[tuple[str, str]] = set()
        for each in self.workloads:
            name = (each.network_id, each.workload)
            if name in seen:
                raise InvalidInputError("workloads", "/".join(name), "each workload once")
            seen.add(name)
            if each.replicas < 0:
                raise InvalidInputError(
                    f"replicas of workload {'/'.join(name)}", each.replicas, "0 or more"
                )
