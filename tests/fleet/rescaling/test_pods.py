"""Agents as pods: who counts, who is ready, what each used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.agents import Placement
from fleet.inventory import Agent, AgentPhase
from fleet.rescaling.observation import MetricFault, PodSample
from fleet.rescaling.pods import by_workload, pods_of, resource_samples
from fleet.rescaling.standing import ScaledAgent

NOW = datetime(2026, 3, 1, tzinfo=UTC)
BEAT = NOW - timedelta(seconds=2)


def scaled(name: str = "a", desired: str | None = "running", **changes: Any) -> ScaledAgent:
    """An agent that runs for a minute, on node n1 in eu."""
    agent = Agent(
        name, "net", "w", "n1", "eu", 1, AgentPhase.RUNNING, 500, 2000, 0, 0, 0,
        started_at=NOW - timedelta(minutes=1), heartbeat_at=BEAT, cpu_percent=12.34, rss_bytes=7,
    )._replace(**changes)  # fmt: skip
    placed = None
    if desired is not None:
        node = "" if desired == "parked" else agent.node_id
        placed = Placement(name, "net", "w", node, agent.region, 1, 0, desired, "why", NOW)
    return ScaledAgent(agent, placed, "eu")


def test_wanted_are_all_but_those_that_were_scaled_away() -> None:
    """Parked, waiting and never placed ones count; each region for itself."""
    agents = [
        scaled("a"),
        scaled("b", "parked", phase=AgentPhase.STOPPED),
        scaled("c", None, phase=AgentPhase.PENDING),
        scaled("d", "stopped", phase=AgentPhase.STOPPED),
        scaled("e", region="us"),
    ]
    found = by_workload(agents)
    here = found["w", "eu"]
    assert [one.agent.agent_id for one in here.wanted] == ["a", "b", "c"]
    assert (here.stopped, here.ready) == (1, 1)
    assert [one.agent.agent_id for one in here.not_ready] == ["b", "c"]
    assert found["w", "us"].ready == 1
    assert by_workload(agents[3:4])["w", "eu"].stopped == 1


@pytest.mark.parametrize(
    ("one", "phase", "ready"),
    [
        (scaled(), "Running", True),
        (scaled(phase=AgentPhase.BACKING_OFF), "Running", False),
        (scaled(phase=AgentPhase.FAILED), "Failed", False),
        (scaled(phase=AgentPhase.COMPLETED), "Succeeded", False),
        (scaled(phase=AgentPhase.UNKNOWN), "Unknown", False),
        (scaled(phase=AgentPhase.STOPPED), "Pending", False),
        (scaled(desired="parked", phase=AgentPhase.STOPPED), "Pending", False),
        (scaled(desired=None, phase=AgentPhase.PENDING), "Pending", False),
        (scaled(heartbeat_at=NOW - timedelta(seconds=31)), "Running", False),
        (scaled(heartbeat_at=None), "Running", False),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str | bool) else "",
)
def test_a_pod_is_what_a_kubelet_would_call_it(one: ScaledAgent, phase: str, ready: bool) -> None:
    """Ready is one that runs and was heard of lately."""
    (pod,) = pods_of([one], NOW)
    assert (pod.phase, pod.ready) == (phase, ready)
    assert pod.requests == {"agent": {"cpu": 500, "memory": 2_000_000}}


def test_what_is_not_asked_for_is_absent_from_the_requests() -> None:
    """A request of nothing is none, as Kubernetes has it."""
    (pod,) = pods_of([scaled(cpu_milli=0)], NOW)
    assert pod.requests == {"agent": {"memory": 2_000_000}}


def test_samples_are_what_nodes_have_reported_lately() -> None:
    """In thousandths; who does not run, is silent or was not measured has none."""
    agents = [
        scaled("a"),
        scaled("old", heartbeat_at=NOW - timedelta(seconds=61)),
        scaled("never", heartbeat_at=None),
        scaled("unmeasured", cpu_percent=None, rss_bytes=None),
        scaled("lost", phase=AgentPhase.UNKNOWN),
    ]
    fresh = NOW - timedelta(seconds=60)
    assert resource_samples("cpu", agents, fresh) == {"a": PodSample(123, BEAT, 1)}
    assert resource_samples("memory", agents, fresh) == {"a": PodSample(7000, BEAT, 1)}
    fault = resource_samples("disk", agents, fresh)
    assert isinstance(fault, MetricFault)
    assert "not disk" in fault.message
