"""The cluster of this machine: supervisors and agents as processes, truth in the control store.

What is placed where is the store's; whether a node exists is the process table's. A node whose
process has vanished is TERMINATED at once; one that is frozen stays RUNNING, because that is all
that an infrastructure can know: running proves nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fleet.agents import Placement
from fleet.errors import (
    InvalidInputError,
    NodeUnavailableError,
    NotFoundError,
    StaleEpochError,
    StateroomError,
)
from fleet.inventory import Agent, AgentPhase, Node, NodePhase
from fleet.ports.clock import Clock
from fleet.ports.cluster import ClusterEvent, FleetSnapshot, ScaleWish
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import InfrastructureVerdict
from fleet.reports import declaration_of
from fleet.rescaling.standing import ScaleResult
from fleet.scaling import plan_scale
from resources.local import node_client
from resources.local.event_log import EventLog
from resources.local.linux_processes import ProcessIdentity, identify, is_alive
from resources.local.local_faults import START_TIMEOUT_S, LocalFaults
from resources.local.local_fencer import LocalFencer
from resources.local.node_launcher import NodeLauncher
from resources.local.node_spec import NodeRun, NodeSpec, read_run, run_path, write_run
from resources.store_scaling import rescale_in_store

WATCH_POLL_S = 0.05
"""Between two looks of a `watch`; a vanished process is told of within this time."""

_STOPS_AT_ONCE = 16
"""Agents that are asked to end at a time."""

STOP_MARGIN_S = 15.0
"""Added to the grace period before a node that does not end is killed."""


class LocalCluster(LocalFaults):
    """`fleet.ports.Cluster` and `FaultInjector` over processes of this machine.

    `stateroom up` makes it with the specs of all nodes and calls `start_nodes`; other commands
    make it without specs, to look and to act.
    """

    def __init__(
        self, store: ControlStore, state_dir: Path, clock: Clock, specs: Sequence[NodeSpec] = ()
    ) -> None:
        """Look at nothing and start nothing yet.

        Args:
            store: the control store of the fleet; stays the caller's.
            state_dir: the fleet's state folder, which holds `run/` and `logs/`.
            clock: stamps snapshots, placements and events.
            specs: of the nodes that `start_nodes` starts, each `validate`d; their owner is
                replaced by this process.
        """
        self._launcher = NodeLauncher(state_dir, store)
        super().__init__(state_dir, self._launcher, clock)
        self._store = store
        self._specs = list(specs)
        self._events = EventLog(state_dir / "run" / "events.jsonl")

    # -- stateroom up and down -------------------------------------------------------------------

    def start_nodes(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start all nodes of the specs that do not run, and wait until they may run agents.

        Idempotent. The nodes end by themselves when this process ends, however it ends; those that
        an earlier owner left behind are ended first.

        Raises:
            NodeUnavailableError: a node did not come up; the others were stopped again.
        """
        self._end_orphans()
        owner = identify(os.getpid())
        launched: dict[str, ProcessIdentity] = {}
        try:
            for spec in self._specs:
                run = self._launcher.run(spec.node.node_id)
                if run is None or not is_alive(run.process):
                    own = replace(spec, owner=owner)
                    launched[spec.node.node_id] = self._launcher.launch(own)
            self._launcher.wait_ready(launched, timeout_s)
        except BaseException:
            self._launcher.end(list(launched.values()), STOP_MARGIN_S)
            raise

    def _end_orphans(self) -> None:
        """Wait for nodes whose `up` was killed just now: they are ending, and must not count."""
        orphans = []
        for run in self.runs():
            if is_alive(run.process):
                owner = self._spec(run.node_id).owner
                if owner is not None and not is_alive(owner):
                    orphans.append(run.node_id)
        self._end_in_order(orphans)

    def stop_nodes(self) -> list[str]:
        """End all nodes below the state folder: agents checkpoint, leases are released.

        Returns:
            The nodes that did not end in time and were killed.
        """
        return self._end_in_order([run.node_id for run in self.runs()])

    def _end_in_order(self, node_ids: list[str]) -> list[str]:
        grace_s = max((self._grace_s(node_id) for node_id in node_ids), default=0.0)
        return self._launcher.stop(node_ids, grace_s + STOP_MARGIN_S)

    def _grace_s(self, node_id: str) -> float:
        try:
            return self._spec(node_id).stop_grace_s
        except (NotFoundError, InvalidInputError):
            return 5.0

    def runs(self) -> list[NodeRun]:
        """Run files of all nodes that ever ran here, ordered by node_id."""
        folder = run_path(self._state_dir, "any").parent
        found = (read_run(path) for path in sorted(folder.glob("[!.]*.json")))
        return [run for run in found if run is not None]

    # -- fleet.ports.Cluster ---------------------------------------------------------------------

    def regions(self) -> list[str]:
        """Names of all regions, sorted."""
        return sorted({node.region for node in self._store.nodes()})

    def nodes(self, region: str) -> list[Node]:
        """The nodes of a region alone: the store's rows, corrected by the process table."""
        return [self._seen(node) for node in self._store.nodes(region)]

    def snapshot(self, region: str) -> FleetSnapshot:
        """Nodes, GPUs and agents of a region: the store's rows, corrected by the process table."""
        nodes = self.nodes(region)
        agents = self._store.agents(region)
        phases = {node.node_id: node.phase for node in nodes}
        return FleetSnapshot(
            region=region,
            observed_at=self._clock.now(),
            nodes=nodes,
            gpus=self._store.gpus(region),
            agents=[_seen_on(agent, phases.get(agent.node_id)) for agent in agents],
        )

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """Store placements by compare-and-swap and let the nodes follow at once.

        Each placement carries the epoch that its agent is to run under: one above the stored one,
        or the stored one itself, when it is in force already and nothing changes.

        Raises:
            StaleEpochError: an epoch or term is lower than the stored one, or the same epoch is in
                force with another node; nothing was stored, except where somebody else placed
                agents in the same moment (they are named).
            InvalidInputError: an epoch below 1.
        """
        stored = {placed.agent_id: placed for placed in self._store.placements()}
        wanted = [placed for placed in placements if _is_new(placed, stored.get(placed.agent_id))]
        swaps = [placed._replace(epoch=placed.epoch - 1) for placed in wanted]
        done = {placed.agent_id for placed in self._store.place_agents(swaps)}
        self._nudge()
        refused = [placed.agent_id for placed in wanted if placed.agent_id not in done]
        if refused:
            raise StaleEpochError(
                f"{len(refused)} of {len(wanted)} placements were overtaken or are of agents that "
                f"are not declared: {', '.join(refused[:5])}",
                hint="Read the placements again and plan anew.",
            )

    def scale(self, workload: str, region: str, replicas: int) -> None:
        """Set the wanted number of a workload's agents in a region, and place new ones there.

        Surplus agents are stopped, the last by name first, and keep their states; they are the
        first to come back. Missing ones are declared and dealt over the region's nodes.

        Raises:
            InvalidInputError: negative replicas.
            NotFoundError: unknown region, or no agent of this workload to take the shape from.
        """
        # here, because they plan with NumPy, which a failover that moves agents does not need
        from resources.local.fleet_declaration import place_unplaced

        if region not in self.regions():
            raise NotFoundError(f"region {region} has no node", hint="stateroom.toml names them.")
        now = self._clock.now()
        agents = {agent.agent_id: declaration_of(agent) for agent in self._store.agents()}
        placements = {placed.agent_id: placed for placed in self._store.placements()}
        plan = plan_scale(workload, region, replicas, agents, placements, now)
        self._store.declare_agents(plan.declared)
        self._let_go(
            [
                placements[one.agent_id]
                for one in plan.changed
                if one.desired == "stopped" and one.node_id
            ]
        )
        self._store.place_agents(plan.changed)
        place_unplaced(self._store, self._clock)
        self._nudge()

    def rescale(
        self, wishes: Sequence[ScaleWish], sessions: Mapping[str, int], *, term: int
    ) -> list[ScaleResult]:
        """See `fleet.ports.cluster.FleetScaler`; agents may save, and nodes are told at once."""
        results = rescale_in_store(
            self._store, self._clock, wishes, sessions, self.nodes, term, self._let_go
        )
        self._nudge()
        return results

    def _let_go(self, placements: Sequence[Placement]) -> None:
        """Let agents save and end, many at a time; who cannot be asked is stopped by its node."""
        runs = {run.node_id: run for run in self.runs() if is_alive(run.process)}

        def ask(placed: Placement) -> None:
            run = runs.get(placed.node_id)
            if run is None:
                return
            # A node that does not answer, or has it no more, learns of it by the placement.
            with suppress(StateroomError):
                node_client.evict(run, placed.agent_id, placed.epoch, self._grace_s(placed.node_id))

        with ThreadPoolExecutor(_STOPS_AT_ONCE) as pool:
            list(pool.map(ask, placements))

    def evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        """Ask an agent to stop, kill it after the grace period; returns once it is gone.

        It stays down under its epoch, as long as its node's supervisor lives; place it anew to
        make sure.

        Raises:
            NotFoundError: unknown agent, or not placed.
            StaleEpochError: the placement has another epoch.
            NodeUnavailableError: its node does not answer, or is down.
        """
        placed = next((p for p in self._store.placements() if p.agent_id == agent_id), None)
        if placed is None or not placed.node_id:
            raise NotFoundError(f"agent {agent_id} is not placed on any node")
        if placed.epoch != epoch:
            raise StaleEpochError(
                f"agent {agent_id}: epoch {epoch} given, {placed.epoch} is placed",
                hint="Read the placement again.",
            )
        run = self._launcher.run(placed.node_id)
        if run is None or not is_alive(run.process):
            raise NodeUnavailableError(
                f"node {placed.node_id} is down; agent {agent_id} was not evicted",
                hint="Fail the node over instead: raise the epochs of its agents.",
            )
        node_client.evict(run, agent_id, epoch, grace_s)

    def watch(self, cursor: str, timeout_s: float) -> list[ClusterEvent]:
        """Events after the cursor ('' means from now); waits up to `timeout_s` for the first.

        Kinds: `node_started`, `node_stopped`, `node_terminated`, `lease_lost`, `lease_regained`,
        `agent_failed`, `agent_evicted`, `events_lost`; of `FrozenWriterWatch` `node_fenced` and
        `writer_frozen`. Told at least once.
        """
        deadline_s = time.monotonic() + timeout_s
        seen = cursor or self._events.cursor()
        size = -1
        while True:
            self._notice_terminations()
            if self._events.size_bytes() != size:
                size = self._events.size_bytes()
                found = self._events.after(seen)
                if found:
                    return found
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return []
            time.sleep(min(WATCH_POLL_S, left_s))

    # -- fleet.ports.NodeFencer ------------------------------------------------------------------

    def fence(self, boots: Mapping[str, str]) -> list[InfrastructureVerdict]:
        """End these boots from below; works without the control store."""
        done = LocalFencer(self._state_dir, self._clock).fence(boots)
        self._launcher.reap()
        return done

    # -- fleet.ports.FaultInjector ---------------------------------------------------------------

    def kill_region(self, region: str) -> str:
        """Kill all nodes of a region that run.

        Raises:
            NotFoundError: none of them runs.
        """
        runs = [run for run in self.runs() if run.region == region and is_alive(run.process)]
        if not runs:
            raise NotFoundError(f"no node of region {region} runs")
        return "; ".join(self.kill_node(run.node_id) for run in runs)

    # -- details -----------------------------------------------------------------------------------

    def _nudge(self) -> None:
        """Let all living nodes look now; one that does not answer looks by itself soon."""
        self._launcher.reap()
        node_client.nudge([run for run in self.runs() if is_alive(run.process)])

    def _notice_terminations(self) -> None:
        """Tell of nodes whose process has vanished, once: the run file remembers.

        Event first, then the run file: a crash in between tells twice, never not at all.
        """
        self._launcher.reap()
        for run in self.runs():
            if run.phase == NodePhase.RUNNING and not is_alive(run.process):
                reason = f"process {run.process.pid} of boot {run.boot_id} has vanished"
                self._events.append("node_terminated", run.node_id, reason, self._clock.now())
                ended = replace(
                    run, phase=NodePhase.TERMINATED, ended_at=self._clock.now(), reason=reason
                )
                current = self._launcher.run(run.node_id)
                if current is not None and current.boot_id == run.boot_id:
                    write_run(run_path(self._state_dir, run.node_id), ended)

    def _seen(self, node: Node) -> Node:
        """A node of the store with what the process table knows better."""
        run = self._launcher.run(node.node_id)
        if run is None:
            return node
        phase = run.phase
        if phase == NodePhase.RUNNING and not is_alive(run.process):
            phase = NodePhase.TERMINATED
        return node._replace(
            phase=phase,
            pid=run.process.pid,
            boot_id=run.boot_id,
            address=run.address,
            started_at=run.started_at,
        )


def _is_new(placed: Placement, stored: Placement | None) -> bool:
    """Whether a placement has to be stored; False when it is in force already.

    Raises:
        StaleEpochError: it may not be stored.
        InvalidInputError: its epoch is below 1.
    """
    if placed.epoch < 1:
        allowed = "1 or more: the epoch that the agent is to run under"
        raise InvalidInputError("epoch", placed.epoch, allowed)
    if stored is None or placed.epoch > stored.epoch:
        return True
    same = (placed.node_id, placed.desired) == (stored.node_id, stored.desired)
    if placed.epoch == stored.epoch and same:
        return False
    raise StaleEpochError(
        f"agent {placed.agent_id}: epoch {placed.epoch} ({placed.desired} on {placed.node_id}) is "
        f"not above {stored.epoch}, under which it is {stored.desired} on {stored.node_id}",
        hint="Read the placement again and plan anew.",
    )


def _seen_on(agent: Agent, phase: NodePhase | None) -> Agent:
    """An agent with what the phase of its node says about it."""
    if phase == NodePhase.STOPPED:
        reason = f"node {agent.node_id} has stopped"
        return agent._replace(phase=AgentPhase.STOPPED, pid=None, reason=reason)
    if phase == NodePhase.TERMINATED:
        reason = f"node {agent.node_id} is gone"
        return agent._replace(phase=AgentPhase.UNKNOWN, pid=None, reason=reason)
    return agent
