"""Metrics of agents and of the nodes that run them, as nodes export them."""

from __future__ import annotations

from collections.abc import Iterator

from fleet.metrics.metric_spec import COUNTER, GAUGE, HISTOGRAM, Metric

AGENT = ("agent", "network", "node", "region", "workload")
WORKLOAD = ("network", "node", "region", "workload")
TOOL = ("framework", "network", "node", "region", "tool")
NODE = ("node", "region")
_AGENTS_PAGE, _NODE_PAGE = "node, `/metrics/agents`", "node, `/metrics`"
_AGENT, _WORK = "one per agent", "workloads x nodes"
_TOOL = "nodes x at most 500 tools; further ones are `other`"


def agents() -> Iterator[Metric]:
    """What agents count about themselves, and what their nodes read of them."""
    for name, kind, unit, labels, bound, text in (
        (
            "agent_cpu_seconds_total",
            COUNTER,
            "seconds",
            AGENT,
            _AGENT,
            "CPU time of an agent's process.",
        ),
        (
            "agent_cpu_usage_ratio",
            GAUGE,
            "ratio",
            AGENT,
            _AGENT,
            "CPU used between two readings; 1 is one core.",
        ),
        (
            "agent_memory_usage_bytes",
            GAUGE,
            "bytes",
            AGENT,
            _AGENT,
            "Resident memory; shared pages count for each agent.",
        ),
        (
            "agent_restarts_total",
            COUNTER,
            "",
            AGENT,
            _AGENT,
            "Restarts after a crash, on this node.",
        ),
        ("agent_active_sessions", GAUGE, "", AGENT, _AGENT, "Sessions that are open."),
        (
            "agent_reported_value",
            GAUGE,
            "",
            ("agent", "name", "network", "node", "region", "workload"),
            "64 values of its own choice per agent",
            "Values of the agent's own choice, by name.",
        ),
        ("agent_tasks_total", COUNTER, "", AGENT, _AGENT, "Tasks done since the process began."),
        (
            "agent_task_errors_total",
            COUNTER,
            "",
            AGENT,
            _AGENT,
            "Tasks that failed; `agent_tasks_total` counts them, too.",
        ),
        (
            "agent_response_seconds",
            HISTOGRAM,
            "seconds",
            WORKLOAD,
            f"18 x {_WORK}",
            "How long tasks took.",
        ),
        (
            "agent_requests_total",
            COUNTER,
            "",
            WORKLOAD,
            _WORK,
            "Requests that agents have answered.",
        ),
        (
            "agent_request_errors_total",
            COUNTER,
            "",
            WORKLOAD,
            _WORK,
            "Requests that failed; `agent_requests_total` counts them, too.",
        ),
        (
            "agent_request_duration_seconds",
            HISTOGRAM,
            "seconds",
            WORKLOAD,
            f"18 x {_WORK}",
            "How long requests took.",
        ),
        (
            "agent_tool_calls_total",
            COUNTER,
            "",
            TOOL,
            _TOOL,
            "Calls of tools.",
        ),
        (
            "agent_tool_errors_total",
            COUNTER,
            "",
            TOOL,
            _TOOL,
            "Calls that failed; `agent_tool_calls_total` counts them, too.",
        ),
        (
            "agent_tool_duration_seconds",
            HISTOGRAM,
            "seconds",
            TOOL,
            f"18 x ({_TOOL})",
            "How long calls took.",
        ),
    ):
        yield Metric(name, kind, unit, labels, bound, _AGENTS_PAGE, text)


def nodes() -> Iterator[Metric]:
    """What a node says of itself."""
    outcome = ("node", "outcome", "region")
    for name, kind, unit, labels, bound, text in (
        ("ready", GAUGE, "", NODE, "nodes", "1 while the node may run agents."),
        ("lease_remaining_seconds", GAUGE, "seconds", NODE, "nodes", "Until the lease runs out."),
        ("lease_term", GAUGE, "", NODE, "nodes", "Term of the lease."),
        ("heartbeats_total", COUNTER, "", NODE, "nodes", "Heartbeats stored."),
        (
            "heartbeats_late_total",
            COUNTER,
            "",
            NODE,
            "nodes",
            "Heartbeats stored more than one interval after they were due.",
        ),
        (
            "heartbeats_failed_total",
            COUNTER,
            "",
            NODE,
            "nodes",
            "Heartbeats the control store did not take.",
        ),
        (
            "heartbeat_duration_seconds",
            GAUGE,
            "seconds",
            NODE,
            "nodes",
            "From the due time of the last heartbeat until it was stored.",
        ),
        ("zygote_losses_total", COUNTER, "", NODE, "nodes", "Ends of the zygote."),
        (
            "supervisor_cpu_seconds_total",
            COUNTER,
            "seconds",
            NODE,
            "nodes",
            "CPU time of supervisor and zygote.",
        ),
        ("writes_queued", GAUGE, "", NODE, "nodes", "Writes of agents that wait for a commit."),
        ("writes_total", COUNTER, "", outcome, "nodes x outcomes", "Writes of agents by outcome."),
        (
            "probes_total",
            COUNTER,
            "",
            outcome,
            "nodes x outcomes",
            "Probes of other nodes by outcome.",
        ),
        (
            "probe_reports_refused_total",
            COUNTER,
            "",
            NODE,
            "nodes",
            "Probe reports that the control store did not take.",
        ),
        (
            "agents",
            GAUGE,
            "",
            ("node", "phase", "region", "workload"),
            "nodes x workloads x phases",
            "Agents by phase.",
        ),
        (
            "agent_restarts_total",
            COUNTER,
            "",
            ("node", "region", "workload"),
            "nodes x workloads",
            "Restarts of crashed agents.",
        ),
        (
            "agent_memory_bytes",
            GAUGE,
            "bytes",
            ("node", "region", "workload"),
            "nodes x workloads",
            "Resident memory of agents; pages they share count for each.",
        ),
    ):
        yield Metric(f"stateroom_node_{name}", kind, unit, labels, bound, _NODE_PAGE, text)
