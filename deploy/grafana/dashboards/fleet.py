"""Nodes, agents, heartbeats and leases: how the fleet is."""

from __future__ import annotations

from dashboards.shape import REGION, Dashboard, Panel

FLEET = Dashboard(
    "fleet",
    "Stateroom / Fleet",
    (
        Panel(
            "Nodes live",
            [('sum(stateroom_nodes{state="live", region=~"$region"})', "")],
            kind="stat",
            width=4,
        ),
        Panel(
            "Nodes silent",
            [('sum(stateroom_nodes{state="silent", region=~"$region"})', "")],
            kind="stat",
            width=4,
            thresholds=(1, 2),
        ),
        Panel(
            "Agents running",
            [('sum(stateroom_agents{state="running", region=~"$region"})', "")],
            kind="stat",
            width=4,
        ),
        Panel(
            "Agents without a place",
            [('sum(stateroom_agents_unplaced{region=~"$region"}) or vector(0)', "")],
            kind="stat",
            width=4,
            thresholds=(1, 10),
        ),
        Panel(
            "Incidents open",
            [("sum(stateroom_incidents_open)", "")],
            kind="stat",
            width=4,
            thresholds=(1, 3),
        ),
        Panel(
            "Alerts firing",
            [('sum(stateroom_alerts{state="firing"})', "")],
            kind="stat",
            width=4,
            thresholds=(1, 3),
        ),
        Panel(
            "Nodes by state",
            [
                (
                    'sum by (region, state) (stateroom_nodes{region=~"$region"})',
                    "{{region}} {{state}}",
                )
            ],
        ),
        Panel(
            "Agents by state",
            [
                (
                    'sum by (region, state) (stateroom_agents{region=~"$region"})',
                    "{{region}} {{state}}",
                )
            ],
        ),
        Panel(
            "Oldest heartbeat of a node",
            [
                (
                    'max by (region) (stateroom_heartbeat_age_seconds{region=~"$region"})',
                    "{{region}}",
                )
            ],
            "s",
            thresholds=(10, 30),
        ),
        Panel(
            "Time left of the shortest lease",
            [
                (
                    'min by (region) (stateroom_node_lease_remaining_seconds{region=~"$region"})',
                    "{{region}}",
                )
            ],
            "s",
        ),
        Panel(
            "Writes of agents that wait for a commit",
            [
                (
                    'sum by (region) (stateroom_node_writes_queued{region=~"$region"})',
                    "{{region}}",
                )
            ],
        ),
        Panel(
            "Scrapes that fail",
            [("count by (job) (up == 0)", "{{job}}")],
        ),
    ),
    (REGION,),
)
