"""Settings of failover: who may move agents, by which numbers, and where to."""

from __future__ import annotations

from dataclasses import dataclass

from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key

PROFILE = "profile"
"""Stands for what the profile says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverSettings:
    """Failover of nodes and regions; docs/guarantees.md has every number of both profiles."""

    enabled: bool = key(
        kinds.boolean(),
        "Whether sensors watch the fleet and move agents; commands work either way.",
        default=True,
    )
    profile: str = key(
        kinds.choice("embedded", "production"),
        "Numbers of decisions and probes: `embedded` waits seconds, `production` minutes.",
        default="embedded",
        production="production",
    )
    node_mode: str = key(
        kinds.choice(PROFILE, "observe", "approve", "auto"),
        "Who lets the agents of a lost node be moved: nobody, a person, or the controller.",
        default=PROFILE,
    )
    region_mode: str = key(
        kinds.choice(PROFILE, "off", "approve", "auto"),
        "Who lets a lost region be evacuated: nobody, a person, or the controller.",
        default=PROFILE,
    )
    fail_back_mode: str = key(
        kinds.choice(PROFILE, "off", "manual", "auto"),
        "Who lets agents go home once their region is back: nobody, a person, or the controller.",
        default=PROFILE,
    )
    head_room_percent: int = key(
        kinds.whole(0, 90, "percent"),
        "Share of every node that stays free when a region takes another one's agents in.",
        default=10,
        unit="percent",
    )
    ready_timeout_s: float = key(
        kinds.number(1, 3600, "seconds"),
        "How long moved agents are waited for before the run fails and a person is told.",
        default=120.0,
        unit="seconds",
    )
    keep_history_days: int = key(
        kinds.whole(1, 3650, "days"),
        "How long the control store keeps where agents were placed.",
        default=90,
        unit="days",
    )
