"""Recordings of the real controller: the same numbers, conditions and errors, case by case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from fleet.errors import InvalidInputError
from fleet.rescaling.decision import ReplicaDecision
from fleet.rescaling.hpa import decide_replicas, unapplied
from fleet.rescaling.metric_words import first_error, uncountable
from fleet.rescaling.observation import AutoscalerState, MetricFault, WorkloadObservation
from fleet.rescaling.proposals import Asked, Tolerance, propose
from fleet.rescaling.quantities import canonical_text, float_value, milli_value, sign_of
from fleet.rescaling.reading import read_autoscaler
from fleet.rescaling.spec import AutoscalerSpec, ControllerOptions, TargetType
from tests.fleet.rescaling import recordings

REFUSED = {"bad-api-version": "apiVersion", "resource-target-of-type-value-is-an-error": "target"}
"""Recorded specs that the API server refuses before any controller sees them, and so do we."""


def test_quantities_are_read_as_kubernetes_reads_them() -> None:
    """Thousandths, sign, float and stored form of every recorded text are equal."""
    differences = []
    for line in recordings.lines("quantities.jsonl"):
        text = line["text"]
        try:
            found = (milli_value(text), sign_of(text), float_value(text), canonical_text(text))
        except InvalidInputError:
            found = None
        if line["error"] is None:
            expected = (line["milli"], line["sign"], float(line["float"]), line["canonical"])
        else:
            expected = None
        if found != expected:
            differences.append((text, found, expected))
    assert differences == []


def test_every_call_of_the_calculator_is_answered_alike() -> None:
    """Replicas, measured value and error of each metric alone, whatever pods and samples."""
    differences = []
    for line in recordings.lines("calculator.jsonl.gz"):
        out = line["out"]
        spec, seen, options = recordings.calculator_case(line)
        tolerance = Tolerance(line["tolerance_down"], line["tolerance_up"])
        metric = spec.metrics[0]
        asked = Asked(spec, metric, seen, tolerance, recordings.START, options)
        found = propose(asked, seen.readings[0])
        if out["error"] is not None:
            expected = uncountable(metric, out["error"])
            same = found.fault is not None and found.fault.message == expected
        elif out.get("platform_dependent"):
            same = found.fault is None  # no machine but the recorder's is bound to its number
        else:
            is_percent = metric.target_type is TargetType.UTILIZATION
            value = out["utilization" if is_percent else "usage_milli"]
            same = (found.replicas, found.value) == (out["replicas"], value)
        if not same:
            differences.append((line["name"], line["kind"], out, found))
    assert differences == []


@pytest.mark.parametrize("file", ["edge_cases.jsonl", "sequences.jsonl.gz"])
def test_every_recorded_autoscaler_is_decided_alike_at_every_step(file: str) -> None:
    """Counts, conditions to the word, errors and memory, from one reconcile to the next."""
    differences = []
    for line in recordings.lines(file):
        if line["name"] not in REFUSED:
            differences += _differences(line)
    assert differences == []


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_api_refuses_is_refused(name: str) -> None:
    """The recorded controller was handed these all the same, and could not decide."""
    (line,) = (one for one in recordings.lines("edge_cases.jsonl") if one["name"] == name)
    (step,) = line["steps"]
    assert step["out"]["error"]
    with pytest.raises(InvalidInputError, match=REFUSED[name]):
        _read(step["in"]["spec_as_written"], ControllerOptions())


def _differences(line: Mapping[str, Any]) -> list[Any]:
    """What differs at the first step that differs."""
    controller = _Controller(line)
    for number, step in enumerate(line["steps"]):
        found = controller.reconcile(step["in"], step["out"])
        if found:
            return [(line["name"], number, found)]
    return []


class _Controller:
    """Our engine in the place of the real controller: what it is given, step by step."""

    def __init__(self, line: Mapping[str, Any]) -> None:
        """Begin as a controller that was just started."""
        self.options = recordings.options_of(line["config"])
        self.spec: AutoscalerSpec | None = None
        self.state = AutoscalerState()
        self.pods: list[Any] = []

    def reconcile(self, given: Mapping[str, Any], out: Mapping[str, Any]) -> list[Any]:
        """One step: decide, and tell how the decision differs from the recorded one."""
        if given.get("controller_restarted"):
            self.state = AutoscalerState(conditions=self.state.conditions)
            if "config" in given:
                self.options = recordings.options_of(given["config"])
        if "spec_as_written" in given:
            self.spec = _read(given["spec_as_written"], self.options)
            assert self.spec == _read(given["spec"], self.options)
        if "pods" in given:
            self.pods = [recordings.pod_of(one) for one in given["pods"] or ()]
        if given.get("hpa_deleted"):
            self.state = AutoscalerState()
            return []
        assert self.spec is not None
        seen = _seen(self.spec, given, out, self.pods)
        before = self.state
        decision = decide_replicas(
            self.spec, seen, before, recordings.moment(given["t_ms"]), self.options
        )
        if out["scale_to"] is None and decision.is_change and out["error"] is not None:
            message = out["error"].partition(": ")[2]
            decision = unapplied(self.spec, decision, before, message)
        if given.get("status_update_error") and not out["status_written"]:
            decision = _with_old_status(decision, before, out["error"])
        self.state = decision.state
        return _compared(self.spec, decision, out, has_pods=seen.fault is None)


def _with_old_status(
    decision: ReplicaDecision, before: AutoscalerState, told: str | None
) -> ReplicaDecision:
    """A decision whose status could not be stored; of two errors the controller returns one.

    Whether it tries at all depends on numbers of the status that are not ours to tell.
    """
    state = replace(decision.state, conditions=before.conditions)
    decision = replace(decision, conditions=before.conditions, state=state)
    if decision.error or not (told or "").startswith("failed to update status for web: "):
        return decision
    return replace(decision, error=told or "")


def _read(spec: Mapping[str, Any], options: ControllerOptions) -> AutoscalerSpec:
    """A spec of a recording; a minimum of 0 may have got in while its gate was open."""
    least = spec.get("minReplicas")
    document = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "fleet"},
        "spec": {**spec, "minReplicas": least or 1},
    }
    read = read_autoscaler(document, options)
    return replace(read, min_replicas=0) if least == 0 else read


def _seen(
    spec: AutoscalerSpec, given: Mapping[str, Any], out: Mapping[str, Any], pods: list[Any]
) -> WorkloadObservation:
    """The workload of a step; what is wrong with its selector is told by whoever looks for pods."""
    scale = given["scale"]
    if scale.get("error"):
        return WorkloadObservation(0, 0, (), (), MetricFault("FailedGetScale", scale["error"]))
    if spec.target_kind not in {"Deployment", "StatefulSet", "ReplicaSet"}:
        text = f'no matches for kind "{spec.target_kind}" in group "apps"'
        return WorkloadObservation(0, 0, (), (), MetricFault("UnknownTargetKind", text))
    counts = scale.get("spec_replicas", 0), scale.get("status_replicas", 0)
    fault = _selector_fault(scale.get("selector", ""), given, out)
    if fault is not None:
        return WorkloadObservation(*counts, (), (), fault)
    found = pods if scale["selector"] == "app=web" else []
    readings = [
        recordings.reading_of(metric, sample)
        for metric, sample in zip(spec.metrics, given.get("samples") or [], strict=True)
    ]
    return WorkloadObservation(*counts, found, readings)


def _selector_fault(
    selector: str, given: Mapping[str, Any], out: Mapping[str, Any]
) -> MetricFault | None:
    """What is wrong with a selector; the words come from the recording, for they are not ours."""
    told = (out["error"] or "").partition(": ")[2]
    if not selector:
        return MetricFault("InvalidSelector", "selector is required")
    if selector.count("(") != selector.count(")"):
        return MetricFault("InvalidSelector", told)
    if selector in given.get("other_hpa_selectors", ()):
        return MetricFault("AmbiguousSelector", told)
    return None


def _compared(
    spec: AutoscalerSpec, decision: ReplicaDecision, out: Mapping[str, Any], *, has_pods: bool
) -> list[Any]:
    """Pairs of what was decided and what was recorded, where they differ."""
    pairs: list[tuple[Any, Any]] = [
        (decision.desired if decision.is_change else None, out["scale_to"]),
        (decision.conditions, recordings.conditions_of(out["conditions"])),
        (decision.error or decision.warning or None, out["error"]),
    ]
    if "proposals" in out and has_pods:  # recorded beforehand, also where the controller stops
        found = [
            {"error": first_error(metric, proposal.fault.message)}
            if proposal.fault is not None
            else {"replicas": proposal.replicas, "metric": proposal.metric}
            for metric, proposal in zip(spec.metrics, decision.proposals, strict=True)
        ]
        pairs.append((found, out["proposals"]))
    if "state" in out:
        pairs.append((recordings.memory_of(decision.state), out["state"]))
    return [pair for pair in pairs if pair[0] != pair[1]]
