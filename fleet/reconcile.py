"""What a node does next so that it runs what is placed on it, nothing else and nothing twice.

Pure: the supervisor tells what is wanted (placements of the control store) and what it has
(its slots, one per agent), and gets the next actions with their reasons. Applied again and again,
the actions lead from any state to the wanted one, whichever of them were interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.inventory import AgentPhase


class WantedAgent(NamedTuple):
    """An agent that is placed on this node and desired to run."""

    agent_id: str
    epoch: int
    revision: str
    """Changes when the program or its arguments are declared anew."""


class AgentSlot(NamedTuple):
    """What a node has of one agent: a process, or the memory of how its last one ended."""

    agent_id: str
    epoch: int
    revision: str
    phase: AgentPhase
    alive: bool
    """A process exists or has been asked for."""
    kill_at: datetime | None = None
    """Set while it is being stopped: end of the grace period."""
    restart_at: datetime | None = None
    """Set while it backs off."""


class ActionKind(StrEnum):
    """What may be done with one agent."""

    START = "start"
    STOP = "stop"
    """Ask it to end, with a grace period."""
    KILL = "kill"
    FORGET = "forget"
    """Drop the slot of an agent that is not placed here any more."""


class ReconcileAction(NamedTuple):
    """One step, and why."""

    kind: ActionKind
    agent_id: str
    epoch: int
    """Of the placement for START, of the slot for the others."""
    reason: str


def plan_reconcile(
    wanted: Iterable[WantedAgent], slots: Iterable[AgentSlot], now: datetime
) -> list[ReconcileAction]:
    """Plan the next actions of a node.

    A slot with a higher epoch than the wanted one is left alone: the placements were read before
    the agent was placed anew. An agent that failed, completed or was evicted stays down under its
    epoch and revision; only a new placement or declaration starts it again.

    Args:
        wanted: agents placed here and desired to run, in any order.
        slots: what the node has, in any order.
        now: for grace periods and restart delays.

    Returns:
        At most one action per agent, ordered by agent_id; empty when all is as it should be.
    """
    by_id = {slot.agent_id: slot for slot in slots}
    actions = []
    for agent in wanted:
        slot = by_id.pop(agent.agent_id, None)
        action = _start(agent, "placed here") if slot is None else _advance(agent, slot, now)
        if action is not None:
            actions.append(action)
    for slot in by_id.values():
        action = _remove(slot, now)
        if action is not None:
            actions.append(action)
    return sorted(actions, key=lambda action: action.agent_id)


def _advance(agent: WantedAgent, slot: AgentSlot, now: datetime) -> ReconcileAction | None:
    """The next step for an agent that is wanted and has a slot."""
    if agent.epoch < slot.epoch:
        return None
    change = ""
    if agent.epoch > slot.epoch:
        change = f"placed anew: epoch {slot.epoch} -> {agent.epoch}"
    elif agent.revision != slot.revision:
        change = "declared anew"
    if slot.alive:
        if slot.kill_at is not None:
            return _kill_when_due(slot, now)
        return _slot_action(ActionKind.STOP, slot, change) if change else None
    if change:
        return _start(agent, change)
    if slot.restart_at is not None and now >= slot.restart_at:
        return _start(agent, "its restart is due")
    return None


def _remove(slot: AgentSlot, now: datetime) -> ReconcileAction | None:
    """The next step for an agent that is not wanted here."""
    if not slot.alive:
        return _slot_action(ActionKind.FORGET, slot, "not placed here, and ended")
    if slot.kill_at is not None:
        return _kill_when_due(slot, now)
    return _slot_action(ActionKind.STOP, slot, "not placed here any more")


def _kill_when_due(slot: AgentSlot, now: datetime) -> ReconcileAction | None:
    if slot.kill_at is None or now < slot.kill_at:
        return None
    return _slot_action(ActionKind.KILL, slot, "did not end within its grace period")


def _start(agent: WantedAgent, cause: str) -> ReconcileAction:
    reason = f"{cause} (epoch {agent.epoch})"
    return ReconcileAction(ActionKind.START, agent.agent_id, agent.epoch, reason)


def _slot_action(kind: ActionKind, slot: AgentSlot, reason: str) -> ReconcileAction:
    return ReconcileAction(kind, slot.agent_id, slot.epoch, reason)
