"""Writes the dashboards beside it: `python deploy/grafana/build_dashboards.py`.

One line here is one panel there, so that a dashboard is reviewed as what it shows. Grafana imports
the JSON as it is; the data source is chosen at the top of each dashboard. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
WIDTH = 24
"""Columns of Grafana's grid."""
HEIGHT = 8
SCHEMA_VERSION = 39
"""Of Grafana 10 and later; newer ones migrate it when they load it."""
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """One panel."""

    title: str
    targets: Sequence[tuple[str, str]]
    """PromQL and the legend of each line."""
    unit: str = "short"
    """Grafana's name of it."""
    kind: str = "timeseries"
    """`timeseries`, `stat` or `table`."""
    width: int = 8
    thresholds: tuple[float, float] | None = None
    """Where it turns orange and red."""
    description: str = ""


class Dashboard(NamedTuple):
    """One file."""

    name: str
    title: str
    panels: Sequence[Panel]
    variables: Sequence[tuple[str, str]] = ()
    """Name, and the query that gives its values."""


REGION = ("region", "label_values(stateroom_nodes, region)")
NETWORK = ("network", "label_values(agent_tasks_total, network)")
INDEX = ("index", "label_values(stateroom_index_waiting_notes, index)")

DASHBOARDS = (
    Dashboard(
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
    ),
    Dashboard(
        "agents",
        "Stateroom / Agents",
        (
            Panel(
                "Tasks per second",
                [
                    (
                        'sum by (workload) (rate(agent_tasks_total{network=~"$network", region=~"$region"}[$__rate_interval]))',
                        "{{workload}}",
                    )
                ],
                "ops",
            ),
            Panel(
                "Tasks that fail",
                [
                    (
                        'sum by (workload) (rate(agent_task_errors_total{network=~"$network", region=~"$region"}[$__rate_interval]))'
                        ' / sum by (workload) (rate(agent_tasks_total{network=~"$network", region=~"$region"}[$__rate_interval]))',
                        "{{workload}}",
                    )
                ],
                "percentunit",
                thresholds=(0.005, 0.01),
            ),
            Panel(
                "How long tasks take (p50, p95)",
                [
                    (
                        f'histogram_quantile({q}, sum by (workload, le) (rate(agent_response_seconds_bucket{{network=~"$network", region=~"$region"}}[$__rate_interval])))',
                        f"{{{{workload}}}} p{round(q * 100)}",
                    )
                    for q in (0.5, 0.95)
                ],
                "s",
                thresholds=(0.2, 0.5),
            ),
            Panel(
                "Requests per second",
                [
                    (
                        'sum by (workload) (rate(agent_requests_total{network=~"$network", region=~"$region"}[$__rate_interval]))',
                        "{{workload}}",
                    )
                ],
                "reqps",
            ),
            Panel(
                "How long requests take (p95)",
                [
                    (
                        'histogram_quantile(0.95, sum by (workload, le) (rate(agent_request_duration_seconds_bucket{network=~"$network", region=~"$region"}[$__rate_interval])))',
                        "{{workload}}",
                    )
                ],
                "s",
                thresholds=(0.2, 0.5),
            ),
            Panel(
                "Sessions open",
                [
                    (
                        'sum by (workload) (agent_active_sessions{network=~"$network", region=~"$region"})',
                        "{{workload}}",
                    )
                ],
            ),
            Panel(
                "Calls of tools per second",
                [
                    (
                        'sum by (framework, tool) (rate(agent_tool_calls_total{network=~"$network", region=~"$region"}[$__rate_interval]))',
                        "{{framework}} {{tool}}",
                    )
                ],
                "ops",
            ),
            Panel(
                "Calls of tools that fail",
                [
                    (
                        'sum by (framework, tool) (rate(agent_tool_errors_total{network=~"$network", region=~"$region"}[$__rate_interval]))'
                        ' / sum by (framework, tool) (rate(agent_tool_calls_total{network=~"$network", region=~"$region"}[$__rate_interval]))',
                        "{{framework}} {{tool}}",
                    )
                ],
                "percentunit",
                thresholds=(0.01, 0.05),
            ),
            Panel(
                "How long calls of tools take (p95)",
                [
                    (
                        'histogram_quantile(0.95, sum by (framework, tool, le) (rate(agent_tool_duration_seconds_bucket{network=~"$network", region=~"$region"}[$__rate_interval])))',
                        "{{framework}} {{tool}}",
                    )
                ],
                "s",
            ),
            Panel(
                "CPU of the ten busiest agents",
                [
                    (
                        'topk(10, agent_cpu_usage_ratio{network=~"$network", region=~"$region"})',
                        "{{agent}}",
                    )
                ],
                "percentunit",
                thresholds=(0.5, 0.8),
            ),
            Panel(
                "Memory of the ten largest agents",
                [
                    (
                        'topk(10, agent_memory_usage_bytes{network=~"$network", region=~"$region"})',
                        "{{agent}}",
                    )
                ],
                "bytes",
            ),
            Panel(
                "Restarts after crashes, per hour",
                [
                    (
                        'sum by (workload) (increase(stateroom_node_agent_restarts_total{region=~"$region"}[1h]))',
                        "{{workload}}",
                    )
                ],
            ),
        ),
        (REGION, NETWORK),
    ),
    Dashboard(
        "gpus",
        "Stateroom / GPUs",
        (
            Panel(
                "Utilization",
                [("avg by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)", "{{Hostname}} {{gpu}}")],
                "percent",
            ),
            Panel(
                "Memory in use",
                [
                    (
                        "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
                        "{{Hostname}} {{gpu}}",
                    )
                ],
                "percentunit",
                thresholds=(0.9, 0.97),
            ),
            Panel(
                "Temperature",
                [("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_TEMP)", "{{Hostname}} {{gpu}}")],
                "celsius",
                thresholds=(80, 85),
            ),
            Panel(
                "Power",
                [("sum by (Hostname) (DCGM_FI_DEV_POWER_USAGE)", "{{Hostname}}")],
                "watt",
            ),
            Panel(
                "Last Xid error",
                [("max by (Hostname, gpu) (DCGM_FI_DEV_XID_ERRORS) > 0", "{{Hostname}} {{gpu}}")],
                kind="table",
            ),
            Panel(
                "Uncorrectable memory errors, per hour",
                [
                    (
                        "sum by (Hostname, gpu) (increase(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[1h]))",
                        "{{Hostname}} {{gpu}}",
                    )
                ],
                thresholds=(1, 1),
            ),
            Panel(
                "GPUs that the driver has lost",
                [("sum(stateroom_gpu_lost) or vector(0)", "")],
                kind="stat",
                thresholds=(1, 1),
            ),
            Panel(
                "GPUs that must be replaced",
                [("sum(DCGM_FI_DEV_ROW_REMAP_FAILURE) or vector(0)", "")],
                kind="stat",
                thresholds=(1, 1),
            ),
        ),
    ),
    Dashboard(
        "backups",
        "Stateroom / Backups and recovery",
        (
            Panel(
                "What would be lost now (RPO), worst network",
                [
                    (
                        'max by (region) (stateroom_recovery_point_age_seconds{network="_worst"})',
                        "{{region}}",
                    )
                ],
                "s",
                thresholds=(1800, 3600),
            ),
            Panel(
                "How long recovery took (RTO), worst network",
                [
                    (
                        'max by (region) (stateroom_recovery_time_seconds{network="_worst"})',
                        "{{region}}",
                    )
                ],
                "s",
                thresholds=(7200, 14400),
            ),
            Panel(
                "Age of the newest backup, worst network",
                [
                    (
                        'max by (region) (stateroom_backup_age_seconds{network="_worst"})',
                        "{{region}}",
                    )
                ],
                "s",
                thresholds=(3600, 7200),
            ),
            Panel(
                "Lag of replicas, worst network",
                [
                    (
                        'max by (region) (stateroom_replica_lag_seconds{network="_worst"})',
                        "{{region}}",
                    )
                ],
                "s",
                thresholds=(1800, 3600),
            ),
            Panel(
                "Age of the proof, by level",
                [
                    (
                        'max by (level) (stateroom_backup_verified_age_seconds{network="_worst"})',
                        "{{level}}",
                    )
                ],
                "s",
            ),
            Panel(
                "Verifications that fail",
                [
                    (
                        "max by (region, network, level) (stateroom_backup_verification_failing) > 0",
                        "",
                    )
                ],
                kind="table",
            ),
            Panel(
                "RPO by network",
                [
                    (
                        'max by (network) (stateroom_recovery_point_age_seconds{network!="_worst"})',
                        "{{network}}",
                    )
                ],
                "s",
                width=24,
            ),
        ),
    ),
    Dashboard(
        "automation",
        "Stateroom / Automation",
        (
            Panel(
                "A controller leads",
                [("max(stateroom_leader_lease_held)", "")],
                kind="stat",
                width=6,
            ),
            Panel(
                "Failover is frozen",
                [("max(stateroom_controller_frozen)", "")],
                kind="stat",
                width=6,
                thresholds=(1, 1),
            ),
            Panel(
                "Automation is paused",
                [("max(stateroom_automation_paused)", "")],
                kind="stat",
                width=6,
                thresholds=(1, 1),
            ),
            Panel(
                "Incidents that nobody has acknowledged",
                [("max(stateroom_incidents_unacknowledged)", "")],
                kind="stat",
                width=6,
                thresholds=(1, 3),
            ),
            Panel(
                "Incidents open, by kind",
                [("sum by (kind) (stateroom_incidents_open)", "{{kind}}")],
            ),
            Panel(
                "How long an incident lasts",
                [
                    (
                        "sum by (kind) (increase(stateroom_failover_seconds_total[1d]))"
                        " / sum by (kind) (increase(stateroom_failovers_total[1d]))",
                        "{{kind}}",
                    )
                ],
                "s",
            ),
            Panel(
                "Age of sensors' ticks",
                [("max by (sensor) (stateroom_sensor_tick_age_seconds)", "{{sensor}}")],
                "s",
                thresholds=(120, 300),
            ),
            Panel(
                "Runs that ended, per hour",
                [
                    (
                        "sum by (dagster_job, result) (increase(stateroom_runs_total[1h]))",
                        "{{dagster_job}} {{result}}",
                    )
                ],
            ),
            Panel(
                "Circuits that are open",
                [("max by (circuit) (stateroom_circuit_open) > 0", "")],
                kind="table",
            ),
            Panel(
                "Alerts",
                [("sum by (state) (stateroom_alerts)", "{{state}}")],
            ),
            Panel(
                "Rules that cannot be evaluated",
                [
                    (
                        "sum by (rule_group) (increase(stateroom_rule_evaluation_failures_total[10m]))",
                        "{{rule_group}}",
                    )
                ],
                thresholds=(1, 1),
            ),
            Panel(
                "Lag of rollups",
                [("max by (level) (stateroom_rollup_lag_seconds)", "{{level}}")],
                "s",
            ),
            Panel(
                "Samples stored per second",
                [("sum(rate(stateroom_samples_total[$__rate_interval]))", "samples")],
                "ops",
            ),
            Panel(
                "Sources that the exporter cannot read",
                [("min by (source) (stateroom_exporter_source_up) == 0", "")],
                kind="table",
            ),
            Panel(
                "Term of the leader",
                [("max(stateroom_leader_term)", "term")],
            ),
        ),
    ),
    Dashboard(
        "vectors",
        "Stateroom / Vector indexes",
        (
            Panel(
                "Indexes that are stale",
                [
                    (
                        'count(max by (index) (stateroom_index_behind_seconds{index=~"$index"})'
                        " > on (index) max by (index) (stateroom_index_max_age_seconds)) or vector(0)",
                        "",
                    )
                ],
                kind="stat",
                width=6,
                thresholds=(1, 1),
            ),
            Panel(
                "Least recall",
                [('min(stateroom_index_recall_ratio{index=~"$index"})', "")],
                "percentunit",
                kind="stat",
                width=6,
            ),
            Panel(
                "Notes indexed",
                [('sum(max by (index) (stateroom_index_notes{index=~"$index"}))', "")],
                kind="stat",
                width=6,
            ),
            Panel(
                "Damaged parts",
                [('sum(max by (index) (stateroom_index_damaged_parts{index=~"$index"}))', "")],
                kind="stat",
                width=6,
                thresholds=(1, 1),
                description="As the last scrub found them; no data before the first.",
            ),
            Panel(
                "How long the first waiting note has waited",
                [('max by (index) (stateroom_index_behind_seconds{index=~"$index"})', "{{index}}")],
                "s",
                width=12,
                description="0: the index holds every note. A saw tooth is how it should look.",
            ),
            Panel(
                "Notes that wait",
                [('max by (index) (stateroom_index_waiting_notes{index=~"$index"})', "{{index}}")],
                width=12,
            ),
            Panel(
                "Age of the newest generation",
                [('max by (index) (stateroom_index_age_seconds{index=~"$index"})', "{{index}}")],
                "s",
                width=12,
            ),
            Panel(
                "Waiting, of what is allowed",
                [
                    (
                        'max by (index) (stateroom_index_behind_seconds{index=~"$index"})'
                        " / on (index) max by (index) (stateroom_index_max_age_seconds)",
                        "{{index}}",
                    )
                ],
                "percentunit",
                width=12,
                thresholds=(0.8, 1.0),
            ),
            Panel(
                "Recall at 10, measured at publication",
                [('min by (index) (stateroom_index_recall_ratio{index=~"$index"})', "{{index}}")],
                "percentunit",
                width=12,
            ),
            Panel(
                "Recall above its floor",
                [
                    (
                        'min by (index) (stateroom_index_recall_ratio{index=~"$index"})'
                        " - on (index) max by (index) (stateroom_index_recall_floor_ratio)",
                        "{{index}}",
                    )
                ],
                "percentunit",
                width=12,
            ),
            Panel(
                "Refreshes within an hour",
                [
                    (
                        'sum by (result) (increase(stateroom_index_refreshes_total{index=~"$index"}[1h]))',
                        "{{result}}",
                    )
                ],
                width=12,
            ),
            Panel(
                "Time of a build or update",
                [('max by (index) (stateroom_index_build_seconds{index=~"$index"})', "{{index}}")],
                "s",
                width=12,
            ),
            Panel(
                "Size",
                [('max by (index) (stateroom_index_bytes{index=~"$index"})', "{{index}}")],
                "bytes",
                width=12,
            ),
            Panel(
                "Dead rows",
                [('max by (index) (stateroom_index_dead_ratio{index=~"$index"})', "{{index}}")],
                "percentunit",
                width=12,
            ),
        ),
        (INDEX,),
    ),
)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana imports."""
    return {
        "uid": f"stateroom-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["stateroom"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "panels": _placed(dashboard.panels),
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }


def _variable(variable: tuple[str, str]) -> dict[str, Any]:
    name, query = variable
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "hide": 0,
    }


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Left to right, then down; a row is as high as any panel."""
    found, x, y = [], 0, 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        found.append(_panel(panel, number, x, y))
        x += panel.width
    return found


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.thresholds is not None:
        orange, red = panel.thresholds
        if orange < red:
            steps.append({"color": "orange", "value": orange})
        steps.append({"color": "red", "value": red})
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "instant": panel.kind != "timeseries",
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for place, (expr, legend) in enumerate(panel.targets)
        ],
    }


def text(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(document(dashboard), indent=2) + "\n"


def main() -> None:
    """Write every file."""
    for dashboard in DASHBOARDS:
        (HERE / f"{dashboard.name}.json").write_text(text(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
