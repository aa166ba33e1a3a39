"""When a rollout of a workload is under way, seen from one look to the next.

A workload is rolled out when its agents are made from something else than before: another program,
other arguments (`fleet.agents.revision_of`). On a fleet of our own nodes an agent ends before it
begins anew, under the same name: no copy is ever there twice, so there is no surge; whoever lets
old and new copies run at once (a Deployment of Kubernetes) names those in `Rollout.surge`. What
remains is that new agents have no samples yet, and they raise nothing for so long.

What is remembered is which revision was seen last and since when another one has been; it travels
with the autoscaler's state, so another controller goes on in the middle of a rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.rescaling.context import Rollout
from fleet.rescaling.memory import moment_in, moment_text, note, recall
from fleet.rescaling.observation import AutoscalerState
from fleet.rescaling.pods import WorkloadAgents
from fleet.rescaling.rollout import FREEZE_MAX_S

MEMORY = "revision"
"""Key of what is remembered in `AutoscalerState.details`."""

SETTLE_S = 60.0
"""So long after another revision was seen first a rollout is under way at least: by then every node
that works has read it (they look every few seconds) and has begun to exchange its agents."""


class Watched(NamedTuple):
    """What a look has found."""

    rollout: Rollout | None
    """None: none is under way."""
    details: Mapping[str, str]
    """To be remembered, in place of what was given."""


def watch_rollout(
    details: Mapping[str, str], revision: str, agents: WorkloadAgents, now: datetime
) -> Watched:
    """Take one look in.

    A rollout is over when all its agents that have a node are ready, `SETTLE_S` after it began at
    the earliest, and `FREEZE_MAX_S` after it at the latest. The first revision ever seen is none.

    Args:
        details: what the autoscaler remembers.
        revision: that the workload is declared with; empty: not known, nothing is taken in.
        agents: of the workload in one region, now.
        now: moment of the look.

    Raises:
        InvalidInputError: what is remembered was damaged.
    """
    if not revision:
        return Watched(None, details)
    before = recall(details, MEMORY)
    since = None if before is None else moment_in(MEMORY, before, "since")
    if before is not None and before.get("revision") != revision:
        since = now
    if since is not None and _is_over(since, agents, now):
        since = None
    memory = note({"revision": revision, "since": moment_text(since)})
    if memory != details.get(MEMORY):
        details = {**details, MEMORY: memory}
    return Watched(None if since is None else Rollout(since), details)


def remembering(state: AutoscalerState, details: Mapping[str, str]) -> AutoscalerState:
    """The state with these details; the same one where they are its own."""
    return state if details is state.details else replace(state, details=details)


def _is_over(since: datetime, agents: WorkloadAgents, now: datetime) -> bool:
    elapsed = now - since
    if elapsed > timedelta(seconds=FREEZE_MAX_S):
        return True
    at_work = (one for one in agents.not_ready if one.placement and one.placement.node_id)
    return elapsed >= timedelta(seconds=SETTLE_S) and next(at_work, None) is None
