"""Carries a simulated fleet into a control store, as supervisors and operators would.

A node's report is written when a heartbeat of it has arrived lately: a node that is hidden, frozen
or dead is not written, and its lease runs out by the store's clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from fleet.agents import Placement
from fleet.errors import LeaseLostError, StaleEpochError
from fleet.leases import Lease, node_lease_name
from fleet.ports.control_store import ControlStore, LeaseWish
from fleet.reports import AgentDeclaration, NodeDeclaration, NodeReport, declaration_of

BATCH_ROWS = 5_000
"""Rows of one transaction: bounds what a crash repeats, and how long the store is locked."""

BATCH_REPORTS = 1_000
"""Reports of one transaction. Each carries its agents, and others want to write once a second."""

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

    def declare_agents(self, agents: Sequence[AgentDeclaration]) -> None:
        """Take agents in that are new."""
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
        for nodes in _batches(self._cluster.node_declarations(), BATCH_ROWS):
            self._store.declare_nodes(nodes)
        for agents in _batches(self._cluster.agent_declarations(), BATCH_ROWS):
            self._store.declare_agents(agents)
        wanted = [p for p in self._cluster.placements() if p.epoch > 0]
        stored = {p.agent_id: p.epoch for p in self._store.placements()}
        for before in range(max((p.epoch for p in wanted), default=0)):
            # The store raises epochs by one a placement, and never by more.
            due = [p for p in wanted if p.epoch > before and stored.get(p.agent_id, 0) == before]
            for batch in _batches(due, BATCH_ROWS):
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

        Each batch of reports is one transaction; a crash leaves some nodes with their older report,
        as in a real fleet.

        Raises:
            NotFoundError: a node of the cluster is not declared in the store; the other reports of
                its batch were stored.
        """
        beats = sorted(self._cluster.last_beats().items())
        heard = [
            (node, boot) for node, (boot, age_s) in beats if age_s <= self._cluster.lease_ttl_s
        ]
        reported = 0
        for batch in _batches(heard, BATCH_REPORTS):
            reported += self._publish_nodes(batch)
        return PublishResult(reported, len(beats) - len(heard), len(heard) - reported)

    def _publish_nodes(self, nodes: Sequence[tuple[str, int]]) -> int:
        """Write the reports of these (node_id, boot); returns how many the store took.

        A lease that cannot be had is expected after a quick reboot: the next round tries again, and
        the count tells.
        """
        found = [(node_id, boot, self._cluster.report(node_id)) for node_id, boot in nodes]
        reports = {node_id: (boot, said) for node_id, boot, said in found if said is not None}
        self._lease({node_id: (boot, said.boot_id) for node_id, (boot, said) in reports.items()})
        results = self._store.report_nodes(
            [
                (report, self._leases[node_id][1])
                for node_id, (_, report) in reports.items()
                if node_id in self._leases
            ]
        )
        for result in results:
            if result.lease is not None:
                self._leases[result.node_id] = (reports[result.node_id][0], result.lease)
            elif isinstance(result.error, LeaseLostError):
                del self._leases[result.node_id]
            elif result.error is not None:
                raise result.error
        return sum(result.lease is not None for result in results)

    def _lease(self, boots: Mapping[str, tuple[int, str]]) -> None:
        """Hold the leases of these node_id -> (boot, boot_id), as far as they can be had."""
        wanted = [n for n, (boot, _) in boots.items() if self._leases.get(n, (0,))[0] != boot]
        if not wanted:
            return
        ttl_s = self._cluster.lease_ttl_s
        results = self._store.acquire_leases(
            [LeaseWish(node_lease_name(node_id), boots[node_id][1], ttl_s) for node_id in wanted]
        )
        for node_id, result in zip(wanted, results, strict=True):
            self._leases.pop(node_id, None)
            if result.lease is not None:
                self._leases[node_id] = (boots[node_id][0], result.lease)

    def follow(self) -> int:
        """Apply placements of the store that are newer than the cluster's; returns how many.

        Agents that somebody has declared in the store since, as a change of scale does, are taken
        in with their first placement.

        Raises:
            NotFoundError: the store places an agent on a node that the cluster does not have.
        """
        known = {p.agent_id: (p.epoch, p.desired) for p in self._cluster.placements()}
        newer = [
            p
            for p in self._store.placements()
            if p.epoch > 0
            and (p.epoch, p.desired) != known.get(p.agent_id)
            and p.epoch >= known.get(p.agent_id, (0, ""))[0]
        ]
        self._take_in({p.agent_id for p in newer if p.agent_id not in known})
        self._cluster.apply_placements(newer)
        return len(newer)

    def _take_in(self, unknown: set[str]) -> None:
        """Declare agents of the store that the cluster has never placed, and may not know."""
        missing = unknown - {agent.agent_id for agent in self._cluster.agent_declarations()}
        if missing:
            found = [agent for agent in self._store.agents() if agent.agent_id in missing]
            self._cluster.declare_agents([declaration_of(agent) for agent in found])


def _batches(rows: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]
