"""Autoscalers as they are written: defaults and refusals of the API, each with its path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.errors import InvalidDocumentError, InvalidInputError
from fleet.rescaling.reading import parse_autoscaler, read_autoscaler
from fleet.rescaling.reading_behavior import DEFAULT_DOWN, DEFAULT_UP
from fleet.rescaling.selectors import printed_selector
from fleet.rescaling.spec import (
    AutoscalerSpec,
    Behavior,
    ControllerOptions,
    MetricKind,
    MetricSpec,
    PolicyType,
    ScalingPolicy,
    ScalingRules,
    SelectPolicy,
    TargetType,
)

_METRICS: list[dict[str, Any]] = [
    {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
    },
    {
        "type": "ContainerResource",
        "containerResource": {
            "name": "memory",
            "container": "main",
            "target": {"type": "AverageValue", "averageValue": "64Mi"},
        },
    },
    {
        "type": "Pods",
        "pods": {
            "metric": {"name": "sessions"},
            "target": {"type": "AverageValue", "averageValue": 2.5},
        },
    },
    {
        "type": "Object",
        "object": {
            "describedObject": {"kind": "Service", "name": "front", "apiVersion": "v1"},
            "metric": {"name": "requests"},
            "target": {"type": "Value", "value": "1k"},
        },
    },
    {
        "type": "External",
        "external": {
            "metric": {
                "name": "queue",
                "selector": {
                    "matchLabels": {"queue": "inbox"},
                    "matchExpressions": [
                        {"key": "tier", "operator": "NotIn", "values": ["test", "dev"]},
                        {"key": "old", "operator": "DoesNotExist"},
                        {"key": "zone", "operator": "Exists"},
                        {"key": "size", "operator": "In", "values": ["l"]},
                    ],
                },
            },
            "target": {"type": "AverageValue", "averageValue": "30"},
        },
    },
]


def _document(**spec: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}},
        "spec": {"scaleTargetRef": target, "maxReplicas": 10, **spec},
        "status": {"currentReplicas": 3},
    }


def test_what_is_not_said_gets_the_defaults_of_the_api() -> None:
    """One replica at least, CPU at 80 %, no rules."""
    cpu = MetricSpec(MetricKind.RESOURCE, "cpu", TargetType.UTILIZATION, 80)
    assert read_autoscaler(_document(maxReplicas=10.0)) == AutoscalerSpec(
        "web", (cpu,), 1, 10, None, "shop", "Deployment", "web"
    )


def test_rules_of_one_direction_bring_the_defaults_of_the_other() -> None:
    """As soon as there is a behavior, both directions have policies; a tolerance may be fine."""
    read = read_autoscaler(
        _document(
            behavior={
                "scaleDown": {
                    "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}],
                    "selectPolicy": "Min",
                    "stabilizationWindowSeconds": 30,
                    "tolerance": "0.05",
                },
                "scaleUp": {"tolerance": "500u"},
            }
        )
    )
    down = ScalingRules((ScalingPolicy(PolicyType.PODS, 2, 60),), SelectPolicy.MIN, 30, 50)
    up = ScalingRules(DEFAULT_UP.policies, SelectPolicy.MAX, 0, 1, 0.0005)
    assert read.behavior == Behavior(up, down)
    assert read_autoscaler(_document(behavior={})).behavior == Behavior(DEFAULT_UP, DEFAULT_DOWN)


def test_every_kind_of_metric_is_read_in_thousandths() -> None:
    """Quantities become thousandths, references `kind/name`, selectors what `kubectl` writes."""
    kinds = MetricKind
    average, value = TargetType.AVERAGE_VALUE, TargetType.VALUE
    selector = "queue=inbox,tier notin (test,dev),!old,zone,size in (l)"
    assert read_autoscaler(_document(metrics=_METRICS)).metrics == (
        MetricSpec(kinds.RESOURCE, "cpu", TargetType.UTILIZATION, 60),
        MetricSpec(kinds.CONTAINER_RESOURCE, "memory", average, 67_108_864_000, "main"),
        MetricSpec(kinds.PODS, "sessions", average, 2500),
        MetricSpec(kinds.OBJECT, "requests", value, 1_000_000, described_object="Service/front"),
        MetricSpec(kinds.EXTERNAL, "queue", average, 30_000, selector=selector),
    )
    assert printed_selector(selector) == (
        "&LabelSelector{MatchLabels:map[string]string{queue: inbox,},MatchExpressions:"
        "[]LabelSelectorRequirement{LabelSelectorRequirement{Key:tier,Operator:NotIn,"
        "Values:[test dev],},LabelSelectorRequirement{Key:old,Operator:DoesNotExist,Values:[],},"
        "LabelSelectorRequirement{Key:zone,Operator:Exists,Values:[],},"
        "LabelSelectorRequirement{Key:size,Operator:In,Values:[l],},},}"
    )
    assert "Key:tier,Operator:NotIn,Values:[test]" in printed_selector("tier!=test")


def test_an_object_whose_target_names_no_number_is_read_and_invalid() -> None:
    """The API lets it through, so it is no error of the document."""
    for written, kind in (
        ("AverageValue", TargetType.AVERAGE_VALUE),
        ("Utilization", TargetType.VALUE),
    ):
        source = dict(_METRICS[3]["object"], target={"type": written, "value": "1"})
        spec = read_autoscaler(_document(metrics=[{"type": "Object", "object": source}]))
        assert (spec.metrics[0].target_type, spec.metrics[0].has_target) == (kind, False)


def test_yaml_json_several_documents_and_lists_are_taken_apart() -> None:
    """Every autoscaler of a text comes back, in its order; names stay texts."""
    one, other = _document(), _document()
    other["metadata"]["name"] = "2026-11-21"
    both = {"apiVersion": "v1", "kind": "List", "items": [one, other]}
    tabs = json.dumps(both, indent="\t")
    separate = f"---\n{json.dumps(one)}\n---\n---\n{json.dumps(other)}"
    for text in (json.dumps(both), tabs, separate.replace('"2026-11-21"', "2026-11-21")):
        assert [spec.name for spec in parse_autoscaler(text)] == ["web", "2026-11-21"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "an object of kind"),
        ("- 1", "an object of kind"),
        ("kind: List\nitems: [5]", "an object of kind"),
        ("a: [", "YAML or JSON"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": NaN}', "NaN is no number"),
        ("[" * 5000, "YAML or JSON"),
        (f"a: {'9' * 5000}", "YAML or JSON"),
        ("{a: 1}", "apiVersion"),
        ("a: 1\na: 2", "stands twice"),
        ("&a [*a, *b]", "YAML or JSON"),
    ],
)
def test_texts_without_an_autoscaler_are_refused(text: str, told: str) -> None:
    """No YAML, no object, the same key twice: one error, nothing is read."""
    with pytest.raises(InvalidInputError, match=told):
        parse_autoscaler(text)


def test_a_document_that_repeats_itself_a_million_times_is_refused_in_a_word() -> None:
    """References can make a small text stand for a huge one; errors do not spell it out."""
    lines = ["a0: &a0 [1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(InvalidDocumentError) as caught:
        parse_autoscaler("\n".join(lines))
    assert len(str(caught.value)) < 3000


def _metric(kind: str, **source: Any) -> dict[str, Any]:
    """A spec with one metric."""
    return {"metrics": [{"type": kind, f"{kind[0].lower()}{kind[1:]}": source}]}


def _target(**target: Any) -> dict[str, Any]:
    """A spec with CPU and a target."""
    return _metric("Resource", name="cpu", target=target)


_RULE = {"type": "Pods", "value": 1, "periodSeconds": 15}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"minReplicas": 11}, "maxReplicas"),
        ({"minReplicas": 0}, "minReplicas"),
        ({"minReplicas": "3"}, "minReplicas"),
        ({"minReplicas": True}, "minReplicas"),
        ({"maxReplicas": None}, "maxReplicas"),
        ({"maxReplicas": {}}, "maxReplicas"),
        ({"maxReplicas": 2**31}, "maxReplicas"),
        ({"max": 3}, "max"),
        ({"scaleTargetRef": None}, "scaleTargetRef"),
        ({"scaleTargetRef": {"kind": "Deployment", "name": "web"}}, "scaleTargetRef.apiVersion"),
        (
            {"scaleTargetRef": {"apiVersion": "a/b/c", "kind": "D", "name": "w"}},
            "scaleTargetRef.apiV",
        ),
        (
            {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "D", "name": "a/b"}},
            "scaleTargetRef.n",
        ),
        ({"metrics": "cpu"}, "metrics"),
        ({"metrics": ["cpu"]}, "metrics[0]"),
        ({"metrics": [{"type": "Cpu"}]}, "metrics[0].type"),
        ({"metrics": [{"type": "Pods"}]}, "metrics[0].pods"),
        ({"metrics": [{**_METRICS[2], "resource": {}}]}, "metrics[0].resource"),
        ({"metrics": [{**_METRICS[2], "pods": 5}]}, "metrics[0].pods"),
        (_metric("Resource", name="cpu"), "metrics[0].resource.target"),
        (
            _metric("Resource", target={"type": "Utilization", "averageUtilization": 1}),
            "metrics[0].re",
        ),
        (_target(type="Utilization"), "metrics[0].resource.target"),
        (_target(type="Usage", averageUtilization=1), "metrics[0].resource.target.type"),
        (_target(type="Utilization", averageUtilization=0), "metrics[0].resource.target.averageUt"),
        (_target(type="AverageValue", averageValue="0"), "metrics[0].resource.target.averageValue"),
        (
            _target(type="AverageValue", averageValue="-1"),
            "metrics[0].resource.target.averageValue",
        ),
        (
            _target(type="AverageValue", averageValue="1x"),
            "metrics[0].resource.target.averageValue",
        ),
        (
            _target(type="AverageValue", averageValue=True),
            "metrics[0].resource.target.averageValue",
        ),
        (
            _metric("Pods", metric={"name": "a/b"}, target={"type": "Value"}),
            "metrics[0].pods.metric",
        ),
        (_metric("Pods", target=_METRICS[2]["pods"]["target"]), "metrics[0].pods.metric.name"),
        (_metric("Pods", metric={"name": "a"}), "metrics[0].pods.target"),
        (
            _metric("Object", metric={"name": "a"}, target={"type": "Value"}),
            "metrics[0].object.desc",
        ),
        (_metric("Object", metric={"name": "a"}), "metrics[0].object.describedObject"),
        (_metric("External", metric={"name": "a"}), "metrics[0].external.target"),
        (
            _metric("External", metric={"name": "a"}, target={"type": "Value"}),
            "metrics[0].external.t",
        ),
        (
            _metric("ContainerResource", name="disk", container="-", target={"type": "Value"}),
            "metrics[0].containerResource.name",
        ),
        ({"behavior": {"scaleUp": {"policies": []}}}, "behavior.scaleUp.policies"),
        (
            {"behavior": {"scaleUp": {"policies": [{**_RULE, "type": "Nodes"}]}}},
            "behavior.scaleUp.pol",
        ),
        (
            {"behavior": {"scaleUp": {"policies": [{**_RULE, "value": 0}]}}},
            "behavior.scaleUp.policies",
        ),
        (
            {"behavior": {"scaleUp": {"policies": [{**_RULE, "periodSeconds": 1801}]}}},
            "behavior.scale",
        ),
        ({"behavior": {"scaleDown": {"selectPolicy": "Most"}}}, "behavior.scaleDown.selectPolicy"),
        (
            {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 3601}}},
            "behavior.scaleDown.stab",
        ),
        ({"behavior": {"scaleDown": {"tolerance": "-0.1"}}}, "behavior.scaleDown.tolerance"),
        ({"behavior": {"scaleDown": {"tolerance": "10%"}}}, "behavior.scaleDown.tolerance"),
    ],
)
def test_what_the_api_refuses_is_refused_with_its_path(spec: dict[str, Any], path: str) -> None:
    """Limits, types, unknown fields: the first problem names the path of its field."""
    with pytest.raises(InvalidDocumentError) as caught:
        read_autoscaler(_document(**spec))

    assert caught.value.problems[0].field.startswith(f"spec.{path}")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("selector", "path"),
    [
        ({"matchLabels": {"a": 1}}, "matchLabels.a"),
        ({"matchLabels": ["a"]}, "matchLabels"),
        ({"matchExpressions": [{"key": "a", "operator": "Gt"}]}, "matchExpressions[0].operator"),
        ({"matchExpressions": [{"key": "a", "operator": "In"}]}, "matchExpressions[0].values"),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": "b"}]},
            "matchExpressions[0]",
        ),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": [1]}]},
            "matchExpressions[0]",
        ),
    ],
)
def test_selectors_that_select_nothing_definite_are_refused(
    selector: dict[str, Any], path: str
) -> None:
    """The controller would find the metric invalid at every reconcile; the document says so now."""
    target = _METRICS[2]["pods"]["target"]
    spec = _metric("Pods", metric={"name": "a", "selector": selector}, target=target)
    with pytest.raises(InvalidDocumentError) as caught:
        read_autoscaler(_document(**spec))
    assert caught.value.problems[0].field.startswith(f"spec.metrics[0].pods.metric.selector.{path}")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"apiVersion": "autoscaling/v1"}, "apiVersion"),
        ({"kind": "Deployment"}, "kind"),
        ({"metadata": None}, "metadata.name"),
        ({"metadata": {"name": "Web"}}, "metadata.name"),
        ({"metadata": {"name": 5}}, "metadata.name"),
        ({"metadata": {"name": "web", "namespace": "a.b"}}, "metadata.namespace"),
        ({"spec": None}, "spec"),
        ({"spec": 5}, "spec"),
        ({"more": 1}, "more"),
    ],
)
def test_objects_of_another_kind_are_refused(change: dict[str, Any], path: str) -> None:
    """Version, kind and names are looked at before the rest."""
    with pytest.raises(InvalidDocumentError) as caught:
        read_autoscaler({**_document(), **change})
    assert caught.value.problems[0].field == path


def test_a_minimum_of_zero_needs_the_gate_and_a_metric_from_outside() -> None:
    """Without pods there is no CPU to look at."""
    gate = ControllerOptions(scale_to_zero=True)
    assert read_autoscaler(_document(minReplicas=0, metrics=_METRICS[4:]), gate).min_replicas == 0
    with pytest.raises(InvalidDocumentError, match="Object or External"):
        read_autoscaler(_document(minReplicas=0), gate)
