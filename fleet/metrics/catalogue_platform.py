"""Metrics of the platform: fleet, backups, metrics themselves, indexes."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.metrics.metric_spec import COUNTER, GAUGE, HISTOGRAM, Metric

COPY = ("network", "region")


def fleet() -> Iterable[Metric]:
    """Of the fleet as the control store has it."""
    who = "exporter"
    yield Metric(
        "stateroom_nodes", GAUGE, "", ("phase", "region"), "regions x 6", who, "Nodes by phase."
    )
    yield Metric(
        "stateroom_agents",
        GAUGE,
        "",
        ("network", "phase", "region"),
        "networks x regions x 7",
        who,
        "Declared agents by phase.",
    )
    yield Metric(
        "stateroom_agents_unplaced",
        GAUGE,
        "",
        COPY,
        "networks x regions",
        who,
        "Agents that are declared and run nowhere.",
    )
    yield Metric(
        "stateroom_node_heartbeat_age_seconds",
        GAUGE,
        "seconds",
        ("node", "region"),
        "one per node",
        who,
        "Since a node's last heartbeat was stored.",
    )
    yield Metric(
        "stateroom_incidents_open",
        GAUGE,
        "",
        ("kind", "severity"),
        "kinds x 2",
        who,
        "Incidents that have not ended.",
    )
    yield Metric(
        "stateroom_incidents_unacknowledged",
        GAUGE,
        "",
        ("kind", "severity"),
        "kinds x 2",
        who,
        "Open incidents that nobody has said to have.",
    )
    yield Metric(
        "stateroom_controller_frozen",
        GAUGE,
        "",
        (),
        "1",
        who,
        "1 while the controller does not trust what it sees and acts on nothing.",
    )
    yield Metric(
        "stateroom_automation_paused",
        GAUGE,
        "",
        (),
        "1",
        who,
        "1 while a person has paused failover.",
    )
    yield Metric(
        "stateroom_failovers_total",
        COUNTER,
        "",
        ("kind", "outcome", "region"),
        "regions x 2 x 3",
        who,
        "Failovers that have ended, by outcome.",
    )
    yield Metric(
        "stateroom_failover_duration_seconds",
        HISTOGRAM,
        "seconds",
        ("kind",),
        "2 x 18",
        who,
        "From the first sign of a loss to the last agent that runs again.",
    )
    yield Metric(
        "stateroom_scaling_decisions_total",
        COUNTER,
        "",
        ("direction", "workload"),
        "workloads x 3",
        who,
        "Decisions of scaling: up, down, stay.",
    )
    yield Metric(
        "stateroom_database_connection_failures_total",
        COUNTER,
        "",
        ("database",),
        "databases, at most 10",
        "every process",
        "Connections to a database that failed or were refused.",
    )
    yield Metric(
        "stateroom_sensor_tick_age_seconds",
        GAUGE,
        "seconds",
        ("sensor",),
        "sensors",
        who,
        "Since a running sensor's last tick ended.",
    )
    yield Metric(
        "stateroom_runs_total",
        COUNTER,
        "",
        ("job", "result"),
        "jobs x 3",
        who,
        "Dagster runs that have ended: success, failure, canceled.",
    )


def backups() -> Iterable[Metric]:
    """Of backups and their proof."""
    who, bound = "exporter", "networks x regions"
    yield Metric(
        "stateroom_backup_age_seconds",
        GAUGE,
        "seconds",
        COPY,
        bound,
        who,
        "Since the newest snapshot that lies in a region was taken.",
    )
    yield Metric(
        "stateroom_recovery_point_seconds",
        GAUGE,
        "seconds",
        COPY,
        bound,
        who,
        "What would be lost if the home region were lost now (RPO).",
    )
    yield Metric(
        "stateroom_recovery_point_objective_seconds",
        GAUGE,
        "seconds",
        (),
        "1",
        who,
        "The most that may be lost.",
    )
    yield Metric(
        "stateroom_recovery_time_seconds",
        GAUGE,
        "seconds",
        COPY,
        bound,
        who,
        "How long the newest drill took (RTO).",
    )
    yield Metric(
        "stateroom_recovery_time_objective_seconds",
        GAUGE,
        "seconds",
        (),
        "1",
        who,
        "The longest that a region may be away.",
    )
    yield Metric(
        "stateroom_replica_lag_seconds",
        GAUGE,
        "seconds",
        COPY,
        bound,
        who,
        "By how much a region's newest snapshot is older than the home's.",
    )
    level = ("level", "network", "region")
    yield Metric(
        "stateroom_verification_age_seconds",
        GAUGE,
        "seconds",
        level,
        f"{bound} x 5",
        who,
        "Since a level of verification last passed: V1 to V5.",
    )
    yield Metric(
        "stateroom_verification_max_age_seconds",
        GAUGE,
        "seconds",
        ("level",),
        "5",
        who,
        "Age from which a verification no longer counts.",
    )
    yield Metric(
        "stateroom_verification_passed",
        GAUGE,
        "",
        level,
        f"{bound} x 5",
        who,
        "1 when the newest verification of a level found nothing wrong.",
    )


def metrics() -> Iterable[Metric]:
    """Of the collection of metrics itself."""
    who, level = "collector", ("level",)
    yield Metric(
        "stateroom_rollup_lag_seconds",
        GAUGE,
        "seconds",
        level,
        "4 levels",
        who,
        "Since the end of the newest bucket that a level has.",
    )
    yield Metric(
        "stateroom_rollup_dirty_partitions",
        GAUGE,
        "",
        level,
        "4 levels",
        who,
        "Partitions that must be computed again because samples came late.",
    )
    yield Metric(
        "stateroom_late_samples_total",
        COUNTER,
        "",
        level,
        "4 levels",
        who,
        "Samples that came after their bucket was built.",
    )
    yield Metric(
        "stateroom_samples_total",
        COUNTER,
        "",
        ("source",),
        "sources, at most 100",
        who,
        "Samples that were stored.",
    )
    yield Metric(
        "stateroom_scrape_failures_total",
        COUNTER,
        "",
        ("source",),
        "sources, at most 100",
        who,
        "Reads of a source that failed.",
    )
    yield Metric(
        "stateroom_rule_evaluations_total",
        COUNTER,
        "",
        ("rule_group",),
        "groups",
        who,
        "Evaluations of groups of rules.",
    )
    yield Metric(
        "stateroom_rule_evaluation_failures_total",
        COUNTER,
        "",
        ("rule_group",),
        "groups",
        who,
        "Rules that could not be evaluated.",
    )
    yield Metric(
        "stateroom_rule_evaluation_seconds",
        GAUGE,
        "seconds",
        ("rule_group",),
        "groups",
        who,
        "How long the last evaluation of a group took.",
    )
    yield Metric(
        "stateroom_alerts", GAUGE, "", ("state",), "2", who, "Alerts that are pending or firing."
    )
    yield Metric(
        "stateroom_alert_delivery_failures_total",
        COUNTER,
        "",
        ("receiver",),
        "receivers, at most 6",
        who,
        "Alerts that a receiver did not take.",
    )
    yield Metric(
        "ALERTS",
        GAUGE,
        "",
        ("alertname", "alertstate"),
        "alerts, with all their labels",
        "rules",
        "1 while an alert is pending or firing.",
    )
    yield Metric(
        "ALERTS_FOR_STATE",
        GAUGE,
        "seconds",
        ("alertname",),
        "alerts, with all their labels",
        "rules",
        "Since when an alert is there, in seconds since 1970.",
    )


def vectors() -> Iterable[Metric]:
    """Of indexes."""
    who, own, bound = "exporter", ("index",), "indexes"
    yield Metric(
        "stateroom_index_age_seconds",
        GAUGE,
        "seconds",
        own,
        bound,
        who,
        "Since the newest generation of an index was published.",
    )
    yield Metric(
        "stateroom_index_max_age_seconds",
        GAUGE,
        "seconds",
        own,
        bound,
        who,
        "Age from which an index counts as stale.",
    )
    yield Metric(
        "stateroom_index_recall_ratio",
        GAUGE,
        "ratio",
        own,
        bound,
        who,
        "Recall at 10, measured against exact search when it was published.",
    )
    yield Metric(
        "stateroom_index_recall_floor_ratio",
        GAUGE,
        "ratio",
        own,
        bound,
        who,
        "Recall below which an index may not serve.",
    )
    yield Metric(
        "stateroom_index_vectors", GAUGE, "", own, bound, who, "Vectors that an index holds."
    )
    yield Metric(
        "stateroom_vector_gpu_fallback_total",
        COUNTER,
        "",
        ("reason",),
        "4",
        who,
        "Searches that went to the CPU because the GPU failed.",
    )
