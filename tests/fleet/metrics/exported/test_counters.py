"""What is counted since the exporter began: once each, from 0 on, within bounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

import pytest

from fleet.incidents import IncidentKind
from fleet.metrics.exported.ended import EndedRun, FailoverCounts, RunCounts
from fleet.metrics.exported.readings import Reading
from fleet.metrics.exported.scaling import FORGOTTEN, WORKLOADS_MAX, ScalingCounts
from fleet.metrics.exported.table import BY_NAME
from fleet.metrics.labels import labels_of
from fleet.metrics.memory_series import MemorySeries
from fleet.promql.engine import PromqlEngine
from fleet.rescaling.policy import ScalingMode
from fleet.rescaling.standing import LoggedDecision
from fleet.rescaling.telling import VERDICTS, Verdict
from tests.fleet.metrics.exported.incidents import NOW, ended_incident


def _decision(which: int, workload: str, age_s: float, times: int, verdict: str) -> LoggedDecision:
    at = NOW - timedelta(seconds=age_s)
    return LoggedDecision(
        workload, "eu", ScalingMode.AUTO, at - timedelta(seconds=15 * (times - 1)), at, times,
        current=3, desired=5, min_replicas=1, max_replicas=9, ready=2, load=1.5, limited_by="",
        verdict=verdict, reason="load", decision_id=which,
    )  # fmt: skip


def _increase(counter: str, looks: Sequence[Iterable[Reading]], grouping: str) -> dict[str, float]:
    """What a dashboard shows of a counter after some looks, a minute apart."""
    series = MemorySeries()
    for minute, look in enumerate(looks):
        for one in look:
            labels = dict(zip(BY_NAME[one.name].labels, one.labels, strict=True))
            series.put(labels_of(one.name, labels), 60_000 * minute, one.value)
    query = f"sum by ({grouping}) (increase({counter}[10m])) > 0"
    found = PromqlEngine(series).instant(query, 60_000 * (len(looks) - 1))
    names = [dict(labels)[grouping] for labels in found.labels]
    return dict(zip(names, found.values.tolist(), strict=True))


def test_incidents_that_ended_are_counted_once_however_often_they_are_seen() -> None:
    """From the moment on at which counting began; only those of nodes and regions."""
    counts = FailoverCounts(NOW - timedelta(seconds=300))
    before = ended_incident(IncidentKind.NODE, 500, 400)
    after = ended_incident(IncidentKind.NODE, 500, 200)
    other = ended_incident(IncidentKind.ROUTER, 500, 200)
    for _ in range(3):
        counts.add([before, after, other, ended_incident(IncidentKind.NODE, 20, None)], NOW)
    assert list(counts.readings()) == [
        Reading("stateroom_failovers_total", ("node", "eu"), 1),
        Reading("stateroom_failover_seconds_total", ("node", "eu"), 300),
    ]


def test_a_dashboard_sees_the_first_failover_of_a_region() -> None:
    """A counter that appeared with it would have no increase: how long it lasted would be 0/0."""
    counts = FailoverCounts(NOW - timedelta(seconds=600))
    looks = [list(counts.readings(["eu", "us"]))] * 2
    counts.add([ended_incident(IncidentKind.NODE, 500, 200)], NOW)
    looks += [list(counts.readings(["eu", "us"]))] * 2
    ended = _increase("stateroom_failovers_total", looks, "region")
    lasted = _increase("stateroom_failover_seconds_total", looks, "region")
    assert ended.keys() == lasted.keys() == {"eu"}
    assert lasted["eu"] / ended["eu"] == pytest.approx(300)


def test_a_dashboard_sees_the_first_run_of_a_job_that_fails() -> None:
    """It is known from when it was asked for; each result begins at 0."""
    counts = RunCounts(NOW)
    counts.know(["job"])
    looks = [list(counts.readings())] * 2
    counts.add([EndedRun("r", "job", "failure", NOW + timedelta(seconds=5))], NOW)
    looks += [list(counts.readings())] * 2
    assert _increase("stateroom_runs_total", looks, "result").keys() == {"failure"}


def test_a_dashboard_sees_the_first_decision_to_scale() -> None:
    """Where anything was decided, each verdict begins at 0; the words are all there are."""
    words = {text for name, text in vars(Verdict).items() if name.isupper()}
    assert words == set(VERDICTS)
    counts = ScalingCounts(NOW - timedelta(seconds=600))
    counts.add([_decision(1, "chat", 590, 40, "unchanged")], NOW)
    looks = [list(counts.readings())] * 2
    counts.add([_decision(2, "chat", 30, 1, "scale-up")], NOW)
    looks += [list(counts.readings())] * 2
    found = _increase("stateroom_scaling_decisions_total", looks, "verdict")
    assert found.keys() == {"scale-up"}


def test_runs_are_counted_once_though_looks_overlap() -> None:
    """A look goes back behind the one before; memory of what was seen stays bounded."""
    counts = RunCounts(NOW)
    early = EndedRun("r0", "job", "failure", NOW - timedelta(seconds=1))
    first = EndedRun("r1", "job", "success", NOW + timedelta(seconds=5))
    later = EndedRun("r2", "job", "failure", NOW + timedelta(seconds=900))
    counts.add([early, first], NOW + timedelta(seconds=10))
    counts.add([first], NOW + timedelta(seconds=20))
    counts.add([later], NOW + timedelta(seconds=901))
    assert counts.since == NOW + timedelta(seconds=301)
    assert list(counts.readings()) == [
        Reading("stateroom_runs_total", ("job", "canceled"), 0),
        Reading("stateroom_runs_total", ("job", "failure"), 1),
        Reading("stateroom_runs_total", ("job", "success"), 1),
    ]


def test_decisions_of_rescaling_are_counted_look_by_look() -> None:
    """A row that grows is counted by its growth; what was before the count began is not."""
    counts = ScalingCounts(NOW - timedelta(seconds=600))
    counts.add([_decision(1, "chat", 590, 40, "unchanged")], NOW)
    counts.add([_decision(1, "chat", 300, 59, "unchanged")], NOW)
    counts.add([_decision(2, "chat", 30, 3, "scale-up")], NOW)
    found = {one[:2]: one.value for one in counts.readings()}
    assert found["stateroom_scaling_decisions_total", ("eu", "unchanged")] == 19
    assert found["stateroom_scaling_decisions_total", ("eu", "scale-up")] == 3
    assert found["stateroom_scaling_replicas", ("desired", "eu", "chat")] == 5
    assert counts.cursor == (NOW - timedelta(seconds=30), 2)
    counts.add([], NOW + FORGOTTEN)
    assert {one.name for one in counts.readings()} == {"stateroom_scaling_decisions_total"}


def test_replicas_of_many_workloads_are_bounded() -> None:
    """The first by name; counters have no workload."""
    counts = ScalingCounts(NOW - timedelta(seconds=600))
    counts.add([_decision(n, f"w{n:04}", 30, 1, "held") for n in range(1000)], NOW)
    found = list(counts.readings())
    assert len(found) == len(VERDICTS) + 5 * WORKLOADS_MAX
    assert Reading("stateroom_scaling_decisions_total", ("eu", "held"), 1000) in found
