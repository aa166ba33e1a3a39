"""Agents: what may be declared, when a crashed one is started again, when a write is accepted.

Three decisions live here, all pure: `validate_workload` (declarations), `decide_restart` (crashes)
and `decide_put` (compare-and-swap of agent state, with the epoch as fencing token).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import FencedError, StaleEpochError, VersionConflictError

STATE_MAX_BYTES = 64 * 1024 * 1024
"""Largest agent state. Larger ones belong in files or the lake, with a reference in the state."""


class RestartMode(StrEnum):
    """Names of the restart policies, as systemd spells them."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When and how often a supervisor starts a crashed agent again on the same node.

    The delay doubles with each start inside `window_s`, up to `delay_max_s`; more than
    `attempts_max` starts inside the window leave the agent FAILED, because a crash loop must not
    use up the node (and must not tour the fleet).
    """

    mode: RestartMode = RestartMode.ON_FAILURE
    delay_s: float = 0.05
    delay_max_s: float = 30.0
    attempts_max: int = 5
    window_s: float = 600.0


@dataclass(frozen=True, slots=True)
class RestartVerdict:
    """What to do with an agent whose process ended, and why."""

    action: str
    """`restart`, `complete` or `fail`."""
    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Workload:
    """A declared group of identical agents of one network; exactly one of function, command."""

    workload: str
    network_id: str
    function: str | None = None
    """`package.module:callable`, forked from the supervisor's warm parent."""
    command: tuple[str, ...] = ()
    """Any program with its arguments, started by exec."""
    arguments: dict[str, str] = field(default_factory=dict)
    """Handed to the agent in its environment as JSON (`AGENT_ARGUMENTS`)."""
    replicas_per_node: int = 1
    cpu_milli: int = 10
    memory_bytes: int = 16 * 1024 * 1024
    bandwidth_bps: int = 0
    gpu_milli: int = 0
    gpu_memory_bytes: int = 0
    priority: int = 0
    restart: RestartPolicy = RestartPolicy()
    stateless: bool = False
    """Its agents keep nothing and may run twice for a while: those that have stored no state and
    hold no lease are moved off a dead node without waiting for its fence."""
    gpu_models: tuple[str, ...] = ()
    """Its agents run on any of these; empty: on any."""
    spread_zones: bool = False
    """Its agents are placed evenly over the zones of a region, where room allows."""
    gang: str = ""
    """Agents of the network and region with the same gang are placed together or not at all."""
    pack: bool = False
    """Without GPUs: on as few nodes as hold them, instead of evenly over all."""


def revision_of(workload: Workload) -> str:
    """A digest of what its processes are made from; other fields may change while they run."""
    made_from = [workload.function, workload.command, sorted(workload.arguments.items())]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


class Placement(NamedTuple):
    """Which node an agent belongs to; the row whose epoch fences all its writes."""

    agent_id: str
    network_id: str
    workload: str
    node_id: str
    region: str
    epoch: int
    term: int
    """Term of the controller that placed it."""
    desired: str
    """`running`, `stopped` or `parked`."""
    reason: str
    updated_at: datetime


class StatePut(NamedTuple):
    """A request to replace an agent's state."""

    agent_id: str
    epoch: int
    expected_version: int
    """Version the writer read; 0 when there was none."""
    body: bytes


class StateRestore(NamedTuple):
    """A request to put an agent's state back from a backup."""

    agent_id: str
    expected_version: int
    """Live version that the restorer saw; 0 when there was none."""
    version: int
    """Version of the state in the backup."""
    body: bytes
    digest: str = ""
    """SHA-256 of `body` in hex, where the caller has just computed it from these very bytes; empty
    to have the store compute it. A store keeps it as it is: a wrong one would be found by the first
    read, which refuses the state."""


class StateHead(NamedTuple):
    """What the store holds of an agent at the moment of a put."""

    placement_epoch: int
    placement_node_id: str
    version: int
    """0 when no state is stored."""


class AgentState(NamedTuple):
    """An agent's state as stored."""

    agent_id: str
    version: int
    epoch: int
    digest: str
    body: bytes
    updated_at: datetime


class StateChange(NamedTuple):
    """One entry of the change log, in commit order; backups read it from a cursor."""

    change_id: int
    agent_id: str
    version: int
    epoch: int
    size_bytes: int
    digest: str
    changed_at: datetime


class Activity(NamedTuple):
    """Something an agent did; the id makes a repeated delivery harmless."""

    activity_id: str
    agent_id: str
    network_id: str
    kind: str
    at: datetime
    duration_s: float | None
    ok: bool
    detail: str


class NoteVector(NamedTuple):
    """What an agent computed of its note itself; vectors of two models are never compared."""

    model: str
    """Name of the model, as the agent gives it."""
    values: bytes
    """float32, little-endian, one after the other; finite, not all zero."""

    @property
    def dimensions(self) -> int:
        """How many numbers it has."""
        return len(self.values) // 4


class Note(NamedTuple):
    """A short memory note of an agent, later embedded for similarity search."""

    note_id: str
    agent_id: str
    network_id: str
    at: datetime
    text: str
    vector: NoteVector | None = None
    """None: the platform's own model makes one."""


@dataclass(frozen=True, slots=True)
class ActivityPolicy:
    """How long the control store keeps what agents did."""

    keep_days: int = 7


def decide_restart(
    policy: RestartPolicy, exit_code: int, started_at: list[datetime], now: datetime
) -> RestartVerdict:
    """Say whether an agent whose process ended is started again.

    Args:
        policy: the workload's restart policy.
        exit_code: 0 for a clean end; negative for death by that signal.
        started_at: earlier restarts of this agent under this epoch, oldest first.
        now: the moment of the decision.

    Returns:
        `restart` with the delay in seconds, `complete`, or `fail`; always with a reason.
    """
    ended = f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    clean = exit_code == 0
    if policy.mode == RestartMode.NEVER or (policy.mode == RestartMode.ON_FAILURE and clean):
        action = "complete" if clean else "fail"
        return RestartVerdict(action, 0.0, f"{ended}; restart policy is {policy.mode}")
    since = now - timedelta(seconds=policy.window_s)
    recent = sum(1 for at in started_at if since < at <= now)
    if recent >= policy.attempts_max:
        reason = (
            f"{ended}; {recent} restarts in {policy.window_s:g} s, allowed {policy.attempts_max}"
        )
        return RestartVerdict("fail", 0.0, reason)
    delay_s = min(policy.delay_s * 2.0**recent, policy.delay_max_s)
    attempt = f"restart {recent + 1} of {policy.attempts_max}"
    return RestartVerdict("restart", delay_s, f"{ended}; {attempt} in {delay_s:g} s")


def decide_put(put: StatePut, head: StateHead | None) -> FencedError | None:
    """Say whether a put may replace the stored state; None means it may.

    The epoch is judged first: a copy that was placed away has no right to write at all, whatever
    version it knows.

    Args:
        put: the request.
        head: what the store holds, or None when the agent was never placed.

    Returns:
        The error to hand to the writer, which says who holds the state, or None.
    """
    if head is None:
        return StaleEpochError(
            f"agent {put.agent_id} has no placement",
            hint="Declare the agent in stateroom.toml, or stop this process.",
        )
    if put.epoch != head.placement_epoch:
        relation = "lower" if put.epoch < head.placement_epoch else "higher"
        return StaleEpochError(
            f"agent {put.agent_id}: epoch {put.epoch} is {relation} than {head.placement_epoch}, "
            f"which node {head.placement_node_id} holds",
            hint="This copy must stop; the other one owns the state.",
        )
    if put.expected_version != head.version:
        return VersionConflictError(
            f"agent {put.agent_id}: expected version {put.expected_version}, "
            f"stored version is {head.version} (node {head.placement_node_id}, "
            f"epoch {head.placement_epoch})",
            hint="Load the state again and repeat the change on it.",
        )
    return None


def plan_restore(
    restore: StateRestore, head: StateHead | None
) -> tuple[StatePut, StateHead | None]:
    """Translate a restore into a put, and the head that `decide_put` judges it against.

    The placement's epoch is taken, so the right to write stays where it is. When the live version
    is lower than the backup's (the control store was lost) the head is raised, so that the put
    stores the backup's version and versions never repeat.

    Args:
        restore: the request.
        head: what the store holds, or None when the agent has no placement.
    """
    expected = restore.expected_version
    if head is None:
        return StatePut(restore.agent_id, 0, expected, restore.body), None
    if head.version == expected:
        expected = max(expected, restore.version - 1)
        head = head._replace(version=expected)
    return StatePut(restore.agent_id, head.placement_epoch, expected, restore.body), head
