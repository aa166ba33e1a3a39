"""Who makes room for an agent that is more important, and where those go.

Only agents above a priority preempt, and only agents below theirs are preempted. All victims stand
on one node, as few as it takes; of two nodes with as many the one whose victims matter less, then
the one whose victims have run for the shortest time. A victim's new place is found before it loses
the old one; unless the policy says that victims may be parked, a node whose victims have no other
place is not taken. Together no more agents are moved than the blast radius leaves.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.placement.gpu_slots import GpuSlots
from fleet.placement.index import Claim, PlacementIndex
from fleet.placement.requests import NO_RULES, AgentSize, PlacementRules
from fleet.reports import NodeDeclaration

TRIALS_MAX = 64
"""Nodes that are tried for one agent: bounds the time in a full fleet."""


class PreemptionPolicy(NamedTuple):
    """When agents make room for others."""

    above_priority: int = 0
    """Agents of a higher priority than this may preempt; this is that of normal agents."""
    victims_max: int = 0
    """Agents that one plan may move: what the blast radius leaves. 0: nobody is preempted."""
    may_park: bool = False
    """Whether a victim without another place is parked; otherwise its node is left alone."""


class Running(NamedTuple):
    """An agent that has a node."""

    agent_id: str
    node_id: str
    size: AgentSize
    priority: int
    since_s: float
    """When it got its place, in seconds of any clock."""
    rules: PlacementRules = NO_RULES


class Preemptor(NamedTuple):
    """An agent that no node has room for."""

    agent_id: str
    region: str
    size: AgentSize
    priority: int
    rules: PlacementRules = NO_RULES


class Preemption(NamedTuple):
    """Room made for one agent."""

    preemptor: Preemptor
    node_id: str
    victims: tuple[tuple[Running, str | None], ...]
    """Each with the node that it goes to; None: it is parked. The least important first."""
    reason: str


def plan_preemptions(
    preemptors: Iterable[Preemptor],
    running: Iterable[Running],
    nodes: Sequence[NodeDeclaration],
    policy: PreemptionPolicy,
) -> list[Preemption]:
    """Make room for as many agents as the blast radius allows, the most important first.

    Args:
        preemptors: agents for which a plan has found no node.
        running: all agents that have one of `nodes`, with what they hold.
        nodes: that may take agents.
        policy: who may preempt, and how many may be moved.

    Returns:
        One for each agent that gets a place, in the order in which they were decided; each assumes
        the ones before it.

    Raises:
        InvalidInputError: a negative number of victims.
    """
    if policy.victims_max < 0:
        raise InvalidInputError("victims_max", policy.victims_max, "0 or more")
    wanted = sorted(
        (one for one in preemptors if one.priority > policy.above_priority),
        key=lambda one: (-one.priority, *one[1:], one.agent_id),
    )
    if not wanted or not policy.victims_max:
        return []
    ground = _Ground(running, nodes)
    left, done = policy.victims_max, list[Preemption]()
    for preemptor in wanted:
        found = ground.make_room(preemptor, left, may_park=policy.may_park)
        if found is not None:
            left -= len(found.victims)
            done.append(found)
    return done


class _Option(NamedTuple):
    """One node that could be taken; the lowest is the best."""

    victims: int
    priority: int
    """Of the most important victim."""
    priorities: int
    """Of all victims together."""
    newest_s: float
    """Minus the beginning of the victim that has run for longest: the youngest are moved."""
    node_id: str
    version: int
    """Of the node, when it was judged."""
    chosen: tuple[Running, ...]


class _Ground:
    """All nodes and who is on them, while room is made."""

    def __init__(self, running: Iterable[Running], nodes: Sequence[NodeDeclaration]) -> None:
        self._nodes = {node.node_id: node for node in nodes}
        self._index = PlacementIndex(nodes)
        self._on: dict[str, dict[str, Running]] = defaultdict(dict)
        self._claims: dict[str, Claim] = {}
        self._versions: dict[str, int] = defaultdict(int)
        self._changed: list[str] = []
        self._options: dict[tuple[object, ...], tuple[list[_Option], int]] = {}
        """Agents alike -> their heap, and how many changes it knows."""
        biggest = sorted(running, key=lambda one: (-one.size.gpu_milli, one.agent_id))
        for one in biggest:
            if one.node_id in self._nodes:
                self._on[one.node_id][one.agent_id] = one
                claim = self._index.take(one.node_id, one.size)
                if claim is not None:
                    self._claims[one.agent_id] = claim

    def make_room(self, wanted: Preemptor, left: int, *, may_park: bool) -> Preemption | None:
        """Take the best node whose victims can go; None when there is none.

        Room that earlier victims have left over is taken first, for nothing. Nodes are judged once
        for all agents alike, and again when something has changed there.
        """
        free = self._index.place(wanted.region, wanted.size, wanted.rules)
        if free is not None:
            return self._settle(wanted, free, [], f"takes room that was left on {free.node_id}")
        options, dear = self._options_of(wanted), list[_Option]()
        moved, trials = None, 0
        while options and moved is None and trials < TRIALS_MAX:
            option = heapq.heappop(options)
            if option.version != self._versions[option.node_id]:
                continue  # it was judged anew since
            if option.victims > left:
                dear.append(option)
                break  # the others cost as much
            moved = self._carry_out(wanted, option, may_park=may_park)
            trials += 1
        for option in dear:
            heapq.heappush(options, option)
        return moved

    def _options_of(self, wanted: Preemptor) -> list[_Option]:
        """Nodes that could be taken by such an agent, as a heap, up to date."""
        alike = wanted[1:]
        known = self._options.get(alike)
        if known is None:
            known = self._options[alike] = ([], 0)
            todo: Iterable[str] = self._nodes
        else:
            todo = dict.fromkeys(self._changed[known[1] :])
        options = known[0]
        for node_id in todo:
            option = self._option(node_id, wanted)
            if option is not None:
                heapq.heappush(options, option)
        self._options[alike] = (options, len(self._changed))
        return options

    def _option(self, node_id: str, wanted: Preemptor) -> _Option | None:
        node = self._nodes[node_id]
        if node.region != wanted.region or not _has_model(node, wanted):
            return None
        chosen = _choose_victims(node, self._on.get(node_id, {}), wanted)
        if not chosen:
            return None
        return _Option(
            len(chosen),
            max(one.priority for one in chosen),
            sum(one.priority for one in chosen),
            -min(one.since_s for one in chosen),
            node_id,
            self._versions[node_id],
            chosen,
        )

    def _carry_out(
        self, wanted: Preemptor, option: _Option, *, may_park: bool
    ) -> Preemption | None:
        """Move the victims, give the node to the agent; all as before when that cannot be."""
        if any(one.agent_id not in self._claims for one in option.chosen):
            return None  # the node holds more than it has: no room is known to become free
        freed = [(one, self._claims[one.agent_id]) for one in option.chosen]
        for _, claim in freed:
            self._index.release(claim)
        taken = self._index.take(option.node_id, wanted.size)
        homes: list[tuple[Running, Claim | None]] = []
        region = self._nodes[option.node_id].region
        for one, _ in reversed(freed):  # the most important victim is the first to find a place
            home = self._index.place(region, one.size, one.rules)
            if home is not None and home.node_id == option.node_id:
                self._index.release(home)  # other devices of the node that it was to leave
                home = None
            homes.append((one, home))
        if taken is None or (not may_park and any(claim is None for _, claim in homes)):
            for undone in (taken, *(claim for _, claim in homes)):
                if undone is not None:
                    self._index.release(undone)
            for _, claim in freed:
                self._index.take_again(claim)
            return None
        count = f"{option.victims} agent{'s' if option.victims > 1 else ''}"
        reason = (
            f"preempted {count} of priority {option.priority} or less on {option.node_id} "
            f"for priority {wanted.priority}"
        )
        return self._settle(wanted, taken, homes, reason)

    def _settle(
        self,
        wanted: Preemptor,
        taken: Claim,
        homes: Sequence[tuple[Running, Claim | None]],
        reason: str,
    ) -> Preemption:
        """Remember who is where now; the claims are made."""
        node_id = taken.node_id
        for one, claim in homes:
            del self._on[node_id][one.agent_id], self._claims[one.agent_id]
            if claim is not None:
                self._claims[one.agent_id] = claim
                self._on[claim.node_id][one.agent_id] = one._replace(node_id=claim.node_id)
                self._note_change(claim.node_id)
        self._on[node_id][wanted.agent_id] = Running(
            wanted.agent_id, node_id, wanted.size, wanted.priority, 0.0, wanted.rules
        )
        self._claims[wanted.agent_id] = taken
        self._note_change(node_id)
        victims = tuple(
            (one, None if claim is None else claim.node_id) for one, claim in reversed(homes)
        )
        return Preemption(wanted, node_id, victims, reason)

    def _note_change(self, node_id: str) -> None:
        self._versions[node_id] += 1
        self._changed.append(node_id)


def _has_model(node: NodeDeclaration, wanted: Preemptor) -> bool:
    models = wanted.rules.gpu_models
    return not wanted.size.needs_gpu or not models or node.gpu_model in models


def _choose_victims(
    node: NodeDeclaration, there: Mapping[str, Running], wanted: Preemptor
) -> tuple[Running, ...] | None:
    """The victims on one node, the least important first; None when all would not be enough.

    All that are less important are taken away, then put back one by one, the most important and
    longest running first, as long as the newcomer still fits. Nobody of those who are left could
    stay; so a node is never emptied further than needed.
    """
    lower = [one for one in there.values() if one.priority < wanted.priority]
    if not lower:
        return None
    if not _may_suffice(node, there.values(), lower, wanted.size):
        return None
    higher = [one for one in there.values() if one.priority >= wanted.priority]
    keep = [*higher]
    if not _hold_all(node, [*keep, wanted]):
        return None
    victims = []
    for one in sorted(lower, key=lambda one: (-one.priority, one.since_s, one.agent_id)):
        if _hold_all(node, [*keep, one, wanted]):
            keep.append(one)
        else:
            victims.append(one)
    return tuple(reversed(victims))


def _may_suffice(
    node: NodeDeclaration, there: Iterable[Running], lower: Iterable[Running], size: AgentSize
) -> bool:
    """A quick look at sums, which rules most nodes out."""
    freed = {one.agent_id for one in lower}
    stays = [one.size for one in there if one.agent_id not in freed]
    cpu = node.cpu_milli - sum(one.cpu_milli for one in stays)
    memory = node.memory_bytes - sum(one.memory_bytes for one in stays)
    gpu = 1000 * node.gpu_count - sum(one.gpu_milli for one in stays)
    return cpu >= size.cpu_milli and memory >= size.memory_bytes and gpu >= size.gpu_milli


def _hold_all(node: NodeDeclaration, agents: Sequence[Running | Preemptor]) -> bool:
    """Whether a node can hold these agents together, the biggest on GPUs placed first."""
    sizes = [one.size for one in agents]
    for index, room in enumerate((node.cpu_milli, node.memory_bytes, node.bandwidth_bps)):
        if sum(size[index] for size in sizes) > room and (room or index < 2):
            return False
    slots = GpuSlots(node)
    gpu = [size for size in sizes if size.needs_gpu]
    for size in sorted(gpu, key=lambda one: (-one.gpu_milli, -one.gpu_memory_bytes)):
        claim = slots.find(size)
        if claim is None:
            return False
        slots.take(claim)
    return True
