"""What can be seen of the simulated cluster: records as of the last heartbeat that arrived.

Readings (CPU, memory, GPU) are a plain function of seed, node and minute around the declared load,
so that looking changes nothing and two looks agree. What the simulator does not model is None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta

from fleet.agents import Placement
from fleet.inventory import Agent, AgentPhase, Gpu, Node, NodePhase
from fleet.reports import AgentReport, NodeDeclaration, NodeReport, merge_agents
from resources.simulated.clock import MICROSECONDS
from resources.simulated.heartbeats import Beat
from resources.simulated.machinery import Machinery, infrastructure_phase
from resources.simulated.nodes import SimulatedNode, Summary

PID_BASE = 1 << 22
"""Simulated processes get ids above Linux's largest (PID_MAX_LIMIT, 4,194,304), so that a signal
sent to one by mistake can reach no process of this machine."""

_MINUTE_US = 60 * MICROSECONDS
_MIX = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def load_factor(seed: int, index: int, at_us: int) -> float:
    """How much of its declared load a node shows in the minute of `at_us`: 0.5 to 1."""
    mixed = ((index + 1) * _MIX + (at_us // _MINUTE_US) * 0xBF58476D1CE4E5B9 + seed) & _MASK
    mixed = ((mixed ^ (mixed >> 31)) * 0x94D049BB133111EB) & _MASK
    return 0.5 + (mixed >> 40) / (1 << 25)


class ClusterView:
    """Builds the fleet's records from the machinery's state."""

    def __init__(self, machinery: Machinery, lease_ttl_s: float, lost_after_s: float) -> None:
        """Take what a supervisor's lease lasts, and after what silence a node is not believed."""
        self._machinery = machinery
        self._lease_ttl = timedelta(seconds=lease_ttl_s)
        self._lost_after_us = round(lost_after_s * MICROSECONDS)

    def node(self, node: SimulatedNode) -> Node:
        """One node as seen now."""
        machinery = self._machinery
        declared = node.declaration
        beat = node.beat(machinery.now_us)
        phase = infrastructure_phase(node)
        if beat is None:
            return _unseen_node(declared, phase)
        at = machinery.clock.at
        condition = beat.segment.condition
        gpus = max(0, declared.gpu_count - condition.gpus_lost)
        summary = self._summary(node, beat)
        factor = load_factor(machinery.seed, node.index, beat.sent_us)
        received_at = at(beat.received_us)
        cpu_milli = round(declared.cpu_milli * (1.0 - condition.cpu_fraction_lost))
        used = min(1.0, summary.cpu_milli / cpu_milli) if cpu_milli else 1.0
        return Node(
            node_id=declared.node_id,
            region=declared.region,
            zone=declared.zone,
            phase=phase,
            cpu_milli=cpu_milli,
            memory_bytes=round(declared.memory_bytes * (1.0 - condition.memory_fraction_lost)),
            bandwidth_bps=declared.bandwidth_bps,
            gpu_count=gpus,
            gpu_memory_bytes=_share(declared.gpu_memory_bytes, declared.gpu_count) * gpus,
            gpu_model=declared.gpu_model,
            pid=PID_BASE + node.index,
            boot_id=f"{declared.node_id}.{beat.segment.boot}",
            started_at=at(beat.segment.booted_us),
            heartbeat_at=received_at,
            lease_expires_at=received_at + self._lease_ttl,
            cpu_percent=round(100.0 * used * factor, 2),
            memory_used_bytes=int(summary.memory_bytes * factor),
            agents_running=summary.running,
            agents_failed=summary.failed,
        )

    def gpus(self, node: SimulatedNode) -> list[Gpu]:
        """The node's GPUs as seen now, by device index; the last ones are those that get lost."""
        declared = node.declaration
        beat = node.beat(self._machinery.now_us) if declared.gpu_count else None
        return [] if beat is None else self._gpus(node, beat)

    def report(self, node: SimulatedNode) -> NodeReport | None:
        """The last report that has arrived from a node; None when none has."""
        machinery = self._machinery
        beat = node.beat(machinery.now_us)
        if beat is None:
            return None
        declared = node.declaration
        factor = load_factor(machinery.seed, node.index, beat.sent_us)
        summary = self._summary(node, beat)
        cpu_milli = max(1, declared.cpu_milli)
        return NodeReport(
            node_id=declared.node_id,
            boot_id=f"{declared.node_id}.{beat.segment.boot}",
            pid=PID_BASE + node.index,
            address="",
            started_at=machinery.clock.at(beat.segment.booted_us),
            reported_at=machinery.clock.at(beat.reported_us),
            cpu_percent=round(100.0 * min(1.0, summary.cpu_milli / cpu_milli) * factor, 2),
            memory_used_bytes=int(summary.memory_bytes * factor),
            disk_free_bytes=None,
            agents=tuple(self._agent_reports(node, beat).values()),
            gpus=tuple(self._gpus(node, beat)),
        )

    def agents(self, placements: list[Placement], nodes: list[SimulatedNode]) -> list[Agent]:
        """Agents by their placements, joined with the reports of the given nodes."""
        machinery = self._machinery
        reports: dict[str, Mapping[str, AgentReport]] = {}
        silent = []
        for node in nodes:
            beat = node.beat(machinery.now_us)
            if beat is None:
                continue
            reports[node.declaration.node_id] = self._agent_reports(node, beat)
            if machinery.now_us - beat.received_us > self._lost_after_us:
                silent.append(node.declaration.node_id)
        declared = [(machinery.agents[placed.agent_id], placed) for placed in placements]
        return merge_agents(declared, reports, frozenset(silent))

    def _agent_reports(self, node: SimulatedNode, beat: Beat) -> dict[str, AgentReport]:
        """What one beat says of the node's agents."""
        machinery = self._machinery
        at = machinery.clock.at
        reported_at = at(beat.reported_us)
        factor = load_factor(machinery.seed, node.index, beat.sent_us)
        reports = {}
        for agent_id, copy in node.copies.items():
            seen = copy.seen_at(beat.sent_us)
            if seen is None:
                continue
            _, epoch, phase, restarts, started_us, reason = seen
            assert phase is not None
            runs = phase is AgentPhase.RUNNING
            shape = machinery.agents[agent_id]
            reports[agent_id] = AgentReport(
                agent_id,
                epoch,
                phase,
                None,
                at(started_us),
                reported_at if runs else None,
                restarts,
                round(shape.cpu_milli * factor / 10.0, 2) if runs else None,
                int(shape.memory_bytes * factor) if runs else None,
                reason,
            )
        return reports

    def _summary(self, node: SimulatedNode, beat: Beat) -> Summary:
        """The agents of a beat added up; kept until an agent of the node changes."""
        complete = beat.sent_us >= node.changed_us
        if complete and node.summary is not None and node.summary_key == node.changes:
            return node.summary
        running = failed = cpu_milli = memory_bytes = gpu_milli = 0
        for agent_id, copy in node.copies.items():
            seen = copy.seen_at(beat.sent_us)
            if seen is not None and seen.phase is AgentPhase.RUNNING:
                shape = self._machinery.agents[agent_id]
                running += 1
                cpu_milli += shape.cpu_milli
                memory_bytes += shape.memory_bytes
                gpu_milli += shape.gpu_milli
            elif seen is not None and seen.phase is AgentPhase.FAILED:
                failed += 1
        summary = Summary(running, failed, cpu_milli, memory_bytes, gpu_milli)
        if complete:
            node.summary, node.summary_key = summary, node.changes
        return summary

    def _gpus(self, node: SimulatedNode, beat: Beat) -> list[Gpu]:
        """GPU readings of one beat; a lost device has an identity and no readings."""
        declared = node.declaration
        count = declared.gpu_count
        if not node.gpu_uuids:
            node.gpu_uuids = [gpu_uuid(declared.node_id, index) for index in range(count)]
        left = max(0, count - beat.segment.condition.gpus_lost)
        factor = load_factor(self._machinery.seed, node.index, beat.sent_us)
        busy = min(1.0, self._summary(node, beat).gpu_milli / (1000 * left)) if left else 0.0
        total_bytes = _share(declared.gpu_memory_bytes, count) or None
        gpus = []
        for index, uuid in enumerate(node.gpu_uuids[:count]):
            lost = index >= left
            used = None if lost or total_bytes is None else int(total_bytes * busy * factor)
            gpus.append(
                Gpu(
                    gpu_uuid=uuid,
                    node_id=declared.node_id,
                    region=declared.region,
                    device_index=index,
                    model=declared.gpu_model,
                    memory_total_bytes=total_bytes,
                    memory_used_bytes=used,
                    utilization_percent=None if lost else round(100.0 * busy * factor, 2),
                    lost=lost,
                    observed_at=self._machinery.clock.at(beat.reported_us),
                )
            )
        return gpus


def _unseen_node(declared: NodeDeclaration, phase: NodePhase) -> Node:
    """A node of which no heartbeat has arrived: only what was declared."""
    return Node(
        node_id=declared.node_id,
        region=declared.region,
        zone=declared.zone,
        phase=phase,
        cpu_milli=declared.cpu_milli,
        memory_bytes=declared.memory_bytes,
        bandwidth_bps=declared.bandwidth_bps,
        gpu_count=declared.gpu_count,
        gpu_memory_bytes=declared.gpu_memory_bytes,
        gpu_model=declared.gpu_model,
    )


def gpu_uuid(node_id: str, device_index: int) -> str:
    """A stable identity in the form of the driver's: `GPU-8-4-4-4-12`."""
    hexes = hashlib.sha256(f"{node_id}/{device_index}".encode()).hexdigest()
    return f"GPU-{hexes[:8]}-{hexes[8:12]}-{hexes[12:16]}-{hexes[16:20]}-{hexes[20:32]}"


def _share(total_bytes: int, count: int) -> int:
    return total_bytes // count if count else 0
