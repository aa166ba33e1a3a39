"""Nodes of a fleet: what is declared of them, and what they report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet.errors import LeaseLostError, NotFoundError
from fleet.inventory import Gpu, Node
from fleet.leases import Lease
from fleet.reports import NodeDeclaration, NodeReport, RegionCounts


class ReportResult(NamedTuple):
    """Outcome of one report of a batch, as `report_node` would have given it."""

    node_id: str
    lease: Lease | None
    """Renewed; None when the report was refused."""
    error: LeaseLostError | NotFoundError | None
    """Why it was refused; None when it was stored."""


class NodeStore(Protocol):
    """Nodes as declared and as they report themselves."""

    def declare_nodes(self, nodes: Sequence[NodeDeclaration]) -> None:
        """Insert or update declarations; reports and leases of known nodes stay."""
        ...

    def retire_nodes(self, node_ids: Sequence[str]) -> None:
        """Remove nodes that are no longer declared, with their reports."""
        ...

    def report_node(self, report: NodeReport, lease: Lease) -> Lease:
        """Store a report and renew the node's lease in one transaction.

        Raises:
            LeaseLostError: another boot of this node holds the lease; nothing was stored.
            NotFoundError: the node is not declared (any more); nothing was stored.
        """
        ...

    def report_nodes(self, reports: Sequence[tuple[NodeReport, Lease]]) -> list[ReportResult]:
        """Store the reports of many nodes, and renew their leases, in one transaction.

        Each has the outcome that `report_node` would have given it, one after another in the given
        order; a refused one stores nothing and does not stop the others. All are judged at one
        moment of the store's clock. The caller chunks: other writers wait meanwhile.

        Returns:
            One result for each report, in the same order.

        Raises:
            InvalidInputError: a lease of another name than its report's, or a value that means
                nothing; nothing at all was stored.
        """
        ...

    def nodes(self, region: str | None = None) -> list[Node]:
        """All nodes with their last report, ordered by node_id.

        `heartbeat_at` is when the store took the report, by its own clock. `phase` is PENDING
        before the first report, STOPPED after the lease was released, UNKNOWN once it has expired.
        """
        ...

    def gpus(self, region: str | None = None) -> list[Gpu]:
        """All GPUs as last reported, ordered by (node_id, device_index)."""
        ...

    def fleet_counts(self) -> list[RegionCounts]:
        """Counts of every region that has nodes or agents, ordered by region.

        Computed by the database: milliseconds at 10,000 nodes and 100,000 agents.
        """
        ...
