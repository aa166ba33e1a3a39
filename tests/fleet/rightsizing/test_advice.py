"""Advice: amounts of the source, verdicts worth a restart, back-tests on what came later."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.costs.prices import PriceBook
from fleet.costs.proposals import rightsizing_proposals
from fleet.errors import InvalidInputError
from fleet.rescaling.policy import ScalingMode, WorkloadScaling
from fleet.rescaling.spec import AutoscalerSpec, MetricKind, MetricSpec, TargetType
from fleet.rightsizing.advice import (
    Judged,
    Usage,
    advise,
    backtest_violations,
    judge_cpu,
    judge_memory,
)
from fleet.rightsizing.backtest import back_test
from fleet.rightsizing.buckets import CPU_BUCKETS
from fleet.rightsizing.estimate import Estimate, confidence_days, estimate
from fleet.rightsizing.histograms import DecayingHistograms
from fleet.rightsizing.kills import distinct_kills, find_kills, kill_columns
from fleet.rightsizing.records import Allocation, Resource, RightsizingPolicy, Verdict
from fleet.rightsizing.scaled import scaled_resources
from tests.examples import examples
from tests.fleet.inventory_records import NOW, an_agent
from tests.fleet.rightsizing.vpa_twin import (
    DAY_MS,
    TwinBuckets,
    TwinHistogram,
    twin_amount,
)

MIB = 1024 * 1024
NOW_MS = round(NOW.timestamp() * 1000)
POLICY = RightsizingPolicy()
BOOK = PriceBook()
TWIN = TwinBuckets(1000.0, 0.001, 1.05)


def one_estimate(cores: float, confidence: float, policy: RightsizingPolicy) -> tuple[int, ...]:
    """Target, lower and upper of a histogram with one value."""
    rows = DecayingHistograms(1, CPU_BUCKETS, DAY_MS)
    rows.add(np.zeros(1, np.int64), np.array([cores]), np.ones(1), np.array([NOW_MS]))
    found = estimate(rows, np.array([confidence]), Resource.CPU, policy)
    return tuple(int(column[0]) for column in found)


@settings(max_examples=examples(60))
@given(st.floats(0.0001, 900).filter(TWIN.clear), st.sampled_from([0.0, 0.00625, 0.5, 1.0, 7.0]))
def test_amounts_are_those_of_the_source(cores: float, confidence: float) -> None:
    """Oracle: percentile, margin and confidence one after another, cut off after each."""
    twin = TwinHistogram(TWIN, DAY_MS)
    twin.add(cores, 1.0, NOW_MS)
    base = twin.percentile(0.9)
    wanted = [
        max(1, twin_amount(base, 1000, 0.15, confidence, how))
        for how in (None, (0.001, -2.0), (1.0, 1.0))
    ]
    assert list(one_estimate(cores, confidence, POLICY)) == wanted


def test_confidence_follows_the_example_of_the_source() -> None:
    """Nine samples at one a minute over 16 minutes: 9 / 1440 days. Source: estimator_test.go."""
    found = confidence_days(np.array([0]), np.array([16 * 60_000]), np.array([9.0]))
    assert found.tolist() == [0.00625]
    days = confidence_days(np.array([0]), np.array([DAY_MS // 2]), np.array([1e9]))
    assert days.tolist() == [0.5]


def test_without_history_the_bounds_say_nothing() -> None:
    """The upper one is beyond everything, the lower one is the floor."""
    target, lower, upper = one_estimate(1.0, 0.0, POLICY)
    assert (lower, upper) == (1, int(1e14))
    assert 1150 <= target <= 1150 * 1.06


def usage_of(values: list[list[float]], step_min: int) -> Usage:
    """One agent for each workload; readings end now."""
    count = len(values[0])
    times = NOW_MS - np.arange(count)[::-1] * step_min * 60_000
    steps, rows = np.divmod(np.arange(count * len(values)), len(values))
    flat = np.array([values[row][step] for step, row in zip(steps, rows, strict=True)])
    return Usage(rows.astype(np.int64), rows.astype(np.int64), flat, times[steps])


ALLOCATIONS = [
    Allocation("net", "greedy", 3, 4000, 2048 * MIB),
    Allocation("net", "fits", 2, 600, 512 * MIB),
    Allocation("net", "starved", 1, 100, 64 * MIB),
]


def test_what_is_too_much_shrinks_what_is_too_little_grows_the_rest_stays() -> None:
    """Two days of half a core each; the saving is priced, the reasons name the amounts."""
    steady = [0.5] * (2 * 288)
    usage = usage_of([steady, steady, steady], 5)
    judged = judge_cpu(usage, ALLOCATIONS, 5, POLICY)
    rows = advise(Resource.CPU, judged, ALLOCATIONS, POLICY, BOOK.resource_hour, NOW)
    assert [row.verdict for row in rows] == ["shrink", "keep", "grow"]
    greedy, fits, starved = rows
    assert greedy.target is not None
    assert 575 <= greedy.target <= 575 * 1.06
    assert greedy.surplus == (4000 - greedy.target) * 3
    price = greedy.surplus / 1000 * BOOK.rates.cpu_core_hour
    assert greedy.saving_per_hour == pytest.approx(price)
    assert starved.saving_per_hour < 0 == fits.saving_per_hour
    assert "4000 milli is above" in greedy.reason
    assert "600 milli lies within" in fits.reason
    assert (greedy.samples, greedy.confidence_days) == (576, pytest.approx(2, abs=0.01))


def test_what_replicas_follow_is_held() -> None:
    """A target of CPU utilization counts in parts of the allocation; memory may still change."""
    metrics = (
        MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 80),
        MetricSpec(MetricKind.RESOURCE, "memory", TargetType.AVERAGE_VALUE, 10**9),
        MetricSpec(MetricKind.EXTERNAL, "queue", TargetType.VALUE, 5),
    )
    spec = AutoscalerSpec("greedy", metrics, 1, 9)
    followed = WorkloadScaling("greedy", spec, ScalingMode.APPROVE)
    watched = WorkloadScaling("starved", spec, ScalingMode.OBSERVE)
    scaled = scaled_resources([followed, watched])
    assert scaled == {("greedy", "cpu")}
    usage = usage_of([[0.5] * 576] * 3, 5)
    judged = judge_cpu(usage, ALLOCATIONS, 5, POLICY)
    price_of = BOOK.resource_hour
    rows = advise(Resource.CPU, judged, ALLOCATIONS, POLICY, price_of, NOW, None, scaled)
    assert [row.verdict for row in rows] == ["held", "keep", "grow"]
    assert (rows[0].saving_per_hour, rows[0].target is None) == (0.0, False)
    assert "its replicas follow its cpu" in rows[0].reason
    assert rightsizing_proposals(rows, NOW)[0].subject == "net/starved cpu"


def test_a_short_history_advises_nothing() -> None:
    """Six hours are no day: target and bounds are absent, nothing is saved."""
    usage = usage_of([[0.5] * 72] * 3, 5)
    judged = judge_cpu(usage, ALLOCATIONS, 5, POLICY)
    rows = advise(Resource.CPU, judged, ALLOCATIONS, POLICY, BOOK.resource_hour, NOW)
    assert {row.verdict for row in rows} == {"unknown"}
    assert {(row.target, row.lower, row.upper, row.surplus) for row in rows} == {
        (None, None, None, 0)
    }
    assert "0.25 days of readings, 0.5 needed" in rows[0].reason


def test_a_workload_without_readings_is_unknown() -> None:
    """Nothing measured is not nothing used."""
    empty = np.empty(0, np.int64)
    nothing = Usage(empty, empty, np.empty(0), empty)
    for judged in (
        judge_cpu(nothing, ALLOCATIONS, 5, POLICY),
        judge_memory(nothing, ALLOCATIONS, 60, POLICY),
    ):
        rows = advise(Resource.CPU, judged, ALLOCATIONS, POLICY, BOOK.resource_hour, NOW)
        assert {row.verdict for row in rows} == {"unknown"}
    assert backtest_violations(Resource.CPU, nothing, ALLOCATIONS, 5, POLICY) == [None] * 3


def test_a_kill_at_the_limit_raises_the_advice() -> None:
    """Memory near its limit and a kill: at least 100 MiB more are advised."""
    usage = usage_of([[60.0 * MIB] * 48] * 3, 60)
    agents = [
        an_agent("starved", memory_bytes=64 * MIB, reason="killed by signal 9; restart 1 of 5"),
        an_agent("drilled", memory_bytes=640 * MIB, reason="killed by signal 9; restart 1 of 5"),
        an_agent("well", memory_bytes=64 * MIB, reason="its process runs"),
        an_agent("unmeasured", memory_bytes=64 * MIB, reason="killed by signal 9"),
    ]
    numbers = {"drilled": 0, "well": 1, "starved": 2}
    found = find_kills(agents, numbers, usage, NOW)
    assert [one.agent_id for one in found] == ["starved"]
    kills = kill_columns(found, numbers, usage)
    judged = judge_memory(usage, ALLOCATIONS, 60, POLICY, kills)
    rows = advise(Resource.MEMORY, judged, ALLOCATIONS, POLICY, BOOK.resource_hour, NOW)
    assert [row.ooms for row in rows] == [0, 0, 1]
    starved = rows[2]
    assert starved.verdict == "grow"
    assert starved.target is not None
    assert starved.target >= 164 * MIB * 1.15
    assert "1 killed at their limit" in starved.reason


def test_memory_is_judged_by_peaks_not_by_averages() -> None:
    """One hour a day at a gigabyte decides, however long the rest is at ten megabytes."""
    day = [10.0 * MIB] * 23 + [1024.0 * MIB]
    judged = judge_memory(usage_of([day * 3] * 3, 60), ALLOCATIONS, 60, POLICY)
    assert (judged.estimate.target >= 1024 * MIB * 1.15).all()
    assert judged.samples.tolist() == [3, 3, 3]


def test_a_back_test_counts_what_was_above_and_what_lay_idle() -> None:
    """Four readings of two workloads against 10 and 2."""
    found = back_test(np.array([0, 0, 1, 1]), np.array([5.0, 12.0, 1.0, 2.0]), np.array([10, 2.0]))
    assert (found.samples, found.violations, found.workloads_violated) == (4, 1, 1)
    assert found.violation_ratio == 0.25
    assert found.short == 2.0
    assert found.waste_ratio == pytest.approx(1 - 18 / 24)
    with pytest.raises(InvalidInputError, match="one with an amount"):
        back_test(np.array([7]), np.array([1.0]), np.array([1.0]))


def test_advice_is_tested_on_what_it_was_not_made_from() -> None:
    """Load that doubles in the newer half violates; steady load does not."""
    steady, doubled = [0.5] * 576, [0.5] * 288 + [1.0] * 288
    usage = usage_of([steady, doubled, steady], 5)
    found = backtest_violations(Resource.CPU, usage, ALLOCATIONS, 5, POLICY)
    assert found == [0.0, 1.0, 0.0]
    short = backtest_violations(Resource.CPU, usage_of([[0.5] * 36] * 3, 5), ALLOCATIONS, 5, POLICY)
    assert short == [None, None, None]


@settings(max_examples=examples(30))
@given(st.integers(0, 5000), st.integers(1, 50), st.integers(0, 20_000))
def test_a_verdict_follows_from_the_bounds(allocated: int, agents: int, target: int) -> None:
    """Below the lower bound it grows, above the upper one it shrinks, between them it stays."""
    lower, upper = target // 2, target * 2
    judged = Judged(
        Estimate(*(np.array([one]) for one in (target, lower, upper))),
        np.array([10]),
        np.array([5.0]),
        np.array([0]),
    )
    size = Allocation("net", "work", agents, allocated, 0)
    (row,) = advise(Resource.CPU, judged, [size], POLICY, BOOK.resource_hour, NOW)
    expected = (
        Verdict.GROW if allocated < lower else Verdict.SHRINK if allocated > upper else Verdict.KEEP
    )
    assert row.verdict == expected
    assert row.surplus == (allocated - target) * agents
    assert math.isfinite(row.saving_per_hour)
    if expected is Verdict.KEEP:
        assert row.saving_per_hour == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lower_percentile": 0.99}, "percentiles"),
        ({"upper_percentile": 1.5}, "percentiles"),
        ({"history_days": 0}, "history_days"),
        ({"margin": -0.1}, "margin"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(changes: dict[str, float], named: str) -> None:
    """Before anything is read."""
    with pytest.raises(InvalidInputError, match=named):
        RightsizingPolicy(**changes)  # type: ignore[arg-type]


def test_kills_are_dated_by_the_last_sign_of_life() -> None:
    """Which is when the limit was reached, not when somebody looked."""
    usage = usage_of([[63.0 * MIB] * 10], 60)
    seen = NOW - timedelta(hours=2)
    agent = an_agent("a", memory_bytes=64 * MIB, reason="killed by signal 9", heartbeat_at=seen)
    kills = kill_columns(find_kills([agent], {"a": 0}, usage, NOW), {"a": 0}, usage)
    assert kills.times_ms.tolist() == [round(seen.timestamp() * 1000)]
    assert kills.limits.tolist() == [64.0 * MIB]


def test_a_kill_that_the_cluster_names_counts_however_little_was_seen() -> None:
    """The reading may have been taken long before; without any, there is nothing to raise."""
    usage = usage_of([[1.0 * MIB] * 10], 60)
    agents = [an_agent(name, reason="OOMKilled, exit code 137") for name in ("a", "b")]
    (kill,) = find_kills(agents, {"a": 0, "b": 1}, usage, NOW)
    assert (kill.agent_id, kill.limit_bytes) == ("a", 2**30 // 16)
    other = kill._replace(agent_id="b")
    assert kill_columns([kill, other], {"a": 0, "b": 1}, usage).agents.tolist() == [0]


def test_the_same_kill_is_counted_once_however_often_it_is_seen() -> None:
    """A failed agent shows it at every look; the next restart is another one."""
    usage = usage_of([[63.0 * MIB] * 10], 60)
    agent = an_agent("a", memory_bytes=64 * MIB, reason="killed by signal 9", restarts=3)
    first = find_kills([agent], {"a": 0}, usage, NOW)
    later = find_kills([agent], {"a": 0}, usage, NOW + timedelta(hours=1))
    again = find_kills([agent._replace(restarts=4)], {"a": 0}, usage, NOW)
    assert distinct_kills([*first, *later, *again]) == [*first, *again]
