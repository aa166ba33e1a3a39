"""What the settings say of failover, reduced to what the core needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.errors import InvalidInputError
from fleet.failover.policy import FailoverPolicy
from fleet.failover.profiles import EMBEDDED
from fleet.probing import EMBEDDED_PROBING, ProbePolicy


@dataclass(frozen=True, slots=True)
class FailoverDeclaration:
    """By which numbers agents are moved, where to, and whether by the sensors.

    Raises:
        InvalidInputError: head-room or days out of range, or a region that takes its own agents.
    """

    policy: FailoverPolicy = EMBEDDED
    targets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Region -> regions that take its agents in, in this order."""
    head_room: float = 0.1
    """Share of every node that stays free when a region takes another one's agents in."""
    ready_timeout_s: float = 120.0
    enabled: bool = True
    """Whether sensors act; commands work either way."""
    keep_history_days: int = 90
    """How long the control store keeps where agents were placed."""
    probing: ProbePolicy = EMBEDDED_PROBING
    """How nodes probe each other, and the controller probes them: the same everywhere."""

    def __post_init__(self) -> None:
        """Refuse what no evacuation can follow."""
        if not 0 <= self.head_room < 1:
            raise InvalidInputError("head_room", self.head_room, "0 to below 1")
        if self.keep_history_days < 1:
            raise InvalidInputError("keep_history_days", self.keep_history_days, "1 or more")
        for region, targets in self.targets.items():
            if region in targets:
                raise InvalidInputError(f"failover_to of {region}", region, "other regions")
