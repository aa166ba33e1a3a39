"""Agents straight into columns, and columns straight into text: as by way of the records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from random import Random

import numpy as np
import pytest

from fleet.agents import Placement
from fleet.inventory import Agent, AgentPhase
from fleet.rescaling.agent_columns import LazyRecords, Look, agent_batch
from fleet.rescaling.batch import decide_many
from fleet.rescaling.batch_columns import ObservationBatch, observation_batch
from fleet.rescaling.batch_json import encode_states
from fleet.rescaling.batch_specs import spec_batch
from fleet.rescaling.batch_states import state_batch
from fleet.rescaling.observation import MetricFault, PodSample, Reading, WorkloadObservation
from fleet.rescaling.pods import WorkloadAgents, pods_of, resource_samples
from fleet.rescaling.spec import AutoscalerSpec, MetricKind, MetricSpec, TargetType
from fleet.rescaling.standing import ScaledAgent
from fleet.rescaling.state_json import decode_autoscaler, encode_autoscaler
from tests.fleet.rescaling.draw import draw_observation, draw_spec, draw_state
from tests.fleet.rescaling.workloads import NOW

FRESH = NOW - timedelta(seconds=60)
LOOK = Look(NOW, FRESH)


def drawn_agent(rng: Random, number: int) -> ScaledAgent:
    """Any agent that a look may find."""
    heard = rng.choice([None, NOW, NOW - timedelta(seconds=29), NOW - timedelta(seconds=70)])
    begun = rng.choice([None, NOW - timedelta(seconds=5), NOW - timedelta(hours=1)])
    phase = rng.choice([AgentPhase.RUNNING] * 6 + list(AgentPhase))
    agent = Agent(
        f"a{number}", "net", "w", "n1", "eu", 1, phase, rng.choice([500, 500, 500, 0]),
        rng.choice([2**20, 2**62]) if rng.random() < 0.05 else 2**20, 0, 0, 0,
        started_at=begun, heartbeat_at=heard,
        cpu_percent=rng.choice([None, 0.05, 12.34, 99.95, 12.35]),
        rss_bytes=rng.choice([None, 0, 7, 2**30]),
    )  # fmt: skip
    desired = rng.choice(["running"] * 5 + ["parked"])
    placed = Placement(
        agent.agent_id, "net", "w", "n1" if desired == "running" else "", "eu", 1, 0, desired,
        "", NOW,
    )  # fmt: skip
    return ScaledAgent(agent, rng.choice([placed] * 5 + [None]), "eu")


def drawn_metric(rng: Random) -> MetricSpec:
    """A metric that nodes report, or that a source answers."""
    name, kind = rng.choice(["cpu", "memory"]), rng.choice(list(MetricKind))
    if kind in {MetricKind.RESOURCE, MetricKind.CONTAINER_RESOURCE}:
        target = rng.choice([TargetType.UTILIZATION, TargetType.AVERAGE_VALUE])
        container = "agent" if kind is MetricKind.CONTAINER_RESOURCE else ""
        return MetricSpec(kind, name, target, rng.randrange(1, 150), container)
    thing = "Service/web" if kind is MetricKind.OBJECT else ""
    return MetricSpec(kind, "depth", TargetType.AVERAGE_VALUE, 5000, described_object=thing)


def drawn_reading(rng: Random, metric: MetricSpec, agents: WorkloadAgents) -> Reading | None:
    """None for what nodes report."""
    if metric.kind in {MetricKind.RESOURCE, MetricKind.CONTAINER_RESOURCE}:
        return None
    if rng.random() < 0.2:
        return MetricFault("FailedGet", "no answer")
    if metric.kind is MetricKind.PODS:
        names = [one.agent.agent_id for one in agents.wanted]
        unknown = ["who"] if rng.random() < 0.1 else []
        return {
            name: PodSample(rng.randrange(9999), NOW)
            for name in [*names, *unknown]
            if rng.random() < 0.8
        }
    return [rng.randrange(99_999)]


def columns(batch: ObservationBatch) -> Mapping[str, object]:
    """All columns, to be compared; without the records."""
    names = [name for name in batch.__slots__ if name not in {"records", "pod_names"}]
    return {
        name: found.tolist() if isinstance(found := getattr(batch, name), np.ndarray) else found
        for name in names
    }


@pytest.mark.parametrize("seed", range(25))
def test_columns_from_agents_are_those_from_records(seed: int) -> None:
    """Every column, fault and irregular workload; rows of what cannot be held aside."""
    rng = Random(seed)
    specs, workloads, readings, records = [], [], [], []
    number = 0
    for index in range(rng.randrange(1, 5)):
        metrics = tuple(drawn_metric(rng) for _ in range(rng.randrange(1, 4)))
        wanted = [drawn_agent(rng, number + n) for n in range(rng.randrange(5))]
        number += len(wanted)
        agents = WorkloadAgents(wanted, 0)
        given = [drawn_reading(rng, metric, agents) for metric in metrics]
        whole = [
            resource_samples(metric.name, wanted, FRESH) if one is None else one
            for metric, one in zip(metrics, given, strict=True)
        ]
        specs.append(AutoscalerSpec(f"w{index}", metrics, 1, 9))
        workloads.append(agents)
        readings.append(given)
        records.append(WorkloadObservation(len(wanted), len(wanted), pods_of(wanted, NOW), whole))
    batch = spec_batch(specs)
    made = agent_batch(batch, workloads, readings, LazyRecords([lambda: records[0]]), LOOK)
    expected = observation_batch(batch, records)
    assert made.irregular >= expected.irregular
    if not made.irregular:
        assert columns(made) == columns(expected)
    states = state_batch([draw_state(rng) for _ in specs])
    lazily = LazyRecords([lambda one=one: one for one in records])  # type: ignore[misc]
    assert lazily[:1] == records[:1]
    assert list(lazily) == records
    full = agent_batch(batch, workloads, readings, lazily, LOOK)
    one, other = (decide_many(batch, seen, states, NOW) for seen in (full, expected))
    assert one.desired.tolist() == other.desired.tolist()
    for index in range(len(specs)):
        assert one.decision(index) == other.decision(index)


@pytest.mark.parametrize("seed", range(15))
def test_what_is_remembered_is_written_from_columns_as_from_records(seed: int) -> None:
    """Letter for letter, over several reconciles; what is read back is the same."""
    rng = Random(seed)
    specs = [draw_spec(rng) for _ in range(6)]
    batch = spec_batch(specs)
    state = state_batch([draw_state(rng) for _ in specs])
    for step in range(4):
        now = NOW + timedelta(seconds=15 * step)
        seen = observation_batch(
            batch, [draw_observation(rng, spec, rng.randrange(12), now) for spec in specs]
        )
        state = decide_many(batch, seen, state, now).state
        texts = encode_states(batch, state)
        records = [state.state(batch, index) for index in range(len(specs))]
        assert texts == [encode_autoscaler(one) for one in records]
        assert [decode_autoscaler(one) for one in texts] == records
