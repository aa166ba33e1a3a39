"""Reads an autoscaler as it is written for Kubernetes (`autoscaling/v2`), strictly.

Defaults are the API's, and so is what is refused. All that is wrong is told at once, each with the
path of its field. Unknown fields are refused as well, which the API does when it is asked to
(`kubectl` asks).

Source: Kubernetes v1.36, `pkg/apis/autoscaling/v2/defaults.go`, `validation/validation.go`,
`pkg/registry/autoscaling/horizontalpodautoscaler/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.errors import InvalidInputError
from fleet.rescaling.documents import parsed_documents, shown
from fleet.rescaling.fields import Fields, Problems, is_label, is_subdomain
from fleet.rescaling.reading_behavior import read_behavior
from fleet.rescaling.reading_metrics import read_metrics, read_reference
from fleet.rescaling.spec import AutoscalerSpec, ControllerOptions

API_VERSION = "autoscaling/v2"
KIND = "HorizontalPodAutoscaler"
_LISTS = frozenset({"List", f"{KIND}List"})
_DEFAULTS = ControllerOptions()
_META = (
    "generateName",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "selfLink",
)


def parse_autoscaler(
    text: str, options: ControllerOptions = _DEFAULTS, document: str = "autoscaler"
) -> list[AutoscalerSpec]:
    """Every autoscaler of a text, in its order.

    Args:
        text: YAML or JSON; several documents and lists of objects are taken apart.
        options: of the controller; `scale_to_zero` permits a minimum of 0.
        document: what errors call the text, a file name.

    Returns:
        At least one.

    Raises:
        InvalidInputError: no YAML, or no autoscaler in it; `InvalidDocumentError`, its subclass,
            lists all that is wrong with one. Correct the document.
    """
    specs: list[AutoscalerSpec] = []
    for index, parsed in enumerate(parsed_documents(text, document)):
        name = document if not index else f"{document} (document {index + 1})"
        if not isinstance(parsed, Mapping):
            raise InvalidInputError(name, shown(parsed), f"an object of kind {KIND}")
        items = parsed.get("items") if parsed.get("kind") in _LISTS else [parsed]
        objects = items if isinstance(items, list) else [parsed]
        specs.extend(read_autoscaler(one, options, name) for one in objects)
    if not specs:
        raise InvalidInputError(document, text[:80], f"an object of kind {KIND}")
    return specs


def read_autoscaler(
    document: Mapping[str, Any],
    options: ControllerOptions = _DEFAULTS,
    name: str = "autoscaler",
) -> AutoscalerSpec:
    """One autoscaler, with every default of the API filled in.

    Args:
        document: the parsed object, from `apiVersion` down to `spec`; a status is passed over.
        options: of the controller; `scale_to_zero` permits a minimum of 0.
        name: what errors call the document.

    Raises:
        InvalidDocumentError: everything that is wrong with it, by path of the field:
            `spec.metrics[1].resource.target`.
    """
    if not isinstance(document, Mapping):
        raise InvalidInputError(name, shown(document), f"an object of kind {KIND}")
    problems = Problems(name)
    top = Fields(problems, "", document)
    _check_head(top)
    own_name, namespace = _names(top)
    spec = top.fields("spec")
    if spec is None:
        top.refuse("spec", "", "the fields of an autoscaler; it is required")
    read = None if spec is None else _spec(spec, own_name, namespace, options)
    top.drop("status")
    top.end()
    problems.raise_any()
    assert read is not None, "a spec that is not there is a problem"
    return read


def _check_head(top: Fields) -> None:
    """The version and the kind of the object."""
    for field, allowed in (("apiVersion", API_VERSION), ("kind", KIND)):
        found = top.text(field)
        if found != allowed:
            top.refuse(field, found, allowed)


def _names(top: Fields) -> tuple[str, str]:
    """Name and namespace of the object."""
    meta = top.fields("metadata")
    if meta is None:
        top.refuse("metadata.name", "", "is required")
        return "", "default"
    name, namespace = meta.text("name"), meta.text("namespace", "default")
    if not is_subdomain(name):
        meta.refuse("name", name, "lower-case letters, digits, - and ., at most 253")
    if not is_label(namespace):
        meta.refuse("namespace", namespace, "lower-case letters, digits and -, at most 63")
    meta.drop(*_META)
    meta.end()
    return name, namespace


def _spec(spec: Fields, name: str, namespace: str, options: ControllerOptions) -> AutoscalerSpec:
    """The specification; problems are noted."""
    kind, target = _target(spec)
    minimum, maximum = _limits(spec, options)
    metrics = read_metrics(spec)
    if minimum == 0 and not any(metric.kind.is_outside for metric in metrics):
        spec.refuse("metrics", "", "an Object or External metric, since minReplicas is 0")
    behavior = read_behavior(spec)
    spec.end()
    return AutoscalerSpec(name, metrics, minimum, maximum, behavior, namespace, kind, target)


def _limits(spec: Fields, options: ControllerOptions) -> tuple[int, int]:
    """Minimum and maximum of replicas."""
    lowest = 0 if options.scale_to_zero else 1
    given = spec.integer("minReplicas")
    minimum = 1 if given is None else given
    if minimum < lowest:
        gate = "" if options.scale_to_zero else " (0 needs the feature gate HPAScaleToZero)"
        spec.refuse("minReplicas", minimum, f"{lowest} or more{gate}")
    maximum = spec.integer("maxReplicas")
    if maximum is None or maximum < 1:
        spec.refuse("maxReplicas", maximum, "1 or more; it is required")
        return minimum, 1
    if maximum < minimum:
        spec.refuse("maxReplicas", maximum, f"minReplicas, which is {minimum}, or more")
    return minimum, maximum


def _target(spec: Fields) -> tuple[str, str]:
    """Kind and name of what is scaled."""
    target = spec.fields("scaleTargetRef")
    if target is None:
        spec.refuse("scaleTargetRef", "", "is required")
        return "", ""
    kind, name = read_reference(target, with_group=True)
    target.end()
    return kind, name
