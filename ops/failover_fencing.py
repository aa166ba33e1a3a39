"""Before anything moves: does the order still hold, and can nothing write there any more?"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fleet.errors import PermanentError, StateroomError
from fleet.failover_order import FailoverOrder
from fleet.incidents import IncidentState
from fleet.inventory import NodePhase
from fleet.node_beats import NodeBeat
from ops.failover_planning import planned_before
from ops.failover_ports import FailoverPorts

BEATS_TOLD = 50
"""Names in a detail: a region of a thousand is told by its count."""

_NO_FENCE = "nothing is waited for: only agents that may run twice are moved"

_OVER = "the incident has ended: this order asks nothing of its nodes any more"

_POLL_S = 0.1
_GRACE_S = 5.0
_STOPS_AT_ONCE = 16
_MARGIN_S = 5.0
"""How much longer than the longest lease is waited: a renewal may have been on its way."""


class Fencing(NamedTuple):
    """What has become of the nodes of an order."""

    fenced: tuple[str, ...]
    """Nothing there can write any more, sorted."""
    alive: tuple[str, ...]
    """They keep their agents, sorted: they have shown life since the order was given, or it was by
    force and its incident has ended."""
    how: str
    """In words, with counts."""


def recheck(ports: FailoverPorts, order: FailoverOrder) -> tuple[str, ...]:
    """Look again before acting: is the term still ours, is it still allowed, are they still silent?

    Returns:
        The nodes of the order that are still to be left, sorted; none when all have come back.

    Raises:
        LeaseLostError: another controller leads.
        PermanentError: somebody has paused the automation.
    """
    with ports.journal(order).step(f"recheck/{order.label}", "the order is looked at again") as s:
        ports.store.demand_leader_term(order.term)
        automation = ports.store.automation()
        if automation.paused and not order.forced:
            raise PermanentError(
                f"{automation.changed_by} has paused the automation: {automation.reason}",
                hint="`stateroom resume`, or `stateroom failover ... --approve`.",
            )
        if not order.nodes:
            s.reason = f"term {order.term} leads"
            return ()
        beats = {one.node_id: one for one in ports.store.node_beats()}
        alive = (
            [] if order.forced else [one for one in order.nodes if _has_beaten(order, beats, one)]
        )
        s.detail = {"alive": alive[:BEATS_TOLD]}
        s.reason = f"{len(order.nodes) - len(alive)} of {len(order.nodes)} nodes are still silent"
        if alive:
            s.reason += f"; {', '.join(alive[:3])} reported again and stay as they are"
        return tuple(one for one in order.nodes if one not in set(alive))


def fence(ports: FailoverPorts, order: FailoverOrder, nodes: Iterable[str]) -> Fencing:
    """End what is left of the nodes' right to act, and wait for what cannot be ended.

    A lease that has run out is taken away, so that a holder which wakes up is refused at its first
    write. A process that the infrastructure has seen end needs no waiting. A lease that still runs
    is waited for; one that is renewed meanwhile is a sign of life. A node that a person has forced
    away and that does not stop when it is asked is killed, where the infrastructure can. Agents
    that may run twice need none of it.

    No sign of life stops an order by force, so the end of its incident must: a run that is taken up
    again after it leaves the nodes alone. They are back in service by then, with other agents.

    Raises:
        LeaseLostError: another controller leads.
    """
    waiting = sorted(nodes)
    if order.forced and _is_over(ports, order):
        with ports.journal(order).step(f"fence/{order.label}", _OVER):
            return Fencing((), tuple(waiting), _OVER)
    if order.stateless_only:
        with ports.journal(order).step(f"fence/{order.label}", _NO_FENCE):
            return Fencing(tuple(waiting), (), _NO_FENCE)
    with ports.journal(order).step(f"fence/{order.label}", "leases are ended") as s:
        ended = _terminated(ports, waiting)
        stopped = _stopped(ports, order, waiting, ended) if order.forced else set[str]()
        killed = _killed(ports, waiting, ended | stopped) if order.forced else set[str]()
        ended |= killed
        fenced = set(stopped)
        alive: set[str] = set()
        give_up_s = None
        while True:
            fenced |= set(ports.store.fence_nodes([*waiting], order.term))
            beats = {one.node_id: one for one in ports.store.node_beats()}
            fenced |= {one for one in waiting if one in ended or _never_acted(beats.get(one))}
            if not order.forced:
                alive = {one for one in waiting if _has_beaten(order, beats, one)} - ended
            left = [one for one in waiting if one not in fenced and one not in alive]
            if give_up_s is None:
                longest_s = max((beats[one].ttl_s for one in left if one in beats), default=0.0)
                give_up_s = ports.clock.monotonic_s() + longest_s + _MARGIN_S
            late = ports.clock.monotonic_s() > give_up_s
            if not left or late or not ports.clock.pause(_POLL_S):
                break
        alive |= set(left)
        done = Fencing(
            tuple(sorted(fenced - alive)),
            tuple(sorted(alive)),
            _in_words(fenced - alive, ended - killed, stopped, alive, killed),
        )
        s.reason, s.detail = done.how, {"alive": list(done.alive[:BEATS_TOLD])}
        return done


def _is_over(ports: FailoverPorts, order: FailoverOrder) -> bool:
    header = ports.store.incident(order.incident_id)
    return header is not None and header.state == IncidentState.ENDED


def _has_beaten(order: FailoverOrder, beats: dict[str, NodeBeat], node_id: str) -> bool:
    beat = beats.get(node_id)
    return beat is not None and beat.heartbeat_us > order.heartbeats.get(node_id, beat.heartbeat_us)


def _never_acted(beat: NodeBeat | None) -> bool:
    """Whether a node holds no lease: it never took one, gave it back, or is not declared."""
    return beat is None or not beat.holder


def _terminated(ports: FailoverPorts, nodes: Iterable[str]) -> set[str]:
    wanted = set(nodes)
    return {
        node.node_id
        for region in ports.cluster.regions()
        for node in ports.cluster.nodes(region)
        if node.node_id in wanted and node.phase == NodePhase.TERMINATED
    }


def _stopped(
    ports: FailoverPorts, order: FailoverOrder, nodes: Iterable[str], ended: set[str]
) -> set[str]:
    """Nodes that work and have stopped their agents when they were asked to.

    Who is stopped stays down until it is placed anew. So only those are whom this attempt moves:
    once it has planned, who came later is not among them, and runs on until the next attempt.
    """
    before = planned_before(ports, order)
    moves = None if before is None else {(one.agent_id, one.epoch) for one in before}
    stopped = set()
    for node_id in set(nodes) - ended:
        placed = [
            one
            for one in ports.store.placements(node_id)
            if one.desired == "running" and (moves is None or (one.agent_id, one.epoch) in moves)
        ]
        try:
            with ThreadPoolExecutor(_STOPS_AT_ONCE) as pool:
                list(pool.map(lambda one: ports.evict(one.agent_id, one.epoch, _GRACE_S), placed))
        except (StateroomError, OSError):
            continue  # then its lease is waited for, like that of a node which nobody can ask
        stopped.add(node_id)
    return stopped


def _killed(ports: FailoverPorts, nodes: Iterable[str], done: set[str]) -> set[str]:
    """Nodes that could not be asked, and of which nothing is left after they were killed.

    Named is the boot that reported last; where a newer one runs, the lease is waited for.
    """
    if ports.fencer is None:
        return set()
    wanted = set(nodes) - done
    beats = [one for one in ports.store.node_beats() if one.node_id in wanted]
    boots = {one.node_id: one.boot_id for one in beats if one.boot_id and not one.released}
    certain = {NodePhase.TERMINATED, NodePhase.STOPPED}
    verdicts = ports.fencer.fence(boots) if boots else []
    return {one.node_id for one in verdicts if one.phase in certain}


def _in_words(
    fenced: set[str], ended: set[str], stopped: set[str], alive: set[str], killed: set[str]
) -> str:
    parts = (fenced & ended, fenced & stopped, fenced - ended - stopped - killed)
    gone, asked, expired = (len(one) for one in parts)
    told = [
        f"{len(fenced & killed)} did not stop when asked and were killed" if killed else "",
        f"{gone} ended for certain" if gone else "",
        f"{asked} stopped their agents when asked" if asked else "",
        f"the leases of {expired} have run out" if expired else "",
        f"{len(alive)} still act and keep their agents" if alive else "",
    ]
    return "; ".join(one for one in told if one) or "no node is to be fenced"
