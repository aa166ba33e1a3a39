"""What could be saved, by whom and at what risk: one list of every kind of proposal.

A proposal changes nothing. Each says what it was tested on, or that it was not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from fleet.costs.prices import HOURS_A_MONTH
from fleet.costs.spot import SpotSuitability, SpotVerdict
from fleet.rightsizing.records import RightsizingAdvice, Verdict

PROPOSALS_TABLE = "saving_proposals"


class ProposalKind(StrEnum):
    """What would be changed."""

    RIGHTSIZING = "rightsizing"
    SPOT = "spot"
    CONSOLIDATION = "consolidation"
    CLEANUP = "cleanup"


class SavingProposal(NamedTuple):
    """One change, what it would save, and what says that it is safe."""

    proposal_id: str
    """Of kind and subject: the same proposal has it at every look."""
    kind: str
    subject: str
    region: str
    """Empty where it is about several."""
    saving_per_hour: float
    """Negative where the change costs more: a starved workload."""
    saving_per_month: float
    """At 730 hours."""
    tested: str
    """What it was tested on, in words."""
    reason: str
    next_step: str
    """What an operator does, if he wants it."""
    looked_at: datetime


def proposal_id(kind: str, subject: str) -> str:
    """A name for a proposal: 12 hexadecimal digits that depend on kind and subject only."""
    return blake2b(f"{kind}\0{subject}".encode(), digest_size=6).hexdigest()


def make_proposal(
    kind: ProposalKind,
    subject: str,
    region: str,
    saving_per_hour: float,
    tested: str,
    reason: str,
    next_step: str,
    now: datetime,
) -> SavingProposal:
    """A proposal with its name and its saving of a month."""
    return SavingProposal(
        proposal_id(kind.value, subject),
        kind.value,
        subject,
        region,
        saving_per_hour,
        saving_per_hour * HOURS_A_MONTH,
        tested,
        reason,
        next_step,
        now,
    )


def rightsizing_proposals(
    advice: Iterable[RightsizingAdvice], now: datetime
) -> list[SavingProposal]:
    """A proposal for each amount that should be another."""
    found = []
    for one in advice:
        if one.verdict not in {Verdict.GROW, Verdict.SHRINK}:
            continue
        ratio = one.tested_violation_ratio
        tested = (
            "not tested: the history is too short to be halved"
            if ratio is None
            else f"the newer half of the history: {ratio * 100:.1f} % of readings above the target"
        )
        name = "cpu_milli" if one.resource == "cpu" else "memory_mib"
        found.append(
            make_proposal(
                ProposalKind.RIGHTSIZING,
                f"{one.network_id}/{one.workload} {one.resource}",
                "",
                one.saving_per_hour,
                tested,
                one.reason,
                f"Set workloads.{one.workload}.{name}; agents take it at their next start.",
                now,
            )
        )
    return found


def spot_proposals(rows: Iterable[SpotSuitability], now: datetime) -> list[SavingProposal]:
    """A proposal for each workload that bears it well."""
    return [
        make_proposal(
            ProposalKind.SPOT,
            f"{one.network_id}/{one.workload}",
            "",
            one.saving_per_hour,
            "not tested: judged from its declaration and its largest state",
            one.reason,
            "Give the workload a node pool of spot capacity.",
            now,
        )
        for one in rows
        if one.verdict == SpotVerdict.SUITABLE
    ]
