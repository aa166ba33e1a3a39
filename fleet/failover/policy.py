"""How long to wait, how many to believe, how much to move: the numbers of failover as one record.

`profiles.py` holds the two shipped sets; `docs/guarantees.md` says line by line what each number
costs. A policy that exists is consistent: `__post_init__` refuses numbers that contradict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from fleet.errors import InvalidInputError


class Mode(StrEnum):
    """Who lets a planned action happen."""

    OBSERVE = "observe"
    """Nobody: it is only shown (dry run)."""
    APPROVE = "approve"
    """A person, by approving its key."""
    AUTO = "auto"


class RegionMode(StrEnum):
    """Who lets a whole region be evacuated."""

    OFF = "off"
    APPROVE = "approve"
    AUTO = "auto"


class FailBackMode(StrEnum):
    """Who lets agents go back to a region that has come back."""

    OFF = "off"
    MANUAL = "manual"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class FailoverPolicy:
    """Every number and switch of failover; the defaults are those of the `production` profile.

    Raises:
        InvalidInputError: a number out of its range, or two that contradict.

    Source: design of this project after Kubernetes' node lifecycle controller (55 %, 50 nodes,
        1/10 rate), Patroni (ttl and loop), orchestrator (cool-down, acknowledgement).
    """

    # -- the tick ---------------------------------------------------------------------------------
    tick_interval_s: float = 5.0
    """Longest regular time between two ticks."""
    tick_gap_intervals: float = 3.0
    """A gap of more intervals than this means that we were paused: all ages restart."""
    leader_left_min_s: float = 5.0
    """Less of the leader lease than this is too short to act under."""

    # -- suspicion and confirmation ---------------------------------------------------------------
    suspect_min_s: float = 30.0
    suspect_intervals: float = 3.0
    """Silence of so many of the node's own mean intervals, where that is longer than the least."""
    suspect_cap_s: float = 90.0
    confirm_s: float = 30.0
    """How long a node stays suspect before votes may confirm its death."""
    undecided_windows: float = 3.0
    """After so many times `confirm_s` without a verdict a person is told."""
    contrary_fresh_s: float = 15.0
    """A lease renewal or work seen within this time contradicts silence."""
    terminated_margin_s: float = 5.0
    """A sign of life that arrives later than this after "terminated" contradicts it."""
    observers_min: int = 3
    """Observers that must be configured for a node, else votes confirm nothing."""
    vote_domains_min: int = 2
    vote_outside_min: int = 1

    # -- fencing ----------------------------------------------------------------------------------
    lease_ttl_s: float = 60.0
    """Of leases whose node does not say its own."""
    fence_margin_s: float = 5.0

    # -- the way back -----------------------------------------------------------------------------
    probation_s: float = 120.0
    """After a return; doubles with each further return within `return_window_s`."""
    probation_max_s: float = 3600.0
    return_window_s: float = 3600.0
    flaps_max: int = 3
    flap_window_s: float = 1800.0
    quarantine_s: float = 1800.0
    """Without a further flap; acknowledging ends it at once."""

    # -- self test --------------------------------------------------------------------------------
    mass_loss_fraction: float = 0.9
    channel_fault_fraction: float = 0.5

    # -- limits -----------------------------------------------------------------------------------
    node_mode: Mode = Mode.AUTO
    node_modes: Mapping[str, Mode] = field(default_factory=dict)
    """Region -> mode, where it differs."""
    gray_mode: Mode = Mode.AUTO
    """Taking gray nodes out of discovery."""
    park_mode: Mode = Mode.AUTO
    """Parking agents in a crash loop."""
    blast_fraction: float = 0.25
    """Of all agents, within the window, outside of evacuations; the first move is always free."""
    blast_window_s: float = 600.0
    rate_nodes_min: int = 1
    rate_fraction: float = 0.005
    """Moves begun in one rate window: the larger of the two."""
    rate_window_s: float = 10.0
    cool_down_s: float = 300.0
    """Between two automatic moves of one node."""
    move_retry_s: float = 120.0
    """A move whose agents are still in place is asked for again after this."""

    # -- regions ----------------------------------------------------------------------------------
    partial_nodes_min: int = 3
    partial_fraction: float = 0.55
    partial_small_nodes: int = 50
    """In a partial region of up to so many nodes a person decides each move."""
    partial_rate_divisor: float = 10.0
    """In a larger one moves are this many times slower."""
    region_verdict_s: float = 120.0
    region_confirmed_fraction: float = 0.5
    """More than this share of the lost nodes must be confirmed before the verdict."""
    region_mode: RegionMode = RegionMode.APPROVE
    region_modes: Mapping[str, RegionMode] = field(default_factory=dict)

    # -- crash loops ------------------------------------------------------------------------------
    crash_restarts_max: int = 3
    crash_window_s: float = 600.0

    # -- fail-back --------------------------------------------------------------------------------
    fail_back_mode: FailBackMode = FailBackMode.MANUAL
    fail_back_calm_s: float = 1800.0
    """Every node of the region healthy for so long; any relapse restarts it."""
    fail_back_step_agents: int = 200
    fail_back_step_s: float = 60.0
    """Between two steps."""
    fail_back_hours_utc: tuple[int, int] = (8, 16)
    """Business window: from the first hour, up to but not including the second."""
    fail_back_weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Monday is 0."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range and numbers that contradict each other."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            _check(item.name, value)
        self._check_order("suspect_min_s", "suspect_cap_s")
        self._check_order("contrary_fresh_s", "suspect_min_s")
        self._check_order("probation_s", "probation_max_s")
        first, last = self.fail_back_hours_utc
        if not 0 <= first < last <= 24:
            raise InvalidInputError(
                "fail_back_hours_utc", self.fail_back_hours_utc, "0 <= first < last <= 24"
            )
        if not set(self.fail_back_weekdays) <= set(range(7)):
            raise InvalidInputError("fail_back_weekdays", self.fail_back_weekdays, "0 to 6")

    def _check_order(self, lower: str, upper: str) -> None:
        if getattr(self, lower) > getattr(self, upper):
            allowed = f"at most {upper} ({getattr(self, upper):g})"
            raise InvalidInputError(lower, getattr(self, lower), allowed)

    @property
    def moves_window_s(self) -> float:
        """How far back any limit looks at moves."""
        rate_s = self.rate_window_s * self.partial_rate_divisor
        return max(self.blast_window_s, rate_s, self.cool_down_s)

    def node_mode_in(self, region: str) -> Mode:
        """Who lets nodes of this region be failed over."""
        return self.node_modes.get(region, self.node_mode)

    def region_mode_of(self, region: str) -> RegionMode:
        """Who lets this region be evacuated."""
        return self.region_modes.get(region, self.region_mode)


_RANGES: dict[str, tuple[float, float]] = {
    "mass_loss_fraction": (0.01, 1.0),
    "channel_fault_fraction": (0.01, 1.0),
    "blast_fraction": (0.0, 1.0),
    "rate_fraction": (0.0, 1.0),
    "partial_fraction": (0.01, 1.0),
    "region_confirmed_fraction": (0.0, 0.99),
    "vote_outside_min": (0, 1000),
    "terminated_margin_s": (0.0, 86_400.0),
    "fence_margin_s": (0.0, 86_400.0),
    "cool_down_s": (0.0, 86_400.0),
    "probation_s": (0.0, 86_400.0),
    "confirm_s": (0.0, 86_400.0),
    "region_verdict_s": (0.0, 86_400.0),
    "fail_back_calm_s": (0.0, 30 * 86_400.0),
    "fail_back_step_s": (0.0, 86_400.0),
    "tick_gap_intervals": (1.0, 1000.0),
    "undecided_windows": (1.0, 1000.0),
    "partial_rate_divisor": (1.0, 1000.0),
}
"""Closed ranges; times without one are 0.001 s to a day, counts 1 to a million."""


def _check(name: str, value: float) -> None:
    default = (0.001, 86_400.0) if name.endswith("_s") else (1, 1_000_000)
    lowest, highest = _RANGES.get(name, default)
    if not (math.isfinite(value) and lowest <= value <= highest):
        raise InvalidInputError(name, value, f"{lowest:g} to {highest:g}")
