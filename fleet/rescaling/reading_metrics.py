"""Reads the metrics of an autoscaler: each with one source and one target.

Source: Kubernetes v1.36, `pkg/apis/autoscaling/v2/defaults.go`, `validation/validation.go`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from fleet.rescaling.fields import Fields, is_label, is_path_segment
from fleet.rescaling.quantities import milli_value, sign_of
from fleet.rescaling.selectors import selector_text
from fleet.rescaling.spec import MetricKind, MetricSpec, TargetType

DEFAULT_UTILIZATION = 80
"""Percent of CPU, for an autoscaler that names no metric."""
DEFAULT_METRICS = (
    MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, DEFAULT_UTILIZATION),
)
_CONTAINER_RESOURCE = re.compile(r"cpu|memory|ephemeral-storage|hugepages-.+|[^/]+/[^/]+")
_SOURCES = {
    "object": MetricKind.OBJECT,
    "external": MetricKind.EXTERNAL,
    "pods": MetricKind.PODS,
    "resource": MetricKind.RESOURCE,
    "containerResource": MetricKind.CONTAINER_RESOURCE,
}
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


class _Target(NamedTuple):
    """A target as it is written: thousandths, or percent."""

    type: str
    value: int | None
    average_value: int | None
    average_utilization: int | None


def read_metrics(spec: Fields) -> tuple[MetricSpec, ...]:
    """The metrics in their order; CPU at 80 % when there are none. Problems are noted."""
    rows = spec.rows("metrics")
    if not rows:
        return DEFAULT_METRICS
    found = [_metric(row) for row in rows]
    return tuple(metric for metric in found if metric is not None)


def _metric(metric: Fields) -> MetricSpec | None:
    """One metric; None when nothing can be made of it, which is noted."""
    kind = metric.text("type")
    names = [name for name in _SOURCES if name in metric]
    expected = next((name for name, one in _SOURCES.items() if one == kind), None)
    if expected is None:
        metric.refuse("type", kind, ", ".join(one.value for one in MetricKind))
        metric.drop(*names)
    elif expected not in names:
        metric.refuse(expected, "", f"is required for the type {kind}")
    for name in names:
        if name != expected and expected is not None:
            metric.refuse(name, "...", f"only {expected}, which the type {kind} names")
            metric.drop(name)
    source = metric.fields(expected) if expected is not None else None
    metric.end()
    if source is None or expected is None:
        return None
    read = _READERS[_SOURCES[expected]](source)
    source.end()
    return read


def _resource(source: Fields) -> MetricSpec | None:
    """CPU or memory of whole pods."""
    name = source.text("name")
    if not name:
        source.refuse("name", name, "the name of a resource, such as cpu")
    return _of_resource(source, MetricKind.RESOURCE, name, "")


def _container_resource(source: Fields) -> MetricSpec | None:
    """CPU or memory of one container."""
    name, container = source.text("name"), source.text("container")
    if not _CONTAINER_RESOURCE.fullmatch(name):
        source.refuse("name", name, "cpu, memory, ephemeral-storage, or vendor.example/name")
    if not is_label(container):
        source.refuse("container", container, "the name of a container")
    return _of_resource(source, MetricKind.CONTAINER_RESOURCE, name, container)


def _of_resource(source: Fields, kind: MetricKind, name: str, container: str) -> MetricSpec | None:
    """A resource with its target: a utilization or an amount, not both."""
    target = _target(source)
    if target is None:
        return None
    percent, average = target.average_utilization, target.average_value
    if (percent is None) == (average is None):
        source.refuse("target", "", "one of averageUtilization and averageValue")
        return None
    if average is not None:
        return MetricSpec(kind, name, TargetType.AVERAGE_VALUE, average, container)
    return MetricSpec(kind, name, TargetType.UTILIZATION, percent or 0, container)


def _pods(source: Fields) -> MetricSpec | None:
    """A metric that each pod has."""
    name, selector = _identifier(source)
    target = _target(source)
    if target is None:
        return None
    if target.average_value is None:
        source.refuse("target.averageValue", "", "is required")
        return None
    average = target.average_value
    return MetricSpec(MetricKind.PODS, name, TargetType.AVERAGE_VALUE, average, selector=selector)


def _object(source: Fields) -> MetricSpec | None:
    """A metric of another object; the type of the target decides which number counts."""
    described = source.fields("describedObject")
    reference = ""
    if described is None:
        source.refuse("describedObject", "", "is required")
    else:
        reference = "/".join(read_reference(described, with_group=False))
        described.end()
    name, selector = _identifier(source)
    target = _target(source)
    if target is None:
        return None
    if target.value is None and target.average_value is None:
        source.refuse("target", "", "one of value and averageValue")
        return None
    chosen = None
    if target.type in {TargetType.VALUE, TargetType.AVERAGE_VALUE}:
        kind = TargetType(target.type)
        chosen = target.value if kind is TargetType.VALUE else target.average_value
    else:
        kind = TargetType.VALUE
    return MetricSpec(
        MetricKind.OBJECT,
        name,
        kind,
        chosen or 0,
        selector=selector,
        described_object=reference,
        has_target=chosen is not None,
    )


def _external(source: Fields) -> MetricSpec | None:
    """A metric of something outside."""
    name, selector = _identifier(source)
    target = _target(source)
    if target is None:
        return None
    if (target.value is None) == (target.average_value is None):
        source.refuse("target", "", "one of value and averageValue")
        return None
    if target.average_value is not None:
        kind, chosen = TargetType.AVERAGE_VALUE, target.average_value
    else:
        kind, chosen = TargetType.VALUE, target.value or 0
    return MetricSpec(MetricKind.EXTERNAL, name, kind, chosen, selector=selector)


_READERS: dict[MetricKind, Callable[[Fields], MetricSpec | None]] = {
    MetricKind.RESOURCE: _resource,
    MetricKind.CONTAINER_RESOURCE: _container_resource,
    MetricKind.PODS: _pods,
    MetricKind.OBJECT: _object,
    MetricKind.EXTERNAL: _external,
}


def _target(source: Fields) -> _Target | None:
    """The target of a metric; None when there is none, which is noted."""
    target = source.fields("target")
    if target is None:
        source.refuse("target", "", "is required")
        return None
    kind = target.text("type")
    if kind not in {one.value for one in TargetType}:
        target.refuse("type", kind, ", ".join(one.value for one in TargetType))
    percent = target.integer("averageUtilization")
    if percent is not None and percent < 1:
        target.refuse("averageUtilization", percent, "1 or more")
    read = _Target(kind, _positive(target, "value"), _positive(target, "averageValue"), percent)
    target.end()
    return read


def _positive(target: Fields, name: str) -> int | None:
    """Thousandths of a positive quantity; None when there is none."""
    text = target.quantity(name)
    if text is None:
        return None
    sign = int(target.checked(name, text, sign_of, 1))
    if sign <= 0:
        target.refuse(name, text, "more than 0")
    return int(target.checked(name, text, milli_value, 0)) if sign > 0 else None


def _identifier(source: Fields) -> tuple[str, str]:
    """Name and selector of a metric."""
    metric = source.fields("metric")
    if metric is None:
        source.refuse("metric.name", "", "is required")
        return "", ""
    name = metric.text("name")
    if not name or not is_path_segment(name):
        metric.refuse("name", name, "the name of a metric, without / and %")
    selector = metric.fields("selector")
    text = "" if selector is None else _selector(selector)
    metric.end()
    return name, text


def _selector(selector: Fields) -> str:
    """A label selector in `kubectl`'s form."""
    labels = selector.mapping("matchLabels")
    expressions = []
    for row in selector.rows("matchExpressions") or []:
        key, operator, values = row.text("key"), row.text("operator"), row.texts("values")
        if operator not in _OPERATORS:
            row.refuse("operator", operator, ", ".join(_OPERATORS))
        elif bool(values) != (operator in {"In", "NotIn"}):
            row.refuse("values", values, "values for In and NotIn, none for the others")
        else:
            expressions.append({"key": key, "operator": operator, "values": values})
        row.end()
    selector.end()
    return selector_text(labels, expressions)


def read_reference(reference: Fields, *, with_group: bool) -> tuple[str, str]:
    """Kind and name of an object that is referred to."""
    kind, name, version = (reference.text(field) for field in ("kind", "name", "apiVersion"))
    for field, value in (("kind", kind), ("name", name)):
        if not value or not is_path_segment(value):
            reference.refuse(field, value, "a name without / and %; it is required")
    group, slash, _ = version.partition("/")
    if version.count("/") > 1:
        reference.refuse("apiVersion", version, "group/version")
    elif with_group and kind != "ReplicationController" and not (slash and group):
        reference.refuse("apiVersion", version, "group/version, such as apps/v1")
    return kind, name
