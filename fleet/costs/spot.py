"""Which workloads may run on capacity that is taken back at short notice, and why.

Advice only. What forbids it is judged first; what is left is judged by how long an agent is away
when its node is taken: the start, and the restore of its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.agents import RestartMode, Workload

SPOT_TABLE = "spot_suitability"


class SpotVerdict(StrEnum):
    """How well a workload bears losing its node."""

    SUITABLE = "suitable"
    WITH_CARE = "with care"
    """It bears it, and people notice."""
    UNSUITABLE = "unsuitable"


@dataclass(frozen=True, slots=True)
class SpotPolicy:
    """What is asked of a workload.

    Source of the notice: AWS EC2 Spot interruption notices, two minutes.
    """

    notice_s: float = 120.0
    start_s: float = 5.0
    """From the order to start an agent until it works."""
    restore_bytes_per_s: float = 50e6
    """Of a state from a backup, of one agent."""
    priority_max: int = 0
    """Workloads above it are wanted where nothing is taken back."""
    saving_ratio: float = 0.65
    """Share of the price that is saved."""


class WorkloadFacts(NamedTuple):
    """What is known of a workload's agents."""

    agents: int
    regions: int
    state_bytes_max: int
    """Largest state of an agent; 0 without any."""
    allocated_per_hour: float


class SpotSuitability(NamedTuple):
    """A workload, and whether it may run on such capacity."""

    network_id: str
    workload: str
    verdict: str
    """`suitable`, `with care` or `unsuitable`."""
    agents: int
    away_s: float
    """How long an agent is away when its node is taken back without use of the notice."""
    saving_per_hour: float
    """If all its agents ran there; 0 where it is unsuitable."""
    reason: str
    looked_at: datetime


def judge_spot(
    workloads: Iterable[Workload],
    facts: Mapping[tuple[str, str], WorkloadFacts],
    policy: SpotPolicy,
    now: datetime,
) -> list[SpotSuitability]:
    """A row for each workload that has agents, by network and name.

    Args:
        workloads: as declared.
        facts: by (network, workload).
        policy: what is asked.
        now: moment of the look.
    """
    found = []
    for one in workloads:
        known = facts.get((one.network_id, one.workload))
        if known is None or not known.agents:
            continue
        restore_s = 0.0 if one.stateless else known.state_bytes_max / policy.restore_bytes_per_s
        away_s = policy.start_s + restore_s
        verdict, reason = _judge(one, known, away_s, policy)
        saving = known.allocated_per_hour * policy.saving_ratio
        if verdict is SpotVerdict.UNSUITABLE:
            saving = 0.0
        found.append(
            SpotSuitability(
                one.network_id,
                one.workload,
                verdict.value,
                known.agents,
                away_s,
                saving,
                reason,
                now,
            )
        )
    return sorted(found)


def _judge(
    one: Workload, known: WorkloadFacts, away_s: float, policy: SpotPolicy
) -> tuple[SpotVerdict, str]:
    forbidden = list(_forbidden(one, away_s, policy))
    if forbidden:
        return SpotVerdict.UNSUITABLE, "; ".join(forbidden)
    kept = "stateless" if one.stateless else f"state of at most {known.state_bytes_max} bytes"
    back = f"{kept}, back after {away_s:.0f} s of {policy.notice_s:.0f} s notice"
    if known.agents < 2:
        return SpotVerdict.WITH_CARE, f"{back}; it is the only agent, nobody stands in"
    if not one.stateless and away_s > policy.notice_s / 2:
        return SpotVerdict.WITH_CARE, f"{back}; little of the notice is left"
    where = "1 region" if known.regions == 1 else f"{known.regions} regions"
    return SpotVerdict.SUITABLE, f"{back}; {known.agents} agents in {where}"


def _forbidden(one: Workload, away_s: float, policy: SpotPolicy) -> Iterable[str]:
    if one.restart.mode is RestartMode.NEVER:
        yield "its agents are never started again"
    if one.priority > policy.priority_max:
        yield f"priority {one.priority} is above {policy.priority_max}"
    if away_s > policy.notice_s:
        yield f"away for {away_s:.0f} s, the notice is {policy.notice_s:.0f} s"
