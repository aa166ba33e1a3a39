"""A rollout is no load: copies that are there twice, and pods that have just begun, raise nothing.

Kubernetes counts the surge of a rolling update as replicas, and pods without a sample as idle or
busy, so that updates have scaled workloads up (kubernetes/kubernetes 72775, 90461, 138505).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.rescaling.context import Rollout
from fleet.rescaling.decision import Proposal
from fleet.rescaling.observation import MetricFault, Pod, Reading, WorkloadObservation
from fleet.rescaling.proposals import Asked, propose, tolerance_of
from fleet.rescaling.spec import AutoscalerSpec, ControllerOptions

RULE = "rollout"
REVISIONS_RULE = "revisions"
FREEZE_MAX_S = 600.0
"""A rollout that has not come to an end by then no longer holds a rise back.

Source: Kubernetes' default of `progressDeadlineSeconds`."""


class Held(NamedTuple):
    """A rise as a rollout lets it through."""

    replicas: int
    reason: str


def without_surge(seen: WorkloadObservation, rollout: Rollout) -> WorkloadObservation:
    """The workload without the copies that are there twice."""
    surge = rollout.surge
    if not surge:
        return seen
    pods = [pod for pod in seen.pods if pod.name not in surge]
    return replace(
        seen,
        pods=pods,
        status_replicas=max(0, seen.status_replicas - (len(seen.pods) - len(pods))),
        readings=[_kept(reading, surge) for reading in seen.readings],
    )


def _kept(reading: Reading, surge: frozenset[str]) -> Reading:
    if isinstance(reading, MetricFault) or not isinstance(reading, Mapping):
        return reading
    return {name: sample for name, sample in reading.items() if name not in surge}


def hold_rise(
    spec: AutoscalerSpec,
    seen: WorkloadObservation,
    proposals: tuple[Proposal, ...],
    desired: int,
    elapsed_s: float,
) -> Held | None:
    """What a rollout leaves of a rise; None where it holds nothing back.

    Metrics of pods do not raise while a pod has no sample; those from outside do, a queue does not
    care which revision works it off.

    Args:
        spec: with the metrics.
        seen: without the surge.
        proposals: one for each metric; empty when none was looked at.
        desired: decided up to here.
        elapsed_s: since the rollout began.
    """
    current = seen.spec_replicas
    if desired <= current or not proposals or elapsed_s > FREEZE_MAX_S:
        return None
    outside, waiting = current, 0
    for metric, proposal, reading in zip(spec.metrics, proposals, seen.readings, strict=True):
        if metric.kind.is_outside:
            outside = max(outside, proposal.replicas or 0)
        elif isinstance(reading, Mapping):
            waiting = max(waiting, sum(1 for pod in seen.pods if _waits(pod, reading)))
    if not waiting or outside >= desired:
        return None
    return Held(outside, f"a rollout is under way, {waiting} pods have no sample yet")


def _waits(pod: Pod, reading: Mapping[str, object]) -> bool:
    return not pod.deleting and pod.phase != "Failed" and pod.name not in reading


def asked_by_revisions(
    spec: AutoscalerSpec,
    seen: WorkloadObservation,
    revisions: Mapping[str, str],
    now: datetime,
    options: ControllerOptions,
) -> int:
    """What the revisions ask for, each for its own pods, added up; 0 where none can say.

    Only metrics of pods are looked at: one number for the whole workload has no revision.

    Args:
        spec: with the metrics.
        seen: without the surge.
        revisions: name of a pod -> revision; pods without one are a group of their own.
        now: time of the reconcile.
        options: the controller's flags.
    """
    groups: dict[str, list[Pod]] = {}
    for pod in seen.pods:
        groups.setdefault(revisions.get(pod.name, ""), []).append(pod)
    if len(groups) < 2:
        return 0
    tolerance = tolerance_of(spec.behavior, options)
    most = 0
    for metric, reading in zip(spec.metrics, seen.readings, strict=True):
        if metric.kind.is_outside or not isinstance(reading, Mapping):
            continue
        total = 0
        for pods in groups.values():
            own = {pod.name: reading[pod.name] for pod in pods if pod.name in reading}
            group = replace(
                seen, spec_replicas=len(pods), status_replicas=len(pods), pods=pods, readings=()
            )
            proposal = propose(Asked(spec, metric, group, tolerance, now, options), own)
            total += len(pods) if proposal.replicas is None else proposal.replicas
        most = max(most, total)
    return most


def elapsed_s(rollout: Rollout, now: datetime) -> float:
    """Seconds since a rollout began."""
    return (now - rollout.started_at) / timedelta(seconds=1)
