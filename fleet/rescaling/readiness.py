"""Which pods of a workload count, and as what: ready, unready, missing or ignored.

The order of the tests decides: a pod that goes away is ignored even when it is ready, one without
a sample is missing even when it is not ready. Readiness counts for CPU only: while a process
starts, its CPU says nothing about load.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/replica_calculator.go`, `groupPods`,
`calculateRequests`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.rescaling.go_integers import wrap_int64
from fleet.rescaling.observation import Pod, PodSample, PodSamples
from fleet.rescaling.spec import ControllerOptions

CPU = "cpu"


class PodGroups(NamedTuple):
    """Pods by what their samples are worth; names in the order in which the pods came."""

    ready: int
    """How many count with their sample."""
    unready: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]


class MissingRequestError(Exception):
    """A pod does not request what its utilization is to be a percentage of."""


def group_pods(
    pods: Sequence[Pod],
    samples: PodSamples,
    resource: str,
    now: datetime,
    options: ControllerOptions,
) -> PodGroups:
    """Sort pods by what their samples are worth.

    Args:
        pods: of the workload.
        samples: of the metric, by name.
        resource: `cpu` lets readiness count; anything else does not.
        now: time of the reconcile.
        options: how long a pod may take to start.
    """
    ready = 0
    unready: list[str] = []
    missing: list[str] = []
    ignored: list[str] = []
    for pod in pods:
        if pod.deleting or pod.phase == "Failed":
            ignored.append(pod.name)
        elif pod.phase == "Pending":
            unready.append(pod.name)
        elif (sample := samples.get(pod.name)) is None:
            missing.append(pod.name)
        elif resource == CPU and _is_unready(pod, sample, now, options):
            unready.append(pod.name)
        else:
            ready += 1
    return PodGroups(ready, tuple(unready), tuple(missing), tuple(ignored))


def _is_unready(pod: Pod, sample: PodSample, now: datetime, options: ControllerOptions) -> bool:
    """Whether a pod's CPU does not count: it starts, or was never ready."""
    has_condition = pod.ready is not None or pod.ready_changed_at is not None
    if not has_condition or pod.started_at is None:
        return True
    not_ready, changed_at = pod.ready is False, pod.ready_changed_at
    if pod.started_at + timedelta(seconds=options.cpu_initialization_period_s) > now:
        return not_ready or (
            changed_at is not None and sample.at < changed_at + timedelta(seconds=sample.window_s)
        )
    first_s = timedelta(seconds=options.initial_readiness_delay_s)
    return not_ready and (changed_at is None or pod.started_at + first_s > changed_at)


def count_ready(pods: Sequence[Pod]) -> int:
    """How many pods run and are ready; also those that go away."""
    return sum(1 for pod in pods if pod.phase == "Running" and pod.ready is True)


def requests_of(pods: Sequence[Pod], resource: str, container: str = "") -> dict[str, int]:
    """What each pod requests, in thousandths, by name.

    All pods are asked, also those that do not count: one without a request makes the metric
    invalid. Of several the first by name is told, so that the order of pods does not matter.

    Args:
        pods: of the workload.
        resource: what is requested.
        container: only this container's request; empty for whole pods.

    Raises:
        MissingRequestError: worded as the controller words it.
    """
    requests: dict[str, int] = {}
    faulty: list[Pod] = []
    for pod in pods:
        request = _request_of(pod, resource, container)
        if request is None:
            faulty.append(pod)
        else:
            requests[pod.name] = request
    if faulty:
        first = min(faulty, key=lambda pod: pod.name)
        raise MissingRequestError(_missing_request(first, resource, container))
    return requests


def _request_of(pod: Pod, resource: str, container: str) -> int | None:
    """Thousandths that one pod requests; None where the request is missing."""
    if container:
        return pod.requests.get(container, {}).get(resource)
    if pod.pod_requests:
        return _pod_level_request(pod, resource)
    request = 0
    for resources in pod.requests.values():
        if resource not in resources:
            return None
        request += resources[resource]
    return wrap_int64(request)


def _pod_level_request(pod: Pod, resource: str) -> int | None:
    """Declared for the pod; of a resource that is not, what its containers add up to."""
    declared = pod.pod_requests.get(resource)
    if declared is not None:
        return declared
    parts = [resources[resource] for resources in pod.requests.values() if resource in resources]
    return wrap_int64(sum(parts)) if parts else None


def _missing_request(pod: Pod, resource: str, container: str) -> str:
    """Why a pod's request is missing, as the controller words it."""
    if container and container not in pod.requests:
        return f"container {container} not found in Pod {pod.name}"
    if not container and pod.pod_requests:
        return f"missing pod-level request for {resource} in Pod {pod.name}"
    without = (name for name, resources in pod.requests.items() if resource not in resources)
    name = container or next(without, "")
    return f"missing request for {resource} in container {name} of Pod {pod.name}"
