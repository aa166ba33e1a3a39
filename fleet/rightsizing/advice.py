"""Advice for every workload from what its agents used; pure, and vectorised over workloads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fleet.rightsizing.amounts import amount_text
from fleet.rightsizing.backtest import violation_ratios
from fleet.rightsizing.buckets import CPU_BUCKETS, MEMORY_BUCKETS
from fleet.rightsizing.estimate import Estimate, confidence_days, estimate
from fleet.rightsizing.histograms import DecayingHistograms
from fleet.rightsizing.memory_peaks import Kills, Peaks, daily_peaks, raise_for_kills
from fleet.rightsizing.records import (
    Allocation,
    Resource,
    RightsizingAdvice,
    RightsizingPolicy,
    Verdict,
)

if TYPE_CHECKING:
    from fleet.metrics.samples import BoolArray, FloatArray, Int64Array

WEIGHT_MIN_CORES = 0.1
"""A sample of CPU weighs as much as the agent is allocated, and at least this. Source:
model/aggregate_container_state.go, minSampleWeight."""

Amounts = tuple[int | None, int | None, int | None]
"""Target, lower and upper bound; None where nothing is known."""
CHANGES = frozenset({Verdict.GROW, Verdict.SHRINK})
"""Verdicts that ask for another allocation."""
PriceOf = Callable[[Resource, int], float]
"""Price of an amount of a resource for an hour."""


class Usage(NamedTuple):
    """Readings of one resource, of all agents of all workloads, in columns of one length."""

    workloads: Int64Array
    """Position in the sequence of allocations."""
    agents: Int64Array
    """A number for each agent, counted over all workloads."""
    values: FloatArray
    """Cores, or bytes."""
    times_ms: Int64Array


class Judged(NamedTuple):
    """What is known of one resource, for each workload."""

    estimate: Estimate
    samples: Int64Array
    confidence: FloatArray
    ooms: Int64Array


def judge_cpu(
    usage: Usage, allocations: Sequence[Allocation], minutes: float, policy: RightsizingPolicy
) -> Judged:
    """Needs of CPU: every reading weighs as much as its agent is allocated.

    Args:
        usage: cores, in order of time.
        allocations: the workloads.
        minutes: between two readings of an agent.
        policy: of the advice.
    """
    rows = len(allocations)
    found = DecayingHistograms(rows, CPU_BUCKETS, policy.half_life_s * 1000)
    allocated = np.array([one.cpu_milli for one in allocations], np.float64) / 1000
    weights = np.maximum(allocated, WEIGHT_MIN_CORES)[usage.workloads]
    found.add(usage.workloads, usage.values, weights, usage.times_ms)
    confidence, samples = _confidence(usage, rows, minutes)
    amounts = estimate(found, confidence, Resource.CPU, policy)
    return Judged(amounts, samples, confidence, np.zeros(rows, np.int64))


def judge_memory(
    usage: Usage,
    allocations: Sequence[Allocation],
    minutes: float,
    policy: RightsizingPolicy,
    kills: Kills | None = None,
) -> Judged:
    """Needs of memory: the peak of each agent and day, raised where an agent was killed.

    Args:
        usage: bytes, in any order.
        allocations: the workloads.
        minutes: between two readings of an agent.
        policy: of the advice.
        kills: of agents that occur in `usage`; None for none.
    """
    rows = len(allocations)
    workload_of = np.zeros(int(np.max(usage.agents)) + 1 if len(usage.agents) else 0, np.int64)
    workload_of[usage.agents] = usage.workloads
    peaks = daily_peaks(usage.agents, usage.values, usage.times_ms)
    ooms = np.zeros(rows, np.int64)
    if kills is not None and len(kills.agents):
        peaks = raise_for_kills(peaks, kills, policy.oom_ratio, policy.oom_extra_bytes)
        np.add.at(ooms, workload_of[kills.agents], 1)
    found = DecayingHistograms(rows, MEMORY_BUCKETS, policy.half_life_s * 1000)
    peaks = _by_time(peaks)
    found.add(workload_of[peaks.agents], peaks.bytes, np.ones(len(peaks.bytes)), peaks.times_ms)
    confidence, _ = _confidence(usage, rows, minutes)
    samples = np.bincount(workload_of[peaks.agents], minlength=rows)
    amounts = estimate(found, confidence, Resource.MEMORY, policy)
    return Judged(amounts, samples, confidence, ooms)


def _by_time(peaks: Peaks) -> Peaks:
    order = np.argsort(peaks.times_ms, kind="stable")
    return Peaks(peaks.agents[order], peaks.bytes[order], peaks.times_ms[order])


def _confidence(usage: Usage, rows: int, minutes: float) -> tuple[FloatArray, Int64Array]:
    samples = np.bincount(usage.workloads, minlength=rows)
    first = np.full(rows, np.iinfo(np.int64).max)
    last = np.full(rows, np.iinfo(np.int64).min)
    np.minimum.at(first, usage.workloads, usage.times_ms)
    np.maximum.at(last, usage.workloads, usage.times_ms)
    seen = samples > 0
    first, last = np.where(seen, first, 0), np.where(seen, last, 0)
    return confidence_days(first, last, (samples * minutes).astype(np.float64)), samples


def advise(
    resource: Resource,
    judged: Judged,
    allocations: Sequence[Allocation],
    policy: RightsizingPolicy,
    price_of: PriceOf,
    now: datetime,
    tested: Sequence[float | None] | None = None,
    scaled: Collection[tuple[str, str]] = (),
) -> list[RightsizingAdvice]:
    """A row for each workload, in the order given.

    As the updater of the source does, nothing is advised while the allocation lies between the
    bounds: a change costs every agent a restart.

    Args:
        resource: that was judged.
        judged: of the same workloads.
        allocations: the workloads.
        policy: of the advice.
        price_of: of an amount of the resource for an hour.
        now: moment of the look.
        tested: violations of each workload in a back-test; None for no back-test.
        scaled: (workload, resource) that replicas follow: no change of these is advised.
    """
    tested = tested or [None] * len(allocations)
    columns = (*judged.estimate, judged.samples, judged.confidence, judged.ooms)
    rows = zip(allocations, tested, *(column.tolist() for column in columns), strict=True)
    found = []
    for one, violated, target, lower, upper, samples, confidence, ooms in rows:
        allocated = one.amount(resource)
        enough = samples > 0 and confidence >= policy.confidence_min_days
        verdict = _verdict(allocated, lower, upper) if enough else Verdict.UNKNOWN
        if verdict in CHANGES and (one.workload, resource.value) in scaled:
            verdict = Verdict.HELD
        surplus = (allocated - target) * one.agents if enough else 0
        known: Amounts = (target, lower, upper) if enough else (None, None, None)
        change = verdict in CHANGES
        found.append(
            RightsizingAdvice(
                one.network_id,
                one.workload,
                resource.value,
                one.agents,
                allocated,
                known[0],
                known[1],
                known[2],
                samples,
                confidence,
                ooms,
                verdict.value,
                surplus,
                _signed_price(price_of, resource, surplus) if change else 0.0,
                violated,
                _reason(resource, verdict, allocated, known, confidence, ooms, policy),
                now,
            )
        )
    return found


def _signed_price(price_of: PriceOf, resource: Resource, surplus: int) -> float:
    price = price_of(resource, abs(surplus))
    return price if surplus > 0 else -price


def _verdict(allocated: int, lower: int, upper: int) -> Verdict:
    if allocated < lower:
        return Verdict.GROW
    return Verdict.SHRINK if allocated > upper else Verdict.KEEP


def _reason(
    resource: Resource,
    verdict: Verdict,
    allocated: int,
    known: Amounts,
    confidence: float,
    ooms: int,
    policy: RightsizingPolicy,
) -> str:
    target, lower, upper = known
    if target is None or lower is None or upper is None:
        needed = policy.confidence_min_days
        return f"{confidence:.2f} days of readings, {needed:g} needed before anything is advised"
    has, wants = amount_text(resource, allocated), amount_text(resource, target)
    bounds = f"{amount_text(resource, lower)} to {amount_text(resource, upper)}"
    killed = f"; {ooms} killed at their limit" if ooms else ""
    if verdict is Verdict.HELD:
        return f"{wants} would do, but its replicas follow its {resource.value}{killed}"
    if verdict is Verdict.KEEP:
        return f"{has} lies within {bounds}{killed}"
    word = "below" if verdict is Verdict.GROW else "above"
    return f"{has} is {word} {bounds}; {wants} would do{killed}"


def backtest_violations(
    resource: Resource,
    usage: Usage,
    allocations: Sequence[Allocation],
    minutes: float,
    policy: RightsizingPolicy,
) -> list[float | None]:
    """Advice made from the older half of the time, judged on the readings of the newer half.

    Returns:
        For each workload the share of newer readings above the target; None where the older half
        is too short to advise from, or the newer one is empty.
    """
    if not len(usage.times_ms):
        return [None] * len(allocations)
    middle = (int(np.min(usage.times_ms)) + int(np.max(usage.times_ms))) // 2
    newer = usage.times_ms > middle
    older = _where(usage, ~newer)
    judge = judge_cpu if resource is Resource.CPU else judge_memory
    judged = judge(older, allocations, minutes, policy)
    unit = 1000.0 if resource is Resource.CPU else 1.0
    ratios = violation_ratios(
        usage.workloads[newer],
        usage.values[newer] * unit,
        judged.estimate.target.astype(np.float64),
    )
    enough = (judged.samples > 0) & (judged.confidence >= policy.confidence_min_days)
    return [ratio if known else None for ratio, known in zip(ratios, enough.tolist(), strict=True)]


def _where(usage: Usage, chosen: BoolArray) -> Usage:
    return Usage(
        usage.workloads[chosen], usage.agents[chosen], usage.values[chosen], usage.times_ms[chosen]
    )
