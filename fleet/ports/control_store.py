"""What must be exact now: a port per feature, one database behind all, a cache before it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from fleet.agents import (
    Activity,
    AgentState,
    Note,
    Placement,
    StateChange,
    StatePut,
    StateRestore,
    Workload,
)
from fleet.errors import FencedError, LeaseLostError, NotFoundError, TooLargeError
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from fleet.journal import JournalEntry
from fleet.leases import Lease
from fleet.ports.breaker_store import BreakerStore
from fleet.ports.controller_view_store import ControllerViewStore
from fleet.ports.decided_move_store import DecidedMoveStore
from fleet.ports.home_store import HomeStore
from fleet.ports.incident_store import IncidentStore, PlacementHistoryStore
from fleet.ports.observer_store import ObserverStore
from fleet.ports.quota_store import QuotaStore
from fleet.ports.scaling_store import ScalingStore
from fleet.ports.service_registry import ServiceRegistry
from fleet.ports.stateless_store import StatelessStore
from fleet.reports import AgentDeclaration, NodeDeclaration, NodeReport, RegionCounts
from fleet.state_cuts import ChangeCursor, StateListing


class PutResult(NamedTuple):
    """Outcome of one put of a batch: the durable version, or the error that refused it."""

    agent_id: str
    version: int
    """New version when accepted, else 0."""
    error: FencedError | TooLargeError | None
    updated_at: datetime | None = None
    """When it was stored, by the store's clock; None when it was refused."""


class ReportResult(NamedTuple):
    """Outcome of one report of a batch, as `report_node` would have given it."""

    node_id: str
    lease: Lease | None
    """Renewed; None when the report was refused."""
    error: LeaseLostError | NotFoundError | None
    """Why it was refused; None when it was stored."""


class LeaseWish(NamedTuple):
    """A request for a lease."""

    name: str
    holder: str
    ttl_s: float


class LeaseResult(NamedTuple):
    """Outcome of one request of a batch, as `acquire_lease` would have given it."""

    name: str
    lease: Lease | None
    """None when somebody else holds it."""
    error: LeaseLostError | None
    """Who holds it, and until when; None when it was had."""


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


class LeaseStore(Protocol):
    """Leases with monotonic terms, judged by one clock: the store's."""

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Take a free or expired lease (term + 1), or renew one's own.

        Raises:
            LeaseLostError: somebody else holds it; the message says who and until when.
        """
        ...

    def acquire_leases(self, wishes: Sequence[LeaseWish]) -> list[LeaseResult]:
        """Take or renew many leases in one transaction, in order, each as `acquire_lease` would.

        Returns:
            One result for each wish, in the same order; refused ones do not stop the others.

        Raises:
            InvalidInputError: a wish without name, holder or a sensible time; none was granted.
        """
        ...

    def renew_lease(self, lease: Lease) -> Lease:
        """Extend one's lease by its ttl.

        Raises:
            LeaseLostError: it has expired and was taken, or the term differs.
        """
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give the lease up; nothing happens when it is not held any more."""
        ...

    def lease(self, name: str) -> Lease | None:
        """The lease as stored, also when it has expired; None when it never existed."""
        ...


class PlacementStore(Protocol):
    """Declared agents and the node each belongs to; the epoch lives here."""

    def declare_workloads(self, workloads: Sequence[Workload]) -> None:
        """Insert or update workload specifications."""
        ...

    def workloads(self) -> list[Workload]:
        """All workload specifications, ordered by name."""
        ...

    def revisions(self, workloads: Collection[str]) -> dict[str, str]:
        """`fleet.agents.revision_of` each of these workloads; one that is not declared is absent.

        Cheap to ask again and again: a specification is parsed once.
        """
        ...

    def declare_agents(self, agents: Sequence[AgentDeclaration]) -> None:
        """Insert or update agents; placements of known agents stay."""
        ...

    def retire_agents(self, agent_ids: Sequence[str]) -> None:
        """Remove agents that are no longer declared, with their placements; states stay."""
        ...

    def place_agents(
        self,
        placements: Sequence[Placement],
        *,
        leader_term: int | None = None,
        within_limits: bool = False,
    ) -> list[Placement]:
        """Compare-and-swap placements in one transaction.

        Each given placement carries the epoch it was planned on (0: not placed yet). It is
        stored with that epoch + 1 when the stored epoch is the same and the stored term is not
        higher; else it is left alone. So is an agent that is not declared. An agent that was
        retired and declared again is planned on epoch 0, and goes on above its last epoch.

        With `leader_term` the whole batch is refused unless that term leads at this moment: the
        leader lease is locked, judged by the store's clock and kept until the commit. What a leader
        does who was paused past its lease is refused here, whatever its own clock says.

        With `within_limits` what has become impossible since it was planned is left alone, too:
        placements on a node that is not declared any more, all those on a node whose capacity they
        would overdraw together, and those of a network that they would take past its quota. Use is
        counted inside the transaction, so that two placers that have seen the same free place
        cannot both have it.

        Returns:
            The placements that were stored, with their new epochs.

        Raises:
            LeaseLostError: `leader_term` does not lead (any more); nothing was stored.
            InvalidInputError: a placement carries another term than `leader_term`.
        """
        ...

    def placements(self, node_id: str | None = None, region: str | None = None) -> list[Placement]:
        """Placements, ordered by agent_id; of one node or region when given."""
        ...

    def release_ended(self) -> list[Placement]:
        """Take stopped agents off their nodes whose processes are gone, in one transaction.

        Until then they count for their node and their network's quota, afterwards for neither;
        they stay stopped, and keep their region and state. What is known of their end is judged by
        `fleet.placement.ending`. Anybody may call it, also two at once; the epoch rises by one.

        Returns:
            The placements that were stored, with their new epochs, by agent_id.
        """
        ...

    def agents(self, region: str | None = None) -> list[Agent]:
        """Agents joined with placements and node reports (see `merge_agents`), by agent_id.

        Declared agents without a placement are PENDING at epoch 0 on node ''. A node is silent
        when it has reported, and its lease has expired by the store's clock or was released.
        """
        ...


class AgentStateStore(Protocol):
    """Durable, fenced agent state."""

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Apply puts in order in one durable transaction; refused ones do not stop the others.

        When this returns, every accepted put survives a power cut.
        """
        ...

    def state(self, agent_id: str) -> AgentState | None:
        """The newest state, its digest verified; None when there is none.

        Raises:
            CorruptObjectError: the stored bytes do not match the digest.
        """
        ...

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified, ordered by agent_id; one query.

        Agents without a state are left out. The caller chunks: all bytes are in memory at once.

        Raises:
            CorruptObjectError: stored bytes of one of them do not match the digest.
        """
        ...

    def restore_states(
        self, restores: Sequence[StateRestore], *, more: bool = False
    ) -> list[PutResult]:
        """Put states back from a backup, as `put_states` does: one durable transaction, in order.

        With `more`, a further batch follows. This one is a transaction all the same and survives
        the end of the process, but a power cut only once any durable write behind it has returned:
        a restore of very many states waits for the disk once, not with every batch.

        A restore is accepted when the live version is still `expected_version`. It is stored under
        the placement's epoch and the higher of the backup's version and the live one + 1, so that
        versions never fall and every running writer must load the state again. A digest that the
        restorer gives is kept as it is, so that large restores are hashed once.
        """
        ...

    def state_infos(self, region: str | None = None) -> list[AgentStateInfo]:
        """Metadata of all states, ordered by agent_id; never the bytes."""
        ...

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """List the states of a network that were touched since an earlier cut, or all of them.

        Every state of which a change log entry up to the new cursor tells is listed as it was then
        or later. All are listed, with the reason, when the earlier cut cannot be gone on from
        (`fleet.state_cuts.explain_broken`); retired agents count, as in `state_infos`.

        The cut replaces the network's newest one: committed when this returns, and only the newest
        can be gone on from.

        Args:
            network_id: whose states.
            since: the earlier cut's; None for none.
            whole: list all, whether or not the earlier cut can be gone on from.

        Raises:
            CorruptObjectError: the digest of a state is no SHA-256.
        """
        ...

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Change log entries with change_id > `after`, in order, at most `limit`.

        No entry appears later below one that was returned.
        """
        ...

    def trim_state_changes(self, up_to: int) -> int:
        """Remove change log entries that every reader has passed; states stay.

        Returns:
            How many entries with change_id <= `up_to` there were.
        """
        ...


class ActivityStore(Protocol):
    """Append-only records of what agents did and noted. Repeated ids are ignored."""

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """Durably append."""
        ...

    def activities(self, agent_id: str | None, limit: int) -> list[Activity]:
        """Newest first."""
        ...

    def trim_activities(self, before: datetime) -> int:
        """Remove activities older than `before`; returns how many there were."""
        ...

    def append_notes(self, notes: Sequence[Note]) -> None:
        """Durably append."""
        ...

    def notes(self, network_id: str, after: str, limit: int) -> list[Note]:
        """Notes of a network with note_id > `after`, ordered by note_id."""
        ...


class JournalStore(Protocol):
    """Action journals."""

    def append_journal(self, entries: Sequence[JournalEntry]) -> list[bool]:
        """Durably append; False where (action_id, step, status) was there already."""
        ...

    def journal(self, action_id: str) -> list[JournalEntry]:
        """All steps of an action in commit order."""
        ...


class LookupStore(Protocol):
    """Questions about one thing, for people who look at it."""

    def agent(self, agent_id: str) -> Agent | None:
        """One agent as `agents` would show it; None when it is not declared."""
        ...

    def agent_notes(self, agent_id: str, limit: int) -> list[Note]:
        """Notes of one agent, newest first."""
        ...

    def open_actions(self, limit: int = 1000) -> list[JournalEntry]:
        """The first unfinished step of every action that has one, oldest first.

        A step is unfinished when it has been `started` and is not `done`; a failed one stays
        here until somebody finishes the action.
        """
        ...


class ControlStore(
    NodeStore,
    LeaseStore,
    PlacementStore,
    AgentStateStore,
    ActivityStore,
    JournalStore,
    LookupStore,
    ObserverStore,
    HomeStore,
    IncidentStore,
    PlacementHistoryStore,
    ServiceRegistry,
    BreakerStore,
    ControllerViewStore,
    DecidedMoveStore,
    StatelessStore,
    QuotaStore,
    ScalingStore,
    Protocol,
):
    """What must be exact now, in one database (SQLite embedded, PostgreSQL in production)."""

    def ping(self) -> None:
        """Prove that a read and a durable write work.

        Raises:
            StoreUnavailableError: they do not.
        """
        ...

    def close(self) -> None:
        """Release connections."""
        ...
