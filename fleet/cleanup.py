"""What is left behind: idle agents, and what belongs to nothing any more.

A list with sizes, ages and reasons. Nothing is removed here or by any schedule: a person approves
each thing, and it is looked at again before it goes (`ops.cleanup_removal`). What a name in `keep`
covers is held, and said to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from fleet.costs.proposals import ProposalKind, proposal_id
from fleet.inventory import Agent, AgentPhase

CLEANUP_TABLE = "cleanup_plan"
CPU_IDLE_CORES = 0.002
"""Average below which an agent does nothing but wait; a forked observer needs 0.003."""


class LeftKind(StrEnum):
    """What kind of thing is left behind."""

    IDLE_AGENT = "idle_agent"
    RETIRED_STATE = "retired_state"
    """State of an agent that is not declared any more."""
    UNDECLARED_BACKUPS = "undeclared_backups"
    """Snapshots, volumes and indexes in a vault, of a network that is not declared any more."""
    AGENT_LOGS = "agent_logs"
    """Files on a node of an agent that is not there any more."""
    INDEX_GENERATION = "index_generation"
    """Files of a vector index that no pointer names."""
    LAKE_PARTITION = "lake_partition"
    """Rows of a region or network that is not declared any more."""


@dataclass(frozen=True, slots=True)
class CleanupPolicy:
    """From when on something counts as left behind."""

    idle_hours: int = 72
    orphan_days: int = 7
    keep: tuple[str, ...] = ()
    """Names that are held, or beginnings of names, ending in `*`."""

    def holds(self, subject: str) -> str:
        """The rule that holds a name; '' when none does."""
        for rule in self.keep:
            if subject == rule or (rule.endswith("*") and subject.startswith(rule[:-1])):
                return rule
        return ""


class Orphan(NamedTuple):
    """Something that belongs to nothing, as a reader found it."""

    kind: str
    subject: str
    """Its name, unique within its kind."""
    region: str
    """Empty where it has none."""
    size_bytes: int
    newest_at: datetime
    """When it was last written."""
    detail: str


class AgentActivity(NamedTuple):
    """What an agent did within the time that idleness is judged over."""

    tasks: float | None
    """Tasks and requests; None where it does not count them."""
    cpu_cores: float | None
    """Average; None where it was not measured."""


class CleanupProposal(NamedTuple):
    """Something that could go, and why."""

    proposal_id: str
    kind: str
    subject: str
    region: str
    size_bytes: int
    age_s: float
    """Since it last did or was anything."""
    held: bool
    saving_per_hour: float
    reason: str
    looked_at: datetime


def plan_cleanup(
    orphans: Iterable[Orphan],
    policy: CleanupPolicy,
    storage_hour: Mapping[str, float] | float,
    now: datetime,
) -> list[CleanupProposal]:
    """Proposals for what belongs to nothing and is old enough, the largest first.

    Args:
        orphans: as readers found them.
        policy: from when on, and what is held.
        storage_hour: price of a stored byte for an hour; by kind where kinds differ.
        now: moment of the look.
    """
    found = []
    for one in orphans:
        age = now - one.newest_at
        if age < timedelta(days=policy.orphan_days):
            continue
        held = policy.holds(one.subject)
        price = storage_hour if isinstance(storage_hour, float) else storage_hour[one.kind]
        told = f"{one.detail}; last written {age.days} days ago"
        found.append(
            CleanupProposal(
                proposal_id(ProposalKind.CLEANUP.value, f"{one.kind} {one.region} {one.subject}"),
                one.kind,
                one.subject,
                one.region,
                one.size_bytes,
                age.total_seconds(),
                bool(held),
                one.size_bytes * price,
                f"{told}; held by {held!r}" if held else told,
                now,
            )
        )
    return sorted(found, key=lambda row: (-row.size_bytes, row.kind, row.subject))


def find_idle_agents(
    agents: Iterable[Agent],
    activities: Mapping[str, AgentActivity],
    written_at: Mapping[str, datetime],
    price_per_hour: Mapping[str, float],
    policy: CleanupPolicy,
    now: datetime,
) -> list[CleanupProposal]:
    """Running agents that neither worked nor wrote for `idle_hours`, the dearest first.

    An agent of which nothing was measured is not judged: silence of the metrics is no idleness.

    Args:
        agents: as their nodes last reported them.
        activities: by agent, over the last `idle_hours`.
        written_at: when each agent's state was last written; absent without a state.
        price_per_hour: of what each agent is allocated.
        policy: from when on, and what is held.
        now: moment of the look.
    """
    since = now - timedelta(hours=policy.idle_hours)
    found = []
    for agent in agents:
        if agent.phase is not AgentPhase.RUNNING or agent.started_at is None:
            continue
        did = activities.get(agent.agent_id)
        wrote = written_at.get(agent.agent_id)
        if did is None or not _did_nothing(did) or agent.started_at > since:
            continue
        if wrote is not None and wrote > since:
            continue
        held = policy.holds(agent.agent_id)
        seen = max(agent.started_at, wrote or agent.started_at)
        told = f"{_told(did)} in {policy.idle_hours} h"
        found.append(
            CleanupProposal(
                proposal_id(ProposalKind.CLEANUP.value, f"idle_agent {agent.agent_id}"),
                LeftKind.IDLE_AGENT.value,
                agent.agent_id,
                agent.region,
                0,
                (now - seen).total_seconds(),
                bool(held),
                price_per_hour.get(agent.agent_id, 0.0),
                f"{told}; held by {held!r}" if held else told,
                now,
            )
        )
    return sorted(found, key=lambda row: (-row.saving_per_hour, row.subject))


def _did_nothing(did: AgentActivity) -> bool:
    if did.tasks is None and did.cpu_cores is None:
        return False
    if did.tasks:
        return False
    return did.cpu_cores is None or did.cpu_cores < CPU_IDLE_CORES


def _told(did: AgentActivity) -> str:
    said = []
    if did.tasks is not None:
        said.append("no task or request")
    if did.cpu_cores is not None:
        said.append(f"{did.cpu_cores * 1000:.1f} milli of CPU")
    return ", ".join(said)
