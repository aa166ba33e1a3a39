"""After the move: let the nodes know, and wait until the agents run where they belong now."""

from collections.abc import Sequence
from typing import NamedTuple

from fleet.agents import Placement
from fleet.failover_order import FailoverOrder
from fleet.inventory import Agent, AgentPhase
from ops.failover_ports import FailoverPorts

READY_TIMEOUT_S = 120.0
"""For agents to run; those that do not by then stay listed, and their nodes go on trying."""

_POLL_S = 0.05
_COST_SHARE = 4
"""A pause is at least so many times as long as a look, so that looking never fills the time."""

_WORKING = frozenset({AgentPhase.RUNNING, AgentPhase.COMPLETED})
_NAMED = 3


class Arrival(NamedTuple):
    """How many of the moved agents run."""

    running: tuple[str, ...]
    """Run (or have completed) under the epoch of the move, sorted."""
    waiting: tuple[str, ...]
    """Do not yet, each with why: `agent: phase, reason`; sorted."""


def start(ports: FailoverPorts, order: FailoverOrder, placed: Sequence[Placement]) -> None:
    """Let the nodes know what they are to run; they would find out with their next heartbeat."""
    step = ports.journal(order).step(f"start/{order.label}", "the nodes are told")
    with step as s:
        ports.nudge(placed)
        nodes = {one.node_id for one in placed if one.desired == "running"}
        s.reason = f"{len(nodes)} nodes were told of {len(placed)} agents"


def wait_ready(
    ports: FailoverPorts,
    order: FailoverOrder,
    placed: Sequence[Placement],
    timeout_s: float = READY_TIMEOUT_S,
) -> Arrival:
    """Wait until every moved agent runs under its new epoch, or until the time is over.

    An agent that has been moved on meanwhile counts by where it is now.
    """
    wanted = {one.agent_id: one for one in placed if one.desired == "running"}
    with ports.journal(order).step(f"ready/{order.label}", "agents are waited for") as s:
        give_up_s = ports.clock.monotonic_s() + timeout_s
        arrival = _look(ports, wanted)
        while arrival.waiting and ports.clock.monotonic_s() < give_up_s:
            began_s = ports.clock.monotonic_s()
            arrival = _look(ports, wanted)
            cost_s = ports.clock.monotonic_s() - began_s
            if arrival.waiting and not ports.clock.pause(max(_POLL_S, _COST_SHARE * cost_s)):
                break
        s.reason = f"{len(arrival.running)} of {len(wanted)} agents run"
        if arrival.waiting:
            s.reason += f"; still waiting after {timeout_s:g} s: "
            s.reason += "; ".join(arrival.waiting[:_NAMED])
        return arrival


def _look(ports: FailoverPorts, wanted: dict[str, Placement]) -> Arrival:
    regions = sorted({one.region for one in wanted.values()})
    seen = {one.agent_id: one for region in regions for one in ports.store.agents(region)}
    running, waiting = [], []
    for agent_id, placement in sorted(wanted.items()):
        problem = _problem(seen.get(agent_id), placement)
        if problem:
            waiting.append(f"{agent_id}: {problem}")
        else:
            running.append(agent_id)
    return Arrival(tuple(running), tuple(waiting))


def _problem(agent: Agent | None, placement: Placement) -> str:
    """Why an agent does not count as arrived; empty when it does, or is somebody else's now."""
    if agent is None or agent.epoch > placement.epoch:
        return ""
    if agent.phase in _WORKING and agent.epoch == placement.epoch:
        return ""
    return f"{agent.phase}, {agent.reason}" if agent.reason else str(agent.phase)
