"""What a failover decision is made from, what it remembers, and what it says.

Evidence of the nodes comes in columns (`columns.NodeColumns`), so that a tick over 100,000 healthy
nodes costs a few array passes. Everything that the decision remembers between
two ticks is `FailoverState`; it holds only what is not plainly healthy (`state_json` writes it).

Two clocks appear. `*_s` moments and ages are seconds of the *receiver's* monotonic clock: nobody's
wall clock can make a node look alive or dead. `at` is the wall clock, for people and names only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.decided_moves import DecidedMove, move_key
from fleet.failover.columns import NodeColumns
from fleet.failover.rules import Rule


class NodeState(StrEnum):
    """What the controller holds a node to be."""

    HEALTHY = "healthy"
    SUSPECT = "suspect"
    """Silent for too long. Only a mark: nothing is done on suspicion."""
    CONFIRMED = "confirmed"
    """Dead by majority, or terminated."""
    FENCED = "fenced"
    """Confirmed, and nothing there can write any more."""
    MOVED = "moved"
    """Its agents belong to other nodes."""
    PROBATION = "probation"
    """Back after a move; gets no agents yet."""
    DEGRADED = "degraded"
    """One channel lost while another shows life: an alert, never a move."""
    GRAY = "gray"
    """Sends heartbeats, but nobody can use it."""
    MAINTENANCE = "maintenance"
    QUARANTINE = "quarantine"
    """Alive, but it has come and gone too often; gets no agents."""


class ControllerState(StrEnum):
    """What the controller may do."""

    ACTIVE = "active"
    FROZEN = "frozen"
    """It cannot trust what it sees: it changes nothing and removes nothing."""
    STANDBY = "standby"
    """Another one leads (or our lease is too short to act): it watches only."""


class RegionState(StrEnum):
    """How much of a region has been lost."""

    NORMAL = "normal"
    PARTIAL = "partial"
    """So many nodes at once that the cause is rather shared than theirs."""
    FULL = "full"
    """No node is left."""


class ActionKind(StrEnum):
    """What a decision can ask for."""

    ALERT = "alert"
    OPEN_INCIDENT = "open_incident"
    END_INCIDENT = "end_incident"
    FENCE_NODE = "fence_node"
    """Ask the node to stop its copies and to acknowledge."""
    MOVE_NODE = "move_node"
    """Place the node's agents elsewhere (`failover_job`)."""
    EVACUATE_REGION = "evacuate_region"
    """Place the agents of `nodes` in the backup region (`region_failover_job`)."""
    UNREGISTER_NODE = "unregister_node"
    """Take its endpoints out of discovery (healthy-panic rule applies there)."""
    REGISTER_NODE = "register_node"
    PARK_AGENT = "park_agent"
    """A crash loop on a healthy node: it must not tour the fleet."""
    REHEARSE_FAIL_BACK = "rehearse_fail_back"
    FAIL_BACK = "fail_back"
    ABORT_FAIL_BACK = "abort_fail_back"


DESTRUCTIVE = frozenset(
    {
        ActionKind.FENCE_NODE,
        ActionKind.MOVE_NODE,
        ActionKind.EVACUATE_REGION,
        ActionKind.UNREGISTER_NODE,
        ActionKind.PARK_AGENT,
        ActionKind.REHEARSE_FAIL_BACK,
        ActionKind.FAIL_BACK,
    }
)
"""Actions that change what runs or what is reachable: never while frozen, never as a standby."""


class LeaderFacts(NamedTuple):
    """Our own hold on the leader lease, as of this tick."""

    held: bool
    term: int
    """Term of the lease as we know it; goes into every action."""
    left_s: float
    """Until it ends, counted from when the renewal was *sent*."""
    renewed: bool
    """It was renewed by compare-and-swap in this tick."""
    holder: str = ""
    """Who holds it when we do not."""


class AgentCrashes(NamedTuple):
    """An agent that has been started again on its node."""

    agent_id: str
    node_id: str
    epoch: int
    restarts: int
    """Starts again inside the policy's window (`crash_window_s`)."""


class IncidentFact(NamedTuple):
    """An incident that the store holds as not ended."""

    incident_id: str
    subject: str
    """`node/<id>` or `region/<name>`."""
    agents_pending: int = 0
    """Agents that it has moved and that neither run again nor are parked yet."""


class Directives(NamedTuple):
    """What people have ordered; each name is an action's `key`, a subject, or an incident id."""

    paused: str = ""
    """Who paused the automation and why; empty when it runs."""
    approved: frozenset[str] = frozenset()
    """Keys of actions (`Action.key`) that may be done although a rule asks for a person."""
    acknowledged: frozenset[str] = frozenset()
    """Subjects whose cool-downs, quarantine and repeated alerts are lifted."""
    forced: frozenset[str] = frozenset()
    """Subjects that are to be failed over whatever the evidence says; fencing still holds."""
    rehearsed: frozenset[str] = frozenset()
    """Regions whose fail-back has been rehearsed with success since they came back."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Everything that one tick knows."""

    at: datetime
    """Wall clock, aware UTC: for names of incidents and business windows, never for ages."""
    clock_id: str
    """Names the monotonic clock of `now_s`: boot and process. Another one restarts all ages."""
    nodes: NodeColumns
    leader: LeaderFacts
    store_reachable: bool = True
    observers_configured: int = 1
    """All observers that there should be, the controller included."""
    observers_reporting: int = 1
    """Those with a fresh report, the controller included."""
    directives: Directives = field(default_factory=Directives)
    crashes: tuple[AgentCrashes, ...] = ()
    incidents: tuple[IncidentFact, ...] = ()
    agents_abroad: Mapping[str, int] = field(default_factory=dict)
    """Home region -> its agents that a region failover has put elsewhere."""
    earlier_moves: tuple[DecidedMove, ...] | None = ()
    """Of any leader within the window of the blast radius; None: they could not be read. Looked at
    in the first tick of a term that is ours (`FailoverState.moves_term`)."""
    earlier_evacuations: Mapping[str, str] = field(default_factory=dict)
    """Region with agents abroad -> the newest incident of its loss; read with `earlier_moves`."""


class NodeMark(NamedTuple):
    """What is remembered of a node that is not plainly healthy, or was not lately."""

    node_id: str
    state: NodeState = NodeState.HEALTHY
    since_s: float = 0.0
    """Since when it is in this state (or since when the state's timer counts)."""
    suspect_s: float = 0.0
    """When it was first suspected in this outage."""
    incident: str = ""
    """Id of its open incident."""
    confirmed_by: str = ""
    """`terminated`, `votes` or `forced`."""
    fenced_by: str = ""
    """`terminated`, `stopped` or `lease`."""
    moved_s: float | None = None
    """When its move was last asked for."""
    attempts: int = 0
    """How often the move was asked for in this incident."""
    fence_s: float | None = None
    """When the stop of its copies was last asked for; None while it never was."""
    stateless_moved: bool = False
    """Its stateless agents were moved ahead of the fence."""
    cool_until_s: float = 0.0
    """No automatic move before that."""
    flaps_s: tuple[float, ...] = ()
    """When suspicions of it were cleared, inside the policy's window."""
    returns_s: tuple[float, ...] = ()
    """When it came back after a move, inside the policy's window."""
    probation_s: float = 0.0
    """Length of the present probation."""
    watch_from_s: float = 0.0
    """No age of this node counts from before (end of a maintenance)."""
    gray_s: float | None = None
    """Since when it beats while a majority cannot use it."""
    unregistered: bool = False
    """We took it out of discovery (gray), and have not put it back."""
    told: tuple[str, ...] = ()
    """Alerts that have been raised in this state."""


class RegionMark(NamedTuple):
    """What is remembered of a region that is not plainly normal."""

    region: str
    state: RegionState = RegionState.NORMAL
    since_s: float = 0.0
    """Since when it is in this state."""
    incident: str = ""
    evacuated_s: float | None = None
    """When its evacuation was first asked for; None when it was not."""
    wave: int = 0
    """Number of evacuation actions so far."""
    calm_s: float | None = None
    """Since when every node is healthy again."""
    evacuation: str = ""
    """Id of the incident that evacuated it; names its fail-back, too."""
    fail_back_s: float | None = None
    """When the last step of the fail-back was asked for; None while none runs."""
    told: tuple[str, ...] = ()


class MoveNote(NamedTuple):
    """One move that was asked for, kept for as long as a limit looks back."""

    at_s: float
    subject: str
    region: str
    agents: int
    evacuation: bool
    key: str = ""
    """`Action.move_key`: a move that is asked for again in its incident counts once."""
    ordered: bool = True
    """False: its order could not be handed out, so others may have moved before it does."""


@dataclass(frozen=True, slots=True)
class FailoverState:
    """Everything remembered between two ticks; the first tick gets `FailoverState()`."""

    clock_id: str = ""
    """Clock that all `_s` moments below belong to."""
    tick_s: float | None = None
    """Moment of the last tick."""
    ages_from_s: float = 0.0
    """No age counts from before this moment."""
    controller: ControllerState = ControllerState.STANDBY
    frozen_by: tuple[str, ...] = ()
    """Rules that froze it, while it is frozen."""
    nodes: Mapping[str, NodeMark] = field(default_factory=dict)
    regions: Mapping[str, RegionMark] = field(default_factory=dict)
    moves: tuple[MoveNote, ...] = ()
    moves_term: int = 0
    """Our term in which the moves of earlier leaders were counted in; 0: in none."""
    parked: Mapping[str, float] = field(default_factory=dict)
    """`agent@epoch` -> when its parking was asked for."""


class Reason(NamedTuple):
    """One fact that counted, with the value seen and the limit it was held against."""

    fact: str
    """What was looked at, for example `silence_s`."""
    seen: float | str
    limit: float | str | None = None


class Action(NamedTuple):
    """Something to do now."""

    kind: ActionKind
    subject: str
    """`node/<id>`, `region/<name>`, `agent/<id>` or `controller`."""
    rule: Rule
    """The rule that calls for it."""
    reasons: tuple[Reason, ...]
    incident: str = ""
    term: int = 0
    """Our term; the executor checks it again at the moment of acting."""
    nodes: tuple[str, ...] = ()
    """Nodes that it acts on, sorted."""
    agents: int = 0
    """Agents concerned, as far as known."""
    attempt: int = 1
    stateless_only: bool = False
    """Move only agents that may run twice: the node is not fenced yet."""
    agents_max: int | None = None
    """Fail-back: how many agents this step may move."""
    summary: str = ""
    """What an alert says, in one line."""

    @property
    def key(self) -> str:
        """Name for approvals and for the idempotency of runs; the attempt is not part of it."""
        parts = [self.kind.value, self.subject, self.incident]
        if self.kind is ActionKind.ALERT:
            parts.append(self.rule.value)
        if self.stateless_only:
            parts.append("stateless")
        return ":".join(part for part in parts if part)

    @property
    def move_key(self) -> str:
        """Under what the budget counts it: all attempts, and a forced fence's run, are one move."""
        return move_key(self.subject, self.incident, early=self.stateless_only)

    @property
    def approval_keys(self) -> frozenset[str]:
        """Keys of which any one lets it be done: a person allows a node's failover once.

        Fencing a node, moving its stateless agents and moving the others are steps of one failover;
        whoever has allowed one of them in this incident has allowed all.
        """
        if self.kind not in {ActionKind.FENCE_NODE, ActionKind.MOVE_NODE}:
            return frozenset({self.key})
        whole = self._replace(kind=ActionKind.MOVE_NODE, stateless_only=False)
        steps = (
            whole,
            whole._replace(kind=ActionKind.FENCE_NODE),
            whole._replace(stateless_only=True),
        )
        return frozenset(one.key for one in steps)


class NonAction(NamedTuple):
    """Something that would have been done, and the rule that kept it from being done."""

    action: Action
    """What would have been done."""
    rule: Rule
    """The rule that limited it."""
    reasons: tuple[Reason, ...]
    """Values that the rule saw."""
    wait_s: float | None = None
    """Until the rule would allow it by itself; None: a person must, or something must change."""
    approvable: bool = False
    """Approving `action.key` lifts the rule."""


class Transition(NamedTuple):
    """A node, a region or the controller went from one state into another in this tick."""

    subject: str
    before: str
    after: str
    rule: Rule
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What one tick says."""

    state: FailoverState
    """Give it to the next tick."""
    actions: tuple[Action, ...]
    non_actions: tuple[NonAction, ...]
    transitions: Sequence[Transition]
    """In order; those of nodes are written out when they are first read."""
    controller: ControllerState
    frozen_by: tuple[Rule, ...] = ()
    ages_restarted: bool = False
    """All ages count from this tick on."""
