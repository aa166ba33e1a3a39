"""Which damage is done when: a plan that follows from a seed alone."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple


class BlowKind(StrEnum):
    """One kind of damage."""

    KILL_NODE = "kill node"
    """SIGKILL of supervisor, zygote and agents at a stroke."""
    KILL_SUPERVISOR = "kill supervisor"
    """Only the supervisor: the zygote must notice, and end the agents."""
    KILL_ZYGOTE = "kill zygote"
    """The node starts its agents anew by itself."""
    KILL_REGION = "kill region"
    FREEZE_NODE = "freeze node"
    """SIGSTOP of the whole group, then SIGCONT: a pause of the machine."""
    FREEZE_SUPERVISOR = "freeze supervisor"
    """The agents run on until their switch ends them."""
    FREEZE_AND_KILL = "freeze and kill"
    KILL_AGENT = "kill agent"
    KILL_CONTROLLER = "kill controller"
    FREEZE_CONTROLLER = "freeze controller"


WEIGHTS: Mapping[BlowKind, int] = {
    BlowKind.KILL_NODE: 12,
    BlowKind.KILL_SUPERVISOR: 6,
    BlowKind.KILL_ZYGOTE: 3,
    BlowKind.KILL_REGION: 3,
    BlowKind.FREEZE_NODE: 12,
    BlowKind.FREEZE_SUPERVISOR: 6,
    BlowKind.FREEZE_AND_KILL: 3,
    BlowKind.KILL_AGENT: 5,
    BlowKind.KILL_CONTROLLER: 2,
    BlowKind.FREEZE_CONTROLLER: 2,
}

HEALS_BY_ITSELF = {BlowKind.KILL_ZYGOTE, BlowKind.KILL_AGENT}


class Blow(NamedTuple):
    """Something is hurt at a moment, and healed after a while."""

    at_s: float
    kind: BlowKind
    subject: str
    """A node, region, agent or controller."""
    lasts_s: float
    """Until it is started or woken again; 0 when it heals by itself."""


class Victims(NamedTuple):
    """Whom a plan may hurt."""

    nodes: Mapping[str, str]
    """node_id -> region."""
    agents: Sequence[str]
    controllers: Sequence[str]


def plan_blows(
    seed: int, duration_s: float, victims: Victims, weights: Mapping[BlowKind, int] = WEIGHTS
) -> list[Blow]:
    """A shower of damage, about one blow in three seconds, in the order of time.

    Nothing is hurt again before it was healed. Half of the freezes outlast every lease.

    Args:
        seed: two plans of one seed are the same.
        duration_s: the last blow falls before.
        victims: whom.
        weights: how often each kind is drawn.
    """
    chance, blows, at_s = random.Random(seed), [], 0.0
    hurt_until: dict[str, float] = {}
    while (at_s := at_s + chance.uniform(0.5, 5.5)) < duration_s:
        (kind,) = chance.choices(list(weights), weights=list(weights.values()))
        lasts_s = _lasting(kind, chance)
        free = [
            (subject, parts)
            for subject, parts in _subjects(kind, victims).items()
            if all(hurt_until.get(part, 0.0) < at_s for part in parts)
        ]
        if free:
            subject, parts = chance.choice(free)
            hurt_until |= dict.fromkeys(parts, at_s + lasts_s + 1.0)
            blows.append(Blow(at_s, kind, subject, lasts_s))
    return blows


def _lasting(kind: BlowKind, chance: random.Random) -> float:
    if kind in HEALS_BY_ITSELF:
        return 0.0
    if "freeze" in kind:
        return chance.choice([chance.uniform(0.2, 4.0), chance.uniform(8.0, 25.0)])
    return chance.choice([chance.uniform(1.0, 5.0), chance.uniform(10.0, 25.0)])


def _subjects(kind: BlowKind, victims: Victims) -> dict[str, tuple[str, ...]]:
    """Whom a blow of this kind may hit, with everything that it takes along."""
    if kind is BlowKind.KILL_REGION:
        regions: dict[str, tuple[str, ...]] = {}
        for node_id, region in victims.nodes.items():
            regions[region] = (*regions.get(region, ()), node_id)
        return regions
    names = victims.nodes
    if "controller" in kind:
        return {one: (one,) for one in victims.controllers}
    if kind is BlowKind.KILL_AGENT:
        return {one: (one,) for one in victims.agents}
    return {one: (one,) for one in names}
