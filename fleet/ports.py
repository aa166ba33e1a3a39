"""Ports: what the core asks of the world. Adapters in `resources/` implement them.

One contract suite per port (`tests/contracts/`) runs on every adapter and on the fake. A port
raises only errors of `fleet.errors`. Batches go in and come out in order, one result per item.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

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
from fleet.errors import FencedError, TooLargeError
from fleet.inventory import Agent, AgentStateInfo, Gpu, Node
from fleet.journal import JournalEntry
from fleet.leases import Lease
from fleet.reports import AgentDeclaration, NodeDeclaration, NodeReport, RegionCounts


class Clock(Protocol):
    """Where time comes from outside `fleet/`."""

    def now(self) -> datetime:
        """Aware UTC wall clock; may jump."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...


class PutResult(NamedTuple):
    """Outcome of one put of a batch: the durable version, or the error that refused it."""

    agent_id: str
    version: int
    """New version when accepted, else 0."""
    error: FencedError | TooLargeError | None
    updated_at: datetime | None = None
    """When it was stored, by the store's clock; None when it was refused."""


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

    def declare_agents(self, agents: Sequence[AgentDeclaration]) -> None:
        """Insert or update agents; placements of known agents stay."""
        ...

    def retire_agents(self, agent_ids: Sequence[str]) -> None:
        """Remove agents that are no longer declared, with their placements; states stay."""
        ...

    def place_agents(self, placements: Sequence[Placement]) -> list[Placement]:
        """Compare-and-swap placements in one transaction.

        Each given placement carries the epoch it was planned on (0: not placed yet). It is
        stored with that epoch + 1 when the stored epoch is the same and the stored term is not
        higher; else it is left alone. So is an agent that is not declared. An agent that was
        retired and declared again is planned on epoch 0, and goes on above its last epoch.

        Returns:
            The placements that were stored, with their new epochs.
        """
        ...

    def placements(self, node_id: str | None = None, region: str | None = None) -> list[Placement]:
        """Placements, ordered by agent_id; of one node or region when given."""
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

    def restore_states(self, restores: Sequence[StateRestore]) -> list[PutResult]:
        """Put states back from a backup, as `put_states` does: one durable transaction, in order.

        A restore is accepted when the live version is still `expected_version`. It is stored under
        the placement's epoch and the higher of the backup's version and the live one + 1, so that
        versions never fall and every running writer must load the state again.
        """
        ...

    def state_infos(self, region: str | None = None) -> list[AgentStateInfo]:
        """Metadata of all states, ordered by agent_id; never the bytes."""
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


class StateCache(Protocol):
    """Read-through copies of agent states; never the truth (Redis later)."""

    def get(self, agent_id: str) -> AgentState | None:
        """The cached state unless it has expired."""
        ...

    def put(self, network_id: str, state: AgentState) -> None:
        """Keep a state until its time to live runs out; an older version never replaces a newer."""
        ...

    def invalidate_agent(self, agent_id: str) -> None:
        """Forget one agent."""
        ...

    def invalidate_network(self, network_id: str) -> None:
        """Forget the agents of one network."""
        ...

    def invalidate_all(self) -> None:
        """Forget everything."""
        ...


class ClusterEvent(NamedTuple):
    """Something the infrastructure saw happen."""

    cursor: str
    kind: str
    """`node_started`, `node_stopped`, `node_terminated`, `agent_evicted`, ..."""
    subject: str
    at: datetime
    detail: str


class FleetSnapshot(NamedTuple):
    """One consistent look at (a region of) the fleet."""

    region: str
    observed_at: datetime
    nodes: list[Node]
    gpus: list[Gpu]
    agents: list[Agent]


class FleetReader(Protocol):
    """The part of a cluster that only looks; all that the inventory needs."""

    def regions(self) -> list[str]:
        """Names of all regions, sorted."""
        ...

    def nodes(self, region: str) -> list[Node]:
        """The nodes of a region alone: cheap enough to look at every few seconds."""
        ...

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region as they are now."""
        ...


class Cluster(Protocol):
    """The machinery that runs nodes and agents: local processes, a simulator, Kubernetes.

    Fits Kubernetes as follows: `snapshot` lists Nodes and Pods, `apply_placements` is a
    server-side apply of Pods (idempotent, with epoch and term as annotations), `watch` is a watch
    with the resourceVersion as cursor, `scale` is the scale subresource, `evict` the Eviction API
    (and so subject to disruption budgets), `node_phase` reads the instance, not the kubelet.
    """

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region as they are now."""
        ...

    def regions(self) -> list[str]:
        """Names of all regions, sorted."""
        ...

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """Make the nodes run what the placements say; idempotent, refuses lower epochs."""
        ...

    def scale(self, workload: str, region: str, replicas: int) -> None:
        """Set the wanted number of a workload's agents in a region."""
        ...

    def evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        """Ask an agent to stop, kill it after the grace period; returns once it is gone."""
        ...

    def watch(self, cursor: str, timeout_s: float) -> list[ClusterEvent]:
        """Events after the cursor ('' means from now); waits up to `timeout_s` for the first."""
        ...


class FaultInjector(Protocol):
    """Deliberate damage, for drills: implemented by local and simulated clusters only."""

    def kill_node(self, node_id: str) -> str:
        """End a node without warning; returns what was done, in words."""
        ...

    def pause_node(self, node_id: str, duration_s: float) -> str:
        """Freeze a node: it neither works nor fails, then goes on as if nothing had been."""
        ...

    def slow_node(self, node_id: str, delay_s: float, duration_s: float) -> str:
        """Delay a node's heartbeats."""
        ...

    def start_node(self, node_id: str) -> str:
        """Bring a killed node back."""
        ...


class GpuReading(NamedTuple):
    """What a probe found: the GPUs, or the reason why there are none to see."""

    gpus: list[Gpu]
    driver_version: str | None
    absent_reason: str
    """Empty when a driver answered."""


class GpuProbe(Protocol):
    """Reads the GPUs of this machine."""

    def read(self, node_id: str, region: str, now: datetime) -> GpuReading:
        """Never raises: each failed call leaves None and is listed in `Gpu.denied`."""
        ...


class LakeObject(NamedTuple):
    """One committed object of the lake."""

    key: str
    table: str
    partition: str
    rows: int
    size_bytes: int
    sha256: str
    written_at: datetime
    """The tick it was written for, UTC; of a merged day, its last tick."""
    kind: str = "tick"
    """`tick`: one write. `day`: the merged ticks of one UTC day."""


class Lake(Protocol):
    """What is analysed: immutable Parquet objects, one per table, partition and tick.

    Rows travel as `pyarrow.Table`, typed `Any` here because `fleet` holds no I/O library.
    """

    def write(self, table: str, partition: str, rows: Any, at: datetime) -> LakeObject:
        """Commit one object atomically; visible as a whole or not at all.

        Writing the same rows for the same tick again changes nothing and succeeds.

        Raises:
            InvalidInputError: a name, the rows or `at` break a rule, or the tick holds other rows.
            LakeUnavailableError: it could not be written (disk full); nothing is visible.
        """
        ...

    def read_latest(self, table: str, partition: str | None = None) -> Any:
        """The newest object of a partition (of every partition: None) as one table.

        Raises:
            NotFoundError: the table has no object.
            CorruptObjectError: an object is damaged; it has been moved to quarantine and is named.
        """
        ...

    def objects(self, table: str, partition: str | None = None) -> list[LakeObject]:
        """Committed objects that count, oldest first (by tick); empty for an unknown table."""
        ...

    def history(
        self, table: str, since: datetime, until: datetime, partition: str | None = None
    ) -> Any:
        """All rows with since <= tick < until, by tick, with columns `partition` and `tick`.

        Raises:
            NotFoundError: the table has no object at all. A range without ticks is no error.
            CorruptObjectError: as for `read_latest`.
        """
        ...

    def tables(self) -> list[str]:
        """Names of all tables, sorted."""
        ...

    def compact(self, table: str, partition: str, day: datetime) -> LakeObject | None:
        """Merge the objects of a finished day into one; None when there is nothing to merge."""
        ...

    def remove(self, objects: Iterable[LakeObject]) -> int:
        """Delete objects; returns how many were there."""
        ...

    def query(self, sql: str) -> Any:
        """Answer one SELECT with DuckDB, as a table.

        `<table>` is the newest object of each partition, `<table>_history` all of them; both have
        the columns `partition` and `tick`.

        Raises:
            InvalidInputError: the SQL does not parse, names no known table, or would write.
            TooLargeError: over the limit on time, memory or rows.
            CorruptObjectError: as for `read_latest`.
        """
        ...


class ListedObject(NamedTuple):
    """An object as its store lists it."""

    key: str
    size_bytes: int
    modified_at: datetime
    """By the store's own clock."""


class ObjectStore(Protocol):
    """Immutable objects under keys with '/': the one primitive is create-only.

    Nothing is ever overwritten, so whatever was read may be cached for ever.
    """

    def create(self, key: str, data: bytes) -> bool:
        """Store an object durably, as a whole or not at all; False when the key exists already.

        Raises:
            StoreUnavailableError: the outcome is unknown or nothing was stored; read the key to
                find out (`get`), or call again: the second call then answers False.
        """
        ...

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """An object, or `length` bytes of it from `offset`; shorter when it ends before.

        Raises:
            NotFoundError: there is no such object.
            StoreUnavailableError: it cannot be read now.
        """
        ...

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """Objects whose key begins with `prefix` and is greater than `after`, ordered by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are passed over."""
        ...

    def check(self) -> list[str]:
        """Prove that the store can do what the protocol needs; the faults found, in words.

        Creates and deletes objects under `probe/`: the second create of one key must be refused,
        a listing must show the object at once, a ranged read must give the range.
        """
        ...
