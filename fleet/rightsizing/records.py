"""What right-sizing takes and answers: policy, amounts, and one row of advice per resource.

Imports nothing heavy, so that definitions and commands may name these at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import InvalidInputError

ADVICE_TABLE = "rightsizing_advice"
KILLS_TABLE = "memory_kills"
"""Kills at the limit of memory, each once: they outlive the row of the agent that shows them."""
DAY_S = 86_400
MIB = 1024 * 1024


class Resource(StrEnum):
    """What is allocated; the amounts of each are whole numbers of its unit."""

    CPU = "cpu"
    """Thousandths of a core."""
    MEMORY = "memory"
    """Bytes."""


class Verdict(StrEnum):
    """What the advice comes to."""

    GROW = "grow"
    """Allocated is below the lower bound: it is starved."""
    SHRINK = "shrink"
    """Allocated is above the upper bound: the rest is wasted."""
    HELD = "held"
    """Its replicas follow this very resource: another allocation would change their number."""
    KEEP = "keep"
    """Allocated lies between the bounds: a change would not be worth a restart."""
    UNKNOWN = "unknown"
    """Nothing was measured, or over too short a time to say anything."""


@dataclass(frozen=True, slots=True)
class RightsizingPolicy:
    """How advice is made.

    Source: kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender, logic/recommender.go and
    model/aggregations_config.go: every default but the floors, which there are 25 thousandths of a
    core and 250 MB, many times what an agent of this fleet is allocated.

    Raises:
        InvalidInputError: percentiles out of order, or a number that means nothing.
    """

    history_days: int = 8
    half_life_s: int = DAY_S
    target_percentile: float = 0.9
    lower_percentile: float = 0.5
    upper_percentile: float = 0.95
    margin: float = 0.15
    """Share that is added to what the percentile says."""
    cpu_floor_milli: int = 1
    memory_floor_bytes: int = 10 * MIB
    oom_ratio: float = 1.2
    oom_extra_bytes: int = 100 * MIB
    confidence_min_days: float = 0.5
    """Below it, the advice is `unknown`: the bounds would say nothing."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        percentiles = (self.lower_percentile, self.target_percentile, self.upper_percentile)
        if not 0 < percentiles[0] <= percentiles[1] <= percentiles[2] <= 1:
            raise InvalidInputError(
                "rightsizing.percentiles", percentiles, "0 < lower <= target <= upper <= 1"
            )
        for name in ("history_days", "half_life_s", "oom_ratio"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(f"rightsizing.{name}", getattr(self, name), "above 0")
        for name in ("margin", "cpu_floor_milli", "memory_floor_bytes", "oom_extra_bytes"):
            if getattr(self, name) < 0:
                raise InvalidInputError(f"rightsizing.{name}", getattr(self, name), "0 or more")

    def floor(self, resource: Resource) -> int:
        """Least amount that is ever advised, in the unit of the resource."""
        return self.cpu_floor_milli if resource is Resource.CPU else self.memory_floor_bytes


class Allocation(NamedTuple):
    """What the agents of a workload are allocated now."""

    network_id: str
    workload: str
    agents: int
    cpu_milli: int
    """Of one agent; the largest where they differ."""
    memory_bytes: int
    """Of one agent; the largest where they differ."""

    def amount(self, resource: Resource) -> int:
        """Allocated to one agent, in the unit of the resource."""
        return self.cpu_milli if resource is Resource.CPU else self.memory_bytes


class RightsizingAdvice(NamedTuple):
    """What one agent of a workload should be allocated of one resource, and why.

    Amounts are thousandths of a core for `cpu` and bytes for `memory`.
    """

    network_id: str
    workload: str
    resource: str
    """`cpu` or `memory`."""
    agents: int
    allocated: int
    """To one agent, now."""
    target: int | None
    """Advised; None where the verdict is `unknown`."""
    lower: int | None
    """Below it an agent is starved; None where nothing is known."""
    upper: int | None
    """Above it the rest is wasted; None where nothing is known."""
    samples: int
    """Readings of all agents: of CPU each, of memory the peak of each agent and day."""
    confidence_days: float
    """Length of the history, or of the samples at one a minute, whichever is less."""
    ooms: int
    """Agents that were killed at their limit of memory."""
    verdict: str
    """`grow`, `shrink`, `held`, `keep` or `unknown`."""
    surplus: int
    """Allocated beyond the target by all agents; negative where it is too little, 0 if unknown."""
    saving_per_hour: float
    """What the surplus costs, in the currency of the prices; negative where more is advised."""
    tested_violation_ratio: float | None
    """Advice made from the older half of the history, judged on the newer: share of its readings
    above the target. None where a half is too short."""
    reason: str
    looked_at: datetime
