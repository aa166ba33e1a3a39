"""The control store as plain dictionaries: obviously right, and the twin of the SQL adapters."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from threading import RLock

from fleet.agents import (
    STATE_MAX_BYTES,
    Activity,
    AgentState,
    Note,
    Placement,
    StateChange,
    StateHead,
    StatePut,
    StateRestore,
    Workload,
    decide_put,
    plan_restore,
    revision_of,
)
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    TooLargeError,
)
from fleet.inventory import Agent, AgentPhase, AgentStateInfo, Gpu, Node, NodePhase
from fleet.journal import JournalEntry
from fleet.leases import Lease, is_lease_live, node_lease_name
from fleet.names import validate_text
from fleet.placement.ending import HostStanding, plan_releases
from fleet.ports.clock import Clock
from fleet.ports.control_store import LeaseResult, LeaseWish, PutResult, ReportResult
from fleet.reports import (
    AgentDeclaration,
    AgentReport,
    NodeDeclaration,
    NodeReport,
    RegionCounts,
    merge_agents,
    unplaced,
)
from fleet.state_cuts import ChangeCursor, CutFacts, StateListing, columns_of, explain_broken
from tests.fakes.clock import ManualClock
from tests.fakes.controller_view import InMemoryControllerView
from tests.fakes.gpu_leases import InMemoryGpuLeases
from tests.fakes.home_store import InMemoryHomes
from tests.fakes.incidents import InMemoryIncidents
from tests.fakes.notes_log import InMemoryNotesLog
from tests.fakes.observer_store import InMemoryObservers
from tests.fakes.quotas import InMemoryQuotas
from tests.fakes.scaling_store import InMemoryScaling
from tests.fakes.service_registry import InMemoryBreakerStore, InMemoryServiceRegistry


class InMemoryControlStore(
    InMemoryIncidents,
    InMemoryObservers,
    InMemoryHomes,
    InMemoryServiceRegistry,
    InMemoryBreakerStore,
    InMemoryControllerView,
    InMemoryQuotas,
    InMemoryScaling,
    InMemoryNotesLog,
    InMemoryGpuLeases,
):
    """`fleet.ports.ControlStore` for tests; one process, lost at its end.

    Every method holds one lock, so each is a transaction.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        """Start empty; `clock` judges leases."""
        super().__init__()
        self.clock = clock or ManualClock()
        InMemoryServiceRegistry.__init__(self)
        InMemoryBreakerStore.__init__(self, self.clock.now)
        InMemoryQuotas.__init__(self)
        InMemoryScaling.__init__(self)
        InMemoryNotesLog.__init__(self)
        InMemoryGpuLeases.__init__(self)
        self._lock = RLock()
        self._declared_nodes: dict[str, NodeDeclaration] = {}
        self._reports: dict[str, tuple[NodeReport, datetime]] = {}
        self._leases: dict[str, Lease] = {}
        self._workloads: dict[str, Workload] = {}
        self._agents: dict[str, AgentDeclaration] = {}
        self._placements: dict[str, Placement] = {}
        self._retired: dict[str, Placement] = {}
        self._states: dict[str, AgentState] = {}
        self._changes: list[StateChange] = []
        self._change_id = 0
        self._cuts: dict[str, str] = {}
        self._moves = ""
        self._activities: dict[str, Activity] = {}
        self._notes: dict[str, Note] = {}
        self._journal: dict[tuple[str, str, str], JournalEntry] = {}

    # Nodes

    def declare_nodes(self, nodes: Sequence[NodeDeclaration]) -> None:
        """Insert or update declarations."""
        with self._lock:
            self._declared_nodes.update({node.node_id: node for node in nodes})
            self._roster_version += bool(nodes)

    def retire_nodes(self, node_ids: Sequence[str]) -> None:
        """Remove nodes with their reports; leases stay."""
        with self._lock:
            for node_id in node_ids:
                self._declared_nodes.pop(node_id, None)
                self._reports.pop(node_id, None)
                self._probe_reports.pop(node_id, None)
            self._roster_version += 1

    def report_node(self, report: NodeReport, lease: Lease) -> Lease:
        """Store a report and renew the node's lease."""
        name = node_lease_name(report.node_id)
        if lease.name != name:
            raise InvalidInputError("lease.name", lease.name, f"{name!r} for this report")
        with self._lock:
            before = self._leases.get(name)
            renewed = self.renew_lease(lease)
            if report.node_id not in self._declared_nodes:
                assert before is not None
                self._leases[name] = before
                raise NotFoundError(f"node {report.node_id} is not declared")
            self._reports[report.node_id] = (report, renewed.renewed_at)
            return renewed

    def report_nodes(self, reports: Sequence[tuple[NodeReport, Lease]]) -> list[ReportResult]:
        """One after another; a refused one leaves everything as it was."""
        for report, lease in reports:
            name = node_lease_name(report.node_id)
            if lease.name != name:
                raise InvalidInputError("lease.name", lease.name, f"{name!r} for this report")
        results = []
        with self._lock:
            for report, lease in reports:
                try:
                    renewed = self.report_node(report, lease)
                except (LeaseLostError, NotFoundError) as error:
                    results.append(ReportResult(report.node_id, None, error))
                else:
                    results.append(ReportResult(report.node_id, renewed, None))
        return results

    def nodes(self, region: str | None = None) -> list[Node]:
        """All nodes with their last report."""
        with self._lock:
            return [
                self._node(self._declared_nodes[node_id])
                for node_id in sorted(self._declared_nodes)
                if region in {None, self._declared_nodes[node_id].region}
            ]

    def _node(self, declared: NodeDeclaration) -> Node:
        lease = self._leases.get(node_lease_name(declared.node_id))
        held = lease is not None and lease.holder != ""
        node = Node(
            declared.node_id,
            declared.region,
            declared.zone,
            NodePhase.PENDING,
            *declared[3:],
            lease_expires_at=lease.expires_at if lease and held else None,
        )
        if declared.node_id not in self._reports:
            return node
        report, received_at = self._reports[declared.node_id]
        phase = NodePhase.RUNNING
        if self._is_silent(declared.node_id):
            phase = NodePhase.UNKNOWN if held else NodePhase.STOPPED
        phases = [agent.phase for agent in report.agents]
        return node._replace(
            phase=phase,
            address=report.address,
            pid=report.pid,
            boot_id=report.boot_id,
            started_at=report.started_at,
            heartbeat_at=received_at,
            cpu_percent=report.cpu_percent,
            memory_used_bytes=report.memory_used_bytes,
            disk_free_bytes=report.disk_free_bytes,
            agents_running=phases.count(AgentPhase.RUNNING),
            agents_failed=phases.count(AgentPhase.FAILED),
        )

    def _is_silent(self, node_id: str) -> bool:
        """Reported once, but the lease is over."""
        return node_id in self._reports and not self._holds_lease(node_id)

    def _holds_lease(self, node_id: str) -> bool:
        lease = self._leases.get(node_lease_name(node_id))
        return lease is not None and lease.holder != "" and is_lease_live(lease, self.clock.now())

    def gpus(self, region: str | None = None) -> list[Gpu]:
        """All GPUs as last reported."""
        with self._lock:
            found = [
                gpu
                for node_id, (report, _) in self._reports.items()
                for gpu in report.gpus
                if region in {None, self._declared_nodes[node_id].region}
            ]
        return sorted(found, key=lambda gpu: (gpu.node_id, gpu.device_index))

    def fleet_counts(self) -> list[RegionCounts]:
        """Counts of every region."""
        with self._lock:
            regions = {node.region for node in self._declared_nodes.values()}
            regions |= {agent.region for agent in self._agents.values()}
            regions |= {placed.region for placed in self._placements.values()}
            return [self._counts(region) for region in sorted(regions)]

    def _counts(self, region: str) -> RegionCounts:
        nodes = self.nodes(region)
        reported = [node for node in nodes if node.node_id in self._reports]
        live = [node for node in reported if not self._is_silent(node.node_id)]
        placed = [item for item in self._placements.values() if item.region == region]
        beats = [
            agent.heartbeat_at
            for node in live
            for agent in self._reports[node.node_id][0].agents
            if agent.phase == AgentPhase.RUNNING and agent.heartbeat_at is not None
        ]
        return RegionCounts(
            region=region,
            nodes=len(nodes),
            nodes_live=len(live),
            nodes_silent=len(reported) - len(live),
            agents_declared=sum(agent.region == region for agent in self._agents.values()),
            agents_placed=len(placed),
            agents_running=sum(node.agents_running or 0 for node in live),
            agents_failed=sum(node.agents_failed or 0 for node in live),
            agents_unknown=sum(
                item.node_id in self._declared_nodes and self._is_silent(item.node_id)
                for item in placed
            ),
            oldest_report_at=min(
                (node.heartbeat_at for node in reported if node.heartbeat_at), default=None
            ),
            oldest_heartbeat_at=min(beats, default=None),
        )

    # Leases

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Take a free or expired lease, or renew one's own."""
        _validate_wish(LeaseWish(name, holder, ttl_s))
        with self._lock:
            stored = self._leases.get(name)
            now = self.clock.now()
            live = stored is not None and stored.holder != "" and is_lease_live(stored, now)
            if stored and live and stored.holder != holder:
                raise _lost(stored)
            term = 1 if stored is None else stored.term if live else stored.term + 1
            mine = stored if stored and stored.holder == holder else None
            return self._store_lease(Lease(name, holder, term, ttl_s, now, now), mine)

    def acquire_leases(self, wishes: Sequence[LeaseWish]) -> list[LeaseResult]:
        """One after another."""
        for wish in wishes:
            _validate_wish(wish)
        results = []
        with self._lock:
            for wish in wishes:
                try:
                    results.append(LeaseResult(wish.name, self.acquire_lease(*wish), None))
                except LeaseLostError as error:
                    results.append(LeaseResult(wish.name, None, error))
        return results

    def renew_lease(self, lease: Lease) -> Lease:
        """Extend one's lease by its ttl."""
        with self._lock:
            stored = self._leases.get(lease.name)
            if stored is None:
                raise LeaseLostError(f"lease {lease.name} does not exist")
            if (stored.holder, stored.term) != (lease.holder, lease.term):
                raise _lost(stored)
            return self._store_lease(lease, stored)

    def _store_lease(self, lease: Lease, before: Lease | None) -> Lease:
        now = self.clock.now()
        renewed_at, expires_at = now, now + timedelta(seconds=lease.ttl_s)
        if before is not None:
            renewed_at = max(renewed_at, before.renewed_at)
            expires_at = max(expires_at, before.expires_at)
        stored = lease._replace(renewed_at=renewed_at, expires_at=expires_at)
        self._leases[lease.name] = stored
        return stored

    def release_lease(self, lease: Lease) -> None:
        """Give the lease up; its term is remembered."""
        with self._lock:
            stored = self._leases.get(lease.name)
            if stored and (stored.holder, stored.term) == (lease.holder, lease.term):
                self._leases[lease.name] = stored._replace(holder="", expires_at=stored.renewed_at)

    def lease(self, name: str) -> Lease | None:
        """The lease as stored."""
        with self._lock:
            return self._leases.get(name)

    # Placements

    def declare_workloads(self, workloads: Sequence[Workload]) -> None:
        """Insert or update workload specifications."""
        with self._lock:
            self._workloads.update({workload.workload: workload for workload in workloads})

    def workloads(self) -> list[Workload]:
        """All workload specifications."""
        with self._lock:
            return [self._workloads[name] for name in sorted(self._workloads)]

    def revisions(self, workloads: Collection[str]) -> dict[str, str]:
        """Looked at one by one."""
        with self._lock:
            return {name: revision_of(self._workloads[name]) for name in sorted(workloads)
                    if name in self._workloads}  # fmt: skip

    def declare_agents(self, agents: Sequence[AgentDeclaration]) -> None:
        """Insert or update agents."""
        with self._lock:
            self._agents.update({agent.agent_id: agent for agent in agents})

    def retire_agents(self, agent_ids: Sequence[str]) -> None:
        """Remove agents; their epochs are remembered."""
        with self._lock:
            for agent_id in agent_ids:
                self._agents.pop(agent_id, None)
                if agent_id in self._placements:
                    self._retired[agent_id] = self._placements.pop(agent_id)

    def place_agents(
        self,
        placements: Sequence[Placement],
        *,
        leader_term: int | None = None,
        within_limits: bool = False,
    ) -> list[Placement]:
        """Compare-and-swap placements."""
        for placement in placements:
            if leader_term is not None and placement.term != leader_term:
                raise InvalidInputError("placement.term", placement.term, f"{leader_term}")
        with self._lock:
            if leader_term is not None and placements:
                self.demand_leader_term(leader_term)
            if within_limits:
                placements = self._within_limits(placements, self._declared_nodes)
            swaps = self._swaps(placements)
            for placed, last in swaps:
                if last and last.network_id != placed.network_id:
                    self._moves = secrets.token_hex(16)
                self._retired.pop(placed.agent_id, None)
                self._placements[placed.agent_id] = placed
                self._record_moves([placed])
        return [placed for placed, _ in swaps]

    def _swaps(self, placements: Sequence[Placement]) -> list[tuple[Placement, Placement | None]]:
        """What is stored of a batch, each with the placement before it."""
        rows, retired = dict(self._placements), dict(self._retired)
        swaps = []
        for placement in placements:
            agent_id = placement.agent_id
            if agent_id not in self._agents:
                continue
            present = rows.get(agent_id)
            last = present or retired.get(agent_id)
            epoch_seen = present.epoch if present else 0
            if placement.epoch != epoch_seen or (last and last.term > placement.term):
                continue
            placed = placement._replace(epoch=(last.epoch if last else 0) + 1)
            retired.pop(agent_id, None)
            rows[agent_id] = placed
            swaps.append((placed, last))
        return swaps

    def release_ended(self) -> list[Placement]:
        """Looked at one by one."""
        with self._lock:
            released = plan_releases(
                self.placements(), self._standings_of_nodes(), self._said(), self.clock.now()
            )
            return self.place_agents(released) if released else []

    def _standings_of_nodes(self) -> dict[str, HostStanding]:
        return {
            name: HostStanding.LIVE if self._holds_lease(name) else HostStanding.SILENT
            for name in self._declared_nodes
        }

    def _said(self) -> dict[str, dict[str, AgentReport]]:
        return {
            node_id: {agent.agent_id: agent for agent in report.agents}
            for node_id, (report, _) in self._reports.items()
        }

    def placements(self, node_id: str | None = None, region: str | None = None) -> list[Placement]:
        """Placements, ordered by agent_id."""
        with self._lock:
            return [
                self._placements[agent_id]
                for agent_id in sorted(self._placements)
                if node_id in {None, self._placements[agent_id].node_id}
                and region in {None, self._placements[agent_id].region}
            ]

    def agents(self, region: str | None = None) -> list[Agent]:
        """Agents joined with placements and node reports."""
        with self._lock:
            pairs = [
                (shape, self._placements.get(agent_id) or unplaced(shape))
                for agent_id, shape in sorted(self._agents.items())
            ]
            reports = self._said()
            silent = frozenset(node_id for node_id in self._reports if self._is_silent(node_id))
        here = [pair for pair in pairs if region in {None, pair[1].region}]
        return merge_agents(here, reports, silent)

    # States

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Apply puts in order."""
        with self._lock:
            return [self._put(put, self._head(put.agent_id)) for put in puts]

    def restore_states(
        self, restores: Sequence[StateRestore], *, more: bool = False
    ) -> list[PutResult]:
        """Put states back from a backup, in order."""
        del more
        with self._lock:
            results = []
            for restore in restores:
                put, head = plan_restore(restore, self._head(restore.agent_id))
                results.append(self._put(put, head, restore.digest))
            return results

    def _head(self, agent_id: str) -> StateHead | None:
        placed = self._placements.get(agent_id)
        stored = self._states.get(agent_id)
        version = stored.version if stored else 0
        return StateHead(placed.epoch, placed.node_id, version) if placed else None

    def _put(self, put: StatePut, head: StateHead | None, digest: str = "") -> PutResult:
        if len(put.body) > STATE_MAX_BYTES:
            error = TooLargeError(f"agent {put.agent_id}: {len(put.body)} bytes")
            return PutResult(put.agent_id, 0, error)
        refused = decide_put(put, head)
        if refused or head is None:
            return PutResult(put.agent_id, 0, refused)
        version = head.version
        now = self.clock.now()
        digest = digest or hashlib.sha256(put.body).hexdigest()
        self._states[put.agent_id] = AgentState(
            put.agent_id, version + 1, put.epoch, digest, put.body, now
        )
        self._change_id += 1
        self._changes.append(
            StateChange(
                self._change_id,
                put.agent_id,
                version + 1,
                put.epoch,
                len(put.body),
                digest,
                now,
            )
        )
        return PutResult(put.agent_id, version + 1, None, now)

    def state(self, agent_id: str) -> AgentState | None:
        """The newest state, its digest verified."""
        with self._lock:
            stored = self._states.get(agent_id)
        if stored and hashlib.sha256(stored.body).hexdigest() != stored.digest:
            raise CorruptObjectError(f"state of agent {agent_id} is damaged")
        return stored

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, verified."""
        with self._lock:
            found = [self.state(agent_id) for agent_id in sorted(set(agent_ids))]
        return [state for state in found if state is not None]

    def damage_state(self, agent_id: str, body: bytes) -> None:
        """Replace stored bytes behind the digest's back, for tests of corruption."""
        with self._lock:
            self._states[agent_id] = self._states[agent_id]._replace(body=body)

    def damage_digest(self, agent_id: str, digest: str) -> None:
        """Replace a stored digest, for tests of corruption."""
        with self._lock:
            self._states[agent_id] = self._states[agent_id]._replace(digest=digest)

    def state_infos(self, region: str | None = None) -> list[AgentStateInfo]:
        """Metadata of all states."""
        infos = []
        with self._lock:
            for agent_id, state in sorted(self._states.items()):
                placed = self._placements.get(agent_id) or self._retired[agent_id]
                info = AgentStateInfo(
                    agent_id,
                    placed.network_id,
                    placed.region,
                    state.version,
                    state.epoch,
                    len(state.body),
                    state.digest,
                    state.updated_at,
                )
                if region in {None, info.region}:
                    infos.append(info)
        return infos

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """A cut, obviously right: each agent is looked at."""
        with self._lock:
            has_entry = since and since.change_id in {one.change_id for one in self._changes}
            facts = CutFacts(self._cuts.get(network_id, ""), self._moves, bool(has_entry))
            newest = max((one.change_id for one in self._changes), default=0)
            self._cuts[network_id] = secrets.token_hex(16)
            cursor = ChangeCursor(newest, self._cuts[network_id], self._moves)
            broken = explain_broken(since, facts)
            infos = [one for one in self.state_infos() if one.network_id == network_id]
            if since and not broken and not whole:
                touched = {c.agent_id for c in self._changes if c.change_id > since.change_id}
                infos = [one for one in infos if one.agent_id in touched]
        return StateListing(columns_of(infos), cursor, whole or bool(broken), broken)

    def remove_state(self, agent_id: str) -> None:
        """Delete a row, as somebody does in the database itself; the store notes that."""
        with self._lock:
            del self._states[agent_id]
            self._moves = secrets.token_hex(16)

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Change log entries after a cursor."""
        with self._lock:
            return [change for change in self._changes if change.change_id > after][:limit]

    def trim_state_changes(self, up_to: int) -> int:
        """Remove change log entries up to a number."""
        with self._lock:
            kept = [change for change in self._changes if change.change_id > up_to]
            removed = len(self._changes) - len(kept)
            self._changes = kept
        return removed

    # Activities, notes, journal

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """Append; known ids are ignored."""
        for activity in activities:
            validate_text("activity.kind", activity.kind)
            validate_text("activity.detail", activity.detail)
        with self._lock:
            for activity in activities:
                self._activities.setdefault(activity.activity_id, activity)

    def activities(self, agent_id: str | None, limit: int) -> list[Activity]:
        """Newest first."""
        with self._lock:
            wanted = [a for a in self._activities.values() if agent_id in {None, a.agent_id}]
        return sorted(wanted, key=lambda a: (a.at, a.activity_id), reverse=True)[:limit]

    def trim_activities(self, before: datetime) -> int:
        """Remove old activities."""
        with self._lock:
            kept = {key: item for key, item in self._activities.items() if item.at >= before}
            removed = len(self._activities) - len(kept)
            self._activities = kept
        return removed

    def append_notes(self, notes: Sequence[Note]) -> None:
        """Append; known ids are ignored."""
        for note in notes:
            validate_text("note.text", note.text)
        with self._lock:
            for note in notes:
                if note.note_id not in self._notes:
                    self._notes[note.note_id] = note
                    self.log_note(note)

    def notes(self, network_id: str, after: str, limit: int) -> list[Note]:
        """Notes of a network after a cursor."""
        with self._lock:
            wanted = [n for n in self._notes.values() if n.network_id == network_id]
        later = [note for note in wanted if note.note_id > after]
        return sorted(later, key=lambda note: note.note_id)[:limit]

    def append_journal(self, entries: Sequence[JournalEntry]) -> list[bool]:
        """Append; False where the step was there already."""
        appended = []
        for entry in entries:
            validate_text("journal.reason", entry.reason)
            validate_text("journal.detail", entry.detail)
        with self._lock:
            for entry in entries:
                key = (entry.action_id, entry.step, entry.status)
                appended.append(key not in self._journal)
                self._journal.setdefault(key, entry)
        return appended

    def journal(self, action_id: str) -> list[JournalEntry]:
        """All steps of an action in order."""
        with self._lock:
            return [entry for entry in self._journal.values() if entry.action_id == action_id]

    # Lookups

    def agent(self, agent_id: str) -> Agent | None:
        """One agent."""
        return next((agent for agent in self.agents() if agent.agent_id == agent_id), None)

    def agent_notes(self, agent_id: str, limit: int) -> list[Note]:
        """Notes of one agent, newest first."""
        with self._lock:
            wanted = [note for note in self._notes.values() if note.agent_id == agent_id]
        return sorted(wanted, key=lambda note: (note.at, note.note_id), reverse=True)[:limit]

    def open_actions(self, limit: int = 1000) -> list[JournalEntry]:
        """The first unfinished step of every action."""
        first: dict[str, JournalEntry] = {}
        with self._lock:
            for (action_id, step, status), entry in self._journal.items():
                if status == "started" and (action_id, step, "done") not in self._journal:
                    first.setdefault(action_id, entry)
        return list(first.values())[:limit]

    def ping(self) -> None:
        """Memory is always there."""

    def close(self) -> None:
        """Nothing is open."""


def _validate_wish(wish: LeaseWish) -> None:
    if not wish.name:
        raise InvalidInputError("lease name", wish.name, "a text that is not empty")
    if not wish.holder:
        raise InvalidInputError("lease holder", wish.holder, "a text that is not empty")
    if not 0.0 < wish.ttl_s <= 366 * 86400.0:
        raise InvalidInputError("ttl_s", wish.ttl_s, "seconds above 0, at most a year")


def _lost(held: Lease) -> LeaseLostError:
    holder = held.holder or "nobody (released)"
    return LeaseLostError(
        f"lease {held.name} is held by {holder}, term {held.term}, "
        f"until {held.expires_at.isoformat()}"
    )
