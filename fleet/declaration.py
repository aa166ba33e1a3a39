"""What the fleet is declared to be: the settings, reduced to what the core compares with."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleet.errors import InvalidInputError
from fleet.heartbeats import HeartbeatPolicy
from fleet.names import validate_name
from fleet.reports import NodeDeclaration


@dataclass(frozen=True, slots=True)
class FleetDeclaration:
    """Regions, nodes and the policy that their heartbeats are judged by.

    Raises:
        InvalidInputError: no region, a region twice, or a node in a region that is not declared.
    """

    regions: tuple[str, ...]
    """Sorted; they are the partitions of every inventory."""
    nodes: tuple[NodeDeclaration, ...]
    heartbeats: HeartbeatPolicy = field(default_factory=HeartbeatPolicy)

    def __post_init__(self) -> None:
        """Refuse a declaration that no inventory can agree with."""
        if not self.regions or list(self.regions) != sorted(set(self.regions)):
            raise InvalidInputError("regions", self.regions, "distinct names, sorted, at least one")
        for region in self.regions:
            validate_name("region", region)
        for node in self.nodes:
            if node.region not in self.regions:
                raise InvalidInputError(f"region of node {node.node_id}", node.region, "a region")
