"""The true state of one node and of the agents on it, with what is needed to see it late.

What an observer sees is the state at the moment of the last heartbeat that has arrived, so every
change is kept as a dated `Transition` until a later beat has been seen.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.inventory import AgentPhase
from fleet.reports import NodeDeclaration
from resources.simulated.heartbeats import Beat, Condition, Segment, append_segment, latest_beat


class Effect(NamedTuple):
    """What one fault does to one node while it lasts."""

    down: bool = False
    silent: bool = False
    paused: bool = False
    store_cut: bool = False
    controller_cut: bool = False
    cut_regions: frozenset[str] = frozenset()
    delay_us: int = 0
    skew_us: int = 0
    cpu_fraction: float = 0.0
    memory_fraction: float = 0.0
    gpus: int = 0


class Transition(NamedTuple):
    """A dated change of one agent on one node."""

    at_us: int
    epoch: int
    phase: AgentPhase | None
    """None: the node holds nothing of this agent any more."""
    restarts: int
    started_us: int
    """Start of the present process, by the node's clock."""
    reason: str


class Copy:
    """One agent on one node: what really happens there. Two copies of one agent are a zombie."""

    __slots__ = (
        "agent_id",
        "due_us",
        "generation",
        "node",
        "started",
        "transitions",
        "work_mark_us",
        "worked_us",
    )

    def __init__(self, agent_id: str, node: SimulatedNode) -> None:
        """Belong to `node`; the first transition says since when."""
        self.agent_id = agent_id
        self.node = node
        self.transitions: list[Transition] = []
        self.generation = 0
        """Rises with each change, so that a restart planned before it does nothing."""
        self.due_us = 0
        """When a copy that backs off starts again."""
        self.started: list[int] = []
        """Restarts under this epoch, oldest first; the restart policy counts them."""
        self.worked_us = 0
        """Time worked before the last transition."""
        self.work_mark_us = 0
        """The node's work clock when the present process started."""

    @property
    def last(self) -> Transition:
        """The newest transition: the truth."""
        return self.transitions[-1]

    @property
    def exists(self) -> bool:
        """The node holds something of this agent: a process, or the memory of its end."""
        return bool(self.transitions) and self.transitions[-1].phase is not None

    @property
    def runs(self) -> bool:
        """A process exists; it makes progress while its node works."""
        return bool(self.transitions) and self.transitions[-1].phase is AgentPhase.RUNNING

    def enter(self, transition: Transition, seen_us: int | None) -> None:
        """Append a transition; forget those that a beat sent at `seen_us` has made obsolete."""
        clock_us = self.node.work_clock_us(transition.at_us)
        if self.runs:
            self.worked_us += clock_us - self.work_mark_us
        self.work_mark_us = clock_us
        self.generation += 1
        kept = self.transitions
        if seen_us is not None:
            for index in range(len(kept) - 1, 0, -1):
                if kept[index].at_us <= seen_us:
                    del kept[:index]
                    break
        kept.append(transition)

    def work_us(self, now_us: int) -> int:
        """Time that processes of this copy have worked so far."""
        return self.worked_us + (
            self.node.work_clock_us(now_us) - self.work_mark_us if self.runs else 0
        )

    def seen_at(self, sent_us: int) -> Transition | None:
        """What a beat sent at `sent_us` says of this agent; None when it says nothing."""
        for transition in reversed(self.transitions):
            if transition.at_us <= sent_us:
                return transition if transition.phase is not None else None
        return None


class Summary(NamedTuple):
    """A node's agents as one beat reports them, added up."""

    running: int
    failed: int
    cpu_milli: int
    memory_bytes: int
    gpu_milli: int


class SimulatedNode:
    """One node: declaration, active faults, condition over time, agents."""

    __slots__ = (
        "boot", "booted_us", "changed_us", "changes", "condition", "copies", "declaration",
        "effects", "gpu_uuids", "index", "interval_us", "phase_us", "segments", "summary",
        "summary_key", "told_boot", "told_phase", "work_mark_us", "work_us",
    )  # fmt: skip

    def __init__(
        self, index: int, declaration: NodeDeclaration, up_us: int, interval_us: int, phase_us: int
    ) -> None:
        """Be up since `up_us`; the first beat is sent within an interval after it."""
        self.index = index
        self.declaration = declaration
        self.interval_us = interval_us
        self.phase_us = phase_us
        self.effects: dict[int, Effect] = {}
        self.condition = Condition()
        self.boot = 1
        self.booted_us = up_us
        self.segments = [Segment(self.booted_us, self.condition, self.boot, self.booted_us)]
        self.copies: dict[str, Copy] = {}
        self.changed_us = self.booted_us
        """When an agent here last changed."""
        self.changes = 0
        """How often an agent here has changed; says whether `summary` still holds."""
        self.work_us = 0
        self.work_mark_us = self.booted_us
        self.told_phase = "running"
        self.told_boot = 1
        self.summary: Summary | None = None
        self.summary_key = -1
        self.gpu_uuids: list[str] = []

    def beat(self, now_us: int) -> Beat | None:
        """The newest heartbeat that has arrived by now."""
        return latest_beat(self.segments, self.phase_us, self.interval_us, now_us)

    def enter(self, condition: Condition, now_us: int) -> None:
        """Go into another condition at `now_us`."""
        if self.condition.works:
            self.work_us += now_us - self.work_mark_us
        self.work_mark_us = now_us
        self.condition = condition
        segment = Segment(now_us, condition, self.boot, self.booted_us)
        append_segment(self.segments, segment, self.phase_us, self.interval_us)

    def work_clock_us(self, now_us: int) -> int:
        """Time this node has worked so far: up and not paused."""
        return self.work_us + (now_us - self.work_mark_us if self.condition.works else 0)
