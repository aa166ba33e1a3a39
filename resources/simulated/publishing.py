"""Carries a simulated fleet into a control store, as supervisors and operators would.

A node's report is written when a heartbeat of it has arrived lately: a node that is hidden, frozen
or dead is not written, and its lease runs out by the store's clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from fleet.agents import Placement
from fleet.errors import LeaseLostError, StaleEpochError
from fleet.leases import Lease, node_lease_name
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration, NodeDeclaration, NodeReport

BATCH_ROWS = 5_000
"""Rows of one transaction: bounds what a crash repeats, and how long the store is locked."""

_T = TypeVar("_T")


class PublishedCluster(Protocol):
    """What is read of (and, for placements, written to) the simulated cluster."""

    lease_ttl_s: float

    def node_declarations(self) -> list[NodeDeclaration]:
        """All nodes."""
        ...

    def agent_declarations(self) -> list[AgentDeclaration]:
        """All agents."""
        ...

    def placements(self) -> list[Placement]:
        """All placements."""
        ...

    def last_beats(self) -> dict[str, tuple[int, float]]:
        """node_id -> (boot, age in seconds) of the last heartbeat."""
        ...

    def report(self, node_id: str) -> NodeReport | None:
        """The last report of a node."""
        ...

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """Follow newer placements."""
        ...


class PublishResult(NamedTuple):
    """What one round of reports did."""

    reported: int
    silent: int
    """Nodes whose last heartbeat is older than a lease lasts."""
    refused: int
    """Nodes whose lease an earlier boot still holds; they report once it has run out."""


class StorePublisher:
    """Writes one cluster into one store, and brings the store's placements back."""

    def __init__(self, cluster: PublishedCluster, store: ControlStore) -> None:
        """Hold no lease yet."""
        self._cluster = cluster
        self._store = store
        self._leases: dict[str, tuple[int, Lease]] = {}

    def declare(self) -> None:
        """Write nodes, agents and placements; what is there already stays.

        Each batch is one transaction of the store, so a crash between two leaves whole batches;
        calling again writes the rest.

        Raises:
            StaleEpochError: the store holds another placement of an agent: it has been planned on.
        """
        for nodes in _batches(self._cluster.node_declarations()):
            self._store.declare_nodes(nodes)
        for agents in _batches(self._cluster.agent_declarations()):
            self._store.declare_agents(agents)
        wanted = [p for p in self._cluster.placements() if p.epoch > 0]
        stored = {p.agent_id: p.epoch for p in self._store.placements()}
        for before in range(max((p.epoch for p in wanted), default=0)):
            # The store raises epochs by one a placement, and never by more.
            due = [p for p in wanted if p.epoch > before and stored.get(p.agent_id, 0) == before]
            for batch in _batches(due):
                planned = [p._replace(epoch=before) for p in batch]
                placed = self._store.place_agents(planned)
                stored.update((p.agent_id, p.epoch) for p in placed)
        self._verify(wanted)

    def _verify(self, wanted: list[Placement]) -> None:
        """Compare what is stored with what the cluster runs."""
        stored = {p.agent_id: p for p in self._store.placements()}
        for placement in wanted:
            found = stored.get(placement.agent_id)
            same = found is not None and (found.epoch, found.node_id) == (
                placement.epoch,
                placement.node_id,
            )
            if not same:
                held = "none" if found is None else f"epoch {found.epoch} on {found.node_id!r}"
                raise StaleEpochError(
                    f"agent {placement.agent_id}: the cluster runs epoch {placement.epoch} on "
                    f"{placement.node_id!r}, the store holds {held}",
                    hint="Seed an empty store, or let the cluster follow this one's placements.",
                )

    def publish(self) -> PublishResult:
        """Write the last report of every node that has been heard of within its lease.

        Each report is committed by itself; a crash leaves some nodes with their older report, as
        in a real fleet.
        """
        reported = silent = refused = 0
        for node_id, (boot, age_s) in sorted(self._cluster.last_beats().items()):
            if age_s > self._cluster.lease_ttl_s:
                silent += 1
            elif self._publish_node(node_id, boot):
                reported += 1
            else:
                refused += 1
        return PublishResult(reported, silent, refused)

    def _publish_node(self, node_id: str, boot: int) -> bool:
        """Write one report under the lease of its boot; False while that cannot be had."""
        report = self._cluster.report(node_id)
        if report is None:
            return False
        held_boot, lease = self._leases.get(node_id, (0, None))
        try:
            if lease is None or held_boot != boot:
                lease = self._store.acquire_lease(
                    node_lease_name(node_id), report.boot_id, self._cluster.lease_ttl_s
                )
            self._leases[node_id] = (boot, self._store.report_node(report, lease))
        except LeaseLostError:
            # Expected after a quick reboot: the next round tries again, and the count tells.
            self._leases.pop(node_id, None)
            return False
        return True

    def follow(self) -> int:
        """Apply placements of the store that are newer than the cluster's; returns how many.

        Raises:
            NotFoundError: the store places an agent or node that the cluster does not have.
        """
        known = {p.agent_id: (p.epoch, p.desired) for p in self._cluster.placements()}
        newer = [
            p
            for p in self._store.placements()
            if p.epoch > 0
            and (p.epoch, p.desired) != known.get(p.agent_id)
            and p.epoch >= known.get(p.agent_id, (0, ""))[0]
        ]
        self._cluster.apply_placements(newer)
        return len(newer)


def _batches(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for first in range(0, len(rows), BATCH_ROWS):
        yield rows[first : first + BATCH_ROWS]
