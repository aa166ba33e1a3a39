"""Whether the platform itself works: leader, sensors, runs, rules, rollups."""

from __future__ import annotations

from dashboards.shape import Dashboard, Panel

AUTOMATION = Dashboard(
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
            "Decisions of rescaling, per hour",
            [
                (
                    "sum by (verdict) (increase(stateroom_scaling_decisions_total[1h]))",
                    "{{verdict}}",
                )
            ],
        ),
        Panel(
            "Replicas wanted and there",
            [
                (
                    'sum by (workload, kind) (stateroom_scaling_replicas{kind=~"desired|ready"})',
                    "{{workload}} {{kind}}",
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
        Panel(
            "Round of the collector",
            [("max(stateroom_collection_round_seconds)", "commit and rules")],
            "s",
            thresholds=(10, 15),
        ),
    ),
)
