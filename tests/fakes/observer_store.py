"""The observers' part of the control store as plain dictionaries; mixed into the fake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import RLock

from fleet.agents import Activity, AgentState, Placement, StateChange, Workload
from fleet.errors import LeaseLostError
from fleet.inventory import AgentPhase
from fleet.leases import LEADER_LEASE, Lease, is_lease_live, node_lease_name
from fleet.moments import microseconds
from fleet.names import validate_text
from fleet.node_beats import NodeBeat, NodeWork, WorkSeen
from fleet.ports.clock import Clock
from fleet.probe_reports import (
    NodeContact,
    ProbeReport,
    ProbeReportResult,
    Roster,
    RosterMember,
)
from fleet.reports import AgentDeclaration, NodeDeclaration, NodeReport, count_stale


class InMemoryObservers:
    """`fleet.ports.observer_store.ObserverStore`; needs what the fake store holds beside it."""

    clock: Clock
    _lock: RLock
    _declared_nodes: dict[str, NodeDeclaration]
    _reports: dict[str, tuple[NodeReport, datetime]]
    _leases: dict[str, Lease]
    _placements: dict[str, Placement]
    _agents: dict[str, AgentDeclaration]
    _workloads: dict[str, Workload]
    _states: dict[str, AgentState]
    _changes: list[StateChange]
    _activities: dict[str, Activity]

    def __init__(self) -> None:
        """Start without reports."""
        self._probe_reports: dict[str, ProbeReport] = {}
        self._roster_version = 0

    def report_probes(self, report: ProbeReport) -> None:
        """Replace the observer's report."""
        (result,) = self.report_probes_of_many([report])
        if result.error is not None:
            raise result.error

    def report_probes_of_many(self, reports: Sequence[ProbeReport]) -> list[ProbeReportResult]:
        """One after another."""
        results = []
        for report in reports:
            for probe in report.probes:
                validate_text("probe.detail", probe.detail)
        with self._lock:
            now = self.clock.now()
            for report in reports:
                lease = self._leases.get(node_lease_name(report.observer_id))
                if lease is None or lease.holder != report.boot_id or not is_lease_live(lease, now):
                    who = f"{report.observer_id}, boot {report.boot_id}"
                    error = LeaseLostError(f"{who}, holds no live lease")
                    results.append(ProbeReportResult(report.observer_id, error))
                    continue
                results.append(ProbeReportResult(report.observer_id, None))
                before = self._probe_reports.get(report.observer_id)
                if before and before.boot_id == report.boot_id and before.round >= report.round:
                    continue
                self._probe_reports[report.observer_id] = report._replace(received_at=now)
        return results

    def probe_reports(self, since: datetime | None = None) -> list[ProbeReport]:
        """Reports since a moment."""
        with self._lock:
            found = [self._probe_reports[name] for name in sorted(self._probe_reports)]
        return [one for one in found if since is None or (one.received_at or since) >= since]

    def node_beats(self) -> list[NodeBeat]:
        """Report and lease of every declared node."""
        with self._lock:
            return [self._beat(node_id) for node_id in sorted(self._declared_nodes)]

    def _beat(self, node_id: str) -> NodeBeat:
        boot_id, received_us, agents_us = "", 0, 0
        if node_id in self._reports:
            report, received_at = self._reports[node_id]
            boot_id, received_us = report.boot_id, microseconds(received_at)
            running = [agent for agent in report.agents if agent.phase == AgentPhase.RUNNING]
            heard = [microseconds(a.heartbeat_at) for a in running if a.heartbeat_at is not None]
            agents_us = min(heard, default=0)
        lease = self._leases.get(node_lease_name(node_id))
        if lease is None:
            return NodeBeat(node_id, boot_id, received_us, agents_us, "", 0, 0, 0, 0.0)
        times = microseconds(lease.renewed_at), microseconds(lease.expires_at)
        return NodeBeat(
            node_id, boot_id, received_us, agents_us, lease.holder, lease.term, *times, lease.ttl_s
        )

    def work_seen(self, after: int = 0) -> WorkSeen:
        """Newest work per node."""
        worked: dict[str, int] = {}
        with self._lock:
            window, now = timedelta(seconds=60), self.clock.now()
            seen = [
                (change.agent_id, change.epoch, change.changed_at)
                for change in self._changes
                if change.change_id > after
            ] + [
                (activity.agent_id, None, activity.at)
                for activity in self._activities.values()
                if abs(activity.at - now) <= window
            ]
            for agent_id, epoch, at in seen:
                placed = self._placements.get(agent_id)
                if placed is not None and epoch in {None, placed.epoch}:
                    before = worked.get(placed.node_id, 0)
                    worked[placed.node_id] = max(before, microseconds(at))
            cursor = max([after, *(change.change_id for change in self._changes)])
        return WorkSeen(cursor, tuple(NodeWork(*item) for item in sorted(worked.items())))

    def roster_version(self) -> int:
        """Counts declarations and retirements."""
        return self._roster_version

    def roster(self) -> Roster:
        """All declared nodes."""
        with self._lock:
            members = [RosterMember(*node[:3]) for node in self._declared_nodes.values()]
            return Roster(self._roster_version, tuple(sorted(members)))

    def node_contacts(self, node_ids: Sequence[str]) -> list[NodeContact]:
        """Addresses as reported."""
        with self._lock:
            known = sorted(set(node_ids) & self._reports.keys())
            found = [self._reports[node_id][0] for node_id in known]
        return [NodeContact(one.node_id, one.address, one.boot_id) for one in found]

    def stale_copies(self, node_ids: Sequence[str]) -> dict[str, int]:
        """Counted over the reports as they are."""
        with self._lock:
            placed = {
                name: (one.node_id, one.epoch)
                for name, one in self._placements.items()
                if name in self._agents
            }
            known = sorted(set(node_ids) & self._reports.keys())
            return {
                node_id: count_stale(node_id, self._reports[node_id][0].agents, placed)
                for node_id in known
            }

    def stateless_counts(self, node_ids: Sequence[str]) -> dict[str, int]:
        """Counted one by one."""
        with self._lock:
            placed = [self._placements[name].node_id for name in self.stateless_agents(node_ids)]
        return {node_id: placed.count(node_id) for node_id in sorted(set(placed))}

    def stateless_agents(self, node_ids: Sequence[str]) -> list[str]:
        """Each agent is looked at."""
        with self._lock:
            holders = {lease.holder for lease in self._leases.values()}
            return [
                name
                for name, one in sorted(self._placements.items())
                if one.node_id in node_ids
                and one.desired == "running"
                and one.workload in self._workloads
                and self._workloads[one.workload].stateless
                and name not in self._states
                and name not in holders
            ]

    def demand_leader_term(self, term: int) -> None:
        """Judged by the fake's clock."""
        with self._lock:
            lease = self._leases.get(LEADER_LEASE)
            live = lease and lease.holder and is_lease_live(lease, self.clock.now())
            if lease is None or not live or lease.term != term:
                raise LeaseLostError(f"leader term {term} leads no more")

    def fence_nodes(self, node_ids: Sequence[str], leader_term: int) -> list[str]:
        """End leases that have run out."""
        fenced = []
        with self._lock:
            self.demand_leader_term(leader_term)
            now = self.clock.now()
            for node_id in sorted(set(node_ids)):
                lease = self._leases.get(node_lease_name(node_id))
                if lease is None or (lease.holder and is_lease_live(lease, now)):
                    continue
                fenced.append(node_id)
                if lease.holder and not lease.holder.startswith("fenced under "):
                    holder = f"fenced under leader term {leader_term}"
                    self._leases[lease.name] = lease._replace(holder=holder, term=lease.term + 1)
        return fenced
