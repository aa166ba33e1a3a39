"""What the controller calls a metric, and how it wraps an error on its way into a condition.

Messages are kept to the letter: people search for them, and tools match them.

Source: Kubernetes v1.36, `pkg/controller/podautoscaler/horizontal.go`, `replica_calculator.go`.
"""

from __future__ import annotations

from fleet.rescaling.selectors import printed_selector
from fleet.rescaling.spec import AutoscalerSpec, MetricKind, MetricSpec, TargetType

NO_PODS = "no pods returned by selector while calculating replica count"
NO_SAMPLES = "did not receive metrics for targeted pods (pods might be unready)"
NO_MATCH = "no metrics returned matched known pods"
NO_READY = f"unable to calculate ready pods: {NO_PODS}"
NO_SERIES = "no metrics returned from external metrics API"
UNABLE = "the HPA was unable to compute the replica count: "


def metric_name(metric: MetricSpec) -> str:
    """A metric as conditions and events call it."""
    if metric.kind is MetricKind.PODS:
        return f"pods metric {metric.name}"
    if metric.kind is MetricKind.EXTERNAL or (
        metric.kind is MetricKind.OBJECT and metric.target_type is TargetType.AVERAGE_VALUE
    ):
        return f"external metric {metric.name}({printed_selector(metric.selector)})"
    if metric.kind is MetricKind.OBJECT:
        return f"{metric.described_object.partition('/')[0]} metric {metric.name}"
    if metric.target_type is TargetType.AVERAGE_VALUE:
        return f"{metric.name} resource"
    container = "container " if metric.kind is MetricKind.CONTAINER_RESOURCE else ""
    return f"{metric.name} {container}resource utilization (percentage of request)"


def reason_of(metric: MetricSpec) -> str:
    """Reason of the condition of a metric that is invalid."""
    return f"FailedGet{metric.kind}Metric"


def unobtainable(spec: AutoscalerSpec, metric: MetricSpec, message: str) -> str:
    """Why a metric could not be had, `message` being what its source said."""
    if metric.kind is MetricKind.PODS:
        return f"unable to get metric {metric.name}: {message}"
    if metric.kind is MetricKind.OBJECT:  # the controller mixes up the order of its words
        kind, _, name = metric.described_object.partition("/")
        return f"unable to get metric {metric.name}: {kind} on {spec.namespace} {name}/{message}"
    if metric.kind is MetricKind.EXTERNAL:
        selector = printed_selector(metric.selector)
        return f"unable to get external metric {spec.namespace}/{metric.name}/{selector}: {message}"
    return uncountable(metric, f"unable to get metrics for resource {metric.name}: {message}")


def uncountable(metric: MetricSpec, message: str) -> str:
    """Why nothing follows from a metric that could be had."""
    if metric.kind not in {MetricKind.RESOURCE, MetricKind.CONTAINER_RESOURCE}:
        return message
    usage = "usage" if metric.target_type is TargetType.AVERAGE_VALUE else "utilization"
    return f"failed to get {metric.name} {usage}: {message}"


def untargeted(metric: MetricSpec) -> str:
    """Why a metric without the number that its target names is invalid."""
    if metric.kind in {MetricKind.OBJECT, MetricKind.EXTERNAL}:
        source, numbers = metric.kind.lower(), "a value target nor an average value target"
    else:
        source, numbers = (
            "resource",
            "an average utilization target nor an average value (usage) target",
        )
    return f"invalid {source} metric source: neither {numbers} was set"


def first_error(metric: MetricSpec, message: str) -> str:
    """The error of a reconcile whose first invalid metric this is."""
    name = metric.name
    if metric.kind is MetricKind.RESOURCE:
        return f"failed to get {name} resource metric value: {message}"
    if metric.kind is MetricKind.CONTAINER_RESOURCE:
        return f"failed to get {metric.container} container metric value: {message}"
    if metric.kind is MetricKind.PODS:
        return f"failed to get pods metric value: {message}"
    averaged = metric.target_type is TargetType.AVERAGE_VALUE
    if metric.kind is MetricKind.OBJECT:
        again = f"failed to get {name} object metric: " if averaged else ""
        again = again if metric.has_target else ""
        return f"failed to get object metric value: {again}{message}"
    again = f"{name} external metric" if averaged else f"external metric {name}"
    again = f"failed to get {again}: " if metric.has_target else ""
    return f"failed to get {name} external metric value: {again}{message}"
