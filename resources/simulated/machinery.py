"""What nodes and agents of the simulated cluster do when something happens to them.

Here is the truth; `views` derives from it what can be seen. A node obeys the placements only while
it can read them, that is while it works and reaches the control store: until then it goes on with
the old ones, which is how zombies come about.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from fleet.agents import Placement, RestartPolicy, decide_restart
from fleet.inventory import AgentPhase, NodePhase
from fleet.ports.cluster import ClusterEvent
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.simulated.clock import VirtualClock, as_microseconds
from resources.simulated.events import EventQueue
from resources.simulated.heartbeats import Condition, grid_after
from resources.simulated.nodes import Copy, Effect, SimulatedNode, Transition

SIGKILL_EXIT = -9
"""Exit code of a process that is killed from outside."""

_CRASH_EXITS = (1, 1, 1, -6, -9, -11)
"""How spontaneous crashes end: mostly an uncaught error, at times a signal."""

_TRANSITIONS_KEPT = 4
"""Transitions a copy collects before those that a beat has made obsolete are looked for."""


class Machinery:
    """State of all nodes and agents, and the transitions between states."""

    def __init__(
        self, clock: VirtualClock, seed: int, heartbeat_interval_s: float, events_kept: int
    ) -> None:
        """Start empty."""
        self.clock = clock
        self.queue = EventQueue(seed, events_kept)
        self.seed = seed
        self.interval_us = as_microseconds(heartbeat_interval_s)
        self.events_kept = events_kept
        self.nodes: dict[str, SimulatedNode] = {}
        self.agents: dict[str, AgentDeclaration] = {}
        self.agent_ids: list[str] = []
        self.policies: dict[str, RestartPolicy] = {}
        self.placements: dict[str, Placement] = {}
        self.assigned: dict[str, dict[str, None]] = {}
        """node_id -> the agents placed there, in the order of placing."""
        self.copies: dict[str, list[Copy]] = {}
        """agent_id -> its copies that exist."""
        self.events: list[ClusterEvent] = []
        self.events_dropped = 0

    @property
    def now_us(self) -> int:
        """The moment up to which everything has happened."""
        return self.queue.now_us

    def add_nodes(self, declarations: Iterable[NodeDeclaration], up_us: int) -> None:
        """Bring new nodes up since `up_us`; known ones take over their new declaration."""
        for declaration in declarations:
            known = self.nodes.get(declaration.node_id)
            if known is not None:
                known.declaration = declaration
                continue
            index = len(self.nodes)
            spread = (index * 2_654_435_761 + self.seed * 40_503) % self.interval_us
            node = SimulatedNode(index, declaration, up_us, self.interval_us, spread)
            self.nodes[declaration.node_id] = node

    def add_agents(self, declarations: Iterable[AgentDeclaration]) -> None:
        """Declare agents; known ones take over their new declaration."""
        for declaration in declarations:
            if declaration.agent_id not in self.agents:
                self.agent_ids.append(declaration.agent_id)
            self.agents[declaration.agent_id] = declaration
            for copy in self.copies.get(declaration.agent_id, ()):
                copy.node.changes += 1

    def place(self, placement: Placement) -> None:
        """Replace a placement that was judged before; its nodes must then `reconcile`."""
        old = self.placements.get(placement.agent_id)
        if old is not None and old.node_id != placement.node_id:
            self.assigned.get(old.node_id, {}).pop(placement.agent_id, None)
        self.placements[placement.agent_id] = placement
        if placement.node_id:
            self.assigned.setdefault(placement.node_id, {})[placement.agent_id] = None

    def reconcile(self, node: SimulatedNode, since_us: int | None = None) -> None:
        """Let a node run what is placed on it, if it can know.

        Args:
            node: which.
            since_us: when started agents are said to have started; None means now.
        """
        if not node.condition.beats:
            return
        wanted = self.assigned.get(node.declaration.node_id, {})
        for copy in [c for c in node.copies.values() if c.agent_id not in wanted]:
            if copy.exists:
                self.end(copy, "no longer placed here")
            self._forget(copy)
        for agent_id in wanted:
            placement = self.placements[agent_id]
            held = node.copies.get(agent_id)
            if placement.desired != "running":
                if held is not None and held.exists:
                    self.end(held, f"desired {placement.desired}")
            elif held is None or not held.exists or held.last.epoch < placement.epoch:
                self._start(node, placement, since_us)

    def _start(self, node: SimulatedNode, placement: Placement, since_us: int | None) -> None:
        """Start an agent's process under the epoch of its placement."""
        agent_id = placement.agent_id
        held = node.copies.get(agent_id)
        if held is None:
            held = node.copies[agent_id] = Copy(agent_id, node)
        if not held.exists:
            self.copies.setdefault(agent_id, []).append(held)
        held.started.clear()
        self._enter(held, AgentPhase.RUNNING, "started", placement.epoch, since_us)
        if since_us is None:
            detail = f"on {node.declaration.node_id} epoch {placement.epoch}"
            self.queue.record("agent_started", agent_id, detail)

    def end(self, copy: Copy, reason: str) -> None:
        """Remove a copy from its node."""
        self._enter(copy, None, reason)
        holders = self.copies[copy.agent_id]
        holders.remove(copy)
        if not holders:
            del self.copies[copy.agent_id]
        detail = f"on {copy.node.declaration.node_id} epoch {copy.last.epoch}: {reason}"
        self.queue.record("agent_ended", copy.agent_id, detail)

    def stop(self, copy: Copy, reason: str) -> None:
        """End a copy's process for good under its epoch; the node remembers why."""
        self._enter(copy, AgentPhase.STOPPED, reason)
        self.queue.record("agent_stopped", copy.agent_id, reason)

    def _forget(self, copy: Copy) -> None:
        """Drop a copy that is gone, once a beat has said so."""
        beat = copy.node.beat(self.now_us)
        if beat is not None and not copy.exists and copy.last.at_us <= beat.sent_us:
            del copy.node.copies[copy.agent_id]

    def _enter(
        self,
        copy: Copy,
        phase: AgentPhase | None,
        reason: str,
        epoch: int | None = None,
        since_us: int | None = None,
    ) -> None:
        """Put a copy into a phase now (or, for what was there from the start, at `since_us`)."""
        at_us = self.now_us if since_us is None else since_us
        node = copy.node
        last = copy.last if copy.transitions else None
        started_us = 0 if last is None else last.started_us
        if phase is AgentPhase.RUNNING:
            started_us = at_us + node.condition.skew_us
        new_epoch = epoch if epoch is not None else last.epoch if last is not None else 0
        restarts = len(copy.started)
        transition = Transition(at_us, new_epoch, phase, restarts, started_us, reason)
        beat = node.beat(self.now_us) if len(copy.transitions) >= _TRANSITIONS_KEPT else None
        copy.enter(transition, None if beat is None else beat.sent_us)
        node.changed_us = max(node.changed_us, at_us)
        node.changes += 1

    def crash_agent(self, copy: Copy, exit_code: int) -> None:
        """End a running process with an exit code; its restart policy decides what follows."""
        now = self.clock.at(self.now_us)
        workload = self.agents[copy.agent_id].workload
        policy = self.policies.get(workload, RestartPolicy())
        earlier = [self.clock.at(at_us) for at_us in copy.started]
        verdict = decide_restart(policy, exit_code, earlier, now)
        phase = {
            "restart": AgentPhase.BACKING_OFF,
            "complete": AgentPhase.COMPLETED,
            "fail": AgentPhase.FAILED,
        }[verdict.action]
        self._enter(copy, phase, verdict.reason)
        detail = f"on {copy.node.declaration.node_id}: {verdict.reason}"
        self.queue.record("agent_crashed", copy.agent_id, detail)
        if phase is AgentPhase.BACKING_OFF:
            copy.due_us = self.now_us + as_microseconds(verdict.delay_s)
            self._plan_restart(copy)

    def _plan_restart(self, copy: Copy) -> None:
        self.queue.plan(copy.due_us, partial(self._restart, copy, copy.generation))

    def _restart(self, copy: Copy, generation: int) -> None:
        """Start a copy that backed off, unless something else has happened to it since."""
        if copy.generation != generation or not copy.node.condition.works:
            return
        copy.started.append(self.now_us)
        self._enter(copy, AgentPhase.RUNNING, "restarted after a crash")
        self.queue.record("agent_restarted", copy.agent_id, f"restart {len(copy.started)}")

    def crash_randomly(self, mean_interval_us: float) -> None:
        """Crash one agent drawn from all, and plan the next crash of a Poisson process."""
        random = self.queue.random
        agent_id = self.agent_ids[random.randrange(len(self.agent_ids))]
        exit_code = random.choice(_CRASH_EXITS)
        for copy in list(self.copies.get(agent_id, ())):
            if copy.runs and copy.node.condition.works:
                self.crash_agent(copy, exit_code)
        self.plan_random_crash(mean_interval_us)

    def plan_random_crash(self, mean_interval_us: float) -> None:
        """Plan the next spontaneous crash; the mean interval is that of the whole fleet."""
        wait_us = round(self.queue.random.expovariate(1.0 / mean_interval_us))
        self.queue.plan(self.now_us + wait_us, partial(self.crash_randomly, mean_interval_us))

    def set_effect(self, node: SimulatedNode, key: int, effect: Effect | None) -> None:
        """Begin (or with None end) one fault's effect on a node, and let the node follow."""
        if effect is None:
            if node.effects.pop(key, None) is None:
                return
        else:
            node.effects[key] = effect
        self.refresh(node)

    def refresh(self, node: SimulatedNode) -> None:
        """Bring a node into the condition that its effects add up to."""
        old, new = node.condition, fold_effects(node.effects)
        if new == old:
            return
        if old.up and not new.up:
            self._take_down(node)
        booted = new.up and not old.up
        if booted:
            node.boot += 1
            node.booted_us = self.now_us + new.skew_us
        node.enter(new, self.now_us)
        if booted:
            self.queue.record("node_up", node.declaration.node_id, f"boot {node.boot}")
            self.reconcile(node)
        elif new.beats and not old.beats:
            # The node learns at its next beat what was placed meanwhile; until then its old
            # agents work on, which is the window that fencing must cover.
            at_us = grid_after(self.now_us, node.phase_us, node.interval_us)
            self.queue.plan(at_us, partial(self.reconcile, node))
        if old.paused and new.works and not booted:
            self._resume_restarts(node)
        self._record_change(node, old, new)
        self.tell(node)

    def _take_down(self, node: SimulatedNode) -> None:
        """End everything on a node at once; the dead send no report of it."""
        self.queue.record("node_down", node.declaration.node_id, f"boot {node.boot}")
        for copy in list(node.copies.values()):
            if copy.exists:
                self.end(copy, "its node went down")

    def _resume_restarts(self, node: SimulatedNode) -> None:
        for copy in node.copies.values():
            if copy.exists and copy.last.phase is AgentPhase.BACKING_OFF:
                self._plan_restart(copy)

    def _record_change(self, node: SimulatedNode, old: Condition, new: Condition) -> None:
        """Write into the history which properties of a node's condition have changed."""
        for name in Condition._fields:
            before, after = getattr(old, name), getattr(new, name)
            if before != after and name != "up":
                shown = sorted(after) if isinstance(after, frozenset) else after
                self.queue.record(f"node_{name}", node.declaration.node_id, f"{shown}")

    def tell(self, node: SimulatedNode) -> None:
        """Emit what the infrastructure now sees of a node, if that is new."""
        phase = infrastructure_phase(node)
        node_id = node.declaration.node_id
        if phase is NodePhase.UNKNOWN:
            if node.told_phase != phase:
                self.emit("node_unreachable", node_id, "the infrastructure gives no answer")
        elif phase is NodePhase.TERMINATED:
            if node.told_phase != phase:
                self.emit("node_terminated", node_id, f"boot {node.boot} is gone")
        elif node.boot != node.told_boot and node.condition.up:
            self.emit("node_started", node_id, f"boot {node.boot}")
            node.told_boot = node.boot
        elif node.told_phase != phase:
            self.emit("node_reachable", node_id, f"boot {node.boot}")
        node.told_phase = phase

    def emit(self, kind: str, subject: str, detail: str) -> None:
        """Append an event for watchers; the oldest are dropped beyond `events_kept`."""
        cursor = str(self.events_dropped + len(self.events) + 1)
        at = self.clock.at(self.now_us)
        self.events.append(ClusterEvent(cursor, kind, subject, at, detail))
        if len(self.events) > 2 * self.events_kept:
            dropped = len(self.events) - self.events_kept
            del self.events[:dropped]
            self.events_dropped += dropped


def infrastructure_phase(node: SimulatedNode) -> NodePhase:
    """What the infrastructure says of a node, which is not whether it works."""
    condition = node.condition
    if condition.controller_cut:
        return NodePhase.UNKNOWN
    if not condition.up and not condition.silent:
        return NodePhase.TERMINATED
    return NodePhase.RUNNING


def fold_effects(effects: dict[int, Effect]) -> Condition:
    """Add up all active effects: delays, skews and losses add, the rest holds if any says so."""
    if not effects:
        return Condition()
    active = effects.values()
    downs = [effect for effect in active if effect.down]
    return Condition(
        up=not downs,
        silent=bool(downs) and all(effect.silent for effect in downs),
        paused=any(effect.paused for effect in active),
        store_cut=any(effect.store_cut for effect in active),
        controller_cut=any(effect.controller_cut for effect in active),
        cut_regions=frozenset[str]().union(*(effect.cut_regions for effect in active)),
        delay_us=sum(effect.delay_us for effect in active),
        skew_us=sum(effect.skew_us for effect in active),
        cpu_fraction_lost=min(1.0, sum(effect.cpu_fraction for effect in active)),
        memory_fraction_lost=min(1.0, sum(effect.memory_fraction for effect in active)),
        gpus_lost=sum(effect.gpus for effect in active),
    )
