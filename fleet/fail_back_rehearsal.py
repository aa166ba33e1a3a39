"""What a rehearsal of a fail-back looks at, and what it makes of it; it moves nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.inventory import Node, NodePhase

_NAMED = 3


class RehearsalFacts(NamedTuple):
    """What was seen of one region and of its agents that run elsewhere."""

    region: str
    placed: int
    """Agents that have a place at home now."""
    staying: int
    """Agents that have none, and would stay where they are."""
    nodes: Sequence[Node]
    """Of the region, as the run would see them."""
    damaged: Sequence[str] = ()
    """Agents whose state cannot be read, so that they could not start again."""
    routers: Mapping[str, str] = {}
    """Router -> why it could not be asked; '' when it answered."""


def rehearsal_problems(facts: RehearsalFacts) -> list[str]:
    """Why not all agents could go home now, one sentence each; empty when they could."""
    problems = []
    if facts.staying:
        problems.append(f"{facts.staying} agents have no place at home, and would stay")
    odd = [one for one in facts.nodes if one.phase != NodePhase.RUNNING]
    if odd:
        names = ", ".join(f"{one.node_id} {one.phase.value}" for one in odd[:_NAMED])
        problems.append(f"{len(odd)} of {len(facts.nodes)} nodes do not run ({names})")
    if facts.damaged:
        names = ", ".join(facts.damaged[:_NAMED])
        problems.append(f"the states of {len(facts.damaged)} agents cannot be read ({names})")
    problems += [
        f"router {name} cannot be asked: {why}"
        for name, why in sorted(facts.routers.items())
        if why
    ]
    return problems


def rehearsal_text(facts: RehearsalFacts) -> str:
    """The result in one sentence, for the incident and the approval."""
    problems = rehearsal_problems(facts)
    if problems:
        return f"the rehearsal fails: {'; '.join(problems)}"
    whole = f"all {facts.placed} agents have a place on {len(facts.nodes)} running nodes"
    return f"{whole}, their states can be read, {len(facts.routers)} routers answer"
