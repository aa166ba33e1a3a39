"""What agents do: tasks, requests, tools, and what they take."""

from __future__ import annotations

from dashboards.shape import NETWORK, REGION, Dashboard, Panel

AGENTS = Dashboard(
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
                    'sum by (workload) (increase(agent_restarts_total{network=~"$network", region=~"$region"}[1h]))',
                    "{{workload}}",
                )
            ],
        ),
    ),
    (REGION, NETWORK),
)
