"""Nodes, agents, the controller and incidents, as a scraper reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from fleet.circuit_breaker import BreakerPhase, BreakerStatus
from fleet.incidents import IncidentHeader, IncidentKind
from fleet.metrics.exported.readings import NETWORKS_MAX, OTHERS, ExportedFamily, Reading
from fleet.reports import RegionCounts

FAMILIES = (
    ExportedFamily(
        "stateroom_exporter_source_up",
        "gauge",
        "1 when the exporter could read this source at its last look.",
        ("source",),
        "sources (12)",
    ),
    ExportedFamily(
        "stateroom_nodes", "gauge", "Declared nodes by state.", ("region", "state"), "regions x 3"
    ),
    ExportedFamily(
        "stateroom_agents", "gauge", "Agents by state.", ("region", "state"), "regions x 5"
    ),
    ExportedFamily(
        "stateroom_agents_unplaced",
        "gauge",
        "Agents at home in this region that are to run nowhere: parked, or never placed.",
        ("network", "region"),
        f"regions x ({NETWORKS_MAX} networks + 1)",
    ),
    ExportedFamily(
        "stateroom_heartbeat_age_seconds",
        "gauge",
        "Since the store heard of the node that it has not heard of for longest.",
        ("region",),
        "regions",
    ),
    ExportedFamily(
        "stateroom_leader_lease_held",
        "gauge",
        "1 while a controller leads.",
        (),
        "1",
    ),
    ExportedFamily("stateroom_leader_term", "gauge", "Term of the controller's lease.", (), "1"),
    ExportedFamily(
        "stateroom_controller_frozen", "gauge", "1 while the controller moves nothing.", (), "1"
    ),
    ExportedFamily(
        "stateroom_automation_paused", "gauge", "1 while an operator has paused it.", (), "1"
    ),
    ExportedFamily(
        "stateroom_circuit_open",
        "gauge",
        "1 while a circuit breaker lets nothing through.",
        ("circuit",),
        "adapters",
    ),
    ExportedFamily(
        "stateroom_incidents_open",
        "gauge",
        "Incidents that have not ended, by kind.",
        ("kind",),
        "kinds of incident",
    ),
    ExportedFamily(
        "stateroom_incidents_unacknowledged",
        "gauge",
        "Open incidents that nobody has acknowledged.",
        (),
        "1",
    ),
    ExportedFamily(
        "stateroom_incidents_ended_recently",
        "gauge",
        "Incidents that ended within the last day, by kind.",
        ("kind",),
        "kinds of incident",
    ),
    ExportedFamily(
        "stateroom_incident_longest_seconds",
        "gauge",
        "Longest an incident of this kind lasted that is open or ended within the last day.",
        ("kind",),
        "kinds of incident",
    ),
)


def fleet_readings(counts: Iterable[RegionCounts], now: datetime) -> Iterator[Reading]:
    """Nodes, agents and the oldest heartbeat of each region."""
    for region in counts:
        name = region.region
        silent, live = region.nodes_silent, region.nodes_live
        for state, value in (
            ("live", live),
            ("silent", silent),
            ("never_seen", region.nodes - live - silent),
        ):
            yield Reading("stateroom_nodes", (name, state), value)
        for state, value in (
            ("declared", region.agents_declared),
            ("placed", region.agents_placed),
            ("running", region.agents_running),
            ("failed", region.agents_failed),
            ("unknown", region.agents_unknown),
        ):
            yield Reading("stateroom_agents", (name, state), value)
        if region.oldest_report_at is not None:
            age_s = max(0.0, (now - region.oldest_report_at).total_seconds())
            yield Reading("stateroom_heartbeat_age_seconds", (name,), age_s)


def unplaced_readings(counts: Mapping[tuple[str, str], int]) -> Iterator[Reading]:
    """Agents that run nowhere, by (network, home region); a pair without any has no reading.

    Networks behind the first `NETWORKS_MAX` are added up as one, so that sums stay right.
    """
    shown = set(sorted({network for network, _ in counts})[:NETWORKS_MAX])
    summed: Counter[tuple[str, str]] = Counter()
    for (network, region), value in counts.items():
        summed[network if network in shown else OTHERS, region] += value
    for key, value in sorted(summed.items()):
        yield Reading("stateroom_agents_unplaced", key, value)


def incident_readings(incidents: Sequence[IncidentHeader], now: datetime) -> Iterator[Reading]:
    """Incidents that are open or ended within the last day, by kind; every kind has a value.

    Args:
        incidents: those, and no others.
        now: up to which open ones last.
    """
    still_open = Counter(one.kind for one in incidents if one.ended_at is None)
    ended = Counter(one.kind for one in incidents if one.ended_at is not None)
    longest: dict[IncidentKind, float] = {}
    for one in incidents:
        lasted_s = max(0.0, ((one.ended_at or now) - one.opened_at).total_seconds())
        longest[one.kind] = max(longest.get(one.kind, 0.0), lasted_s)
    for kind in IncidentKind:
        yield Reading("stateroom_incidents_open", (kind.value,), still_open[kind])
        yield Reading("stateroom_incidents_ended_recently", (kind.value,), ended[kind])
        if kind in longest:
            yield Reading("stateroom_incident_longest_seconds", (kind.value,), longest[kind])
    waiting = sum(one.ended_at is None and one.acknowledged_at is None for one in incidents)
    yield Reading("stateroom_incidents_unacknowledged", (), waiting)


def controller_readings(
    *, leads: bool, term: int | None, frozen: bool, paused: bool
) -> Iterator[Reading]:
    """Whether failover would act."""
    yield Reading("stateroom_leader_lease_held", (), leads)
    if term is not None:
        yield Reading("stateroom_leader_term", (), term)
    yield Reading("stateroom_controller_frozen", (), frozen)
    yield Reading("stateroom_automation_paused", (), paused)


def circuit_readings(breakers: Iterable[BreakerStatus]) -> Iterator[Reading]:
    """Circuit breakers; of one reported by several processes, the open one counts."""
    open_by_name: dict[str, bool] = {}
    for one in breakers:
        is_open = one.phase is BreakerPhase.OPEN
        open_by_name[one.name] = open_by_name.get(one.name, False) or is_open
    for name, is_open in sorted(open_by_name.items()):
        yield Reading("stateroom_circuit_open", (name,), is_open)
