"""Metrics of agents and of the nodes that run them."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.metrics.metric_spec import COUNTER, GAUGE, HISTOGRAM, Metric

AGENT = ("agent", "network", "node", "region", "workload")
WORKLOAD = ("network", "region", "workload")


def agents() -> Iterable[Metric]:
    """Of agents, services and tools."""
    who, each = "node", "one per agent that runs"
    few = "workloads x regions"
    yield Metric(
        "agent_cpu_usage_ratio",
        GAUGE,
        "ratio",
        AGENT,
        each,
        who,
        "CPU that an agent used since the last scrape, of what it is allocated.",
    )
    yield Metric(
        "agent_memory_usage_bytes", GAUGE, "bytes", AGENT, each, who, "Resident memory of an agent."
    )
    yield Metric(
        "agent_memory_limit_bytes",
        GAUGE,
        "bytes",
        AGENT,
        each,
        who,
        "Memory that an agent is allocated.",
    )
    yield Metric(
        "agent_tasks_total",
        COUNTER,
        "",
        AGENT,
        each,
        who,
        "Tasks that an agent has ended, whatever came of them.",
    )
    yield Metric(
        "agent_task_errors_total",
        COUNTER,
        "",
        AGENT,
        each,
        who,
        "Tasks that ended in an error; also counted in `agent_tasks_total`.",
    )
    yield Metric(
        "agent_response_seconds",
        HISTOGRAM,
        "seconds",
        WORKLOAD,
        f"{few} x 18",
        who,
        "From a task's arrival at an agent to its answer.",
    )
    yield Metric(
        "agent_active_sessions",
        GAUGE,
        "",
        WORKLOAD,
        few,
        who,
        "Conversations that agents hold open.",
    )
    yield Metric(
        "agent_requests_total",
        COUNTER,
        "",
        ("code", "network", "region", "service"),
        "services x regions x 5 (code: 2xx to 5xx, or error)",
        "router",
        "Requests to the API of a service, by class of answer.",
    )
    yield Metric(
        "agent_request_duration_seconds",
        HISTOGRAM,
        "seconds",
        ("network", "region", "service"),
        "services x regions x 18",
        "router",
        "From a request's arrival at a service's API to its answer.",
    )
    tool, bound = ("framework", "tool"), "frameworks x tools, at most 500 (the rest is `other`)"
    yield Metric(
        "agent_tool_calls_total",
        COUNTER,
        "",
        tool,
        bound,
        "agent SDK",
        "Calls of a tool, whatever came of them.",
    )
    yield Metric(
        "agent_tool_errors_total",
        COUNTER,
        "",
        tool,
        bound,
        "agent SDK",
        "Calls of a tool that failed; also counted in `agent_tool_calls_total`.",
    )
    yield Metric(
        "agent_tool_duration_seconds",
        HISTOGRAM,
        "seconds",
        tool,
        f"{bound} x 18",
        "agent SDK",
        "How long a call of a tool took.",
    )


def nodes() -> Iterable[Metric]:
    """Of a node, exported by itself."""
    who, own, each = "node", ("node", "region"), "one per node"
    yield Metric(
        "stateroom_node_ready", GAUGE, "", own, each, who, "1 while the node may run agents."
    )
    yield Metric(
        "stateroom_node_lease_remaining_seconds",
        GAUGE,
        "seconds",
        own,
        each,
        who,
        "Until the lease runs out.",
    )
    yield Metric("stateroom_node_lease_term", GAUGE, "", own, each, who, "Term of the lease.")
    yield Metric(
        "stateroom_node_heartbeats_total", COUNTER, "", own, each, who, "Heartbeats stored."
    )
    yield Metric(
        "stateroom_node_heartbeats_late_total",
        COUNTER,
        "",
        own,
        each,
        who,
        "Heartbeats stored more than one interval after they were due.",
    )
    yield Metric(
        "stateroom_node_heartbeats_failed_total",
        COUNTER,
        "",
        own,
        each,
        who,
        "Heartbeats the store did not take.",
    )
    yield Metric(
        "stateroom_node_heartbeat_duration_seconds",
        GAUGE,
        "seconds",
        own,
        each,
        who,
        "From the due time of the last heartbeat until it was stored.",
    )
    yield Metric(
        "stateroom_node_zygote_losses_total", COUNTER, "", own, each, who, "Ends of the zygote."
    )
    yield Metric(
        "stateroom_node_supervisor_cpu_seconds_total",
        COUNTER,
        "seconds",
        own,
        each,
        who,
        "CPU time of supervisor and zygote.",
    )
    yield Metric(
        "stateroom_node_writes_queued",
        GAUGE,
        "",
        own,
        each,
        who,
        "Writes of agents that wait for a commit.",
    )
    outcome = ("node", "outcome", "region")
    yield Metric(
        "stateroom_node_writes_total",
        COUNTER,
        "",
        outcome,
        "nodes x outcomes",
        who,
        "Writes of agents by outcome.",
    )
    yield Metric(
        "stateroom_node_probes_total",
        COUNTER,
        "",
        outcome,
        "nodes x outcomes",
        who,
        "Probes of other nodes by outcome.",
    )
    yield Metric(
        "stateroom_node_probe_reports_refused_total",
        COUNTER,
        "",
        own,
        each,
        who,
        "Probe reports that the control store did not take.",
    )
    yield Metric(
        "stateroom_node_agents",
        GAUGE,
        "",
        ("node", "phase", "region", "workload"),
        "nodes x workloads x phases",
        who,
        "Agents by phase.",
    )
    work = ("node", "region", "workload")
    yield Metric(
        "stateroom_node_agent_restarts_total",
        COUNTER,
        "",
        work,
        "nodes x workloads",
        who,
        "Restarts of crashed agents.",
    )
    yield Metric(
        "stateroom_node_agent_memory_bytes",
        GAUGE,
        "bytes",
        work,
        "nodes x workloads",
        who,
        "Resident memory of agents; pages they share count for each.",
    )
