"""Tables of the lake about failover: one record type each; assets and checks share the names."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

NODE_HEALTH = "node_health"
INCIDENTS = "incidents"
READINESS = "failover_readiness"
PLACEMENTS = "placements"

FLEET = "fleet"
"""Partition in the lake of the tables that are about all regions at once."""


class NodeHealth(NamedTuple):
    """One node as the controller and the store know it."""

    node_id: str
    region: str
    state: str
    """As the controller holds it (`fleet.failover.records.NodeState`); `unwatched` when no
    controller has ever told its view."""
    since: datetime | None
    """When it went into this state; None while it has been healthy for as long as is remembered."""
    incident_id: str
    """Of its open incident; empty for none."""
    heartbeat_at: datetime | None
    """When the store took its last report; None before the first."""
    heartbeat_age_s: float | None
    """At this look."""
    lease_holder: str
    """Boot that holds its lease; empty when it was released or never taken."""
    lease_term: int
    lease_left_s: float | None
    """Until its lease ends, below 0 when it has ended; None when it never had one."""
    seen_heartbeat_age_s: float | None
    """By the controller's own clock, of a node that is not healthy; None otherwise."""
    seen_lease_age_s: float | None
    seen_work_age_s: float | None
    observers: int
    """Configured for this node, as far as it is not healthy; the votes likewise."""
    votes_dead: int
    votes_alive: int
    boot_id: str
    """Of its last report."""
    viewed_at: datetime | None
    """When the controller's view was stored; None without one."""
    looked_at: datetime


class IncidentRow(NamedTuple):
    """One incident as it stands at one look."""

    incident_id: str
    kind: str
    subject: str
    region: str
    """Empty when it is nowhere, as the controller."""
    severity: str
    state: str
    reason: str
    outcome: str
    """How it ended; empty before."""
    waits_for: str
    """The planned action that needs a person; empty for none."""
    silent_at: datetime | None
    """Last sign of life before it; None when nothing was silent."""
    opened_at: datetime
    """When it was seen."""
    decided_at: datetime | None
    """When something was decided to be done; None before."""
    done_at: datetime | None
    """When the last act was done; None while one runs, or when none was needed."""
    ended_at: datetime | None
    detection_s: float | None
    """From the last sign of life until it was seen."""
    decision_s: float | None
    """From then until it was decided what to do."""
    recovery_s: float | None
    """From the last sign of life (or from when it was seen) until the last act was done."""
    lasted_s: float
    """Until its end, or until this look."""
    agents_moved: int
    agents_parked: int
    versions_lost: int
    """Acknowledged versions of states that are gone."""
    lost_s: float
    """Age of what came back, of the agent that lost most."""
    agents_unknown: int
    """Agents of which nobody knows what they lost."""
    acknowledged_at: datetime | None
    acknowledged_by: str
    note: str
    revision: int
    looked_at: datetime


class Readiness(StrEnum):
    """Whether one claim about a takeover holds."""

    READY = "ready"
    WAIVED = "waived"
    """The settings have decided against it; the reason says what that means."""
    NOT_READY = "not_ready"


class ReadinessRow(NamedTuple):
    """One claim about the loss of one region: would others take its agents over now?"""

    region: str
    """The one that would be lost."""
    claim: str
    verdict: Readiness
    reason: str
    """One sentence with figures."""
    looked_at: datetime


class PlacedRow(NamedTuple):
    """One stored epoch of one agent, as the control store has recorded it."""

    history_id: int
    """Order of commits."""
    agent_id: str
    node_id: str
    """Empty when the agent was parked on no node."""
    region: str
    epoch: int
    term: int
    """Of the controller that moved it."""
    desired: str
    reason: str
    placed_at: datetime
    """By the store's clock."""
    change_id: int
    """Number of the newest state change committed at that moment."""
